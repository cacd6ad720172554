"""Objects, their versions, and what changed: what lists, watches and controllers look at."""

from __future__ import annotations

import collections
import contextlib
import json
import socket
import threading
import uuid
from collections.abc import Callable

from .clock import now
from .refusals import ApiError

KINDS = {  # resource: kind, API version, the client's model
    "deployments": ("Deployment", "apps/v1", "V1Deployment"),
    "replicasets": ("ReplicaSet", "apps/v1", "V1ReplicaSet"),
    "pods": ("Pod", "v1", "V1Pod"),
    "events": ("Event", "v1", "CoreV1Event"),
    "configmaps": ("ConfigMap", "v1", "V1ConfigMap"),
    "namespaces": ("Namespace", "v1", "V1Namespace"),
}
MAX_HISTORY = 20_000  # changes; a watch can start after each of them


class Object(dict):
    """A stored object. It never changes, so its JSON is written once."""

    @property
    def text(self) -> str:
        """The JSON without kind and apiVersion, as lists have it."""
        if "_text" not in self.__dict__:
            self._text = json.dumps(self, separators=(",", ":"))
        return self._text

    def copy(self) -> dict:
        """Return a deep copy."""
        return json.loads(self.text)

    def at(self, version: int) -> Object:
        """Return the same object under another version."""
        return Object({**self, "metadata": {**self["metadata"], "resourceVersion": str(version)}})


def single(resource: str, item: Object) -> str:
    """Return the JSON of one object, with its kind."""
    kind, version, _ = KINDS[resource]
    return f'{{"kind":"{kind}","apiVersion":"{version}",{item.text[1:]}'


def created(resource: str, obj: dict) -> Object:
    """Return a new object with what the API server adds, not yet stored."""
    meta = {**obj["metadata"], "uid": str(uuid.uuid4()), "creationTimestamp": now()}
    if resource in ("deployments", "replicasets", "pods"):
        meta["generation"] = 1
    return Object(obj, metadata=meta)


class Watch:
    """The events that one watch has yet to send; a socket tells the watch's thread that there are some."""

    def __init__(self, resource: str, matches: Callable[[dict], bool]):
        self.resource, self.matches = resource, matches
        self._lines: collections.deque[str] = collections.deque()
        self.ready, self._signal = socket.socketpair()
        self._signal.setblocking(False)
        self.silent = self.cut = False

    def offer(self, version: int, old: Object | None, new: Object | None) -> None:
        """Take a change, as it looks to a client that sees only what matches."""
        before, after = old is not None and self.matches(old), new is not None and self.matches(new)
        if after:
            self.send("MODIFIED" if before else "ADDED", new)
        elif before:
            self.send("DELETED", (new or old).at(version))

    def bookmark(self, version: int) -> None:
        """Tell how far the watch has come."""
        self.send("BOOKMARK", Object(metadata={"resourceVersion": str(version)}))

    def send(self, event: str, item: Object) -> None:
        """Queue one event."""
        self._lines.append(f'{{"type":"{event}","object":{single(self.resource, item)}}}\n')
        self.poke()

    def take(self) -> str:
        """Return what is queued, and empty the queue."""
        return "".join(self._lines.popleft() for _ in range(len(self._lines)))

    def poke(self) -> None:
        """Wake the thread that serves this watch."""
        # A full socket: the thread has been woken often enough. A closed one: the watch has ended.
        with contextlib.suppress(OSError):
            self._signal.send(b".")

    def close(self) -> None:
        """Close both ends."""
        self.ready.close()
        self._signal.close()


class Store:
    """All objects, under one lock."""

    def __init__(self):
        self.lock = threading.RLock()
        self.changed = threading.Condition(self.lock)
        self.version = self.oldest = 1000
        self.objects: dict[str, dict[tuple[str, str], Object]] = {resource: {} for resource in KINDS}
        self.history: collections.deque = collections.deque(maxlen=MAX_HISTORY)
        self.snapshots: dict[tuple[int, str, str], list[Object]] = {}  # lists of which a client has seen one page
        self.watches: set[Watch] = set()
        self.listeners: list[Callable] = []

    def find(self, resource: str, namespace: str, name: str) -> Object | None:
        """Return an object, or None."""
        return self.objects[resource].get((namespace, name))

    def list(self, resource: str, namespace: str = "") -> list[Object]:
        """Return the objects of a namespace, or of all, by namespace and name."""
        items = self.objects[resource]
        return [items[key] for key in sorted(items) if not namespace or key[0] == namespace]

    def owned_by(self, owner: dict, resource: str) -> list[Object]:
        """Return the objects that name this one as their owner."""
        uid = owner["metadata"]["uid"]

        def owned(item: dict) -> bool:
            return any(reference["uid"] == uid for reference in item["metadata"].get("ownerReferences", ()))

        return [item for item in self.objects[resource].values() if owned(item)]

    def add(self, resource: str, obj: dict) -> Object:
        """Store a new object."""
        return self.write(resource, created(resource, obj))

    def write(self, resource: str, obj: dict) -> Object:
        """Store an object under the next version."""
        with self.lock:
            key = (obj["metadata"].get("namespace", ""), obj["metadata"]["name"])
            old = self.objects[resource].get(key)
            self.version += 1
            new = self.objects[resource][key] = Object(obj).at(self.version)
            self._tell(resource, old, new)
            return new

    def remove(self, resource: str, namespace: str, name: str) -> None:
        """Remove an object, if it is there."""
        with self.lock:
            old = self.objects[resource].pop((namespace, name), None)
            if old is not None:
                self.version += 1
                self._tell(resource, old, None)

    def _tell(self, resource: str, old: Object | None, new: Object | None) -> None:
        if len(self.history) == MAX_HISTORY:
            self.oldest = self.history[0][0]
        self.history.append((self.version, resource, old, new))
        for watch in self.watches:
            if watch.resource == resource and not watch.silent:
                watch.offer(self.version, old, new)
        for listener in self.listeners:
            listener(resource, old, new)
        self.changed.notify_all()

    def watch(self, resource: str, matches: Callable[[dict], bool], version: str) -> Watch:
        """Start a watch after a version; without one, or after 0, it begins with all objects."""
        with self.lock:
            start = int(version or 0)
            if 0 < start < self.oldest:
                raise ApiError(410, f"too old resource version: {version} ({self.oldest})")
            watch = Watch(resource, matches)
            for item in self.list(resource) if not start else ():
                watch.offer(self.version, None, item)
            for number, kind, old, new in self.history if start else ():
                if number > start and kind == resource:
                    watch.offer(number, old, new)
            self.watches.add(watch)
            self.changed.notify_all()
            return watch

    def bookmark(self, watch: Watch) -> None:
        """Tell a watch that it has everything up to the present version."""
        with self.lock:
            watch.bookmark(self.version)

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
            self.snapshots.clear()
