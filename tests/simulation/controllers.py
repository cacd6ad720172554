"""The deployment controller, the replica set controller and the garbage collector."""

import hashlib
import json
import math

from .errors import ApiError
from .store import Clock, Object, Store, age, now, suffix

PREFIX = "deployment.kubernetes.io/"
REVISION, REVISION_HISTORY, DESIRED, MAXIMUM = (
    PREFIX + name for name in ("revision", "revision-history", "desired-replicas", "max-replicas")
)
NOT_COPIED = {REVISION, REVISION_HISTORY, DESIRED, MAXIMUM, "kubectl.kubernetes.io/last-applied-configuration"}
ALPHABET = "bcdfghjklmnpqrstvwxz2456789"


def replicas(item: dict) -> int:
    """Return how many replicas are asked for."""
    return item["spec"]["replicas"]


def reported(item: dict, field: str) -> int:
    """Return a count of the status."""
    return item["status"].get(field, 0)


def by_age(item: dict) -> tuple:
    """Order objects by creation; versions tell those of one second apart."""
    return item["metadata"]["creationTimestamp"], int(item["metadata"]["resourceVersion"])


def revision(replica_set: dict) -> int:
    """Return the revision that a ReplicaSet stands for."""
    return int(replica_set["metadata"].get("annotations", {}).get(REVISION, 0))


def limits(deployment: dict) -> tuple[int, int]:
    """Return maxSurge and maxUnavailable as numbers of pods."""
    rolling, wanted = deployment["spec"]["strategy"].get("rollingUpdate"), replicas(deployment)
    if not rolling:
        return 0, 0

    def resolve(value, rounded) -> int:
        return rounded(wanted * int(value[:-1]) / 100) if isinstance(value, str) else value

    surge, unavailable = resolve(rolling["maxSurge"], math.ceil), resolve(rolling["maxUnavailable"], math.floor)
    return surge, 1 if not surge and not unavailable else min(unavailable, wanted)


def ready_since(pod: dict) -> str | None:
    """Return since when a pod is ready, or None."""
    for condition in pod["status"].get("conditions", ()):
        if condition["type"] == "Ready" and condition["status"] == "True":
            return condition["lastTransitionTime"]
    return None


def active(pod: dict) -> bool:
    """Return whether a ReplicaSet counts a pod as one of its own."""
    return pod["status"]["phase"] not in ("Succeeded", "Failed") and "deletionTimestamp" not in pod["metadata"]


class Controllers:
    """Bring the cluster to what its objects ask for."""

    def __init__(self, store: Store, clock: Clock, admit):
        self.store, self.clock, self.admit = store, clock, admit
        self._retries: dict[str, int] = {}
        store.listeners.append(self._notice)

    def _notice(self, resource: str, old: Object | None, new: Object | None) -> None:
        item = new or old
        meta = item["metadata"]
        if resource == "deployments" and new:
            self._soon(self.sync_deployment, meta["namespace"], meta["name"])
        elif resource == "replicasets" and new:
            self._soon(self.sync_replica_set, meta["namespace"], meta["name"])
        for owner in meta.get("ownerReferences", ()):
            if resource == "pods" and owner["kind"] == "ReplicaSet":
                self._soon(self.sync_replica_set, meta["namespace"], owner["name"])
            elif resource == "replicasets" and owner["kind"] == "Deployment":
                self._soon(self.sync_deployment, meta["namespace"], owner["name"])
        if not new and meta["uid"] in self.store.owned:
            self.clock.after(0, ("collect", meta["uid"]), lambda: self.collect(old))

    def _soon(self, sync, namespace: str, name: str, seconds: float = 0) -> None:
        self.clock.after(seconds, (sync.__name__, namespace, name), lambda: sync(namespace, name))

    def collect(self, owner: Object) -> None:
        """Delete what a deleted object owned."""
        with self.store.lock:
            for resource, namespace, name in list(self.store.owned.get(owner["metadata"]["uid"], ())):
                if resource == "pods":
                    self.delete_pod(namespace, name)
                else:
                    self.store.remove(resource, namespace, name)

    def delete_pod(self, namespace: str, name: str, grace: int | None = None) -> None:
        """Mark a pod for deletion; the node takes it away, unless it never got to one."""
        pod = self.store.find("pods", namespace, name)
        grace = pod["spec"]["terminationGracePeriodSeconds"] if grace is None else grace
        if not pod["spec"].get("nodeName") or not grace or pod["status"]["phase"] in ("Succeeded", "Failed"):
            self.store.remove("pods", namespace, name)
        elif "deletionTimestamp" not in pod["metadata"]:
            meta = {**pod["metadata"], "generation": pod["metadata"]["generation"] + 1}
            meta |= {"deletionTimestamp": now(grace), "deletionGracePeriodSeconds": grace}
            self.store.write("pods", {**pod, "metadata": meta})

    # ReplicaSets

    def sync_replica_set(self, namespace: str, name: str) -> None:
        """Create or delete pods until a ReplicaSet has as many as it should, and report."""
        with self.store.lock:
            item = self.store.find("replicasets", namespace, name)
            if not item:
                return
            pods = self.store.owned_by(item, "pods")
            alive, failure = [pod for pod in pods if active(pod)], None
            for _ in range(replicas(item) - len(alive)):
                failure = self._create_pod(item)
                if failure:
                    tries = self._retries[item["metadata"]["uid"]] = self._retries.get(item["metadata"]["uid"], 0) + 1
                    self._soon(self.sync_replica_set, namespace, name, min(0.1 * 2**tries, 60))
                    break
            else:
                self._retries.pop(item["metadata"]["uid"], None)
            if len(alive) > replicas(item):
                # First those not yet on a node or not ready, then the youngest, as the real one ranks them.
                alive.sort(key=lambda pod: (bool(pod["spec"].get("nodeName")), pod["status"]["phase"] == "Running"))
                alive.sort(key=lambda pod: bool(ready_since(pod)))
                for pod in alive[: len(alive) - replicas(item)]:
                    self.delete_pod(namespace, pod["metadata"]["name"])
                    message = f"Deleted pod: {pod['metadata']['name']}"
                    self._record("replicasets", item, "Normal", "SuccessfulDelete", message)
            self._report_replica_set(item, alive, failure)

    def _create_pod(self, owner: Object) -> str | None:
        meta, template = owner["metadata"], owner["spec"]["template"]
        name = f"{meta['name']}-{suffix()}"
        try:
            self.admit(meta["namespace"], name, template["spec"])
        except ApiError as error:
            self._record("replicasets", owner, "Warning", "FailedCreate", f"Error creating: {error}")
            return str(error)
        reference = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": meta["name"], "uid": meta["uid"]}
        pod = {"name": name, "generateName": meta["name"] + "-", "namespace": meta["namespace"]}
        pod |= {
            **template["metadata"],
            "ownerReferences": [reference | {"controller": True, "blockOwnerDeletion": True}],
        }
        spec = {"serviceAccountName": "default", "serviceAccount": "default", **template["spec"]}
        wanted = [container["resources"] for container in spec["containers"]]
        qos = "Burstable" if any(wanted) else "BestEffort"
        if all(item.get("limits") and item["limits"] == item.get("requests", item["limits"]) for item in wanted):
            qos = "Guaranteed"
        self.store.add("pods", {"metadata": pod, "spec": spec, "status": {"phase": "Pending", "qosClass": qos}})
        self._record("replicasets", owner, "Normal", "SuccessfulCreate", f"Created pod: {name}")
        return None

    def _report_replica_set(self, item: Object, alive: list[Object], failure: str | None) -> None:
        # What was created or deleted just now is counted in the next round, as the real one does.
        minimum = item["spec"].get("minReadySeconds", 0)
        ready = [since for since in map(ready_since, alive) if since]
        waiting = [minimum - age(since) for since in ready if minimum and age(since) < minimum]
        terminating = [pod for pod in self.store.owned_by(item, "pods") if "deletionTimestamp" in pod["metadata"]]
        counts = {"fullyLabeledReplicas": len(alive), "readyReplicas": len(ready)}
        counts |= {"availableReplicas": len(ready) - len(waiting)}
        status = {"replicas": len(alive)} | {key: count for key, count in counts.items() if count}
        status |= {"terminatingReplicas": len(terminating), "observedGeneration": item["metadata"]["generation"]}
        old = [c for c in item["status"].get("conditions", ()) if c["type"] == "ReplicaFailure"]
        if failure:
            condition = {"type": "ReplicaFailure", "status": "True", "lastTransitionTime": now()}
            status["conditions"] = old or [condition | {"reason": "FailedCreate", "message": failure}]
        elif old and len(alive) < replicas(item) and not self.store.owned_by(item, "pods"):
            status["conditions"] = old
        if status != item["status"]:
            self.store.write("replicasets", {**item, "status": status})
        if waiting:
            meta = item["metadata"]
            self._soon(self.sync_replica_set, meta["namespace"], meta["name"], max(min(waiting), 0.01))

    # Deployments

    def sync_deployment(self, namespace: str, name: str) -> None:
        """Take a Deployment one step further."""
        with self.store.lock:
            deployment = self.store.find("deployments", namespace, name)
            if not deployment:
                return
            step = Step(self, deployment)
            if deployment["spec"].get("paused"):
                step.scale()
                step.pause(True)
                step.clean_up()
                step.write(step.status())
                return
            step.pause(False)
            owned = [item for item in step.all if replicas(item)]
            if any(item["metadata"]["annotations"].get(DESIRED) != str(replicas(deployment)) for item in owned):
                step.scale()
                step.write(step.status())
                return
            step.recreate() if deployment["spec"]["strategy"]["type"] == "Recreate" else step.roll()
            step.report()

    def _record(self, resource: str, about: Object, type: str, reason: str, message: str) -> None:
        source = {"component": f"{'deployment' if resource == 'deployments' else 'replicaset'}-controller"}
        self.store.record(resource, about, type, reason, message, source)


class Step:
    """One look at a Deployment and its ReplicaSets, and what follows from it."""

    def __init__(self, controllers: Controllers, deployment: Object):
        self.controllers, self.store, self.deployment = controllers, controllers.store, deployment
        self.meta, self.wanted = deployment["metadata"], replicas(deployment)
        self.conditions = {c["type"]: c for c in deployment["status"].get("conditions", ())}
        self.annotations = dict(self.meta.get("annotations", {}))
        self.surge, self.unavailable = limits(deployment)
        self.all = sorted(self.store.owned_by(deployment, "replicasets"), key=by_age)
        self.new = next((item for item in self.all if self._same_template(item)), None)
        self._settle_revision()

    @property
    def old(self) -> list[Object]:
        """The ReplicaSets of other templates, oldest first."""
        return [item for item in self.all if item is not self.new]

    def _same_template(self, item: Object) -> bool:
        template = item["spec"]["template"]
        labels = {k: v for k, v in template["metadata"]["labels"].items() if k != "pod-template-hash"}
        return {**template, "metadata": {**template["metadata"], "labels": labels}} == self.deployment["spec"][
            "template"
        ]

    def _replace(self, item: Object, changed: dict) -> Object:
        stored = self.store.write("replicasets", changed)
        self.all[self.all.index(item)] = stored
        if item is self.new:
            self.new = stored
        return stored

    def _copied(self) -> dict:
        return {key: value for key, value in self.annotations.items() if key not in NOT_COPIED}

    def _settle_revision(self) -> None:
        """Give a ReplicaSet that is wanted (again) the highest revision and the Deployment's annotations."""
        if not self.new:
            return
        latest = max((revision(item) for item in self.old), default=0) + 1
        annotations = self.new["metadata"].get("annotations", {}) | self._copied()
        if revision(self.new) < latest:
            history = [annotations.get(REVISION_HISTORY), annotations.get(REVISION)]
            annotations[REVISION_HISTORY] = ",".join(filter(None, history))
            annotations[REVISION] = str(latest)
        minimum = self.deployment["spec"].get("minReadySeconds", 0)
        changed = annotations != self.new["metadata"].get("annotations")
        if changed or minimum != self.new["spec"].get("minReadySeconds", 0):
            spec = {k: v for k, v in self.new["spec"].items() if k != "minReadySeconds"}
            spec |= {"minReadySeconds": minimum} if minimum else {}
            meta = {**self.new["metadata"], "annotations": annotations}
            self._replace(self.new, {**self.new, "metadata": meta, "spec": spec})
        self.annotations[REVISION] = annotations[REVISION]
        if "Progressing" not in self.conditions and not self.deployment["spec"].get("paused"):
            text = f'Found new replica set "{self.new["metadata"]["name"]}"'
            self._condition("Progressing", "True", "FoundNewReplicaSet", text)

    def _create(self) -> None:
        template = self.deployment["spec"]["template"]
        digest = hashlib.sha256(json.dumps([self.meta["uid"], template], sort_keys=True).encode()).digest()
        label = {"pod-template-hash": "".join(ALPHABET[byte % len(ALPHABET)] for byte in digest[:10])}
        labels = template["metadata"]["labels"] | label
        name, highest = f"{self.meta['name']}-{label['pod-template-hash']}", max(map(revision, self.all), default=0)
        annotations = self._copied() | {REVISION: str(highest + 1), **self._sizes()}
        owner = {"apiVersion": "apps/v1", "kind": "Deployment", "name": self.meta["name"], "uid": self.meta["uid"]}
        meta = {"name": name, "namespace": self.meta["namespace"], "labels": labels, "annotations": annotations}
        meta["ownerReferences"] = [owner | {"controller": True, "blockOwnerDeletion": True}]
        matched = {**self.deployment["spec"]["selector"]}
        matched["matchLabels"] = matched.get("matchLabels", {}) | label
        minimum = self.deployment["spec"].get("minReadySeconds", 0)
        spec = {"replicas": self._new_size(0), **({"minReadySeconds": minimum} if minimum else {}), "selector": matched}
        spec["template"] = {**template, "metadata": {**template["metadata"], "labels": labels}}
        self.new = self.store.add("replicasets", {"metadata": meta, "spec": spec, "status": {"replicas": 0}})
        self.all.append(self.new)
        self.annotations[REVISION] = str(highest + 1)
        self._condition("Progressing", "True", "NewReplicaSetCreated", f'Created new replica set "{name}"')
        if spec["replicas"]:
            self._scaled(name, 0, spec["replicas"])

    def _sizes(self) -> dict:
        return {DESIRED: str(self.wanted), MAXIMUM: str(self.wanted + self.surge)}

    def _scaled(self, name: str, before: int, after: int) -> None:
        way = "up" if after > before else "down"
        message = f"Scaled {way} replica set {name} from {before} to {after}"
        self.controllers._record("deployments", self.deployment, "Normal", "ScalingReplicaSet", message)

    def _resize(self, item: Object, size: int) -> bool:
        annotations = item["metadata"]["annotations"] | self._sizes()
        if size == replicas(item) and annotations == item["metadata"]["annotations"]:
            return False
        meta = {**item["metadata"], "annotations": annotations}
        meta["generation"] += size != replicas(item)
        self._replace(item, {**item, "metadata": meta, "spec": {**item["spec"], "replicas": size}})
        if size != replicas(item):
            self._scaled(meta["name"], replicas(item), size)
        return size != replicas(item)

    def _new_size(self, size: int) -> int:
        if self.deployment["spec"]["strategy"]["type"] == "Recreate":
            return self.wanted
        room = self.wanted + self.surge - sum(map(replicas, self.all))
        return size + max(0, min(room, self.wanted - size))

    def roll(self) -> None:
        """Bring new pods up and old ones down, within maxSurge and maxUnavailable."""
        if not self.new:
            self._create()
            return
        if replicas(self.new) != self.wanted:
            size = self.wanted if replicas(self.new) > self.wanted else self._new_size(replicas(self.new))
            if self._resize(self.new, size):
                return
        least = self.wanted - self.unavailable
        missing = replicas(self.new) - reported(self.new, "availableReplicas")
        spare = sum(map(replicas, self.all)) - least - missing
        for item in self.old:  # those that don't work go first: nobody misses them
            broken = min(spare, replicas(item) - reported(item, "availableReplicas"))
            if broken > 0:
                self._resize(item, replicas(item) - broken)
                spare -= broken
        spare = min(spare, sum(reported(item, "availableReplicas") for item in self.all) - least)
        for item in self.old:
            surplus = min(spare, replicas(item))
            if surplus > 0:
                self._resize(item, replicas(item) - surplus)
                spare -= surplus

    def recreate(self) -> None:
        """Take all old pods down, and only when the last is gone bring new ones up."""
        alive = [item for item in self.old if replicas(item)]
        for item in alive:
            self._resize(item, 0)
        if alive:
            return
        running = [pod for item in self.old for pod in self.store.owned_by(item, "pods")]
        if any(pod["status"]["phase"] not in ("Succeeded", "Failed") for pod in running):
            return
        if not self.new:
            self._create()
        else:
            self._resize(self.new, self.wanted)

    def scale(self) -> None:
        """Spread a new number of replicas over the ReplicaSets that have any."""
        alive = [item for item in self.all if replicas(item)]
        if len(alive) <= 1:
            only = (alive or [self.new] if self.new else alive or sorted(self.all, key=revision)[-1:])[:1]
            for item in only:
                self._resize(item, self.wanted)
            return
        if self.new and replicas(self.new) == self.wanted == reported(self.new, "availableReplicas"):
            for item in self.old:
                self._resize(item, 0)
            return
        total = sum(map(replicas, alive))
        rest = (self.wanted + self.surge if self.wanted else 0) - total
        sizes = {}
        for item in sorted(alive, key=replicas, reverse=True):
            before = int(item["metadata"]["annotations"].get(MAXIMUM, total)) or total
            share = round(replicas(item) * (self.wanted + self.surge) / before) - replicas(item)
            share = max(min(share, rest), 0) if rest > 0 else min(max(share, rest), 0)
            sizes[item["metadata"]["name"]], rest = max(0, replicas(item) + share), rest - share
        for n, item in enumerate(sorted(alive, key=replicas, reverse=True)):
            self._resize(item, max(0, sizes[item["metadata"]["name"]] + (rest if n == 0 else 0)))

    def pause(self, paused: bool) -> None:
        """Note in the conditions that a Deployment was paused or goes on."""
        reason = self.conditions.get("Progressing", {}).get("reason")
        if reason == "ProgressDeadlineExceeded":
            return
        if paused and reason != "DeploymentPaused":
            self._condition("Progressing", "Unknown", "DeploymentPaused", "Deployment is paused")
        elif not paused and reason == "DeploymentPaused":
            self._condition("Progressing", "Unknown", "DeploymentResumed", "Deployment is resumed")

    def clean_up(self) -> None:
        """Remove the oldest ReplicaSets beyond revisionHistoryLimit."""
        idle = [item for item in self.old if not replicas(item) and not reported(item, "replicas")]
        extra = len(idle) - self.deployment["spec"]["revisionHistoryLimit"]
        for item in sorted(idle, key=revision)[: max(0, extra)]:
            self.store.remove("replicasets", self.meta["namespace"], item["metadata"]["name"])
            self.all.remove(item)

    def _condition(self, type: str, status: str, reason: str, message: str, moved: str | None = None) -> None:
        old = self.conditions.get(type)
        if old and (old["status"], old["reason"]) == (status, reason) and not moved:
            return
        self.conditions.pop(type, None)  # a changed condition goes to the end of the list
        same = old["lastTransitionTime"] if old and old["status"] == status else now()
        self.conditions[type] = {"type": type, "status": status, "lastUpdateTime": now(), "lastTransitionTime": same}
        self.conditions[type] |= {"reason": reason, "message": message}

    def status(self) -> dict:
        """Return the counts, and settle the Available condition."""
        counts = {"replicas": sum(reported(item, "replicas") for item in self.all)}
        counts["updatedReplicas"] = reported(self.new, "replicas") if self.new else 0
        for field in ("readyReplicas", "availableReplicas"):
            counts[field] = sum(reported(item, field) for item in self.all)
        counts["unavailableReplicas"] = max(0, sum(map(replicas, self.all)) - counts["availableReplicas"])
        if counts["availableReplicas"] >= self.wanted - self.unavailable:
            text = "Deployment has minimum availability."
            self._condition("Available", "True", "MinimumReplicasAvailable", text)
        else:
            text = "Deployment does not have minimum availability."
            self._condition("Available", "False", "MinimumReplicasUnavailable", text)
        status = {"observedGeneration": self.meta["generation"]} | {key: n for key, n in counts.items() if n}
        return status | {"terminatingReplicas": sum(reported(item, "terminatingReplicas") for item in self.all)}

    def report(self) -> None:
        """Say how far the rollout is, and whether it has stalled."""
        if self.new and not self.deployment["status"]:  # the real one writes this on its own; followers may see it
            self.write({})
            return
        status, before = self.status(), self.deployment["status"]
        progressing = self.conditions.get("Progressing")
        name = f'ReplicaSet "{self.new["metadata"]["name"]}"' if self.new else f'Deployment "{self.meta["name"]}"'
        complete = status.get("replicas", 0) == status.get("updatedReplicas", 0) == self.wanted
        complete = complete and status.get("availableReplicas", 0) == self.wanted
        settled = progressing and progressing["reason"] == "NewReplicaSetAvailable"
        deadline = self.deployment["spec"]["progressDeadlineSeconds"]

        def more(field: str) -> bool:
            return status.get(field, 0) > before.get(field, 0)

        def others(counts: dict) -> int:
            return counts.get("replicas", 0) - counts.get("updatedReplicas", 0)

        if not (settled and others(status) == 0):
            if complete:
                text = f"{name} has successfully progressed."
                self._condition("Progressing", "True", "NewReplicaSetAvailable", text)
                self.clean_up()
            elif any(map(more, ("updatedReplicas", "readyReplicas", "availableReplicas"))) or others(status) < others(
                before
            ):
                self._condition("Progressing", "True", "ReplicaSetUpdated", f"{name} is progressing.", moved=now())
            elif progressing and progressing["status"] != "False" and not settled:
                left = deadline - age(progressing["lastUpdateTime"])
                if left <= 0:
                    text = f"{name} has timed out progressing."
                    self._condition("Progressing", "False", "ProgressDeadlineExceeded", text)
        progressing = self.conditions.get("Progressing")
        if not complete and progressing and progressing["status"] != "False":
            left = max(deadline - age(progressing["lastUpdateTime"]), 0) + 1
            self.controllers._soon(self._again, self.meta["namespace"], self.meta["name"], left)
        failures = [c for item in [*self.old, self.new] if item for c in item["status"].get("conditions", ())]
        if failures:
            self._condition("ReplicaFailure", "True", failures[-1]["reason"], failures[-1]["message"])
        else:
            self.conditions.pop("ReplicaFailure", None)
        self.write(status)

    def _again(self, namespace: str, name: str) -> None:
        # Another key than sync_deployment's: a deadline ten minutes off must not hold up what is due now.
        self.controllers.sync_deployment(namespace, name)

    def write(self, status: dict) -> None:
        """Store status and annotations, if they say something new."""
        status = status | {"conditions": list(self.conditions.values())}
        meta = {**self.meta, "annotations": self.annotations} if self.annotations else self.meta
        if status != self.deployment["status"] or meta != self.meta:
            self.store.write("deployments", {**self.deployment, "metadata": meta, "status": status})
