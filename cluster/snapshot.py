"""Keep what is known of a namespace, and show one Deployment with its objects at one moment. It makes no call."""

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass

from manifest.annotations import REVISION, annotations_of
from manifest.pod_template import without_hash

# Signals in quick succession leave a ReplicaSet each, and Kubernetes deletes them only when a rollout is complete. Of
# those without pods, a verdict needs the one of the newest revision.
MAX_EMPTY_REPLICASETS = 20
_KINDS_ABOVE = {"deployments": (), "replicasets": ("deployments",), "pods": ("replicasets", "deployments")}
_KEPT_METADATA = ("name", "namespace", "uid", "ownerReferences", "creationTimestamp", "deletionTimestamp")


@dataclass(frozen=True)
class Snapshot:
    """Hold a Deployment with its ReplicaSets, their pods and events; `deployment` is None when it is gone."""

    deployment: dict | None
    replicasets: list[dict]
    pods: list[dict]
    events: list[dict]

    def replicaset_of(self, template: dict) -> dict | None:
        """Find the ReplicaSet that has this pod template, apart from the label pod-template-hash; None if none has."""
        uid = self.deployment["metadata"]["uid"]
        for replicaset in self.replicasets:
            other = replicaset["spec"]["template"]
            # The annotations come first: most templates differ already in the rollout id among them.
            alike = annotations_of(other) == annotations_of(template) and owner_uid(replicaset) == uid
            if alike and without_hash(other) == template:
                return replicaset
        return None

    def pods_of(self, replicaset: dict | None) -> list[dict]:
        """Return the pods of a ReplicaSet; an empty list when it is None."""
        return [pod for pod in self.pods if replicaset and owner_uid(pod) == replicaset["metadata"]["uid"]]

    def troubled_pods(self, template: dict) -> list[dict]:
        """Return the pods of a template that are on a node, and not ready or restarted."""
        pods = self.pods_of(self.replicaset_of(template))
        on_a_node = [pod for pod in pods if condition(pod, "PodScheduled").get("status") == "True"]
        active = [pod for pod in on_a_node if is_active(pod)]
        return [pod for pod in active if condition(pod, "Ready").get("status") == "False" or _has_restarted(pod)]


class Store:
    """Hold the objects of a namespace as they were last seen. It has no lock: the caller holds one around each call."""

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
        self._forget_pod_specs()

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
        siblings = self._things[kind].setdefault(parent, {})
        siblings[thing["metadata"]["uid"]] = thing
        if kind == "replicasets" and len(siblings) > MAX_EMPTY_REPLICASETS:
            empty = sorted(filter(_is_empty, siblings.values()), key=lambda each: revision_of(each) or math.inf)
            for spare in empty[:-MAX_EMPTY_REPLICASETS]:
                del siblings[spare["metadata"]["uid"]]
            if len(self._pod_specs) > 2 * MAX_EMPTY_REPLICASETS:
                self._forget_pod_specs()

    def remove(self, kind: str, thing: dict) -> None:
        """Forget an object that is deleted."""
        uid, parent = thing["metadata"]["uid"], _parent(kind, thing)
        siblings = self._things[kind].get(parent, {})
        if siblings.pop(uid, None) and not siblings:
            del self._things[kind][parent]
        if kind == "replicasets":
            self._things["pods"].pop(uid, None)
            self._forget_pod_specs()

    def _forget_pod_specs(self) -> None:
        """Forget the pod specs that no ReplicaSet has any more."""
        kept = [each for siblings in self._things["replicasets"].values() for each in siblings.values()]
        used = {id(replicaset["spec"]["template"]["spec"]) for replicaset in kept}
        self._pod_specs = {text: spec for text, spec in self._pod_specs.items() if id(spec) in used}

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


def owner_uid(thing: dict) -> str | None:
    """Return the uid of an object's controller."""
    return _owner(thing).get("uid")


def deployment_name(kind: str, thing: dict) -> str | None:
    """Return the name of the Deployment that an object is, or by the name of its owner belongs to; None for others.

    A pod may arrive before its ReplicaSet, so the ReplicaSet's name has to say it: Kubernetes names it NAME-HASH.
    https://github.com/kubernetes/kubernetes/blob/v1.34.0/pkg/controller/deployment/sync.go (getNewReplicaSet)
    """
    if kind == "deployments":
        return thing["metadata"]["name"]
    owner = _owner(thing)
    if kind == "replicasets":
        return owner["name"] if owner.get("kind") == "Deployment" else None
    return owner["name"].rpartition("-")[0] if owner.get("kind") == "ReplicaSet" else None


def _owner(thing: dict) -> dict:
    return next((each for each in thing["metadata"].get("ownerReferences", []) if each.get("controller")), {})


def is_active(pod: dict) -> bool:
    """Tell whether a pod still counts: it has not ended, and is not being deleted."""
    ended = pod.get("status", {}).get("phase") in ("Failed", "Succeeded")
    return not ended and not pod["metadata"].get("deletionTimestamp")


def _is_empty(replicaset: dict) -> bool:
    return not any(replicaset["status"].get(field) for field in ("replicas", "terminatingReplicas"))


def _has_restarted(pod: dict) -> bool:
    return any(each.get("restartCount") for each in pod.get("status", {}).get("containerStatuses", []))


def condition(thing: dict, kind: str) -> dict:
    """Return the condition of this type in an object's status; an empty dict when it has none."""
    return next((each for each in thing.get("status", {}).get("conditions", []) if each["type"] == kind), {})


def revision_of(thing: dict | None) -> int | None:
    """Return the revision that the Deployment controller wrote on a ReplicaSet or a Deployment."""
    revision = annotations_of(thing or {}).get(REVISION)
    return int(revision) if revision else None
