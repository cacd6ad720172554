"""The Role in k8s/ grants what the service calls, and nothing else."""

import pytest
import yaml

from tests.conftest import role
from tests.service import ROOT

pytestmark = pytest.mark.simulated_only

GRANTED = {
    (group, resource, verb)
    for rule in role()
    for group in rule["apiGroups"]
    for resource in rule["resources"]
    for verb in rule["verbs"]
}


@pytest.fixture
def used(services, cluster, admin):
    """Return the rights that the service uses from the first deploy to a failure that it rolls back."""
    service = services("rights", SETTLE_SECONDS="1")
    service.reset(cluster.namespace)
    before = len(admin.simulation.requests)
    assert service.deploy().status == 200
    assert service.deploy(image="acme/web:crash", rollback_on_failure=True).status == 424
    assert service.show(wait=20).status == 200
    assert service.get("/check", Authorization=f"Bearer {service.right}").status == 200
    calls = [each for each in admin.simulation.requests[before:] if each.user != "admin"]
    return {(each.group, each.resource, each.verb) for each in calls}


def test_every_call_is_granted(used):
    assert used <= GRANTED


def test_every_grant_is_used(used):
    assert used >= GRANTED


def test_nothing_is_granted_by_wildcard_nor_on_secrets_nor_to_delete():
    for group, resource, verb in GRANTED:
        assert "*" not in (group, resource, verb)
        assert resource != "secrets"
        assert verb not in ("delete", "deletecollection", "escalate", "bind", "impersonate")


def test_the_role_is_one_of_a_namespace_and_bound_there():
    kinds = {"role.yaml": "Role", "rolebinding.yaml": "RoleBinding"}
    places = set()
    for file, kind in kinds.items():
        manifest = yaml.safe_load((ROOT / "k8s" / file).read_text())
        assert manifest["kind"] == kind
        places.add(manifest["metadata"]["namespace"])
    assert len(places) == 1
