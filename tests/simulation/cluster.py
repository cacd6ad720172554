"""The simulated cluster as tests use it: objects without HTTP, and faults."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from .admission import ADMIN, SERVICE_ACCOUNT
from .api import Api
from .refusals import RECORDED, ApiError
from .request import Request
from .server import Server
from .store import Watch


@dataclass
class Fault:
    """What happens to the next requests that match: first the call, then the delay, then the rest.

    With `late` all that happens after the request has taken effect; only its answer is missing.
    """

    times: int
    method: str = ""  # the beginning of it
    path: str = ""  # a part of it, query included
    status: int = 0
    body: dict | str | None = None
    drop: bool = False  # end the connection without an answer
    delay: float = 0
    call: Callable[[], object] | None = None
    headers: dict[str, str] = field(default_factory=dict)
    late: bool = False

    def matches(self, request: Request) -> bool:
        """Return whether a request is one of those."""
        return self.times > 0 and request.method.startswith(self.method) and self.path in request.path


class SimulatedCluster:
    """A small Kubernetes cluster in this process; use it as a context manager."""

    def __init__(self, port: int = 0, speed: float = 5):
        self.api, self.token = Api(speed), secrets.token_hex(16)
        # The registry: the digest that an image's tag points to, by the image as it is written.
        self.digests: dict[str, str] = self.api.kubelet.digests
        # A word of node.BEHAVIOURS, by an image or a digest whose name doesn't say what it does.
        self.behaviours: dict[str, str] = self.api.kubelet.behaviours
        self.requests: list[Request] = []
        self.faults: list[Fault] = []
        self.silent = False
        self.bookmark_seconds: float = 60
        self._port, self._server = port, None

    def __enter__(self) -> SimulatedCluster:
        self.api.clock.start()
        self.serve_again()
        return self

    def __exit__(self, *error) -> None:
        self.stop_serving()
        self.api.clock.stop()

    @property
    def url(self) -> str:
        """Where the API is served."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def rules(self) -> dict[str, list[tuple[str, ...]]] | None:
        """What the service's account may do, by namespace: (verb, resource), or with a name; None: everything."""
        return self.api.admission.rules

    @rules.setter
    def rules(self, rules: dict[str, list[tuple[str, ...]]] | None) -> None:
        self.api.admission.rules = rules

    def write_kubeconfig(self, path, admin: bool = False, client: str = "") -> None:
        """Write a kubeconfig of the service's account, or of an admin, for whom no rule holds.

        A client that is named can be told from others of the same account, by its requests.
        """
        written = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "simulated", "cluster": {"server": self.url}}],
            "users": [{"name": "user", "user": {} if admin else {"token": f"{self.token}.{client}"}}],
            "contexts": [{"name": "simulated", "context": {"cluster": "simulated", "user": "user"}}],
            "current-context": "simulated",
        }
        Path(path).write_text(json.dumps(written))

    def authenticate(self, header: str | None) -> str:
        """Return who asks. A request without credentials is the admin's: tests and kubectl send none."""
        if not header:
            return ADMIN
        if header.partition(".")[0] == f"Bearer {self.token}":
            return SERVICE_ACCOUNT
        raise ApiError(401, RECORDED["unauthorized"]["body"]["message"])

    # What tests do as admin, without HTTP

    def get(self, resource: str, namespace: str, name: str) -> dict | None:
        """Return a copy of an object, or None."""
        item = self.api.store.find(resource, namespace, name)
        return item.copy() if item else None

    def list(self, resource: str, namespace: str = "", labels: str = "", fields: str = "") -> list[dict]:
        """Return copies of objects."""
        with self.api.store.lock:
            matches = Request("GET", f"{_path(resource, '')}?labelSelector={labels}&fieldSelector={fields}").matcher()
            return [item.copy() for item in self.api.store.list(resource, namespace) if matches(item)]

    def create(self, resource: str, namespace: str, item: dict) -> dict:
        """Create an object."""
        return self._call("POST", _path(resource, namespace), item, "json")

    def patch(self, resource: str, namespace: str, name: str, patch: dict | list) -> dict:
        """Apply a strategic merge patch, or a JSON patch when it is a list."""
        kind = "json-patch+json" if isinstance(patch, list) else "strategic-merge-patch+json"
        return self._call("PATCH", _path(resource, namespace, name), patch, kind)

    def delete(self, resource: str, namespace: str, name: str) -> None:
        """Delete an object and what it owns."""
        self._call("DELETE", _path(resource, namespace, name), None, "json")

    def _call(self, method: str, path: str, body, kind: str) -> dict:
        request = Request(method, f"{path}?fieldValidation=Strict", json.dumps(body).encode(), f"application/{kind}")
        return json.loads(self.api.answer(request)[1])

    def evict(self, namespace: str, name: str) -> None:
        """Let the kubelet evict a pod."""
        self.api.kubelet.evict(namespace, name)

    def drain(self, namespace: str, name: str) -> None:
        """Evict a pod by the eviction API, as `kubectl drain` does: it is deleted, and replaced."""
        with self.api.store.lock:
            self.api.kubelet.drain(self.api.store.find("pods", namespace, name))
            self.delete("pods", namespace, name)

    def set_quota(self, namespace: str, name: str = "tight", pods: int | None = None, deployments: int | None = None):
        """Limit how many pods or Deployments a namespace may have; None lifts the limit."""
        limits = {"pods": pods, "count/deployments.apps": deployments}
        with self.api.store.lock:
            limited = {what: (name, n) for what, n in limits.items() if n is not None}
            self.api.admission.quotas[namespace] = limited
            for item in self.api.store.list("replicasets", namespace):
                self.api.controllers.look_again("replicasets", namespace, item["metadata"]["name"])

    def wait_for(self, condition: Callable[[], object], timeout: float = 10):
        """Return what condition() returns as soon as it is true; look again at every change, request and watch."""
        deadline = time.monotonic() + timeout
        with self.api.store.changed:
            while not (result := condition()):
                left = deadline - time.monotonic()
                if left <= 0:
                    raise TimeoutError(f"not true within {timeout} s")
                self.api.store.changed.wait(left)
            return result

    # Faults

    def fail(self, times: int = 1, method: str = "", path: str = "", **how) -> Fault:
        """Make the next matching requests fail: status (body, headers), drop, delay; or call something before each."""
        fault = Fault(times, method, path, **how)
        self.faults.append(fault)
        return fault

    def take_fault(self, request: Request) -> Fault | None:
        """Return the fault that a request meets, and count it as used once more."""
        with self.api.store.lock:
            for fault in self.faults:
                if fault.matches(request):
                    fault.times -= 1
                    return fault
        return None

    def note(self, request: Request) -> None:
        """Remember a request."""
        with self.api.store.changed:
            self.requests.append(request)
            self.api.store.changed.notify_all()

    def stop_serving(self) -> None:
        """Close the port and drop all connections; the cluster itself goes on."""
        if self._server:
            self._server.stop()
            self._server = None

    def serve_again(self) -> None:
        """Serve, on the same port as before."""
        self._server = Server(self, self._port)
        self._port = self._server.server_address[1]

    def expire_history(self) -> None:
        """Make every resourceVersion and every page's token handed out so far too old."""
        self.api.store.expire()

    def cut_watches(self) -> None:
        """End every open watch in the middle of a line."""
        for watch in self._watches():
            watch.cut = True
            watch.poke()

    def silence_watches(self, new: bool = False) -> None:
        """Let every open watch (and new ones too) stay open and send nothing, no bookmark either."""
        self.silent = new
        for watch in self._watches():
            watch.silent = True
            watch.poke()

    def _watches(self) -> list[Watch]:
        with self.api.store.lock:
            return list(self.api.store.watches)


def _path(resource: str, namespace: str, name: str = "") -> str:
    group = "/apis/apps/v1" if resource in ("deployments", "replicasets") else "/api/v1"
    return f"{group}{f'/namespaces/{namespace}' if namespace else ''}/{resource}{f'/{name}' if name else ''}"
