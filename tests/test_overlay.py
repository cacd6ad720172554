"""Hold k8s/example-overlay/ to what it shows: how a user's own folder changes the released base."""

import re
import shutil

import kubernetes_validate
import pytest
import yaml

from manifest.files import load
from tests.kustomize import render
from tests.test_manifests import K8S, KUSTOMIZATION, NAMESPACE, by_name, kubectl_renders

OVERLAY = K8S / "example-overlay"
OWN = yaml.safe_load((OVERLAY / "kustomization.yaml").read_text())
BASE, RENDERED = by_name(render(K8S)), by_name(render(OVERLAY, base=K8S))


@pytest.mark.skipif(not shutil.which("kubectl"), reason="kubectl is not installed")
def test_kubectl_renders_the_same(tmp_path):
    """The overlay gets the base of this commit in place of the released one, since a test asks no other host."""
    shutil.copytree(K8S, tmp_path / "base", ignore=shutil.ignore_patterns(OVERLAY.name))
    shutil.copytree(OVERLAY, tmp_path / "own")
    file = tmp_path / "own" / "kustomization.yaml"
    text, number = re.subn(r"(?m)^  - https://.*$", "  - ../base", file.read_text())
    file.write_text(text)
    assert number == 1
    assert by_name(kubectl_renders(tmp_path / "own")) == RENDERED


@pytest.mark.parametrize("document", RENDERED.values(), ids=lambda document: document["kind"])
def test_is_valid(document):
    kubernetes_validate.validate(document, kubernetes_validate.latest_version(), strict=True)


def test_the_base_is_a_released_version():
    assert OWN["resources"] == ["https://github.com/acme/auto-deployer//k8s?ref=v1"]
    assert "namespace" not in OWN, "it would move the Role out of the namespace that is deployed to"


def test_it_changes_the_host_the_image_the_namespace_the_manifests_and_a_setting_and_nothing_else():
    moved = {
        (kind, "team" if kind in ("Role", "RoleBinding") and namespace == "default" else namespace, name): document
        for (kind, namespace, name), document in BASE.items()
    }
    assert RENDERED.keys() == moved.keys()
    changed = {key[:2] for key in RENDERED if RENDERED[key] != moved[key]}
    assert changed == {
        ("Role", "team"),
        ("RoleBinding", "team"),
        ("Ingress", NAMESPACE),
        ("Deployment", NAMESPACE),
        ("ConfigMap", NAMESPACE),
    }
    host = "deploy.team.example.com"
    ingress = RENDERED["Ingress", NAMESPACE, "auto-deployer"]["spec"]
    assert [ingress["tls"][0]["hosts"], ingress["rules"][0]["host"]] == [[host], host]
    binding = RENDERED["RoleBinding", "team", "auto-deployer"]
    assert [subject["namespace"] for subject in binding["subjects"]] == [NAMESPACE]
    [container] = RENDERED["Deployment", NAMESPACE, "auto-deployer"]["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "registry.example.com/team/auto-deployer:1"
    assert container["env"] == [{"name": "OIDC_AUDIENCE", "value": f"https://{host}"}]
    assert RENDERED["ConfigMap", NAMESPACE, "auto-deployer-deployments"]["data"].keys() == {
        "auto-deployer.yaml",
        "shop.yaml",
    }


def test_its_manifests_are_where_it_gets_its_rights():
    folder = OVERLAY / "deployments"
    assert load(folder, "shop").namespace == "team"
    assert load(folder, "auto-deployer").namespace == NAMESPACE
    assert (folder / "auto-deployer.yaml").read_text() == (K8S / "deployments" / "auto-deployer.yaml").read_text()


def test_it_overrides_what_the_base_has():
    """A name that the base doesn't have would be added beside it, or change nothing."""
    [image], [base_image] = OWN["images"], KUSTOMIZATION["images"]
    assert image["name"] == base_image["newName"]
    [generator], [base_generator] = OWN["configMapGenerator"], KUSTOMIZATION["configMapGenerator"]
    for key in ("name", "namespace", "options"):
        assert generator[key] == base_generator[key]
