"""Keep what is known of a namespace, so that the objects of one Deployment are found at once. It makes no call."""

import json
from collections.abc import Iterable

from cluster.snapshot import Snapshot, owner_uid
from manifest.annotations import REVISION

_KEPT_METADATA = ("name", "namespace", "uid", "ownerReferences", "creationTimestamp", "deletionTimestamp")


class Store:
    """Hold the Deployments, ReplicaSets and pods of a namespace as they were last seen.

    It has no lock: the caller holds one around each call.
    """

    def __init__(self) -> None:
        self._deployments: dict[str, dict] = {}  # by uid
        # By the owner's uid and then by their own, since a namespace may hold thousands that nothing asks for.
        self._owned: dict[str, dict[str, dict[str, dict]]] = {"replicasets": {}, "pods": {}}
        # The uid of a ReplicaSet -> the uid of its Deployment.
        self._replicaset_owners: dict[str, str] = {}
        # A pod spec as JSON -> the one copy of it that is kept.
        self._pod_specs: dict[str, dict] = {}

    def replace_all(self, kind: str, things: Iterable[dict]) -> None:
        """Forget the objects of a kind, and keep these instead, each as `trimmed` returned it."""
        if kind == "deployments":
            self._deployments.clear()
        else:
            self._owned[kind].clear()
        if kind == "replicasets":
            self._replicaset_owners.clear()
        for thing in things:
            self.put(kind, thing)

    def put(self, kind: str, thing: dict) -> None:
        """Keep an object, as `trimmed` returned it, in place of its former state."""
        uid, owner = thing["metadata"]["uid"], owner_uid(thing)
        if kind == "deployments":
            self._deployments[uid] = thing
        elif owner is not None:
            if kind == "replicasets":
                self._replicaset_owners[uid] = owner
                thing = self._with_shared_pod_spec(thing)
            self._owned[kind].setdefault(owner, {})[uid] = thing

    def remove(self, kind: str, thing: dict) -> None:
        """Forget an object that is deleted."""
        uid = thing["metadata"]["uid"]
        if kind == "deployments":
            self._deployments.pop(uid, None)
        else:
            self._owned[kind].get(owner_uid(thing), {}).pop(uid, None)
        if kind == "replicasets":
            self._replicaset_owners.pop(uid, None)
            self._owned["pods"].pop(uid, None)

    def deployment_of(self, kind: str, thing: dict) -> str | None:
        """Return the name of the Deployment that an object is or belongs to; None when it belongs to no known one."""
        if kind == "deployments":
            return thing["metadata"]["name"]
        owner = owner_uid(thing)
        deployment = self._deployments.get(self._replicaset_owners.get(owner) if kind == "pods" else owner)
        return deployment and deployment["metadata"]["name"]

    def snapshot(self, name: str, events: list[dict]) -> Snapshot:
        """Return a Deployment with what belongs to it, and with these events."""
        deployment = next((each for each in self._deployments.values() if each["metadata"]["name"] == name), None)
        if deployment is None:
            return Snapshot(None, [], [], events)
        replicasets = self._owned["replicasets"].get(deployment["metadata"]["uid"], {})
        pods = [pod for uid in replicasets for pod in self._owned["pods"].get(uid, {}).values()]
        return Snapshot(deployment, list(replicasets.values()), pods, events)

    def _with_shared_pod_spec(self, replicaset: dict) -> dict:
        # The templates of most ReplicaSets differ in nothing but the rollout id: one pod spec serves them all.
        template = replicaset["spec"]["template"]
        spec = self._pod_specs.setdefault(json.dumps(template["spec"], sort_keys=True), template["spec"])
        return {**replicaset, "spec": {"template": {**template, "spec": spec}}}


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
