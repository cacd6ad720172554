"""The scheduler and the kubelet of one node. What a container does there is decided by its image's name."""

import hashlib
import os
import random
import re
import time
from collections.abc import Iterator

from .errors import ApiError
from .store import Clock, Object, Store, now

BEHAVIOURS = ("missing", "crash", "oom", "badconfig", "huge", "unready", "slow")
NODE, SPEED = "node-1", 5  # the back-off after crashes runs five times as fast as a real kubelet's
UNSCHEDULABLE = (
    "0/1 nodes are available: 1 Insufficient cpu. no new claims to deallocate, preemption: 0/1 nodes are available: "
    "1 No preemption victims found for incoming pod."
)
TRACEBACK = """Traceback (most recent call last):
  File "/app/main.py", line 12, in <module>
    main()
  File "/app/main.py", line 7, in main
    url = os.environ['DATABASE_URL']
          ~~~~~~~~~~^^^^^^^^^^^^^^^^
  File "<frozen os>", line 717, in __getitem__
KeyError: 'DATABASE_URL'"""
LOGS = {
    "crash": TRACEBACK.split("\n"),
    "oom": ["loading the model into memory", "loaded 412 of 2048 MiB"],
    "unready": ["listening on :8080", "GET /healthz 503 database is not reachable"],
}
FOREVER = float("inf")


def full_name(image: str) -> str:
    """Return the name of an image as the container runtime writes it."""
    first, slash, _ = image.partition("/")
    if not slash:
        image = "docker.io/library/" + image
    elif not ("." in first or ":" in first or first == "localhost"):
        image = "docker.io/" + image
    return image if "@" in image or ":" in image.rpartition("/")[2] else image + ":latest"


class Container:
    """One container's life: a generator, where each number is a pause after a change of its status."""

    def __init__(self, pod: "PodWorker", spec: dict, kind: str):
        self.pod, self.spec, self.kind, self.name, self.image = pod, spec, kind, spec["name"], spec["image"]
        self.ready = self.started = self.done = False
        self.restarts, self.runs, self.last, self.id, self.digest = 0, [], {}, "", ""
        self.state = {"waiting": {"reason": "PodInitializing" if pod.has_init else "ContainerCreating"}}
        self.life, self.due = self._live(), 0.0

    @property
    def behaviour(self) -> str:
        """What the image's name, or a test's word about its digest, makes of it."""
        known = self.pod.node.behaviours
        name = self.image.partition("@")[0]
        by_name = next((word for word in BEHAVIOURS if word in name), "")
        return known.get(self.digest, known.get(self.image, by_name))

    def status(self) -> dict:
        """Return the container's part of the pod's status."""
        status = {"name": self.name, "state": self.state, "lastState": self.last, "ready": self.ready}
        status |= {"restartCount": self.restarts, "image": self.image, "imageID": "", "started": self.started}
        if self.id:
            repository = re.sub(r":[^/:]*$", "", full_name(self.image).partition("@")[0])
            status |= {"image": full_name(self.image), "imageID": f"{repository}@{self.digest}", "containerID": self.id}
        return status

    def _event(self, type: str, reason: str, message: str) -> None:
        self.pod.event(type, reason, message, f"spec.{self.kind}{{{self.name}}}")

    def _wait(self, reason: str, message: str) -> None:
        self.ready = self.started = False
        self.state = {"waiting": {"reason": reason, "message": message}}

    def _pull(self) -> None:
        images = self.pod.node.images
        if self.spec.get("imagePullPolicy") == "IfNotPresent" and self.image in images:
            text = f'Container image "{self.image}" already present on machine and can be accessed by the pod'
            self._event("Normal", "Pulled", text)
        else:
            self._event("Normal", "Pulling", f'Pulling image "{self.image}"')
            text = f'Successfully pulled image "{self.image}" in 84ms (84ms including waiting).'
            self._event("Normal", "Pulled", text)
            images[self.image] = self.pod.node.digest(self.image)
        self.digest = images[self.image]

    def _start(self) -> None:
        self.id = "containerd://" + os.urandom(32).hex()
        self.state, self.started = {"running": {"startedAt": now()}}, True
        lines = [
            "starting " + self.image,
            "reading the configuration",
            *LOGS.get(self.behaviour, ["listening on :8080"]),
        ]
        self.runs = [*self.runs, lines][-2:]
        self._event("Normal", "Created", "Container created")
        self._event("Normal", "Started", "Container started")

    def _exit(self, code: int, reason: str) -> None:
        ended = {"exitCode": code, "reason": reason, "startedAt": self.state["running"]["startedAt"]}
        ended |= {"finishedAt": now(), "containerID": self.id}
        if code and self.spec.get("terminationMessagePolicy") == "FallbackToLogsOnError":
            ended["message"] = "".join(line + "\n" for line in self.runs[-1])[-2048:]
        self.state, self.ready, self.started = {"terminated": ended}, False, False

    def _live(self) -> Iterator[float]:
        yield 0.1
        if self.behaviour == "missing":
            yield from self._fail_to_pull()
        self._pull()
        if self.behaviour == "badconfig":
            while True:
                self._wait("CreateContainerConfigError", 'secret "missing" not found')
                self._event("Warning", "Failed", 'Error: secret "missing" not found')
                yield 12
                self._pull()
        if self.behaviour in ("crash", "oom"):
            yield from self._crash()
        self._start()
        if self.kind == "initContainers":
            if self.spec.get("restartPolicy") == "Always":
                self.ready = self.done = True
                yield FOREVER
            yield 5 if self.behaviour == "slow" else 0.2
            self._exit(0, "Completed")
            self.ready = self.done = True
            yield FOREVER
        if self.behaviour == "unready":
            yield 1
            while True:
                self._event("Warning", "Unhealthy", "Readiness probe failed: HTTP probe failed with statuscode: 503")
                yield 10
        yield 4.9 if self.behaviour == "slow" else 0.1
        self.ready = True
        yield FOREVER

    def _fail_to_pull(self) -> Iterator[float]:
        full = full_name(self.image)
        why = f'rpc error: code = NotFound desc = failed to pull and unpack image "{full}": '
        why += f'failed to resolve reference "{full}": {full}: not found'
        self._event("Normal", "Pulling", f'Pulling image "{self.image}"')
        self._wait("ErrImagePull", why)
        self._event("Warning", "Failed", f'Failed to pull image "{self.image}": {why}')
        self._event("Warning", "Failed", "Error: ErrImagePull")
        yield 2
        self._wait("ImagePullBackOff", f'Back-off pulling image "{self.image}": ErrImagePull: {why}')
        while True:
            self._event("Normal", "BackOff", f'Back-off pulling image "{self.image}"')
            self._event("Warning", "Failed", "Error: ImagePullBackOff")
            yield 12

    def _crash(self) -> Iterator[float]:
        back_off = 10
        meta = self.pod.item["metadata"]
        who = f"{meta['name']}_{meta['namespace']}({meta['uid']})"
        while True:
            self._start()
            # Without a readiness probe a container is ready as soon as it runs, however short that is.
            yield 0.1
            self.ready = "readinessProbe" not in self.spec and self.kind == "containers"
            yield 0.4
            self._exit(137, "OOMKilled") if self.behaviour == "oom" else self._exit(1, "Error")
            yield 0.1
            ended = self.state
            if self.restarts:
                self.last = ended
                time_left = f"{back_off // 60}m{back_off % 60}s" if back_off >= 60 else f"{back_off}s"
                text = f"back-off {time_left} restarting failed container={self.name} pod={who}"
                self._wait("CrashLoopBackOff", text)
                text = f"Back-off restarting failed container {self.name} in pod {who}"
                self._event("Warning", "BackOff", text)
                yield back_off / SPEED
                back_off = min(back_off * 2, 300)
            self.last, self.restarts = ended, self.restarts + 1
            self._pull()


class PodWorker:
    """One pod on the node."""

    def __init__(self, node: "Node", item: Object):
        self.node, self.item = node, item
        self.has_init = bool(item["spec"].get("initContainers"))
        self.inits = [Container(self, spec, "initContainers") for spec in item["spec"].get("initContainers", ())]
        self.containers = [Container(self, spec, "containers") for spec in item["spec"]["containers"]]
        self.started, self.ip = now(), f"10.0.{random.randint(0, 255)}.{random.randint(1, 254)}"

    def event(self, type: str, reason: str, message: str, path: str = "") -> None:
        """Write one of the kubelet's events."""
        source = {"component": "kubelet", "host": NODE}
        self.node.store.record("pods", self.item, type, reason, message, source, path)

    def find(self, name: str) -> Container | None:
        """Return a container by name."""
        return next((item for item in self.inits + self.containers if item.name == name), None)

    def step(self) -> None:
        """Let every container whose time has come go on, and report."""
        with self.node.store.lock:
            meta = self.item["metadata"]
            self.item = self.node.store.find("pods", meta["namespace"], meta["name"])
            if (
                not self.item
                or self.item["metadata"]["uid"] != meta["uid"]
                or self.node.workers.get(meta["uid"]) is not self
            ):
                return
            if "deletionTimestamp" in self.item["metadata"] or self.item["status"]["phase"] == "Failed":
                return
            waiting = next((container for container in self.inits if not container.done), None)
            begun = self.inits[: self.inits.index(waiting) + 1] if waiting else self.inits + self.containers
            for container in begun:
                if container.due <= time.monotonic():
                    container.due = time.monotonic() + next(container.life)
            self.report()
            done = waiting is not None and waiting.done
            due = 0 if done else min(container.due for container in begun) - time.monotonic()
            if due < FOREVER:
                self.node.clock.after(max(due, 0), ("pod", meta["uid"]), self.step)

    def report(self) -> None:
        """Write the pod's status, if it says something new."""
        everyone = self.inits + self.containers
        unready = [item.name for item in self.containers if not item.ready]
        open_inits = [item.name for item in self.inits if not item.done]
        why = ("ContainersNotReady", f"containers with unready status: [{' '.join(unready)}]")
        uninitialized = ("ContainersNotInitialized", f"containers with incomplete status: [{' '.join(open_inits)}]")
        conditions = [
            self.condition("PodReadyToStartContainers", True),
            self.condition("Initialized", not open_inits, *uninitialized),
            self.condition("Ready", not unready, *why),
            self.condition("ContainersReady", not unready, *why),
            self.condition("PodScheduled", True),
        ]
        running = any(item.started or item.restarts or item.runs for item in self.containers)
        status = {
            "observedGeneration": self.item["metadata"]["generation"],
            "phase": "Running" if running else "Pending",
        }
        status |= {"conditions": conditions, "hostIP": "127.0.0.1", "hostIPs": [{"ip": "127.0.0.1"}], "podIP": self.ip}
        status |= {"podIPs": [{"ip": self.ip}], "startTime": self.started}
        if self.inits:
            status["initContainerStatuses"] = [item.status() for item in everyone[: len(self.inits)]]
        ordered = sorted(self.containers, key=lambda item: item.name)
        status["containerStatuses"] = [item.status() for item in ordered]
        status["qosClass"] = self.item["status"].get("qosClass", "BestEffort")
        if status != self.item["status"]:
            self.item = self.node.store.write("pods", {**self.item, "status": status})

    def condition(self, type: str, true: bool, reason: str = "", message: str = "") -> dict:
        """Return a condition that keeps its time as long as its status stays."""
        status = "True" if true else "False"
        old = next((item for item in self.item["status"].get("conditions", ()) if item["type"] == type), None)
        since = old["lastTransitionTime"] if old and old["status"] == status else now()
        condition = {"type": type, "observedGeneration": self.item["metadata"]["generation"], "status": status}
        condition |= {"lastProbeTime": None, "lastTransitionTime": since}
        return condition | ({} if true else {"reason": reason, "message": message})

    def stop(self) -> None:
        """Stop the containers, and then forget the pod."""
        for container in self.containers:
            if container.started:
                path = f"spec.containers{{{container.name}}}"
                self.event("Normal", "Killing", f"Stopping container {container.name}", path)
        meta = self.item["metadata"]
        self.node.clock.after(0.2, ("gone", meta["uid"]), lambda: self.node.remove(meta))


class Node:
    """Schedules pods to itself and runs them."""

    def __init__(self, store: Store, clock: Clock):
        self.store, self.clock = store, clock
        self.workers: dict[str, PodWorker] = {}
        self.images: dict[str, str] = {}
        self.digests: dict[str, str] = {}
        self.behaviours: dict[str, str] = {}
        store.listeners.append(self._notice)

    def digest(self, image: str) -> str:
        """Return the digest that the registry has for an image now."""
        _, _, digest = image.partition("@")
        return digest or self.digests.get(image) or "sha256:" + hashlib.sha256(image.encode()).hexdigest()

    def _notice(self, resource: str, old: Object | None, new: Object | None) -> None:
        if resource != "pods":
            return
        uid = (new or old)["metadata"]["uid"]
        if new is None:
            self.workers.pop(uid, None)
        elif old is None:
            self.clock.after(0, ("schedule", uid), lambda: self.schedule(new))
        elif (
            "deletionTimestamp" in new["metadata"]
            and "deletionTimestamp" not in old["metadata"]
            and uid in self.workers
        ):
            self.workers[uid].item = new
            self.clock.after(0, ("stop", uid), self.workers[uid].stop)

    def schedule(self, pod: Object) -> None:
        """Bind a new pod to the node, if it fits."""
        meta = pod["metadata"]
        source = {"component": "default-scheduler"}
        with self.store.lock:
            pod = self.store.find("pods", meta["namespace"], meta["name"])
            if not pod or pod["metadata"]["uid"] != meta["uid"]:
                return
            if any("huge" in container["image"].partition("@")[0] for container in pod["spec"]["containers"]):
                condition = {"type": "PodScheduled", "observedGeneration": meta["generation"], "status": "False"}
                condition |= {"lastProbeTime": None, "lastTransitionTime": now()}
                condition |= {"reason": "Unschedulable", "message": UNSCHEDULABLE}
                status = {"observedGeneration": meta["generation"], **pod["status"], "conditions": [condition]}
                self.store.write("pods", {**pod, "status": status})
                self.store.record("pods", pod, "Warning", "FailedScheduling", UNSCHEDULABLE, source)
                return
            pod = self.store.write("pods", {**pod, "spec": {**pod["spec"], "nodeName": NODE}})
            where = f"Successfully assigned {meta['namespace']}/{meta['name']} to {NODE}"
            self.store.record("pods", pod, "Normal", "Scheduled", where, source)
            worker = self.workers[meta["uid"]] = PodWorker(self, pod)
            worker.step()

    def remove(self, meta: dict) -> None:
        """Take a pod away that has stopped."""
        with self.store.lock:
            pod = self.store.find("pods", meta["namespace"], meta["name"])
            if pod and pod["metadata"]["uid"] == meta["uid"]:
                self.store.remove("pods", meta["namespace"], meta["name"])

    def log(self, pod: Object, name: str, previous: bool) -> list[str]:
        """Return the lines that a container has logged, or raise what the kubelet would say."""
        names = [item["name"] for item in pod["spec"].get("initContainers", []) + pod["spec"]["containers"]]
        title = pod["metadata"]["name"]
        if not name and len(pod["spec"]["containers"]) > 1:
            choice = f"choose one of: [{' '.join(names)}]"
            raise ApiError(400, f"a container name must be specified for pod {title}, {choice}")
        name = name or pod["spec"]["containers"][0]["name"]
        if name not in names:
            raise ApiError(400, f"container {name} is not valid for pod {title}")
        worker = self.workers.get(pod["metadata"]["uid"])
        if not worker:
            raise ApiError(400, f"pod {title} does not have a host assigned")
        container = worker.find(name)
        in_back_off = "waiting" in container.state
        if previous:
            # While it waits for its restart, the run that ended last is the previous one.
            if len(container.runs) < (1 if in_back_off else 2):
                raise ApiError(400, f'previous terminated container "{name}" in pod "{title}" not found')
            return container.runs[-1 if in_back_off else -2]
        if not container.runs:
            reason = container.state["waiting"]["reason"]
            texts = {"ErrImagePull": "image can't be pulled", "ImagePullBackOff": "trying and failing to pull image"}
            why = f"is waiting to start: {texts.get(reason, reason)}"
            raise ApiError(400, f'container "{name}" in pod "{title}" {why}')
        return container.runs[-1]
