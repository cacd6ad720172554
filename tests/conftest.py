"""Fixtures: a cluster, simulated or real; the service in front of it."""

from __future__ import annotations

import base64
import getpass
import json
import logging
import os
import secrets
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from email.message import Message
from functools import cache
from pathlib import Path
from urllib.parse import urlencode

import pytest
import yaml
from kubernetes import config
from kubernetes.client import ApiException

from tests.access.issuer import Issuer
from tests.service import PASSWORD, ROOT, Answer, Asker, Chat, Service, encoded, wait_for
from tests.simulation import SimulatedCluster

# Nothing of where the tests run may lead the service in this process elsewhere: a pod's own cluster, or a proxy.
for variable in ("KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT", "KUBECONFIG"):
    os.environ.pop(variable, None)
for variable in [name for name in os.environ if name.lower().endswith("_proxy")]:
    del os.environ[variable]

ACCOUNT = "auto-deployer"
GROUPS = {"deployments": "/apis/apps/v1", "replicasets": "/apis/apps/v1"}
RBAC = "/apis/rbac.authorization.k8s.io/v1"


def pytest_addoption(parser):
    # With the sign, as in --kubeconfig=FILE: in a word of its own pytest takes the file for a place to look for tests,
    # unless another one is named. https://docs.pytest.org/en/stable/reference/customize.html#finding-the-rootdir
    parser.addoption("--kubeconfig", metavar="FILE", help="test against this cluster, as its admin, in new namespaces")


def pytest_configure(config):
    kubeconfig = config.getoption("--kubeconfig")
    if kubeconfig and not Path(kubeconfig).is_file():
        raise pytest.UsageError(f"there is no file {kubeconfig}; name the kubeconfig of the cluster to test on")
    config.addinivalue_line("markers", "simulated_only: needs a cluster that can be made to fail")
    config.addinivalue_line("markers", "real_only: needs what the simulated cluster doesn't check")


def pytest_collection_modifyitems(config, items):
    # It judges what all others did.
    items.sort(key=lambda item: item.path.name == "test_rights.py")
    other = "simulated_only" if config.getoption("--kubeconfig") else "real_only"
    deselected = [item for item in items if item.get_closest_marker(other)]
    items[:] = [item for item in items if not item.get_closest_marker(other)]
    config.hook.pytest_deselected(items=deselected)


def pytest_sessionfinish():
    # What the application in this process still says then would stand below the result.
    logging.disable()


def pytest_unconfigure():
    # pytest removes what this run wrote, but not the folder around it. Another run may have its own there.
    with suppress(OSError):
        Path(tempfile.gettempdir(), f"pytest-of-{getpass.getuser()}").rmdir()


def role(file: str = "role.yaml") -> list[dict]:
    """Return the rights that a Role in k8s/ gives."""
    return yaml.safe_load((ROOT / "k8s" / file).read_text())["rules"]


def deployment(name: str = "web", image: str = "acme/web:1", namespace: str | None = None, **spec: object) -> dict:
    """Return a manifest."""
    labels = {"app": name}
    pod = {"containers": [{"name": "web", "image": image}], "terminationGracePeriodSeconds": 0}
    spec = {"replicas": 1, "selector": {"matchLabels": labels}, "template": _template(labels, pod)} | spec
    metadata = {"name": name} | ({"namespace": namespace} if namespace else {})
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec}


def _template(labels: dict, pod: dict) -> dict:
    return {"metadata": {"labels": labels}, "spec": pod}


class SimulatedAdmin:
    """Prepare namespaces on the simulated cluster."""

    def __init__(self, simulation: SimulatedCluster) -> None:
        self.simulation = simulation
        self.simulation.rules = {}
        for operation in ("get", "list", "create", "patch", "delete"):
            setattr(self, operation, getattr(simulation, operation))

    def add_namespace(self, name: str) -> None:
        """Create a namespace."""
        self.create("namespaces", "", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})

    def remove_namespace(self, name: str) -> None:
        """Forget it, and heal what was broken. The rights in it stay: a follower may still ask about it."""
        self.simulation.faults.clear()
        self.delete("namespaces", "", name)

    def allow(self, namespace: str, rules: list[dict]) -> None:
        """Let the service's account do this and nothing else."""
        self.simulation.rules[namespace] = [
            (verb, resource, *name)
            for rule in rules
            for resource in rule["resources"]
            for verb in rule["verbs"]
            for name in ([[name] for name in rule["resourceNames"]] if "resourceNames" in rule else [[]])
        ]


class RealAdmin:
    """Prepare namespaces on a real cluster, and an account with no more rights than the installed one has."""

    simulation = None

    def __init__(self, kubeconfig: str) -> None:
        self._api = config.new_client_from_config(kubeconfig)
        self._home = f"auto-deployer-tests-{secrets.token_hex(4)}"
        self.add_namespace(self._home)
        self.create("serviceaccounts", self._home, {"metadata": {"name": ACCOUNT}})

    def write_kubeconfig(self, path: Path) -> None:
        """Write a kubeconfig of the service's account."""
        place = f"/api/v1/namespaces/{self._home}/serviceaccounts/{ACCOUNT}/token"
        answer = self._call("POST", place, {"spec": {"expirationSeconds": 7200}})
        settings = self._api.configuration
        cluster = {"server": settings.host, "insecure-skip-tls-verify": not settings.verify_ssl}
        if settings.ssl_ca_cert:
            authority = Path(settings.ssl_ca_cert).read_bytes()
            cluster["certificate-authority-data"] = base64.b64encode(authority).decode()
        written = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "real", "cluster": cluster}],
            "users": [{"name": ACCOUNT, "user": {"token": answer["status"]["token"]}}],
            "contexts": [{"name": "real", "context": {"cluster": "real", "user": ACCOUNT}}],
            "current-context": "real",
        }
        path.write_text(json.dumps(written))

    def close(self) -> None:
        """Take the account away."""
        self.remove_namespace(self._home)

    def add_namespace(self, name: str) -> None:
        """Create a namespace."""
        self.create("namespaces", "", {"metadata": {"name": name}})

    def remove_namespace(self, name: str) -> None:
        """Delete it; what is in it goes on its own time."""
        self.delete("namespaces", "", name)

    def allow(self, namespace: str, rules: list[dict]) -> None:
        """Let the service's account do this and nothing else, and wait until the API server knows."""
        place, name = f"{RBAC}/namespaces/{namespace}", {"metadata": {"name": ACCOUNT}}
        subject = {"kind": "ServiceAccount", "name": ACCOUNT, "namespace": self._home}
        reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": ACCOUNT}
        self._call("DELETE", f"{place}/roles/{ACCOUNT}", missing_ok=True)
        self._call("POST", f"{place}/roles", name | {"rules": rules})
        if not self._call("GET", f"{place}/rolebindings/{ACCOUNT}", missing_ok=True):
            self._call("POST", f"{place}/rolebindings", name | {"roleRef": reference, "subjects": [subject]})
        granted = {(verb, each) for rule in rules for each in rule["resources"] for verb in rule["verbs"]}
        named = [rule["resourceNames"][0] for rule in rules if "resourceNames" in rule and "apps" in rule["apiGroups"]]
        for verb in ("get", "create", "patch"):
            wait_for(lambda verb=verb: self._may(namespace, verb, *named) == ((verb, "deployments") in granted))

    def _may(self, namespace: str, verb: str, name: str = "") -> bool:
        what = {"namespace": namespace, "verb": verb, "group": "apps", "resource": "deployments", "name": name}
        user = f"system:serviceaccount:{self._home}:{ACCOUNT}"
        review = {"spec": {"user": user, "resourceAttributes": what}}
        return self._call("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", review)["status"]["allowed"]

    def get(self, resource: str, namespace: str, name: str) -> dict | None:
        """Return an object, or None."""
        return self._call("GET", _place(resource, namespace, name), missing_ok=True)

    def list(self, resource: str, namespace: str = "", labels: str = "", fields: str = "") -> list[dict]:
        """Return objects."""
        query = {"labelSelector": labels, "fieldSelector": fields}
        return self._call("GET", _place(resource, namespace), query=query)["items"]

    def create(self, resource: str, namespace: str, item: dict) -> dict:
        """Create an object."""
        return self._call("POST", _place(resource, namespace), item)

    def patch(self, resource: str, namespace: str, name: str, patch: dict | list) -> dict:
        """Apply a strategic merge patch, or a JSON patch when it is a list."""
        return self._call("PATCH", _place(resource, namespace, name), patch)

    def delete(self, resource: str, namespace: str, name: str) -> None:
        """Delete an object and what it owns."""
        self._call("DELETE", _place(resource, namespace, name))

    def _call(
        self, method: str, path: str, body: object = None, query: Mapping | None = None, missing_ok: bool = False
    ) -> dict | None:
        kind = {"PATCH": "application/strategic-merge-patch+json"}.get(method, "application/json")
        headers = {"Content-Type": "application/json-patch+json" if isinstance(body, list) else kind}
        request = self._api.param_serialize(
            method,
            path,
            query_params=list((query or {}).items()),
            header_params=headers,
            body=body,
            auth_settings=["BearerToken"],
        )
        answer = self._api.call_api(*request)
        content = answer.read().decode()
        if answer.status == 404 and missing_ok:
            return None
        if not 200 <= answer.status < 300:
            raise ApiException(status=answer.status, reason=content)
        return json.loads(content)


def _place(resource: str, namespace: str, name: str = "") -> str:
    space = f"/namespaces/{namespace}" if namespace else ""
    return f"{GROUPS.get(resource, '/api/v1')}{space}/{resource}" + (f"/{name}" if name else "")


class Sandbox:
    """One test's namespace: what an admin does and sees there."""

    wait_for = staticmethod(wait_for)

    def __init__(self, admin: SimulatedAdmin | RealAdmin, namespace: str) -> None:
        self._admin, self.namespace = admin, namespace

    @property
    def simulation(self) -> SimulatedCluster:
        """The whole simulated cluster, for tests that make it fail."""
        return self._admin.simulation

    @property
    def requests(self) -> list:
        """What the service has asked of the simulated cluster in this namespace."""
        return [each for each in self.simulation.requests if each.namespace == self.namespace]

    @property
    def writes(self) -> list[str]:
        """The methods with which the service tried to change a Deployment here, dry runs aside."""
        deployments = [each for each in self.requests if each.resource == "deployments" and each.user != "admin"]
        return [each.method for each in deployments if each.method != "GET" and "dryRun" not in each.query]

    def allow(self, rules: list[dict]) -> None:
        """Let the service's account do this here and nothing else."""
        self._admin.allow(self.namespace, rules)

    def get(self, name: str = "web", resource: str = "deployments") -> dict | None:
        """Return an object, or None."""
        return self._admin.get(resource, self.namespace, name)

    def create(self, item: dict, resource: str = "deployments") -> dict:
        """Create an object."""
        return self._admin.create(resource, self.namespace, item)

    def patch(self, patch: dict | list, name: str = "web", resource: str = "deployments") -> dict:
        """Apply a strategic merge patch, or a JSON patch when it is a list."""
        return self._admin.patch(resource, self.namespace, name, patch)

    def delete(self, name: str = "web", resource: str = "deployments") -> None:
        """Delete an object and what it owns."""
        self._admin.delete(resource, self.namespace, name)

    def replica_sets(self, name: str = "web") -> list[dict]:
        """Return a Deployment's ReplicaSets."""
        owned = self._admin.list("replicasets", self.namespace)
        return [each for each in owned if each["metadata"]["ownerReferences"][0]["name"] == name]


class Configured(Asker):
    """Write the files that a service reads."""

    deployments_dir: Path
    passwords_dir: Path
    namespace: str
    right = PASSWORD

    def configure(self, name: str, manifest: object) -> None:
        """Write NAME.yaml: text and bytes as they are, anything else as YAML, in the test's namespace if in none."""
        if isinstance(manifest, dict) and isinstance(manifest.get("metadata"), dict):
            manifest = manifest | {"metadata": {"namespace": self.namespace} | manifest["metadata"]}
        content = manifest if isinstance(manifest, str | bytes) else yaml.safe_dump(manifest, sort_keys=False)
        (self.deployments_dir / f"{name}.yaml").write_bytes(content if isinstance(content, bytes) else content.encode())

    def password(self, name: str, *lines: str | bytes) -> None:
        """Write the password file NAME, one line each."""
        content = b"".join((line if isinstance(line, bytes) else line.encode()) + b"\n" for line in lines)
        (self.passwords_dir / name).write_bytes(content)

    def reset(self, namespace: str) -> None:
        """Leave one password, that opens everything, and one deployment: web."""
        self.namespace = namespace
        for file in [*self.deployments_dir.iterdir(), *self.passwords_dir.iterdir()]:
            file.unlink()
        self.password("default", self.right)
        self.configure("web", deployment())

    def signal(self, name: str | None = None, **fields: object) -> Answer:
        """Signal with the right password."""
        return self.post("/deployment" + (f"/{name}" if name else ""), {"pw": self.right, **fields})

    def deploy(self, name: str = "web", **fields: object) -> Answer:
        """Signal, wait for the verdict, and have it in JSON."""
        return self.post(f"/deployment/{name}", {"pw": self.right, "wait": True, **fields}, Accept="application/json")

    def roll_back(self, name: str = "web", **fields: object) -> Answer:
        """Roll back, wait for the verdict, and have it in JSON."""
        return self.deploy(f"{name}/rollback", **fields)

    def show(self, name: str = "web", accept: str = "application/json", **query: object) -> Answer:
        """Ask how a rollout goes, in JSON."""
        path = f"/deployment/{name}?{urlencode(query)}"
        return self.get(path, Accept=accept, Authorization=f"Bearer {self.right}")


class ConfiguredService(Service, Configured):
    """The service under uWSGI, with directories to write to."""

    def __init__(self, folder: Path, host: str = "127.0.0.1", **environ: str) -> None:
        super().__init__(_environ(self, folder) | environ, host=host)


class InProcess(Configured):
    """The service without uWSGI: Flask's own client, for what happens behind the socket."""

    def __init__(self, folder: Path, **environ: str) -> None:
        # Not before it is needed: some tests are about what happens when this fails.
        from app import create_app

        self.app = create_app(_environ(self, folder) | environ)
        self._client = self.app.test_client()

    def ask(self, method: str, path: str, body: object = None, headers: Mapping | None = None) -> Answer:
        """Send one request."""
        response = self._client.open(path, method=method, data=encoded(body), headers=dict(headers or {}))
        received = Message()
        for key, value in response.headers:
            received[key] = value
        return Answer(response.status_code, received, response.get_data(as_text=True))


def _environ(service: Configured, folder: Path) -> dict[str, str]:
    service.deployments_dir, service.passwords_dir = folder / "deployments", folder / "passwords"
    service.deployments_dir.mkdir()
    service.passwords_dir.mkdir()
    return {"DEPLOYMENTS_DIR": str(service.deployments_dir), "PASSWORDS_DIR": str(service.passwords_dir)}


@pytest.fixture(scope="session")
def admin(request, tmp_path_factory) -> Iterator[SimulatedAdmin | RealAdmin]:
    """Stand before the cluster, with a kubeconfig for the service in `admin.kubeconfig`."""
    kubeconfig = tmp_path_factory.mktemp("cluster") / "kubeconfig"
    if real := request.config.getoption("--kubeconfig"):
        admin = RealAdmin(real)
        admin.write_kubeconfig(kubeconfig)
        admin.kubeconfig = kubeconfig
        yield admin
        admin.close()
    else:
        with SimulatedCluster() as simulation:
            simulation.write_kubeconfig(kubeconfig)
            admin = SimulatedAdmin(simulation)
            admin.kubeconfig = kubeconfig
            yield admin


@pytest.fixture
def cluster(admin) -> Iterator[Sandbox]:
    """Give a namespace of its own, in which the service has the rights of k8s/role.yaml."""
    sandbox = Sandbox(admin, f"test-{secrets.token_hex(4)}")
    admin.add_namespace(sandbox.namespace)
    sandbox.allow(role())
    yield sandbox
    admin.remove_namespace(sandbox.namespace)


@pytest.fixture(scope="session")
def running_service(admin, tmp_path_factory) -> Iterator[ConfiguredService]:
    """Start the service once: it reads its directories anew at every signal."""
    with ConfiguredService(tmp_path_factory.mktemp("service"), KUBECONFIG=str(admin.kubeconfig)) as service:
        yield service


@pytest.fixture
def service(running_service, cluster) -> ConfiguredService:
    """Serve under uWSGI, with one password and one deployment, web, in the test's namespace."""
    running_service.reset(cluster.namespace)
    return running_service


@pytest.fixture(scope="session")
def services(admin, tmp_path_factory) -> Iterator[Callable[..., ConfiguredService]]:
    """Start services with other settings, each once; `another` tells two of the same settings apart."""
    with ExitStack() as running:

        @cache
        def start(another: str = "", **environ: str) -> ConfiguredService:
            folder = tmp_path_factory.mktemp("service")
            service = ConfiguredService(folder, KUBECONFIG=str(admin.kubeconfig), **environ)
            running.callback(lambda: service.process.poll() is None and service.kill())
            service.start()
            return service

        yield start


@pytest.fixture
def quick_service(services, cluster) -> ConfiguredService:
    """Serve without any settling time: a rollout is complete as soon as its pods are ready."""
    service = services(SETTLE_SECONDS="0")
    service.reset(cluster.namespace)
    return service


@pytest.fixture
def patient_service(services, cluster) -> ConfiguredService:
    """Serve with a second of settling time: what crashes is seen crashing."""
    service = services(SETTLE_SECONDS="1")
    service.reset(cluster.namespace)
    return service


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    """Make tokens as GitHub does."""
    issuer = Issuer()
    yield issuer
    issuer.close()


@pytest.fixture(scope="module")
def chat() -> Iterator[Chat]:
    """Listen where notifications can be sent to."""
    chat = Chat()
    yield chat
    chat.close()


@pytest.fixture(scope="session")
def running_client(admin, tmp_path_factory) -> InProcess:
    """Make the application once, in this process."""
    return InProcess(tmp_path_factory.mktemp("client"), KUBECONFIG=str(admin.kubeconfig))


@pytest.fixture
def client(running_client, cluster) -> InProcess:
    """Serve in this process, with one password and one deployment, web, in the test's namespace."""
    running_client.reset(cluster.namespace)
    return running_client
