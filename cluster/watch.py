"""Know what goes on in a namespace: one watch for each kind, shared by all who follow a Deployment there.

It is written by hand: the SharedInformer of the client `kubernetes` 37.0.2 tries again without a pause while the API
server is away, reads lists without paging, waits for ever on a silent watch, and keeps a model of every pod.
"""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from cluster.api import Cluster
from cluster.api_errors import Expired
from cluster.backoff import Backoff
from cluster.snapshot import Snapshot
from cluster.store import Store, trimmed
from cluster.stream import Stream
from errors import Refusal, Unreachable

log = logging.getLogger(__name__)

KINDS = ("deployments", "replicasets", "pods")
# The pauses before a watch that broke is opened again.
MIN_PAUSE_SECONDS, MAX_PAUSE_SECONDS = 0.2, 5
# An API server that lags behind another one answers "Too large resource version" with 504: a new list helps there too.
_LIST_AGAIN = (410, 504)


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
                if not watched.views:
                    del self._namespaces[namespace]
                    watched.stop()


class View:
    """Show one Deployment, its ReplicaSets and their pods, as they were last seen."""

    def __init__(self, deployment: str, watched: "_Namespace") -> None:
        self.deployment = deployment
        self.changed = threading.Event()
        self.changed.set()
        self._watched = watched

    def wait(self, seconds: float | None) -> None:
        """Wait until something changes, or for so many seconds."""
        self.changed.wait(seconds)
        self.changed.clear()

    def snapshot(self, events: list[dict]) -> Snapshot | None:
        """Return what is known, or None while the API server can't be watched: then nothing may be decided."""
        return self._watched.snapshot(self.deployment, events)

    @property
    def trouble(self) -> Refusal | None:
        """What the API server said when a watch last failed."""
        return self._watched.trouble

    def refresh(self) -> None:
        """List everything again: the caller knows that the watches have missed something."""
        self._watched.refresh()


class _Namespace:
    """List and watch each kind in one namespace, in a thread each, until `stop`."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self.views: set[View] = set()
        self.trouble: Refusal | None = None
        self._cluster, self._namespace = cluster, namespace
        self._lock = threading.Lock()
        self._store = Store()
        # While only one Deployment is followed, only this one is watched: Kubernetes can grant that right by name.
        # https://kubernetes.io/docs/reference/access-authn-authz/rbac/#referring-to-resources
        self._only_deployment: str | None = None
        # The kinds of which the store has what is there, and those that have to be listed before the next watch.
        self._known: set[str] = set()
        self._to_list = set(KINDS)
        self._resource_versions: dict[str, str] = {}
        self._streams: dict[str, Stream] = {}
        self._stopped = threading.Event()

    def start(self) -> None:
        for kind in KINDS:
            name = f"watch {kind} {self._namespace}"
            threading.Thread(target=self._run, args=(kind,), name=name, daemon=True).start()

    def stop(self) -> None:
        self._stopped.set()
        self._end_streams()

    def refresh(self) -> None:
        with self._lock:
            self._known.clear()
            self._to_list = set(KINDS)
        self._end_streams()

    def add(self, view: View) -> None:
        """Serve one more view, and watch all Deployments as soon as several are followed."""
        with self._lock:
            self.views.add(view)
            if self._only_deployment in (None, view.deployment):
                return
            self._to_list.add("deployments")
        if stream := self._streams.get("deployments"):
            stream.close()

    def snapshot(self, deployment: str, events: list[dict]) -> Snapshot | None:
        with self._lock:
            if len(self._known) < len(KINDS) or self._only_deployment not in (None, deployment):
                return None
            return self._store.snapshot(deployment, events)

    def _end_streams(self) -> None:
        for stream in list(self._streams.values()):
            stream.close()

    def _run(self, kind: str) -> None:
        backoff = Backoff(MIN_PAUSE_SECONDS, MAX_PAUSE_SECONDS)
        while not self._stopped.is_set():
            began = time.monotonic()
            try:
                if kind in self._to_list:
                    self._list(kind)
                self._watch(kind)
            except Expired:
                self._to_list.add(kind)
            except Refusal as error:
                self._fail(kind, error)
            except Exception:  # Without its thread a kind would never be known again, and no rollout would end.
                log.exception("watching %s failed", kind, extra={"namespace": self._namespace})
                self._forget(kind)
            if time.monotonic() - began > MAX_PAUSE_SECONDS:
                backoff.reset()
            else:
                backoff.pause(self._stopped)

    def _fail(self, kind: str, error: Refusal) -> None:
        # A stream that was closed on purpose breaks too, but is no trouble: `stop`, `refresh` and `add` do that.
        if kind not in self._to_list and not self._stopped.is_set():
            self.trouble = error
            log.warning("watching %s: %s", kind, error, extra={"namespace": self._namespace})
        self._forget(kind)

    def _forget(self, kind: str) -> None:
        """Decide nothing until the kind is listed again: the next watch may not tell all that this one missed."""
        self._mark(kind, is_known=False)
        self._to_list.add(kind)

    def _list(self, kind: str) -> None:
        with self._lock:
            self._to_list.discard(kind)
            if kind == "deployments":
                followed = {view.deployment for view in tuple(self.views)}
                self._only_deployment = followed.pop() if len(followed) == 1 else None
                # Until the new list is here, the store holds what was listed under another name.
                self._known.discard(kind)
        listed = []
        for page in self._cluster.pages(kind, self._namespace, self._name_to_ask_for(kind)):
            listed += [trimmed(kind, thing) for thing in page["items"]]
        with self._lock:
            self._store.replace_all(kind, listed)
        self._resource_versions[kind] = page["metadata"]["resourceVersion"]
        self._mark(kind, is_known=True)

    def _watch(self, kind: str) -> None:
        stream = self._streams[kind] = self._cluster.watch(
            kind, self._namespace, self._resource_versions[kind], self._name_to_ask_for(kind)
        )
        if self._stopped.is_set() or kind in self._to_list:
            stream.close()  # `stop`, `refresh` or `add` came before there was a stream to close.
        for event in stream:
            thing = event["object"]
            if event["type"] == "ERROR":
                if thing.get("code") in _LIST_AGAIN:
                    raise Expired(thing.get("message", "the watch has expired"))
                raise Unreachable(thing.get("message", "the watch ended with an error"))
            if event["type"] != "BOOKMARK":
                self._apply(kind, event["type"], thing)
            self._resource_versions[kind] = thing["metadata"]["resourceVersion"]

    def _name_to_ask_for(self, kind: str) -> str | None:
        return self._only_deployment if kind == "deployments" else None

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

    def _mark(self, kind: str, is_known: bool) -> None:
        with self._lock:
            (self._known.add if is_known else self._known.discard)(kind)
        for view in tuple(self.views):
            view.changed.set()
