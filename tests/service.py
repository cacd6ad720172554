"""The real service under uWSGI, started as in the image, and asked as from outside."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

ROOT = Path(__file__).parent.parent
ROOMS = ("access", "cluster", "manifest", "rollout", "web")
# What the image holds of Python.
SOURCES = [*ROOT.glob("*.py"), *(path for room in ROOMS for path in (ROOT / room).glob("*.py"))]
PASSWORD = "correct-horse-battery-staple"
# As in the image, so that the memory is what it is there.
TUNABLES = re.search(r"(?m)^ +GLIBC_TUNABLES=(\S+)", (ROOT / "Dockerfile").read_text())[1]


def wait_for(condition: Callable[[], object], timeout: float = 10) -> object:
    """Return what condition() returns as soon as it is true."""
    deadline = time.monotonic() + timeout
    while not (result := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"not true within {timeout} s")
        time.sleep(0.01)
    return result


def free_port() -> int:
    """Find a port of 127.0.0.1 that no program listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@dataclass(frozen=True)
class Answer:
    """Hold an answer's status, headers and text."""

    status: int
    headers: Message
    text: str

    def json(self) -> dict:
        """Read the body as JSON."""
        return json.loads(self.text)


class Asker:
    """Ask an auto-deployer over HTTP; how a request gets there is left to `ask`."""

    def ask(self, method: str, path: str, body: object = None, headers: Mapping | None = None) -> Answer:
        """Send one request; a body that is neither text nor bytes is sent as JSON."""
        raise NotImplementedError

    def post(self, path: str = "/deployment", body: object = None, **headers: str) -> Answer:
        """Signal; Content_Type and the like become headers."""
        return self.ask("POST", path, body, _headers(headers))

    def get(self, path: str, **headers: str) -> Answer:
        """Ask for something; Accept and the like become headers."""
        return self.ask("GET", path, None, _headers(headers))


def encoded(body: object) -> bytes | None:
    """Make bytes of a body."""
    if body is None or isinstance(body, bytes):
        return body
    return (body if isinstance(body, str) else json.dumps(body)).encode()


class Service(Asker):
    """Run the service in a process of its own; a context manager that ends it."""

    def __init__(
        self,
        environ: Mapping[str, str],
        port: int | None = None,
        log_file: Path | None = None,
        host: str = "127.0.0.1",
        module: str = "app:create_app()",
    ) -> None:
        self.host, self._module = host, module
        self.environ, self.port, self._log_file = dict(environ), port or free_port(), log_file or Path(os.devnull)
        self.lines: list[str] = []
        self.process: subprocess.Popen | None = None

    @property
    def url(self) -> str:
        """Where it is served."""
        return f"http://{self.host}:{self.port}"

    @property
    def log(self) -> list[dict]:
        """What the application has written to the log so far; uWSGI's own lines are in `lines`."""
        found = []
        for line in list(self.lines):
            with suppress(ValueError):
                found.append(json.loads(line))
        return [line for line in found if isinstance(line, dict)]

    def __enter__(self) -> "Service":
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self.process and self.process.poll() is None:
            self.stop()

    def begin(self) -> None:
        """Start the process, and don't wait for it to serve."""
        ini = (ROOT / "uwsgi.ini").read_text()
        self._folder = tempfile.TemporaryDirectory(prefix="auto-deployer-")
        http, socket_path = f"{self.host}:{self.port}", f"{self._folder.name}/socket"
        for option, value in (("http", http), ("socket", socket_path), ("module", self._module)):
            ini, found = re.subn(rf"(?m)^{option} = .*$", f"{option} = {value}", ini)
            if not found:
                raise ValueError(f"uwsgi.ini must have a line for {option}")
        # The interpreter's own folder first: uWSGI finds Python's packages by the `python` on the PATH.
        bin_folder = str(Path(sys.executable).parent)
        path = os.pathsep.join([bin_folder, os.environ.get("PATH", os.defpath)])
        self.process = subprocess.Popen(
            # From standard input: a file would stay behind where the tests themselves are killed.
            ["uwsgi", "--ini", "-"],
            cwd=ROOT,
            # Nothing else of the shell's environment: neither its KUBECONFIG nor its proxies are meant for the tests.
            env={"PATH": path, "PYTHONDONTWRITEBYTECODE": "1", "GLIBC_TUNABLES": TUNABLES, **self.environ},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            # A process group of its own: Ctrl-C reaches only the program that started it, which then ends it.
            start_new_session=True,
        )
        with self.process.stdin as stdin:
            stdin.write(ini)
        self._reader = threading.Thread(target=self._read, args=[self.process.stdout], daemon=True)
        self._reader.start()

    def start(self) -> None:
        """Start it, and wait until it serves."""
        self.begin()
        wait_for(self._serves, 20)

    def stop(self, timeout: float = 40) -> int:
        """End it as Kubernetes does, with SIGTERM; return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.ended(timeout)

    def kill(self) -> None:
        """End it as a power cut does, with all its processes."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.ended(10)

    def restart(self) -> None:
        """End it in order, and start it again on the same port."""
        self.stop()
        self.start()

    def ended(self, timeout: float) -> int:
        """Wait for its end, and for the last line of its log; return its exit code."""
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            raise
        finally:
            self._reader.join(timeout)
            self.process.stdout.close()
            self._folder.cleanup()

    def ask(self, method: str, path: str, body: object = None, headers: Mapping | None = None) -> Answer:
        """Send one request, on a connection of its own."""
        connection = http.client.HTTPConnection(self.host.strip("[]"), self.port, timeout=40)
        try:
            connection.request(method, path, encoded(body), dict(headers or {}))
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read().decode())
        finally:
            connection.close()

    def connect(self) -> socket.socket:
        """Open a connection, to send what no client would."""
        return socket.create_connection((self.host.strip("[]"), self.port), timeout=40)

    def raw(self, sent: bytes) -> bytes:
        """Send these bytes, and return all that comes back until the connection ends."""
        with self.connect() as connection:
            connection.sendall(sent)
            return read_to_end(connection)

    def logged(self, answer: Answer) -> list[dict]:
        """Return the log lines of the request that was answered so, the access line among them."""

        def mine() -> list[dict]:
            return [line for line in self.log if line.get("request_id") == answer.headers["X-Request-ID"]]

        # The access line is the last one.
        wait_for(lambda: any("status" in line for line in mine()))
        return mine()

    def _serves(self) -> bool:
        if self.process.poll() is not None:
            ended = f"the service ended with {self.ended(10)}"
            raise ChildProcessError("\n".join([f"{ended}:", *self.lines]))
        try:
            return self.get("/healthz").status == 200
        except OSError:
            return False

    def _read(self, stream) -> None:
        # A buffer of one line: the file can be followed while the service runs.
        with self._log_file.open("a", buffering=1) as file:
            for line in stream:
                self.lines.append(line.rstrip("\n"))
                file.write(line)


class Chat:
    """A chat service that keeps what it is sent; it can be away, and refuse what it gets."""

    def __init__(self) -> None:
        self.messages: list[dict] = []
        self.port, self.refusals = 0, 0
        self.open()

    def open(self) -> None:
        """Listen, on the same port as before."""
        chat = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                refused = chat.refusals > 0
                chat.refusals -= refused
                if not refused:
                    chat.messages.append(message)
                self.send_response(500 if refused else 200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *args: object) -> None:
                """Keep quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        """Refuse connections."""
        self._server.shutdown()
        self._server.server_close()

    def about(self, namespace: str) -> list[dict]:
        """Return the messages about the deployments of a namespace."""
        return [each for each in list(self.messages) if namespace in json.dumps(each)]


def read_to_end(connection: socket.socket) -> bytes:
    """Return all that comes until the other side closes."""
    received = b""
    with suppress(ConnectionResetError):
        while data := connection.recv(65536):
            received += data
    return received


def _headers(named: Mapping[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in named.items()}
