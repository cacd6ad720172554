"""Why pods aren't ready: each problem with its pod, container, reason and message. It makes no call."""

import re
from collections.abc import Iterator

from cluster.snapshot import Snapshot, condition, is_active
from rollout.model import PodProblem
from rollout.pod_rules import PodRules, container_statuses, ends_of, last_end, never_starts, parse_time

MAX_PROBLEMS = 5
DELETED = PodProblem(reason="Deleted")

# Every container waits for these on its way: no problem.
_ON_THE_WAY = {"ContainerCreating", "PodInitializing"}
# What the kubelet's events say of a container that a probe killed. A readiness probe kills none.
_PROBE_KILLS = re.compile(r"(Liveness|Startup) probe failed|failed (liveness|startup) probe")
# A program that the kubelet kills ends by itself at SIGTERM, or by one of the signals SIGTERM and SIGKILL.
_KILLED_CODES = {0, 128 + 15, 128 + 9}


def problems_of(snapshot: Snapshot, template: dict, rules: PodRules, failed: bool = False) -> tuple[PodProblem, ...]:
    """Return what keeps the pods of a template from being ready: the crashing, then the unready, then the evicted.

    Of a rollout that has `failed` it names at least one problem, and also what is none on the way, such as an init
    container at work.
    """
    if snapshot.deployment["metadata"].get("deletionTimestamp"):
        return (DELETED,)
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
            unready += [] if found else list(_unready_problems(pod, rules)) or (_unmet_condition(pod) if failed else [])
    if failed and not crashing and not unready:
        unready = _terminating_problems(snapshot, replicaset)
    problems = (*crashing, *unready, *evicted)[:MAX_PROBLEMS]
    return problems or ((_deadline_problem(snapshot.deployment),) if failed else ())


def _container_problem(pod: dict, container: dict, rules: PodRules) -> PodProblem | None:
    """Return why a container has ended, or why it can't be created."""
    state, end, restarts = container.get("state", {}), last_end(container), container.get("restartCount", 0)
    where, waiting, code = {"container": container["name"]}, state.get("waiting", {}), end.get("exitCode")
    if never_starts(container):
        return _problem(pod, end["reason"], end.get("message") or waiting.get("message"), exit_code=code, **where)
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
    end = last_end(container)
    since = end.get("startedAt")
    if not since:
        return None
    said = [
        event
        for event in rules.events_of(pod)
        if event["involvedObject"].get("fieldPath", "").endswith(f"{{{container['name']}}}")
        and _PROBE_KILLS.search(event["message"])
        and parse_time(event.get("lastTimestamp") or since) >= parse_time(since)
    ]
    # A probe may fail once, and the program end by itself then. An API server may drop the event about the killing.
    killed = any(event.get("reason") == "Killing" for event in said)
    if not killed and (end.get("exitCode") not in _KILLED_CODES or end.get("reason") == "OOMKilled"):
        return None
    said.sort(key=lambda event: event.get("reason") == "Unhealthy")
    return said[-1]["message"] if said else None


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
            yield _problem(pod, "ContainersNotReady", message, container=each["name"])
    if ready.get("reason") == "ReadinessGatesNotReady":
        yield _problem(pod, ready["reason"], ready.get("message"))


def _unmet_condition(pod: dict) -> list[PodProblem]:
    """Return the first condition that a pod doesn't meet, with the init container at work; none if it meets all."""
    conditions = [(kind, condition(pod, kind)) for kind in ("Initialized", "ContainersReady", "Ready")]
    kind, unmet = next((each for each in conditions if each[1].get("status") == "False"), (None, {}))
    if kind is None:
        return []
    first = pod["status"].get("initContainerStatuses", []) if kind == "Initialized" else []
    at_work = [each["name"] for each in first if "running" in each.get("state", {}) and not each.get("ready")]
    container = at_work[0] if at_work else None
    return [_problem(pod, unmet.get("reason") or kind, unmet.get("message"), container=container)]


def _terminating_problems(snapshot: Snapshot, replicaset: dict | None) -> list[PodProblem]:
    ours = snapshot.pods_of(replicaset)
    old = [pod for pod in snapshot.pods if pod["metadata"].get("deletionTimestamp") and pod not in ours]
    return [_problem(pod, "Terminating", "this old pod has not terminated yet") for pod in old]


def _deadline_problem(deployment: dict) -> PodProblem:
    progressing = condition(deployment, "Progressing")
    # Where it is True it is about what went well before.
    stalled = progressing if progressing.get("status") == "False" else {}
    return PodProblem(reason=stalled.get("reason") or "ProgressDeadlineExceeded", message=stalled.get("message"))


def _problem(pod: dict, reason: str, message: str | None, **more: object) -> PodProblem:
    return PodProblem(reason=reason, message=message or None, pod=pod["metadata"]["name"], **more)
