"""Keep what is known of a namespace, so that the objects of one Deployment are found at once. It makes no call."""

import json
from collections.abc import Iterable

from cluster.snapshot import Snapshot, owner_uid
from manifest.annotations import REVISION

_KINDS_ABOVE = {"deployments": (), "replicasets": ("deployments",), "pods": ("replicasets", "deployments")}
_KEPT_METADATA = ("name", "namespace", "uid", "ownerReferences", "creationTimestamp", "deletionTimestamp")


class Store:
    """Hold the Deployments, ReplicaSets and pods of a namespace as they were last seen.

    It has no lock: the caller holds one around each call.
    """

    def __init__(self) -> None:
        # By kind, parent and uid, since a namespace may hold thousands that nothing asks for.
        self._things: dict[str, dict[str, dict[str, dict]]] = {kind: {} for kind in _KINDS_ABOVE}
        # A pod spec as JSON -> the one copy of it that is kept.
        self._pod_specs: dict[str, dict] = {}

    def replace_all(self, kind: str, things: Iterable[dict]) -> None:
        """Forget the objects of a kind, and keep these instead, each as `trimmed` returned it."""
        self._things[kind].clear()
        for thing in things:
            self.put(kind, thing)

    def put(self, kind: str, thing: dict) -> None:
        """Keep an object, as `trimmed` returned it, in place of its former state."""
        parent = _parent(kind, thing)
        if parent is None:
            return
        if kind == "replicasets":
            # The templates of most ReplicaSets differ in nothing but the rollout id: one pod spec serves them all.
            template = thing["spec"]["template"]
            spec = self._pod_specs.setdefault(json.dumps(template["spec"], sort_keys=True), template["spec"])
            thing = {**thing, "spec": {"template": {**template, "spec": spec}}}
        self._things[kind].setdefault(parent, {})[thing["metadata"]["uid"]] = thing

    def remove(self, kind: str, thing: dict) -> None:
        """Forget an object that is deleted."""
        uid = thing["metadata"]["uid"]
        self._things[kind].get(_parent(kind, thing), {}).pop(uid, None)
        if kind == "replicasets":
            self._things["pods"].pop(uid, None)

    def deployment_of(self, kind: str, thing: dict) -> str | None:
        """Return the name of the Deployment that an object is or belongs to; None when it belongs to no known one."""
        parent = _parent(kind, thing)
        for above in _KINDS_ABOVE[kind]:
            parent = next((each for each, children in self._things[above].items() if parent in children), None)
        return parent

    def snapshot(self, name: str, events: list[dict]) -> Snapshot:
        """Return a Deployment with what belongs to it, and with these events."""
        deployment = next(iter(self._things["deployments"].get(name, {}).values()), None)
        if deployment is None:
            return Snapshot(None, [], [], events)
        replicasets = self._things["replicasets"].get(deployment["metadata"]["uid"], {})
        pods = [pod for uid in replicasets for pod in self._things["pods"].get(uid, {}).values()]
        return Snapshot(deployment, list(replicasets.values()), pods, events)


def trimmed(kind: str, thing: dict) -> dict:
    """Return an object with no more than a verdict needs: many signals leave hundreds of ReplicaSets behind."""
    metadata = thing["metadata"]
    if kind == "deployments":
        return {**thing, "metadata": {key: value for key, value in metadata.items() if key != "managedFields"}}
    kept = {"metadata": {key: metadata[key] for key in _KEPT_METADATA if key in metadata}}
    kept["status"] = thing.get("status", {})
    if kind == "replicasets":
        kept["metadata"]["annotations"] = {REVISION: (metadata.get("annotations") or {}).get(REVISION)}
        kept["spec"] = {"template": thing["spec"]["template"]}
    return kept


def _parent(kind: str, thing: dict) -> str | None:
    """Return the uid of an object's owner; a Deployment stands below its own name."""
    return thing["metadata"]["name"] if kind == "deployments" else owner_uid(thing)
