"""Rollouts over HTTP, from the signal to the verdict, on a simulated or a real cluster: what the answers hold."""

import re
from datetime import datetime

from manifest.annotations import CHANGE_CAUSE, REVISION
from tests.conftest import deployment
from tests.rollout.helpers import CONFIG_MAP, DIGEST, FIELDS, Gate, id_of, listed, phases, revision_of

HISTORY_FIELDS = {"id", "revision", "image", "digest", "cause", "phase", "started_at", "finished_at"}
HISTORY_FIELDS |= {"by", "link", "rolled_back_to"}


def seconds(text):
    """Return a time of an answer in seconds."""
    return datetime.fromisoformat(text).timestamp()


def test_a_client_that_waits_learns_that_it_works(service, cluster):
    answer = service.signal(wait=True)
    assert answer.status == 200
    assert answer.text.split()[0].rstrip(":") == "ok"
    assert id_of(cluster.get()) in answer.text
    shown = service.show(accept="text/plain")
    assert (shown.status, shown.text.split()[0].rstrip(":")) == (200, "ok")


def test_a_rollout_in_json_has_exactly_the_fields_of_the_contract(service, cluster):
    service.deploy(cause="the first one")
    answer = service.deploy(image="acme/web:2")
    rollout = answer.json()
    assert (answer.status, rollout.keys()) == (200, FIELDS)
    live = cluster.get()
    expected = {
        "id": id_of(live),
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
    # While the gate is closed, the service can't see what becomes of the rollout.
    gate = Gate(cluster, "GET", "deployments?limit", drop=False) if cluster.simulation else None
    answer = service.deploy(wait=False)
    if gate:
        gate.open()
    rollout = answer.json()
    assert (answer.status, rollout.keys()) == (200, FIELDS)
    assert (rollout["phase"], rollout["revision"], rollout["finished_at"]) == ("progressing", None, None)
    ended = service.show(id=rollout["id"], wait=20)
    assert (ended.status, ended.json()["phase"], ended.json()["id"]) == (200, "complete", rollout["id"])


def test_complete_means_that_all_pods_stayed_ready_for_the_settling_time(patient_service, cluster):
    service = patient_service
    service.configure("web", deployment(replicas=2))
    rollout_id = service.deploy(wait=False).json()["id"]
    # Before a success the service reads the Deployment once more: it gives no verdict while the gate is closed.
    gate = Gate(cluster, "GET", "deployments/web", drop=False) if cluster.simulation else None

    def while_watching():
        shown = service.show(id=rollout_id, wait=0.1).json()
        return shown if "watching" in shown["message"] else None

    watched = cluster.wait_for(while_watching)
    if gate:
        gate.open()
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


def test_a_dry_run_is_no_rollout(service, cluster):
    service.deploy()
    before = cluster.get()
    answer = service.deploy(image="acme/web:missing", dry_run=True)
    assert (answer.status, answer.json().keys()) == (200, FIELDS)
    assert cluster.get()["metadata"]["generation"] == before["metadata"]["generation"]
    assert phases(service.show()) == ["complete"]
    assert service.show().json()["id"] == id_of(before)


def test_the_record_belongs_to_the_deployment(service, cluster):
    service.deploy()
    (owner,) = cluster.get(CONFIG_MAP, "configmaps")["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["uid"]) == ("Deployment", cluster.get()["metadata"]["uid"])
    cluster.delete()
    cluster.wait_for(lambda: cluster.get(CONFIG_MAP, "configmaps") is None)


# What kubectl shows


def test_kubectl_shows_every_deploy_and_rollback_with_its_cause(service, cluster):
    service.deploy()
    service.deploy(image="acme/web:2", cause="build 7 of main")
    service.deploy(image="acme/web:missing", rollback_on_failure=True)
    service.show(wait=True)
    causes = {revision_of(each): each["metadata"]["annotations"][CHANGE_CAUSE] for each in cluster.replica_sets()}
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
