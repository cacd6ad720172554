"""A rollout that another client started, such as `kubectl set image`: watched while a request lasts, never recorded."""

import time

from cluster.api import Cluster
from cluster.watch import View, Watches
from manifest.files import Manifest
from rollout.follower import Follower
from rollout.model import Rollout
from rollout.pod_rules import parse_time
from rollout.record import Record, new_rollout
from settings import Settings


def watch(
    cluster: Cluster, watches: Watches, settings: Settings, name: str, manifest: Manifest, live: dict, seconds: float
) -> Rollout:
    """Tell how the live rollout goes, when it has ended or after so many seconds; its id is its ReplicaSet's name.

    Raises a Refusal when the API server can't be watched.
    """
    until, template = time.monotonic() + seconds, live["spec"]["template"]
    with watches.of(manifest.namespace, manifest.name) as view:
        metadata = _await_replicaset(view, template, until)
        started_at = parse_time((metadata or live["metadata"])["creationTimestamp"])
        rollout = new_rollout(live, metadata["name"] if metadata else "", started_at)
        record = Record(rollout=rollout, template=template, cause="")
        follower = Follower(cluster, settings.settle_seconds, name, manifest, live, record)
        verdict, _ = follower.follow(view, until)
        return verdict.of(follower.record.rollout)


def _await_replicaset(view: View, template: dict, until: float) -> dict | None:
    """Return the metadata of the template's ReplicaSet; None if the controller hasn't made it by then."""
    while True:
        snapshot = view.snapshot([])
        replicaset = snapshot.replicaset_of(template) if snapshot and snapshot.deployment else None
        if replicaset or time.monotonic() >= until:
            return replicaset and replicaset["metadata"]
        view.wait(min(1, max(until - time.monotonic(), 0.01)))
