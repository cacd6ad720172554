"""Show one Deployment with its objects at one moment, and tell how they belong together. It makes no call."""

from dataclasses import dataclass

from manifest.annotations import REVISION, annotations_of
from manifest.pod_template import without_hash


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

    def unready_pods(self) -> list[dict]:
        """Return the pods that run on a node and are not ready."""
        on_a_node = [pod for pod in self.pods if condition(pod, "PodScheduled").get("status") == "True"]
        return [pod for pod in on_a_node if is_active(pod) and condition(pod, "Ready").get("status") == "False"]


def owner_uid(thing: dict) -> str | None:
    """Return the uid of an object's controller."""
    return next((each["uid"] for each in thing["metadata"].get("ownerReferences", []) if each.get("controller")), None)


def is_active(pod: dict) -> bool:
    """Tell whether a pod still counts: it has not ended, and is not being deleted."""
    ended = pod.get("status", {}).get("phase") in ("Failed", "Succeeded")
    return not ended and not pod["metadata"].get("deletionTimestamp")


def condition(thing: dict, kind: str) -> dict:
    """Return the condition of this type in an object's status; an empty dict when it has none."""
    return next((each for each in thing.get("status", {}).get("conditions", []) if each["type"] == kind), {})


def revision_of(thing: dict | None) -> int | None:
    """Return the revision that the Deployment controller wrote on a ReplicaSet or a Deployment."""
    revision = annotations_of(thing or {}).get(REVISION)
    return int(revision) if revision else None
