"""What comes after a verdict while the API server or another replica gets in the way."""

import json
import time
from datetime import UTC, datetime, timedelta

import pytest

from tests.conftest import deployment
from tests.rollout.helpers import (
    CONFIG_MAP,
    Gate,
    asked,
    deploy_and_hold,
    fail,
    image_of,
    limit_pods,
    phases,
    quiet_client,
    records,
    set_image,
    wait_for_records,
)
from tests.service import wait_for

pytestmark = pytest.mark.simulated_only


def fail_with(client, cluster, times, method, **how):
    """Let a rollout fail, and then so many requests of its automatic rollback; return the answer about the rollout."""
    rollout_id = deploy_and_hold(client, cluster, image="acme/web:missing", rollback_on_failure=True)
    fail(cluster, times, method, "deployments/web", **how)
    limit_pods(cluster, None)
    return client.show(id=rollout_id, wait=20)


@pytest.mark.parametrize("method", ["GET", "PATCH"])
@pytest.mark.parametrize("how", [{"status": 503}, {"status": 500}, {"drop": True}])
def test_a_rollback_waits_until_the_api_server_can_take_it(quiet, cluster, monkeypatch, method, how):
    monkeypatch.setattr("rollout.aftermath.MIN_PAUSE_SECONDS", 0.05)
    answer = fail_with(quiet, cluster, 3, method, **how)
    assert (answer.status, answer.json()["rolled_back_to"]) == (424, 1)
    assert image_of(cluster.get()).startswith("acme/web@sha256:")
    assert phases(quiet.show(wait=True)) == ["complete", "failed", "complete"]


def test_a_rollback_that_is_refused_leaves_the_failed_rollout_live(quiet, cluster):
    answer = fail_with(quiet, cluster, 1, "PATCH", status=403)
    assert (answer.status, answer.json()["rolled_back_to"]) == (424, None)
    assert image_of(cluster.get()) == "acme/web:missing"
    wait_for_records(cluster, 2, rollback="done")
    assert phases(quiet.show()) == ["failed", "complete"]


def test_a_newer_rollout_is_not_rolled_back(quiet, cluster):
    # The service reads the Deployment before it sends the rollback.
    answer = fail_with(quiet, cluster, 1, "GET", call=lambda: set_image(cluster, "acme/web:3"))
    assert (answer.status, answer.json()["rolled_back_to"]) == (424, None)
    assert image_of(cluster.get()) == "acme/web:3"
    assert len(asked(cluster, "patch", "deployments")) == 1


def test_pods_that_run_different_digests_of_one_image(quiet, cluster):
    quiet.configure("web", deployment(image="acme/web:latest", replicas=2))
    first, second = (f"sha256:{digit * 64}" for digit in "12")
    cluster.simulation.digests["acme/web:latest"] = first
    limit_pods(cluster, 1)
    rollout_id = quiet.deploy(wait=False).json()["id"]
    cluster.simulation.wait_for(lambda: cluster.get()["status"].get("availableReplicas") == 1)
    cluster.simulation.digests["acme/web:latest"] = second
    limit_pods(cluster, None)
    answer = quiet.show(id=rollout_id, wait=True)
    assert (answer.status, answer.json()["digest"]) == (200, None)
    assert answer.json()["message"] == "2 pods are ready; they run different digests of one image"
    assert records(cluster)[0]["digests"] == {}


# Messages that a dead process left unsent


@pytest.fixture
def replicas(admin, notify_settings, cluster, tmp_path):
    """Serve as two replicas that notify the chat, and finish only what they are asked for."""
    clients = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        clients.append(quiet_client(tmp_path / name, KUBECONFIG=str(admin.kubeconfig), **notify_settings))
        clients[-1].reset(cluster.namespace)
    return clients


def leave_messages(cluster, *ages):
    """Change the records, the newest first, as if processes had died so long ago between a verdict and its message."""
    data = cluster.get(CONFIG_MAP, "configmaps")["data"]
    for key, age in zip(sorted(data, reverse=True), ages, strict=True):
        record, at = json.loads(data[key]), (datetime.now(UTC) - age).isoformat()
        record["rollout"] |= {"started_at": at, "finished_at": at}
        data[key] = json.dumps(record | {"told": False, "claimed_at": at})
    cluster.patch({"data": data}, CONFIG_MAP, "configmaps")


def test_one_of_two_replicas_sends_a_message_that_was_left(quiet, replicas, cluster, chat):
    quiet.deploy()
    leave_messages(cluster, timedelta(minutes=2))
    gate, before = Gate(cluster, "PATCH", "configmaps", drop=False), len(asked(cluster, "patch", "configmaps"))
    for each in replicas:
        assert each.show().status == 200
    # Both have read the same record, and claim the message.
    cluster.simulation.wait_for(lambda: len(asked(cluster, "patch", "configmaps")) == before + 2)
    gate.open()
    wait_for_records(cluster, 1, told=True)
    assert len(chat.about(cluster.namespace)) == 1


def test_a_message_that_is_a_day_late_is_not_sent(quiet, replicas, cluster, chat):
    for number in (1, 2, 3):
        assert quiet.deploy(image=f"acme/web:{number}").status == 200
    leave_messages(cluster, timedelta(minutes=2), timedelta(hours=23), timedelta(hours=25))
    assert replicas[0].show().status == 200
    cluster.simulation.wait_for(lambda: [each["told"] for each in records(cluster)] == [False, True, True])
    assert sorted(each["message"].splitlines()[1].split(",")[0] for each in chat.about(cluster.namespace)) == [
        "image acme/web:2",
        "image acme/web:3",
    ]


def test_a_dead_url_and_two_replicas_make_one_message(admin, chat, cluster, tmp_path, monkeypatch):
    """The attempts to reach the dead URL take longer than a claim lasts."""
    for name, value in {"MAX_ATTEMPTS": 12, "MIN_PAUSE_SECONDS": 0.6, "MAX_PAUSE_SECONDS": 0.6}.items():
        monkeypatch.setattr(f"rollout.notify.{name}", value)
    for module in ("aftermath", "monitor"):
        monkeypatch.setattr(f"rollout.{module}.MAX_NOTIFYING_SECONDS", 3)
    urls = tmp_path / "urls"
    urls.write_text(f"json://127.0.0.1:{chat.port}/\njson://127.0.0.1:1/\n")
    clients = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        settings = {"SETTLE_SECONDS": "0", "NOTIFY_URLS_FILE": str(urls), "KUBECONFIG": str(admin.kubeconfig)}
        clients.append(quiet_client(tmp_path / name, **settings))
        clients[-1].reset(cluster.namespace)
    sender, other = clients
    assert sender.deploy().status == 200

    def is_told():
        other.show()
        time.sleep(0.3)
        return records(cluster)[0]["told"]

    started = time.monotonic()
    wait_for(is_told, 20)
    assert time.monotonic() - started > 3
    time.sleep(1)
    assert len(chat.about(cluster.namespace)) == 1
