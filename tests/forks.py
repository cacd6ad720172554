"""Runs the service in processes that start in some milliseconds: forks of one that has imported everything.

`python -m tests.forks` starts one for each line of JSON that it reads: {"environ": …, "log_file": …, "quiet": …}. It
answers with {"pid": …, "port": …}. Flask's own server serves: for what happens behind the socket, when a process dies.
"""

import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

from tests.service import ROOT


class Forks:
    """Start processes; a context manager that ends them all."""

    def __enter__(self) -> "Forks":
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.forks"],
            cwd=ROOT,
            env={"PATH": os.environ.get("PATH", os.defpath), "PYTHONDONTWRITEBYTECODE": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            # A process group of its own, which ends with it.
            start_new_session=True,
        )
        return self

    def __exit__(self, *error: object) -> None:
        with self._process as process:
            process.stdin.close()

    def start(self, environ: Mapping[str, str], log_file: Path, quiet: bool = False) -> tuple[int, int]:
        """Start a process with these environment variables; return its id, and the port at which it can be asked.

        A quiet one asks the cluster only when it gets a request: it doesn't look for unfinished rollouts.
        """
        asked = {"environ": dict(environ), "log_file": str(log_file), "quiet": quiet}
        with self._lock:
            print(json.dumps(asked), file=self._process.stdin, flush=True)
            answer = json.loads(self._process.stdout.readline())
        return answer["pid"], answer["port"]


def kill(pid: int) -> None:
    """End a process as a power cut does, and wait for its end."""
    process = os.pidfd_open(pid)
    try:
        signal.pidfd_send_signal(process, signal.SIGKILL)
        select.select([process], [], [])
    finally:
        os.close(process)


def main() -> None:
    """Fork for each line, and end all forks at the end of the input."""
    # What each process would import otherwise. None of it starts a thread, which a fork would lose.
    import apprise  # noqa: F401

    import app  # noqa: F401

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # What has ended is gone at once.
    for line in sys.stdin:
        # Before the fork: a request that comes too early waits in its queue.
        listening = socket.create_server(("127.0.0.1", 0), backlog=128)
        if not (pid := os.fork()):
            _serve(listening, **json.loads(line))
        print(json.dumps({"pid": pid, "port": listening.getsockname()[1]}), flush=True)
        listening.close()
    os.killpg(0, signal.SIGKILL)


def _serve(listening: socket.socket, environ: dict[str, str], log_file: str, quiet: bool) -> None:
    from werkzeug.serving import make_server

    from app import create_app
    from rollout import aftermath
    from rollout.monitor import Monitor

    aftermath.MAX_ROLLBACK_SECONDS = 1  # How long it waits for another process that may have died.
    if quiet:
        Monitor.resume = lambda *arguments: None
    for number, file in ((0, os.devnull), (1, log_file), (2, log_file)):
        os.dup2(os.open(file, os.O_RDWR | os.O_CREAT | os.O_APPEND), number)
    host, port = listening.getsockname()
    make_server(host, port, create_app(environ), threaded=True, fd=listening.fileno()).serve_forever()


if __name__ == "__main__":
    main()
