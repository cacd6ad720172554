"""Every fault of a manifest is named with its field, and what kubectl accepts is accepted."""

import re

import pytest

from errors import Invalid
from tests.manifest.samples import MANIFEST, WITHOUT_SPEC, changed, container, in_container, sent


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        ("", ["is empty"]),
        (b"\xff\xfe", ["line 1: is not UTF-8"]),
        ("- a\n", ["must be a Deployment manifest"]),
        ("web\n", ["must be a Deployment manifest"]),
        (f"{MANIFEST}---\n{MANIFEST}", ["holds 2 documents"]),
        (f"{MANIFEST}  - x", ["line 17: "]),
        (changed("kind: Deployment", "kind: StatefulSet"), ["kind: must be Deployment"]),
        (changed("apps/v1", "extensions/v1beta1"), ["apiVersion: must be apps/v1"]),
        (
            "apiVersion: v1\nkind: List\nitems: []\n",
            ["apiVersion: must be", "kind: must be", "metadata.name: required", "items: unknown field"],
        ),
        (changed("  name: web\nspec", "  labels: {}\nspec"), ["metadata.name: required, but missing"]),
        (changed("metadata:\n  name: web\n", "metadata:\n"), ["metadata.name: required, but missing"]),
        (changed("name: web\nspec", "name: Web_1\nspec"), ["metadata.name: must be lower-case letters"]),
        (changed("name: web\nspec", "name: ../../x\nspec"), ["metadata.name: must be lower-case letters"]),
        (changed("name: web\nspec", "name: web\n  namespace: a/b\nspec"), ["metadata.namespace: must be lower-case"]),
        (in_container("port: 80"), ["spec.template.spec.containers[0].port: unknown field"]),
        (in_container("image_pull_policy: Always"), ["containers[0].image_pull_policy: unknown field"]),
        (
            changed("          image: acme/web:1\n", ""),
            ["spec.template.spec.containers[0].image: required, but missing"],
        ),
        (changed("acme/web:1", "Acme Web"), ["spec.template.spec.containers[0].image: 'Acme Web' is no image"]),
        (changed("acme/web:1", "1"), ["containers[0].image: must be text; put it into quotes"]),
        (
            MANIFEST + "      initContainers:\n        - name: migrate\n",
            ["spec.template.spec.initContainers[0].image: required, but missing"],
        ),
        (changed("        - name: web\n          image: acme/web:1\n", "        []\n"), ["at least one is required"]),
        (
            in_container("env: [{name: A, value: 31337}]"),
            ["env[0].value: must be text; put it into quotes"],
        ),
        (
            in_container("env: [{name: A, value: yes}]"),
            ["env[0].value: must be text; put it into quotes"],
        ),
        (in_container("env: {A: hunter2}"), ["spec.template.spec.containers[0].env: must be a list"]),
        (in_container("ports: [{containerPort: http}]"), ["ports[0].containerPort: must be a whole number"]),
        (changed("spec:\n  sel", "spec:\n  replicas: many\n  sel"), ["spec.replicas: must be a whole number"]),
        (changed("spec:\n  sel", "spec:\n  paused: 1\n  sel"), ["spec.paused: must be true or false"]),
        (
            changed("spec:\n  sel", "spec:\n  strategy: {rollingUpdate: {maxSurge: 1.5}}\n  sel"),
            ["spec.strategy.rollingUpdate.maxSurge: must be a whole number or text"],
        ),
        (MANIFEST.partition("spec:")[0] + "spec:\n", ["spec: must hold fields"]),
        (MANIFEST.partition("spec:")[0] + "spec: {}\n", ["spec.selector: required", "spec.template: required"]),
        (MANIFEST.partition("    spec:\n")[0], ["spec.template.spec: required, but missing"]),
        (f"{WITHOUT_SPEC}  lables: {{}}\n", ["metadata.lables: unknown field"]),
        (in_container("args: &a [*a]"), ["nested too deep"]),
        (MANIFEST + "      x: " + "{a: " * 2_000 + "1" + "}" * 2_000, ["nested too deep"]),
        (
            changed("acme/web:1", "Acme") + "          port: 1\n      restart: Always\n",
            ["containers[0].port: unknown field", "spec.restart: unknown field", "'Acme' is no image"],
        ),
    ],
)
def test_every_fault_is_named_with_its_file_and_field_and_without_values(read, content, lines):
    with pytest.raises(Invalid) as refused:
        read(content)
    found = str(refused.value).splitlines()
    assert len(found) == len(lines)
    for line, words in zip(found, lines, strict=True):
        assert line.startswith("web.yaml: ")
        assert words in line
    assert not re.search("31337|hunter2", str(refused.value))


@pytest.mark.parametrize(
    ("yaml", "field", "written"),
    [
        ("resources: {limits: {cpu: 1, memory: 64Mi}}", ["resources", "limits"], {"cpu": "1", "memory": "64Mi"}),
        ("resources: {requests: {cpu: 0.5}}", ["resources", "requests"], {"cpu": "0.5"}),
        ("args: [22:30, '017']", ["args"], ["22:30", "017"]),
        ("env: [{name: A, value: 2026-11-22}]", ["env"], [{"name": "A", "value": "2026-11-22"}]),
        ("readinessProbe: {httpGet: {port: http}}", ["readinessProbe", "httpGet"], {"port": "http"}),
        ("readinessProbe: {httpGet: {port: 80}}", ["readinessProbe", "httpGet"], {"port": 80}),
    ],
)
def test_what_kubectl_accepts_is_accepted(read, yaml, field, written):
    found = container(sent(read(in_container(yaml))))
    for step in field:
        found = found[step]
    assert found == written


def test_a_size_limit_may_be_a_number(read):
    volumes = "      volumes: [{name: tmp, emptyDir: {sizeLimit: 1000000}}]\n"
    assert sent(read(MANIFEST + volumes))["spec"]["template"]["spec"]["volumes"][0]["emptyDir"] == {
        "sizeLimit": "1000000"
    }
