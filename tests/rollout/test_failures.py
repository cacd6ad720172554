"""Rollouts that fail, over HTTP: the problem, the words of its source, the crash log."""

import re
import secrets
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.conftest import Sandbox, deployment, role
from tests.rollout.helpers import limit_pods, with_container
from tests.service import PASSWORD, wait_for

PROBLEM_FIELDS = {"pod", "container", "reason", "message", "exit_code", "logs"}
SECRET = "postgres-at-hunter2"
PROBE = {"httpGet": {"path": "/healthz", "port": 8080}}


def let_fail(quick, service, name, manifest, image):
    """Deploy what works, and then what fails; return the answers about the failure in text and in JSON."""
    quick.configure(name, deployment(name))
    worked = quick.deploy(name)
    assert worked.status == 200, worked.text
    service.configure(name, manifest)
    text = service.signal(name, image=image, wait=True)
    return text, service.show(name)


STORIES = {
    "crash": (with_container("crash", env=[{"name": "DATABASE", "value": SECRET}]), "acme/web:crash"),
    "oom": (deployment("oom"), "acme/web:oom"),
    "missing": (deployment("missing"), "acme/web:missing"),
    "badconfig": (deployment("badconfig"), "acme/web:badconfig"),
    "huge": (deployment("huge", progressDeadlineSeconds=2), "acme/web:huge"),
    "unready": (deployment("unready", progressDeadlineSeconds=2), "acme/web:unready"),
}


@pytest.fixture(scope="module")
def failures(admin, services):
    """Let all of them fail at the same time, since some take long; return name -> the answers in text and in JSON."""
    sandbox = Sandbox(admin, f"test-{secrets.token_hex(4)}")
    admin.add_namespace(sandbox.namespace)
    sandbox.allow(role())
    quick, service = services(SETTLE_SECONDS="0"), services(SETTLE_SECONDS="1")
    silent = services(SETTLE_SECONDS="0", ROLLBACK_ON_FAILURE="true", LOG_TAIL_LINES="0")
    for each in (quick, service, silent):
        each.reset(sandbox.namespace)
    with ThreadPoolExecutor() as pool:
        running = {
            name: pool.submit(let_fail, quick, service, name, manifest, image)
            for name, (manifest, image) in STORIES.items()
        }
        silent.configure("quiet", with_container("quiet", image="acme/web:crash", readinessProbe=PROBE))
        quiet = pool.submit(silent.deploy, "quiet")
        answers = {name: each.result() for name, each in running.items()}
        answers["quiet"] = (None, quiet.result())
    answers["log"] = "\n".join(quick.lines + service.lines + silent.lines)
    answers["events"] = [
        each["message"]
        for each in admin.list("events", sandbox.namespace)
        if each.get("reportingComponent") == "auto-deployer"
    ]
    yield answers
    admin.remove_namespace(sandbox.namespace)


@pytest.mark.parametrize(
    ("name", "reason", "exit_code"),
    [
        # Without a probe it is ready for a moment after each start, which Kubernetes takes for a success.
        ("crash", "CrashLoopBackOff", 1),
        ("oom", "OOMKilled", 137),
        ("missing", "ErrImagePull|ImagePullBackOff", None),
        ("badconfig", "CreateContainerConfigError", None),
        ("huge", "Unschedulable", None),
        ("unready", "ContainersNotReady", None),
    ],
)
def test_a_failure_has_its_problem(failures, name, reason, exit_code):
    text, answer = failures[name]
    rollout = answer.json()
    assert (text.status, text.text.split()[0].rstrip(":")) == (424, "failed"), text.text
    assert (answer.status, rollout["phase"], rollout["revision"]) == (424, "failed", 2)
    assert all(each.keys() == PROBLEM_FIELDS for each in rollout["causes"])
    cause = rollout["causes"][0]
    assert re.fullmatch(reason, cause["reason"])
    assert cause["exit_code"] == exit_code
    assert cause["pod"].startswith(f"{name}-")
    assert cause["container"] == (None if name == "huge" else "web")
    assert cause["pod"] in text.text
    assert cause["reason"] in text.text
    assert f"image: acme/web:1 -> acme/web:{name}" in rollout["changes"]
    assert rollout["finished_at"] is not None
    assert rollout["rolled_back_to"] is None


def test_the_text_about_a_crash(failures):
    text, answer = failures["crash"]
    lines = text.text.splitlines()
    assert lines[0] == "failed: revision 2 of crash does not start"
    pattern = r"crash-[a-z0-9]+-[a-z0-9]+, container web: CrashLoopBackOff, exit code 1, restarted (once|[23] times)"
    assert re.fullmatch(pattern, lines[1])
    assert "  KeyError: 'DATABASE_URL'" in lines[2:]
    assert lines[-1].startswith("changed since revision 1, the last that worked: ")
    assert "image acme/web:1 -> acme/web:crash" in lines[-1]
    logs = answer.json()["causes"][0]["logs"]
    assert logs[-1] == "KeyError: 'DATABASE_URL'"
    assert len(logs) <= 25


def test_a_problem_quotes_the_registry_the_scheduler_and_the_probe(failures):
    for name, said in (
        ("missing", "not found"),
        ("badconfig", 'secret "missing" not found'),
        ("huge", "Insufficient cpu"),
        ("unready", "statuscode: 503"),
    ):
        text, answer = failures[name]
        assert any(said in (each["message"] or "") for each in answer.json()["causes"]), answer.text
        assert said in text.text


def test_no_value_of_an_environment_variable_is_answered_or_logged(failures):
    text, answer = failures["crash"]
    assert "env DATABASE added" in answer.json()["changes"]
    for said in (text.text, answer.text, failures["log"], *failures["events"]):
        assert SECRET not in said
        assert PASSWORD not in said


def test_log_lines_can_be_left_out(failures):
    _, answer = failures["quiet"]
    assert (answer.status, [each["logs"] for each in answer.json()["causes"]]) == (424, [[]])
    assert "KeyError" not in answer.text
    # No rollout of it has worked: nothing is rolled back.
    assert answer.json()["rolled_back_to"] is None
    assert answer.json()["changes"] == []


def test_a_full_quota_may_heal_and_is_fatal_at_the_deadline(service, cluster):
    limit_pods(cluster, 0)
    service.deploy(wait=False)
    wait_for(lambda: service.show().json()["causes"])
    early = service.show()
    cluster.patch({"spec": {"progressDeadlineSeconds": 1}})
    late = service.show(wait=15)
    assert [early.status, late.status] == [202, 424]
    for answer in (early, late):
        (cause,) = answer.json()["causes"]
        assert "exceeded quota: tight" in cause["message"]
        assert (cause["pod"], cause["container"], cause["exit_code"]) == (None, None, None)


def test_what_admission_refuses_fails_at_once(service, cluster):
    image = "acme/web:1"
    if cluster.simulation:
        image = "acme/forbidden:1"
    else:
        restricted = {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}}
        cluster._admin.patch("namespaces", "", cluster.namespace, restricted)
    service.configure("web", deployment(image=image))
    answer = service.deploy()
    assert answer.status == 424
    assert "violates PodSecurity" in answer.json()["causes"][0]["message"]
