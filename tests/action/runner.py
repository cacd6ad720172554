"""A composite action, run as GitHub's runner does, and a gateway in front of the service that loses what it carries."""

import http.client
import os
import re
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml

from tests.service import PASSWORD, ROOT, Service

DEPLOY = ROOT / ".github" / "actions" / "deploy"
needs = pytest.mark.skipif(not shutil.which("jq") or not shutil.which("curl"), reason="needs curl and jq")


def inputs(service: Service, **given: str) -> dict[str, str]:
    """Return the action's inputs for a service's deployment web."""
    given = {name.replace("_", "-"): value for name, value in given.items()}
    return {"url": service.url, "password": PASSWORD, "deployment": "web", "timeout": "60s"} | given


@dataclass(frozen=True)
class Run:
    """Hold what a step of a workflow left behind."""

    exit_code: int
    log: str
    outputs: dict[str, str]
    summary: str

    def commands(self, name: str) -> list[str]:
        """Return what was said with a workflow command, as GitHub shows it.

        Between `stop-commands` and its end, GitHub takes no line for a command.
        """
        said, quiet = [], None
        for line in self.log.splitlines():
            command = re.fullmatch(r"::([\w-]+)(?: [^:]*)?::(.*)", line.lstrip())
            if quiet is not None or command is None:
                quiet = None if line.strip() == f"::{quiet}::" else quiet
            elif command[1] == "stop-commands":
                quiet = command[2]
            elif command[1] == name:
                said.append(command[2].replace("%0A", "\n").replace("%0D", "\r").replace("%25", "%"))
        return said


@dataclass
class Runner:
    """Run the action with a workflow's environment, each time in a new folder under the one that is given."""

    folder: Path
    environ: dict[str, str] = field(default_factory=dict)

    def start(self, inputs: Mapping[str, str], **environ: str) -> "Running":
        """Start the action's only step."""
        action = yaml.safe_load((DEPLOY / "action.yml").read_text())
        unknown = inputs.keys() - action["inputs"].keys()
        assert not unknown, f"GitHub only warns about inputs that don't exist: {unknown}"
        given = {name: inputs.get(name, each.get("default", "")) for name, each in action["inputs"].items()}
        [step] = action["runs"]["steps"]
        assert step["shell"] == "bash"
        folder = Path(tempfile.mkdtemp(prefix="runner-", dir=self.folder))
        env = {
            "PATH": os.environ["PATH"],
            "GITHUB_ACTION_PATH": str(DEPLOY),
            "GITHUB_OUTPUT": str(folder / "output"),
            "GITHUB_STEP_SUMMARY": str(folder / "summary"),
            "GITHUB_SHA": "0123456789abcdef0123456789abcdef01234567",
            "GITHUB_ACTOR": "octocat",
            **{name: _expanded(value, given) for name, value in step["env"].items()},
            **self.environ,
            **environ,
        }
        # https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-syntax#jobsjob_idstepsshell
        command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]]
        process = subprocess.Popen(
            command, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        return Running(process, folder)

    def run(self, inputs: Mapping[str, str], **environ: str) -> Run:
        """Run the action to its end."""
        return self.start(inputs, **environ).ended()


@dataclass
class Running:
    """Hold a step that runs."""

    process: subprocess.Popen
    folder: Path

    def ended(self) -> Run:
        """Wait for its end."""
        log, _ = self.process.communicate(timeout=90)
        summary = self.folder / "summary"
        return Run(
            self.process.returncode,
            log,
            self._outputs(),
            summary.read_text() if summary.exists() else "",
        )

    def _outputs(self) -> dict[str, str]:
        file = self.folder / "output"
        return dict(line.split("=", 1) for line in file.read_text().splitlines()) if file.exists() else {}


def _expanded(value: str, inputs: Mapping[str, str]) -> str:
    return re.sub(r"\$\{\{ inputs\.([\w-]+) \}\}", lambda found: inputs[found[1]], value)


class Gateway:
    """Stand in front of the service as an Ingress does; what happens to the next requests can be told.

    `next_posts` and `next_gets` hold what becomes of them, in order: `drop` (nothing arrives, the connection ends),
    `lose` (it arrives, the answer doesn't), `cut` (half the answer does), `late` (it arrives 2 s after a 504), or a
    status that is answered in place of the service's.
    """

    def __init__(self, port: int | Callable[[], int | None]) -> None:
        find_port = port if callable(port) else lambda: port
        self.next_posts: list[str | int] = []
        self.next_gets: list[str | int] = []
        self.seen: list[tuple[str, str]] = []
        # The Idempotency-Key of each POST.
        self.keys: list[str] = []
        # The service is away for a request whose Accept is one of these; and how often it was.
        self.away_for: set[str] = set()
        self.refused = 0
        gateway = self

        class Handler(BaseHTTPRequestHandler):
            def _pass_on(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                gateway.seen.append((self.command, self.path))
                if self.command == "POST":
                    gateway.keys.append(self.headers["Idempotency-Key"])
                queue = gateway.next_posts if self.command == "POST" else gateway.next_gets
                fate = queue.pop(0) if queue else None
                if isinstance(fate, int):
                    self._answer(fate, "text/html", b"<html>Bad Gateway</html>")
                elif fate != "drop":
                    if fate == "late":
                        self._answer(504, "text/html", b"<html>Gateway Timeout</html>")
                        time.sleep(2)
                    port = find_port()
                    if self.headers["Accept"] in gateway.away_for:
                        gateway.refused += 1
                        port = None
                    if port is None:
                        self._answer(503, "text/html", b"<html>no endpoints</html>")
                        return
                    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=40)
                    connection.request(self.command, self.path, body or None, dict(self.headers))
                    answer = connection.getresponse()
                    content = answer.read()
                    if fate == "cut":
                        self._answer(answer.status, answer.headers["Content-Type"], content, len(content) // 2)
                    elif fate not in ("lose", "late"):
                        self._answer(answer.status, answer.headers["Content-Type"], content)

            do_GET = do_POST = _pass_on

            def _answer(self, status: int, kind: str, content: bytes, sent: int | None = None) -> None:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content[:sent])

            def log_message(self, *args: object) -> None:
                """Keep quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def posts(self) -> list[str]:
        """The paths of the POSTs that came."""
        return [path for method, path in self.seen if method == "POST"]

    def close(self) -> None:
        """Listen no more."""
        self._server.shutdown()
        self._server.server_close()
