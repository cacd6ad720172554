"""Serves the API over HTTP on loopback: connections, requests, and the streams of watches."""

from __future__ import annotations

import contextlib
import json
import select
import socket
import socketserver
import threading
import time
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING

from .refusals import ApiError
from .request import Request
from .store import Watch

if TYPE_CHECKING:
    from .cluster import Fault, SimulatedCluster

MAX_WATCH_SECONDS = 1800
LAST_BOOKMARK_SECONDS = 2  # before a watch's time is up


class Server(socketserver.ThreadingTCPServer):
    """Accepts connections, and never polls."""

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
            with contextlib.suppress(OSError):
                self.process_request(*self.socket.accept())

    def handle_error(self, request, client_address):
        """Ignore it: the client has closed its connection."""

    def stop(self) -> None:
        """Close the listening socket and drop every connection."""
        self.stopping = True
        with contextlib.suppress(OSError):
            socket.create_connection(self.server_address).close()  # accept() returns for nothing else
        self.thread.join()
        self.server_close()
        for connection in list(self.open):
            _hang_up(connection)


def _hang_up(connection: socket.socket) -> None:
    """Close a connection under the thread that serves it."""
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


class Handler(BaseHTTPRequestHandler):
    """Serves one connection."""

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
        """Log nothing."""

    def handle_request(self):
        """Serve one request."""
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        content_type = self.headers.get("Content-Type", "").partition(";")[0]
        request = Request(self.command, self.path, body, content_type, self.headers.get("Accept", ""))
        self.cluster.note(request)
        try:
            header = self.headers.get("Authorization")
            request.user, request.client = self.cluster.authenticate(header), (header or "").partition(".")[2]
            fault = self.cluster.take_fault(request)
            if fault and self._answered(request, fault):
                return
            if request.verb == "watch" and request.resource:
                self._watch(request)
                return
            status, text = self.cluster.api.answer(request)
        except ApiError as error:
            status, text = error.code, json.dumps(error.status)
        self._send(request, status, text)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_request

    def _answered(self, request: Request, fault: Fault) -> bool:
        """Let a fault happen; return whether the fault was the answer."""
        if fault.late:
            with contextlib.suppress(ApiError):
                self.cluster.api.answer(request)
        if fault.call:
            fault.call()
        time.sleep(fault.delay)
        if fault.drop:
            self.close_connection = True
            _hang_up(self.connection)
        elif fault.status:
            text = fault.body
            if not isinstance(text, str):
                text = json.dumps(text or ApiError(fault.status, f"simulated failure {fault.status}").status)
            headers = ({"Retry-After": "1"} if fault.status == 429 else {}) | fault.headers
            self._send(request, fault.status, text, headers)
        return bool(fault.drop or fault.status)

    def _send(self, request: Request, status: int, text: str, headers: dict[str, str] | None = None) -> None:
        request.status, body = status, text.encode()
        self.send_response(status)
        kind = "text/plain" if request.resource == "pods/log" and status == 200 else "application/json"
        for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def _watch(self, request: Request) -> None:
        api = self.cluster.api
        api.admission.authorize(request)
        matches = request.matcher()
        seconds = float(request.query.get("timeoutSeconds") or MAX_WATCH_SECONDS)
        request.status, watch = 200, None
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            watch = api.store.watch(request.kind, matches, request.query.get("resourceVersion", ""))
            watch.silent = watch.silent or self.cluster.silent
            self._stream(watch, time.monotonic() + seconds, request.query.get("allowWatchBookmarks") == "true")
        except ApiError as error:
            # A real API server, too, has already said 200 when it finds that a version is too old.
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

    def _stream(self, watch: Watch, until: float, bookmarks: bool) -> None:
        self.wfile.flush()
        due = self._next_bookmark(until) if bookmarks else until
        while True:
            if bookmarks and time.monotonic() >= due:
                self.cluster.api.store.bookmark(watch)
                due = self._next_bookmark(until)
            lines = watch.take()
            if watch.cut:
                self._chunk((lines or '{"type":"MODIFIED","object":{"kind":"Deployment","apiVers')[:40])
                self.close_connection = True
                _hang_up(self.connection)
                return
            if lines and not watch.silent:
                self._chunk(lines)
            if not watch.silent and time.monotonic() >= until:
                return
            # A silent watch stands for a dead connection, which doesn't end by itself either.
            pause = None if watch.silent else max(0, min(until, due) - time.monotonic())
            readable, _, _ = select.select([watch.ready, self.connection], [], [], pause)
            if watch.ready in readable:
                watch.ready.recv(4096)
            if self.connection in readable:  # a client that watches sends nothing: it has gone
                self.close_connection = True
                return

    def _next_bookmark(self, until: float) -> float:
        """Return when the next bookmark is due: regularly, and shortly before the end."""
        now, last = time.monotonic(), until - LAST_BOOKMARK_SECONDS
        regular = now + self.cluster.bookmark_seconds
        return min(regular, last) if last > now else regular
