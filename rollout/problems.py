"""Why pods aren't ready: each problem with its pod, container, reason and message. It makes no call."""

import re
from collections.abc import Iterator

from cluster.snapshot import Snapshot, condition, is_active
from rollout.model import PodProblem
from rollout.pod_rules import PodRules, container_statuses, ends_of, last_end, never_starts, parse_time

MAX_PROBLEMS = 5

# Every container waits for these on its way: no problem.
_ON_THE_WAY = {"ContainerCreating", "PodInitializing"}
# What the kubelet's events say of a container that a probe killed. A readiness probe kills none.
_PROBE_KILLS = re.compile(r"(Liveness|Startup) probe failed|failed (liveness|startup) probe")


def problems_of(snapshot: Snapshot, template: dict, rules: PodRules) -> tuple[PodProblem, ...]:
    """Return what keeps the pods of a template from being ready: the crashing, then the unready, then the evicted."""
    replicaset = snapshot.replicaset_of(template)
    crashing, unready, evicted = [], [], []
    if message := condition(replicaset or {}, "ReplicaFailure").get("message"):
        unready.append(PodProblem(reason="FailedCreate", message=message))
    for pod in snapshot.pods_of(replicaset):
        status = pod.get("status", {})
        if status.get("phase") == "Failed":
            evicted.append(_problem(pod, status.get("reason") or "Failed", status.get("message")))
        elif is_active(pod):
            found = [problem for each in container_statuses(pod) if (problem := _container_problem(pod, each, rules))]
            crashing += found
            unready += [] if found else _unready_problems(pod, rules)
    return (*crashing, *unready, *evicted)[:MAX_PROBLEMS]


def last_resorts(snapshot: Snapshot, template: dict) -> tuple[PodProblem, ...]:
    """Return what a rollout without a problem failed of: a pod that initializes or terminates, or the Deployment."""
    ours = snapshot.pods_of(snapshot.replicaset_of(template))
    found = []
    for pod in (pod for pod in ours if is_active(pod)):
        running = [each["name"] for each in container_statuses(pod) if "running" in each.get("state", {})]
        for kind in ("Initialized", "ContainersReady", "Ready"):
            if (unmet := condition(pod, kind)).get("status") == "False":
                container = running[0] if running and kind == "Initialized" else None
                found.append(_problem(pod, unmet.get("reason") or kind, unmet.get("message"), container=container))
                break
    for pod in (pod for pod in snapshot.pods if pod["metadata"].get("deletionTimestamp") and pod not in ours):
        found.append(_problem(pod, "Terminating", "this old pod has not terminated yet"))
    progressing = condition(snapshot.deployment, "Progressing")
    reason = progressing.get("reason") or "ProgressDeadlineExceeded"
    return tuple(found[:MAX_PROBLEMS]) or (PodProblem(reason=reason, message=progressing.get("message")),)


def _container_problem(pod: dict, container: dict, rules: PodRules) -> PodProblem | None:
    """Return why a container has ended, or why it can't be created."""
    state, end, restarts = container.get("state", {}), last_end(container), container.get("restartCount", 0)
    where, waiting, code = {"container": container["name"]}, state.get("waiting", {}), end.get("exitCode")
    if never_starts(container):
        return _problem(pod, end["reason"], end.get("message"), exit_code=code, **where)
    probe = _probe_message(pod, container, rules)
    ended = ends_of(container) and (code or probe or ends_of(container) > 1 or "terminated" in state)
    if ended or waiting.get("reason") == "CrashLoopBackOff":
        reason = waiting.get("reason") or ("CrashLoopBackOff" if restarts else end.get("reason") or "Error")
        times = "once" if restarts == 1 else f"{restarts} times"
        reason = "OOMKilled" if end.get("reason") == "OOMKilled" else reason
        return _problem(pod, reason, probe or f"restarted {times}", exit_code=code, **where)
    if waiting.get("reason") and waiting["reason"] not in _ON_THE_WAY:
        return _problem(pod, waiting["reason"], waiting.get("message"), **where)
    return None


def _probe_message(pod: dict, container: dict, rules: PodRules) -> str | None:
    """Return what the kubelet said of the probe that killed the last instance of a container, if one did."""
    since = last_end(container).get("startedAt")
    if not since:
        return None
    said = [
        event["message"]
        for event in sorted(rules.events_of(pod), key=lambda event: event.get("reason") == "Unhealthy")
        if event["involvedObject"].get("fieldPath", "").endswith(f"{{{container['name']}}}")
        and _PROBE_KILLS.search(event["message"])
        and parse_time(event.get("lastTimestamp") or since) >= parse_time(since)
    ]
    return said[-1] if said else None


def _unready_problems(pod: dict, rules: PodRules) -> Iterator[PodProblem]:
    scheduled, ready = condition(pod, "PodScheduled"), condition(pod, "Ready")
    if scheduled.get("status") == "False":
        yield _problem(pod, scheduled.get("reason") or "Unschedulable", scheduled.get("message"))
        return
    if ready.get("status") != "False":
        return
    running = [each for each in container_statuses(pod) if "running" in each.get("state", {})]
    if not running:
        # What keeps a container from being created at all, a volume or a network, stands only in the events.
        failures = [each for each in rules.warnings(pod) if each.get("reason", "").startswith("Failed")]
        for event in [each for each in failures if each["reason"] != "FailedScheduling"][-1:]:
            yield _problem(pod, event["reason"], event["message"])
    # An init container at work is unready too, but the condition names only a sidecar.
    named = re.findall(r"[\w.-]+", ready.get("message") or "")
    for each in running:
        if not each.get("ready") and each["name"] in named:
            probes = [event["message"] for event in rules.warnings(pod) if event.get("reason") == "Unhealthy"]
            message = "; ".join(each for each in (ready.get("message"), *probes[-1:]) if each)
            yield _problem(pod, "ContainersNotReady", message or None, container=each["name"])
    if ready.get("reason") == "ReadinessGatesNotReady":
        yield _problem(pod, ready["reason"], ready.get("message"))


def _problem(pod: dict, reason: str, message: str | None, **more: object) -> PodProblem:
    return PodProblem(reason=reason, message=message, pod=pod["metadata"]["name"], **more)
