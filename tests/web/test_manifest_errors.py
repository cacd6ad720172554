"""Manifests with errors: /check and a signal name the file, the field and what is wrong."""

import pytest

from tests.conftest import deployment
from tests.service import PASSWORD


def in_container(**fields):
    manifest = deployment("bad")
    manifest["spec"]["template"]["spec"]["containers"][0] |= fields
    return manifest


def without_image():
    manifest = deployment("bad")
    del manifest["spec"]["template"]["spec"]["containers"][0]["image"]
    return manifest


BAD_FILES = [
    ("two", "a: 1\n---\nb: 2\n", "two.yaml: holds 2 documents"),
    ("yaml", "a: 1\nb: [1\n", "yaml.yaml: line 3: "),
    ("empty", "", "empty.yaml: is empty"),
    ("service", "apiVersion: v1\nkind: Service\nmetadata: {name: web}\n", "service.yaml: kind: must be Deployment"),
    ("unknown", in_container(port=80), "unknown.yaml: spec.template.spec.containers[0].port: unknown field"),
    ("no-image", without_image(), "no-image.yaml: spec.template.spec.containers[0].image: required, but missing"),
    (
        "number",
        in_container(env=[{"name": "A", "value": 31337}]),
        "number.yaml: spec.template.spec.containers[0].env[0].value: must be text",
    ),
    ("no-template", deployment("bad", template={"metadata": {}}), "no-template.yaml: spec.template.spec: required"),
    ("itself", "apiVersion: apps/v1\nspec: &a [*a]\n", "itself.yaml: is nested too deep"),
    ("default", deployment("bad"), "default.yaml: the name default is reserved"),
    ("dockerhub", deployment("bad"), "dockerhub.yaml: the name dockerhub is reserved"),
    (
        "refused",
        in_container(ports=[{"containerPort": 99999}]),
        "refused.yaml: spec.template.spec.containers[0].ports[0].containerPort: Invalid value: 99999",
    ),
    (
        "selector",
        deployment("bad", selector={"matchLabels": {"app": "other"}}),
        "selector.yaml: spec.template.metadata.labels: Invalid value",
    ),
]


def test_check_names_every_bad_file_and_a_signal_says_the_same(service, cluster):
    for name, content, _ in BAD_FILES:
        service.configure(name, content)
    answer = service.get("/check", Authorization=f"Bearer {PASSWORD}")
    assert answer.status == 422
    lines = answer.text.splitlines()
    for name, _, words in BAD_FILES:
        mine = [line for line in lines if name in line.split()[1]]
        assert any(words in line for line in mine), (words, mine)
        signal = service.post(f"/deployment/{name}", {"pw": PASSWORD}, Accept="application/json")
        assert signal.status == 422
        for line in signal.json()["error"].splitlines():
            assert any(line in each for each in mine)
    assert {line.split(":")[0] for line in lines if " web: " in line} == {"ok", "advice"}
    assert "31337" not in answer.text
    assert service.signal("web").status == 200
    assert cluster.get("web")
    assert cluster.get("bad") is None


def test_check_of_one_deployment(service, cluster):
    service.configure("bad", "nonsense")
    good = service.get("/check/web", Authorization=f"Bearer {PASSWORD}")
    assert (good.status, good.text.split()[0].rstrip(":")) == (200, "ok")
    assert service.get("/check/bad", Authorization=f"Bearer {PASSWORD}").status == 422
    assert cluster.get("web") is None  # A check only makes dry runs.
    service.signal("web")
    before = cluster.get("web")["spec"]
    assert service.get("/check/web", Authorization=f"Bearer {PASSWORD}").status == 200
    assert cluster.get("web")["spec"] == before


def test_check_without_any_deployment(service):
    (service.deployments_dir / "web.yaml").unlink()
    answer = service.get("/check", Authorization=f"Bearer {PASSWORD}")
    assert answer.status == 422
    assert "put a manifest NAME.yaml into DEPLOYMENTS_DIR" in answer.text
    assert service.signal().status == 404


def test_a_missing_right_is_named(service, cluster):
    cluster.allow([{"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["get", "create"]}])
    assert service.signal().status == 200
    answer = service.post(body={"pw": PASSWORD}, Accept="application/json")
    assert (answer.status, answer.json()["reason"]) == (500, "Forbidden")
    said = f'cannot patch resource "deployments" in API group "apps" in the namespace "{cluster.namespace}"'
    assert said in answer.json()["error"]
    checked = service.get("/check", Authorization=f"Bearer {PASSWORD}")
    assert checked.status == 422
    assert said in checked.text


def test_without_rights_the_answer_says_that_the_namespace_may_not_exist(service, cluster):
    manifest = deployment(namespace=f"{cluster.namespace}-not")
    service.configure("web", manifest)
    answer = service.signal()
    assert answer.status == 500
    assert f'in the namespace "{cluster.namespace}-not"' in answer.text
    assert "or the namespace doesn't exist" in answer.text
    assert service.get("/check", Authorization=f"Bearer {PASSWORD}").status == 422


SECRET = {"name": "PASSWORD", "value": "hunter2-hunter2"}
POD_NAME = {"fieldRef": {"fieldPath": "metadata.name"}}
TOO_MUCH = {"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}


@pytest.mark.parametrize(
    "fields",
    [
        {"env": [SECRET], "ports": [{"containerPort": 99999}]},
        pytest.param({"env": [SECRET, {"name": "1=2", "value": "hunter2-hunter2"}]}, marks=pytest.mark.real_only),
        pytest.param({"env": [SECRET | {"valueFrom": POD_NAME}]}, marks=pytest.mark.real_only),
        {"env": [SECRET], "volumeMounts": [{"name": "nothing", "mountPath": "/x"}]},
        {"env": [SECRET], "imagePullPolicy": "Sometimes"},
        pytest.param({"env": [SECRET], "resources": TOO_MUCH}, marks=pytest.mark.real_only),
        {"env": [SECRET], "resources": {"requests": {"cpu": "two"}}},
    ],
    ids=["port", "env-name", "env-twice", "volume", "pull-policy", "requests", "quantity"],
)
def test_the_answer_to_a_refused_manifest_shows_no_environment_value(service, cluster, fields):
    refused = deployment()
    refused["spec"]["template"]["spec"]["containers"][0] |= fields
    service.configure("web", refused)
    created = service.signal()
    service.configure("web", deployment())
    assert service.signal().status == 200
    service.configure("web", refused)
    for answer in (created, service.signal()):
        assert (answer.status, "hunter2" in answer.text) == (422, False), answer.text
        assert "restartedAt" not in answer.text
        assert answer.text.startswith("web.yaml: ")


def test_a_selector_is_immutable(service, cluster):
    service.signal()
    manifest = deployment(selector={"matchLabels": {"app": "web", "tier": "a"}})
    manifest["spec"]["template"]["metadata"]["labels"] |= {"tier": "a"}
    service.configure("web", manifest)
    answer = service.signal()
    assert answer.status == 422
    assert "web.yaml: spec.selector: " in answer.text
    assert "field is immutable" in answer.text
