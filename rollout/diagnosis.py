"""Why a rollout has failed, gathered before anything destroys the evidence."""

import logging
from dataclasses import replace
from datetime import UTC, datetime

from cluster.api import Cluster
from cluster.snapshot import Snapshot
from errors import Refusal
from rollout.ledger import Record
from rollout.model import Cause
from rollout.verdict import judge

log = logging.getLogger(__name__)

# Whose events and logs are read: the pods of one rollout mostly die of the same.
MOST_PODS = MOST_LOGS = 2


def warnings(cluster: Cluster, snapshot: Snapshot) -> list[dict]:
    """Return the warning events about some unready pods; none if they can't be read: a verdict doesn't hang on them."""
    found: list[dict] = []
    for pod in snapshot.unready_pods()[:MOST_PODS]:
        try:
            found += cluster.warnings(pod["metadata"]["namespace"], pod["metadata"]["name"])
        except Refusal as error:
            log.warning("events can't be read: %s", error, extra={"namespace": pod["metadata"]["namespace"]})
    return found


def causes(cluster: Cluster, record: Record, snapshot: Snapshot, settle: int, log_lines: int) -> tuple[Cause, ...]:
    """Return the causes of a failure with what the events add to them, and the last lines of crashed containers."""
    rollout = record.rollout
    explained = replace(snapshot, events=warnings(cluster, snapshot))
    started = datetime.fromisoformat(rollout.started_at)
    read, logs = [], 0
    for cause in judge(record.template, explained, datetime.now(UTC), settle, started).causes:
        lines: list[str] = []
        if cause.exit_code is not None and log_lines and logs < MOST_LOGS:
            logs += 1
            lines = _last_words(cluster, rollout.namespace, cause, snapshot, log_lines)
        read.append(replace(cause, logs=tuple(lines)))
    return tuple(read)


def _last_words(cluster: Cluster, namespace: str, cause: Cause, snapshot: Snapshot, log_lines: int) -> list[str]:
    pod = next(each for each in snapshot.pods if each["metadata"]["name"] == cause.pod)
    statuses = [*pod["status"].get("initContainerStatuses", []), *pod["status"].get("containerStatuses", [])]
    container = next(each for each in statuses if each["name"] == cause.container)
    # Until it is started again, the present instance is the one that crashed; after that it is the previous one.
    previous = "terminated" not in container.get("state", {}) and container.get("restartCount", 0) > 0
    for instance in (previous, not previous):
        try:
            if lines := cluster.read_log(namespace, cause.pod, cause.container, instance, log_lines):
                return lines
        except Refusal as error:
            log.info("no log of %s: %s", cause.pod, error, extra={"namespace": namespace})
    return []
