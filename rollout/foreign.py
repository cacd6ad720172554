"""A rollout that another client started, such as `kubectl set image`. Nothing of it is recorded."""

import re
import time
from datetime import UTC, datetime

from cluster.snapshot import Snapshot, condition, revision_of
from cluster.watch import Watches
from rollout.follower import Follower
from rollout.model import Phase, Rollout
from rollout.pod_rules import parse_time
from rollout.record import Record, foreign_record
from rollout.verdict import judge


def record_of_foreign(live: dict) -> Record:
    """Make a record to follow what is live with; the rollout id isn't known yet."""
    return foreign_record(live, "", parse_time(live["metadata"]["creationTimestamp"]))


def watch_foreign(watches: Watches, follower: Follower, seconds: float) -> Rollout:
    """Watch a rollout to its verdict, or for so many seconds. Its id is the name of its ReplicaSet, if there is one."""
    with watches.of(*follower.place[:2]) as view:
        verdict, snapshot = follower.follow(view, time.monotonic() + seconds)
    rollout = verdict.of(follower.record.rollout)
    replicaset = snapshot.deployment and snapshot.replicaset_of(follower.record.template)
    if not replicaset:
        return rollout
    metadata = replicaset["metadata"]
    return rollout.replace(id=metadata["name"], started_at=parse_time(metadata["creationTimestamp"]))


def foreign_at_a_glance(live: dict, settle: int) -> Rollout:
    """Describe a rollout that another client started, as far as the Deployment alone tells of it."""
    progress, status = condition(live, "Progressing"), live.get("status", {})
    named = re.search(r'ReplicaSet "([^"]+)"', progress.get("message", ""))
    started_at = parse_time(progress.get("lastUpdateTime") or live["metadata"]["creationTimestamp"])
    record = foreign_record(live, named[1] if named else live["metadata"]["name"], started_at)
    verdict = judge(record.template, Snapshot(live, [], [], []), datetime.now(UTC), settle, started=None)
    rollout = verdict.of(record.rollout).replace(revision=revision_of(live))
    numbers = [status.get(field, 0) for field in ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas")]
    desired, ready = rollout.replicas.desired, numbers[2]
    rollout = rollout.replace(replicas=rollout.replicas.replace(ready=ready, available=numbers[3]))
    if rollout.phase is not Phase.PROGRESSING:
        return rollout
    if set(numbers) == {desired} and status.get("observedGeneration", 0) >= live["metadata"]["generation"]:
        message = "1 pod is ready" if desired == 1 else f"{desired} pods are ready"
        return rollout.replace(phase=Phase.COMPLETE, message=message, problems=())
    return rollout.replace(message=f"{ready} of {desired} pods {'is' if ready == 1 else 'are'} ready", problems=())
