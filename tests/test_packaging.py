"""Rules of the Dockerfile, of uwsgi.ini and of the workflows that a careless edit would break without a sound."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from manifest import annotations, files
from version import VERSION
from web.parts import MAX_WAITING_REQUESTS
from web.receiving import MAX_RECEIVING_REQUESTS

ROOT = Path(__file__).resolve().parent.parent
CONDITIONS = ("if-exists", "if-not-exists")
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


def test_glibc_keeps_no_freed_memory_for_each_thread():
    settings = dict(each.split("=", 1) for word, text in instructions() if word == "ENV" for each in text.split())
    assert settings["GLIBC_TUNABLES"] == "glibc.malloc.tcache_count=0"


def test_no_tests_in_the_image():
    ignored = (ROOT / ".dockerignore").read_text().split()
    allowed = {line.removeprefix("!") for line in ignored if line.startswith("!")}
    assert "*" in ignored
    rooms = {"access/", "cluster/", "manifest/", "rollout/", "web/"}
    assert allowed == {"*.py", *rooms, "pyproject.toml", "uwsgi.ini", "requirements.txt"}


def test_the_image_has_all_that_the_service_needs_to_start(tmp_path):
    """The service starts with only the files that the Dockerfile copies. The first line of its log has the version."""
    copies = [text.split() for word, text in instructions() if word == "COPY" and not text.startswith("--from")]
    for *sources, target in copies:
        for path in [path for source in sources for path in ROOT.glob(source)]:
            if path.is_dir():
                shutil.copytree(path, tmp_path / target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(path, tmp_path / target)
    command = [sys.executable, "-c", "from app import create_app; create_app({})"]
    ran = subprocess.run(command, cwd=tmp_path, env={}, capture_output=True, text=True, timeout=60, check=True)
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    first = next(line for line in ran.stderr.splitlines() if line.startswith("{"))
    assert json.loads(first)["message"].startswith(f"auto-deployer {version}, Python ")


def test_the_image_has_the_templates_and_what_the_page_loads():
    [copied] = [text for word, text in instructions() if word == "COPY" and text.startswith("web/")]
    assert copied == "web/ web/"
    for folder in ("templates", "static"):
        assert list((ROOT / "web" / folder).iterdir())


def test_the_image_takes_only_packages_with_the_right_hash():
    [install] = [text for word, text in instructions() if word == "RUN" and "pip install" in text]
    assert "--require-hashes -r requirements.txt" in install


def uwsgi_options() -> list[tuple[str, str]]:
    lines = (ROOT / "uwsgi.ini").read_text().splitlines()
    return [tuple(re.split(r"\s*=\s*", line, maxsplit=1)) for line in lines if re.match(r"[a-z]", line)]


def test_uwsgi_options():
    options = uwsgi_options()
    # Where there is no IPv6, another address; and a hook has two steps.
    several = {"endif", "http", "hook-as-gateway"}
    once = [name for name, _ in options if name not in several]
    assert len(set(once)) == len(once), "an option stands there twice"
    # A socket for the router alone, which no other user of the machine can connect to: its protocol can run code.
    assert [option for option in options if "socket" in option[0] and option[0] != "socket-timeout"] == [
        ("socket", "/tmp/auto-deployer.sock"),
        ("chmod-socket", "600"),
    ]
    forbidden = {
        "harakiri": "it kills the threads that follow rollouts",
        "max-requests": "it does so too, sooner or later",
        "die-on-term": "it drops requests in flight",
        "py-call-osafterfork": "it ends Python 3.13",
        "http-socket": "slow headers hold all its threads",
        "http11-socket": "idle connections hold all its threads",
        "post-buffering": "slow bodies hold all its threads",
    }
    assert not {name: why for name, why in forbidden.items() if name in dict(options)}
    # The service is started in the folder of app.py, wherever that is.
    assert not [value for name, value in options if value.startswith("/") and name not in {"socket", *CONDITIONS}]


def test_it_listens_on_ipv6_where_the_kernel_has_it():
    options = uwsgi_options()
    begin = options.index(("if-exists", "/proc/net/if_inet6"))
    assert options[begin : begin + 6] == [
        ("if-exists", "/proc/net/if_inet6"),
        ("http", "[::]:8080"),
        ("endif", ""),
        ("if-not-exists", "/proc/net/if_inet6"),
        ("http", ":8080"),
        ("endif", ""),
    ]


def test_all_threads_are_never_taken():
    # What waits for a verdict and what receives a body, together, leave threads for signals and probes.
    assert int(dict(uwsgi_options())["threads"]) >= MAX_RECEIVING_REQUESTS + MAX_WAITING_REQUESTS + 16


@pytest.fixture(params=WORKFLOWS, ids=lambda path: path.stem)
def workflow(request) -> dict:
    return yaml.safe_load(request.param.read_text())


def steps(workflow: dict) -> list[dict]:
    return [step for job in workflow["jobs"].values() for step in job["steps"]]


def test_actions_are_pinned_by_commit(workflow):
    for step in steps(workflow):
        if "uses" in step and not step["uses"].startswith("./"):
            assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", step["uses"])
        elif "uses" in step:
            assert (ROOT / step["uses"] / "action.yml").is_file()


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_pinned_action_says_its_version(path):
    for line in path.read_text().splitlines():
        if re.search(r"@[0-9a-f]{40}", line):
            assert re.search(r"# v\d+\.\d+\.\d+$", line), line


def test_workflows_have_the_least_permissions(workflow):
    assert workflow["permissions"] == {}
    for name, job in workflow["jobs"].items():
        # A token for auto-deployer; a release and its tag.
        written = {right for right, access in job["permissions"].items() if access != "read"}
        assert written == {"dockerize": {"id-token"}, "token": {"id-token"}, "release": {"contents"}}.get(name, set())
        assert job["timeout-minutes"] <= 60
    for step in steps(workflow):
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False


def test_no_expression_inside_a_script(workflow):
    # What GitHub pastes into a script is run by the shell, quotes and all.
    for step in steps(workflow):
        assert "${{" not in step.get("run", "")


def test_the_action_is_given_what_it_knows(workflow):
    action = yaml.safe_load((ROOT / ".github/actions/deploy/action.yml").read_text())
    required = {name for name, each in action["inputs"].items() if each.get("required")}
    for step in steps(workflow):
        if step.get("uses") == "./.github/actions/deploy":
            assert required <= set(step["with"]) <= set(action["inputs"])


def test_what_the_action_is_given_goes_through_its_environment():
    action = yaml.safe_load((ROOT / ".github/actions/deploy/action.yml").read_text())
    [step] = action["runs"]["steps"]
    assert "${{" not in step["run"]
    assert set(step["env"].values()) == {f"${{{{ inputs.{name} }}}}" for name in action["inputs"]}
    script = (ROOT / ".github/actions/deploy/inputs.sh").read_text()
    assert all(variable in script for variable in step["env"])
    assert {name: each["value"] for name, each in action["outputs"].items()} == {
        name: f"${{{{ steps.deploy.outputs.{name} }}}}" for name in action["outputs"]
    }


def test_this_repository_deploys_itself_with_the_digest_that_it_built():
    workflow = yaml.safe_load((ROOT / ".github/workflows/dockerize.yml").read_text())
    [step] = [step for step in steps(workflow) if step.get("name") == "Deploy"]
    assert step["with"]["image"] == "${{ vars.IMAGE }}:latest@${{ steps.build.outputs.digest }}"
    assert step["with"]["deployment"] == "auto-deployer"
    assert "build" in [other.get("id") for other in steps(workflow)]


def test_a_release_is_for_two_architectures_and_says_what_is_in_it():
    workflow = yaml.safe_load((ROOT / ".github/workflows/release.yml").read_text())
    [build] = [step["with"] for step in steps(workflow) if "build-push-action" in step.get("uses", "")]
    assert build["platforms"] == "linux/amd64,linux/arm64"
    assert (build["provenance"], build["sbom"], build["push"]) == ("mode=max", True, True)


def run_step(workflow: str, name: str, folder: Path, **environ: str) -> str:
    """Run a step of a workflow as GitHub does; return what it wrote to GITHUB_OUTPUT."""
    document = yaml.safe_load((ROOT / ".github" / "workflows" / workflow).read_text())
    [step] = [step for step in steps(document) if step.get("name") == name]
    output = folder / "output"
    environ |= {"PATH": f"{folder}:{os.environ['PATH']}", "GITHUB_OUTPUT": str(output)}
    command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]]
    subprocess.run(command, cwd=folder, env=environ, check=True)
    return output.read_text() if output.exists() else ""


def test_a_releases_images_have_three_names(tmp_path):
    written = run_step("release.yml", "Name it", tmp_path, GITHUB_REF_NAME="v1.2.3", IMAGE="acme/auto-deployer")
    names = [f"acme/auto-deployer:{version}" for version in ("1.2.3", "1.2", "1")]
    assert written.splitlines() == ["tags<<END", *names, "END"]


def test_a_releases_notes_are_its_part_of_the_changelog_and_its_tag_is_moved(tmp_path):
    (tmp_path / "CHANGELOG.md").write_text("# Changelog\n\n## 1.2.3 (today)\n\n- New.\n\n## 1.2.2 (before)\n\n- Old.\n")
    gh = tmp_path / "gh"
    gh.write_text('#!/bin/sh\necho "$@" >>calls\n')
    gh.chmod(0o755)
    where = {"GITHUB_REPOSITORY": "acme/auto-deployer", "GITHUB_SHA": "0" * 40, "GITHUB_REF_NAME": "v1.2.3"}
    for name in ("Release", "Move the major version's tag"):
        run_step("release.yml", name, tmp_path, **where)
    assert (tmp_path / "notes.md").read_text().strip() == "- New."
    calls = (tmp_path / "calls").read_text().splitlines()
    assert calls[0] == "release create v1.2.3 --verify-tag --title v1.2.3 --notes-file notes.md"
    assert calls[1].startswith("api --method PATCH repos/acme/auto-deployer/git/refs/tags/v1 --field sha=000")


def test_the_end_to_end_test_has_the_three_newest_versions_that_the_schemas_know_and_the_oldest_that_readme_names():
    job = yaml.safe_load((ROOT / ".github/workflows/e2e.yml").read_text())["jobs"]["e2e"]
    tested = [each["kubernetes"] for each in job["strategy"]["matrix"]["include"]]
    major, minor = kubernetes_validate.latest_version().split(".")[:2]
    [oldest] = re.findall(r"You need Kubernetes (\S+) or newer", (ROOT / "README.md").read_text())
    assert tested == [*(f"{major}.{int(minor) - back}" for back in range(3)), oldest]
    for each in job["strategy"]["matrix"]["include"]:
        assert re.fullmatch(rf"kindest/node:v{each['kubernetes']}\.\d+@sha256:[0-9a-f]{{64}}", each["node"])


def test_only_main_deploys_with_a_real_token(tmp_path):
    """The workflow's edits give web the repository's id and branch, auto-deployer the audience, and nothing else."""
    job = yaml.safe_load((ROOT / ".github/workflows/e2e.yml").read_text())["jobs"]["token"]
    assert job["if"] == "github.ref == 'refs/heads/main'"
    shutil.copytree(ROOT / "k8s", tmp_path / "k8s")
    (tmp_path / "kubectl").write_text("#!/bin/sh\n")
    (tmp_path / "kubectl").chmod(0o755)
    run_step("e2e.yml", "Install, without any password", tmp_path, REPOSITORY_ID="1296269")
    limits = {annotations.GITHUB_REPOSITORY_ID: "1296269", annotations.GITHUB_REF: "refs/heads/main"}
    before, after = (files.load(root / "k8s/deployments", "web") for root in (ROOT, tmp_path))
    assert (before.annotations, after.annotations) == ({}, limits)
    assert files.load(tmp_path / "k8s/deployments", "auto-deployer").annotations == {}
    [before], [after] = (
        yaml.safe_load((root / "k8s/deployment.yaml").read_text())["spec"]["template"]["spec"]["containers"]
        for root in (ROOT, tmp_path)
    )
    audiences = {step["with"]["audience"] for step in job["steps"] if "audience" in step.get("with", {})}
    assert audiences == {"end-to-end"}
    assert after == before | {"env": [{"name": "OIDC_AUDIENCE", "value": "end-to-end"}]}


def test_there_is_a_changelog_for_the_next_version():
    assert "\n## Unreleased\n" in (ROOT / "CHANGELOG.md").read_text()


def right_version(changelog: str, version: str) -> bool:
    """Return whether a version is the newest of a changelog; with something unreleased, a later one and `-dev`."""
    [(_, unreleased), *released] = re.findall(r"(?ms)^## (\S+).*?\n(.*?)(?=^## |\Z)", changelog)
    newest = released[0][0] if released else "0.0.0"
    if not unreleased.strip():
        return version == newest
    number = re.fullmatch(r"(\d+\.\d+\.\d+)-dev", version)
    return bool(number) and [int(part) for part in number[1].split(".")] > [int(part) for part in newest.split(".")]


def test_the_version_is_the_changelogs():
    assert right_version((ROOT / "CHANGELOG.md").read_text(), VERSION)


@pytest.mark.parametrize(
    ("unreleased", "version", "expected"),
    [
        ("- New.\n", "1.9.0-dev", False),
        ("- New.\n", "1.10.0", False),
        ("- New.\n", "1.10.0-dev", False),
        ("- New.\n", "1.10.1-dev", True),
        ("- New.\n", "2.0.0-dev", True),
        ("", "1.10.0", True),
        ("", "1.10.1-dev", False),
    ],
)
def test_which_version_a_changelog_asks_for(unreleased, version, expected):
    changelog = f"# Changelog\n\n## Unreleased\n\n{unreleased}\n## 1.10.0 (today)\n\n- Old.\n\n## 1.9.0 (before)\n"
    assert right_version(changelog, version) is expected


@pytest.mark.parametrize(
    ("tag", "version", "code"), [("v1.2.3", "1.2.3", 0), ("v1.2.3", "1.2.3-dev", 1), ("v1.2.4", "1.2.3", 1)]
)
def test_a_tag_that_is_not_the_version_makes_no_release(tmp_path, tag, version, code):
    (tmp_path / "CHANGELOG.md").write_text("## Unreleased\n\n## 1.2.4 (soon)\n\n## 1.2.3 (today)\n")
    (tmp_path / "pyproject.toml").write_text(f'[project]\nversion = "{version}"\n')
    question = "Is it in CHANGELOG.md and pyproject.toml?"
    try:
        run_step("release.yml", question, tmp_path, GITHUB_REF_NAME=tag)
    except subprocess.CalledProcessError as error:
        assert error.returncode == code
    else:
        assert code == 0
