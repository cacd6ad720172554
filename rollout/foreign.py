"""A rollout that another client started, such as `kubectl set image`. Nothing of it is recorded."""

import time

from cluster.watch import Watches
from rollout.follower import Follower
from rollout.model import Rollout
from rollout.pod_rules import parse_time
from rollout.record import Record, foreign_record


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
