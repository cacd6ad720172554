"""Fields that the service doesn't know: a near miss of one of its own is refused, and an answer lists the others."""

import json

import pytest

from errors import BadRequest
from tests.service import PASSWORD
from web.parsing import DeployFields, RollbackFields, unknown_fields

NEAR_MISSES = [
    ("dry-run", "dry_run"),
    ("dryRun", "dry_run"),
    ("DRY_RUN", "dry_run"),
    ("_dry_run_", "dry_run"),
    ("Rollback-On-Failure", "rollback_on_failure"),
    ("rollbackOnFailure", "rollback_on_failure"),
    ("Image", "image"),
    ("Cause", "cause"),
    ("WAIT", "wait"),
    ("Revision", "revision"),
    ("PW", "pw"),
    ("Data", "data"),
]
OURS = ["pw", "image", "cause", "wait", "dry_run", "rollback_on_failure", "revision"]


@pytest.mark.parametrize(("name", "right"), NEAR_MISSES)
@pytest.mark.parametrize("path", ["/deployment", "/deployment/rollback"])
@pytest.mark.parametrize("form", ["plain", "data"])
def test_a_near_miss_of_a_field_changes_nothing(client, cluster, name, right, path, form):
    fields = {"pw": PASSWORD, name: True}
    answer = client.post(path, {"data": fields} if form == "data" else fields, Accept="application/json")
    assert (answer.status, answer.json()) == (400, {"error": f"{name}: write {right}", "reason": "BadRequest"})
    assert cluster.get("web") is None


def test_a_near_miss_is_told_only_to_a_caller_with_a_password(client):
    assert client.post(body={"dry-run": True}).status == 403
    assert client.post(body={"PW": PASSWORD}).status == 403
    assert client.post(body={"PW": PASSWORD}, Authorization=f"Bearer {PASSWORD}").status == 400


@pytest.mark.parametrize(("name", "right"), NEAR_MISSES + [(each, each) for each in OURS])
@pytest.mark.parametrize("path", ["/deployment", "/deployment/rollback"])
@pytest.mark.parametrize("form", [dict, json.dumps])
def test_a_field_beside_an_envelope_changes_nothing(client, cluster, name, right, path, form):
    fields = {"pw": PASSWORD, "cause": "in the envelope"}
    answer = client.post(path, {"data": form(fields), name: True}, Accept="application/json")
    error = f"{name} stands beside data, where it is not read; write {right} inside data"
    assert (answer.status, answer.json()) == (400, {"error": error, "reason": "BadRequest"})
    assert cluster.get("web") is None


@pytest.mark.parametrize("model", [DeployFields, RollbackFields])
def test_what_others_add_is_ignored_and_sorted(model):
    fields = dict.fromkeys(["pw", "wait", "cause", "dry_run", "repository", "dry", "a", "dry run", "", "\ud800"], 1)
    assert unknown_fields(fields, model) == ["", "a", "dry", "dry run", "repository", "\ud800"]


def test_a_revision_means_nothing_in_a_deploy():
    assert unknown_fields({"revision": 3}, DeployFields) == ["revision"]


@pytest.mark.parametrize("name", [name for name, _ in NEAR_MISSES])
def test_a_refusal_names_the_right_spelling(name):
    with pytest.raises(BadRequest, match=f"write {dict(NEAR_MISSES)[name]}$"):
        unknown_fields({name: 1}, DeployFields)


def test_json_answers_list_what_was_ignored(quick_service, cluster):
    client = quick_service
    others = {"ref": "refs/heads/main", "commit": {"dry-run": True}}
    for answer in (
        client.post(body={"pw": PASSWORD, **others}, Accept="application/json"),
        client.post(body={"data": {"pw": PASSWORD, "wait": 20, **others}}, Accept="application/json"),
        client.post(body={"pw": PASSWORD, "image": "acme/other:1", **others}, Accept="application/json"),
        client.post("/deployment/rollback", {"pw": PASSWORD, **others}, Accept="application/json"),
        client.post(body={"data": {"pw": PASSWORD}, **others}, Accept="application/json"),
        client.post(body={"data": json.dumps({"pw": PASSWORD, "ref": 1}), **others}, Accept="application/json"),
    ):
        assert answer.json()["ignored"] == ["commit", "ref"]
    assert "ignored" not in client.deploy().json()
    assert "ignored" not in client.show().json()
    refused = client.post(body={"pw": "wrong", **others}, Accept="application/json")
    assert refused.json().keys() == {"error", "reason"}


def test_the_payload_of_docker_hub_has_no_near_misses(client, cluster):
    client.password("dockerhub", "a-token-of-docker-hub")
    hook = {"Image": "x", "dry-run": True, "push_data": {"tag": "1"}, "repository": {"repo_name": "acme/web"}}
    answer = client.post("/dockerhub/a-token-of-docker-hub", hook, Accept="application/json")
    assert (answer.status, answer.json().keys()) == (200, {"deployments"})
