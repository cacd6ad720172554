"""The life of one container, as the kubelet reports it."""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import Iterator
from typing import TYPE_CHECKING

from . import node
from .clock import now

if TYPE_CHECKING:
    from .worker import Worker

# Seconds of a real kubelet, each divided by the node's speed.
MIN_BACK_OFF, MAX_BACK_OFF = 10, 300  # before a restart or a pull; doubled with each failure
SYNC, RESYNC = 1, 12  # from a container's end to what follows; between two attempts to create a container
RUNC = "failed to create containerd task: failed to create shim task: OCI runtime create failed: "
RUNC += "runc create failed: unable to start container process: "


class Container:
    """One container. Its life is a generator: each number is a pause after a change of its status."""

    def __init__(self, worker: Worker, spec: dict, kind: str):
        self.worker, self.spec, self.kind, self.name, self.image = worker, spec, kind, spec["name"], spec["image"]
        self.sidecar = kind == "initContainers" and spec.get("restartPolicy") == "Always"
        self.ready = self.started = self.done = False
        self.restarts, self.last, self.ended, self.id, self.digest = 0, {}, {}, "", ""
        self.logs: dict[str, list[str]] = {}  # by the id of an instance: the one that runs, and the one before it
        self.state = {"waiting": {"reason": "PodInitializing" if worker.inits_first else "ContainerCreating"}}
        self.life, self.due = self._live(), 0.0

    @property
    def behaviour(self) -> node.Behaviour:
        """What the container does. The digest behind a tag is known after the pull."""
        return node.behaviour(self.image, self.digest, self.worker.kubelet.behaviours, self.spec.get("command"))

    def status(self) -> dict:
        """Return the container's part of the pod's status."""
        status = {"name": self.name, "state": self.state, "lastState": self.last, "ready": self.ready}
        status |= {"restartCount": self.restarts, "image": self.image, "imageID": "", "started": self.started}
        if self.id:
            status |= {"image": node.full_name(self.image), "imageID": f"{node.repository(self.image)}@{self.digest}"}
            status |= {"containerID": self.id}
        return status

    def _event(self, type: str, reason: str, message: str) -> None:
        self.worker.event(type, reason, message, f"spec.{self.kind}{{{self.name}}}")

    def _wait(self, reason: str, message: str) -> None:
        self.ready = self.started = False
        self.state = {"waiting": {"reason": reason, "message": message}}

    def _live(self) -> Iterator[float]:
        back_off = MIN_BACK_OFF
        while True:
            yield from self._pull()
            while why := self._obstacle():
                self._wait("CreateContainerConfigError", why)
                self._event("Warning", "Failed", f"Error: {why}")
                yield self._paced(RESYNC)
                yield from self._pull()
            killed = yield from self._run()
            # The first restart comes at once. Of a container that a probe killed, the second too.
            if self.restarts > killed:
                yield from self._back_off(back_off)
                back_off = min(back_off * 2, MAX_BACK_OFF)
            elif not killed:
                yield self._paced(SYNC)

    def _paced(self, seconds: float) -> float:
        return seconds / self.worker.kubelet.speed

    def _pull(self) -> Iterator[float]:
        """Pull the image, unless the node may use the one that it has."""
        images, pulling = self.worker.kubelet.images, f'pulling image "{self.image}"'
        if self.spec.get("imagePullPolicy") == "IfNotPresent" and self.image in images:
            self.digest = images[self.image]
            present = f'Container image "{self.image}" already present on machine and can be accessed by the pod'
            self._event("Normal", "Pulled", present)
            return
        self._event("Normal", "Pulling", f"P{pulling[1:]}")
        back_off = MIN_BACK_OFF
        while why := node.pull_refusal(self.image, self.behaviour):
            self._event("Warning", "Failed", f'Failed to pull image "{self.image}": {why}')
            self._event("Warning", "Failed", "Error: ErrImagePull")
            self._wait("ErrImagePull", why)
            yield self._paced(SYNC)
            self._event("Normal", "BackOff", f"Back-off {pulling}")
            self._event("Warning", "Failed", "Error: ImagePullBackOff")
            yield self._paced(MIN_BACK_OFF)
            self._wait("ImagePullBackOff", f"Back-off {pulling}: ErrImagePull: {why}")
            yield self._paced(back_off)
            back_off = min(back_off * 2, MAX_BACK_OFF)
            self._event("Normal", "Pulling", f"P{pulling[1:]}")
        took = f"{random.randint(20, 900)}ms"
        text = (
            f'Successfully pulled image "{self.image}" in {took} ({took} including waiting). Image size: 1085092 bytes.'
        )
        self._event("Normal", "Pulled", text)
        self.digest = images[self.image] = self.worker.kubelet.digest(self.image)

    def _obstacle(self) -> str:
        """Return why the container can't be created, or nothing."""
        if self.behaviour.secret:
            return f'secret "{self.behaviour.secret}" not found'
        sources = [*self.spec.get("envFrom", ()), *(item.get("valueFrom", {}) for item in self.spec.get("env", ()))]
        for key, source in (pair for item in sources for pair in item.items()):
            if key.endswith("Ref") and source.get("name") == node.NO_NAME and not source.get("optional"):
                return f'{"secret" if key.startswith("secret") else "configmap"} "{node.NO_NAME}" not found'
        pod = self.worker.item
        rights = pod["spec"].get("securityContext", {}) | self.spec.get("securityContext", {})
        if rights.get("runAsNonRoot") and not rights.get("runAsUser") and node.ROOT_IMAGE in self.image:
            why = f'(pod: "{self.worker.title}", container: {self.name})'
            return f"container has runAsNonRoot and image will run as root {why}"
        return ""

    def _start(self) -> bool:
        """Start the program; return whether there is one."""
        if self.ended:
            self.last, self.restarts = self.ended, self.restarts + 1
        self.id, program = "containerd://" + os.urandom(32).hex(), self.spec.get("command", [""])[0]
        self._event("Normal", "Created", "Container created")
        if program.startswith(node.NO_PROGRAM):
            why = f'{RUNC}exec: "{program}": stat {program}: no such file or directory'
            self._event("Warning", "Failed", f"Error: {why}")
            self.logs = {self.id: []}
            ended = {"exitCode": 128, "reason": "StartError", "message": why, "startedAt": "1970-01-01T00:00:00Z"}
            self.last = self.ended = {"terminated": ended | {"finishedAt": now(), "containerID": self.id}}
            self._wait("RunContainerError", why)
            return False
        self.state, self.started = {"running": {"startedAt": now()}}, True
        said = [] if self.behaviour.hangs else [f"starting {self.image}", "reading the configuration"]
        self.logs[self.id] = [*said, *self.behaviour.log] if said else []
        self._event("Normal", "Started", "Container started")
        return True

    def _end(self, code: int, reason: str) -> None:
        """End. The kubelet keeps one instance that has ended, and the log of no other."""
        ended = {"exitCode": code, "reason": reason, "startedAt": self.state["running"]["startedAt"]}
        ended |= {"finishedAt": now(), "containerID": self.id}
        if code and self.spec.get("terminationMessagePolicy") == "FallbackToLogsOnError":
            ended["message"] = "".join(line + "\n" for line in self.logs[self.id])[-2048:]
        self.ended, self.logs = {"terminated": ended}, {self.id: self.logs[self.id]}

    def finish(self, code: int, reason: str) -> None:
        """End, and say so."""
        self._end(code, reason)
        self.state, self.ready, self.started = self.ended, False, False

    def _run(self) -> Iterator[float]:
        """Run once, to the end if there is one; return whether a probe killed the container."""
        if not self._start():
            return False
        does, init = self.behaviour, self.kind == "initContainers"
        self.ready = self.done = self.sidecar
        if does.ends and (does.ends[0] or not init):
            # Without a readiness probe a container is ready as soon as it runs, however soon it ends.
            self.ready = self.sidecar or not (init or "readinessProbe" in self.spec)
            yield does.after
            self.finish(*does.ends)
            return False
        if not init:
            return (yield from self._serve())
        if not self.sidecar:
            yield node.FOREVER if does.hangs else does.ready_after or 0.1
            self.finish(0, "Completed")
            self.ready = self.done = True
        yield node.FOREVER

    def _serve(self) -> Iterator[float]:
        """Run until a probe kills the container; return True then."""
        refusals, ready_after = self._refusals(), self.behaviour.ready_after
        killer = next((probe for probe in ("startup", "liveness") if probe in refusals), "")
        self.started = killer != "startup"
        if self.started and "readiness" not in refusals:
            if pause := ready_after or 0.1 * ("readinessProbe" in self.spec):
                yield pause
            self.ready = True
        if not refusals:
            yield node.FOREVER
        probe = {"periodSeconds": 10, **self.spec.get(f"{killer or 'readiness'}Probe", {})}
        for times in itertools.count(1):
            yield self._paced(probe["periodSeconds"] if times > 1 else min(1, probe["periodSeconds"]))
            for name, why in refusals.items():
                self._event("Warning", "Unhealthy", f"{name.title()} probe failed: HTTP probe failed with {why}")
            if killer and times == probe["failureThreshold"]:
                break
        self._event("Normal", "Killing", f"Container {self.name} failed {killer} probe, will be restarted")
        self._end(0, "Completed")
        return True

    def _refusals(self) -> dict[str, str]:
        """Return which probes fail, and how. Until the startup probe succeeds there is no other."""
        found = {
            name: "statuscode: 404"
            for name in ("startup", "liveness", "readiness")
            if self.spec.get(f"{name}Probe", {}).get("httpGet", {}).get("path") == node.NO_PATH
        }
        if self.behaviour.ready_after == node.FOREVER:
            found["readiness"] = "statuscode: 503"
        return {"startup": found["startup"]} if "startup" in found else found

    def _back_off(self, seconds: int) -> Iterator[float]:
        """Wait for the restart. That the container waits is said only some time after its end."""
        text = f"Back-off restarting failed container {self.name} in pod {self.worker.title}"
        self._event("Warning", "BackOff", text)
        yield self._paced(SYNC)
        self.last, time_left = self.ended, f"{seconds // 60}m{seconds % 60}s" if seconds >= 60 else f"{seconds}s"
        who = f"container={self.name} pod={self.worker.title}"
        self._wait("CrashLoopBackOff", f"back-off {time_left} restarting failed {who}")
        self._event("Warning", "BackOff", text)
        yield self._paced(seconds)
