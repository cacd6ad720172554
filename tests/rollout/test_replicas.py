"""Two replicas of the service at one rollout: one verdict, one rollback, one message."""

import json

import pytest

from tests.rollout.helpers import (
    CONFIG_MAP,
    Gate,
    asked,
    deploy_and_hold,
    fail,
    id_of,
    image_of,
    in_background,
    let_a_minute_pass,
    limit_pods,
    listed,
    records,
    wait_for_records,
    watches,
)
from tests.service import wait_for

pytestmark = pytest.mark.simulated_only


@pytest.fixture
def service(notifying):
    return notifying


def test_two_replicas_follow_the_same_rollout(service, replica, cluster, chat):
    rollout_id = deploy_and_hold(service, cluster, image="acme/web:missing", rollback_on_failure=True)
    waiting = [in_background(each.show, id=rollout_id, wait=True) for each in (service, replica)]
    cluster.simulation.wait_for(lambda: len(watches(cluster)) == 6)
    limit_pods(cluster, None)
    answers = [each.result() for each in waiting]
    assert [each.status for each in answers] == [424, 424]
    cluster.simulation.wait_for(lambda: image_of(cluster.get()).startswith("acme/web@sha256:"))
    ended = [each.show(wait=True) for each in (replica, service)]
    assert [each.status for each in ended] == [200, 200]
    assert ended[0].json() == ended[1].json()
    # In the end both know that it was rolled back, and to what; it happened once.
    wait_for(lambda: all(each.show(id=rollout_id).json()["rolled_back_to"] == 1 for each in (service, replica)))
    assert len(asked(cluster, "patch", "deployments")) == 2
    assert [each["rollout"]["phase"] for each in records(cluster)] == ["complete", "failed", "complete"]
    wait_for(lambda: len(chat.about(cluster.namespace)) >= 3)
    cluster.simulation.wait_for(lambda: all(each["told"] for each in records(cluster)))
    cluster.simulation.wait_for(lambda: not watches(cluster))
    assert len(chat.about(cluster.namespace)) == 3
    events = [each for each in listed(cluster, "events") if "auto-dep" in json.dumps(each)]
    assert len([each for each in events if each["message"].startswith("failed: ")]) == 1


def test_a_replica_finishes_what_another_one_left(service, replica, cluster):
    rollout_id = deploy_and_hold(service, cluster, image="acme/web:missing", rollback_on_failure=True)
    gate = Gate(cluster, "GET", "deployments/web")
    limit_pods(cluster, None)
    wait_for_records(cluster, 2, rollback="pending")
    service.kill()
    gate.open()
    # It is no final answer yet, since a final answer for an id must stay the same.
    assert replica.show(id=rollout_id).status == 202
    let_a_minute_pass(cluster)
    answer = replica.show(id=rollout_id, wait=20)
    assert (answer.status, answer.json()["rolled_back_to"]) == (424, 1)
    assert image_of(cluster.get()).startswith("acme/web@sha256:")


def test_all_replicas_show_a_rolled_back_rollout_alike(service, replica, cluster):
    service.deploy()
    rollout_id = service.deploy(image="acme/web:missing", rollback_on_failure=True, wait=False).json()["id"]
    cluster.simulation.wait_for(lambda: image_of(cluster.get()).startswith("acme/web@sha256:"))
    assert service.show(wait=True).status == 200
    before = service.show(id=rollout_id, wait=5)
    assert (before.status, before.json()["rolled_back_to"]) == (424, 1)
    again = replica.show(id=rollout_id)
    assert (again.status, again.json()) == (424, before.json())
    texts = [each.show(accept="text/plain", id=rollout_id).text for each in (service, replica)]
    assert texts[0] == texts[1]


def test_the_verdict_that_another_replica_recorded_first_counts(service, cluster, chat):
    def decide():
        (key,) = [key for key in cluster.get(CONFIG_MAP, "configmaps")["data"] if key == id_of(cluster.get())]
        record = records(cluster)[-1]
        record["rollout"] |= {"phase": "failed", "message": "said the other", "finished_at": "2026-01-01T00:00:00Z"}
        cluster.patch({"data": {key: json.dumps(record | {"told": True})}}, CONFIG_MAP, "configmaps")

    service.deploy()
    wait_for_records(cluster, 1, told=True)
    limit_pods(cluster, 1)
    waiting = in_background(service.deploy, image="acme/web:2", rollback_on_failure=True)
    wait_for_records(cluster, 2)
    fail(cluster, 1, "PATCH", "configmaps", call=decide)
    limit_pods(cluster, None)
    answer = waiting.result()
    assert (answer.status, answer.json()["message"]) == (424, "said the other")
    assert records(cluster)[1]["rollout"]["message"] == "said the other"
    assert image_of(cluster.get()) == "acme/web:2"
    assert len(asked(cluster, "patch", "deployments")) == 1
    assert len(chat.about(cluster.namespace)) <= 1
