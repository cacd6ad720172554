"""A process that dies leaves nothing undone: the next process finishes what it finds in the cluster."""

import json

import pytest

from tests.conftest import ConfiguredService, deployment
from tests.rollout.helpers import (
    Gate,
    asked,
    deploy_and_hold,
    fail,
    image_of,
    in_background,
    let_a_minute_pass,
    limit_pods,
    phases,
    records,
    restart,
    wait_for_records,
)
from tests.service import wait_for

pytestmark = pytest.mark.simulated_only


@pytest.fixture
def service(notifying):
    return notifying


def test_killed_during_a_rollout(service, cluster, chat):
    rollout_id = deploy_and_hold(service, cluster, image="acme/web:2", cause="build 7")
    assert len(chat.about(cluster.namespace)) == 1
    restart(service)
    assert service.show(id=rollout_id).status == 202
    limit_pods(cluster, None)
    ended = service.show(id=rollout_id, wait=True)
    assert (ended.status, ended.json()["id"], ended.json()["revision"]) == (200, rollout_id, 2)
    history = service.show()
    assert phases(history) == ["complete", "complete"]
    assert [each["cause"] for each in history.json()["history"]] == ["build 7", "deploy acme/web:1"]
    wait_for(lambda: len(chat.about(cluster.namespace)) == 2)


def test_killed_before_the_rollout_is_recorded(service, cluster):
    service.deploy()
    wait_for_records(cluster, 1, told=True)
    limit_pods(cluster, 1)
    gate = Gate(cluster, "PATCH", "configmaps")
    rollout_id = service.deploy(image="acme/web:missing", wait=False).json()["id"]
    gate.wait_until_reached()
    service.kill()
    gate.open()
    assert len(records(cluster)) == 1
    service.start()
    limit_pods(cluster, None)
    # The new process finds it by itself: no client asks for it.
    cluster.simulation.wait_for(lambda: [each["rollout"]["phase"] for each in records(cluster)][1:] == ["failed"])
    ended = service.show(id=rollout_id, wait=5)
    assert (ended.status, ended.json()["image"]) == (424, "acme/web:missing")
    assert ended.json()["changes"] == ["image: acme/web:1 -> acme/web:missing"]


@pytest.fixture
def automatic(services, notify_settings, cluster):
    """Serve with ROLLBACK_ON_FAILURE, and start again what a test has ended."""
    service = services(**notify_settings, ROLLBACK_ON_FAILURE="true")
    service.reset(cluster.namespace)
    if service.process.poll() is not None:
        service.start()
    return service


def deploy_and_kill(service, cluster, **fields):
    """Deploy once, then again with these fields, and kill the service right after the 200; return the rollout id."""
    service.deploy()
    wait_for_records(cluster, 1, told=True)
    limit_pods(cluster, 1)
    gate = Gate(cluster, "PATCH", "configmaps")
    answer = service.deploy(wait=False, **fields)
    assert answer.status == 200
    service.kill()
    gate.open()
    assert len(records(cluster)) == 1
    return answer.json()["id"]


def test_killed_after_the_answer_what_the_signal_asked_for_holds(service, cluster):
    rollout_id = deploy_and_kill(service, cluster, image="acme/web:missing", rollback_on_failure=True)
    service.start()
    limit_pods(cluster, None)
    cluster.simulation.wait_for(lambda: image_of(cluster.get()).startswith("acme/web@sha256:"))
    ended = service.show(id=rollout_id, wait=5)
    assert (ended.status, ended.json()["rolled_back_to"]) == (424, 1)


def test_killed_after_the_answer_a_signal_that_wants_no_rollback_gets_none(automatic, cluster):
    rollout_id = deploy_and_kill(automatic, cluster, image="acme/web:missing", rollback_on_failure=False)
    automatic.start()
    limit_pods(cluster, None)
    ended = automatic.show(id=rollout_id, wait=20)
    assert (ended.status, ended.json()["rolled_back_to"]) == (424, None)
    wait_for_records(cluster, 2, rollback="none", rollback_on_failure=False)
    assert image_of(cluster.get()) == "acme/web:missing"


def test_another_replica_knows_what_the_signal_asked_for(service, replica, cluster):
    """The image is that of the second container; without the signal the rollout would be about the first one's."""
    manifest = deployment()
    manifest["spec"]["template"]["spec"]["containers"].insert(0, {"name": "proxy", "image": "acme/proxy:1"})
    service.configure("web", manifest)
    replica.configure("web", manifest)
    rollout_id = deploy_and_kill(service, cluster, image="acme/web:missing", rollback_on_failure=True)
    shown = replica.show(id=rollout_id)
    assert (shown.status, shown.json()["image"]) == (202, "acme/web:missing")
    wait_for_records(cluster, 2, rollback_on_failure=True)
    limit_pods(cluster, None)
    ended = replica.show(id=rollout_id, wait=20)
    assert (ended.status, ended.json()["image"], ended.json()["rolled_back_to"]) == (424, "acme/web:missing", 1)
    # A rollback is no signal that deploys: of what that one asked for, only its key still counts.
    noted = json.loads(cluster.get()["metadata"]["annotations"]["auto-deployer/signal"])
    assert (noted["image"], noted["rollback_on_failure"]) == (None, None)
    assert [earlier for earlier, *_ in noted["earlier"]][-1] == rollout_id


def test_killed_between_verdict_and_rollback(service, cluster, chat):
    rollout_id = deploy_and_hold(service, cluster, image="acme/web:missing", rollback_on_failure=True)
    gate = Gate(cluster, "GET", "deployments/web")
    limit_pods(cluster, None)
    # The gate alone doesn't tell that there is a verdict: a minute after its start the service looks for unfinished
    # rollouts, and reads the Deployment for that too.
    wait_for_records(cluster, 2, rollback="pending")
    gate.wait_until_reached()
    assert (records(cluster)[1]["rollout"]["phase"], records(cluster)[1]["rollback"]) == ("failed", "pending")
    service.kill()
    gate.open()
    assert image_of(cluster.get()) == "acme/web:missing"
    let_a_minute_pass(cluster)
    service.start()
    cluster.simulation.wait_for(lambda: image_of(cluster.get()).startswith("acme/web@sha256:"))
    wait_for(lambda: len(chat.about(cluster.namespace)) == 3)
    ended = service.show(id=rollout_id)
    assert (ended.status, ended.json()["rolled_back_to"]) == (424, 1)
    assert service.show(wait=True).json()["rolled_back_to"] == 1
    assert phases(service.show()) == ["complete", "failed", "complete"]
    assert records(cluster)[1]["rollback"] == "done"


def test_killed_between_rollback_and_notification(service, cluster, chat):
    rollout_id = deploy_and_hold(service, cluster, image="acme/web:missing", rollback_on_failure=True)
    gates = []
    # The rollback is sent, and from then on nothing more is recorded.
    fail(cluster, 1, "PATCH", "deployments/web", call=lambda: gates.append(Gate(cluster, "PATCH", "configmaps")))
    limit_pods(cluster, None)
    cluster.simulation.wait_for(lambda: gates)
    gates[0].wait_until_reached()
    service.kill()
    gates[0].open()
    assert image_of(cluster.get()).startswith("acme/web@sha256:")
    assert records(cluster)[1]["rollback"] == "pending"
    let_a_minute_pass(cluster)
    service.start()
    cluster.simulation.wait_for(lambda: records(cluster)[1]["rollback"] == "done")
    ended = service.show(id=rollout_id)
    assert (ended.status, ended.json()["rolled_back_to"]) == (424, 1)
    now = service.show(wait=True)
    assert (now.status, now.json()["rolled_back_to"], len(now.json()["history"])) == (200, 1, 3)
    # One message each: what worked, what failed and was rolled back, and the rollback.
    wait_for(lambda: len(chat.about(cluster.namespace)) == 3)
    failed = [each for each in chat.about(cluster.namespace) if "failed" in each["title"]]
    assert len(failed) == 1
    assert "rolled back to revision 1" in failed[0]["message"]
    assert len(asked(cluster, "patch", "deployments")) == 2


def test_sigterm_while_a_client_waits(admin, cluster, tmp_path):
    service = ConfiguredService(tmp_path, KUBECONFIG=str(admin.kubeconfig), SETTLE_SECONDS="0")
    service.reset(cluster.namespace)
    with service:
        # At its start it looks for unfinished rollouts.
        cluster.simulation.wait_for(lambda: asked(cluster, "get", "deployments"))
        limit_pods(cluster, 0)
        waiting = in_background(service.deploy, wait=20)
        wait_for_records(cluster, 1)
        # To answer, the service reads the records: once it has asked for them again, the request is at work.
        before = len(asked(cluster, "get", "configmaps"))
        short = in_background(service.show, wait=1)
        cluster.simulation.wait_for(lambda: len(asked(cluster, "get", "configmaps")) > before)
        service.process.terminate()
        assert short.result().status == 202
        assert not waiting.done()
        limit_pods(cluster, None)
        answer = waiting.result()
        assert (answer.status, answer.json()["phase"]) == (200, "complete")
        service.ended(20)
