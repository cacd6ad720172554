"""The check of the rights that following a rollout needs, over HTTP."""

import copy

import pytest

from tests.conftest import role
from tests.rollout.helpers import CONFIG_MAP
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
