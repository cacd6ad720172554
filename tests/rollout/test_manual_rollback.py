"""Rollbacks over HTTP that a client asks for."""

import json

import pytest

from tests.conftest import deployment
from tests.rollout.helpers import FIELDS, NO_SPEC, id_of, image_of, listed, phases
from tests.service import PASSWORD

FIRST, SECOND = (f"sha256:{digit * 64}" for digit in "12")


def running_digest(cluster):
    """Return the imageID of the pod, as soon as only one is left."""

    def ready():
        pods = [each for each in listed(cluster, "pods") if "containerStatuses" in each["status"]]
        alive = [each for each in pods if "deletionTimestamp" not in each["metadata"]]
        return alive[0] if len(alive) == 1 else None

    return cluster.wait_for(ready)["status"]["containerStatuses"][0]["imageID"]


def test_a_rollback_goes_to_the_last_rollout_that_worked_by_its_digest(service, cluster):
    first = service.deploy(image="acme/web:1").json()
    service.deploy(image="acme/web:2")
    failed = service.deploy(image="acme/web:missing").json()
    assert failed["phase"] == "failed"
    answer = service.roll_back()
    rollout = answer.json()
    assert (answer.status, rollout.keys(), rollout["phase"]) == (200, FIELDS, "complete")
    assert (rollout["rolled_back_to"], rollout["revision"]) == (2, 4)
    assert rollout["id"] == id_of(cluster.get())
    second = rollout["history"][2]
    assert image_of(cluster.get()) == f"acme/web@{second['digest']}"
    assert rollout["digest"] == second["digest"]
    # A second rollback goes further back, and not to the rollout that failed.
    further = service.roll_back(cause="second thoughts")
    assert (further.status, further.json()["rolled_back_to"]) == (200, 1)
    assert image_of(cluster.get()) == f"acme/web@{first['digest']}"
    assert phases(further) == ["complete", "complete", "failed", "complete", "complete"]
    # The first rollback has worked too, so it is the next target.
    assert service.roll_back().json()["rolled_back_to"] == 4


def test_a_rollback_in_text_and_without_wait(service):
    service.deploy()
    service.deploy(image="acme/web:2")
    answer = service.post("/deployment/web/rollback", {"pw": PASSWORD})
    assert (answer.status, answer.text.split()[0].rstrip(":")) == (200, "ok")
    # It has only begun.
    assert answer.text.splitlines()[1:] == ["the rollback to revision 1 has begun; Kubernetes rolls it out now"]
    ended = service.show(accept="text/plain", wait=True)
    assert (ended.status, ended.text.split()[0].rstrip(":")) == (200, "ok")
    assert "rolled back to revision 1" in ended.text
    assert service.show().json()["rolled_back_to"] == 1


def test_a_rollback_to_a_revision_even_to_one_that_failed(service, cluster):
    service.deploy(image="acme/web:1")
    service.deploy(image="acme/web:missing")
    service.deploy(image="acme/web:3")
    answer = service.roll_back(revision=2)
    assert (answer.status, answer.json()["rolled_back_to"]) == (424, 2)
    assert image_of(cluster.get()) == "acme/web:missing"
    good = service.roll_back(revision=3)
    assert (good.status, good.json()["rolled_back_to"]) == (200, 3)


def test_nothing_to_roll_back_to(service, cluster):
    assert (service.roll_back().status, service.roll_back(revision=1).status) == (404, 404)
    service.deploy()
    before = cluster.get()
    for fields in ({}, {"revision": 1}, {"revision": 99}):
        answer = service.roll_back(**fields)
        assert (answer.status, isinstance(answer.json()["error"], str)) == (409, True)
    assert "99" in service.roll_back(revision=99).json()["error"]
    # A second rollout of the same template is no target either.
    service.deploy()
    assert service.roll_back().status == 409
    assert id_of(cluster.get()) > id_of(before)


@pytest.mark.simulated_only
def test_latest_deployed_twice_goes_back_to_the_first_digest(service, cluster):
    service.configure("web", deployment(image="acme/web:latest"))
    registry = cluster.simulation.digests
    registry["acme/web:latest"] = FIRST
    first = service.deploy().json()
    registry["acme/web:latest"] = SECOND
    second = service.deploy().json()
    assert [first["digest"], second["digest"]] == [FIRST, SECOND]
    assert first["image"] == second["image"] == "acme/web:latest"
    back = service.roll_back()
    assert (back.status, back.json()["rolled_back_to"], back.json()["digest"]) == (200, 1, FIRST)
    assert image_of(cluster.get()) == f"acme/web@{FIRST}"
    assert {running_digest(cluster)} == {f"docker.io/acme/web@{FIRST}"}
    forth = service.roll_back(revision=2)
    assert (forth.status, image_of(cluster.get())) == (200, f"acme/web@{SECOND}")
    # The next signal deploys what the manifest says.
    service.deploy()
    assert image_of(cluster.get()) == "acme/web:latest"


# A dry run, and fields that a rollback doesn't take


def test_a_dry_run_of_a_rollback_changes_nothing(service, cluster):
    service.deploy()
    shown = service.deploy(image="acme/web:2").json()
    before, rollbacks = cluster.get(), service.get("/metrics").text.count("auto_deployer_rollbacks_total{")
    answer = service.roll_back(dry_run=True, cause="would it work?")
    assert (answer.status, answer.json()["rolled_back_to"], answer.json()["phase"]) == (200, 1, "complete")
    assert answer.json()["message"] == "dry run: the API server accepts it all, and nothing was changed"
    assert answer.json()["history"] == []
    assert cluster.get()["spec"] == before["spec"]
    assert cluster.get()["metadata"]["annotations"] == before["metadata"]["annotations"]
    assert service.show().json() == shown
    assert service.get("/metrics").text.count("auto_deployer_rollbacks_total{") == rollbacks


@pytest.mark.simulated_only
def test_the_api_server_checks_a_dry_run_of_a_rollback(service, cluster):
    assert service.roll_back(dry_run=True).status == 404
    service.deploy()
    assert service.roll_back(dry_run=True).status == 409
    service.deploy(image="acme/web:2")
    service.roll_back(dry_run=True)
    sent = [each for each in cluster.requests if each.method == "PATCH" and each.resource == "deployments"]
    assert sent[-1].query["dryRun"] == "All"
    cluster.patch({"spec": {"paused": True}})
    assert service.roll_back(dry_run=True).status == 409


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"dry_run": "nonsense"}, "dry_run must be true or false"),
        ({"dry_run": 1}, "dry_run must be true or false"),
        ({"image": "acme/web:1"}, "a rollback takes no image"),
        ({"rollback_on_failure": True}, "a rollback takes no rollback_on_failure"),
        ({"rollback_on_failure": None}, "a rollback takes no rollback_on_failure"),
    ],
)
def test_a_field_that_a_rollback_cannot_honour_is_refused(service, cluster, fields, sentence):
    service.deploy()
    service.deploy(image="acme/web:2")
    before = cluster.get()["spec"]
    answer = service.roll_back(**fields)
    assert (answer.status, answer.json()) == (400, {"error": sentence, "reason": "BadRequest"})
    assert cluster.get()["spec"] == before


# Images pinned by a rollback


def test_a_rollback_of_a_manifest_without_spec_notes_the_images(service, cluster):
    cluster.create(deployment())
    service.configure("web", NO_SPEC)
    first = service.deploy()
    assert (first.status, first.json()["image"]) == (200, "acme/web:1")
    assert service.deploy(image="acme/web:2").status == 200
    back = service.roll_back()
    assert (back.status, back.json()["rolled_back_to"]) == (200, first.json()["revision"])
    live = cluster.get()
    assert image_of(live) == f"acme/web@{first.json()['digest']}"
    unpinned = live["spec"]["template"]["metadata"]["annotations"]["auto-deployer/unpinned"]
    assert json.loads(unpinned) == {"web": "acme/web:1"}
    # Without the note each later signal would deploy the old digest again.
    again = service.deploy()
    assert (again.status, again.json()["image"], image_of(cluster.get())) == (200, "acme/web:1", "acme/web:1")
    assert "auto-deployer/unpinned" not in cluster.get()["spec"]["template"]["metadata"]["annotations"]


def test_a_manifest_with_spec_needs_no_note_of_the_images(service, cluster):
    service.deploy()
    service.deploy(image="acme/web:2")
    service.roll_back()
    assert "auto-deployer/unpinned" not in cluster.get()["spec"]["template"]["metadata"]["annotations"]
    service.deploy()
    assert image_of(cluster.get()) == "acme/web:1"
