"""Looks at objects again when they, or what they own, have changed; the replica set controller; garbage collection."""

from __future__ import annotations

from collections.abc import Callable

from .clock import Clock, age, now, random_letters
from .deployments import ENDED, sync_deployment
from .refusals import ApiError
from .store import Object, Store

MAX_RETRY_SECONDS = 60


class Controllers:
    """Bring the cluster to what its objects ask for."""

    def __init__(self, store: Store, clock: Clock, admit_pod: Callable):
        self.store, self.clock, self.admit_pod = store, clock, admit_pod
        self.failures: dict[str, int] = {}  # by a ReplicaSet's uid: pods that it could not create, in a row
        store.listeners.append(self._notice)

    def _notice(self, resource: str, old: Object | None, new: Object | None) -> None:
        meta = (new or old)["metadata"]
        if resource in ("deployments", "replicasets") and new:
            self.look_again(resource, meta["namespace"], meta["name"])
        for owner in meta.get("ownerReferences", ()):
            if resource == "pods" and owner["kind"] == "ReplicaSet":
                self.look_again("replicasets", meta["namespace"], owner["name"])
            elif resource == "replicasets" and owner["kind"] == "Deployment":
                self.look_again("deployments", meta["namespace"], owner["name"])
        if not new and resource in ("deployments", "replicasets"):
            self.clock.after(0, ("collect", meta["uid"]), lambda: self._collect(old))

    def look_again(self, resource: str, namespace: str, name: str, seconds: float = 0, why: str = "") -> None:
        """Look at an object in so many seconds. What has another reason does not wait for this look."""
        sync = sync_deployment if resource == "deployments" else sync_replica_set

        def look() -> None:
            with self.store.lock:
                if item := self.store.find(resource, namespace, name):
                    sync(self, item)

        self.clock.after(seconds, (resource, namespace, name, why), look)

    def _collect(self, owner: Object) -> None:
        """Delete what a deleted object owned."""
        with self.store.lock:
            for resource in ("replicasets", "configmaps", "pods"):
                for item in self.store.owned_by(owner, resource):
                    self.delete(resource, item["metadata"]["namespace"], item["metadata"]["name"])

    def delete_beyond(self, limit: int, old: list[Object]) -> None:
        """Delete the oldest ReplicaSets of a complete Deployment, except those that have pods."""
        for item in old[: max(0, len(old) - limit)]:
            status, meta = item["status"], item["metadata"]
            if not item["spec"]["replicas"] and not status.get("replicas") and not status.get("terminatingReplicas"):
                self.delete("replicasets", meta["namespace"], meta["name"])

    def delete(self, resource: str, namespace: str, name: str) -> None:
        """Delete an object. A running pod with a grace period is only marked: the kubelet stops it."""
        item = self.store.find(resource, namespace, name)
        grace = item["spec"]["terminationGracePeriodSeconds"] if resource == "pods" else 0
        if not grace or not item["spec"].get("nodeName") or item["status"]["phase"] in ENDED:
            self.store.remove(resource, namespace, name)
        elif "deletionTimestamp" not in item["metadata"]:
            meta = {**item["metadata"], "deletionTimestamp": now(grace), "deletionGracePeriodSeconds": grace}
            meta["generation"] += 1
            self.store.write("pods", {**item, "metadata": meta})


def ready_since(pod: dict) -> str | None:
    """Return since when a pod is ready, or None."""
    for condition in pod["status"].get("conditions", ()):
        if condition["type"] == "Ready" and condition["status"] == "True":
            return condition["lastTransitionTime"]
    return None


def _active(pod: dict) -> bool:
    return pod["status"]["phase"] not in ENDED and "deletionTimestamp" not in pod["metadata"]


def _rank(pod: dict) -> tuple:
    """Order pods by how soon they go: those not on a node, not running or not ready first."""
    return bool(ready_since(pod)), bool(pod["spec"].get("nodeName")), pod["status"]["phase"] == "Running"


def sync_replica_set(controllers: Controllers, item: Object) -> None:
    """Create or delete pods until a ReplicaSet has as many as it should, and report."""
    meta, wanted = item["metadata"], item["spec"]["replicas"]
    alive, failure = [pod for pod in controllers.store.owned_by(item, "pods") if _active(pod)], None
    for _ in range(wanted - len(alive)):
        failure = _create_pod(controllers, item)
        if failure:
            tries = controllers.failures[meta["uid"]] = controllers.failures.get(meta["uid"], 0) + 1
            pause = min(0.1 * 2**tries, MAX_RETRY_SECONDS)
            controllers.look_again("replicasets", meta["namespace"], meta["name"], pause)
            break
    else:
        controllers.failures.pop(meta["uid"], None)
    for pod in sorted(alive, key=_rank)[: max(0, len(alive) - wanted)]:
        controllers.delete("pods", meta["namespace"], pod["metadata"]["name"])
    _report(controllers, item, alive, failure)


def _create_pod(controllers: Controllers, owner: Object) -> str | None:
    """Create a pod; return why it can't be created, or None."""
    meta, template = owner["metadata"], owner["spec"]["template"]
    name = f"{meta['name']}-{random_letters(5)}"
    try:
        controllers.admit_pod(meta["namespace"], name, template["spec"])
    except ApiError as error:
        return str(error)
    reference = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": meta["name"], "uid": meta["uid"]}
    reference |= {"controller": True, "blockOwnerDeletion": True}
    pod = {"name": name, "generateName": meta["name"] + "-", "namespace": meta["namespace"]}
    pod |= {**template["metadata"], "ownerReferences": [reference]}
    spec = {"serviceAccountName": "default", "serviceAccount": "default", **template["spec"]}
    controllers.store.add("pods", {"metadata": pod, "spec": spec, "status": {"phase": "Pending"}})
    return None


def _report(controllers: Controllers, item: Object, alive: list[Object], failure: str | None) -> None:
    # Pods that were created or deleted just now are counted at the next look, as the real controller does.
    minimum = item["spec"].get("minReadySeconds", 0)
    ready = [since for since in map(ready_since, alive) if since]
    waiting = [minimum - age(since) for since in ready if minimum and age(since) < minimum]
    owned = controllers.store.owned_by(item, "pods")
    counts = {"fullyLabeledReplicas": len(alive), "readyReplicas": len(ready)}
    counts |= {"availableReplicas": len(ready) - len(waiting)}
    status = {"replicas": len(alive)} | {key: count for key, count in counts.items() if count}
    ending = [pod for pod in owned if "deletionTimestamp" in pod["metadata"]]
    status["terminatingReplicas"] = sum(pod["status"]["phase"] not in ENDED for pod in ending)
    status["observedGeneration"] = item["metadata"]["generation"]
    if failure:
        condition = {"type": "ReplicaFailure", "status": "True", "lastTransitionTime": now()}
        condition |= {"reason": "FailedCreate", "message": failure}
        status["conditions"] = item["status"].get("conditions") or [condition]
    if status != item["status"]:
        controllers.store.write("replicasets", {**item, "status": status})
    if waiting:
        meta = item["metadata"]
        controllers.look_again("replicasets", meta["namespace"], meta["name"], max(min(waiting), 0.01))
