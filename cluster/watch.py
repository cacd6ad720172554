"""Know what goes on in a namespace: one watch for each kind, shared by all who follow a Deployment there.

It is written by hand: the SharedInformer of the client `kubernetes` 37.0.2 tries again without a pause while the API
server is away, reads lists without paging, waits for ever on a silent watch, and keeps a model of every pod.
"""

import logging
import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from cluster.api import Cluster
from cluster.api_errors import Expired
from cluster.backoff import Backoff
from cluster.connection import Stream
from cluster.snapshot import Snapshot, Store, deployment_name, trimmed
from errors import Refusal, Unreachable

log = logging.getLogger(__name__)

KINDS = ("deployments", "replicasets", "pods")
# The pauses before a watch that broke is opened again.
MIN_PAUSE_SECONDS, MAX_PAUSE_SECONDS = 0.2, 5
# For so long the watches stay open without a rollout to follow: a new list may be long.
MAX_IDLE_SECONDS = 2


class Watches:
    """Keep one watch for each kind and namespace open for as long as a Deployment is followed there."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._lock = threading.Lock()
        self._namespaces: dict[str, _Namespace] = {}

    @contextmanager
    def of(self, namespace: str, deployment: str) -> Iterator["View"]:
        """Give a view of one Deployment and what belongs to it."""
        with self._lock:
            watched = self._namespaces.get(namespace) or _Namespace(self._cluster, namespace)
            view = View(deployment, watched)
            watched.add(view)
            if namespace not in self._namespaces:
                watched.start()
                self._namespaces[namespace] = watched
        try:
            yield view
        finally:
            with self._lock:
                watched.views.discard(view)
                watched.idle_since = time.monotonic()
                must_end = not (watched.views or watched.is_ending)
                watched.is_ending |= must_end
            if must_end:
                threading.Thread(target=self._end_when_idle, args=(namespace, watched), daemon=True).start()

    def _end_when_idle(self, namespace: str, watched: "_Namespace") -> None:
        """End the watches a while after the last Deployment was followed: the next signal may come at once."""
        while True:
            time.sleep(MAX_IDLE_SECONDS)
            with self._lock:
                if watched.views:
                    watched.is_ending = False
                    return
                if time.monotonic() >= watched.idle_since + MAX_IDLE_SECONDS:
                    del self._namespaces[namespace]
                    watched.stop()
                    return


class View:
    """Show one Deployment, its ReplicaSets and their pods, as they were last seen."""

    def __init__(self, deployment: str, watched: "_Namespace") -> None:
        self.deployment = deployment
        self.changed = threading.Event()
        self.changed.set()
        self._watched = watched

    def wait(self, seconds: float) -> None:
        """Wait until something changes, or for so many seconds; infinity means without an end."""
        self.changed.wait(None if seconds == math.inf else seconds)
        self.changed.clear()

    def snapshot(self, events: list[dict]) -> Snapshot | None:
        """Return what is known, or None while the API server can't be watched: then nothing may be decided."""
        return self._watched.snapshot(self.deployment, events)

    @property
    def trouble(self) -> Refusal | None:
        """What the API server said when a watch failed, until everything is known again."""
        return self._watched.trouble

    def refresh(self) -> None:
        """List everything again: the caller knows that the watches have missed something."""
        self._watched.refresh()


@dataclass
class _Kind:
    """Hold how far the watch of one kind has come."""

    name: str
    is_known: bool = False  # The store has what is there.
    must_list: bool = True  # The next watch needs a new list before it.
    # The Deployments that were followed at the last list: nothing is kept of others, since a namespace may hold
    # thousands of other people's pods.
    followed: frozenset[str] = frozenset()
    resource_version: str = ""
    stream: Stream | None = None

    @property
    def only(self) -> str | None:
        """The name that is listed and watched. While it is a single Deployment, Kubernetes can grant it by name.

        https://kubernetes.io/docs/reference/access-authn-authz/rbac/#referring-to-resources
        """
        return next(iter(self.followed)) if self.name == "deployments" and len(self.followed) == 1 else None


class _Namespace:
    """List and watch each kind in one namespace, in a thread each, until `stop`."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self.views: set[View] = set()
        self.idle_since, self.is_ending = 0.0, False
        self.trouble: Refusal | None = None
        self._cluster, self._namespace = cluster, namespace
        self._lock = threading.Lock()
        self._store = Store()
        self._kinds = {name: _Kind(name) for name in KINDS}
        self._stopped = threading.Event()

    def start(self) -> None:
        for kind in self._kinds.values():
            name = f"watch {kind.name} {self._namespace}"
            threading.Thread(target=self._run, args=(kind,), name=name, daemon=True).start()

    def stop(self) -> None:
        self._stopped.set()
        self.refresh()

    def refresh(self) -> None:
        for kind in self._kinds.values():
            self._forget(kind)

    def add(self, view: View) -> None:
        """Serve one more view, and list what belongs to its Deployment, which was not kept until now."""
        with self._lock:
            self.views.add(view)
        for kind in self._kinds.values():
            if view.deployment not in kind.followed:
                self._forget(kind)

    def snapshot(self, deployment: str, events: list[dict]) -> Snapshot | None:
        with self._lock:
            is_known = all(kind.is_known for kind in self._kinds.values())
            return self._store.snapshot(deployment, events) if is_known else None

    def _run(self, kind: _Kind) -> None:
        backoff = Backoff(MIN_PAUSE_SECONDS, MAX_PAUSE_SECONDS)
        while not self._stopped.is_set():
            began = time.monotonic()
            try:
                if kind.must_list:
                    self._list(kind)
                self._watch(kind)
            except Expired:
                kind.must_list = True
            except Refusal as error:
                # A stream that was closed on purpose breaks too, but is no trouble: `_forget` does that.
                if kind.must_list or self._stopped.is_set():
                    backoff.reset()
                else:
                    self.trouble = error
                    log.warning("watching %s: %s", kind.name, error, extra={"namespace": self._namespace})
                self._forget(kind)
            except Exception:  # Without its thread a kind would never be known again, and no rollout would end.
                log.exception("watching %s failed", kind.name, extra={"namespace": self._namespace})
                self._forget(kind)
            if time.monotonic() - began > MAX_PAUSE_SECONDS:
                backoff.reset()
            else:
                backoff.pause(self._stopped)

    def _forget(self, kind: _Kind) -> None:
        """Decide nothing until the kind is listed again: the next watch may not tell all that this one missed."""
        with self._lock:
            kind.is_known, kind.must_list = False, True
        if kind.stream:
            kind.stream.close()
        self._wake_all()

    def _list(self, kind: _Kind) -> None:
        with self._lock:
            kind.must_list = False
            kind.followed = frozenset(view.deployment for view in tuple(self.views))
        listed = []
        for page in self._cluster.pages(kind.name, self._namespace, kind.only):
            followed = [each for each in page["items"] if deployment_name(kind.name, each) in kind.followed]
            listed += [trimmed(kind.name, thing) for thing in followed]
            version = page["metadata"]["resourceVersion"]
            page.clear()  # Before the next page is read: parsed, a page is many times as large as its text.
        with self._lock:
            self._store.replace_all(kind.name, listed)
            kind.is_known = not kind.must_list
            if all(each.is_known for each in self._kinds.values()):
                self.trouble = None
        kind.resource_version = version
        self._wake_all()

    def _watch(self, kind: _Kind) -> None:
        kind.stream = self._cluster.watch(kind.name, self._namespace, kind.resource_version, kind.only)
        if kind.must_list or self._stopped.is_set():
            kind.stream.close()  # `_forget` came before there was a stream to close.
        for event in kind.stream:
            thing = event["object"]
            if event["type"] == "ERROR":
                # An API server that lags behind another one answers 504: a new list helps there as well.
                error = Expired if thing.get("code") in (410, 504) else Unreachable
                raise error(thing.get("message", "the watch ended with an error"))
            if event["type"] != "BOOKMARK" and deployment_name(kind.name, thing) in kind.followed:
                self._apply(kind.name, event["type"], thing)
            kind.resource_version = thing["metadata"]["resourceVersion"]

    def _apply(self, kind: str, change: str, thing: dict) -> None:
        with self._lock:
            if change == "DELETED":
                self._store.remove(kind, thing)
            else:
                self._store.put(kind, trimmed(kind, thing))
            deployment = self._store.deployment_of(kind, thing)
        for view in tuple(self.views):
            if view.deployment == deployment:
                view.changed.set()

    def _wake_all(self) -> None:
        for view in tuple(self.views):
            view.changed.set()
