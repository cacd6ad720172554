"""What the kubelet does for one pod: it sets it up, runs its containers, reports on them, and stops them."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from .clock import now
from .container import Container
from .node import FOREVER, NO_NAME
from .store import Object

if TYPE_CHECKING:
    from .kubelet import Kubelet

CONDITIONS = ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled")
MIN_MOUNT_PAUSE, MAX_MOUNT_PAUSE = 0.5, 122  # seconds of a real kubelet before it tries again; doubled each time
STEP = 0.1  # seconds for each part of what comes before the first container: volumes, sandbox


class Worker:
    """What the kubelet does for one pod."""

    def __init__(self, kubelet: Kubelet, item: Object):
        self.kubelet, self.item, meta = kubelet, item, item["metadata"]
        self.uid, self.title = meta["uid"], f"{meta['name']}_{meta['namespace']}({meta['uid']})"
        self.inits_first = bool(item["spec"].get("initContainers"))
        self.inits = [Container(self, spec, "initContainers") for spec in item["spec"].get("initContainers", ())]
        self.containers = [Container(self, spec, "containers") for spec in item["spec"]["containers"]]
        self.started, self.ip = now(), f"10.0.{random.randint(0, 255)}.{random.randint(1, 254)}"
        self.has_sandbox, self.life, self.due = False, self._set_up(), 0.0

    def event(self, type: str, reason: str, message: str, path: str = "") -> None:
        """Write one of the kubelet's events."""
        self.kubelet.record(self.item, "kubelet", type, reason, message, path)

    def _set_up(self) -> Iterator[float]:
        """Mount the volumes and start the sandbox: no container begins before."""
        yield STEP
        for times in itertools.count():
            for volume in self.item["spec"].get("volumes", ()):
                sources = (volume.get("configMap", {}).get("name"), volume.get("secret", {}).get("secretName"))
                if NO_NAME in sources:
                    what = f'{"configmap" if sources[0] else "secret"} "{NO_NAME}" not found'
                    text = f'MountVolume.SetUp failed for volume "{volume["name"]}" : {what}'
                    self.event("Warning", "FailedMount", text)
                    break
            else:
                break
            yield min(MIN_MOUNT_PAUSE * 2**times, MAX_MOUNT_PAUSE) / self.kubelet.speed
        self.has_sandbox = True
        yield STEP

    def step(self) -> None:
        """Let everything whose time has come go on, and report."""
        with self.kubelet.store.lock:
            current = self.kubelet.current(self.item)
            if not current or "deletionTimestamp" in current["metadata"] or current["status"]["phase"] == "Failed":
                return
            self.item = current
            waiting = next((container for container in self.inits if not container.done), None)
            begun = self.inits[: self.inits.index(waiting) + 1] if waiting else self.inits + self.containers
            if self.life and self.due <= time.monotonic():
                pause = next(self.life, None)
                self.life, self.due = (self.life, time.monotonic() + pause) if pause else (None, 0)
            if self.life:
                begun = [self]
            for container in begun:
                if container is not self and container.due <= time.monotonic():
                    container.due = time.monotonic() + next(container.life)
            self._report()
            next_begins = waiting is not None and waiting.done
            due = 0 if next_begins else min(container.due for container in begun) - time.monotonic()
            if due < FOREVER:
                self.kubelet.clock.after(max(due, 0), ("pod", self.uid), self.step)

    def _report(self, phase: str = "") -> None:
        """Write the pod's status, if it says something new; with the phase in which it ended."""
        run = [item for item in self.inits if item.sidecar] + self.containers
        unready = " ".join(item.name for item in run if not item.ready)
        undone = " ".join(item.name for item in self.inits if not item.done)
        false = {} if self.has_sandbox and not phase else {"PodReadyToStartContainers": {}}
        if undone:
            text = f"containers with incomplete status: [{undone}]"
            false["Initialized"] = {"reason": "ContainersNotInitialized", "message": text}
        if unready:
            text = f"containers with unready status: [{unready}]"
            false["Ready"] = false["ContainersReady"] = {"reason": "ContainersNotReady", "message": text}
        over = {"reason": "PodCompleted" if phase == "Succeeded" else "PodFailed"}
        if phase:
            false["Ready"] = false["ContainersReady"] = over
        others = [c for c in self.item["status"].get("conditions", ()) if c["type"] not in CONDITIONS]
        status = {"observedGeneration": self.item["metadata"]["generation"]}
        status["phase"] = phase or ("Running" if all(item.id for item in self.containers) else "Pending")
        status["conditions"] = others + [self._condition(type, false.get(type)) for type in CONDITIONS]
        if phase == "Succeeded":
            next(c for c in status["conditions"] if c["type"] == "Initialized").update(over)
        status |= {"hostIP": "127.0.0.1", "podIP": self.ip, "podIPs": [{"ip": self.ip}], "startTime": self.started}
        if self.inits:
            status["initContainerStatuses"] = [item.status() for item in self.inits]
        by_name = sorted(self.containers, key=lambda item: item.name)
        status["containerStatuses"] = [item.status() for item in by_name]
        if status != self.item["status"]:
            self.item = self.kubelet.store.write("pods", {**self.item, "status": status})

    def _condition(self, type: str, why_not: dict[str, str] | None) -> dict:
        """Return a condition that keeps its time as long as its status stays."""
        status = "True" if why_not is None else "False"
        old = next((item for item in self.item["status"].get("conditions", ()) if item["type"] == type), None)
        since = old["lastTransitionTime"] if old and old["status"] == status else now()
        condition = {"type": type, "observedGeneration": self.item["metadata"]["generation"], "status": status}
        return condition | {"lastProbeTime": None, "lastTransitionTime": since} | (why_not or {})

    def stop(self) -> None:
        """Stop the containers, and then remove the pod."""
        for container in self.containers:
            if container.started:
                path = f"spec.containers{{{container.name}}}"
                self.event("Normal", "Killing", f"Stopping container {container.name}", path)
        self.kubelet.clock.after(0.2, ("gone", self.uid), self._remove)

    def _remove(self) -> None:
        with self.kubelet.store.lock:
            if current := self.kubelet.current(self.item):
                self.item = current
                for container in self.containers + self.inits:
                    if "running" in container.state:
                        container.finish(0, "Completed")
                codes = [container.state.get("terminated", {}).get("exitCode") for container in self.containers]
                self._report("Failed" if any(code != 0 for code in codes) else "Succeeded")
                meta = self.item["metadata"]
                self.kubelet.store.remove("pods", meta["namespace"], meta["name"])
