"""The verdict: from what the API server answers, and the time, to a phase and its causes. Pure."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from cluster.snapshot import Snapshot, condition, is_active, revision_of
from rollout.model import Cause, Phase, Replicas

SUPERSEDED = "the Deployment got another pod template meanwhile"
# How long a container may fail to be created before that is more than a node's bad moment, in seconds.
CREATION_PATIENCE = 30
# Of a container that may still be about to come up.
MOST_RESTARTS = 3
MOST_CAUSES = 5

# https://github.com/kubernetes/kubernetes/blob/master/pkg/kubelet/images/types.go
_PULL_NEVER_WORKS = {"InvalidImageName", "ErrImageNeverPull"}
_PULL_FAILS = {"ErrImagePull", "ImagePullBackOff"}
# What registries say when the image isn't there, or isn't ours. Not: rate limits, time-outs, names that don't resolve.
_PULL_REFUSED = re.compile(r"not found|manifest unknown|access denied|unauthorized|does not exist", re.IGNORECASE)
_PULL_MAY_HEAL = re.compile(r"toomanyrequests|too many requests|rate limit|\b429\b|no such host", re.IGNORECASE)
_ABOUT_PULLING = re.compile(r"Failed to pull image|Error: (?:ErrImagePull|ImagePullBackOff)")
_CREATION_FAILS = {"CreateContainerError", "RunContainerError"}
_ON_THE_WAY = {"ContainerCreating", "PodInitializing"}
_ADMISSION = re.compile(r"violates PodSecurity|denied the request|denied request")


@dataclass(frozen=True)
class Verdict:
    """Say where a rollout stands; `look_again` is in how many seconds time alone may change that, or None."""

    phase: Phase
    message: str
    revision: int | None = None
    replicas: Replicas = field(default_factory=Replicas)
    causes: tuple[Cause, ...] = ()
    look_again: float | None = None


def judge(template: dict, snapshot: Snapshot, now: datetime, settle: int, started: datetime) -> Verdict:
    """Judge the rollout of `template`, which is as the API server answered it; `settle` is in seconds."""
    deployment = snapshot.deployment
    if deployment is None or deployment["metadata"].get("deletionTimestamp"):
        return Verdict(Phase.FAILED, "the Deployment was deleted", causes=(Cause("Deleted", "deleted"),))
    status, spec = deployment.get("status", {}), deployment["spec"]
    replicaset = snapshot.replicaset_of(template)
    ours = snapshot.pods_of(replicaset)
    active = [pod for pod in ours if is_active(pod)]
    look = _Look(snapshot.events, now, settle)
    counts = Replicas(
        desired=spec.get("replicas", 1),
        updated=status.get("updatedReplicas", 0),
        ready=sum(condition(pod, "Ready").get("status") == "True" for pod in active),
        available=(replicaset or {}).get("status", {}).get("availableReplicas", 0),
    )

    def verdict(phase: Phase, message: str, causes: tuple[Cause, ...] = (), look_again: float | None = None) -> Verdict:
        return Verdict(phase, message, revision_of(replicaset), counts, causes, look_again)

    # Until the controller has seen the change, all its numbers are about the Deployment as it was before.
    if status.get("observedGeneration", 0) < deployment["metadata"]["generation"]:
        return verdict(Phase.PROGRESSING, "Kubernetes hasn't begun yet")
    if spec["template"] != template:
        return verdict(Phase.SUPERSEDED, SUPERSEDED)
    if spec.get("paused"):
        return verdict(Phase.PAUSED, "the Deployment is paused; kubectl rollout resume lets it go on")
    if counts.desired == 0:
        return verdict(Phase.COMPLETE, "complete: no replicas are wanted")

    causes = tuple(_causes(replicaset, ours, look))[:MOST_CAUSES]
    progressing = condition(deployment, "Progressing")
    updated = _time(progressing["lastUpdateTime"]) if "lastUpdateTime" in progressing else started
    # An older one is about the rollout before. (Kubernetes cuts its times off to whole seconds.)
    is_ours = updated >= started.replace(microsecond=0)
    if is_ours and progressing.get("reason") == "ProgressDeadlineExceeded":
        return verdict(Phase.FAILED, f"no progress for {spec.get('progressDeadlineSeconds', 600)} s", causes)
    if _ADMISSION.search(condition(replicaset or {}, "ReplicaFailure").get("message", "")):
        return verdict(Phase.FAILED, "its pods are refused", causes)
    if active and all(look.is_stuck(pod) for pod in active):
        return verdict(Phase.FAILED, "does not start", causes)

    message, settled_in = _progress(counts, status, active, look)
    if settled_in is not None and settled_in <= 0:
        # The ReplicaSet, from which one number is, may have been seen a moment earlier than the Deployment.
        counts = replace(counts, available=counts.updated)
        return verdict(Phase.COMPLETE, f"complete: {_pods(counts.desired)} ready")
    deadline = spec.get("progressDeadlineSeconds", 600) + settle - (now - max(updated, started)).total_seconds()
    if deadline <= 0:
        return verdict(Phase.FAILED, f"no progress for {spec.get('progressDeadlineSeconds', 600) + settle} s", causes)
    waits = [deadline, *([settled_in] if settled_in is not None else []), *(look.waits(pod) for pod in active)]
    return verdict(Phase.PROGRESSING, message, causes, min(each for each in waits if each is not None))


@dataclass(frozen=True)
class _Look:
    events: list[dict]
    now: datetime
    settle: int

    def settled_in(self, pod: dict) -> float | None:
        """In how many seconds a pod has been ready for long enough, without a restart since; None if it isn't ready."""
        ready = condition(pod, "Ready")
        if ready.get("status") != "True":
            return None
        if self.settle == 0:
            return 0
        since = [_time(ready["lastTransitionTime"])]
        # A container that is restarted at once may leave the condition Ready as it was.
        for container in _containers(pod):
            if started := container.get("state", {}).get("running", {}).get("startedAt"):
                since.append(_time(started))
        # Kubernetes cuts its times off to whole seconds: only one second more proves that the time has passed.
        return self.settle + 1 - (self.now - max(since)).total_seconds()

    def is_stuck(self, pod: dict) -> bool:
        """Tell whether waiting cures a pod no more."""
        settled_in = self.settled_in(pod)
        settled = settled_in is not None and settled_in <= 0
        return any(self._container_is_stuck(pod, each, settled) for each in _containers(pod))

    def _container_is_stuck(self, pod: dict, container: dict, settled: bool) -> bool:
        waiting = container.get("state", {}).get("waiting", {})
        reason, message = waiting.get("reason"), waiting.get("message", "")
        if reason in _PULL_NEVER_WORKS:
            return True
        if reason == "CreateContainerConfigError":
            return not ("failed to sync" in message and "cache" in message)
        if reason in _PULL_FAILS:
            words = [message, *(event["message"] for event in self.warnings(pod) if event.get("reason") == "Failed")]
            words = [_without_names(each) for each in words]
            return any(_PULL_REFUSED.search(each) and not _PULL_MAY_HEAL.search(each) for each in words)
        if reason in _CREATION_FAILS and self.waits(pod) is None:
            return True
        return _is_crashing(container) and not settled

    def waits(self, pod: dict) -> float | None:
        """In how many seconds patience with a container that can't be created ends; None if it has, or isn't needed."""
        reasons = {each.get("state", {}).get("waiting", {}).get("reason") for each in _containers(pod)}
        if not reasons & _CREATION_FAILS:
            return None
        failures = [event for event in self.warnings(pod) if event.get("reason") == "Failed"]
        times = [event.get("firstTimestamp") for event in failures if not _ABOUT_PULLING.match(event["message"])]
        times = [each for each in times if each] or [condition(pod, "Ready").get("lastTransitionTime")]
        if times[0] is None:
            return CREATION_PATIENCE
        left = CREATION_PATIENCE - (self.now - min(map(_time, times))).total_seconds()
        return left if left > 0 else None

    def warnings(self, thing: dict) -> Iterator[dict]:
        """Yield the warning events about an object."""
        for event in self.events:
            if event.get("type") == "Warning" and event["involvedObject"].get("uid") == thing["metadata"]["uid"]:
                yield event


def _without_names(message: str) -> str:
    # An image may well be named after what refuses it: URLs, and words with a slash, an at sign or a tag, say nothing.
    return re.sub(r'"?\bhttps?://[^\s"]+"?|[^\s"]*[/@][^\s"]*|"[^"]*"', " ", message)


def _is_crashing(container: dict) -> bool:
    restarts, state = container.get("restartCount", 0), container.get("state", {})
    ended = state.get("terminated") or container.get("lastState", {}).get("terminated") or {}
    down = "running" not in state and ended.get("exitCode", 0) != 0
    return restarts >= MOST_RESTARTS or (restarts >= MOST_RESTARTS - 1 and down)


def _progress(counts: Replicas, status: dict, active: list[dict], look: _Look) -> tuple[str, float | None]:
    """Say how far it is, in kubectl's order, and in how many seconds it will have settled, once all is up."""
    if counts.updated < counts.desired:
        return f"{counts.updated} of {_pods(counts.desired)} updated", None
    if status.get("replicas", 0) > counts.updated:
        old = status["replicas"] - counts.updated
        return f"{_pods(old, 'old ')} still to be terminated", None
    settled_in = [look.settled_in(pod) for pod in active]
    if status.get("availableReplicas", 0) < counts.updated or None in settled_in or len(active) != counts.desired:
        verb = "is" if counts.ready == 1 else "are"
        return f"{counts.ready} of {counts.desired} updated pods {verb} ready", None
    left = max(settled_in)
    who, them = ("its pod is", "it") if counts.desired == 1 else (f"all {_pods(counts.desired)}", "them")
    return f"{who} ready; watching {them} for {max(1, round(left))} s more", left


def _pods(count: int, kind: str = "") -> str:
    return f"{count} {kind}pod is" if count == 1 else f"{count} {kind}pods are"


def _causes(replicaset: dict | None, pods: list[dict], look: _Look) -> Iterator[Cause]:
    if message := condition(replicaset or {}, "ReplicaFailure").get("message"):
        yield Cause("FailedCreate", message)
    for pod in pods:
        name, status = pod["metadata"]["name"], pod.get("status", {})
        if status.get("phase") == "Failed":
            yield Cause(status.get("reason", "Failed"), status.get("message"), pod=name)
            continue
        if not is_active(pod):
            continue
        scheduled = condition(pod, "PodScheduled")
        if scheduled.get("status") == "False":
            yield Cause(scheduled.get("reason", "Unschedulable"), scheduled.get("message"), pod=name)
            continue
        found = [cause for each in _containers(pod) if (cause := _container_cause(name, each))]
        yield from found
        ready = condition(pod, "Ready")
        if found or ready.get("status") != "False":
            continue
        running = [each for each in _containers(pod) if "running" in each.get("state", {})]
        if not running:
            # What keeps a container from being created at all, a volume or a network, stands only in the events.
            failures = [each for each in look.warnings(pod) if each.get("reason", "").startswith("Failed")]
            for event in [each for each in failures if each["reason"] != "FailedScheduling"][-1:]:
                yield Cause(event["reason"], event["message"], pod=name)
            continue
        # An init container at work is unready too, but only a sidecar is named for it.
        named = re.findall(r"[\w.-]+", ready.get("message", ""))
        for each in running:
            if not each.get("ready") and each["name"] in named:
                yield Cause("ContainersNotReady", _unready(ready, pod, look), pod=name, container=each["name"])


def _unready(ready: dict, pod: dict, look: _Look) -> str | None:
    probes = [event["message"] for event in look.warnings(pod) if event.get("reason") == "Unhealthy"]
    return "; ".join(each for each in (ready.get("message"), *probes[-1:]) if each) or None


def _container_cause(pod: str, container: dict) -> Cause | None:
    state, restarts = container.get("state", {}), container.get("restartCount", 0)
    waiting = state.get("waiting", {})
    ended = state.get("terminated") or container.get("lastState", {}).get("terminated") or {}
    code = ended.get("exitCode")
    down = code != 0 and (restarts or "terminated" in state)
    if waiting.get("reason") == "CrashLoopBackOff" or (ended and (down or restarts >= MOST_RESTARTS)):
        reason = "OOMKilled" if ended.get("reason") == "OOMKilled" else waiting.get("reason") or "CrashLoopBackOff"
        if "terminated" in state and not restarts and reason != "OOMKilled":
            reason = ended.get("reason", "Error")
        times = "once" if restarts == 1 else f"{restarts} times"
        return Cause(reason, f"restarted {times}", pod, container["name"], code)
    if waiting.get("reason") and waiting["reason"] not in _ON_THE_WAY:
        return Cause(waiting["reason"], waiting.get("message"), pod, container["name"])
    return None


def _containers(pod: dict) -> list[dict]:
    """Return the statuses of a pod's containers, less those of init containers that are done."""
    status = pod.get("status", {})
    first = [
        each
        for each in status.get("initContainerStatuses", [])
        if each.get("state", {}).get("terminated", {}).get("exitCode") != 0
    ]
    return [*first, *status.get("containerStatuses", [])]


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00")).astimezone(UTC)
