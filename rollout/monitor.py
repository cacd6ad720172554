"""Knows which rollouts there are: those it began, those somebody else began, and those a process that died left."""

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import deployment_spec
from cluster.api import Cluster
from cluster.snapshot import Snapshot
from cluster.watch import KINDS, Watches
from errors import Conflict, Invalid, NotFound, Refusal, TooSlow, Unreachable
from manifest.annotations import REVISION
from manifest.files import Manifest
from manifest.pod_template import image_of, is_rollout_id, new_rollout_id, rollout_id_of
from rollout.follower import TELLING_TAKES, Follower, Shared, iso, rolled_back_to, with_verdict
from rollout.ledger import Ledger, Record, Records
from rollout.metrics import Metrics
from rollout.model import Phase, Rollout
from rollout.notify import Notifier
from rollout.rollback import Target, way_back
from rollout.verdict import SUPERSEDED, judge
from settings import Settings

log = logging.getLogger(__name__)

# Ended rollouts that are remembered, so that those who ask again cost no call.
MOST_REMEMBERED = 200
# After so long nobody needs to be told any more.
WORTH_TELLING = timedelta(days=1)
# Seconds between attempts to look for unfinished rollouts while the API server is away.
SHORTEST_PAUSE, LONGEST_PAUSE = 1, 30

Key = tuple[str, str, str]


class Monitor:
    """Begin to follow rollouts, find them again, and tell how they go."""

    def __init__(self, cluster: Cluster, settings: Settings, metrics: Metrics) -> None:
        self._cluster, self._settings, self._metrics = cluster, settings, metrics
        self._watches, self._ledger = Watches(cluster), Ledger(cluster)
        notifier = Notifier(settings.notify_urls_file)
        self._shared = Shared(cluster, settings, metrics, self._watches, self._ledger, notifier, self._roll_back_failed)
        self._lock = threading.Lock()
        self._followers: dict[Key, Follower] = {}
        self._finishing: dict[Key, Follower] = {}
        self._ended: OrderedDict[Key, Rollout] = OrderedDict()

    def begin(self, name: str, manifest: Manifest, live: dict, record: Record) -> Follower:
        """Follow a rollout, from the Deployment as the API server answered it; once, however often it is begun."""
        key = (manifest.namespace, manifest.name, record.rollout.id)
        with self._lock:
            if key in self._followers:
                return self._followers[key]
            follower = Follower(self._shared, name, manifest, live, record)
            for (namespace, deployment, _), other in self._followers.items():
                if (namespace, deployment) == key[:2]:
                    other.overtake(follower)
            self._followers[key] = follower
        try:
            threading.Thread(target=self._run, args=(key, follower), name=f"follow {key}", daemon=True).start()
        except RuntimeError:  # No more threads: nobody may wait for this one.
            with self._lock:
                del self._followers[key]
            raise
        return follower

    def rollback(self, name: str, manifest: Manifest, revision: int | None, cause: str | None) -> Follower:
        """Go back to what ran before, or to a revision. Raises NotFound, Nowhere or Conflict (paused)."""
        return self._roll_back(name, manifest, self._target(manifest, revision), cause)

    def rollout(self, name: str, manifest: Manifest, rollout_id: str | None, seconds: float) -> tuple[Rollout, Records]:
        """Tell how a rollout goes, the newest without an id, after waiting for its verdict; and what is recorded.

        Raises NotFound.
        """
        place = (manifest.namespace, manifest.name)
        if rollout_id is not None:
            if follower := self._followers.get((*place, rollout_id)):
                return follower.wait(seconds), self.recorded(manifest)
            if ended := self._ended.get((*place, rollout_id)):
                return ended, self.recorded(manifest)
        records = self._ledger.read(*place)
        known = records.get(rollout_id or "")
        if known and known.rollout.ended and not any(record.is_undone for record in records.values()):
            return known.rollout, records
        live = self._live(manifest)
        found = self._take_up(name, manifest, live, records)
        self._finish_others(name, manifest, live, records, older_than=TELLING_TAKES)
        if found and rollout_id in (None, found.record.rollout.id):
            found = self._finishing.get((*place, found.record.rollout.id), found)
            return found.wait(seconds), self.recorded(manifest)
        if rollout_id is None:
            return self._observe(manifest, live, seconds), records
        if known:
            return self._overtaken(manifest, live, rollout_id), self.recorded(manifest)
        if found is None and (foreign := self._observe(manifest, live, seconds)).id == rollout_id:
            return foreign, records
        raise NotFound(f"no rollout {rollout_id} of {manifest.name} is known")

    def known(self, manifest: Manifest) -> Records:
        """Return what is known of the records without asking, which may be nothing."""
        return self._ledger.remembered(manifest.namespace, manifest.name)

    def recorded(self, manifest: Manifest) -> Records:
        """Return what is recorded, or what is known of it where the API server doesn't answer."""
        try:
            return self._ledger.read(manifest.namespace, manifest.name)
        except Refusal as error:
            log.warning("no history: %s", error)
            return self.known(manifest)

    def check(self, manifest: Manifest) -> None:
        """Make the calls that following a rollout needs; raise what the API server refuses."""
        namespace, name = manifest.namespace, manifest.name
        for kind in KINDS:
            # Nothing is that is named like this: only the right is tried.
            only = name if kind == "deployments" else None
            listed = self._cluster.list_all(kind, namespace, {"auto-deployer/check": "none"}, only)
            self._cluster.watch(kind, namespace, listed["metadata"]["resourceVersion"], only).close()
        self._cluster.warnings(namespace, name)
        with suppress(NotFound, Invalid):
            self._cluster.read_log(namespace, f"{name}-auto-deployer-check", name, previous=False, lines=1)
        self._ledger.read(namespace, name)

    def resume(self, deployments: Callable[[], list[tuple[str, Manifest]]]) -> None:
        """Finish what a process that died has begun: called once at start, in a thread of its own.

        It looks twice: when a new pod takes over, the old one gets signals for some seconds more.
        """
        pause, said, looked = SHORTEST_PAUSE, None, 0
        while True:
            try:
                for name, manifest in deployments():
                    self._resume_one(name, manifest)
                looked += 1
                if looked == 2:
                    return
                time.sleep(TELLING_TAKES)
            except (Unreachable, TooSlow) as error:
                if str(error) != said:
                    said = str(error)
                    log.warning("unfinished rollouts can't be looked for yet: %s", error)
                time.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE)

    def _run(self, key: Key, follower: Follower) -> None:
        follower.run()
        with self._lock:
            if follower.has_ended:
                self._ended[key] = follower.record.rollout
            while len(self._ended) > MOST_REMEMBERED:
                self._ended.popitem(last=False)
            del self._followers[key]
            if not any(other[:2] == key[:2] for other in self._followers):
                self._ledger.forget(key[0], key[1])

    # Rollouts that are found

    def _resume_one(self, name: str, manifest: Manifest) -> None:
        try:
            records, live = self._ledger.read(manifest.namespace, manifest.name), self._live(manifest)
            self._take_up(name, manifest, live, records)
            self._finish_others(name, manifest, live, records, older_than=0)
        except NotFound:
            return
        except (Unreachable, TooSlow):
            raise
        except Refusal as error:
            log.error("Deployment %s/%s: %s", manifest.namespace, manifest.name, error)
        except Exception:  # One that nobody can make sense of must not keep the others from being finished.
            log.exception("Deployment %s/%s can't be taken up", manifest.namespace, manifest.name)

    def _take_up(self, name: str, manifest: Manifest, live: dict, records: Records) -> Follower | None:
        """Follow what is live, if it is ours; one that has ended is given as it ended."""
        template = live["spec"]["template"]
        stamp = rollout_id_of(template)
        if not is_rollout_id(stamp):
            return None
        if follower := self._followers.get((manifest.namespace, manifest.name, stamp)):
            return follower if follower.record.template == template else None
        record = records.get(stamp)
        if record is None:
            # The process that sent it died before it could write it down.
            back = rolled_back_to(live)
            automatic = self._settings.rollback_on_failure and back is None
            record = Record.begun(live, rollback_on_failure=automatic, rolled_back_to=back)
        elif record.template != template:
            return None
        elif record.rollout.ended:
            # `kubectl rollout undo` brings an old stamp back under a new revision: that is no rollout of ours.
            revision = (live["metadata"].get("annotations") or {}).get(REVISION)
            same = record.rollout.revision is None or str(record.rollout.revision) == revision
            return Follower(self._shared, name, manifest, live, record) if same else None
        return self.begin(name, manifest, live, record)

    def _finish_others(self, name: str, manifest: Manifest, live: dict, records: Records, older_than: float) -> None:
        """Do what is left to do for recorded rollouts that nobody is at any more, their verdict being that old."""
        for rollout_id, record in records.items():
            key = (manifest.namespace, manifest.name, rollout_id)
            if not record.rollout.ended:
                if rollout_id != rollout_id_of(live["spec"]["template"]) and key not in self._followers:
                    self._overtaken(manifest, live, rollout_id)
                continue
            age = datetime.now(UTC) - datetime.fromisoformat(record.rollout.finished_at)
            wanted = record.rollback == "pending" or (self._shared.notifier.wanted and age < WORTH_TELLING)
            if record.is_undone and wanted and age > timedelta(seconds=older_than) and key not in self._followers:
                with self._lock:
                    if key in self._finishing:
                        continue
                    follower = self._finishing[key] = Follower(self._shared, name, manifest, live, record)
                threading.Thread(target=self._finish, args=(key, follower), daemon=True).start()

    def _finish(self, key: Key, follower: Follower) -> None:
        follower.finish()
        with self._lock:
            self._finishing.pop(key, None)

    def _observe(self, manifest: Manifest, live: dict, seconds: float) -> Rollout:
        """Follow a rollout that somebody else has started for as long as a request lasts; nothing is recorded."""
        template, until, settle = live["spec"]["template"], time.monotonic() + seconds, self._settings.settle_seconds
        with self._watches.of(manifest.namespace, manifest.name) as view:
            while True:
                left = until - time.monotonic()
                snapshot = view.snapshot([])
                if snapshot is None:
                    if left < -5:
                        raise view.trouble or Unreachable("the API server can't be watched; try again")
                    view.wait(1)
                    continue
                replicaset = snapshot.replicaset_of(template) if snapshot.deployment else None
                metadata = replicaset["metadata"] if replicaset else live["metadata"]
                started = datetime.fromisoformat(metadata["creationTimestamp"])
                verdict = judge(template, snapshot, datetime.now(UTC), settle, started)
                if verdict.phase is not Phase.PROGRESSING or left <= 0:
                    break
                view.wait(left if verdict.look_again is None else min(left, max(verdict.look_again, 0.01)))
        rollout = Rollout(
            id=replicaset["metadata"]["name"] if replicaset else "",
            deployment=manifest.name,
            namespace=manifest.namespace,
            image=image_of(template, None),
            phase=verdict.phase,
            message=verdict.message,
            started_at=metadata["creationTimestamp"],
        )
        return with_verdict(rollout, verdict)

    def _overtaken(self, manifest: Manifest, live: dict, rollout_id: str) -> Rollout:
        """Record as superseded what another rollout overtook while nobody looked; return how it ended."""
        ended = []

        def decide(records: Records) -> Record | None:
            record = records.get(rollout_id)
            if record is None or record.rollout.ended:
                ended.append(record and record.told_rollout)
                return None
            finished_at = iso(datetime.now(UTC))
            ended.append(replace(record.rollout, phase=Phase.SUPERSEDED, message=SUPERSEDED, finished_at=finished_at))
            return replace(record, rollout=ended[-1], told=True)

        self._ledger.change(manifest.namespace, manifest.name, live["metadata"]["uid"], decide)
        if ended[-1] is None:
            raise NotFound(f"no rollout {rollout_id} of {manifest.name} is known")
        return ended[-1]

    # The way back

    def _target(self, manifest: Manifest, revision: int | None = None, automatic: bool = False) -> Target:
        live = self._live(manifest)
        records = self._ledger.read(manifest.namespace, manifest.name)
        labels = live["spec"]["selector"].get("matchLabels")
        owned = [self._cluster.list_all(kind, manifest.namespace, labels)["items"] for kind in ("replicasets", "pods")]
        return way_back(records, Snapshot(live, *owned, []), revision, automatic)

    def _roll_back_failed(self, name: str, manifest: Manifest, failed: Record) -> int:
        target = self._target(manifest, automatic=True)
        self._roll_back(name, manifest, target, cause=None, only_over=failed.template)
        return target.revision

    def _roll_back(
        self, name: str, manifest: Manifest, target: Target, cause: str | None, only_over: dict | None = None
    ) -> Follower:
        what = f"rollback to revision {target.revision}" + ("" if target.verified else " (unverified)")
        cause, stamp = f"{what}: {cause}" if cause else what, new_rollout_id()

        def build(live: dict | None) -> dict:
            if only_over is not None and live and live["spec"]["template"] != only_over:
                raise Conflict("something newer is live", reason="Superseded")
            return deployment_spec.build_rollback(
                manifest, target.template, target.digests, target.revision, stamp, cause, live
            )

        live = self._cluster.apply(manifest.namespace, manifest.name, build)
        self._metrics.rollbacks.labels(name).inc()
        return self.begin(name, manifest, live, Record.begun(live, rolled_back_to=target.revision))

    # What is there

    def _live(self, manifest: Manifest) -> dict:
        live = self._cluster.read_deployment(manifest.namespace, manifest.name)
        if live is None:
            raise NotFound(f"deployment {manifest.name} isn't in namespace {manifest.namespace}")
        return live
