"""The Role in k8s/ grants what the service calls, and nothing else."""

import pytest
import yaml

from tests.conftest import deployment, role
from tests.service import ROOT

pytestmark = pytest.mark.simulated_only

OWN = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "auto-deployer"}}


def granted(file):
    """Return the rights that a Role gives."""
    return {
        (group, resource, verb)
        for rule in role(file)
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


GRANTED = granted("role.yaml") | granted("self-role.yaml")


def story(service, name):
    """Deploy, fail and roll back, and check."""
    assert service.deploy(name, image="acme/web:2").status == 200
    assert service.deploy(name, image="acme/web:crash", rollback_on_failure=True).status == 424
    assert service.show(name, wait=20).status == 200
    assert service.get("/check", Authorization=f"Bearer {service.right}").status == 200


@pytest.fixture(params=["role.yaml", "self-role.yaml"])
def rights(request, services, cluster):
    """Return what a Role grants, and what the service uses under it."""
    service = services("rights", SETTLE_SECONDS="1")
    service.reset(cluster.namespace)
    cluster.allow(role(request.param))
    name = "web"
    if request.param == "self-role.yaml":
        name = OWN["metadata"]["name"]
        (service.deployments_dir / "web.yaml").unlink()
        service.configure(name, OWN)
        cluster.create(deployment(name))
    story(service, name)
    calls = [each for each in cluster.requests if each.user != "admin" and each.namespace == cluster.namespace]
    refused = [each for each in calls if each.status == 403]
    return granted(request.param), {(each.group, each.resource, each.verb) for each in calls}, refused


def test_every_call_is_granted_and_every_grant_is_used(rights):
    grants, used, refused = rights
    assert used == grants
    assert refused == []


def test_nothing_is_granted_by_wildcard_nor_on_secrets_nor_to_delete():
    for group, resource, verb in GRANTED:
        assert "*" not in (group, resource, verb)
        assert resource != "secrets"
        assert verb not in ("delete", "deletecollection", "escalate", "bind", "impersonate")


@pytest.mark.parametrize("which", ["", "self-"])
def test_each_role_belongs_to_one_namespace_and_is_bound_there(which):
    kinds = {f"{which}role.yaml": "Role", f"{which}rolebinding.yaml": "RoleBinding"}
    places = set()
    for file, kind in kinds.items():
        manifest = yaml.safe_load((ROOT / "k8s" / file).read_text())
        assert manifest["kind"] == kind
        places.add(manifest["metadata"]["namespace"])
    assert len(places) == 1
