"""What goes wrong around a rollout: the process, the API server, the watches, the ledger, and the chat service."""

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from tests.conftest import InProcess, deployment
from tests.service import wait_for

pytestmark = pytest.mark.simulated_only

LEDGER = "auto-deployer-web"


@pytest.fixture(scope="module")
def settings(chat, tmp_path_factory):
    urls = tmp_path_factory.mktemp("chat") / "urls"
    urls.write_text(f"json://127.0.0.1:{chat.port}/\n")
    return {"SETTLE_SECONDS": "0", "NOTIFY_URLS_FILE": str(urls)}


@pytest.fixture
def service(services, settings, cluster):
    """Serve without settling time, and tell the chat."""
    service = services(**settings)
    service.reset(cluster.namespace)
    if service.process.poll() is not None:
        service.start()
    return service


@pytest.fixture
def second_service(services, settings, cluster):
    """Serve as another replica of the same."""
    service = services("second", **settings)
    service.reset(cluster.namespace)
    if service.process.poll() is not None:
        service.start()
    return service


class Gate:
    """Hold the service's next requests of a kind; they are never answered, and do nothing."""

    def __init__(self, cluster, method, path, times=1000):
        self._passed, self._all = threading.Event(), times
        simulation = cluster.simulation
        self._fault = simulation.fail(times, method, path, call=self._passed.wait, drop=True)
        self._simulation = simulation

    def reached(self):
        """Wait until the service has got there."""
        self._simulation.wait_for(lambda: self._fault.times < self._all)

    def open(self):
        """Let go of them, and hold no more."""
        self._fault.times = 0
        self._passed.set()


def hold(cluster, running=1):
    """Let no new pod in, so that a rollout goes on for as long as a test wants."""
    cluster.simulation.set_quota(cluster.namespace, pods=running)


def release(cluster):
    cluster.simulation.set_quota(cluster.namespace)


def restart(service):
    service.kill()
    service.start()


def image(cluster):
    return cluster.get()["spec"]["template"]["spec"]["containers"][0]["image"]


def stamp(cluster):
    return cluster.get()["spec"]["template"]["metadata"]["annotations"]["auto-deployer/restartedAt"]


def records(cluster):
    """Return what is recorded, the oldest first."""
    data = (cluster.get(LEDGER, "configmaps") or {}).get("data") or {}
    return [json.loads(data[key]) for key in sorted(data)]


def history(service, field="phase"):
    return [each[field] for each in service.show().json()["history"]]


def in_background(call, *arguments, **fields):
    """Make a call in a thread of its own; return its future."""
    pool = ThreadPoolExecutor(1)
    try:
        return pool.submit(call, *arguments, **fields)
    finally:
        pool.shutdown(wait=False)


def asked(cluster, verb, resource):
    return [each for each in cluster.requests if (each.verb, each.resource) == (verb, resource)]


def watches(cluster):
    probe = {"metadata": {"namespace": cluster.namespace, "name": "web", "labels": {}}}
    with cluster.simulation.api.store.lock:
        return [each for each in cluster.simulation.api.store.watches if each.matches(probe)]


def let_a_minute_pass(cluster):
    """Make what is recorded a minute older, so that another process may take over the telling."""

    def older(text):
        return text and (datetime.fromisoformat(text) - timedelta(seconds=61)).isoformat().replace("+00:00", "Z")

    data = cluster.get(LEDGER, "configmaps")["data"]
    for key, text in data.items():
        record = json.loads(text)
        record["claimed_at"] = older(record["claimed_at"])
        record["rollout"]["finished_at"] = older(record["rollout"]["finished_at"])
        data[key] = json.dumps(record)
    cluster.patch({"data": data}, LEDGER, "configmaps")


# The process


def test_killed_in_the_middle_of_a_rollout(service, cluster, chat):
    service.deploy()
    wait_for(lambda: len(chat.about(cluster.namespace)) == 1)
    hold(cluster)
    rollout_id = service.deploy(image="acme/web:2", cause="build 7", wait=False).json()["id"]
    cluster.simulation.wait_for(lambda: len(records(cluster)) == 2)
    restart(service)
    assert service.show(id=rollout_id).status == 202
    release(cluster)
    ended = service.show(id=rollout_id, wait=True)
    assert (ended.status, ended.json()["id"], ended.json()["revision"]) == (200, rollout_id, 2)
    assert history(service) == ["complete", "complete"]
    assert history(service, "cause") == ["build 7", "deploy acme/web:1"]
    wait_for(lambda: len(chat.about(cluster.namespace)) == 2)


def test_killed_before_the_rollout_could_be_recorded(service, cluster):
    service.deploy()
    hold(cluster)
    gate = Gate(cluster, "PATCH", "/configmaps")
    rollout_id = service.deploy(image="acme/web:missing", wait=False).json()["id"]
    gate.reached()
    service.kill()
    gate.open()
    assert len(records(cluster)) == 1
    service.start()
    release(cluster)
    # By itself: nobody has asked for it.
    cluster.simulation.wait_for(lambda: [each["rollout"]["phase"] for each in records(cluster)][1:] == ["failed"])
    ended = service.show(id=rollout_id, wait=5)
    assert (ended.status, ended.json()["image"]) == (424, "acme/web:missing")
    assert ended.json()["changes"] == ["image: acme/web:1 -> acme/web:missing"]


def test_killed_between_verdict_and_rollback(service, cluster, chat):
    service.deploy()
    gate = Gate(cluster, "GET", "/deployments/web")
    hold(cluster)
    rollout_id = fail(service, cluster, gate)
    assert (records(cluster)[1]["rollout"]["phase"], records(cluster)[1]["rollback"]) == ("failed", "pending")
    service.kill()
    gate.open()
    assert image(cluster) == "acme/web:missing"
    let_a_minute_pass(cluster)
    service.start()
    cluster.simulation.wait_for(lambda: image(cluster).startswith("acme/web@sha256:"))
    wait_for(lambda: len(chat.about(cluster.namespace)) == 3)
    ended = service.show(id=rollout_id)
    assert (ended.status, ended.json()["rolled_back_to"]) == (424, 1)
    assert service.show(wait=True).json()["rolled_back_to"] == 1
    assert history(service) == ["complete", "failed", "complete"]
    assert records(cluster)[1]["rollback"] == "done"


def fail(service, cluster, gate):
    """Let a rollout fail that is to be rolled back, and wait until the gate has stopped the service."""
    before = gate._fault.times
    gate._fault.times = 0  # The signal itself reads the Deployment as well.
    rollout_id = service.deploy(image="acme/web:missing", rollback_on_failure=True, wait=False).json()["id"]
    gate._fault.times = before
    release(cluster)
    gate.reached()
    return rollout_id


def test_killed_between_rollback_and_telling(service, cluster, chat):
    service.deploy()
    gates = []

    def after_the_patch():
        gates.append(Gate(cluster, "PATCH", "/configmaps"))

    service_dies = cluster.simulation.fail(0, "PATCH", "/deployments/web", call=after_the_patch)
    hold(cluster)
    rollout_id = service.deploy(image="acme/web:missing", rollback_on_failure=True, wait=False).json()["id"]
    service_dies.times = 1
    release(cluster)
    cluster.simulation.wait_for(lambda: gates)
    gates[0].reached()
    service.kill()
    gates[0].open()
    assert image(cluster).startswith("acme/web@sha256:")
    assert records(cluster)[1]["rollback"] == "pending"
    let_a_minute_pass(cluster)
    service.start()
    cluster.simulation.wait_for(lambda: records(cluster)[1]["rollback"] == "done")
    ended = service.show(id=rollout_id)
    assert (ended.status, ended.json()["rolled_back_to"]) == (424, 1)
    now = service.show(wait=True)
    assert (now.status, now.json()["rolled_back_to"], len(now.json()["history"])) == (200, 1, 3)
    # Once each: what worked, what failed and was rolled back, and the rollback.
    wait_for(lambda: len(chat.about(cluster.namespace)) == 3)
    told = [each for each in chat.about(cluster.namespace) if "failed" in each["title"]]
    assert len(told) == 1
    assert "rolled back to revision 1" in told[0]["message"]
    assert len(asked(cluster, "patch", "deployments")) == 2


def test_a_replica_that_is_asked_finishes_what_another_one_left(service, second_service, cluster):
    service.deploy()
    gate = Gate(cluster, "GET", "/deployments/web")
    hold(cluster)
    rollout_id = fail(service, cluster, gate)
    service.kill()
    gate.open()
    # Until it is rolled back, the failure isn't the last word: whoever asks by its id is told one thing for ever.
    assert second_service.show(id=rollout_id).status == 202
    let_a_minute_pass(cluster)
    answer = second_service.show(id=rollout_id, wait=20)
    assert (answer.status, answer.json()["rolled_back_to"]) == (424, 1)
    assert image(cluster).startswith("acme/web@sha256:")


def test_sigterm_while_a_client_waits(service, cluster):
    hold(cluster, 0)
    waiting = in_background(service.deploy, wait=20)
    cluster.simulation.wait_for(lambda: cluster.replica_sets())
    short = in_background(service.show, wait=1)
    cluster.simulation.wait_for(lambda: len(watches(cluster)) == 3)
    wait_for(lambda: "auto_deployer_rollouts_followed 1.0" in service.get("/metrics").text)
    service.process.terminate()
    assert short.result().status == 202
    assert not waiting.done()
    release(cluster)
    answer = waiting.result()
    assert (answer.status, answer.json()["phase"]) == (200, "complete")
    service.ended(20)


def test_an_id_answers_424_after_its_rollback_and_from_another_process(service, second_service, cluster):
    service.deploy()
    rollout_id = service.deploy(image="acme/web:missing", rollback_on_failure=True, wait=False).json()["id"]
    cluster.simulation.wait_for(lambda: image(cluster).startswith("acme/web@sha256:"))
    assert service.show(wait=True).status == 200
    before = service.show(id=rollout_id, wait=5)
    assert (before.status, before.json()["rolled_back_to"]) == (424, 1)
    again = second_service.show(id=rollout_id)
    assert (again.status, again.json()) == (424, before.json())
    texts = [each.show(accept="text/plain", id=rollout_id).text for each in (service, second_service)]
    assert texts[0] == texts[1]


# The API server


def test_the_api_server_is_gone_in_the_middle_of_a_rollout(service, cluster):
    service.deploy()
    hold(cluster)
    waiting = in_background(service.deploy, image="acme/web:2")
    cluster.simulation.wait_for(lambda: len(watches(cluster)) == 3)
    cluster.simulation.wait_for(lambda: len(records(cluster)) == 2)
    cluster.simulation.stop_serving()
    try:
        rollout_id = stamp(cluster)
        release(cluster)
        assert service.get("/readyz").status == service.get("/healthz").status == 200
        # What is followed can be asked for all the same.
        assert service.show(id=rollout_id).status == 202
        wait_for(lambda: any("can't be reached" in line["message"] for line in service.log[-20:]))
        cluster.simulation.wait_for(lambda: cluster.get()["status"].get("updatedReplicas") == 1)
        cluster.simulation.wait_for(lambda: cluster.get()["status"].get("replicas") == 1)
    finally:
        cluster.simulation.serve_again()
    answer = waiting.result()
    assert (answer.status, answer.json()["id"]) == (200, rollout_id)
    assert history(service) == ["complete", "complete"]


def test_the_api_server_is_gone_at_start(service, cluster):
    service.deploy()
    hold(cluster)
    rollout_id = service.deploy(image="acme/web:2", wait=False).json()["id"]
    cluster.simulation.wait_for(lambda: len(records(cluster)) == 2)
    service.kill()
    cluster.simulation.stop_serving()
    try:
        service.start()
        wait_for(lambda: any("can't be looked for yet" in line["message"] for line in service.log[-20:]))
        assert service.show().status == 503
    finally:
        cluster.simulation.serve_again()
    release(cluster)
    cluster.simulation.wait_for(lambda: records(cluster)[1]["rollout"]["phase"] == "complete")
    assert service.show(id=rollout_id, wait=5).status == 200


@pytest.mark.parametrize("status", [429, 500])
def test_the_api_server_is_busy_or_broken(service, cluster, status):
    service.deploy()
    for path in ("/deployments?", "/replicasets", "/pods", "/configmaps", "/events"):
        cluster.simulation.fail(2, "", path, status=status)
    cluster.simulation.fail(1, "PATCH", "/configmaps", status=status)
    answer = service.deploy(image="acme/web:2")
    assert (answer.status, answer.json()["phase"]) == (200, "complete")
    assert history(service) == ["complete", "complete"]


def test_a_verdict_waits_for_an_api_server_that_cannot_record_it(service, cluster):
    hold(cluster, 0)
    rollout_id = service.deploy(image="acme/web:badconfig", wait=False).json()["id"]
    cluster.simulation.wait_for(lambda: records(cluster))
    cluster.simulation.fail(2, "PATCH", "/configmaps", status=500)
    cluster.simulation.fail(1, "GET", "/events", status=500)
    release(cluster)
    answer = service.show(id=rollout_id, wait=True)
    assert (answer.status, answer.json()["causes"][0]["reason"]) == (424, "CreateContainerConfigError")
    cluster.simulation.wait_for(lambda: records(cluster)[0]["rollout"]["phase"] == "failed")


# The watches


@pytest.mark.parametrize("how", ["410", "half a line", "both"])
def test_a_watch_ends(service, cluster, how):
    service.deploy()
    hold(cluster)
    waiting = in_background(service.deploy, image="acme/web:2")
    cluster.simulation.wait_for(lambda: len(watches(cluster)) == 3 and len(records(cluster)) == 2)
    if how == "410":
        # The next watches open on versions that are too old by then.
        cluster.simulation.fail(3, "GET", "watch=true", call=cluster.simulation.expire_history)
    elif how == "both":
        cluster.simulation.expire_history()
    cluster.simulation.cut_watches()
    release(cluster)
    answer = waiting.result()
    assert (answer.status, answer.json()["replicas"]["ready"]) == (200, 1)


def test_watches_fall_silent_in_the_middle(admin, cluster, tmp_path, monkeypatch):
    # A minute and more, so that nobody watches anew for nothing; a test has no such time.
    monkeypatch.setattr("cluster.api.MAX_SILENCE_SECONDS", 1)
    client = InProcess(tmp_path, KUBECONFIG=str(admin.kubeconfig), SETTLE_SECONDS="0")
    client.reset(cluster.namespace)
    hold(cluster, 0)
    waiting = in_background(client.deploy)
    cluster.simulation.wait_for(lambda: len(watches(cluster)) == 3 and records(cluster))
    cluster.simulation.silence_watches()
    release(cluster)
    answer = waiting.result()
    assert (answer.status, answer.json()["phase"]) == (200, "complete")


def test_silence_is_not_taken_for_peace(services, cluster):
    service = services(SETTLE_SECONDS="1")
    service.reset(cluster.namespace)
    waiting = in_background(service.deploy)
    wait_for(lambda: cluster.get() and cluster.get()["status"].get("availableReplicas"))
    wait_for(lambda: "watching" in service.show().json()["message"])
    cluster.simulation.silence_watches()
    cluster.patch({"spec": {"template": {"spec": {"containers": [{"name": "web", "image": "acme/web:missing"}]}}}})
    answer = waiting.result()
    assert (answer.status, answer.json()["phase"]) == (409, "superseded")


def test_one_watch_lags_behind_the_others(service, cluster):
    hold(cluster, 0)
    cluster.simulation.fail(1, "GET", "/replicasets?", delay=1)
    waiting = in_background(service.deploy)
    cluster.simulation.wait_for(lambda: asked(cluster, "watch", "replicasets"))
    release(cluster)
    answer = waiting.result()
    assert answer.status == 200
    assert answer.json()["replicas"] == {"desired": 1, "updated": 1, "ready": 1, "available": 1}


# The ledger


def test_the_ledger_is_written_by_somebody_else_in_between(service, cluster):
    service.deploy()
    key, text = cluster.get(LEDGER, "configmaps")["data"].popitem()
    other = text.replace(key, "20200101T000000.000000Z")

    def write():
        cluster.patch({"data": {"20200101T000000.000000Z": other}}, LEDGER, "configmaps")
        cluster.patch({"metadata": {"labels": {"changed": str(time.monotonic_ns())}}}, LEDGER, "configmaps")

    cluster.simulation.fail(3, "PATCH", "/configmaps", call=write)
    answer = service.deploy(image="acme/web:2")
    assert answer.status == 200
    assert len(records(cluster)) == 3
    assert [each["rollout"]["phase"] for each in records(cluster)] == ["complete"] * 3


def test_somebody_else_has_decided_in_between(service, cluster, chat):
    """Whoever finds the phase already final has lost and does nothing."""
    service.deploy()

    def decide():
        (key,) = [key for key in cluster.get(LEDGER, "configmaps")["data"] if key == stamp(cluster)]
        record = records(cluster)[-1]
        record["rollout"] |= {"phase": "failed", "message": "said the other", "finished_at": "2026-01-01T00:00:00Z"}
        cluster.patch({"data": {key: json.dumps(record | {"told": True})}}, LEDGER, "configmaps")

    hold(cluster)
    waiting = in_background(service.deploy, image="acme/web:2", rollback_on_failure=True)
    cluster.simulation.wait_for(lambda: len(records(cluster)) == 2)
    cluster.simulation.fail(1, "PATCH", "/configmaps", call=decide)
    release(cluster)
    answer = waiting.result()
    assert (answer.status, answer.json()["message"]) == (424, "said the other")
    assert records(cluster)[1]["rollout"]["message"] == "said the other"
    assert image(cluster) == "acme/web:2"
    assert len(asked(cluster, "patch", "deployments")) == 1
    assert len(chat.about(cluster.namespace)) <= 1


def test_the_ledger_is_deleted(service, cluster):
    service.deploy()
    cluster.simulation.wait_for(lambda: all(each["told"] for each in records(cluster)))
    hold(cluster)
    waiting = in_background(service.deploy, image="acme/web:2", wait=20)
    cluster.simulation.wait_for(lambda: len(records(cluster)) == 2)
    cluster.delete(LEDGER, "configmaps")
    release(cluster)
    answer = waiting.result()
    assert (answer.status, answer.json()["phase"]) == (200, "complete")
    assert history(service) == ["complete"]
    cluster.simulation.wait_for(lambda: all(each["told"] for each in records(cluster)))
    cluster.delete(LEDGER, "configmaps")
    # What nobody has recorded is taken up, as if the process had died.
    shown = service.show(wait=True)
    assert (shown.status, shown.json()["image"]) == (200, "acme/web:2")
    # No record: the ReplicaSet before.
    back = service.roll_back()
    assert (back.status, image(cluster)) == (200, "acme/web:1")
    assert "unverified" in back.json()["history"][0]["cause"]


NONSENSE = ["", "{", "null", "7", "[]", "{}", '{"rollout": {}}', '{"rollout": null, "template": 3}', "é" * 50]
EDITED = [
    {"rollout": []},
    {"template": {"spec": []}},
    {"template": {"spec": {"containers": ["web"]}}},
    {"template": {"spec": {"containers": []}}},
    {"digests": 7},
    {"digests": {"web": 7}},
    {"cause": None},
    {"told": "yes"},
    {"told": False, "claimed_at": "yesterday"},
    {"rollback": "soon"},
    {"from_a_newer_version": 1},
    {"rollout": {"phase": "happy"}},
    {"rollout": {"phase": "failed", "finished_at": None}},
    {"rollout": {"started_at": 7}},
    {"rollout": {"revision": "7"}},
    {"rollout": {"causes": [{"reason": 7}]}},
    {"rollout": {"causes": None}},
    {"rollout": {"id": "another"}},
    {"rollout": {"from_a_newer_version": 1}},
]


def test_the_ledger_holds_nonsense(service, cluster):
    service.deploy()
    good = records(cluster)[0]
    hold(cluster)
    waiting = in_background(service.deploy, image="acme/web:2")
    cluster.simulation.wait_for(lambda: len(records(cluster)) == 2)
    nonsense = {f"20300101T00000{number}.000000Z": each for number, each in enumerate(NONSENSE)}
    entries = nonsense | {"README": "hands off", "20200101T000000.000000Z": "x", stamp(cluster): "nonsense"}
    # What is JSON, but not quite as we write it, may be left out, and stops nobody either.
    edited = {f"20200101T0000{number + 10}.000000Z": each for number, each in enumerate(EDITED)}
    for key, each in edited.items():
        rollout = good["rollout"] | {"id": key}
        if isinstance(each.get("rollout"), dict):
            each = each | {"rollout": rollout | each["rollout"]}
        entries[key] = json.dumps(good | {"rollout": rollout} | each)
    cluster.patch({"data": entries}, LEDGER, "configmaps")
    release(cluster)
    answer = waiting.result()
    assert (answer.status, answer.json()["phase"]) == (200, "complete")
    for shown in (service.show(), service.show(id=answer.json()["id"])):
        assert (shown.status, shown.json().get("id")) == (200, answer.json()["id"]), shown.text
    statuses = {key: service.show(id=key).status for key in entries}
    assert set(statuses.values()) <= {200, 404, 424}, statuses
    restart(service)
    assert service.show(id=answer.json()["id"]).status == 200
    assert history(service)[:1] == ["complete"]
    assert service.roll_back(revision=99).status == 409
    assert service.roll_back(revision=1).status == 200


def test_a_record_of_another_process_that_died(service, cluster):
    """It was written since this process last looked, and another rollout is live by now."""
    hold(cluster, 0)
    newest = service.deploy(wait=False).json()["id"]
    cluster.simulation.wait_for(lambda: records(cluster))
    key, (record,) = "20200101T000000.000000Z", records(cluster)
    left = record | {"rollout": record["rollout"] | {"id": key}}
    cluster.patch({"data": {key: json.dumps(left)}}, LEDGER, "configmaps")
    shown = service.show()
    assert (shown.status, shown.json().get("id")) == (202, newest), shown.text
    assert (service.show(id=key).status, service.show(id=key).json()["phase"]) == (409, "superseded")
    release(cluster)
    assert service.show(wait=True).status == 200


# The Deployment and its pods


def test_the_deployment_is_deleted_while_it_is_followed(service, cluster):
    service.deploy()
    hold(cluster)
    waiting = in_background(service.deploy, image="acme/web:2")
    cluster.simulation.wait_for(lambda: len(records(cluster)) == 2)
    rollout_id = stamp(cluster)
    cluster.delete()
    answer = waiting.result()
    assert (answer.status, answer.json()["phase"]) == (424, "failed")
    assert "deleted" in answer.text
    assert service.show(id=rollout_id).status == 424
    cluster.simulation.wait_for(lambda: not watches(cluster))
    release(cluster)
    assert service.deploy(image="acme/web:3").status == 200


def test_another_deployment_takes_the_name_while_it_is_followed(service, cluster):
    service.deploy()
    hold(cluster)
    waiting = in_background(service.deploy, image="acme/web:2")
    cluster.simulation.wait_for(lambda: len(records(cluster)) == 2)
    cluster.delete()
    cluster.create(deployment(image="acme/web:9"))
    release(cluster)
    answer = waiting.result()
    assert (answer.status, answer.json()["phase"]) in ((424, "failed"), (409, "superseded"))
    shown = service.show(wait=True)
    assert (shown.status, shown.json()["image"]) == (200, "acme/web:9")


def test_pods_are_evicted_while_they_are_followed(services, cluster):
    service = services(SETTLE_SECONDS="1")
    service.reset(cluster.namespace)
    waiting = in_background(service.deploy)
    cluster.simulation.wait_for(lambda: cluster.get() and cluster.get()["status"].get("availableReplicas"))
    (pod,) = cluster._admin.list("pods", cluster.namespace)
    cluster.simulation.evict(cluster.namespace, pod["metadata"]["name"])
    wait_for(lambda: any(each["reason"] == "Evicted" for each in service.show().json()["causes"]))
    answer = waiting.result()
    assert (answer.status, answer.json()["replicas"]["ready"]) == (200, 1)
    pods = cluster._admin.list("pods", cluster.namespace)
    assert sorted(each["status"]["phase"] for each in pods) == ["Failed", "Running"]


# Two replicas, many signals


def test_two_replicas_follow_the_same_rollout(service, second_service, cluster, chat):
    service.deploy()
    hold(cluster)
    rollout_id = service.deploy(image="acme/web:missing", rollback_on_failure=True, wait=False).json()["id"]
    cluster.simulation.wait_for(lambda: len(records(cluster)) == 2)
    waiting = [in_background(each.show, id=rollout_id, wait=True) for each in (service, second_service)]
    cluster.simulation.wait_for(lambda: len(watches(cluster)) == 6)
    release(cluster)
    answers = [each.result() for each in waiting]
    assert [each.status for each in answers] == [424, 424]
    cluster.simulation.wait_for(lambda: image(cluster).startswith("acme/web@sha256:"))
    ended = [each.show(wait=True) for each in (second_service, service)]
    assert [each.status for each in ended] == [200, 200]
    assert ended[0].json() == ended[1].json()
    # Both know in the end that it was rolled back, and to what; it happened once.
    wait_for(lambda: all(each.show(id=rollout_id).json()["rolled_back_to"] == 1 for each in (service, second_service)))
    assert len(asked(cluster, "patch", "deployments")) == 2
    assert [each["rollout"]["phase"] for each in records(cluster)] == ["complete", "failed", "complete"]
    wait_for(lambda: len(chat.about(cluster.namespace)) >= 3)
    cluster.simulation.wait_for(lambda: all(each["told"] for each in records(cluster)))
    cluster.simulation.wait_for(lambda: not watches(cluster))
    assert len(chat.about(cluster.namespace)) == 3
    events = [each for each in cluster._admin.list("events", cluster.namespace) if "auto-dep" in json.dumps(each)]
    assert len([each for each in events if each["message"].startswith("failed: ")]) == 1


def workers(service):
    """Return the pids of the master and its workers."""
    master = service.process.pid
    return [master, *map(int, Path(f"/proc/{master}/task/{master}/children").read_text().split())]


def threads(service):
    return sum(len(list(Path(f"/proc/{pid}/task").iterdir())) for pid in workers(service))


def test_a_burst_of_signals_leaves_the_last_and_leaks_nothing(service, cluster):
    service.deploy()
    cluster.simulation.wait_for(lambda: not watches(cluster))
    wait_for(lambda: "auto_deployer_rollouts_followed 0.0" in service.get("/metrics").text)
    before = threads(service)
    ids = []
    began = time.monotonic()
    for number in range(25):
        time.sleep(max(0, began + number * 0.1 - time.monotonic()))
        answer = service.deploy(image=f"acme/web:{number}", wait=False)
        assert answer.status == 200
        ids.append(answer.json()["id"])
    last = service.show(id=ids[-1], wait=True)
    assert (last.status, last.json()["image"]) == (200, "acme/web:24")
    assert service.show().json()["id"] == ids[-1]
    wait_for(lambda: "auto_deployer_rollouts_followed 0.0" in service.get("/metrics").text)
    newest, *others = service.show().json()["history"]
    assert (newest["id"], newest["phase"]) == (ids[-1], "complete")
    assert [each["id"] for each in others] == ids[-2:-21:-1]
    # A pod is up in less than a second, but never before the next signal comes.
    assert {each["phase"] for each in others} <= {"superseded", "complete"}
    assert sum(each["phase"] == "superseded" for each in others) >= len(others) - 3
    cluster.simulation.wait_for(lambda: not watches(cluster))
    wait_for(lambda: threads(service) <= before)


def test_a_deployment_that_is_asked_for_while_another_is_followed_is_not_taken_for_gone(service, cluster):
    """The watch of one Deployment becomes the watch of all: until it has, nothing is said of the others."""
    cluster.create(deployment("other"))
    cluster.simulation.wait_for(lambda: cluster.get("other")["status"].get("availableReplicas") == 1)
    service.configure("other", {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "other"}})
    hold(cluster, 0)
    cluster.simulation.fail(2, "GET", f"/namespaces/{cluster.namespace}/deployments?limit", delay=1)
    service.signal("web")
    # In the middle of the first list, which is only of that one.
    cluster.simulation.wait_for(lambda: asked(cluster, "list", "deployments"))
    assert service.show("other").status == 200
    release(cluster)
    assert service.show("web", wait=20).status == 200
