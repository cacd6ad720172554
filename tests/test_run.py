"""`make run`: the lines that it prints are pasted as they are, and work."""

import os
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from tests.conftest import deployment
from tests.service import PASSWORD, ROOT, free_port, wait_for

pytestmark = pytest.mark.simulated_only


class Run:
    """Hold a `make run`, with what it printed so far."""

    def __init__(self, printed: Path, process: subprocess.Popen) -> None:
        self._printed, self.process = printed, process

    @property
    def text(self) -> str:
        """What stands in the terminal."""
        return self._printed.read_text()

    @property
    def to_paste(self) -> list[str]:
        """The lines to paste; there are none before the service serves."""
        return [line for line in self.text.splitlines() if line.startswith(("curl ", "kubectl "))]

    def paste(self, line: str) -> str:
        """Run a line as a second terminal does; return what it shows."""
        return subprocess.run(["bash", "-c", line], cwd="/", capture_output=True, text=True, timeout=40).stdout

    @property
    def log(self) -> Path:
        """The file that it names."""
        [path] = [line.removeprefix("Its log: ") for line in self.text.splitlines() if line.startswith("Its log: ")]
        return Path(path)


@contextmanager
def run(folder: Path, port: int | None = None, **environ: str):
    """Start it in an environment; end it as Ctrl-C does."""
    printed = folder / "printed"
    with printed.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.run", "--port", str(port or free_port())],
            cwd=ROOT,
            # KUBECONFIG leads nowhere: whatever the shell exports, the simulated cluster is meant.
            env={"PATH": os.environ["PATH"], "TMPDIR": str(folder), "KUBECONFIG": "/nowhere", **environ},
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    started = Run(printed, process)
    try:
        # The line about the cluster is the last one.
        wait_for(lambda: process.poll() is not None or "What is in the cluster" in started.text, 30)
        yield started
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(40)


def test_the_story_by_copy_and_paste(tmp_path):
    with run(tmp_path, SETTLE_SECONDS="1", LOG_TAIL_LINES="1") as started:
        deploy, crash, back, look = started.to_paste
        assert started.text.endswith(f"{look}\n")
        assert started.paste(deploy).startswith("ok: revision 1 of web in default, image acme/web:latest, id ")
        failed = started.paste(crash).splitlines()
        assert failed[0] == "failed: revision 2 of web does not start"
        assert failed[1].startswith("web-") and "CrashLoopBackOff, exit code 1" in failed[1]
        # As LOG_TAIL_LINES in the environment says.
        assert failed[2] == "  KeyError: 'DATABASE_URL'"
        assert "image acme/web:latest -> acme/web:crash" in failed[3]
        rolled_back = started.paste(back)
        assert rolled_back.startswith("ok: revision 3 of web")
        assert rolled_back.endswith("rolled back to revision 1\n")
        assert "web-" in started.paste(look)
        # What uWSGI and the application say is in the file, and not in the terminal.
        assert "uWSGI" in started.log.read_text() and "POST /deployment/rollback 200" in started.log.read_text()
        assert "uWSGI" not in started.text
    assert started.process.returncode == 0
    assert os.listdir(tmp_path) == ["printed"]


def test_directories_that_are_given_are_used_and_no_password_is_shown(tmp_path, tmp_path_factory):
    deployments, passwords = tmp_path_factory.mktemp("deployments"), tmp_path_factory.mktemp("passwords")
    for name in ("shop", "zoo"):
        manifest = deployment(name, image="registry.example.com:5000/acme/shop:1", namespace="trade")
        (deployments / f"{name}.yaml").write_text(yaml.safe_dump(manifest))
    (deployments / "api.yaml").write_text(yaml.safe_dump({k: v for k, v in deployment("api").items() if k != "spec"}))
    (passwords / "shop").write_text(f"{PASSWORD}\n")
    directories = {"DEPLOYMENTS_DIR": str(deployments), "PASSWORDS_DIR": str(passwords)}
    with run(tmp_path, SETTLE_SECONDS="1", ROLLBACK_ON_FAILURE="true", **directories) as started:
        assert PASSWORD not in started.text
        assert f"$(head -n 1 {passwords / 'shop'})" in started.text
        # No line rolls back: the service does it by itself.
        deploy, crash, look = started.to_paste
        assert started.paste(deploy).startswith("ok: revision 1 of shop in trade")
        assert "rolled back to revision 1" in started.paste(crash)
        assert "shop-" in started.paste(look)


def test_a_port_in_use_is_named_with_the_way_out(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with run(tmp_path, port) as started:
            assert started.process.wait(10) == 1
    said = f"port {port} of 127.0.0.1 is in use; end what listens there, or choose another port: make run PORT=9090\n"
    assert started.text == said


def test_a_service_that_does_not_start_says_why(tmp_path):
    with run(tmp_path, SETTLE_SECONDS="soon") as started:
        assert started.process.wait(10) == 1
    assert started.text == "bad settings:\n  SETTLE_SECONDS: 'soon' is not a whole number from 0 to 3600\n"
    assert os.listdir(tmp_path) == ["printed"]


def test_a_service_that_ends_leaves_its_last_lines(tmp_path):
    port = free_port()
    with run(tmp_path, port) as started:
        [uwsgi] = Path(f"/proc/{started.process.pid}/task/{started.process.pid}/children").read_text().split()
        os.kill(int(uwsgi), signal.SIGKILL)
        assert started.process.wait(30) == 1
    # Its worker, which has the port as well, is ended too.
    socket.create_server(("127.0.0.1", port)).close()
    last_lines = started.text.partition("the service has ended with -9; the last lines of its log:\n")[2]
    assert "GET /healthz 200" in last_lines or "uWSGI" in last_lines
