"""What goes on in a namespace: listed, watched and shared by all who follow something there."""

import json
import logging
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from cluster.api import Cluster
from cluster.api_errors import Expired
from cluster.snapshot import Snapshot, owner_uid
from cluster.stream import Stream
from errors import Refusal, Unreachable
from manifest.annotations import REVISION

log = logging.getLogger(__name__)

_METADATA = ("name", "namespace", "uid", "ownerReferences", "creationTimestamp", "deletionTimestamp")
KINDS = ("deployments", "replicasets", "pods")
# Seconds before a broken watch is opened again: doubled each time, with jitter, so that not all come at once.
SHORTEST_PAUSE, LONGEST_PAUSE = 0.2, 5
# "Too large resource version" comes as 504 from an API server that lags behind another: listing again helps there too.
_LIST_AGAIN = (410, 504)


class Watches:
    """Keep one watch per kind and namespace open for as long as somebody follows a Deployment there."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._lock = threading.Lock()
        self._namespaces: dict[str, _Namespace] = {}

    @contextmanager
    def of(self, namespace: str, deployment: str) -> Iterator["View"]:
        """Give a view of one Deployment and what belongs to it."""
        view = View(deployment)
        with self._lock:
            shared = self._namespaces.get(namespace)
            if shared is None:
                shared = self._namespaces[namespace] = _Namespace(self._cluster, namespace, view)
            shared.add(view)
        view.attach(shared)
        try:
            yield view
        finally:
            with self._lock:
                shared.views.discard(view)
                if not shared.views:
                    del self._namespaces[namespace]
                    shared.stop()


class View:
    """Show one Deployment, its ReplicaSets and their pods, as they were last seen."""

    def __init__(self, deployment: str) -> None:
        self.deployment = deployment
        self.changed = threading.Event()
        self._shared: _Namespace | None = None

    def attach(self, shared: "_Namespace") -> None:
        """Connect the view with the namespace that feeds it."""
        self._shared = shared
        self.changed.set()

    def wait(self, seconds: float | None) -> None:
        """Wait until something has changed, or for so many seconds."""
        self.changed.wait(seconds)
        self.changed.clear()

    def snapshot(self, events: list[dict]) -> Snapshot | None:
        """Return what is known, or None as long as the API server can't be watched: then nothing may be decided."""
        return self._shared.snapshot(self.deployment, events)

    @property
    def trouble(self) -> Refusal | None:
        """What the API server said when it couldn't be watched last."""
        return self._shared.trouble

    def refresh(self) -> None:
        """List everything anew: somebody knows better than the watches."""
        self._shared.refresh()


class _Namespace:
    def __init__(self, cluster: Cluster, namespace: str, view: View) -> None:
        self.views = {view}
        # Why it can't be watched, if it can't: shown to those who wait.
        self.trouble: Refusal | None = None
        self._cluster, self._namespace = cluster, namespace
        self._lock = threading.Lock()
        # The only Deployment that is watched, while no other is followed: such a right can be given by name.
        # https://kubernetes.io/docs/reference/access-authn-authz/rbac/#referring-to-resources
        self._only: str | None = None
        # By name, and by the uid of the owner and their own: a namespace may hold thousands that are none of ours.
        self._deployments: dict[str, dict] = {}
        self._owned: dict[str, dict[str, dict[str, dict]]] = {"replicasets": {}, "pods": {}}
        # A Deployment's name by its uid, and an owner's uid by that of what it owns.
        self._names: dict[str, str] = {}
        self._parents: dict[str, str] = {}
        self._pod_specs: dict[str, dict] = {}
        self._versions: dict[str, str] = {}
        self._live: set[str] = set()
        self._stale = set(KINDS)
        self._streams: dict[str, Stream] = {}
        self._stopped = threading.Event()
        for kind in KINDS:
            threading.Thread(target=self._run, args=(kind,), name=f"watch {kind} {namespace}", daemon=True).start()

    def stop(self) -> None:
        self._stopped.set()
        for stream in list(self._streams.values()):
            stream.close()

    def refresh(self) -> None:
        with self._lock:
            self._live.clear()
            self._stale = set(KINDS)
        for stream in list(self._streams.values()):
            stream.close()

    def add(self, view: View) -> None:
        """Serve one more view, and watch all Deployments as soon as several are followed."""
        with self._lock:
            self.views.add(view)
            if self._only in (None, view.deployment):
                return
            self._stale.add("deployments")
        if stream := self._streams.get("deployments"):
            stream.close()

    def snapshot(self, name: str, events: list[dict]) -> Snapshot | None:
        with self._lock:
            if len(self._live) < len(KINDS) or self._only not in (None, name):
                return None
            deployment = self._deployments.get(name)
            if deployment is None:
                return Snapshot(None, [], [], events)
            replicasets = self._owned["replicasets"].get(deployment["metadata"]["uid"], {})
            pods = [each for uid in replicasets for each in self._owned["pods"].get(uid, {}).values()]
            return Snapshot(deployment, list(replicasets.values()), pods, events)

    def _run(self, kind: str) -> None:
        pause = SHORTEST_PAUSE
        while not self._stopped.is_set():
            began = time.monotonic()
            try:
                if kind in self._stale:
                    self._list(kind)
                self._watch(kind)
            except Expired:
                self._stale.add(kind)
            except Refusal as error:
                if kind not in self._stale and not self._stopped.is_set():  # Else it was ended from here.
                    self.trouble = error
                    log.warning("watching %s: %s", kind, error, extra={"namespace": self._namespace})
                self._mark(kind, live=False)
                self._stale.add(kind)  # What was missed may be more than a watch can tell.
            except Exception:  # A thread that died here would leave all verdicts open.
                log.exception("watching %s failed", kind, extra={"namespace": self._namespace})
                self._mark(kind, live=False)
                self._stale.add(kind)
            if time.monotonic() - began > LONGEST_PAUSE:
                pause = SHORTEST_PAUSE
            else:
                self._stopped.wait(pause * random.uniform(0.5, 1))  # noqa: S311
                pause = min(pause * 2, LONGEST_PAUSE)

    def _list(self, kind: str) -> None:
        with self._lock:
            self._stale.discard(kind)
            if kind == "deployments":
                followed = {view.deployment for view in tuple(self.views)}
                self._only = followed.pop() if len(followed) == 1 else None
                # What is there was listed under another name: until the list has come, it says nothing.
                self._live.discard(kind)
        listed = []
        for page in self._cluster.pages(kind, self._namespace, self._name_of(kind)):
            listed += [_slim(kind, thing) for thing in page["items"]]
        with self._lock:
            (self._deployments if kind == "deployments" else self._owned[kind]).clear()
            (self._names if kind == "deployments" else self._parents if kind == "replicasets" else {}).clear()
            for thing in listed:
                self._keep(kind, thing)
        self._versions[kind] = page["metadata"]["resourceVersion"]
        self._mark(kind, live=True)

    def _watch(self, kind: str) -> None:
        stream = self._streams[kind] = self._cluster.watch(
            kind, self._namespace, self._versions[kind], self._name_of(kind)
        )
        if self._stopped.is_set() or kind in self._stale:
            stream.close()  # By whoever called meanwhile, before there was anything to close.
        for event in stream:
            thing = event["object"]
            if event["type"] == "ERROR":
                if thing.get("code") in _LIST_AGAIN:
                    raise Expired(thing.get("message", "the watch has expired"))
                raise Unreachable(thing.get("message", "the watch ended with an error"))
            if event["type"] != "BOOKMARK":
                self._apply(kind, event["type"], thing)
            self._versions[kind] = thing["metadata"]["resourceVersion"]

    def _name_of(self, kind: str) -> str | None:
        return self._only if kind == "deployments" else None

    def _apply(self, kind: str, change: str, thing: dict) -> None:
        with self._lock:
            if change != "DELETED":
                self._keep(kind, _slim(kind, thing))
            elif kind == "deployments":
                self._deployments.pop(thing["metadata"]["name"], None)
                self._names.pop(thing["metadata"]["uid"], None)
            else:
                self._owned[kind].get(owner_uid(thing), {}).pop(thing["metadata"]["uid"], None)
            name = self._deployment_of(kind, thing)
            if change == "DELETED" and kind == "replicasets":
                self._parents.pop(thing["metadata"]["uid"], None)
                self._owned["pods"].pop(thing["metadata"]["uid"], None)
        for view in tuple(self.views):
            if view.deployment == name:
                view.changed.set()

    def _keep(self, kind: str, slim: dict) -> None:
        uid, parent = slim["metadata"]["uid"], owner_uid(slim)
        if kind == "replicasets":
            # Most differ in nothing but the stamp: one copy of the rest does for all.
            template = slim["spec"]["template"]
            same = self._pod_specs.setdefault(json.dumps(template["spec"], sort_keys=True), template["spec"])
            slim["spec"] = {"template": {**template, "spec": same}}
        if kind == "deployments":
            self._deployments[slim["metadata"]["name"]] = slim
            self._names[uid] = slim["metadata"]["name"]
        elif parent is not None:
            self._owned[kind].setdefault(parent, {})[uid] = slim
            if kind == "replicasets":
                self._parents[uid] = parent

    def _deployment_of(self, kind: str, thing: dict) -> str | None:
        if kind == "deployments":
            return thing["metadata"]["name"]
        uid = owner_uid(thing)
        return self._names.get(self._parents.get(uid) if kind == "pods" else uid)

    def _mark(self, kind: str, live: bool) -> None:
        with self._lock:
            (self._live.add if live else self._live.discard)(kind)
        for view in tuple(self.views):
            view.changed.set()


def _slim(kind: str, thing: dict) -> dict:
    # Only what a verdict needs: signals in quick succession leave hundreds of ReplicaSets behind.
    if kind == "deployments":
        return {**thing, "metadata": {key: value for key, value in thing["metadata"].items() if key != "managedFields"}}
    metadata = {key: thing["metadata"][key] for key in _METADATA if key in thing["metadata"]}
    slim = {"metadata": metadata, "status": thing.get("status", {})}
    if kind == "replicasets":
        metadata["annotations"] = {REVISION: (thing["metadata"].get("annotations") or {}).get(REVISION)}
        slim["spec"] = {"template": thing["spec"]["template"]}
    return slim
