"""Where a rollback goes to: what really ran before, by the records. Pure."""

import math
from dataclasses import dataclass

from cluster.snapshot import Snapshot, owner_uid
from errors import Conflict
from manifest.annotations import REVISION
from manifest.pod_template import pinned, rollout_id_of, running_digests, without_hash, without_own_annotations
from rollout.ledger import Records


class Nowhere(Conflict):
    """There is nothing to go back to."""

    reason = "NothingToRollBackTo"


@dataclass(frozen=True)
class Target:
    """Name what a rollback goes back to; `verified`: it is recorded to have worked."""

    template: dict
    digests: dict[str, str]
    revision: int
    verified: bool = True


def way_back(records: Records, snapshot: Snapshot, revision: int | None = None, automatic: bool = False) -> Target:
    """Choose what to go back to from what is live: the newest that worked and differs from it, or a revision.

    Where nothing is recorded, it is the previous ReplicaSet; but `automatic`, with nobody to look at it first, only one
    whose pods still serve. Raises Nowhere, which says why.
    """
    live = snapshot.deployment["spec"]["template"]
    known = records.get(rollout_id_of(live) or "")
    if known and known.template != live:
        known = None  # `kubectl set image` keeps the stamp.
    running = _bare(live, known.digests if known else {})
    if revision is not None:
        record = next((each for each in records.values() if each.rollout.revision == revision), None)
        if record is None:
            recorded = ", ".join(str(each.rollout.revision) for each in records.values() if each.rollout.revision)
            raise Nowhere(f"revision {revision} isn't recorded; recorded are: {recorded or 'none'}")
        if _bare(record.template, record.digests) == running:
            raise Nowhere(f"revision {revision} is what runs")
        return Target(record.template, record.digests, revision)
    for record in records.values():
        before = known is None or record.rollout.id < known.rollout.id
        if record.worked and before and _bare(record.template, record.digests) != running:
            return Target(record.template, record.digests, record.rollout.revision)
    return _previous_replicaset(records, snapshot, running, automatic)


def _previous_replicaset(records: Records, snapshot: Snapshot, running: dict, only_serving: bool) -> Target:
    # What ran before this service came: whether it worked is known only while its pods are still there.
    live = snapshot.deployment["spec"]["template"]
    uid = snapshot.deployment["metadata"]["uid"]
    numbered = []
    for replicaset in snapshot.replicasets:
        revision = int((replicaset["metadata"].get("annotations") or {}).get(REVISION) or 0)
        if owner_uid(replicaset) == uid and revision:
            numbered.append((revision, without_hash(replicaset["spec"]["template"]), replicaset))
    # Until the controller has made the live one's ReplicaSet, the highest is the one before.
    current = max((revision for revision, template, _ in numbered if template == live), default=math.inf)
    for revision, template, replicaset in sorted(numbered, key=lambda each: each[0], reverse=True):
        pods = [pod for pod in snapshot.pods if owner_uid(pod) == replicaset["metadata"]["uid"]]
        ran, mixed = running_digests(template, pods)
        serving = replicaset.get("status", {}).get("availableReplicas", 0) > 0 and not mixed
        recorded = records.get(rollout_id_of(template) or "")
        different = recorded is None and _bare(template, {}) != running
        if revision < current and different and (serving or not only_serving):
            # With nobody to look at it: what its pods run, since the tag may be that of the broken image by now.
            return Target(template, ran if only_serving else {}, revision, verified=False)
    raise Nowhere("there is nothing to roll back to: no earlier rollout that worked and differs from this one is known")


def _bare(template: dict, digests: dict[str, str]) -> dict:
    return without_own_annotations(pinned(template, digests))
