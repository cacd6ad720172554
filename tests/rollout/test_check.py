"""The check of the rights that following a rollout needs, over HTTP."""

import copy

import pytest

from tests.conftest import deployment, role
from tests.rollout.helpers import CONFIG_MAP, listed, wait_for_records
from tests.service import PASSWORD


def without(verb, resource):
    """Return the rights of k8s/role.yaml without one of them."""
    rules = copy.deepcopy(role())
    for rule in rules:
        if resource in rule["resources"]:
            rule["verbs"].remove(verb)
    return [rule for rule in rules if rule["verbs"]]


@pytest.mark.parametrize(
    ("verb", "resource"),
    [
        ("list", "deployments"),
        ("watch", "deployments"),
        ("list", "replicasets"),
        ("watch", "replicasets"),
        ("list", "pods"),
        ("watch", "pods"),
        ("list", "events"),
        ("get", "pods/log"),
        ("get", "configmaps"),
        ("create", "configmaps"),
        ("patch", "configmaps"),
        ("create", "events"),
    ],
)
def test_a_missing_right_is_named(service, cluster, verb, resource):
    cluster.allow(without(verb, resource))
    answer = service.get("/check/web", Authorization=f"Bearer {PASSWORD}")
    assert answer.status == 422
    assert f'cannot {verb} resource "{resource}"' in answer.text
    assert f'in the namespace "{cluster.namespace}"' in answer.text


def test_the_rights_of_the_role_suffice_and_the_check_leaves_nothing_behind(service, cluster):
    for _ in range(2):
        assert service.get("/check/web", Authorization=f"Bearer {PASSWORD}").status == 200
        assert cluster.get() is None
        assert cluster.get(CONFIG_MAP, "configmaps") is None
        assert listed(cluster, "events") == []


def test_a_check_beside_a_rollout_changes_nothing(service, cluster):
    service.deploy()
    wait_for_records(cluster, 1, told=True)
    before = [cluster.get(), cluster.get(CONFIG_MAP, "configmaps")]
    assert service.get("/check/web", Authorization=f"Bearer {PASSWORD}").status == 200
    assert [cluster.get(), cluster.get(CONFIG_MAP, "configmaps")] == before
    assert not [each for each in listed(cluster, "events") if "checks its rights" in each["message"]]


def test_a_check_advises_and_does_not_fail(service):
    manifest = deployment(image="acme/web:latest", minReadySeconds=0)
    manifest["spec"]["template"]["spec"]["containers"][0]["imagePullPolicy"] = "IfNotPresent"
    service.configure("web", manifest)
    answer = service.get("/check/web", Authorization=f"Bearer {PASSWORD}")
    first, *advice = answer.text.splitlines()
    assert (answer.status, first) == (200, "ok: web: a deploy would work")
    words = ("no readiness probe", "no resource requests", "imagePullPolicy IfNotPresent", "minReadySeconds is 0")
    for line, expected in zip(advice, words, strict=True):
        assert line.startswith("advice: web: ")
        assert expected in line
    (check,) = service.get("/check/web", Authorization=f"Bearer {PASSWORD}", Accept="application/json").json()["checks"]
    assert [f"advice: web: {sentence}" for sentence in check["advice"]] == advice
