"""Make every call to the Kubernetes API."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from kubernetes.client import V1Deployment

from cluster.backoff import Backoff
from cluster.connection import METADATA_ALONE, Connection, Stream
from errors import Conflict, NotFound, TooSlow, Unreachable
from manifest.pod_template import rollout_id_of

log = logging.getLogger(__name__)

FIELD_MANAGER = "auto-deployer"
# The API server ends a watch after so many seconds; in between it sends a bookmark about once a minute.
# https://kubernetes.io/docs/reference/using-api/api-concepts/#watch-bookmarks
WATCH_SECONDS, MAX_SILENCE_SECONDS = 900, 75
# Of 5,000 foreign pods, pages of 500 take 20 MiB at their most, and these take 4.
MAX_PAGE_ITEMS = 50
# The API server itself gives up after five conflicts. A burst of signals to one Deployment causes more.
MAX_ATTEMPTS = 12
MIN_PAUSE_SECONDS, MAX_PAUSE_SECONDS = 0.02, 0.64
# A change of a Deployment is given up after so long, with the wait for the changes before it: load balancers give up
# after 30 s.
MAX_APPLY_SECONDS = 25
MAX_EVENTS = 50
MAX_LOG_BYTES = 1 << 20

# What is sent: a whole Deployment, or a patch.
Body = V1Deployment | dict


class Cluster:
    """Talk to the API server. Each call raises a Refusal for what goes wrong."""

    def __init__(self, kubeconfig: str | None) -> None:
        self._connection = Connection(kubeconfig)
        self._call = self._connection.call
        self._turns: dict[tuple[str, str], threading.Lock] = {}

    def apply(
        self, namespace: str, name: str, rollout_id: str, build: Callable[[dict | None], Body], dry_run: bool = False
    ) -> dict:
        """Read the Deployment, then create or patch it with what `build` makes of it; return the API server's answer.

        What `build` makes has the rollout id: where an answer got lost, the live Deployment says whether it arrived.

        `build` gets the live Deployment, or None, and gets it again when another client has changed it in between: the
        API server refuses a patch of anything but what was read. Raises Conflict when the Deployment is paused, since
        Kubernetes would roll the patch out later, at `kubectl rollout resume`. Raises also what `build` raises.
        """
        options = _options(dry_run) | {"fieldValidation": "Strict"}
        backoff = Backoff(MIN_PAUSE_SECONDS, MAX_PAUSE_SECONDS)
        until = time.monotonic() + MAX_APPLY_SECONDS
        with self._turn(namespace, name):
            while True:
                live = self.read_deployment(namespace, name)
                if _has_id(live, rollout_id):
                    return live
                body = build(live)
                if live and live["spec"].get("paused"):
                    raise Conflict(
                        f"deployment {name} in {namespace} is paused, nothing was changed; "
                        f"resume it with: kubectl rollout resume deployment/{name} -n {namespace}",
                        reason="Paused",
                    )
                try:
                    if live is None:
                        return self._call("POST", _path("deployments", namespace), options, body)
                    body["metadata"]["resourceVersion"] = live["metadata"]["resourceVersion"]
                    return self._call("PATCH", _path("deployments", namespace, name), options, body)
                except (Unreachable, TooSlow):
                    live = self.read_deployment(namespace, name)
                    if not _has_id(live, rollout_id):
                        raise
                    return live
                except (Conflict, NotFound) as error:
                    # Another client created, deleted or changed it in between: read it again.
                    log.info("%s; trying again", error, extra={"deployment": name, "namespace": namespace})
                    if time.monotonic() >= until:
                        raise _changing(namespace, name) from error
                    backoff.pause()

    @contextmanager
    def _turn(self, namespace: str, name: str) -> Iterator[None]:
        """Let the threads of this process change a Deployment one after another, so that they don't conflict."""
        turn = self._turns.setdefault((namespace, name), threading.Lock())
        if not turn.acquire(timeout=MAX_APPLY_SECONDS):
            raise _changing(namespace, name)
        try:
            yield
        finally:
            turn.release()

    def read_deployment(self, namespace: str, name: str) -> dict | None:
        """Return the live Deployment, or None when there is none."""
        return self._read("deployments", namespace, name)

    def list_all(self, kind: str, namespace: str, labels: dict[str, str], name: str | None = None) -> dict:
        """Return the list of the objects with these labels, and the resourceVersion to watch from."""
        selector = ",".join(f"{key}={value}" for key, value in labels.items())
        return self._call("GET", _path(kind, namespace), _only(name) | {"labelSelector": selector})

    def pages(self, kind: str, namespace: str, name: str | None = None) -> Iterator[dict]:
        """Yield the list of a kind page by page, since a namespace may hold thousands. Raises Expired."""
        query = {"limit": MAX_PAGE_ITEMS} | _only(name)
        while True:
            page = self._call("GET", _path(kind, namespace), query)
            query["continue"] = page["metadata"].get("continue")
            yield page
            if not query["continue"]:
                return

    def watch(self, kind: str, namespace: str, resource_version: str, name: str | None = None) -> Stream:
        """Open a stream of what changes from a resourceVersion on. Raises Expired."""
        query = {"watch": True, "allowWatchBookmarks": True, "timeoutSeconds": WATCH_SECONDS}
        query |= {"resourceVersion": resource_version} | _only(name)
        path = _path(kind, namespace)
        return Stream(self._connection.send("GET", path, query, max_silence_seconds=MAX_SILENCE_SECONDS).response)

    def pod_events(self, namespace: str, pod: str) -> list[dict]:
        """Return the events about a pod."""
        about = f"involvedObject.kind=Pod,involvedObject.name={pod}"
        query = {"fieldSelector": about, "limit": MAX_EVENTS}
        return self._call("GET", _path("events", namespace), query)["items"]

    def create_event(self, namespace: str, event: dict, dry_run: bool = False) -> None:
        """Create an Event."""
        self._call("POST", _path("events", namespace), _options(dry_run), event)

    def read_log(self, namespace: str, pod: str, container: str, previous: bool, lines: int) -> list[str]:
        """Return the last lines of a container's log; with `previous`, of the instance before the present one."""
        # The API server counts the bytes from the first of the lines: a low limit would cut off the last ones.
        query = {"container": container, "previous": previous, "tailLines": lines, "limitBytes": MAX_LOG_BYTES}
        answer = self._connection.send("GET", _path("pods", namespace, pod) + "/log", query)
        return answer.data.decode(errors="replace").splitlines()

    def read_config_map(self, namespace: str, name: str) -> dict | None:
        """Return a ConfigMap, or None when there is none."""
        return self._read("configmaps", namespace, name)

    def create_config_map(self, namespace: str, body: dict, dry_run: bool = False) -> dict:
        """Create a ConfigMap; return it without its data. Raises Conflict when there is one."""
        return self._call("POST", _path("configmaps", namespace), _options(dry_run), body, METADATA_ALONE)

    def patch_config_map(self, namespace: str, name: str, body: dict, dry_run: bool = False) -> dict:
        """Change a ConfigMap; return it without its data.

        Raises Conflict when its resourceVersion isn't the body's, NotFound when it is gone.
        """
        return self._call("PATCH", _path("configmaps", namespace, name), _options(dry_run), body, METADATA_ALONE)

    def _read(self, kind: str, namespace: str, name: str) -> dict | None:
        with suppress(NotFound):
            return self._call("GET", _path(kind, namespace, name))
        return None


def _has_id(live: dict | None, rollout_id: str) -> bool:
    return live is not None and rollout_id_of(live["spec"]["template"]) == rollout_id


def _options(dry_run: bool) -> dict[str, str]:
    return {"fieldManager": FIELD_MANAGER} | ({"dryRun": "All"} if dry_run else {})


def _changing(namespace: str, name: str) -> Unreachable:
    return Unreachable(f"deployment {name} in {namespace} is being changed all the time; try again", reason="Conflict")


def _path(kind: str, namespace: str, name: str = "") -> str:
    group = "/apis/apps/v1" if kind in ("deployments", "replicasets") else "/api/v1"
    return f"{group}/namespaces/{namespace}/{kind}" + (f"/{name}" if name else "")


def _only(name: str | None) -> dict[str, str]:
    return {"fieldSelector": f"metadata.name={name}"} if name else {}
