"""The scheduler and the kubelet of the one node: they run pods, and have their logs and events."""

from __future__ import annotations

import hashlib
import time

from kubernetes.utils.quantity import parse_quantity

from .clock import Clock, now
from .node import behaviour
from .refusals import ApiError
from .store import Object, Store
from .worker import Worker, condition

NODE, NODE_CPUS = "node-1", 16
UNSCHEDULABLE = (
    "0/1 nodes are available: 1 Insufficient cpu. no new claims to deallocate, preemption: 0/1 nodes are available: "
    "1 Preemption is not helpful for scheduling."
)
EVICTED = "The node was low on resource: memory. Threshold quantity: 100Mi, available: 41Mi. "


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

    def _fits(self, container: dict) -> bool:
        asked = container["resources"].get("requests", {}).get("cpu", 0)
        return behaviour(container["image"], "", self.behaviours).fits and parse_quantity(asked) <= NODE_CPUS

    def _schedule(self, pod: Object) -> None:
        """Bind a new pod to the node, if it fits."""
        with self.store.lock:
            pod = self.current(pod)
            if not pod:
                return
            meta, fits = pod["metadata"], all(map(self._fits, pod["spec"]["containers"]))
            why_not = None if fits else {"reason": "Unschedulable", "message": UNSCHEDULABLE}
            status = {**pod["status"], "conditions": [condition(pod, "PodScheduled", why_not)]}
            if not fits:
                self.store.write("pods", {**pod, "status": status})
                self.record(pod, "default-scheduler", "Warning", "FailedScheduling", UNSCHEDULABLE)
                return
            pod = self.store.write("pods", {**pod, "spec": {**pod["spec"], "nodeName": NODE}, "status": status})
            where = f"Successfully assigned {meta['namespace']}/{meta['name']} to {NODE}"
            self.record(pod, "default-scheduler", "Normal", "Scheduled", where)
            worker = self.workers[meta["uid"]] = Worker(self, pod)
            worker.step()

    def record(self, pod: Object, component: str, type: str, reason: str, message: str, path: str = "") -> None:
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
            event |= {"involvedObject": involved, "reason": reason, "message": message, "type": type}
            if component == "kubelet":
                event |= {"source": {"component": component, "host": NODE}, "reportingInstance": NODE, "count": 1}
                event |= {"firstTimestamp": now(), "lastTimestamp": now(), "eventTime": None}
            else:  # the scheduler writes in the newer API's form, in which eventTime is the time
                event |= {"source": {}, "firstTimestamp": None, "lastTimestamp": None}
                event |= {"eventTime": f"{now()[:-1]}.000000Z", "reportingInstance": f"{component}-{NODE}"}
                event["action"] = "Binding" if type == "Normal" else "Scheduling"
            self.store.add("events", event | {"reportingComponent": component})

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

    def drain(self, pod: Object) -> None:
        """Say of a pod that the eviction API evicts it."""
        target = {"type": "DisruptionTarget", "status": "True", "lastProbeTime": None, "lastTransitionTime": now()}
        target |= {"reason": "EvictionByEvictionAPI", "message": "Eviction API: evicting"}
        status = {**pod["status"], "conditions": [target, *pod["status"].get("conditions", ())]}
        self.store.write("pods", {**pod, "status": status})

    def log(self, pod: Object, name: str, previous: bool) -> list[str] | str:
        """Return the lines that a container has logged, or a sentence where they are gone; or raise a refusal."""
        name, title = name or pod["spec"]["containers"][0]["name"], pod["metadata"]["name"]
        worker = self.workers.get(pod["metadata"]["uid"])
        containers = worker.inits + worker.containers if worker else []
        container = next((item for item in containers if item.name == name), None)
        if not container:
            raise ApiError(400, f"container {name} is not valid for pod {title}")
        waiting = container.state.get("waiting")
        # While a container waits for its restart, the instance that ended last is also the present one.
        last = container.last.get("terminated", {}).get("containerID")
        if asked := last if previous or waiting else container.id:
            return container.logs.get(asked, f"unable to retrieve container logs for {asked}")
        if previous:
            raise ApiError(400, f'previous terminated container "{name}" in pod "{title}" not found')
        reasons = {"ErrImagePull": "image can't be pulled", "ImagePullBackOff": "trying and failing to pull image"}
        why = f"is waiting to start: {reasons.get(waiting['reason'], waiting['reason'])}"
        raise ApiError(400, f'container "{name}" in pod "{title}" {why}')
