"""Why a rollout has failed, gathered before a rollback destroys the evidence."""

import logging
from dataclasses import replace
from datetime import UTC, datetime

from cluster.api import Cluster
from cluster.snapshot import Snapshot
from errors import Refusal
from rollout.model import PodProblem
from rollout.record import Record
from rollout.verdict import judge
from settings import Settings

log = logging.getLogger(__name__)

# Whose events and logs are read: the pods of one rollout mostly fail alike.
MAX_PODS = MAX_LOGS = 2


def read_warnings(cluster: Cluster, snapshot: Snapshot) -> list[dict]:
    """Return the warning events about some unready pods; none if they can't be read: the verdict doesn't need them."""
    found: list[dict] = []
    for pod in snapshot.unready_pods()[:MAX_PODS]:
        try:
            found += cluster.warnings(pod["metadata"]["namespace"], pod["metadata"]["name"])
        except Refusal as error:
            log.warning("events can't be read: %s", error, extra={"namespace": pod["metadata"]["namespace"]})
    return found


def diagnose(cluster: Cluster, record: Record, snapshot: Snapshot, settings: Settings) -> tuple[PodProblem, ...]:
    """Return the problems of a failure with what the events add, and with the last log lines of crashed containers."""
    snapshot = replace(snapshot, events=read_warnings(cluster, snapshot))
    now, started = datetime.now(UTC), record.rollout.started_at
    found, logs = [], 0
    for problem in judge(record.template, snapshot, now, settings.settle_seconds, started).problems:
        lines: list[str] = []
        if problem.exit_code is not None and settings.log_tail_lines and logs < MAX_LOGS:
            logs += 1
            lines = _last_lines(cluster, record.rollout.namespace, problem, snapshot, settings.log_tail_lines)
        found.append(problem.replace(logs=tuple(lines)))
    return tuple(found)


def _last_lines(cluster: Cluster, namespace: str, problem: PodProblem, snapshot: Snapshot, count: int) -> list[str]:
    pod = next(each for each in snapshot.pods if each["metadata"]["name"] == problem.pod)
    statuses = [*pod["status"].get("initContainerStatuses", []), *pod["status"].get("containerStatuses", [])]
    container = next(each for each in statuses if each["name"] == problem.container)
    # Until the kubelet starts it again, the present instance is the one that crashed; after that, the previous one.
    previous = "terminated" not in container.get("state", {}) and container.get("restartCount", 0) > 0
    for instance in (previous, not previous):
        try:
            if lines := cluster.read_log(namespace, problem.pod, problem.container, instance, count):
                return lines
        except Refusal as error:
            log.info("no log of %s: %s", problem.pod, error, extra={"namespace": namespace})
    return []
