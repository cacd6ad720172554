"""A Deployment with the annotation auto-deployer/locked: no deploy is accepted, a rollback still is."""

import pytest

from tests.rollout.helpers import image_of, limit_pods, wait_for_records
from tests.service import PASSWORD, wait_for

FREEZE = "release freeze until Monday"


def lock(cluster, text=FREEZE):
    """Do as `kubectl annotate` does; None takes the lock away."""
    cluster.patch({"metadata": {"annotations": {"auto-deployer/locked": text}}})


@pytest.mark.parametrize(
    ("text", "words"), [(FREEZE, f"is locked: {FREEZE}; nothing was changed"), ("", "is locked; nothing was changed")]
)
@pytest.mark.parametrize("dry_run", [False, True])
def test_a_deploy_is_refused_and_changes_nothing(service, cluster, text, words, dry_run):
    assert service.deploy().json()["locked"] is None
    lock(cluster, text)
    before = cluster.get()
    answer = service.deploy(image="acme/web:2", dry_run=dry_run)
    assert (answer.status, answer.json()["reason"]) == (409, "Locked")
    assert words in answer.json()["error"]
    assert f"kubectl annotate deployment/web -n {cluster.namespace} auto-deployer/locked-" in answer.json()["error"]
    assert cluster.get()["metadata"]["generation"] == before["metadata"]["generation"]
    assert cluster.get()["metadata"]["annotations"] == before["metadata"]["annotations"]
    lock(cluster, None)
    assert service.deploy(image="acme/web:2").status == 200


def test_a_rollback_still_works_and_leaves_the_lock(service, cluster):
    service.deploy(image="acme/web:1")
    service.deploy(image="acme/web:2")
    lock(cluster)
    back = service.roll_back()
    assert (back.status, back.json()["rolled_back_to"], back.json()["locked"]) == (200, 1, FREEZE)
    at_once = service.roll_back(wait=False, revision=2)
    assert (at_once.status, at_once.json()["locked"]) == (200, FREEZE)
    assert service.deploy().status == 409


def test_the_automatic_rollback_still_works(automatic, cluster):
    automatic.deploy()
    automatic.deploy(image="acme/web:missing", wait=False)
    lock(cluster)
    cluster.wait_for(lambda: image_of(cluster.get()).startswith("acme/web@sha256:"))
    assert automatic.show(wait=True).json()["rolled_back_to"] == 1


@pytest.mark.parametrize(("text", "line"), [(FREEZE, f"locked: {FREEZE}"), ("", "locked"), ("a\nb", "locked: a b")])
def test_every_answer_shows_the_lock(service, cluster, text, line):
    rollout_id = service.deploy().json()["id"]
    wait_for_records(cluster, 1, told=True)
    lock(cluster, text)
    for query in ({}, {"id": rollout_id}):
        shown = service.show(**query)
        assert (shown.status, shown.json()["locked"]) == (200, text)
        assert line in service.show(accept="text/plain", **query).text.splitlines()
        assert f"**{line}**" in service.show(accept="text/markdown", **query).text.splitlines()
    lock(cluster, None)
    assert service.show().json()["locked"] is None
    assert "locked" not in service.show(accept="text/plain").text


def test_while_a_rollout_is_watched_the_watch_tells_of_the_lock(service, cluster):
    service.deploy()
    limit_pods(cluster, 1)
    service.deploy(image="acme/web:2", wait=False)
    lock(cluster)
    wait_for(lambda: service.show(wait=0.1).json()["locked"] == FREEZE)
    assert service.show().status == 202
    limit_pods(cluster, None)
    assert service.show(wait=20).json()["locked"] == FREEZE


@pytest.mark.parametrize(("text", "line"), [(FREEZE, f"locked: web: {FREEZE}"), ("", "locked: web")])
def test_a_check_reports_the_lock_and_does_not_fail(service, cluster, text, line):
    service.deploy()
    lock(cluster, text)
    answer = service.get("/check", Authorization=f"Bearer {PASSWORD}")
    assert (answer.status, answer.text.splitlines()[:2]) == (200, ["ok: web: a deploy would work", line])
    (check,) = service.get("/check", Authorization=f"Bearer {PASSWORD}", Accept="application/json").json()["checks"]
    assert (check["ok"], check["locked"], check["problems"]) == (True, text, [])
