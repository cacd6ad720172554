"""Automatic rollbacks over HTTP: the signal or ROLLBACK_ON_FAILURE wants them."""

import re

import pytest

from manifest.annotations import CHANGE_CAUSE
from tests.conftest import deployment, role
from tests.rollout.helpers import DIGEST, id_of, image_of, phases

FIRST, SECOND = (f"sha256:{digit * 64}" for digit in "12")


@pytest.mark.simulated_only
def test_the_tag_latest_points_to_a_broken_image_by_now(service, cluster):
    service.configure("web", deployment(image="acme/web:latest"))
    cluster.simulation.digests["acme/web:latest"] = FIRST
    service.deploy()
    cluster.simulation.digests["acme/web:latest"] = SECOND
    cluster.simulation.behaviours[SECOND] = "badconfig"
    try:
        failed = service.deploy(rollback_on_failure=True)
        assert (failed.status, failed.json()["rolled_back_to"]) == (424, 1)
        assert service.show(wait=True).json()["digest"] == FIRST
        assert image_of(cluster.get()) == f"acme/web@{FIRST}"
    finally:
        cluster.simulation.behaviours.clear()


def test_a_failure_is_rolled_back_if_the_signal_says_so(service, cluster):
    first = service.deploy()
    answer = service.signal(image="acme/web:missing", wait=True, rollback_on_failure=True)
    assert (answer.status, answer.text.split()[0].rstrip(":")) == (424, "failed")
    lines = answer.text.splitlines()
    assert lines[0].startswith("failed: revision 2 of web")
    assert lines[-2].startswith("changed since revision 1, the last that worked: image acme/web:1 -> acme/web:missing")
    assert lines[-1] == "rolled back to revision 1"
    now = service.show(wait=True)
    assert (now.status, now.json()["rolled_back_to"], now.json()["phase"]) == (200, 1, "complete")
    assert image_of(cluster.get()) == f"acme/web@{first.json()['digest']}"
    failed = now.json()["history"][1]
    assert (failed["phase"], failed["image"]) == ("failed", "acme/web:missing")
    again = service.show(id=failed["id"])
    assert (again.status, again.json()["rolled_back_to"]) == (424, 1)


def test_a_rollback_after_an_automatic_one_is_refused_unless_it_names_a_revision(automatic, cluster):
    automatic.deploy(image="acme/web:1")
    automatic.deploy(image="acme/web:2")
    assert automatic.deploy(image="acme/web:missing").json()["rolled_back_to"] == 2
    automatic.show(wait=True)
    before = cluster.get()
    refused = automatic.roll_back()
    assert (refused.status, refused.json()["reason"]) == (409, "AlreadyRolledBack")
    words = 'revision 3 has failed and is rolled back to revision 2 already; choose with "revision": 1'
    assert refused.json()["error"] == words
    assert id_of(cluster.get()) == id_of(before)
    further = automatic.roll_back(revision=1)
    assert (further.status, further.json()["rolled_back_to"]) == (200, 1)
    # The one that runs now was asked for.
    assert automatic.roll_back().status == 200


def test_a_failure_is_not_rolled_back_unless_the_signal_says_so(service, cluster):
    service.deploy()
    for fields in ({}, {"rollback_on_failure": False}):
        answer = service.deploy(image="acme/web:missing", **fields)
        assert (answer.status, answer.json()["rolled_back_to"]) == (424, None)
        assert image_of(cluster.get()) == "acme/web:missing"


def test_the_signal_takes_precedence_over_the_setting(automatic, cluster):
    automatic.deploy()
    answer = automatic.deploy(image="acme/web:missing", rollback_on_failure=False)
    assert (answer.status, answer.json()["rolled_back_to"]) == (424, None)
    assert image_of(cluster.get()) == "acme/web:missing"
    answer = automatic.deploy(image="acme/web:missing2")
    assert (answer.status, answer.json()["rolled_back_to"]) == (424, 1)
    assert automatic.show(wait=True).status == 200


def test_nothing_is_rolled_back_if_no_rollout_has_worked(automatic, cluster):
    generation = None
    for _ in range(2):
        answer = automatic.deploy(image="acme/web:missing", rollback_on_failure=True)
        assert (answer.status, answer.json()["rolled_back_to"]) == (424, None)
        assert id_of(cluster.get()) == answer.json()["id"]
        generation = cluster.get()["metadata"]["generation"]
    assert phases(automatic.show()) == ["failed", "failed"]
    assert cluster.get()["metadata"]["generation"] == generation


def test_the_target_may_be_a_foreign_replica_set_whose_pods_still_serve(automatic, cluster):
    cluster.create(deployment())
    cluster.wait_for(lambda: cluster.get()["status"].get("availableReplicas") == 1)
    answer = automatic.deploy(image="acme/web:missing")
    assert (answer.status, answer.json()["rolled_back_to"]) == (424, 1)
    # The target is what its pods run, since a tag may point to the broken image by now.
    assert re.fullmatch(rf"acme/web@{DIGEST}", image_of(cluster.get()))
    assert "unverified" in cluster.get()["metadata"]["annotations"][CHANGE_CAUSE]


def test_a_foreign_replica_set_that_never_served_is_only_a_target_if_a_client_asks(automatic, cluster):
    cluster.create(deployment(image="acme/web:unready"))
    cluster.wait_for(lambda: cluster.get()["status"].get("updatedReplicas") == 1)
    answer = automatic.deploy(image="acme/web:missing", wait=20)
    assert (answer.status, answer.json()["rolled_back_to"]) == (424, None)
    assert image_of(cluster.get()) == "acme/web:missing"
    # A client may ask for it: the target is the previous ReplicaSet, and the cause says that it may never have worked.
    back = automatic.roll_back(wait=False)
    assert (back.status, back.json()["rolled_back_to"], image_of(cluster.get())) == (200, 1, "acme/web:unready")
    assert "unverified" in cluster.get()["metadata"]["annotations"][CHANGE_CAUSE]


@pytest.mark.simulated_only
def test_a_rollback_is_never_rolled_back_automatically(automatic, cluster):
    automatic.deploy(image="acme/web:1")
    first = automatic.deploy(image="acme/web:2").json()
    automatic.deploy(image="acme/web:3")
    cluster.simulation.behaviours[first["digest"]] = "badconfig"
    try:
        answer = automatic.roll_back()
        assert (answer.status, answer.json()["rolled_back_to"]) == (424, 2)
        assert image_of(cluster.get()) == f"acme/web@{first['digest']}"
        assert phases(automatic.show()) == ["failed", "complete", "complete", "complete"]
    finally:
        cluster.simulation.behaviours.clear()


def test_a_rollback_after_an_automatic_one_asks_for_a_revision(services, cluster):
    service = services(SETTLE_SECONDS="0")
    service.reset(cluster.namespace)
    for image in ("acme/web:1", "acme/web:2"):
        assert service.deploy(image=image).status == 200
    service.deploy(image="acme/web:missing", rollback_on_failure=True)
    assert service.show(wait=20).json()["rolled_back_to"] == 2
    refused = service.roll_back()
    assert (refused.status, refused.json()["reason"]) == (409, "AlreadyRolledBack")
    assert "revision 3 has failed and is rolled back to revision 2 already" in refused.json()["error"]
    assert refused.json()["error"].endswith('choose with "revision": 1')
    assert cluster.get()["metadata"]["annotations"]["auto-deployer/rolled-back-to"] == "2"
    chosen = service.roll_back(revision=1)
    assert (chosen.status, chosen.json()["rolled_back_to"]) == (200, 1)
    # The automatic rollback isn't the newest any more: from here a rollback without a number goes back one step.
    assert service.roll_back().status == 200


def test_the_records_count_also_while_they_cannot_be_written(automatic, cluster):
    assert automatic.deploy(image="acme/web:1").status == 200
    rules = [rule for rule in role() if "configmaps" not in rule["resources"]]
    cluster.allow([*rules, {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}])
    automatic.deploy(image="acme/web:missing")
    cluster.wait_for(lambda: cluster.get()["metadata"]["annotations"].get("auto-deployer/rolled-back-to") == "1")
    # Not "(unverified)": revision 1 is recorded to have worked.
    assert cluster.get()["metadata"]["annotations"][CHANGE_CAUSE] == "rollback to revision 1"
