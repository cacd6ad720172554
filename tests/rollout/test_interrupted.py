"""Rollouts that are interrupted: by a newer signal, a pause, a deletion, a scaling, an eviction."""

import pytest

from tests.conftest import deployment
from tests.rollout.helpers import (
    Gate,
    id_of,
    image_of,
    in_background,
    limit_pods,
    listed,
    phases,
    records,
    wait_for_records,
    watches,
)
from tests.service import wait_for


def test_a_newer_signal_supersedes(service, cluster):
    first = in_background(service.signal, image="acme/web:unready", wait=True)
    cluster.wait_for(lambda: cluster.get() and image_of(cluster.get()) == "acme/web:unready")
    first_id = id_of(cluster.get())
    second = service.deploy(image="acme/web:2")
    assert (second.status, second.json()["phase"]) == (200, "complete")
    answer = first.result()
    assert (answer.status, answer.text.split()[0].rstrip(":")) == (409, "superseded")
    again = service.show(id=first_id)
    assert (again.status, again.json()["phase"], again.json()["id"]) == (409, "superseded", first_id)
    assert phases(service.show()) == ["complete", "superseded"]


@pytest.mark.simulated_only
def test_a_rollout_that_is_superseded_at_once_costs_one_record_and_no_event(quiet, cluster, monkeypatch):
    monkeypatch.setattr("rollout.follower.RECORD_START_SECONDS", 60)
    limit_pods(cluster, 0)
    for _ in range(2):
        quiet.deploy(wait=False)
    wait_for_records(cluster, 1, told=True)
    assert [each["rollout"]["phase"] for each in records(cluster)] == ["superseded"]
    changes = ("create", "patch")
    writes = [(each.verb, each.resource) for each in cluster.requests if each.user != "admin" and each.verb in changes]
    assert writes == [("create", "deployments"), ("patch", "deployments"), ("create", "configmaps")]


def test_a_paused_rollout_is_answered_at_once_and_goes_on_after_resume(service, cluster):
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


def test_a_deployment_that_is_deleted_fails_and_can_be_deployed_again(service, cluster):
    waiting = in_background(service.signal, image="acme/web:unready", wait=True)
    cluster.wait_for(cluster.replica_sets)
    rollout_id = id_of(cluster.get())
    cluster.delete()
    answer = waiting.result()
    assert (answer.status, answer.text.split()[0].rstrip(":")) == (424, "failed")
    assert "deleted" in answer.text
    assert service.show(id=rollout_id).status == 424
    assert service.show().status == 404
    assert service.roll_back().status == 404
    cluster.wait_for(lambda: not cluster.replica_sets())
    assert service.deploy().status == 200


def test_a_deployment_that_is_scaled_meanwhile(service, cluster):
    limit_pods(cluster, 0)
    waiting = in_background(service.deploy)
    cluster.wait_for(cluster.replica_sets)
    cluster.patch({"spec": {"replicas": 2}})
    limit_pods(cluster, None)
    answer = waiting.result()
    assert (answer.status, answer.json()["replicas"]["ready"]) == (200, 2)


@pytest.mark.simulated_only
def test_a_deployment_that_is_deleted_is_not_watched_any_more(service, cluster):
    service.deploy()
    limit_pods(cluster, 1)
    waiting = in_background(service.deploy, image="acme/web:2")
    wait_for_records(cluster, 2)
    rollout_id = id_of(cluster.get())
    cluster.delete()
    answer = waiting.result()
    assert (answer.status, answer.json()["phase"]) == (424, "failed")
    assert "deleted" in answer.text
    assert service.show(id=rollout_id).status == 424
    cluster.simulation.wait_for(lambda: not watches(cluster))
    limit_pods(cluster, None)
    assert service.deploy(image="acme/web:3").status == 200


@pytest.mark.simulated_only
def test_another_deployment_takes_the_name(service, cluster):
    service.deploy()
    limit_pods(cluster, 1)
    waiting = in_background(service.deploy, image="acme/web:2")
    wait_for_records(cluster, 2)
    cluster.delete()
    cluster.create(deployment(image="acme/web:9"))
    limit_pods(cluster, None)
    answer = waiting.result()
    assert (answer.status, answer.json()["phase"]) in ((424, "failed"), (409, "superseded"))
    shown = service.show(wait=True)
    assert (shown.status, shown.json()["image"]) == (200, "acme/web:9")


@pytest.mark.simulated_only
def test_a_pod_that_is_evicted_is_replaced(service, cluster):
    limit_pods(cluster, 0)
    waiting = in_background(service.deploy)
    wait_for_records(cluster, 1)
    # Before a success the service reads the Deployment once more: it gives no verdict while the gate is closed.
    gate = Gate(cluster, "GET", "deployments/web", drop=False)
    limit_pods(cluster, None)
    cluster.simulation.wait_for(lambda: cluster.get()["status"].get("availableReplicas"))
    limit_pods(cluster, 0)
    (pod,) = listed(cluster, "pods")
    cluster.simulation.evict(cluster.namespace, pod["metadata"]["name"])
    cluster.simulation.wait_for(lambda: not cluster.get()["status"].get("availableReplicas"))
    gate.open()
    wait_for(lambda: any(each["reason"] == "Evicted" for each in service.show().json()["causes"]))
    limit_pods(cluster, None)
    answer = waiting.result()
    assert (answer.status, answer.json()["replicas"]["ready"]) == (200, 1)
    assert sorted(each["status"]["phase"] for each in listed(cluster, "pods")) == ["Failed", "Running"]
