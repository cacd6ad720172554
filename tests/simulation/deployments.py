"""The deployment controller: how many replicas each ReplicaSet has, and how far the rollout is."""

from __future__ import annotations

import hashlib
import json
import math
from typing import TYPE_CHECKING

from .clock import LETTERS, age, now
from .store import Object

if TYPE_CHECKING:
    from .controllers import Controllers

PREFIX = "deployment.kubernetes.io/"
REVISION, DESIRED, MAXIMUM = PREFIX + "revision", PREFIX + "desired-replicas", PREFIX + "max-replicas"
ENDED = ("Succeeded", "Failed")  # phases of a pod that is over
NOT_COPIED = {REVISION, DESIRED, MAXIMUM, "kubectl.kubernetes.io/last-applied-configuration"}


def sync_deployment(controllers: Controllers, deployment: Object) -> None:
    """Take a Deployment one step further. A paused one is only counted."""
    step = Step(controllers, deployment)
    if deployment["spec"].get("paused"):
        step.write(step.counted())
        return
    step.roll()
    step.report()


def size(item: dict) -> int:
    """Return how many replicas are asked for."""
    return item["spec"]["replicas"]


def reported(item: dict | None, field: str) -> int:
    """Return a count of the status."""
    return item["status"].get(field, 0) if item else 0


def revision(replica_set: dict) -> int:
    """Return the revision that a ReplicaSet stands for."""
    return int(replica_set["metadata"]["annotations"].get(REVISION, 0))


def limits(deployment: dict) -> tuple[int, int]:
    """Return maxSurge and maxUnavailable as numbers of pods."""
    rolling, wanted = deployment["spec"]["strategy"].get("rollingUpdate"), size(deployment)
    if not rolling:
        return 0, 0

    def resolve(value, rounded) -> int:
        return rounded(wanted * int(value[:-1]) / 100) if isinstance(value, str) else value

    surge, unavailable = resolve(rolling["maxSurge"], math.ceil), resolve(rolling["maxUnavailable"], math.floor)
    return surge, 1 if not surge and not unavailable else min(unavailable, wanted)


class Step:
    """One look at a Deployment and its ReplicaSets, and what follows from it."""

    def __init__(self, controllers: Controllers, deployment: Object):
        self.controllers, self.store, self.deployment = controllers, controllers.store, deployment
        self.meta, self.spec, self.wanted = deployment["metadata"], deployment["spec"], size(deployment)
        self.conditions = {c["type"]: c for c in deployment["status"].get("conditions", ())}
        self.annotations = dict(self.meta.get("annotations", {}))
        self.copied = {key: value for key, value in self.annotations.items() if key not in NOT_COPIED}
        self.surge, self.unavailable = limits(deployment)
        self.minimum = {key: self.spec[key] for key in ("minReadySeconds",) if self.spec.get(key)}
        self.all = sorted(
            self.store.owned_by(deployment, "replicasets"),
            # Versions tell those apart that were created in the same second.
            key=lambda item: (item["metadata"]["creationTimestamp"], int(item["metadata"]["resourceVersion"])),
        )
        self.new = next((item for item in self.all if self._same_template(item)), None)
        if self.new:
            self._settle_revision()

    @property
    def old(self) -> list[Object]:
        """The ReplicaSets of other templates, oldest first."""
        return [item for item in self.all if item is not self.new]

    def _same_template(self, item: Object) -> bool:
        template = item["spec"]["template"]
        labels = {k: v for k, v in template["metadata"]["labels"].items() if k != "pod-template-hash"}
        return {**template, "metadata": {**template["metadata"], "labels": labels}} == self.spec["template"]

    def _replace(self, item: Object, **fields: dict) -> None:
        stored = self.store.write("replicasets", {**item, **fields})
        self.all[self.all.index(item)] = stored
        if item is self.new:
            self.new = stored

    def _settle_revision(self) -> None:
        """Give a ReplicaSet that is wanted (again) the highest revision and the Deployment's annotations."""
        latest = max((revision(item) for item in self.old), default=0) + 1
        annotations = self.new["metadata"]["annotations"] | self.copied
        if revision(self.new) < latest:
            annotations[REVISION] = str(latest)
        spec = {key: value for key, value in self.new["spec"].items() if key != "minReadySeconds"} | self.minimum
        if annotations != self.new["metadata"]["annotations"] or spec != self.new["spec"]:
            self._replace(self.new, metadata={**self.new["metadata"], "annotations": annotations}, spec=spec)
        self.annotations[REVISION] = annotations[REVISION]

    def _create(self) -> None:
        template = self.spec["template"]
        digest = hashlib.sha256(json.dumps([self.meta["uid"], template], sort_keys=True).encode()).digest()
        label = {"pod-template-hash": "".join(LETTERS[byte % len(LETTERS)] for byte in digest[:10])}
        labels, name = template["metadata"]["labels"] | label, f"{self.meta['name']}-{label['pod-template-hash']}"
        latest = str(max(map(revision, self.all), default=0) + 1)
        owner = {"apiVersion": "apps/v1", "kind": "Deployment", "name": self.meta["name"], "uid": self.meta["uid"]}
        meta = {"name": name, "namespace": self.meta["namespace"], "labels": labels}
        meta["annotations"] = self.copied | {REVISION: latest} | self._sizes()
        meta["ownerReferences"] = [owner | {"controller": True, "blockOwnerDeletion": True}]
        selector = {**self.spec["selector"], "matchLabels": self.spec["selector"].get("matchLabels", {}) | label}
        template = {**template, "metadata": {**template["metadata"], "labels": labels}}
        spec = {"replicas": self._new_size(0), **self.minimum, "selector": selector, "template": template}
        self.new = self.store.add("replicasets", {"metadata": meta, "spec": spec, "status": {"replicas": 0}})
        self.all.append(self.new)
        self.annotations[REVISION] = latest
        self.condition("Progressing", "True", "NewReplicaSetCreated", f'Created new replica set "{name}"')

    def _sizes(self) -> dict[str, str]:
        return {DESIRED: str(self.wanted), MAXIMUM: str(self.wanted + self.surge)}

    def _resize(self, item: Object, after: int) -> bool:
        """Ask for another number of replicas; return whether it was another one."""
        before, meta = size(item), {**item["metadata"]}
        meta["annotations"] = meta["annotations"] | self._sizes()
        meta["generation"] += after != before
        if meta != item["metadata"]:
            self._replace(item, metadata=meta, spec={**item["spec"], "replicas": after})
        return after != before

    def _new_size(self, before: int) -> int:
        room = self.wanted + self.surge - sum(map(size, self.all))
        return min(self.wanted, before + max(0, min(room, self.wanted - before)))

    def roll(self) -> None:
        """Bring new pods up and old ones down, within maxSurge and maxUnavailable."""
        if self.spec["strategy"]["type"] == "Recreate" and self._take_down():
            return
        if not self.new:
            self._create()
            return
        if self._resize(self.new, self._new_size(size(self.new))):
            return
        least = self.wanted - self.unavailable
        missing = size(self.new) - reported(self.new, "availableReplicas")
        spare = sum(map(size, self.all)) - least - missing
        for item in self.old:  # pods that aren't available go first: they serve no request
            broken = min(spare, size(item) - reported(item, "availableReplicas"))
            if broken > 0:
                self._resize(item, size(item) - broken)
                spare -= broken
        spare = min(spare, sum(reported(item, "availableReplicas") for item in self.all) - least)
        for item in self.old:
            surplus = min(spare, size(item))
            if surplus > 0:
                self._resize(item, size(item) - surplus)
                spare -= surplus

    def _take_down(self) -> bool:
        """Take all old pods down; return whether one is left."""
        for item in self.old:
            self._resize(item, 0)
        pods = [pod for item in self.old for pod in self.store.owned_by(item, "pods")]
        return any(pod["status"]["phase"] not in ENDED for pod in pods)

    def condition(self, type: str, status: str, reason: str, message: str, moved: bool = False) -> None:
        """Set a condition. It keeps its times while nothing of it changes, unless the rollout moved."""
        old = self.conditions.get(type)
        if old and (old["status"], old["reason"]) == (status, reason) and not moved:
            return
        self.conditions.pop(type, None)  # a changed condition goes to the end of the list
        since = old["lastTransitionTime"] if old and old["status"] == status else now()
        self.conditions[type] = {"type": type, "status": status, "lastUpdateTime": now(), "lastTransitionTime": since}
        self.conditions[type] |= {"reason": reason, "message": message}

    def counted(self) -> dict:
        """Return the counts, and set the Available condition."""
        counts = {"replicas": sum(reported(item, "replicas") for item in self.all)}
        counts["updatedReplicas"] = reported(self.new, "replicas")
        for field in ("readyReplicas", "availableReplicas"):
            counts[field] = sum(reported(item, field) for item in self.all)
        counts["unavailableReplicas"] = max(0, sum(map(size, self.all)) - counts["availableReplicas"])
        if counts["availableReplicas"] >= self.wanted - self.unavailable:
            text = "Deployment has minimum availability."
            self.condition("Available", "True", "MinimumReplicasAvailable", text)
        else:
            text = "Deployment does not have minimum availability."
            self.condition("Available", "False", "MinimumReplicasUnavailable", text)
        status = {"observedGeneration": self.meta["generation"]} | {key: n for key, n in counts.items() if n}
        return status | {"terminatingReplicas": sum(reported(item, "terminatingReplicas") for item in self.all)}

    def report(self) -> None:
        """Say how far the rollout is, and whether it has stalled."""
        if self.new and not self.deployment["status"]:  # the real controller writes this first, without any counts
            self.write({})
            return
        status = self.counted()
        complete = status.get("replicas", 0) == status.get("updatedReplicas", 0) == self.wanted
        complete = complete and status.get("availableReplicas", 0) == self.wanted
        if complete:
            self.controllers.delete_beyond(self.spec["revisionHistoryLimit"], self.old)
        self._settle_progress(status, complete)
        progressing = self.conditions.get("Progressing")
        if not complete and progressing and progressing["status"] != "False":
            self.controllers.look_again(
                "deployments", self.meta["namespace"], self.meta["name"], max(self._time_left(), 0) + 1, "deadline"
            )
        failures = [c for item in [*self.old, self.new] if item for c in item["status"].get("conditions", ())]
        if failures:
            self.condition("ReplicaFailure", "True", failures[-1]["reason"], failures[-1]["message"])
        else:
            self.conditions.pop("ReplicaFailure", None)
        self.write(status)

    def _settle_progress(self, status: dict, complete: bool) -> None:
        before, progressing = self.deployment["status"], self.conditions.get("Progressing")
        name = f'ReplicaSet "{self.new["metadata"]["name"]}"' if self.new else f'Deployment "{self.meta["name"]}"'
        settled = progressing and progressing["reason"] == "NewReplicaSetAvailable"

        def others(counts: dict) -> int:
            return counts.get("replicas", 0) - counts.get("updatedReplicas", 0)

        if settled and not others(status):
            return
        more = ("updatedReplicas", "readyReplicas", "availableReplicas")
        moved = others(status) < others(before) or any(status.get(key, 0) > before.get(key, 0) for key in more)
        if complete:
            self.condition("Progressing", "True", "NewReplicaSetAvailable", f"{name} has successfully progressed.")
        elif moved:
            self.condition("Progressing", "True", "ReplicaSetUpdated", f"{name} is progressing.", moved=True)
        elif progressing and progressing["status"] != "False" and not settled and self._time_left() <= 0:
            self.condition("Progressing", "False", "ProgressDeadlineExceeded", f"{name} has timed out progressing.")

    def _time_left(self) -> float:
        return self.spec["progressDeadlineSeconds"] - age(self.conditions["Progressing"]["lastUpdateTime"])

    def write(self, status: dict) -> None:
        """Store status and annotations, if they say something new."""
        status = status | {"conditions": list(self.conditions.values())}
        meta = {**self.meta, "annotations": self.annotations} if self.annotations else self.meta
        if status != self.deployment["status"] or meta != self.meta:
            self.store.write("deployments", {**self.deployment, "metadata": meta, "status": status})
