"""Rollouts from the signal to the verdict, and the way back: over HTTP, on a simulated or a real cluster."""

import json
import re
import secrets
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

import pytest

from tests.conftest import Sandbox, deployment, role
from tests.service import PASSWORD, wait_for

STAMP = r"\d{8}T\d{6}\.\d{6}Z"
DIGEST = r"sha256:[0-9a-f]{64}"
FIELDS = {"id", "deployment", "namespace", "revision", "image", "digest", "phase", "message", "replicas", "causes"}
FIELDS |= {"changes", "changed_since", "rolled_back_to", "started_at", "finished_at", "history"}
CAUSE_FIELDS = {"pod", "container", "reason", "message", "exit_code", "logs"}
HISTORY_FIELDS = {"id", "revision", "image", "digest", "cause", "phase", "started_at", "finished_at"}
CHANGE_CAUSE = "kubernetes.io/change-cause"
REVISION = "deployment.kubernetes.io/revision"
NO_SPEC = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}}
SECRET = "postgres-at-hunter2"
PROBE = {"httpGet": {"path": "/healthz", "port": 8080}}
FIRST, SECOND = (f"sha256:{digit * 64}" for digit in "12")


@pytest.fixture
def service(quick_service):
    return quick_service


def stamp(live):
    return live["spec"]["template"]["metadata"]["annotations"]["auto-deployer/restartedAt"]


def image(live):
    return live["spec"]["template"]["spec"]["containers"][0]["image"]


def phases(answer):
    return [each["phase"] for each in answer.json()["history"]]


def asks(answer):
    """Return how a rollout stands by an answer, without the history, which goes on."""
    return {key: value for key, value in answer.json().items() if key != "history"}


def seconds(text):
    return datetime.fromisoformat(text).timestamp()


def listed(cluster, resource):
    return cluster._admin.list(resource, cluster.namespace)


def in_background(call, *arguments, **fields):
    """Make a call in a thread of its own; return its future."""
    pool = ThreadPoolExecutor(1)
    try:
        return pool.submit(call, *arguments, **fields)
    finally:
        pool.shutdown(wait=False)


def with_container(name, **fields):
    """Return a manifest whose container has more fields."""
    manifest = deployment(name)
    manifest["spec"]["template"]["spec"]["containers"][0] |= fields
    return manifest


def number(replica_set):
    return int(replica_set["metadata"]["annotations"][REVISION])


def limit_pods(cluster, most):
    """Let no more than so many pods into the namespace; None lifts the limit."""
    if cluster.simulation:
        cluster.simulation.set_quota(cluster.namespace, pods=most)
    elif most is None:
        cluster.delete("tight", "resourcequotas")
    else:
        cluster.create({"metadata": {"name": "tight"}, "spec": {"hard": {"pods": str(most)}}}, "resourcequotas")
        cluster.wait_for(lambda: cluster.get("tight", "resourcequotas").get("status", {}).get("hard"))


# What kubectl does


def set_image(cluster, new):
    return cluster.patch({"spec": {"template": {"spec": {"containers": [{"name": "web", "image": new}]}}}})


def set_env(cluster, **env):
    entries = [{"name": name, "value": value} for name, value in env.items()]
    return cluster.patch({"spec": {"template": {"spec": {"containers": [{"name": "web", "env": entries}]}}}})


def undo(cluster, to):
    """Do as `kubectl rollout undo --to-revision` does: template and annotations of that ReplicaSet."""
    replica_set = next(each for each in cluster.replica_sets() if number(each) == to)
    template = replica_set["spec"]["template"]
    del template["metadata"]["labels"]["pod-template-hash"]
    kept = cluster.get()["metadata"]["annotations"]
    former = replica_set["metadata"]["annotations"]
    ours = {key: value for key, value in kept.items() if key.startswith("deployment.kubernetes.io/")}
    annotations = {key: value for key, value in former.items() if not key.startswith("deployment.kubernetes.io/")}
    return cluster.patch(
        [
            {"op": "replace", "path": "/spec/template", "value": template},
            {"op": "replace", "path": "/metadata/annotations", "value": annotations | ours},
        ]
    )


# Waiting for the verdict


def test_a_client_that_waits_is_told_that_it_works(service, cluster):
    answer = service.signal(wait=True)
    assert answer.status == 200
    assert answer.text.split()[0].rstrip(":") == "ok"
    assert stamp(cluster.get()) in answer.text
    shown = service.show(accept="text/plain")
    assert (shown.status, shown.text.split()[0].rstrip(":")) == (200, "ok")


def test_a_rollout_in_json_has_exactly_the_fields_of_the_contract(service, cluster):
    service.deploy(cause="the first one")
    answer = service.deploy(image="acme/web:2")
    rollout = answer.json()
    assert (answer.status, rollout.keys()) == (200, FIELDS)
    live = cluster.get()
    expected = {
        "id": stamp(live),
        "deployment": "web",
        "namespace": cluster.namespace,
        "revision": int(live["metadata"]["annotations"][REVISION]),
        "image": "acme/web:2",
        "phase": "complete",
        "replicas": {"desired": 1, "updated": 1, "ready": 1, "available": 1},
        "causes": [],
        "rolled_back_to": None,
    }
    assert {key: rollout[key] for key in expected} == expected
    assert re.fullmatch(DIGEST, rollout["digest"])
    assert isinstance(rollout["message"], str)
    for field in ("started_at", "finished_at"):
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", rollout[field])
    newest, oldest = rollout["history"]
    assert newest.keys() == oldest.keys() == HISTORY_FIELDS
    assert {key: newest[key] for key in newest if key != "cause"} == {
        key: rollout[key] for key in newest.keys() & FIELDS
    }
    assert [newest["cause"], oldest["cause"]] == ["deploy acme/web:2", "the first one"]
    assert [newest["revision"], oldest["revision"]] == [2, 1]
    shown = service.show()
    assert (shown.status, shown.json()) == (200, rollout)


def test_without_wait_the_answer_comes_before_kubernetes_has_acted(service, cluster):
    service.deploy()
    answer = service.deploy(wait=False)
    rollout = answer.json()
    assert (answer.status, rollout.keys()) == (200, FIELDS)
    assert (rollout["phase"], rollout["revision"], rollout["finished_at"]) == ("progressing", None, None)
    ended = service.show(id=rollout["id"], wait=20)
    assert (ended.status, ended.json()["phase"], ended.json()["id"]) == (200, "complete", rollout["id"])


@pytest.mark.parametrize("wait", [0.2, 0.5])
def test_when_the_time_is_up_the_answer_is_202(service, wait):
    answer = service.signal(image="acme/web:unready", wait=wait)
    assert (answer.status, answer.text.split()[0].rstrip(":")) == (202, "progressing")
    shown = service.show(wait=wait)
    assert (shown.status, shown.json()["phase"]) == (202, "progressing")
    assert shown.json()["id"] in answer.text
    assert shown.json()["replicas"]["ready"] == 0


@pytest.mark.parametrize("wait", [25, 26, 100000, True, "true"])
def test_more_than_25_seconds_are_taken_as_25(service, wait):
    if wait != "true":
        assert service.deploy(wait=wait).status == 200
    else:
        service.deploy(wait=False)
    assert service.show(wait=wait).status == 200


@pytest.mark.parametrize("wait", ["10", -1, None, [1], {}, "true"])
def test_a_bad_wait_is_named_and_nothing_happens(service, cluster, wait):
    answer = service.deploy(wait=wait)
    assert (answer.status, "wait" in answer.json()["error"]) == (400, True)
    assert service.roll_back(wait=wait).status == 400
    assert cluster.get() is None


@pytest.mark.parametrize("wait", ["-1", "soon", "1e3", "nan", "inf", ""])
def test_a_bad_wait_in_a_url_is_named(service, wait):
    service.deploy(wait=False)
    answer = service.show(wait=wait)
    assert (answer.status, "wait" in answer.json()["error"]) == (400, True)


@pytest.mark.parametrize(
    ("path", "fields", "named"),
    [
        ("web", {"rollback_on_failure": "yes"}, "rollback_on_failure"),
        ("web", {"rollback_on_failure": 1}, "rollback_on_failure"),
        ("web/rollback", {"revision": "1"}, "revision"),
        ("web/rollback", {"revision": 1.5}, "revision"),
        ("web/rollback", {"revision": True}, "revision"),
        ("web/rollback", {"revision": 0}, "revision"),
        ("web/rollback", {"cause": 7}, "cause"),
    ],
)
def test_a_bad_field_is_named(service, path, fields, named):
    answer = service.deploy(path, **fields)
    assert (answer.status, named in answer.json()["error"]) == (400, True)


def test_more_waiting_requests_than_half_of_the_threads(service):
    service.configure("api", deployment("api"))
    service.deploy("api")
    service.deploy(image="acme/web:unready", wait=False)
    with ThreadPoolExecutor(40) as pool:
        waiting = [pool.submit(service.show, wait=25) for _ in range(40)]
        wait_for(lambda: sum(each.done() for each in waiting) >= 8, 15)
        busy = [each.result() for each in waiting if each.done()]
        assert {each.status for each in busy} == {202}
        assert all(int(each.headers["Retry-After"]) > 0 for each in busy)
        assert service.get("/healthz").status == service.get("/readyz").status == 200
        # Signals are served, and those that would wait are told at once to ask again.
        assert service.deploy("api", wait=False).status == 200
        turned_away = service.deploy("api", wait=True)
        assert (turned_away.status, "Retry-After" in turned_away.headers) == (202, True)
        assert turned_away.json().keys() == FIELDS
        assert sum(each.done() for each in waiting) == len(busy) == 8
        assert service.deploy(wait=False).status == 200
        answers = [each.result() for each in waiting if each.result() not in busy]
    assert {(each.status, each.json()["phase"]) for each in answers} == {(409, "superseded")}
    assert service.show("api", id=turned_away.json()["id"], wait=20).status == 200
    assert "Retry-After" not in service.show(wait=20).headers


# Asking


def test_no_such_rollout(service):
    assert (service.show().status, service.show().json()["reason"]) == (404, "NotFound")
    service.deploy()
    for unknown in ("20200101T000000.000000Z", "nothing", "../web", "web-5b87758fdf"):
        answer = service.show(id=unknown)
        assert (answer.status, answer.json()["reason"]) == (404, "NotFound")
    assert service.show("other").status == 404


def test_nobody_asks_without_the_password(service):
    service.deploy()
    for header in ({}, {"Authorization": "Bearer wrong-wrong-wrong-wrong"}):
        for path in ("/deployment/web", "/deployment/other", "/deployment", "/deployment/web?id=x&wait=1"):
            assert service.get(path, **header).text == "wrong or missing password\n"
    answer = service.post("/deployment/web/rollback", {"pw": "wrong-wrong-wrong-wrong"})
    assert (answer.status, answer.text) == (403, "wrong or missing password\n")


def test_an_id_answers_for_ever_the_same_once_it_has_ended(service, cluster):
    first = service.deploy()
    second = service.deploy(image="acme/web:missing", cause="a typo")
    assert [first.status, second.status] == [200, 424]
    ids = [each.json()["id"] for each in (first, second)]
    assert service.deploy(image="acme/web:3").status == 200
    assert service.roll_back(revision=1).status == 200
    for rollout_id, answer in zip(ids, (first, second), strict=True):
        again = service.show(id=rollout_id, wait=5)
        assert (again.status, asks(again)) == (answer.status, asks(answer))
    assert phases(service.show()) == ["complete", "complete", "failed", "complete"]


def test_one_password_for_one_deployment_asks_and_rolls_back_only_that(service):
    service.configure("api", deployment("api"))
    service.password("api", "only-for-the-api-0123456789")
    service.deploy("api")
    service.right = "only-for-the-api-0123456789"
    try:
        assert service.show("api").status == 200
        assert (service.show("web").status, service.roll_back("web").status) == (403, 403)
        assert service.roll_back("api").status == 409
    finally:
        del service.right


def test_several_deployments_and_none_named(service):
    service.configure("api", deployment("api"))
    answer = service.post("/deployment/rollback", {"pw": PASSWORD})
    assert (answer.status, "api" in answer.text, "web" in answer.text) == (400, True, True)
    (service.deployments_dir / "api.yaml").unlink()
    assert service.post("/deployment/rollback", {"pw": PASSWORD}).status == 404
    service.deploy()
    assert service.post("/deployment/rollback", {"pw": PASSWORD}).status == 409


# Rollouts that fail


def let_fail(quick, service, name, manifest, image):
    """Let a deployment work, and then not; return the answers about its failure in text and in JSON."""
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
    """Let all of them fail at once, since some take their time; return name -> its answers in text and in JSON."""
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
        # Without a probe it was ready for a while, each time that it started: Kubernetes calls that a success.
        ("crash", "CrashLoopBackOff", 1),
        ("oom", "OOMKilled", 137),
        ("missing", "ErrImagePull|ImagePullBackOff", None),
        ("badconfig", "CreateContainerConfigError", None),
        ("huge", "Unschedulable", None),
        ("unready", "ContainersNotReady", None),
    ],
)
def test_a_failure_is_named(failures, name, reason, exit_code):
    text, answer = failures[name]
    rollout = answer.json()
    assert (text.status, text.text.split()[0].rstrip(":")) == (424, "failed"), text.text
    assert (answer.status, rollout["phase"], rollout["revision"]) == (424, "failed", 2)
    assert all(each.keys() == CAUSE_FIELDS for each in rollout["causes"])
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


def test_a_crash_is_told_as_a_colleague_would(failures):
    text, answer = failures["crash"]
    lines = text.text.splitlines()
    assert lines[0] == "failed: revision 2 of crash does not start"
    pattern = r"crash-[a-z0-9]+-[a-z0-9]+, container web: CrashLoopBackOff, exit code 1, restarted [23] times"
    assert re.fullmatch(pattern, lines[1])
    assert "  KeyError: 'DATABASE_URL'" in lines[2:]
    assert lines[-1].startswith("changed since revision 1, the last that worked: ")
    assert "image acme/web:1 -> acme/web:crash" in lines[-1]
    logs = answer.json()["causes"][0]["logs"]
    assert logs[-1] == "KeyError: 'DATABASE_URL'"
    assert len(logs) <= 25


def test_what_registry_scheduler_and_probe_say(failures):
    for name, said in (
        ("missing", "not found"),
        ("badconfig", 'secret "missing" not found'),
        ("huge", "Insufficient cpu"),
        ("unready", "statuscode: 503"),
    ):
        text, answer = failures[name]
        assert any(said in (each["message"] or "") for each in answer.json()["causes"]), answer.text
        assert said in text.text


def test_no_value_of_the_environment_leaves_the_cluster(failures):
    text, answer = failures["crash"]
    assert "env DATABASE added" in answer.json()["changes"]
    for said in (text.text, answer.text, failures["log"], *failures["events"]):
        assert SECRET not in said
        assert PASSWORD not in said


def test_log_lines_can_be_left_out(failures):
    _, answer = failures["quiet"]
    assert (answer.status, [each["logs"] for each in answer.json()["causes"]]) == (424, [[]])
    assert "KeyError" not in answer.text
    # Nothing has ever worked there: nothing is rolled back.
    assert answer.json()["rolled_back_to"] is None
    assert answer.json()["changes"] == []


def test_a_full_quota_may_heal_and_is_fatal_at_the_deadline(service, cluster):
    limit_pods(cluster, 0)
    service.configure("web", deployment(progressDeadlineSeconds=2))
    service.deploy(wait=False)
    wait_for(lambda: service.show().json()["causes"])
    early, late = service.show(), service.show(wait=15)
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


def test_complete_means_that_all_stayed_ready_for_the_settling_time(patient_service, cluster):
    service = patient_service
    service.configure("web", deployment(replicas=2))
    service.deploy(wait=False)
    wait_for(lambda: "watching" in service.show(wait=0.1).json()["message"])
    watched = service.show().json()
    assert watched["phase"] == "progressing"
    assert re.search("2 pods are ready", watched["message"])
    ended = service.show(wait=True)
    assert (ended.status, ended.json()["phase"]) == (200, "complete")
    owner = cluster.replica_sets()[0]["metadata"]["uid"]
    pods = [each for each in listed(cluster, "pods") if each["metadata"]["ownerReferences"][0]["uid"] == owner]
    conditions = [each for pod in pods for each in pod["status"]["conditions"] if each["type"] == "Ready"]
    ready = max(each["lastTransitionTime"] for each in conditions)
    took = seconds(ended.json()["finished_at"]) - seconds(ready)
    assert 1 <= took < 10
    assert (len(pods), ended.json()["replicas"]["ready"]) == (2, 2)


def test_no_replicas_are_complete_at_once(service):
    service.configure("web", deployment(replicas=0, image="acme/web:missing"))
    answer = service.deploy()
    assert (answer.status, answer.json()["replicas"]["desired"]) == (200, 0)


# Rollouts that others end


def test_a_newer_signal_supersedes(service, cluster):
    first = in_background(service.signal, image="acme/web:unready", wait=True)
    cluster.wait_for(lambda: cluster.get() and image(cluster.get()) == "acme/web:unready")
    first_id = stamp(cluster.get())
    second = service.deploy(image="acme/web:2")
    assert (second.status, second.json()["phase"]) == (200, "complete")
    answer = first.result()
    assert (answer.status, answer.text.split()[0].rstrip(":")) == (409, "superseded")
    again = service.show(id=first_id)
    assert (again.status, again.json()["phase"], again.json()["id"]) == (409, "superseded", first_id)
    assert phases(service.show()) == ["complete", "superseded"]


def test_a_pause_in_the_middle_is_told_and_resume_goes_on(service, cluster):
    service.deploy()
    limit_pods(cluster, 1)
    waiting = in_background(service.deploy, image="acme/web:2")
    cluster.wait_for(lambda: len(cluster.replica_sets()) == 2)
    cluster.patch({"spec": {"paused": True}})
    paused = waiting.result()
    assert (paused.status, paused.json()["phase"]) == (409, "paused")
    text = service.show(accept="text/plain")
    assert (text.status, text.text.split()[0].rstrip(":")) == (409, "paused")
    before = cluster.get()
    for refused in (service.deploy(), service.roll_back()):
        assert (refused.status, refused.json()["reason"]) == (409, "Paused")
    assert cluster.get()["metadata"]["generation"] == before["metadata"]["generation"]
    cluster.patch({"spec": {"paused": False}})
    cluster.wait_for(lambda: service.show().json()["phase"] != "paused")
    limit_pods(cluster, None)
    ended = service.show(id=paused.json()["id"], wait=True)
    assert (ended.status, ended.json()["id"]) == (200, paused.json()["id"])


def test_deleted_while_it_is_followed(service, cluster):
    waiting = in_background(service.signal, image="acme/web:unready", wait=True)
    cluster.wait_for(lambda: cluster.replica_sets())
    rollout_id = stamp(cluster.get())
    cluster.delete()
    answer = waiting.result()
    assert (answer.status, answer.text.split()[0].rstrip(":")) == (424, "failed")
    assert "deleted" in answer.text
    assert service.show(id=rollout_id).status == 424
    assert service.show().status == 404
    assert service.roll_back().status == 404
    cluster.wait_for(lambda: not cluster.replica_sets())
    assert service.deploy().status == 200


# What others do in between


def test_foreign_rollouts_are_followed_live_and_confuse_nothing(service, cluster):
    ours = service.deploy()
    ours_id = ours.json()["id"]

    def is_foreign(of):
        shown = service.show(wait=True)
        assert (shown.status, shown.json()["phase"]) == (200, "complete"), shown.text
        assert shown.json().keys() == FIELDS
        live = next(each for each in cluster.replica_sets() if number(each) == max(map(number, cluster.replica_sets())))
        assert shown.json()["id"] == live["metadata"]["name"]
        assert shown.json()["revision"] == number(live)
        assert shown.json()["image"] == of
        assert [each["id"] for each in shown.json()["history"]] == [ours_id]
        assert asks(service.show(id=ours_id)) == asks(ours)
        return shown.json()

    set_image(cluster, "acme/web:2")
    assert is_foreign("acme/web:2")["revision"] == 2
    set_env(cluster, MODE="loud")
    assert is_foreign("acme/web:2")["revision"] == 3
    undo(cluster, 1)
    cluster.wait_for(lambda: cluster.get()["metadata"]["annotations"][REVISION] == "4")
    assert is_foreign("acme/web:1")["revision"] == 4
    cluster.patch({"spec": {"replicas": 2}})
    cluster.wait_for(lambda: cluster.get()["status"].get("readyReplicas") == 2)
    assert service.show().json()["replicas"] == {"desired": 2, "updated": 2, "ready": 2, "available": 2}
    # None of it stands in the way of the next signal, nor of the way back.
    third = service.deploy(image="acme/web:3")
    assert (third.status, len(third.json()["history"])) == (200, 2)
    back = service.roll_back()
    assert (back.status, back.json()["rolled_back_to"], image(cluster.get()).split("@")[0]) == (200, 1, "acme/web")
    assert [each["image"].split("@")[0] for each in back.json()["history"]] == ["acme/web", "acme/web:3", "acme/web:1"]


def test_the_id_of_a_foreign_rollout_can_be_asked_for(service, cluster):
    service.deploy()
    set_image(cluster, "acme/web:2")
    foreign = service.show(wait=True).json()
    again = service.show(id=foreign["id"], wait=1)
    assert (again.status, asks(again)["id"]) == (200, foreign["id"])


def test_a_failing_rollout_of_others_is_shown_and_rolled_back_to_ours(service, cluster):
    ours = service.deploy()
    set_image(cluster, "acme/web:missing")
    shown = service.show(wait=True)
    assert (shown.status, shown.json()["causes"][0]["reason"]) == (424, "ErrImagePull")
    assert len(shown.json()["history"]) == 1
    back = service.roll_back()
    assert (back.status, back.json()["rolled_back_to"]) == (200, 1)
    assert image(cluster.get()) == f"acme/web@{ours.json()['digest']}"


def test_set_image_in_the_middle_supersedes_ours(service, cluster):
    waiting = in_background(service.deploy, image="acme/web:unready")
    cluster.wait_for(lambda: cluster.replica_sets())
    set_image(cluster, "acme/web:2")
    answer = waiting.result()
    assert (answer.status, answer.json()["phase"]) == (409, "superseded")
    assert service.show(wait=True).json()["id"] in {each["metadata"]["name"] for each in cluster.replica_sets()}
    assert service.show(id=answer.json()["id"]).status == 409


def test_scaled_in_the_middle(service, cluster):
    limit_pods(cluster, 0)
    waiting = in_background(service.deploy)
    cluster.wait_for(lambda: cluster.replica_sets())
    cluster.patch({"spec": {"replicas": 2}})
    limit_pods(cluster, None)
    answer = waiting.result()
    assert (answer.status, answer.json()["replicas"]["ready"]) == (200, 2)


# The way back


def test_back_to_the_last_that_worked_with_what_ran(service, cluster):
    first = service.deploy(image="acme/web:1").json()
    service.deploy(image="acme/web:2")
    failed = service.deploy(image="acme/web:missing").json()
    assert failed["phase"] == "failed"
    answer = service.roll_back()
    rollout = answer.json()
    assert (answer.status, rollout.keys(), rollout["phase"]) == (200, FIELDS, "complete")
    assert (rollout["rolled_back_to"], rollout["revision"]) == (2, 4)
    assert rollout["id"] == stamp(cluster.get())
    second = rollout["history"][2]
    assert image(cluster.get()) == f"acme/web@{second['digest']}"
    assert rollout["digest"] == second["digest"]
    # From there it goes further back, and never to what failed.
    further = service.roll_back(cause="second thoughts")
    assert (further.status, further.json()["rolled_back_to"]) == (200, 1)
    assert image(cluster.get()) == f"acme/web@{first['digest']}"
    assert phases(further) == ["complete", "complete", "failed", "complete", "complete"]
    # The rollback has worked as well: so the next goes there.
    assert service.roll_back().json()["rolled_back_to"] == 4


def test_a_rollback_in_text_and_without_wait(service):
    service.deploy()
    service.deploy(image="acme/web:2")
    answer = service.post("/deployment/web/rollback", {"pw": PASSWORD})
    assert (answer.status, answer.text.split()[0].rstrip(":")) == (200, "ok")
    ended = service.show(accept="text/plain", wait=True)
    assert (ended.status, ended.text.split()[0].rstrip(":")) == (200, "ok")
    assert "rolled back to revision 1" in ended.text
    assert service.show().json()["rolled_back_to"] == 1


def test_back_to_a_revision_even_to_one_that_failed(service, cluster):
    service.deploy(image="acme/web:1")
    service.deploy(image="acme/web:missing")
    service.deploy(image="acme/web:3")
    answer = service.roll_back(revision=2)
    assert (answer.status, answer.json()["rolled_back_to"]) == (424, 2)
    assert image(cluster.get()) == "acme/web:missing"
    good = service.roll_back(revision=3)
    assert (good.status, good.json()["rolled_back_to"]) == (200, 3)


def test_nothing_to_go_back_to(service, cluster):
    assert (service.roll_back().status, service.roll_back(revision=1).status) == (404, 404)
    service.deploy()
    before = cluster.get()
    for fields in ({}, {"revision": 1}, {"revision": 99}):
        answer = service.roll_back(**fields)
        assert (answer.status, isinstance(answer.json()["error"], str)) == (409, True)
    assert "99" in service.roll_back(revision=99).json()["error"]
    # The same again is nothing to go back to either.
    service.deploy()
    assert service.roll_back().status == 409
    assert stamp(cluster.get()) > stamp(before)


@pytest.mark.simulated_only
def test_latest_deployed_twice_goes_back_to_the_first_digest(service, cluster):
    service.configure("web", deployment(image="acme/web:latest"))
    registry = cluster.simulation.digests
    registry["acme/web:latest"] = FIRST
    first = service.deploy().json()
    registry["acme/web:latest"] = SECOND
    second = service.deploy().json()
    assert [first["digest"], second["digest"]] == [FIRST, SECOND]
    assert first["image"] == second["image"] == "acme/web:latest"
    back = service.roll_back()
    assert (back.status, back.json()["rolled_back_to"], back.json()["digest"]) == (200, 1, FIRST)
    assert image(cluster.get()) == f"acme/web@{FIRST}"
    assert {running(cluster)} == {f"docker.io/acme/web@{FIRST}"}
    forth = service.roll_back(revision=2)
    assert (forth.status, image(cluster.get())) == (200, f"acme/web@{SECOND}")
    # The next signal is about the manifest again.
    service.deploy()
    assert image(cluster.get()) == "acme/web:latest"


def running(cluster):
    """Return the imageID of the one pod that is up."""

    def ready():
        pods = [each for each in listed(cluster, "pods") if "containerStatuses" in each["status"]]
        alive = [each for each in pods if "deletionTimestamp" not in each["metadata"]]
        return alive[0] if len(alive) == 1 else None

    return cluster.wait_for(ready)["status"]["containerStatuses"][0]["imageID"]


@pytest.mark.simulated_only
def test_latest_that_has_moved_to_something_broken(service, cluster):
    service.configure("web", deployment(image="acme/web:latest"))
    cluster.simulation.digests["acme/web:latest"] = FIRST
    service.deploy()
    cluster.simulation.digests["acme/web:latest"] = SECOND
    cluster.simulation.behaviours[SECOND] = "badconfig"
    try:
        failed = service.deploy(rollback_on_failure=True)
        assert (failed.status, failed.json()["rolled_back_to"]) == (424, 1)
        assert service.show(wait=True).json()["digest"] == FIRST
        assert image(cluster.get()) == f"acme/web@{FIRST}"
    finally:
        cluster.simulation.behaviours.clear()


def test_a_failure_is_rolled_back_where_the_signal_wants_it(service, cluster):
    first = service.deploy()
    answer = service.signal(image="acme/web:missing", wait=True, rollback_on_failure=True)
    assert (answer.status, answer.text.split()[0].rstrip(":")) == (424, "failed")
    lines = answer.text.splitlines()
    assert lines[0].startswith("failed: revision 2 of web")
    assert lines[-2].startswith("changed since revision 1, the last that worked: image acme/web:1 -> acme/web:missing")
    assert lines[-1] == "rolled back to revision 1"
    now = service.show(wait=True)
    assert (now.status, now.json()["rolled_back_to"], now.json()["phase"]) == (200, 1, "complete")
    assert image(cluster.get()) == f"acme/web@{first.json()['digest']}"
    failed = now.json()["history"][1]
    assert (failed["phase"], failed["image"]) == ("failed", "acme/web:missing")
    again = service.show(id=failed["id"])
    assert (again.status, again.json()["rolled_back_to"]) == (424, 1)


def test_a_failure_is_not_rolled_back_where_nobody_wants_it(service, cluster):
    service.deploy()
    for fields in ({}, {"rollback_on_failure": False}):
        answer = service.deploy(image="acme/web:missing", **fields)
        assert (answer.status, answer.json()["rolled_back_to"]) == (424, None)
        assert image(cluster.get()) == "acme/web:missing"


@pytest.fixture
def automatic(services, cluster):
    service = services(SETTLE_SECONDS="0", ROLLBACK_ON_FAILURE="true", LOG_TAIL_LINES="0")
    service.reset(cluster.namespace)
    return service


def test_the_signal_is_over_the_setting(automatic, cluster):
    automatic.deploy()
    answer = automatic.deploy(image="acme/web:missing", rollback_on_failure=False)
    assert (answer.status, answer.json()["rolled_back_to"]) == (424, None)
    assert image(cluster.get()) == "acme/web:missing"
    answer = automatic.deploy(image="acme/web:missing2")
    assert (answer.status, answer.json()["rolled_back_to"]) == (424, 1)
    assert automatic.show(wait=True).status == 200


def test_nothing_is_rolled_back_while_nothing_has_ever_worked(automatic, cluster):
    generation = None
    for _ in range(2):
        answer = automatic.deploy(image="acme/web:missing", rollback_on_failure=True)
        assert (answer.status, answer.json()["rolled_back_to"]) == (424, None)
        assert stamp(cluster.get()) == answer.json()["id"]
        generation = cluster.get()["metadata"]["generation"]
    assert phases(automatic.show()) == ["failed", "failed"]
    assert cluster.get()["metadata"]["generation"] == generation


def test_what_others_ran_before_and_still_serves_is_gone_back_to(automatic, cluster):
    cluster.create(deployment())
    cluster.wait_for(lambda: cluster.get()["status"].get("availableReplicas") == 1)
    answer = automatic.deploy(image="acme/web:missing")
    assert (answer.status, answer.json()["rolled_back_to"]) == (424, 1)
    # To what its pods run, as a tag may have moved: `latest` is that of the broken image by now.
    assert re.fullmatch(rf"acme/web@{DIGEST}", image(cluster.get()))
    assert "unverified" in cluster.get()["metadata"]["annotations"][CHANGE_CAUSE]


def test_what_others_ran_before_and_never_served_is_no_way_back_unless_asked_for(automatic, cluster):
    cluster.create(deployment(image="acme/web:unready"))
    cluster.wait_for(lambda: cluster.get()["status"].get("updatedReplicas") == 1)
    answer = automatic.deploy(image="acme/web:missing", wait=20)
    assert (answer.status, answer.json()["rolled_back_to"]) == (424, None)
    assert image(cluster.get()) == "acme/web:missing"
    # Asked for, it goes back to the previous ReplicaSet, and says that nobody knows whether that worked.
    back = automatic.roll_back(wait=False)
    assert (back.status, back.json()["rolled_back_to"], image(cluster.get())) == (200, 1, "acme/web:unready")
    assert "unverified" in cluster.get()["metadata"]["annotations"][CHANGE_CAUSE]


@pytest.mark.simulated_only
def test_a_rollback_is_never_rolled_back_by_itself(automatic, cluster):
    automatic.deploy(image="acme/web:1")
    first = automatic.deploy(image="acme/web:2").json()
    automatic.deploy(image="acme/web:3")
    cluster.simulation.behaviours[first["digest"]] = "badconfig"
    try:
        answer = automatic.roll_back(rollback_on_failure=True)
        assert (answer.status, answer.json()["rolled_back_to"]) == (424, 2)
        assert image(cluster.get()) == f"acme/web@{first['digest']}"
        assert phases(automatic.show()) == ["failed", "complete", "complete", "complete"]
    finally:
        cluster.simulation.behaviours.clear()


def test_a_manifest_without_spec(service, cluster):
    cluster.create(deployment())
    service.configure("web", NO_SPEC)
    first = service.deploy()
    assert (first.status, first.json()["image"]) == (200, "acme/web:1")
    assert service.deploy(image="acme/web:2").status == 200
    back = service.roll_back()
    assert (back.status, back.json()["rolled_back_to"]) == (200, first.json()["revision"])
    live = cluster.get()
    assert image(live) == f"acme/web@{first.json()['digest']}"
    unpinned = live["spec"]["template"]["metadata"]["annotations"]["auto-deployer/unpinned"]
    assert json.loads(unpinned) == {"web": "acme/web:1"}
    # Otherwise the next signal would restart the old digest for ever.
    again = service.deploy()
    assert (again.status, again.json()["image"], image(cluster.get())) == (200, "acme/web:1", "acme/web:1")
    assert "auto-deployer/unpinned" not in cluster.get()["spec"]["template"]["metadata"]["annotations"]


def test_a_manifest_with_spec_needs_no_note_of_the_images(service, cluster):
    service.deploy()
    service.deploy(image="acme/web:2")
    service.roll_back()
    assert "auto-deployer/unpinned" not in cluster.get()["spec"]["template"]["metadata"]["annotations"]
    service.deploy()
    assert image(cluster.get()) == "acme/web:1"


# What kubectl shows


def test_kubectl_shows_every_deploy_and_rollback_with_its_cause(service, cluster):
    service.deploy()
    service.deploy(image="acme/web:2", cause="build 7 of main")
    service.deploy(image="acme/web:missing", rollback_on_failure=True)
    service.show(wait=True)
    causes = {number(each): each["metadata"]["annotations"][CHANGE_CAUSE] for each in cluster.replica_sets()}
    assert causes == {
        1: "deploy acme/web:1",
        2: "build 7 of main",
        3: "deploy acme/web:missing",
        4: "rollback to revision 2",
    }

    def written():
        events = [each for each in listed(cluster, "events") if each.get("reportingComponent") == "auto-deployer"]
        return events if len(events) >= 8 else None

    events = cluster.wait_for(written)
    live = cluster.get()
    for each in events:
        about = each["involvedObject"]
        assert (about["kind"], about["name"], about["uid"]) == ("Deployment", "web", live["metadata"]["uid"])
    assert len(events) == 8
    assert sum(each["type"] == "Warning" for each in events) == 1
    messages = [each["message"] for each in events]
    assert any("rollback to revision 2" in each for each in messages)
    assert any("build 7 of main" in each for each in messages)
    assert any(each.startswith("failed: ") for each in messages)


def test_a_dry_run_is_no_rollout(service, cluster):
    service.deploy()
    before = cluster.get()
    answer = service.deploy(image="acme/web:missing", dry_run=True)
    assert (answer.status, answer.json().keys()) == (200, FIELDS)
    assert cluster.get()["metadata"]["generation"] == before["metadata"]["generation"]
    assert phases(service.show()) == ["complete"]
    assert service.show().json()["id"] == stamp(before)


def test_no_more_than_20_rollouts_are_kept(service, cluster):
    service.configure("web", deployment(replicas=0))
    ids = [service.deploy().json()["id"] for _ in range(22)]
    history = service.show().json()["history"]
    assert [each["id"] for each in history] == ids[:1:-1]
    assert len(cluster.get("auto-deployer-web", "configmaps")["data"]) == 20


def test_the_record_belongs_to_the_deployment(service, cluster):
    service.deploy()
    (owner,) = cluster.get("auto-deployer-web", "configmaps")["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["uid"]) == ("Deployment", cluster.get()["metadata"]["uid"])
    cluster.delete()
    cluster.wait_for(lambda: cluster.get("auto-deployer-web", "configmaps") is None)


# What it costs


@pytest.mark.simulated_only
def test_a_rollout_takes_few_requests_and_an_idle_service_none(service, services, cluster):
    service.deploy()
    patient_service = services(SETTLE_SECONDS="1")
    patient_service.reset(cluster.namespace)
    store = cluster.simulation.api.store
    cluster.simulation.wait_for(lambda: not watches(store, cluster))
    before = len(cluster.requests)
    assert patient_service.deploy(image="acme/web:2").status == 200
    cluster.simulation.wait_for(lambda: not watches(store, cluster))
    used = cluster.requests[before:]
    assert len(used) <= 18, [f"{each.verb} {each.resource}" for each in used]
    # One watch per kind, however many follow.
    assert [each.resource for each in used].count("pods") <= 2
    before = len(cluster.requests)
    time.sleep(1)
    assert len(cluster.requests) == before


@pytest.mark.simulated_only
def test_all_rollouts_of_a_namespace_share_one_watch(service, cluster):
    names = [f"web{number}" for number in range(6)]
    for name in names:
        service.configure(name, deployment(name, "acme/web:unready"))
    store = cluster.simulation.api.store
    for name in names:
        service.deploy(name, wait=False)
    with ThreadPoolExecutor(len(names)) as pool:
        waiting = [pool.submit(service.show, name, wait=True) for name in names]
        cluster.simulation.wait_for(lambda: len(watches(store, cluster)) == 3)
        assert all(service.show(name).status == 202 for name in names)
        assert len(watches(store, cluster)) == 3
        for name in names:
            cluster.delete(name)
        assert {each.result().status for each in waiting} == {424}
    cluster.simulation.wait_for(lambda: not watches(store, cluster))


def watches(store, cluster):
    probe = {"metadata": {"namespace": cluster.namespace, "name": "", "labels": {}}}
    return [each for each in store.watches if each.matches(probe)]
