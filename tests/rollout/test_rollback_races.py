"""Rollbacks while another client, or another replica, changes the Deployment in the same moment."""

import json

import pytest

from tests.rollout.helpers import (
    asked,
    deploy_and_hold,
    fail,
    id_of,
    image_of,
    limit_pods,
    phases,
    quiet_client,
    set_image,
    wait_for_records,
)

pytestmark = pytest.mark.simulated_only


@pytest.fixture
def other(admin, cluster, tmp_path):
    """Serve as a second replica of `quiet`, which finishes only what it is asked for."""
    (tmp_path / "other").mkdir()
    client = quiet_client(tmp_path / "other", KUBECONFIG=str(admin.kubeconfig), SETTLE_SECONDS="0")
    client.reset(cluster.namespace)
    return client


def test_an_automatic_rollback_does_not_overwrite_a_hotfix(quiet, cluster):
    rollout_id = deploy_and_hold(quiet, cluster, image="acme/web:missing", rollback_on_failure=True)
    fail(cluster, 1, "PATCH", "deployments/web", call=lambda: set_image(cluster, "acme/web:hotfix"))
    limit_pods(cluster, None)
    answer = quiet.show(id=rollout_id, wait=20)
    assert (answer.status, answer.json()["rolled_back_to"]) == (424, None)
    assert image_of(cluster.get()) == "acme/web:hotfix"


def test_a_rollback_that_is_asked_for_starts_from_the_hotfix_that_is_there_now(quiet, cluster):
    quiet.deploy(image="acme/web:1")
    second = quiet.deploy(image="acme/web:2").json()
    fail(cluster, 1, "PATCH", "deployments/web", call=lambda: set_image(cluster, "acme/web:hotfix"))
    answer = quiet.roll_back()
    # Before the hotfix, revision 2 was live, and the rollback would have gone to revision 1.
    assert (answer.status, answer.json()["rolled_back_to"]) == (200, 2)
    assert image_of(cluster.get()) == f"acme/web@{second['digest']}"


def test_a_pause_in_between_stops_a_rollback(quiet, cluster):
    quiet.deploy(image="acme/web:1")
    quiet.deploy(image="acme/web:2")
    fail(cluster, 1, "PATCH", "deployments/web", call=lambda: cluster.patch({"spec": {"paused": True}}))
    answer = quiet.roll_back()
    assert (answer.status, answer.json()["reason"]) == (409, "Paused")
    assert image_of(cluster.get()) == "acme/web:2"


def test_a_rollback_whose_answer_was_lost_goes_no_further_back(quiet, cluster):
    for number in (1, 2, 3):
        quiet.deploy(image=f"acme/web:{number}")
    sent = []

    def arrives():
        # The first of two calls arrives, though its answer is lost.
        sent.append(json.loads(asked(cluster, "patch", "deployments")[-1].body))
        cluster.patch(sent[0])

    fail(cluster, 1, "PATCH", "deployments/web", call=arrives, drop=True)
    answer = quiet.roll_back()
    assert (answer.status, answer.json()["rolled_back_to"]) == (200, 2)
    assert len(sent) == 1
    assert cluster.get()["metadata"]["generation"] == 4
    assert phases(quiet.show()) == ["complete"] * 4


def test_a_second_replica_that_starts_in_between_makes_no_second_rollback(quiet, other, cluster):
    rollout_id = deploy_and_hold(quiet, cluster, image="acme/web:missing", rollback_on_failure=True)
    ids = []

    def second_replica():
        # It finds the rollback pending, and carries it out, between our read and our patch.
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("rollout.monitor.MAX_NOTIFYING_SECONDS", 0)
            other.show(id=rollout_id)
        cluster.simulation.wait_for(lambda: image_of(cluster.get()).startswith("acme/web@sha256:"))
        ids.append(id_of(cluster.get()))

    fail(cluster, 1, "PATCH", "deployments/web", call=second_replica)
    limit_pods(cluster, None)
    answer = quiet.show(id=rollout_id, wait=20)
    assert (answer.status, answer.json()["rolled_back_to"]) == (424, 1)
    assert ids == [id_of(cluster.get())]
    assert quiet.show(wait=True).status == 200
    wait_for_records(cluster, 3)
    assert cluster.get()["metadata"]["generation"] == 3
