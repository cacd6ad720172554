"""The Role in k8s/ grants what the tests before this one needed, and nothing else."""

from pathlib import Path

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
def used(service, admin):
    """Return the rights of which the service made use, in this and every other test of the session."""
    service.signal()
    service.signal()
    service.get("/check", Authorization=f"Bearer {service.right}")
    service_s = [each for each in admin.simulation.requests if each.user != "admin"]
    return {(each.group, each.resource, each.verb) for each in service_s}


def test_every_call_is_granted(used):
    assert used <= GRANTED


def test_every_grant_is_used(used, request):
    there = {path.name for path in Path(__file__).parent.glob("test_*.py")}
    run = {item.path.name for item in request.session.items}
    if there != run:
        pytest.skip("only the whole suite uses every right")
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
