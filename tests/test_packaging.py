"""Rules of the Dockerfile, of uwsgi.ini and of the workflows that a careless edit would break without a sound."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def instructions() -> list[tuple[str, str]]:
    lines = [line for line in (ROOT / "Dockerfile").read_text().splitlines() if line and not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [tuple(line.split(maxsplit=1)) for line in joined.splitlines()]


def test_the_compiler_stays_in_the_first_stage():
    words = [word for word, _ in instructions()]
    assert words.count("FROM") == 2
    last_stage = instructions()[len(words) - words[::-1].index("FROM") :]
    assert not [text for word, text in last_stage if word == "RUN"]
    assert [text for word, text in last_stage if word == "COPY"] == [
        "--from=build /opt/auto-deployer /opt/auto-deployer"
    ]


def test_the_image_runs_as_a_numbered_user():
    users = [text for word, text in instructions() if word == "USER"]
    # A name would do for Docker, but under runAsNonRoot the kubelet refuses it.
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", users[-1])


def test_uwsgi_gets_the_signals_itself():
    [command] = [text for word, text in instructions() if word == "CMD"]
    # In the shell form a shell would be process 1, and SIGTERM would end there.
    assert json.loads(command) == ["uwsgi", "--ini", "uwsgi.ini"]


def test_no_tests_in_the_image():
    ignored = (ROOT / ".dockerignore").read_text().split()
    allowed = {line.removeprefix("!") for line in ignored if line.startswith("!")}
    assert "*" in ignored
    assert allowed == {"*.py", "rollout/", "uwsgi.ini", "requirements.txt"}


def test_requirements_are_pinned():
    for name in ("requirements.txt", "requirements-dev.txt"):
        for line in (ROOT / name).read_text().splitlines():
            if line and not line.startswith(("#", "-r ")):
                assert re.fullmatch(r"[a-z0-9-]+==[0-9.]+", line), line


def uwsgi_options() -> list[tuple[str, str]]:
    lines = (ROOT / "uwsgi.ini").read_text().splitlines()
    return [tuple(re.split(r"\s*=\s*", line, maxsplit=1)) for line in lines if re.match(r"[a-z]", line)]


def test_uwsgi_options():
    options = uwsgi_options()
    assert len(dict(options)) == len(options), "an option stands there twice"
    assert [option for option in options if "socket" in option[0] and option[0] != "socket-timeout"] == [
        ("http-socket", ":8080")
    ]
    forbidden = {
        "harakiri": "it kills the threads that follow rollouts",
        "max-requests": "it does so too, sooner or later",
        "die-on-term": "it drops requests in flight",
        "py-call-osafterfork": "it ends Python 3.13",
        "http11-socket": "idle connections hold all its threads",
    }
    assert not {name: why for name, why in forbidden.items() if name in dict(options)}
    # The service is started in the folder of app.py, wherever that is.
    assert not [value for _, value in options if value.startswith("/")]


@pytest.fixture(params=WORKFLOWS, ids=lambda path: path.stem)
def workflow(request) -> dict:
    return yaml.safe_load(request.param.read_text())


def steps(workflow: dict) -> list[dict]:
    return [step for job in workflow["jobs"].values() for step in job["steps"]]


def test_actions_are_pinned_by_commit(workflow):
    for step in steps(workflow):
        if "uses" in step and not step["uses"].startswith("./"):
            assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", step["uses"])


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_pinned_action_says_its_version(path):
    for line in path.read_text().splitlines():
        if re.search(r"@[0-9a-f]{40}", line):
            assert re.search(r"# v\d+\.\d+\.\d+$", line), line


def test_workflows_have_the_least_permissions(workflow):
    assert workflow["permissions"] == {}
    for job in workflow["jobs"].values():
        assert set(job["permissions"].values()) <= {"read"}
        assert job["timeout-minutes"] <= 30
    for step in steps(workflow):
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False


def test_no_expression_inside_a_script(workflow):
    # What GitHub pastes into a script is run by the shell, quotes and all.
    for step in steps(workflow):
        assert "${{" not in step.get("run", "")


@pytest.mark.skipif(not shutil.which("jq"), reason="jq is not installed")
def test_the_signal_keeps_the_password_to_itself(tmp_path):
    workflow = yaml.safe_load((ROOT / ".github/workflows/dockerize.yml").read_text())
    [step] = [step for step in steps(workflow) if step.get("name") == "Signal auto-deployer"]
    assert step["env"]["IMAGE"] == "${{ vars.IMAGE }}:latest@${{ steps.build.outputs.digest }}"
    assert "build" in [other.get("id") for other in steps(workflow)]

    curl = tmp_path / "curl"
    curl.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >{tmp_path}/arguments\ncat >{tmp_path}/body\n')
    curl.chmod(0o755)
    password = """a "quoted" $(password) with 'everything' in it"""
    environment = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "URL": "https://deploy.example.com/deployment",
        "PASSWORD": password,
        "IMAGE": "acme/web:latest@sha256:" + "0" * 64,
        "GITHUB_SHA": "0123456789abcdef0123456789abcdef01234567",
        "GITHUB_ACTOR": "octocat",
    }
    subprocess.run(["bash", "-eo", "pipefail", "-c", step["run"]], env=environment, check=True)

    assert json.loads((tmp_path / "body").read_text()) == {
        "pw": password,
        "image": environment["IMAGE"],
        "cause": "0123456789ab by octocat",
        "wait": True,
    }
    arguments = (tmp_path / "arguments").read_text()
    assert password not in arguments
    assert "--fail-with-body" in arguments
