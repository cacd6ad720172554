"""The cluster that is measured against, and what is asked of it without auto-deployer."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from kubernetes import client, config
from kubernetes.client.rest import RESTClientObject

from tests.service import ROOT, wait_for

NAMESPACE = "auto-deployer-bench"


class Raw:
    """Talk to the API server with the client's credentials and TLS settings, and nothing else of the client."""

    def __init__(self, kubeconfig: str) -> None:
        settings = client.Configuration()
        config.load_kube_config(kubeconfig, client_configuration=settings)
        # Its urllib3 pool alone: certificates are set up as in the service, and connections are kept alive.
        self._pool, self._host = RESTClientObject(settings).pool_manager, settings.host
        self._headers = {"Accept": "application/json"}
        if bearer := settings.auth_settings().get("BearerToken"):
            self._headers["Authorization"] = bearer["value"]

    def call(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        """Make one call; return its status and body."""
        kind = "application/strategic-merge-patch+json" if method == "PATCH" else "application/json"
        headers = self._headers | ({"Content-Type": kind} if body else {})
        answer = self._pool.request(method, self._host + path, body=body, headers=headers, timeout=30, retries=False)
        return answer.status, answer.data


@contextmanager
def simulated_cluster(folder: Path) -> Iterator[str]:
    """Run a simulated cluster; give the path of its kubeconfig."""
    # In a process of its own, as an API server is: in this one it would wait for whatever measures here.
    kubeconfig = folder / "kubeconfig"
    command = [sys.executable, "-m", "tests.simulation", "--kubeconfig", str(kubeconfig)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        if not process.stdout.readline():
            raise RuntimeError("the simulated cluster doesn't start")
        yield str(kubeconfig)
    finally:
        process.terminate()
        process.wait(10)
        process.stdout.close()


@contextmanager
def namespace(raw: Raw, name: str = NAMESPACE) -> Iterator[None]:
    """Make a namespace to measure in, and delete it afterwards."""
    path = f"/api/v1/namespaces/{name}"
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    status, answer = raw.call("POST", "/api/v1/namespaces", json.dumps(body).encode())
    if status == 409:
        sys.exit(f"there is a namespace {name}; take it away with: kubectl delete namespace {name}")
    if status != 201:
        sys.exit(f"namespace {name} can't be made: {answer.decode()}")
    try:
        yield
    finally:
        raw.call("DELETE", path)
        # Or the next run would find it still on its way out.
        with suppress(TimeoutError):
            wait_for(lambda: raw.call("GET", path)[0] == 404, 60)
