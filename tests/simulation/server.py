"""The simulated cluster: the API over HTTP on loopback, and what tests may do to it."""

from __future__ import annotations

import contextlib
import json
import secrets
import select
import socket
import socketserver
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path

from .api import USER, Api, Request
from .errors import ApiError
from .store import Watch

KUBECONFIG = """apiVersion: v1
kind: Config
clusters:
- name: simulated
  cluster: {{server: "{url}"}}
users:
- name: {user}
  user: {{{token}}}
contexts:
- name: simulated
  context: {{cluster: simulated, user: {user}}}
current-context: simulated
"""


@dataclass
class Fault:
    """What happens to the next requests that match."""

    times: int
    method: str = ""
    path: str = ""
    status: int = 0
    body: dict | str | None = None
    drop: bool = False
    delay: float = 0
    call: Callable[[], object] | None = None
    headers: dict[str, str] = field(default_factory=dict)

    def matches(self, request: Request) -> bool:
        """Return whether a request is one of those."""
        return self.times > 0 and request.method.startswith(self.method) and self.path in request.path


class Server(socketserver.ThreadingTCPServer):
    """Accepts connections without ever polling."""

    allow_reuse_address = daemon_threads = True
    block_on_close = False
    request_queue_size = 512

    def __init__(self, cluster: SimulatedCluster, port: int):
        self.cluster, self.stopping = cluster, False
        self.open: set[socket.socket] = set()
        super().__init__(("127.0.0.1", port), Handler)
        self.thread = threading.Thread(target=self._accept, daemon=True, name="simulated-api")
        self.thread.start()

    def _accept(self):
        while not self.stopping:
            try:
                self.process_request(*self.socket.accept())
            except OSError:
                continue

    def handle_error(self, request, client_address):
        """Let clients go away."""

    def stop(self) -> None:
        """Close the listening socket and drop every connection."""
        self.stopping = True
        with contextlib.suppress(OSError):
            socket.create_connection(self.server_address).close()  # accept() has no other way of being told
        self.thread.join()
        self.server_close()
        for connection in list(self.open):
            hang_up(connection)


def hang_up(connection: socket.socket) -> None:
    """Close a connection under the thread that serves it."""
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1
    disable_nagle_algorithm = True

    def setup(self):
        super().setup()
        self.cluster: SimulatedCluster = self.server.cluster
        self.server.open.add(self.connection)

    def finish(self):
        self.server.open.discard(self.connection)
        with contextlib.suppress(OSError):
            super().finish()

    def log_message(self, *args):
        """Keep quiet."""

    def handle_request(self):
        """Serve one request."""
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        content_type = self.headers.get("Content-Type", "").partition(";")[0]
        request = Request(self.command, self.path, body, content_type)
        self.cluster.note(request)
        extra = {}
        try:
            request.user = self.cluster.authenticate(self.headers.get("Authorization"))
            fault = self.cluster.take_fault(request)
            if fault:
                if fault.call:
                    fault.call()
                time.sleep(fault.delay)
                if fault.drop:
                    self.close_connection = True
                    hang_up(self.connection)
                    return
                if fault.status:
                    extra = fault.headers
                    self._send_fault(request, fault)
                    return
            if request.verb == "watch" and request.resource:
                self._watch(request)
                return
            status, text = self.cluster.api.answer(request)
        except ApiError as error:
            status, text = error.code, json.dumps(error.status)
        self._send(request, status, text, extra)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_request

    def _send_fault(self, request: Request, fault: Fault) -> None:
        text = fault.body
        if not isinstance(text, str):
            text = json.dumps(fault.body or ApiError(fault.status, f"simulated failure {fault.status}").status)
        headers = ({"Retry-After": "1"} if fault.status == 429 else {}) | fault.headers
        self._send(request, fault.status, text, headers)

    def _send(self, request: Request, status: int, text: str, headers: dict[str, str]) -> None:
        request.status, body = status, text.encode()
        self.send_response(status)
        kind = "text/plain" if request.resource == "pods/log" and status == 200 else "application/json"
        for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def _watch(self, request: Request) -> None:
        api = self.cluster.api
        api.authorize(request)
        version = request.query.get("resourceVersion", "")
        if version and not version.isdigit():
            why = f'strconv.ParseUint: parsing "{version}": invalid syntax'
            raise ApiError(500, f'resourceVersion: Invalid value: "{version}": {why}')
        seconds = float(request.query.get("timeoutSeconds") or 1800)
        matches = api.matcher(request.resource, request)
        request.status, watch = 200, None
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            watch = api.store.watch(request.resource, matches, version)
            watch.silent = watch.silent or self.cluster.silent
            self._stream(watch, time.monotonic() + seconds)
        except ApiError as error:
            # The real one, too, has already said 200 when it finds that a version is too old.
            self._chunk(json.dumps({"type": "ERROR", "object": error.status}) + "\n")
        except OSError:
            self.close_connection = True
            return
        finally:
            if watch:
                api.store.unwatch(watch)
        if not self.close_connection:
            self.wfile.write(b"0\r\n\r\n")

    def _chunk(self, text: str) -> None:
        data = text.encode()
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def _stream(self, watch: Watch, until: float) -> None:
        self.wfile.flush()
        while True:
            lines = "".join(watch.lines.popleft() for _ in range(len(watch.lines)))
            if watch.cut:
                self._chunk((lines or '{"type":"MODIFIED","object":{"kind":"Deployment","apiVers')[:40])
                self.close_connection = True
                hang_up(self.connection)
                return
            if lines and not watch.silent:
                self._chunk(lines)
            # A silent watch stands for a dead connection, which doesn't end by itself either.
            left = None if watch.silent else until - time.monotonic()
            if left is not None and left <= 0:
                return
            readable, _, _ = select.select([watch.ready, self.connection], [], [], left)
            if watch.ready in readable:
                watch.ready.recv(4096)
            if self.connection in readable:  # nothing is due from a client that watches: it has gone
                self.close_connection = True
                return


class SimulatedCluster:
    """A small Kubernetes cluster in this process, to be used as a context manager."""

    def __init__(self, rules=None, port: int = 0):
        self.api, self.token = Api(), secrets.token_hex(16)
        self.api.rules = rules
        self.requests: list[Request] = []
        self.faults: list[Fault] = []
        self.silent = False
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
    def rules(self):
        """What the service's account may do: (verb, resource) pairs, or a dict of them by namespace; None: all."""
        return self.api.rules

    @rules.setter
    def rules(self, rules) -> None:
        self.api.rules = rules

    @property
    def digests(self) -> dict[str, str]:
        """The registry: the digest that an image's tag points to, by the image as it is written."""
        return self.api.node.digests

    @property
    def behaviours(self) -> dict[str, str]:
        """What an image (or a digest) does where its name doesn't say it: crash, oom, missing, and so on."""
        return self.api.node.behaviours

    def write_kubeconfig(self, path, admin: bool = False) -> None:
        """Write a kubeconfig of the service's account, or of an admin whom no rule concerns."""
        user, token = ("admin", "") if admin else ("auto-deployer", f'token: "{self.token}"')
        Path(path).write_text(KUBECONFIG.format(url=self.url, user=user, token=token))

    def authenticate(self, header: str | None) -> str:
        """Return who asks: without credentials it is the admin, as tests and kubectl are."""
        if not header:
            return "admin"
        if header == f"Bearer {self.token}":
            return USER
        raise ApiError(401, "Unauthorized")

    # What tests do as admin, without HTTP

    def get(self, resource: str, namespace: str, name: str) -> dict | None:
        """Return a copy of an object, or None."""
        item = self.api.store.find(resource, namespace, name)
        return item.copy() if item else None

    def list(self, resource: str, namespace: str = "", labels: str = "", fields: str = "") -> list[dict]:
        """Return copies of objects."""
        query = f"?labelSelector={labels}&fieldSelector={fields}"
        with self.api.store.lock:
            matches = self.api.matcher(resource, Request("GET", query))
            return [item.copy() for item in self.api.store.list(resource, namespace) if matches(item)]

    def create(self, resource: str, namespace: str, item: dict) -> dict:
        """Create an object."""
        return self._call("POST", resource, namespace, "", item)

    def patch(self, resource: str, namespace: str, name: str, patch: dict | list) -> dict:
        """Apply a strategic merge patch, or a JSON patch when it is a list."""
        return self._call("PATCH", resource, namespace, name, patch)

    def delete(self, resource: str, namespace: str, name: str) -> None:
        """Delete an object and what it owns."""
        self._call("DELETE", resource, namespace, name, None)

    def _call(self, method: str, resource: str, namespace: str, name: str, body) -> dict:
        prefix = "/apis/apps/v1" if resource in ("deployments", "replicasets") else "/api/v1"
        place = f"/namespaces/{namespace}" if namespace else ""
        kind = {"POST": "json", "PATCH": "json-patch+json" if isinstance(body, list) else "strategic-merge-patch+json"}
        data = b"" if body is None else json.dumps(body).encode()
        path = f"{prefix}{place}/{resource}{'/' + name if name else ''}?fieldValidation=Strict"
        request = Request(method, path, data, "application/" + kind.get(method, "json"))
        return json.loads(self.api.answer(request)[1])

    def evict(self, namespace: str, name: str) -> None:
        """Let the node throw a pod out: it stays as Failed, and its ReplicaSet replaces it."""
        with self.api.store.lock:
            pod = self.api.store.find("pods", namespace, name)
            why = "The node was low on resource: memory. Threshold quantity: 100Mi, available: 41Mi. "
            conditions = [
                {**c, "status": "False", "reason": "PodFailed"} if c["type"] in ("Ready", "ContainersReady") else c
                for c in pod["status"].get("conditions", [])
            ]
            status = {**pod["status"], "phase": "Failed", "reason": "Evicted", "message": why, "conditions": conditions}
            self.api.store.write("pods", {**pod, "status": status})

    def set_quota(self, namespace: str, name: str = "tight", pods: int | None = None, deployments: int | None = None):
        """Limit how many pods or Deployments a namespace may have; None lifts the limit."""
        limits = {"pods": pods, "count/deployments.apps": deployments}
        with self.api.store.lock:
            self.api.quotas[namespace] = {what: (name, n) for what, n in limits.items() if n is not None}
            for item in self.api.store.list("replicasets", namespace):
                self.api.controllers._soon(self.api.controllers.sync_replica_set, namespace, item["metadata"]["name"])

    def wait_for(self, condition: Callable[[], object], timeout: float = 10):
        """Return what condition() returns as soon as it is true, looking again at every change, request and watch."""
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

    def note(self, request: Request) -> None:
        """Log a request."""
        with self.api.store.changed:
            self.requests.append(request)
            self.api.store.changed.notify_all()

    def take_fault(self, request: Request) -> Fault | None:
        """Return the fault that a request meets, used up by one."""
        with self.api.store.lock:
            for fault in self.faults:
                if fault.matches(request):
                    fault.times -= 1
                    return fault
        return None

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
        """Make every resourceVersion handed out so far too old to watch from."""
        self.api.store.expire()

    def cut_watches(self) -> None:
        """End every open watch in the middle of a line."""
        for watch in self._watches():
            watch.cut = True
            watch.poke()

    def silence_watches(self, new: bool = False) -> None:
        """Let every open watch (and new ones too) stay open and say nothing any more."""
        self.silent = new
        for watch in self._watches():
            watch.silent = True
            watch.poke()

    def _watches(self) -> list[Watch]:
        with self.api.store.lock:
            return list(self.api.store.watches)
