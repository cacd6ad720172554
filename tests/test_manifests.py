"""Hold k8s/ to what it promises: one command installs it, and its pod and its rights are as small as can be."""

import shutil
import subprocess
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from settings import Settings
from tests.kustomize import render

ROOT = Path(__file__).resolve().parent.parent
K8S = ROOT / "k8s"
KUSTOMIZATION = yaml.safe_load((K8S / "kustomization.yaml").read_text())
NAMESPACE = "auto-deployer"
CLUSTER_SCOPED = {"Namespace"}
RENDERED = render(K8S)
EXAMPLES = sorted((K8S / "deployments").glob("*.yaml"))


def only(kind: str, namespace: str | None = None) -> dict:
    """Return the object of a kind; of a Role or RoleBinding, that of the namespace that is deployed to."""
    namespace = namespace or {"Role": "default", "RoleBinding": "default"}.get(kind)
    found = [document for document in RENDERED if document["kind"] == kind]
    [document] = [each for each in found if namespace in (None, each["metadata"].get("namespace"))]
    return document


@pytest.fixture
def pod() -> dict:
    return only("Deployment")["spec"]["template"]["spec"]


@pytest.fixture
def container(pod: dict) -> dict:
    [container] = pod["containers"]
    return container


def kubectl_renders(folder: Path) -> list[dict]:
    rendered = subprocess.run(["kubectl", "kustomize", folder], capture_output=True, text=True, check=True).stdout
    return list(yaml.safe_load_all(rendered))


def by_name(documents: list[dict]) -> dict[tuple, dict]:
    places = [(each["kind"], each["metadata"].get("namespace"), each["metadata"]["name"]) for each in documents]
    return dict(zip(places, documents, strict=True))


@pytest.mark.skipif(not shutil.which("kubectl"), reason="kubectl is not installed")
def test_kubectl_renders_the_same():
    assert by_name(kubectl_renders(K8S)) == by_name(RENDERED)


@pytest.mark.parametrize("document", RENDERED, ids=lambda document: document["kind"])
def test_is_valid(document):
    kubernetes_validate.validate(document, kubernetes_validate.latest_version(), strict=True)


def test_every_file_is_installed():
    assert {path.name for path in K8S.glob("*.yaml")} == {*KUSTOMIZATION["resources"], "kustomization.yaml"}
    files = [file for generated in KUSTOMIZATION["configMapGenerator"] for file in generated["files"]]
    assert sorted(files) == [str(path.relative_to(K8S)) for path in EXAMPLES]


@pytest.mark.parametrize("path", sorted(K8S.glob("*.yaml")), ids=lambda path: path.name)
def test_one_kind_a_file(path):
    assert len(list(yaml.safe_load_all(path.read_text()))) == 1


def test_namespaces_are_written_out():
    assert "namespace" not in KUSTOMIZATION, "it would move the Role out of the namespace that is deployed to"
    for document in RENDERED:
        if document["kind"] not in CLUSTER_SCOPED:
            allowed = {NAMESPACE, "default"} if document["kind"] in ("Role", "RoleBinding") else {NAMESPACE}
            assert document["metadata"]["namespace"] in allowed, document["kind"]


def test_an_edited_manifest_restarts_nothing():
    [generated] = KUSTOMIZATION["configMapGenerator"]
    assert generated["options"]["disableNameSuffixHash"] is True


def test_the_pod_passes_what_its_namespace_enforces(pod, container):
    assert only("Namespace")["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    assert pod["securityContext"]["runAsNonRoot"] is True
    # By number: the kubelet can't tell whether a name is root, and then starts nothing.
    assert pod["securityContext"]["runAsUser"] > 0
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert not {"hostNetwork", "hostPID", "hostIPC", "initContainers"} & pod.keys()
    assert {kind for volume in pod["volumes"] for kind in volume if kind != "name"} == {
        "configMap",
        "secret",
        "emptyDir",
    }


def test_the_pod_runs_as_the_images_user(pod):
    user = f"{pod['securityContext']['runAsUser']}:{pod['securityContext']['runAsGroup']}"
    assert f"USER {user}\n" in (ROOT / "Dockerfile").read_text()


def test_rights_are_the_smallest():
    assert not [document["kind"] for document in RENDERED if document["kind"].startswith("ClusterRole")]
    for rule in only("Role")["rules"] + only("Role", NAMESPACE)["rules"]:
        assert "*" not in rule["apiGroups"] + rule["resources"] + rule["verbs"]
        assert "secrets" not in rule["resources"]
        assert not {"delete", "deletecollection", "update"} & set(rule["verbs"])


@pytest.mark.parametrize("namespace", ["default", NAMESPACE])
def test_the_binding_joins_the_role_and_the_pods_account(pod, namespace):
    binding, account = only("RoleBinding", namespace), only("ServiceAccount")["metadata"]
    assert binding["roleRef"]["kind"] == "Role"
    assert binding["roleRef"]["name"] == only("Role", namespace)["metadata"]["name"]
    assert binding["subjects"] == [
        {"kind": "ServiceAccount", "name": account["name"], "namespace": account["namespace"]}
    ]
    assert pod["serviceAccountName"] == account["name"]


def test_in_its_own_namespace_it_can_reach_no_deployment_but_its_own():
    own = only("Deployment")["metadata"]
    names = {"deployments": [own["name"]], "configmaps": [f"auto-deployer-{own['name']}"]}
    for rule in only("Role", own["namespace"])["rules"]:
        for resource in rule["resources"]:
            if rule["verbs"] != ["create"]:
                assert rule.get("resourceNames") == names.get(resource), resource
    deployments = [rule for rule in only("Role", own["namespace"])["rules"] if "deployments" in rule["resources"]]
    assert [rule["verbs"] for rule in deployments] == [["get", "list", "watch", "patch"]]


def test_it_can_deploy_itself():
    [path] = [path for path in EXAMPLES if path.stem == "auto-deployer"]
    manifest, own = yaml.safe_load(path.read_text()), only("Deployment")
    assert "spec" not in manifest, "it would be the truth beside k8s/deployment.yaml"
    assert manifest["metadata"] == {key: own["metadata"][key] for key in ("name", "namespace")}
    # So that the old pod is there until the new one has been judged.
    assert own["spec"]["minReadySeconds"] > Settings().settle_seconds


def test_no_secret_is_committed():
    for path in K8S.rglob("*"):
        if path.is_file():
            assert path.suffix == ".yaml", f"{path} would be committed"
            for document in yaml.safe_load_all(path.read_text()):
                assert document["kind"] != "Secret"


def test_the_volumes_are_where_the_service_looks(pod, container):
    sources = {volume["name"]: volume for volume in pod["volumes"]}
    mounted = {mount["mountPath"]: sources[mount["name"]] for mount in container["volumeMounts"]}
    assert mounted["/etc/auto-deployer/deployments"]["configMap"]["name"] == only("ConfigMap")["metadata"]["name"]
    assert mounted["/etc/auto-deployer/passwords"]["secret"]["optional"] is True
    passwords = mounted["/etc/auto-deployer/passwords"]["secret"]
    assert passwords["secretName"] == "auto-deployer-passwords"
    assert passwords["defaultMode"] & 0o040, "the group, fsGroup, has to be able to read it"
    assert not passwords["defaultMode"] & 0o007
    assert pod["securityContext"]["fsGroup"] > 0
    assert mounted["/tmp"]["emptyDir"]["sizeLimit"]


def test_ports_are_named_and_found(container):
    names = {port["name"] for port in container["ports"]}
    service = only("Service")
    assert service["spec"]["selector"] == only("Deployment")["spec"]["selector"]["matchLabels"]
    assert {port["targetPort"] for port in service["spec"]["ports"]} <= names
    assert container["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": "http"}
    assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "http"}
    for path in only("Ingress")["spec"]["rules"][0]["http"]["paths"]:
        backend = path["backend"]["service"]
        assert backend["name"] == service["metadata"]["name"]
        assert backend["port"]["name"] in {port["name"] for port in service["spec"]["ports"]}
    policy = only("NetworkPolicy")["spec"]
    assert policy["podSelector"]["matchLabels"] == service["spec"]["selector"]
    assert policy["policyTypes"] == ["Ingress"], "an Egress rule would cut off the API server"
    [rule] = policy["ingress"]
    assert {port["port"] for port in rule["ports"]} == names
    assert "from" not in rule, "Ingress controllers and kubelets send from elsewhere in every cluster"


def test_the_ingress_routes_only_what_senders_and_the_page_need():
    ingress = only("Ingress")
    [rule] = ingress["spec"]["rules"]
    kinds = {path["path"]: path["pathType"] for path in rule["http"]["paths"]}
    # /metrics and the probes are below no prefix.
    assert kinds.pop("/") == "Exact"
    assert kinds == dict.fromkeys(("/deployment", "/dockerhub", "/check", "/static"), "Prefix")
    assert [tls["hosts"] for tls in ingress["spec"]["tls"]] == [[rule["host"]]]
    assert "annotations" not in ingress["metadata"], "they would be a single controller's"


def test_a_new_pod_serves_before_the_old_one_leaves(pod, container):
    assert only("Deployment")["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    sleep = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    mercy = int((ROOT / "uwsgi.ini").read_text().partition("worker-reload-mercy = ")[2].split()[0])
    assert 25 < mercy < pod["terminationGracePeriodSeconds"] - sleep


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_manifests_are_valid(path):
    manifest = yaml.safe_load(path.read_text())
    # Without a spec it isn't one that kubectl would take, but only a name.
    manifest.setdefault("spec", only("Deployment")["spec"])
    kubernetes_validate.validate(manifest, kubernetes_validate.latest_version(), strict=True)


def test_the_first_example_is_the_blog_posts_deployment():
    web = yaml.safe_load((K8S / "deployments" / "web.yaml").read_text())
    assert web["metadata"] == {"name": "web", "namespace": "default", "labels": {"app": "web"}}
    assert web["spec"]["replicas"] == 1
    assert web["spec"]["selector"] == {"matchLabels": {"app": "web"}}
    assert web["spec"]["template"]["metadata"] == {"labels": {"app": "web"}}
    assert web["spec"]["template"]["spec"] == {
        "containers": [
            {
                "name": "web",
                "image": "acme/web:latest",
                "imagePullPolicy": "Always",
                "ports": [{"containerPort": 8080}],
                "env": [{"name": "ENV_VAR_NAME", "value": "env-var-value"}],
            }
        ],
        "imagePullSecrets": [{"name": "regcred"}],
        "terminationGracePeriodSeconds": 10,
    }
