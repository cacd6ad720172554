"""The verdict: from the API server's answers, and the time, to a phase and the problems of pods. It makes no call."""

import math
import re
from dataclasses import dataclass, field, replace
from datetime import datetime

from cluster.snapshot import Snapshot, condition, is_active, revision_of
from manifest.pod_template import DEFAULT_DEADLINE_SECONDS, containers
from rollout.model import Phase, PodProblem, Replicas, Rollout
from rollout.pod_rules import PodRules, container_statuses, parse_time, ran_for
from rollout.problems import DELETED, problems_of

SUPERSEDED = "the Deployment got another pod template meanwhile"

_ADMISSION = re.compile(r"violates PodSecurity|denied the request|denied request")


@dataclass(frozen=True)
class Verdict:
    """Say where a rollout stands; `look_again` is in how many seconds time alone may change that, or None."""

    phase: Phase
    message: str
    revision: int | None = None
    replicas: Replicas = field(default_factory=Replicas)
    problems: tuple[PodProblem, ...] = ()
    look_again: float | None = None

    def of(self, rollout: Rollout) -> Rollout:
        """Return a rollout with what this verdict says of it."""
        return rollout.replace(
            phase=self.phase,
            message=self.message,
            revision=self.revision or rollout.revision,
            replicas=self.replicas,
            problems=self.problems if self.phase in (Phase.PROGRESSING, Phase.FAILED) else (),
        )


def judge(
    template: dict,
    snapshot: Snapshot,
    now: datetime,
    settle: int,
    started: datetime | None,
    something_works: bool = False,
) -> Verdict:
    """Judge the rollout of `template`, which is as the API server answered it; `settle` is in seconds.

    `started` is None for a rollout that another client started: such a one has no deadline by our own clock.
    `something_works`: an earlier rollout of this Deployment is known to have worked.
    """
    deployment = snapshot.deployment
    if deployment is None or deployment["metadata"].get("deletionTimestamp"):
        return Verdict(Phase.FAILED, "was deleted", problems=(DELETED,))
    replicaset = snapshot.replicaset_of(template)
    pods = snapshot.pods_of(replicaset)
    probed = (each for each in containers(template) if "readinessProbe" in each or "startupProbe" in each)
    works = something_works or _another_serves(snapshot, replicaset)
    rules = PodRules(snapshot.events, now, settle, started, works, frozenset(each["name"] for each in probed))
    counts = _counts(deployment, replicaset, pods)
    verdict = Verdict(Phase.PROGRESSING, "Kubernetes hasn't begun yet", revision_of(replicaset), counts)
    # Until the controller has seen the change, all its numbers are about the Deployment as it was before.
    if deployment.get("status", {}).get("observedGeneration", 0) < deployment["metadata"]["generation"]:
        return verdict
    if deployment["spec"]["template"] != template:
        return replace(verdict, phase=Phase.SUPERSEDED, message=SUPERSEDED)
    if deployment["spec"].get("paused"):
        message = "the Deployment is paused; kubectl rollout resume lets it go on"
        return replace(verdict, phase=Phase.PAUSED, message=message)
    if counts.desired == 0:
        return replace(verdict, phase=Phase.COMPLETE, message="no replicas are wanted")
    active = [pod for pod in pods if is_active(pod)]
    message = _failure(deployment, replicaset, active, rules)
    if message and not _has_settled_before(deployment, active, rules):
        verdict = replace(verdict, phase=Phase.FAILED, message=message)
    else:
        verdict = _progress(verdict, deployment, active, rules)
    if verdict.phase is Phase.COMPLETE:
        return verdict
    return replace(verdict, problems=problems_of(snapshot, template, rules, verdict.phase is Phase.FAILED))


def _another_serves(snapshot: Snapshot, replicaset: dict | None) -> bool:
    """Tell whether the pods of another ReplicaSet serve."""
    others = [each for each in snapshot.replicasets if each is not replicaset]
    return any(each.get("status", {}).get("availableReplicas", 0) > 0 for each in others)


def _counts(deployment: dict, replicaset: dict | None, pods: list[dict]) -> Replicas:
    return Replicas(
        desired=deployment["spec"].get("replicas", 1),
        updated=deployment.get("status", {}).get("updatedReplicas", 0),
        ready=sum(condition(pod, "Ready").get("status") == "True" for pod in pods if is_active(pod)),
        available=(replicaset or {}).get("status", {}).get("availableReplicas", 0),
    )


def _failure(deployment: dict, replicaset: dict | None, active: list[dict], rules: PodRules) -> str | None:
    """Say why a rollout has failed, before its time is up by our own clock; None if it hasn't."""
    # An older condition is about the rollout before. Kubernetes cuts its times off to whole seconds.
    updated, started = _last_progress(deployment), rules.started
    is_ours = started is None or updated is None or updated >= started.replace(microsecond=0)
    if is_ours and condition(deployment, "Progressing").get("reason") == "ProgressDeadlineExceeded":
        return f"made no progress for {_deadline_seconds(deployment)} s"
    if _ADMISSION.search(condition(replicaset or {}, "ReplicaFailure").get("message", "")):
        return "has its pods refused"
    if active and all(rules.is_stuck(pod) for pod in active):
        return "does not start"
    return None


def _progress(verdict: Verdict, deployment: dict, active: list[dict], rules: PodRules) -> Verdict:
    """Say how far a rollout is that hasn't failed yet: complete, progressing, or failed because its time is up."""
    counts = verdict.replicas
    message, settled_in = _how_far(counts, deployment.get("status", {}), active, rules)
    if settled_in is not None and settled_in <= 0:
        # The ReplicaSet, from which one number is, may have been seen a moment earlier than the Deployment.
        counts = counts.replace(available=counts.updated)
        message = f"{_pods(counts.desired)} ready"
        return replace(verdict, phase=Phase.COMPLETE, message=message, replicas=counts)
    if _has_settled_before(deployment, active, rules):
        return replace(verdict, phase=Phase.COMPLETE, message=message)
    seconds, left = _deadline_seconds(deployment) + rules.settle, math.inf
    if rules.started:
        since = max(_last_progress(deployment) or rules.started, rules.started)
        left = seconds - (rules.now - since).total_seconds()
    if left <= 0:
        return replace(verdict, phase=Phase.FAILED, message=f"made no progress for {seconds} s")
    waits = [left, settled_in, *(rules.seconds_to_create(pod) for pod in active)]
    look_again = min(each for each in waits if each is not None)
    return replace(verdict, message=message, look_again=None if look_again == math.inf else look_again)


def _has_settled_before(deployment: dict, active: list[dict], rules: PodRules) -> bool:
    """Tell whether a foreign rollout was complete once: it stays so while it is scaled."""
    available, since = condition(deployment, "Progressing"), _last_progress(deployment)
    if rules.started or since is None or available.get("reason") != "NewReplicaSetAvailable":
        return False
    # Scaling leaves this condition as it is: the pods of that time have settled, if one of them is still there, or if
    # its container ran for a long time before it ended.
    statuses = [each for pod in active for each in container_statuses(pod)]
    stood = any(map(rules.is_settled, active)) or any(ran_for(each) > DEFAULT_DEADLINE_SECONDS for each in statuses)
    return (rules.now - since).total_seconds() >= rules.settle + 1 and stood


def _how_far(counts: Replicas, status: dict, active: list[dict], rules: PodRules) -> tuple[str, float | None]:
    """Say how far it is, in kubectl's order, and in how many seconds it will have settled, once all pods are up."""
    if counts.updated < counts.desired:
        return f"{counts.updated} of {_pods(counts.desired)} updated", None
    if status.get("replicas", 0) > counts.updated:
        old = status["replicas"] - counts.updated
        return f"{_pods(old, 'old ')} still to be terminated", None
    seconds = [rules.seconds_to_settle(pod) for pod in active]
    if status.get("availableReplicas", 0) < counts.updated or None in seconds or len(active) != counts.desired:
        verb = "is" if counts.ready == 1 else "are"
        return f"{counts.ready} of {counts.desired} updated pods {verb} ready", None
    left = max(seconds)
    who, them = ("its pod is", "it") if counts.desired == 1 else (f"all {_pods(counts.desired)}", "them")
    return f"{who} ready; watching {them} for {max(1, round(left))} s more", left


def _last_progress(deployment: dict) -> datetime | None:
    updated = condition(deployment, "Progressing").get("lastUpdateTime")
    return parse_time(updated) if updated else None


def _deadline_seconds(deployment: dict) -> int:
    return deployment["spec"].get("progressDeadlineSeconds", DEFAULT_DEADLINE_SECONDS)


def _pods(count: int, kind: str = "") -> str:
    return f"{count} {kind}pod is" if count == 1 else f"{count} {kind}pods are"
