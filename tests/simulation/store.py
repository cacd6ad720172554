"""Objects, their versions, and who watches them; and the clock that everything in the cluster runs by."""

from __future__ import annotations

import collections
import contextlib
import heapq
import itertools
import json
import random
import socket
import sys
import threading
import time
import traceback
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from .errors import ApiError

KINDS = {  # resource: kind, API version, the client's model
    "deployments": ("Deployment", "apps/v1", "V1Deployment"),
    "replicasets": ("ReplicaSet", "apps/v1", "V1ReplicaSet"),
    "pods": ("Pod", "v1", "V1Pod"),
    "events": ("Event", "v1", "CoreV1Event"),
    "configmaps": ("ConfigMap", "v1", "V1ConfigMap"),
    "namespaces": ("Namespace", "v1", "V1Namespace"),
}
HISTORY = 20_000  # changes that a watch can start before


def now(seconds: float = 0) -> str:
    """Return the time in so many seconds as the API writes it: whole seconds, cut off."""
    return (datetime.now(UTC) + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


def age(timestamp: str) -> float:
    """Return how many seconds ago a timestamp was."""
    return (datetime.now(UTC) - datetime.fromisoformat(timestamp)).total_seconds()


def suffix(length: int = 5) -> str:
    """Return a random end for a name, of the letters that Kubernetes uses."""
    return "".join(random.choices("bcdfghjklmnpqrstvwxz2456789", k=length))


class Object(dict):
    """A stored object: never changed in place, so its JSON is written once."""

    @property
    def text(self) -> str:
        """The JSON, without kind and apiVersion, as lists have it."""
        if "_text" not in self.__dict__:
            self._text = json.dumps(self, separators=(",", ":"))
        return self._text

    def copy(self) -> dict:
        """Return a deep copy."""
        return json.loads(self.text)


class Clock(threading.Thread):
    """One thread that does what is due and otherwise sleeps."""

    def __init__(self):
        super().__init__(daemon=True, name="simulated-clock")
        self._wake, self._heap, self._due = threading.Condition(), [], {}
        self._count, self._stopped = itertools.count(), False

    def after(self, seconds: float, key: tuple, act: Callable[[], None]) -> None:
        """Do something later; of several with one key only the earliest happens."""
        due = time.monotonic() + seconds
        with self._wake:
            if self._due.get(key, due + 1) <= due:
                return
            self._due[key] = due
            heapq.heappush(self._heap, (due, next(self._count), key, act))
            if self._heap[0][0] == due:
                self._wake.notify()

    def stop(self) -> None:
        """End the thread."""
        with self._wake:
            self._stopped = True
            self._wake.notify()

    def run(self):
        while True:
            with self._wake:
                while not self._stopped and (not self._heap or self._heap[0][0] > time.monotonic()):
                    self._wake.wait(self._heap[0][0] - time.monotonic() if self._heap else None)
                if self._stopped:
                    return
                due, _, key, act = heapq.heappop(self._heap)
                if self._due.get(key) != due:
                    continue
                del self._due[key]
            try:
                act()
            except Exception:
                traceback.print_exc(file=sys.stderr)


class Watch:
    """The events that one watch has yet to send; a socket tells its thread that there are some."""

    def __init__(self, resource: str, matches: Callable[[dict], bool]):
        self.resource, self.matches = resource, matches
        self.lines: collections.deque[str] = collections.deque()
        self.ready, self._signal = socket.socketpair()
        self._signal.setblocking(False)
        self.silent = self.cut = False

    def offer(self, old: Object | None, new: Object | None) -> None:
        """Take a change, as it looks to one who sees only what matches."""
        before, after = old is not None and self.matches(old), new is not None and self.matches(new)
        if before or after:
            self.send("DELETED" if not after else "MODIFIED" if before else "ADDED", new if after else new or old)

    def send(self, event: str, item: Object) -> None:
        """Queue one event."""
        self.lines.append(f'{{"type":"{event}","object":{single(self.resource, item)}}}\n')
        self.poke()

    def poke(self) -> None:
        """Wake the thread that serves this watch."""
        # Full: it has been woken often enough. Closed: nobody serves it any more.
        with contextlib.suppress(OSError):
            self._signal.send(b".")

    def close(self) -> None:
        """Close both ends."""
        self.ready.close()
        self._signal.close()


def single(resource: str, item: Object) -> str:
    """Return the JSON of one object, with its kind."""
    kind, version, _ = KINDS[resource]
    return f'{{"kind":"{kind}","apiVersion":"{version}",{item.text[1:]}'


class Store:
    """All objects, under one lock."""

    def __init__(self):
        self.lock = threading.RLock()
        self.changed = threading.Condition(self.lock)
        self.version = self.oldest = 1000
        self.objects: dict[str, dict[tuple[str, str], Object]] = {resource: {} for resource in KINDS}
        self.owned: dict[str, dict[tuple, None]] = collections.defaultdict(dict)
        self.history: collections.deque = collections.deque(maxlen=HISTORY)
        self.watches: set[Watch] = set()
        self.listeners: list[Callable] = []
        self._events: dict[tuple, str] = {}

    def find(self, resource: str, namespace: str, name: str) -> Object | None:
        """Return an object, or None."""
        return self.objects[resource].get((namespace, name))

    def list(self, resource: str, namespace: str = "") -> list[Object]:
        """Return the objects of a namespace, or of all, by namespace and name."""
        items = self.objects[resource]
        return [items[key] for key in sorted(items) if not namespace or key[0] == namespace]

    def owned_by(self, owner: dict, resource: str) -> list[Object]:
        """Return the objects that name this one as their owner."""
        keys = self.owned.get(owner["metadata"]["uid"], ())
        return [self.objects[kind][ns, name] for kind, ns, name in keys if kind == resource]

    def add(self, resource: str, obj: dict) -> Object:
        """Store a new object."""
        meta = obj["metadata"]
        obj["metadata"] = {
            **({"name": meta["name"]} if "name" in meta else {}),
            **{key: meta[key] for key in ("generateName", "namespace") if meta.get(key)},
            "uid": str(uuid.uuid4()),
            **({"generation": 1} if resource in ("deployments", "replicasets", "pods") else {}),
            "creationTimestamp": now(),
            **{key: meta[key] for key in ("labels", "annotations", "ownerReferences", "finalizers") if meta.get(key)},
        }
        return self.write(resource, obj)

    def write(self, resource: str, obj: dict) -> Object:
        """Store an object under the next version."""
        with self.lock:
            meta = obj["metadata"]
            key = (meta.get("namespace", ""), meta["name"])
            old = self.objects[resource].get(key)
            self.version += 1
            obj = Object({k: v for k, v in obj.items() if k not in ("kind", "apiVersion")})
            obj["metadata"] = {**meta, "resourceVersion": str(self.version)}
            self.objects[resource][key] = obj
            if old:
                self._disown(resource, key, old)
            for owner in meta.get("ownerReferences", ()):
                self.owned[owner["uid"]][(resource, *key)] = None
            self._tell(resource, old, obj)
            return obj

    def remove(self, resource: str, namespace: str, name: str) -> Object | None:
        """Forget an object."""
        with self.lock:
            old = self.objects[resource].pop((namespace, name), None)
            if old is not None:
                self.version += 1
                self._disown(resource, (namespace, name), old)
                last = Object(old)
                last["metadata"] = {**old["metadata"], "resourceVersion": str(self.version)}
                self._tell(resource, last, None)
            return old

    def _disown(self, resource, key, old):
        for owner in old["metadata"].get("ownerReferences", ()):
            self.owned[owner["uid"]].pop((resource, *key), None)
            if not self.owned[owner["uid"]]:
                del self.owned[owner["uid"]]

    def _tell(self, resource, old, new):
        if len(self.history) == HISTORY:
            self.oldest = self.history[0][0]
        self.history.append((self.version, resource, old, new))
        for watch in self.watches:
            if watch.resource == resource and not watch.silent:
                watch.offer(old, new)
        for listener in self.listeners:
            listener(resource, old, new)
        self.changed.notify_all()

    def watch(self, resource: str, matches: Callable[[dict], bool], version: str) -> Watch:
        """Start a watch after a version, or with all there is when it is empty or 0."""
        with self.lock:
            watch = Watch(resource, matches)
            if version in ("", "0"):
                for item in self.list(resource):
                    watch.offer(None, item)
            elif int(version) < self.oldest:
                watch.close()
                raise ApiError(410, f"too old resource version: {version} ({self.oldest})")
            else:
                for number, kind, old, new in self.history:
                    if number > int(version) and kind == resource:
                        watch.offer(old, new)
            self.watches.add(watch)
            self.changed.notify_all()
            return watch

    def unwatch(self, watch: Watch) -> None:
        """End a watch."""
        with self.lock:
            self.watches.discard(watch)
            watch.close()
            self.changed.notify_all()

    def expire(self) -> None:
        """Make every version handed out so far too old."""
        with self.lock:
            self.version += 1
            self.oldest = self.version
            self.history.clear()

    def record(self, resource: str, about: dict, type: str, reason: str, message: str, source: dict, path: str = ""):
        """Write an event, or count up the one that says the same."""
        meta, (kind, version, _) = about["metadata"], KINDS[resource]
        with self.lock:
            key = (meta["uid"], path, reason, message)
            event = self.find("events", meta["namespace"], self._events.get(key, ""))
            if event:
                self.write("events", {**event, "count": event["count"] + 1, "lastTimestamp": now()})
                return
            self._events[key] = f"{meta['name']}.{time.time_ns():x}"
            involved = {"kind": kind, "namespace": meta["namespace"], "name": meta["name"], "uid": meta["uid"]}
            involved |= {"apiVersion": version, "resourceVersion": meta["resourceVersion"]}
            event = {"metadata": {"name": self._events[key], "namespace": meta["namespace"]}}
            event |= {"involvedObject": involved | ({"fieldPath": path} if path else {})}
            event |= {"reason": reason, "message": message, "source": source, "firstTimestamp": now()}
            event |= {"lastTimestamp": now(), "count": 1, "type": type, "eventTime": None}
            event |= {"reportingComponent": source["component"], "reportingInstance": source.get("host", "")}
            self.add("events", event)
