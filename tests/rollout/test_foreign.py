"""Rollouts that another client starts, such as kubectl: they are shown live, and never recorded."""

import pytest

from manifest.annotations import REVISION
from tests.rollout.helpers import (
    FIELDS,
    fail,
    image_of,
    in_background,
    revision_of,
    set_image,
    without_history,
)


def set_env(cluster, **env):
    """Do as `kubectl set env` does."""
    entries = [{"name": name, "value": value} for name, value in env.items()]
    return cluster.patch({"spec": {"template": {"spec": {"containers": [{"name": "web", "env": entries}]}}}})


def undo(cluster, to):
    """Do as `kubectl rollout undo --to-revision` does: take template and annotations of that ReplicaSet."""
    replica_set = next(each for each in cluster.replica_sets() if revision_of(each) == to)
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


def test_foreign_rollouts_are_shown_live_beside_our_history(service, cluster):
    ours = service.deploy()
    ours_id = ours.json()["id"]

    def is_foreign(image):
        shown = service.show(wait=True)
        assert (shown.status, shown.json()["phase"]) == (200, "complete"), shown.text
        assert shown.json().keys() == FIELDS
        live = max(cluster.replica_sets(), key=revision_of)
        assert shown.json()["id"] == live["metadata"]["name"]
        assert shown.json()["revision"] == revision_of(live)
        assert shown.json()["image"] == image
        assert [each["id"] for each in shown.json()["history"]] == [ours_id]
        assert without_history(service.show(id=ours_id)) == without_history(ours)
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
    # The next signal and the next rollback work as if there were no foreign rollouts.
    third = service.deploy(image="acme/web:3")
    assert (third.status, len(third.json()["history"])) == (200, 2)
    back = service.roll_back()
    assert (back.status, back.json()["rolled_back_to"], image_of(cluster.get()).split("@")[0]) == (200, 1, "acme/web")
    assert [each["image"].split("@")[0] for each in back.json()["history"]] == ["acme/web", "acme/web:3", "acme/web:1"]


def test_a_foreign_rollout_can_be_asked_for_by_its_id(service, cluster):
    service.deploy()
    set_image(cluster, "acme/web:2")
    foreign = service.show(wait=True).json()
    again = service.show(id=foreign["id"], wait=1)
    assert (again.status, without_history(again)["id"]) == (200, foreign["id"])


def test_a_foreign_rollout_that_fails_is_shown_and_can_be_rolled_back_to_ours(service, cluster):
    ours = service.deploy()
    set_image(cluster, "acme/web:missing")
    shown = service.show(wait=True)
    assert (shown.status, shown.json()["causes"][0]["reason"]) == (424, "ErrImagePull")
    assert len(shown.json()["history"]) == 1
    back = service.roll_back()
    assert (back.status, back.json()["rolled_back_to"]) == (200, 1)
    assert image_of(cluster.get()) == f"acme/web@{ours.json()['digest']}"


def test_set_image_supersedes_our_rollout(service, cluster):
    waiting = in_background(service.deploy, image="acme/web:unready")
    cluster.wait_for(cluster.replica_sets)
    set_image(cluster, "acme/web:2")
    answer = waiting.result()
    assert (answer.status, answer.json()["phase"]) == (409, "superseded")
    assert service.show(wait=True).json()["id"] in {each["metadata"]["name"] for each in cluster.replica_sets()}
    assert service.show(id=answer.json()["id"]).status == 409


def test_a_foreign_rollout_that_progresses_is_answered_when_the_time_is_up(service, cluster):
    service.deploy()
    set_image(cluster, "acme/web:unready")
    cluster.wait_for(lambda: len(cluster.replica_sets()) == 2)
    shown = service.show(wait=0.2)
    assert (shown.status, shown.json()["phase"], shown.json()["image"]) == (202, "progressing", "acme/web:unready")
    assert shown.json()["id"] == max(cluster.replica_sets(), key=revision_of)["metadata"]["name"]
    assert len(shown.json()["history"]) == 1


def test_a_foreign_rollout_that_is_paused_is_answered_at_once(service, cluster):
    service.deploy()
    cluster.patch({"spec": {"paused": True}})
    set_image(cluster, "acme/web:2")
    shown = service.show(wait=True)
    assert (shown.status, shown.json()["phase"]) == (409, "paused")
    assert [each["phase"] for each in shown.json()["history"]] == ["complete"]


@pytest.mark.simulated_only
def test_a_get_ends_in_time_while_the_deployment_cannot_be_read_again(service, cluster):
    service.deploy()
    set_image(cluster, "acme/web:2")
    assert service.show(wait=10).json()["phase"] == "complete"
    refused = fail(cluster, 0, "GET", "deployments/web", status=429)
    # The first read of the request is answered, no later one.
    fail(cluster, 1, "GET", "deployments/web", call=lambda: setattr(refused, "times", 1000))
    watched = service.show(wait=1)
    assert (watched.status, watched.json()["phase"]) == (200, "complete")
    assert refused.times == 1000
