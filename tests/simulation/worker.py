"""What the kubelet does for one pod: it sets it up, runs its containers, reports on them, and stops them."""

from __future__ import annotations

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


def condition(pod: Object, type: str, why_not: dict[str, str] | None) -> dict:
    """Return a pod's condition. It keeps its time as long as its status stays."""
    status = "True" if why_not is None else "False"
    old = next((item for item in pod["status"].get("conditions", ()) if item["type"] == type), None)
    since = old["lastTransitionTime"] if old and old["status"] == status else now()
    condition = {"type": type, "observedGeneration": pod["metadata"]["generation"], "status": status}
    return condition | {"lastProbeTime": None, "lastTransitionTime": since} | (why_not or {})


class Worker:
    """What the kubelet does for one pod."""

    def __init__(self, kubelet: Kubelet, item: Object):
        self.kubelet, self.item, meta = kubelet, item, item["metadata"]
        self.uid, self.title = meta["uid"], f"{meta['name']}_{meta['namespace']}({meta['uid']})"
        self.inits_first = bool(item["spec"].get("initContainers"))
        self.inits = [Container(self, spec, "initContainers") for spec in item["spec"].get("initContainers", ())]
        self.containers = [Container(self, spec, "containers") for spec in item["spec"]["containers"]]
        self.started, self.ip = now(), f"10.0.{random.randint(0, 255)}.{random.randint(1, 254)}"
        self.has_sandbox = self.is_set_up = False
        self.life, self.due = self._set_up(), 0.0

    def event(self, type: str, reason: str, message: str, path: str = "") -> None:
        """Write one of the kubelet's events."""
        self.kubelet.record(self.item, "kubelet", type, reason, message, path)

    def _set_up(self) -> Iterator[float]:
        """Mount the volumes and start the sandbox."""
        yield STEP
        pause = MIN_MOUNT_PAUSE
        while problem := self._mount_problem():
            self.event("Warning", "FailedMount", problem)
            yield pause / self.kubelet.speed
            pause = min(pause * 2, MAX_MOUNT_PAUSE)
        self.has_sandbox = True
        yield STEP
        self.is_set_up = True
        yield FOREVER

    def _mount_problem(self) -> str:
        for volume in self.item["spec"].get("volumes", ()):
            for kind, key in (("configMap", "name"), ("secret", "secretName")):
                if volume.get(kind, {}).get(key) == NO_NAME:
                    why = f'{kind.lower()} "{NO_NAME}" not found'
                    return f'MountVolume.SetUp failed for volume "{volume["name"]}" : {why}'
        return ""

    def _begun(self) -> list[Worker | Container]:
        """Return whose life goes on: the pod's own, then one init container after the other, then the containers."""
        if not self.is_set_up:
            return [self]
        waiting = next((container for container in self.inits if not container.done), None)
        return self.inits[: self.inits.index(waiting) + 1] if waiting else self.inits + self.containers

    def step(self) -> None:
        """Let everything whose time has come go on, and report."""
        with self.kubelet.store.lock:
            current = self.kubelet.current(self.item)
            if not current or "deletionTimestamp" in current["metadata"] or current["status"]["phase"] == "Failed":
                return
            self.item, begun = current, self._begun()
            for one in begun:
                if one.due <= time.monotonic():
                    one.due = time.monotonic() + next(one.life)
            self._report()
            due = min(one.due for one in begun) - time.monotonic() if begun == self._begun() else 0
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
        status["conditions"] = others + [condition(self.item, type, false.get(type)) for type in CONDITIONS]
        if phase == "Succeeded":
            next(c for c in status["conditions"] if c["type"] == "Initialized").update(over)
        status |= {"hostIP": "127.0.0.1", "podIP": self.ip, "podIPs": [{"ip": self.ip}], "startTime": self.started}
        if self.inits:
            status["initContainerStatuses"] = [item.status() for item in self.inits]
        by_name = sorted(self.containers, key=lambda item: item.name)
        status["containerStatuses"] = [item.status() for item in by_name]
        if status != self.item["status"]:
            self.item = self.kubelet.store.write("pods", {**self.item, "status": status})

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
