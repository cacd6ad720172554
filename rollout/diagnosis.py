"""Why a rollout has failed, gathered before a rollback destroys the evidence."""

import logging
from datetime import UTC, datetime

from cluster.api import Cluster
from cluster.snapshot import Snapshot
from errors import Refusal
from rollout.model import PodProblem
from rollout.pod_rules import NEVER_STARTS, PodRules
from rollout.problems import problems_of
from rollout.record import Record
from settings import Settings

log = logging.getLogger(__name__)

# Whose events and logs are read: the pods of one rollout mostly fail alike.
MAX_PODS = MAX_LOGS = 2


def read_events(cluster: Cluster, snapshot: Snapshot, template: dict) -> list[dict]:
    """Return the events about some troubled pods; none if they can't be read: the verdict doesn't need them."""
    found: list[dict] = []
    for pod in snapshot.troubled_pods(template)[:MAX_PODS]:
        try:
            found += cluster.pod_events(pod["metadata"]["namespace"], pod["metadata"]["name"])
        except Refusal as error:
            log.warning("events can't be read: %s", error, extra={"namespace": pod["metadata"]["namespace"]})
    return found


def diagnose(cluster: Cluster, record: Record, snapshot: Snapshot, settings: Settings) -> tuple[PodProblem, ...]:
    """Return the problems of a failure with what the events add, and with the last log lines of crashed containers."""
    rules = PodRules(read_events(cluster, snapshot, record.template), datetime.now(UTC), settings.settle_seconds)
    found, logs = [], 0
    for problem in problems_of(snapshot, record.template, rules, failed=True):
        lines: list[str] = []
        has_run = problem.exit_code is not None and problem.reason not in NEVER_STARTS
        if has_run and settings.log_tail_lines and logs < MAX_LOGS:
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
            lines = cluster.read_log(namespace, problem.pod, problem.container, instance, count)
        except Refusal as error:
            log.info("no log of %s: %s", problem.pod, error, extra={"namespace": namespace})
            continue
        # The kubelet answers 200 with this sentence where the log is gone:
        # https://github.com/kubernetes/kubernetes/blob/master/pkg/kubelet/kuberuntime/kuberuntime_container.go
        if not (len(lines) == 1 and lines[0].startswith("unable to retrieve container logs for ")):
            return lines or ["no output"]
    return []
