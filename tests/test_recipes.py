"""Each recipe in docs/recipes.md does what it says, with the manifests, commands and scripts that it prints."""

import re
import shlex
import subprocess

import pytest
import yaml

from tests.action.runner import Gateway, Runner, needs
from tests.conftest import deployment
from tests.service import ROOT
from tests.test_readme import ACTION, code_blocks, section

CRASH = "KeyError: 'DATABASE_URL'"


def blocks(title: str) -> list[dict]:
    """Return the YAML of a recipe."""
    return [yaml.safe_load(block) for block in code_blocks("yaml", section(title))]


def steps(title: str) -> list[dict]:
    """Return the steps of a recipe's workflow that use the action."""
    found = [step for block in blocks(title) for step in block.get("steps", [])]
    return [step for step in found if "uses" in step]


def inputs(step: dict, service, **given: str) -> dict:
    """Return the inputs of a step, for a service with a password: those that are given take the place of its own."""
    return step["with"] | {"url": service.url, "password": service.right, "timeout": "60s"} | given


@pytest.fixture
def service(patient_service):
    return patient_service


@pytest.mark.parametrize(
    "title", ["Canary", "A repository with several services", "Runners inside the cluster", "Database migrations"]
)
def test_each_step_has_inputs_that_the_action_knows(title):
    for step in steps(title):
        assert step["uses"] == "acme/auto-deployer/.github/actions/deploy@v1"
        assert {"url", "deployment"} <= step["with"].keys() <= ACTION["inputs"].keys()


@pytest.fixture
def migrating(service):
    """Serve with a manifest whose init container migrates, after a first deploy."""
    [pod] = blocks("Database migrations")
    manifest = deployment()
    manifest["spec"]["template"]["spec"] = pod["spec"]
    service.configure("web", manifest)
    assert service.deploy(image="acme/web:1").status == 200
    return service


def test_a_migration_that_fails_is_the_verdict_and_a_rollback_runs_the_old_one(migrating, cluster):
    answer = migrating.signal("web", image="acme/web:crash", wait=True)
    assert answer.status == 424
    failed, problem = code_blocks("", section("Database migrations"))[0].splitlines()
    assert answer.text.splitlines()[0] == failed
    pod = r"web-[a-z0-9]+-[a-z0-9]{5}"
    assert re.sub(pod, "POD", answer.text.splitlines()[1]) == re.sub(pod, "POD", problem)
    assert CRASH in answer.text
    [ready] = [each for each in cluster.replica_sets() if each["status"].get("readyReplicas")]
    assert ready["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "1"
    assert migrating.roll_back().status == 200
    pod = cluster.get()["spec"]["template"]["spec"]
    images = {each["name"]: each["image"] for each in pod["initContainers"] + pod["containers"]}
    assert images.keys() == {"migrate", "web"}
    assert len(set(images.values())) == 1
    assert images["web"].startswith("acme/web@sha256:")


def test_a_lock_holds_off_deploys_and_no_rollback(migrating, cluster):
    lines = "".join(code_blocks("sh", section("Database migrations"))).splitlines()
    lock, unlock = [shlex.split(line)[-1] for line in lines]
    name, _, reason = lock.partition("=")
    assert unlock == f"{name}-"
    assert migrating.deploy(image="acme/web:2").status == 200
    cluster.patch({"metadata": {"annotations": {name: reason}}})
    refused = migrating.deploy(image="acme/web:3")
    assert (refused.status, refused.json()["reason"]) == (409, "Locked")
    assert reason in refused.text
    assert migrating.roll_back().status == 200
    cluster.patch({"metadata": {"annotations": {name: None}}})
    assert migrating.deploy(image="acme/web:3").status == 200


def merged(manifest: dict, changes: dict) -> dict:
    both = {key: merged(manifest[key], value) for key, value in changes.items() if isinstance(value, dict)}
    return manifest | changes | both


@needs
def test_the_canary_runs_beside_the_others_and_goes_back_alone(service, cluster, tmp_path):
    changes, selecting, _ = blocks("Canary")
    web = deployment()
    web["spec"]["template"]["metadata"]["labels"] |= selecting["spec"]["selector"]
    service.configure("web", web)
    service.configure("web-canary", merged(web, changes))
    canary, everyone, back = steps("Canary")
    runner = Runner(tmp_path)
    for version in ("1", "2"):
        for step in (canary, everyone):
            assert runner.run(inputs(step, service, image=f"acme/web:{version}")).exit_code == 0
    assert runner.run(inputs(canary, service, image="acme/web:3")).exit_code == 0
    assert runner.run(inputs(back, service)).exit_code == 0
    digests = {
        name: [each["digest"] for each in service.show(name).json()["history"]] for name in ("web", "web-canary")
    }
    assert digests["web-canary"][0] == digests["web"][0]
    assert digests["web-canary"][0] != digests["web-canary"][1]
    assert [len(each) for each in digests.values()] == [2, 4]
    for name in ("web", "web-canary"):
        # The Service finds the pods of both.
        labels = cluster.get(name)["spec"]["template"]["metadata"]["labels"]
        assert selecting["spec"]["selector"].items() <= labels.items()


def test_a_signal_changes_one_service_of_a_repository(service, cluster):
    workflow, _ = blocks("A repository with several services")
    assert workflow["concurrency"] == workflow["name"] == "api"
    for name in ("api", "worker"):
        service.configure(name, deployment(name, f"acme/{name}:1"))
        assert service.deploy(name).status == 200
    assert service.deploy("api", image="acme/api:2").status == 200
    assert service.deploy("api", image="acme/worker:2").status == 403
    assert [service.show(name).json()["revision"] for name in ("api", "worker")] == [2, 1]


@needs
def test_one_step_signals_all_that_run_the_image(service, cluster, tmp_path):
    [step] = steps("A repository with several services")
    service.configure("worker", deployment("worker"))
    assert Runner(tmp_path).run(inputs(step, service, image="acme/web:2")).exit_code == 0
    assert [service.show(name).json()["image"] for name in ("web", "worker")] == ["acme/web:2"] * 2


def gitlab(service, url: str | None = None, **environ: str) -> subprocess.CompletedProcess:
    """Run the job's script as GitLab's runner does, with the variables that the job and GitLab set."""
    [job] = [block["deploy"] for block in blocks("GitLab CI")]
    assert job["variables"]["URL"] == "https://deploy.example.com/deployment/web"
    [script] = job["script"]
    environ = {
        "PATH": "/usr/bin:/bin",
        "DEPLOY_PASSWORD": service.right,
        "URL": f"{url or service.url}/deployment/web",
        "CI_JOB_URL": "https://gitlab.example.com/acme/web/-/jobs/4711",
        "CI_JOB_ID": "4711",
    } | environ
    return subprocess.run(["sh", "-e", "-c", script], env=environ, capture_output=True, text=True, timeout=60)


@needs
@pytest.mark.parametrize(
    ("password", "image", "code", "said"),
    [
        (None, "acme/web:2", 0, "ok: revision 1 of web in "),
        (None, "acme/web:crash", 1, "failed: revision 1 of web does not start"),
        (None, "acme/other:2", 1, "image: "),
        ("wrong", "acme/web:2", 1, "wrong or missing password"),
    ],
)
def test_the_job_for_gitlab_ends_with_the_verdict(service, cluster, password, image, code, said):
    ran = gitlab(service, IMAGE=image, **({"DEPLOY_PASSWORD": password} if password else {}))
    assert (ran.returncode, ran.stdout[: len(said)]) == (code, said), ran.stdout + ran.stderr
    if password is None and image == "acme/web:2":
        rollout = service.show().json()
        assert (rollout["by"], rollout["link"]) == (
            "password default",
            "https://gitlab.example.com/acme/web/-/jobs/4711",
        )


@needs
def test_a_lost_answer_makes_no_second_rollout_of_the_job_for_gitlab(service, cluster):
    gateway = Gateway(service.port)
    try:
        gateway.next_posts = ["lose", "drop", 502, 503]
        ran = gitlab(service, gateway.url, IMAGE="acme/web:2")
    finally:
        gateway.close()
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert len(gateway.posts) == 5
    assert len(service.show().json()["history"]) == 1


def test_runners_inside_the_cluster_send_to_the_service():
    [step] = steps("Runners inside the cluster")
    metadata, spec = (yaml.safe_load((ROOT / "k8s/service.yaml").read_text())[key] for key in ("metadata", "spec"))
    assert [port["port"] for port in spec["ports"]] == [80]
    assert step["with"]["url"] == f"http://{metadata['name']}.{metadata['namespace']}.svc"
    assert step["with"]["allow-http"] == "true"
