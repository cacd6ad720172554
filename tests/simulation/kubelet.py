"""The scheduler and the kubelet of the one node: they run pods, report on them, and stop them."""

from __future__ import annotations

import hashlib
import random
import time

from .clock import Clock, now
from .node import FOREVER, Container, behaviour
from .refusals import ApiError
from .store import Object, Store

NODE = "node-1"
CONDITIONS = ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled")
UNSCHEDULABLE = (
    "0/1 nodes are available: 1 Insufficient cpu. no new claims to deallocate, preemption: 0/1 nodes are available: "
    "1 No preemption victims found for incoming pod."
)
EVICTED = "The node was low on resource: memory. Threshold quantity: 100Mi, available: 41Mi. "


class Worker:
    """What the kubelet does for one pod."""

    def __init__(self, kubelet: Kubelet, item: Object):
        self.kubelet, self.item, self.uid = kubelet, item, item["metadata"]["uid"]
        self.has_init = bool(item["spec"].get("initContainers"))
        self.inits = [Container(self, spec, "initContainers") for spec in item["spec"].get("initContainers", ())]
        self.containers = [Container(self, spec, "containers") for spec in item["spec"]["containers"]]
        self.started, self.ip = now(), f"10.0.{random.randint(0, 255)}.{random.randint(1, 254)}"

    def event(self, type: str, reason: str, message: str, path: str = "") -> None:
        """Write one of the kubelet's events."""
        self.kubelet.record(self.item, {"component": "kubelet", "host": NODE}, type, reason, message, path)

    def step(self) -> None:
        """Let every container whose time has come go on, and report."""
        with self.kubelet.store.lock:
            current = self.kubelet.current(self.item)
            if not current or "deletionTimestamp" in current["metadata"] or current["status"]["phase"] == "Failed":
                return
            self.item = current
            waiting = next((container for container in self.inits if not container.done), None)
            begun = self.inits[: self.inits.index(waiting) + 1] if waiting else self.inits + self.containers
            for container in begun:
                if container.due <= time.monotonic():
                    container.due = time.monotonic() + next(container.life)
            self._report()
            next_begins = waiting is not None and waiting.done
            due = 0 if next_begins else min(container.due for container in begun) - time.monotonic()
            if due < FOREVER:
                self.kubelet.clock.after(max(due, 0), ("pod", self.uid), self.step)

    def _report(self) -> None:
        """Write the pod's status, if it says something new."""
        unready = [item.name for item in self.containers if not item.ready]
        open_inits = [item.name for item in self.inits if not item.done]
        not_ready = ("ContainersNotReady", f"containers with unready status: [{' '.join(unready)}]")
        incomplete = ("ContainersNotInitialized", f"containers with incomplete status: [{' '.join(open_inits)}]")
        false = {"Initialized": incomplete} if open_inits else {}
        false |= {"Ready": not_ready, "ContainersReady": not_ready} if unready else {}
        conditions = [self._condition(type, false.get(type)) for type in CONDITIONS]
        running = any(item.runs for item in self.containers)
        status = {"observedGeneration": self.item["metadata"]["generation"]}
        status |= {"phase": "Running" if running else "Pending", "conditions": conditions, "hostIP": "127.0.0.1"}
        status |= {"podIP": self.ip, "podIPs": [{"ip": self.ip}], "startTime": self.started}
        if self.inits:
            status["initContainerStatuses"] = [item.status() for item in self.inits]
        by_name = sorted(self.containers, key=lambda item: item.name)
        status["containerStatuses"] = [item.status() for item in by_name]
        if status != self.item["status"]:
            self.item = self.kubelet.store.write("pods", {**self.item, "status": status})

    def _condition(self, type: str, why_not: tuple[str, str] | None) -> dict:
        """Return a condition that keeps its time as long as its status stays."""
        status = "False" if why_not else "True"
        old = next((item for item in self.item["status"].get("conditions", ()) if item["type"] == type), None)
        since = old["lastTransitionTime"] if old and old["status"] == status else now()
        condition = {"type": type, "observedGeneration": self.item["metadata"]["generation"], "status": status}
        condition |= {"lastProbeTime": None, "lastTransitionTime": since}
        return condition | (dict(zip(("reason", "message"), why_not, strict=True)) if why_not else {})

    def stop(self) -> None:
        """Stop the containers, and then remove the pod."""
        for container in self.containers:
            if container.started:
                path = f"spec.containers{{{container.name}}}"
                self.event("Normal", "Killing", f"Stopping container {container.name}", path)
        meta = self.item["metadata"]

        def remove() -> None:
            with self.kubelet.store.lock:
                if self.kubelet.current(self.item):
                    self.kubelet.store.remove("pods", meta["namespace"], meta["name"])

        self.kubelet.clock.after(0.2, ("gone", self.uid), remove)


class Kubelet:
    """Schedules pods to the node and runs them."""

    def __init__(self, store: Store, clock: Clock, speed: float):
        self.store, self.clock, self.speed = store, clock, speed
        self.workers: dict[str, Worker] = {}
        self.images: dict[str, str] = {}
        self.digests: dict[str, str] = {}
        self.behaviours: dict[str, str] = {}
        self._events: dict[tuple, str] = {}
        store.listeners.append(self._notice)

    def digest(self, image: str) -> str:
        """Return the digest that the registry has for an image now."""
        _, _, digest = image.partition("@")
        return digest or self.digests.get(image) or "sha256:" + hashlib.sha256(image.encode()).hexdigest()

    def current(self, pod: Object) -> Object | None:
        """Return the present state of a pod, or None when it is gone."""
        item = self.store.find("pods", pod["metadata"]["namespace"], pod["metadata"]["name"])
        return item if item and item["metadata"]["uid"] == pod["metadata"]["uid"] else None

    def _notice(self, resource: str, old: Object | None, new: Object | None) -> None:
        if resource != "pods":
            return
        uid = (new or old)["metadata"]["uid"]
        if new is None:
            self.workers.pop(uid, None)
        elif old is None:
            self.clock.after(0, ("schedule", uid), lambda: self._schedule(new))
        elif "deletionTimestamp" in new["metadata"].keys() - old["metadata"].keys() and uid in self.workers:
            self.clock.after(0, ("stop", uid), self.workers[uid].stop)

    def _schedule(self, pod: Object) -> None:
        """Bind a new pod to the node, if it fits."""
        source = {"component": "default-scheduler"}
        with self.store.lock:
            pod = self.current(pod)
            if not pod:
                return
            meta, images = pod["metadata"], [container["image"] for container in pod["spec"]["containers"]]
            if not all(behaviour(image, "", self.behaviours).fits for image in images):
                condition = {"type": "PodScheduled", "observedGeneration": meta["generation"], "status": "False"}
                condition |= {"lastProbeTime": None, "lastTransitionTime": now()}
                condition |= {"reason": "Unschedulable", "message": UNSCHEDULABLE}
                self.store.write("pods", {**pod, "status": {**pod["status"], "conditions": [condition]}})
                self.record(pod, source, "Warning", "FailedScheduling", UNSCHEDULABLE)
                return
            pod = self.store.write("pods", {**pod, "spec": {**pod["spec"], "nodeName": NODE}})
            where = f"Successfully assigned {meta['namespace']}/{meta['name']} to {NODE}"
            self.record(pod, source, "Normal", "Scheduled", where)
            worker = self.workers[meta["uid"]] = Worker(self, pod)
            worker.step()

    def record(self, pod: Object, source: dict, type: str, reason: str, message: str, path: str = "") -> None:
        """Write an event about a pod, or count up the event that says the same."""
        meta = pod["metadata"]
        with self.store.lock:
            key = (meta["uid"], path, reason, message)
            event = self.store.find("events", meta["namespace"], self._events.get(key, ""))
            if event:
                self.store.write("events", {**event, "count": event["count"] + 1, "lastTimestamp": now()})
                return
            self._events[key] = f"{meta['name']}.{time.time_ns():x}"
            involved = {field: meta[field] for field in ("namespace", "name", "uid", "resourceVersion")}
            involved |= {"kind": "Pod", "apiVersion": "v1"} | ({"fieldPath": path} if path else {})
            event = {"metadata": {"name": self._events[key], "namespace": meta["namespace"]}}
            event |= {"involvedObject": involved, "reason": reason, "message": message, "source": source}
            event |= {"firstTimestamp": now(), "lastTimestamp": now(), "count": 1, "type": type, "eventTime": None}
            event |= {"reportingComponent": source["component"], "reportingInstance": source.get("host", "")}
            self.store.add("events", event)

    def evict(self, namespace: str, name: str) -> None:
        """Evict a pod: it stays as Failed, and its ReplicaSet replaces it."""
        with self.store.lock:
            pod = self.store.find("pods", namespace, name)
            conditions = [
                {**c, "status": "False", "reason": "PodFailed"} if c["type"] in ("Ready", "ContainersReady") else c
                for c in pod["status"].get("conditions", [])
            ]
            status = {**pod["status"], "phase": "Failed", "reason": "Evicted", "message": EVICTED}
            self.store.write("pods", {**pod, "status": status | {"conditions": conditions}})

    def log(self, pod: Object, name: str, previous: bool) -> list[str]:
        """Return the lines that a container has logged, or raise what the kubelet says."""
        name, title = name or pod["spec"]["containers"][0]["name"], pod["metadata"]["name"]
        worker = self.workers.get(pod["metadata"]["uid"])
        containers = worker.inits + worker.containers if worker else []
        container = next((item for item in containers if item.name == name), None)
        if not container:
            raise ApiError(400, f"container {name} is not valid for pod {title}")
        waiting = container.state.get("waiting")
        # While a container waits for its restart, the run that ended last is the previous one.
        runs = container.runs if waiting or not previous else container.runs[:-1]
        if runs:
            return runs[-1]
        if previous:
            raise ApiError(400, f'previous terminated container "{name}" in pod "{title}" not found')
        reasons = {"ErrImagePull": "image can't be pulled", "ImagePullBackOff": "trying and failing to pull image"}
        why = f"is waiting to start: {reasons.get(waiting['reason'], waiting['reason'])}"
        raise ApiError(400, f'container "{name}" in pod "{title}" {why}')
