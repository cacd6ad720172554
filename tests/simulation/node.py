"""What a container does on the node: its image's name decides, by the table BEHAVIOURS."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .clock import now

if TYPE_CHECKING:
    from .kubelet import Worker

TRACEBACK = """Traceback (most recent call last):
  File "/app/main.py", line 12, in <module>
    main()
  File "/app/main.py", line 7, in main
    url = os.environ['DATABASE_URL']
          ~~~~~~~~~~^^^^^^^^^^^^^^^^
  File "<frozen os>", line 717, in __getitem__
KeyError: 'DATABASE_URL'"""


@dataclass(frozen=True)
class Behaviour:
    """What becomes of a container."""

    fits: bool = True  # the scheduler finds room for it
    pulls: bool = True  # the registry has its image
    secret: str = ""  # the Secret that it lacks
    ends: tuple[int, str] | None = None  # exit code and reason, half a second after each start
    ready_after: float = 0.1  # seconds after its start
    log: tuple[str, ...] = ("listening on :8080",)


BEHAVIOURS = {  # by a word in the image's name
    "missing": Behaviour(pulls=False),
    "crash": Behaviour(ends=(1, "Error"), log=tuple(TRACEBACK.split("\n"))),
    "oom": Behaviour(ends=(137, "OOMKilled"), log=("loading the model into memory", "loaded 412 of 2048 MiB")),
    "badconfig": Behaviour(secret="missing"),
    "huge": Behaviour(fits=False),
    "unready": Behaviour(
        ready_after=float("inf"), log=("listening on :8080", "GET /healthz 503 database is not reachable")
    ),
    "slow": Behaviour(ready_after=4.9),
    "": Behaviour(),
}
# Seconds of a real kubelet, each divided by the node's speed.
MIN_BACK_OFF, MAX_BACK_OFF = 10, 300  # before a restart; doubled with each crash
PULL_BACK_OFF, RETRY = 10, 60  # after a failed pull; between two events that say the same
FOREVER = float("inf")


def behaviour(image: str, digest: str, known: dict[str, str]) -> Behaviour:
    """Return what an image does; what a test says about a digest or an image counts more than the name."""
    name = image.partition("@")[0]
    by_name = next(word for word in BEHAVIOURS if word in name)
    return BEHAVIOURS[known.get(digest, known.get(image, by_name))]


def full_name(image: str) -> str:
    """Return the name of an image as the container runtime writes it."""
    first, slash, _ = image.partition("/")
    if not slash:
        image = "docker.io/library/" + image
    elif not ("." in first or ":" in first or first == "localhost"):
        image = "docker.io/" + image
    return image if "@" in image or ":" in image.rpartition("/")[2] else image + ":latest"


class Container:
    """One container. Its life is a generator: each number is a pause after a change of its status."""

    def __init__(self, worker: Worker, spec: dict, kind: str):
        self.worker, self.spec, self.kind, self.name, self.image = worker, spec, kind, spec["name"], spec["image"]
        self.ready = self.started = self.done = False
        self.restarts, self.runs, self.last, self.id, self.digest = 0, [], {}, "", ""
        self.state = {"waiting": {"reason": "PodInitializing" if worker.has_init else "ContainerCreating"}}
        self.life, self.due = self._live(), 0.0

    @property
    def behaviour(self) -> Behaviour:
        """What the container does. The digest behind a tag is known after the pull."""
        return behaviour(self.image, self.digest, self.worker.kubelet.behaviours)

    def status(self) -> dict:
        """Return the container's part of the pod's status."""
        status = {"name": self.name, "state": self.state, "lastState": self.last, "ready": self.ready}
        status |= {"restartCount": self.restarts, "image": self.image, "imageID": "", "started": self.started}
        if self.id:
            repository = re.sub(r":[^/:]*$", "", full_name(self.image).partition("@")[0])
            status |= {"image": full_name(self.image), "imageID": f"{repository}@{self.digest}", "containerID": self.id}
        return status

    def _event(self, type: str, reason: str, message: str) -> None:
        self.worker.event(type, reason, message, f"spec.{self.kind}{{{self.name}}}")

    def _wait(self, reason: str, message: str) -> None:
        self.ready = self.started = False
        self.state = {"waiting": {"reason": reason, "message": message}}

    def _live(self) -> Iterator[float]:
        yield 0.1
        if not self.behaviour.pulls:
            yield from self._fail_to_pull()
        self._pull()
        while self.behaviour.secret:
            text = f'secret "{self.behaviour.secret}" not found'
            self._wait("CreateContainerConfigError", text)
            self._event("Warning", "Failed", f"Error: {text}")
            yield self._paced(RETRY)
            self._pull()
        if self.behaviour.ends:
            yield from self._crash()
        self._start()
        if self.kind == "initContainers":
            if self.spec.get("restartPolicy") != "Always":  # otherwise it is a sidecar, which doesn't end
                yield self.behaviour.ready_after
                self._end(0, "Completed")
            self.ready = self.done = True
            yield FOREVER
        while self.behaviour.ready_after == FOREVER:
            yield 1
            self._event("Warning", "Unhealthy", "Readiness probe failed: HTTP probe failed with statuscode: 503")
            yield 9
        yield self.behaviour.ready_after
        self.ready = True
        yield FOREVER

    def _paced(self, seconds: float) -> float:
        return seconds / self.worker.kubelet.speed

    def _pull(self) -> None:
        images = self.worker.kubelet.images
        if self.spec.get("imagePullPolicy") == "IfNotPresent" and self.image in images:
            text = f'Container image "{self.image}" already present on machine and can be accessed by the pod'
        else:
            self._event("Normal", "Pulling", f'Pulling image "{self.image}"')
            text = f'Successfully pulled image "{self.image}" in 84ms (84ms including waiting).'
            images[self.image] = self.worker.kubelet.digest(self.image)
        self._event("Normal", "Pulled", text)
        self.digest = images[self.image]

    def _fail_to_pull(self) -> Iterator[float]:
        full = full_name(self.image)
        why = f'rpc error: code = NotFound desc = failed to pull and unpack image "{full}": '
        why += f'failed to resolve reference "{full}": {full}: not found'
        self._event("Normal", "Pulling", f'Pulling image "{self.image}"')
        self._wait("ErrImagePull", why)
        self._event("Warning", "Failed", f'Failed to pull image "{self.image}": {why}')
        self._event("Warning", "Failed", "Error: ErrImagePull")
        yield self._paced(PULL_BACK_OFF)
        self._wait("ImagePullBackOff", f'Back-off pulling image "{self.image}": ErrImagePull: {why}')
        while True:
            self._event("Normal", "BackOff", f'Back-off pulling image "{self.image}"')
            self._event("Warning", "Failed", "Error: ImagePullBackOff")
            yield self._paced(RETRY)

    def _start(self) -> None:
        self.id = "containerd://" + os.urandom(32).hex()
        self.state, self.started = {"running": {"startedAt": now()}}, True
        self.runs = [*self.runs, [f"starting {self.image}", "reading the configuration", *self.behaviour.log]][-2:]
        self._event("Normal", "Created", "Container created")
        self._event("Normal", "Started", "Container started")

    def _end(self, code: int, reason: str) -> None:
        ended = {"exitCode": code, "reason": reason, "startedAt": self.state["running"]["startedAt"]}
        ended |= {"finishedAt": now(), "containerID": self.id}
        if code and self.spec.get("terminationMessagePolicy") == "FallbackToLogsOnError":
            ended["message"] = "".join(line + "\n" for line in self.runs[-1])[-2048:]
        self.state, self.ready, self.started = {"terminated": ended}, False, False

    def _crash(self) -> Iterator[float]:
        back_off, meta = MIN_BACK_OFF, self.worker.item["metadata"]
        who = f"{self.name} in pod {meta['name']}_{meta['namespace']}({meta['uid']})"
        while True:
            self._start()
            # Without a readiness probe a container is ready as soon as it runs, however soon it ends.
            yield 0.1
            self.ready = "readinessProbe" not in self.spec and self.kind == "containers"
            yield 0.4
            self._end(*self.behaviour.ends)
            yield 0.1
            ended = self.state
            if self.restarts:  # the first restart comes at once
                self.last = ended
                time_left = f"{back_off // 60}m{back_off % 60}s" if back_off >= 60 else f"{back_off}s"
                pod = who.replace(" in pod ", " pod=")
                self._wait("CrashLoopBackOff", f"back-off {time_left} restarting failed container={pod}")
                self._event("Warning", "BackOff", f"Back-off restarting failed container {who}")
                yield self._paced(back_off)
                back_off = min(back_off * 2, MAX_BACK_OFF)
            self.last, self.restarts = ended, self.restarts + 1
            self._pull()
