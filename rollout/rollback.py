"""Choose what a rollback goes back to, by what really ran before, and send it."""

import dataclasses
import math
from dataclasses import dataclass

import deployment_spec
from cluster.api import Cluster
from cluster.snapshot import Snapshot, owner_uid, revision_of
from deployment_spec import Signal
from errors import Conflict, NotFound
from manifest.annotations import rolled_back_to
from manifest.files import Manifest
from manifest.pod_template import comparable, new_rollout_id, rollout_id_of, running_digests, without_hash
from rollout.record import Record, Records, newest_first, older_than


class NothingToRollBackTo(Conflict):
    """No rollout is known that one could go back to."""

    reason = "NothingToRollBackTo"


class AlreadyRolledBack(Conflict):
    """The newest deploy has failed and was rolled back by itself: one more rollback would go too far."""

    reason = "AlreadyRolledBack"


class SomethingNewer(Conflict):
    """The failed rollout is no longer live; `live` is the Deployment that is there instead."""

    reason = "Superseded"

    def __init__(self, live: dict) -> None:
        super().__init__("something newer is live")
        self.live = live


@dataclass(frozen=True)
class Target:
    """Name what a rollback goes back to; `verified`: it is recorded to have worked."""

    template: dict
    digests: dict[str, str]
    revision: int
    verified: bool = True


def read_snapshot(cluster: Cluster, manifest: Manifest) -> Snapshot:
    """Ask for what `choose_target` needs to know. Raises NotFound when there is no live Deployment."""
    live = read_live(cluster, manifest)
    labels = live["spec"]["selector"].get("matchLabels")
    owned = [cluster.list_all(kind, manifest.namespace, labels)["items"] for kind in ("replicasets", "pods")]
    return Snapshot(live, *owned, events=[])


def read_live(cluster: Cluster, manifest: Manifest) -> dict:
    """Return the live Deployment. Raises NotFound when there is none."""
    live = cluster.read_deployment(manifest.namespace, manifest.name)
    if live is None:
        raise NotFound(f"deployment {manifest.name} isn't in namespace {manifest.namespace}")
    return live


def choose_target(records: Records, snapshot: Snapshot, revision: int | None = None, automatic: bool = False) -> Target:
    """Choose what to go back to from what is live: the newest that worked and differs from it, or a revision.

    Where nothing is recorded, it is the previous ReplicaSet; but for an `automatic` rollback, which no person looks at
    first, only one whose pods still serve. Raises NothingToRollBackTo, which says why.
    """
    live = snapshot.deployment["spec"]["template"]
    known = records.get(rollout_id_of(live) or "")
    if known and known.template != live:
        known = None  # `kubectl set image` keeps the rollout id.
    running = comparable(live, known.digests if known else {})
    if revision is not None:
        record = next((each for each in records.values() if each.rollout.revision == revision), None)
        if record is None:
            recorded = ", ".join(str(each.rollout.revision) for each in records.values() if each.rollout.revision)
            raise NothingToRollBackTo(f"revision {revision} isn't recorded; recorded are: {recorded or 'none'}")
        if comparable(record.template, record.digests) == running:
            raise NothingToRollBackTo(f"revision {revision} is what runs")
        return Target(record.template, record.digests, revision)
    if not automatic:
        _refuse_second_rollback(records, snapshot.deployment)
    for record in older_than(known.rollout.id, records) if known else records.values():
        if record.worked and comparable(record.template, record.digests) != running:
            return Target(record.template, record.digests, record.rollout.revision)
    return _previous_replicaset(records, snapshot, running, automatic)


def _refuse_second_rollback(records: Records, live: dict) -> None:
    """Raise AlreadyRolledBack when the live Deployment is the automatic rollback of the newest deploy."""
    template = live["spec"]["template"]
    live_id, back = rollout_id_of(template) or "", rolled_back_to(live)
    known = records.get(live_id)
    older = older_than(live_id, records)
    # `kubectl rollout undo` may bring back a rollback of long ago.
    is_newest = bool(older) and newest_first({*records, live_id}, records)[0] == live_id
    if back is None or not is_newest or not _is_rolled_back(older[0]) or (known and known.template != template):
        return
    seen, others = [comparable(template, known.digests if known else {})], []
    for record in older:
        if record.worked and (runs := comparable(record.template, record.digests)) not in seen:
            seen.append(runs)
            others.append(str(record.rollout.revision))
    further = f'choose with "revision": {", ".join(others)}' if others else "no other revision that worked is recorded"
    failed = older[0].rollout.revision
    raise AlreadyRolledBack(f"revision {failed} has failed and is rolled back to revision {back} already; {further}")


def _is_rolled_back(record: Record) -> bool:
    # It is done, with nothing sent, also where the automatic rollback had nowhere to go.
    return record.rollback == "pending" or (record.rollback == "done" and record.rollout.rolled_back_to is not None)


def send(cluster: Cluster, manifest: Manifest, target: Target, signal: Signal, over: dict) -> dict:
    """Send a rollback; return the Deployment as the API server answered it.

    Raises SomethingNewer when the live template isn't `over`, and a Refusal.
    """
    what = f"rollback to revision {target.revision}" + ("" if target.verified else " (unverified)")
    cause, rollout_id = f"{what}: {signal.cause}" if signal.cause else what, new_rollout_id()
    noted = dataclasses.replace(signal, cause=cause)

    def build(live: dict | None) -> dict:
        if live and live["spec"]["template"] != over:
            raise SomethingNewer(live)
        return deployment_spec.build_rollback(
            manifest, target.template, target.digests, target.revision, rollout_id, noted, live
        )

    return cluster.apply(manifest.namespace, manifest.name, rollout_id, build, signal.dry_run)


def _previous_replicaset(records: Records, snapshot: Snapshot, running: dict, only_serving: bool) -> Target:
    # What ran before this service came: whether it worked is known only while its pods are still there.
    live = snapshot.deployment["spec"]["template"]
    uid = snapshot.deployment["metadata"]["uid"]
    numbered = [
        (revision, without_hash(replicaset["spec"]["template"]), replicaset)
        for replicaset in snapshot.replicasets
        if owner_uid(replicaset) == uid and (revision := revision_of(replicaset))
    ]
    # Until the controller has made the live one's ReplicaSet, the highest is the one before.
    current = max((revision for revision, template, _ in numbered if template == live), default=math.inf)
    for revision, template, replicaset in sorted(numbered, key=lambda each: each[0], reverse=True):
        ran, mixed = running_digests(template, snapshot.pods_of(replicaset))
        serving = replicaset.get("status", {}).get("availableReplicas", 0) > 0 and not mixed
        recorded = records.get(rollout_id_of(template) or "")
        different = recorded is None and comparable(template, {}) != running
        if revision < current and different and (serving or not only_serving):
            # An automatic rollback pins what its pods run: the tag may point to the broken image by now.
            return Target(template, ran if only_serving else {}, revision, verified=False)
    raise NothingToRollBackTo(
        "there is nothing to roll back to: no earlier rollout that worked and differs from this one is known"
    )
