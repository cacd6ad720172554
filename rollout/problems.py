"""Why pods aren't ready: each problem with its pod, container, reason and message. Pure."""

import re
from collections.abc import Iterator

from cluster.snapshot import condition, is_active
from rollout.model import PodProblem
from rollout.pod_rules import MAX_RESTARTS, PodRules, container_statuses

# Every container waits for these on its way: no problem.
_ON_THE_WAY = {"ContainerCreating", "PodInitializing"}


def problems_of(replicaset: dict | None, pods: list[dict], rules: PodRules) -> Iterator[PodProblem]:
    """Yield what keeps the pods of a ReplicaSet from being ready."""
    if message := condition(replicaset or {}, "ReplicaFailure").get("message"):
        yield PodProblem(reason="FailedCreate", message=message)
    for pod in pods:
        yield from _pod_problems(pod, rules)


def _pod_problems(pod: dict, rules: PodRules) -> Iterator[PodProblem]:
    name, status = pod["metadata"]["name"], pod.get("status", {})
    if status.get("phase") == "Failed":
        yield PodProblem(reason=status.get("reason", "Failed"), message=status.get("message"), pod=name)
        return
    if not is_active(pod):
        return
    scheduled = condition(pod, "PodScheduled")
    if scheduled.get("status") == "False":
        yield PodProblem(reason=scheduled.get("reason", "Unschedulable"), message=scheduled.get("message"), pod=name)
        return
    found = [problem for each in container_statuses(pod) if (problem := _container_problem(name, each))]
    yield from found
    ready = condition(pod, "Ready")
    if found or ready.get("status") != "False":
        return
    running = [each for each in container_statuses(pod) if "running" in each.get("state", {})]
    if not running:
        # What keeps a container from being created at all, a volume or a network, stands only in the events.
        failures = [each for each in rules.warnings(pod) if each.get("reason", "").startswith("Failed")]
        for event in [each for each in failures if each["reason"] != "FailedScheduling"][-1:]:
            yield PodProblem(reason=event["reason"], message=event["message"], pod=name)
        return
    # An init container at work is unready too, but the condition names only a sidecar.
    named = re.findall(r"[\w.-]+", ready.get("message", ""))
    for each in running:
        if not each.get("ready") and each["name"] in named:
            message = _unready_message(ready, pod, rules)
            yield PodProblem(reason="ContainersNotReady", message=message, pod=name, container=each["name"])


def _unready_message(ready: dict, pod: dict, rules: PodRules) -> str | None:
    probes = [event["message"] for event in rules.warnings(pod) if event.get("reason") == "Unhealthy"]
    return "; ".join(each for each in (ready.get("message"), *probes[-1:]) if each) or None


def _container_problem(pod: str, container: dict) -> PodProblem | None:
    state, restarts = container.get("state", {}), container.get("restartCount", 0)
    waiting = state.get("waiting", {})
    ended = state.get("terminated") or container.get("lastState", {}).get("terminated") or {}
    code, where = ended.get("exitCode"), {"pod": pod, "container": container["name"]}
    down = code != 0 and (restarts or "terminated" in state)
    if waiting.get("reason") == "CrashLoopBackOff" or (ended and (down or restarts >= MAX_RESTARTS)):
        reason = "OOMKilled" if ended.get("reason") == "OOMKilled" else waiting.get("reason") or "CrashLoopBackOff"
        if "terminated" in state and not restarts and reason != "OOMKilled":
            reason = ended.get("reason", "Error")
        times = "once" if restarts == 1 else f"{restarts} times"
        return PodProblem(reason=reason, message=f"restarted {times}", exit_code=code, **where)
    if waiting.get("reason") and waiting["reason"] not in _ON_THE_WAY:
        return PodProblem(reason=waiting["reason"], message=waiting.get("message"), **where)
    return None
