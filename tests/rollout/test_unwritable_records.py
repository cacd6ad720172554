"""Rollouts while the ConfigMap can't be written, as with an admission webhook that is down: nothing waits for it."""

import json
import time

import pytest

from rollout import rollback
from rollout.aftermath import Aftermath
from tests.rollout.helpers import (
    asked,
    deploy_and_hold,
    fail,
    image_of,
    in_background,
    limit_pods,
    listed,
    phases,
    quiet_client,
    records,
    wait_for_records,
)
from tests.service import wait_for

pytestmark = pytest.mark.simulated_only


@pytest.fixture
def client(admin, notify_settings, cluster, tmp_path):
    """Serve in this process, and notify the chat."""
    client = quiet_client(tmp_path, KUBECONFIG=str(admin.kubeconfig), **notify_settings)
    client.reset(cluster.namespace)
    return client


def refuse_writes(cluster, **how):
    """Let no ConfigMap be written; return the faults, to lift them."""
    how = how or {"status": 500}
    return [fail(cluster, 100_000, method, "configmaps", **how) for method in ("POST", "PATCH")]


def lift(faults):
    """Let ConfigMaps be written again."""
    for each in faults:
        each.times = 0


def events_of(cluster):
    """Return the reasons of the service's Events, without those of the cluster."""
    return [each["reason"] for each in listed(cluster, "events") if "auto-dep" in json.dumps(each)]


@pytest.mark.parametrize("status", [500, 403, 429])
def test_a_first_rollout_gets_its_verdict_and_its_record_later(client, cluster, chat, status):
    faults = refuse_writes(cluster, status=status)
    started = time.monotonic()
    answer = client.deploy(image="acme/web:missing")
    assert (answer.status, answer.json()["phase"]) == (424, "failed")
    assert time.monotonic() - started < 8
    assert records(cluster) == []
    wait_for(lambda: len(chat.about(cluster.namespace)) == 1)
    assert sorted(events_of(cluster)) == ["Deploying", "RolloutFailed"]
    shown = client.show(id=answer.json()["id"])
    assert (shown.status, shown.json()["phase"]) == (424, "failed")
    lift(faults)
    if status != 403:
        wait_for_records(cluster, 1, told=True)
        assert records(cluster)[0]["rollout"]["phase"] == "failed"
        assert phases(client.show()) == ["failed"]
    time.sleep(1)
    assert len(chat.about(cluster.namespace)) == 1


def test_a_failure_is_rolled_back_once_and_recorded_later(client, cluster, chat):
    rollout_id = deploy_and_hold(client, cluster, image="acme/web:missing", rollback_on_failure=True)
    faults = refuse_writes(cluster)
    limit_pods(cluster, None)
    answer = client.show(id=rollout_id, wait=20)
    assert (answer.status, answer.json()["rolled_back_to"]) == (424, 1)
    assert image_of(cluster.get()).startswith("acme/web@sha256:")
    assert client.show(wait=True).json()["rolled_back_to"] == 1
    wait_for(lambda: len(chat.about(cluster.namespace)) == 3)
    assert [each["rollout"]["phase"] for each in records(cluster)] == ["complete", "progressing"]
    lift(faults)
    cluster.simulation.wait_for(lambda: len(records(cluster)) == 3 and all(each["told"] for each in records(cluster)))
    found = records(cluster)
    assert [each["rollout"]["phase"] for each in found] == ["complete", "failed", "complete"]
    assert (found[1]["rollback"], found[1]["rollout"]["rolled_back_to"]) == ("done", 1)
    assert len(asked(cluster, "patch", "deployments")) == 2
    assert len(chat.about(cluster.namespace)) == 3
    assert events_of(cluster).count("RolloutFailed") == 1


def test_a_rollback_whose_end_could_not_be_recorded_is_recorded_with_the_message(client, cluster, chat, monkeypatch):
    rollout_id = deploy_and_hold(client, cluster, image="acme/web:missing", rollback_on_failure=True)
    send, notify, faults = rollback.send, Aftermath.notify, []

    def send_and_refuse(*arguments, **fields):
        live = send(*arguments, **fields)
        faults.extend(refuse_writes(cluster))
        return live

    def lift_and_notify(aftermath, follower):
        lift(faults)
        notify(aftermath, follower)

    monkeypatch.setattr(rollback, "send", send_and_refuse)
    monkeypatch.setattr(Aftermath, "notify", lift_and_notify)
    limit_pods(cluster, None)
    assert client.show(id=rollout_id, wait=20).json()["rolled_back_to"] == 1
    wait_for_records(cluster, 3, told=True)
    found = records(cluster)[1]
    assert (found["rollback"], found["rollout"]["rolled_back_to"]) == ("done", 1)


def test_the_start_is_recorded_in_between_although_nothing_changes(client, cluster, monkeypatch):
    monkeypatch.setattr("rollout.recorder.RECORD_AGAIN_SECONDS", 0.2)
    limit_pods(cluster, 0)
    faults = refuse_writes(cluster)
    rollout_id = client.deploy(wait=False).json()["id"]
    cluster.simulation.wait_for(lambda: len(asked(cluster, "create", "configmaps")) >= 3)
    lift(faults)
    wait_for_records(cluster, 1)
    assert client.show(id=rollout_id).status == 202
    limit_pods(cluster, None)
    assert client.show(id=rollout_id, wait=True).status == 200


def test_a_verdict_waits_for_an_api_server_that_answers_nothing(client, cluster):
    rollout_id = deploy_and_hold(client, cluster, image="acme/web:missing")
    waiting = in_background(client.show, id=rollout_id, wait=20)
    faults = [*refuse_writes(cluster, status=503), fail(cluster, 100_000, "GET", "deployments/web", status=503)]
    limit_pods(cluster, None)
    time.sleep(3)
    assert not waiting.done()
    lift(faults)
    assert waiting.result().status == 424
    wait_for_records(cluster, 2, told=True)
