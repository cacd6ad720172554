"""Follows rollouts to their verdict: decides, records, tells, rolls back."""

import logging
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import deployment_spec
from deployment_spec import CHANGE_CAUSE, Manifest, image_of, is_stamp, stamp_of
from errors import Conflict, NotFound, Refusal, TooSlow, Unreachable
from rollout import diagnosis
from rollout.changes import changes
from rollout.cluster import Cluster
from rollout.ledger import Ledger, Record, Records
from rollout.metrics import Metrics
from rollout.model import Phase, Rollout
from rollout.notify import Notifier, write_event
from rollout.rollback import Nowhere, Target, way_back
from rollout.status import REVISION, Snapshot, Verdict, digests, judge, owned_replicaset, owner
from rollout.watch import View, Watches
from settings import Settings

log = logging.getLogger(__name__)

# A verdict that nobody has told for so long is told by whoever finds it, in seconds.
TELLING_TAKES = 60
# Ended rollouts that are remembered, so that those who ask again cost no call.
MOST_REMEMBERED = 200
LONGEST_PAUSE = 30
_ROLLBACK_CAUSE = re.compile(r"rollback to revision ([0-9]+)")


@dataclass
class Follower:
    """Hold one rollout while it is followed; any number of requests may wait for it."""

    name: str
    manifest: Manifest
    uid: str
    record: Record
    # Of the Deployment as it was answered: what is older than that says nothing about this rollout.
    generation: int = 0
    changed: threading.Condition = field(default_factory=threading.Condition)

    def publish(self, record: Record) -> None:
        """Let those who wait see how it stands."""
        with self.changed:
            self.record = record
            self.changed.notify_all()

    def wait(self, seconds: float) -> Rollout:
        """Wait for the verdict, or until it is paused, or for so many seconds."""
        with self.changed:
            self.changed.wait_for(lambda: self._resting, seconds)
            return self.record.rollout

    @property
    def _resting(self) -> bool:
        return self.record.rollout.phase is not Phase.PROGRESSING and self.record.rollback != "pending"


class Monitor:
    """Know how rollouts go, and act on it."""

    def __init__(self, cluster: Cluster, settings: Settings, metrics: Metrics) -> None:
        self._cluster, self._settings, self._metrics = cluster, settings, metrics
        self._watches, self._ledger = Watches(cluster), Ledger(cluster)
        self._notifier = Notifier(settings.notify_urls_file)
        self._lock = threading.Lock()
        self._followers: dict[tuple[str, str, str], Follower] = {}
        self._ended: OrderedDict[tuple[str, str, str], Rollout] = OrderedDict()

    def begin(self, name: str, manifest: Manifest, live: dict, record: Record) -> Follower:
        """Follow a rollout, from the Deployment as the API server answered it; once, however often it is begun."""
        key = (manifest.namespace, manifest.name, record.rollout.id)
        with self._lock:
            if key in self._followers:
                return self._followers[key]
            metadata = live["metadata"]
            follower = Follower(name, manifest, metadata["uid"], record, metadata["generation"])
            self._followers[key] = follower
        threading.Thread(target=self._follow, args=(key, follower), name=f"follow {key}", daemon=True).start()
        return follower

    def rollback(self, name: str, manifest: Manifest, revision: int | None, cause: str | None) -> Follower:
        """Go back to what ran before, or to a revision. Raises NotFound, Nowhere or Conflict (paused)."""
        live = self._live(manifest)
        records = self._ledger.read(manifest.namespace, manifest.name)
        target = way_back(records, self._snapshot(manifest, live), revision)
        return self._roll_back(name, manifest, target, cause)

    def rollout(self, name: str, manifest: Manifest, rollout_id: str | None, seconds: float) -> tuple[Rollout, Records]:
        """Tell how a rollout goes, the newest without an id, after waiting for its verdict; and what is recorded.

        Raises NotFound.
        """
        place = (manifest.namespace, manifest.name)
        if rollout_id is not None:
            follower, ended = self._followers.get((*place, rollout_id)), self._ended.get((*place, rollout_id))
            if follower or ended:
                rollout = follower.wait(seconds) if follower else ended
                return rollout, self._recorded(manifest)
        records = self._ledger.read(*place)
        if rollout_id in records and records[rollout_id].rollout.ended:
            return records[rollout_id].rollout, records
        live = self._live(manifest)
        found = self._take_up(name, manifest, live, records)
        if rollout_id is None and found is None:
            return self._observe(manifest, live, seconds), records
        if rollout_id is None or (found and found.record.rollout.id == rollout_id):
            return found.wait(seconds), self._recorded(manifest)
        if rollout_id in records:
            return self._overtaken(manifest, live, rollout_id), self._recorded(manifest)
        raise NotFound(f"no rollout {rollout_id} of {manifest.name} is known")

    def known_history(self, manifest: Manifest) -> Records:
        """Return what was last seen of the records, without asking."""
        return self._ledger.remembered(manifest.namespace, manifest.name)

    def resume(self, deployments: Callable[[], list[tuple[str, Manifest]]]) -> None:
        """Finish what a process that died has begun: called once at start, in a thread of its own."""
        pause, said = 1.0, None
        while True:
            try:
                for name, manifest in deployments():
                    self._resume_one(name, manifest)
                return
            except (Unreachable, TooSlow) as error:
                if str(error) != said:
                    said = str(error)
                    log.warning("unfinished rollouts can't be looked for yet: %s", error)
                time.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE)

    def check(self, manifest: Manifest) -> None:
        """Make each of the calls that following a rollout needs; raise what the API server refuses."""
        for kind in ("replicasets", "pods"):
            self._cluster.list_all(kind, manifest.namespace)
        self._ledger.read(manifest.namespace, manifest.name)

    # How a rollout is found

    def _resume_one(self, name: str, manifest: Manifest) -> None:
        try:
            records = self._ledger.read(manifest.namespace, manifest.name)
            live = self._live(manifest)
        except NotFound:
            return
        except (Unreachable, TooSlow):
            raise
        except Refusal as error:
            log.error("Deployment %s/%s: %s", manifest.namespace, manifest.name, error)
            return
        self._take_up(name, manifest, live, records)
        for rollout_id, record in records.items():
            if not record.rollout.ended and rollout_id != stamp_of(live["spec"]["template"]):
                self._overtaken(manifest, live, rollout_id)
            elif record.rollback == "pending" or (record.rollout.ended and not record.told):
                follower = Follower(name, manifest, live["metadata"]["uid"], record)
                threading.Thread(target=self._finish, args=(follower,), daemon=True).start()

    def _take_up(self, name: str, manifest: Manifest, live: dict, records: Records) -> Follower | None:
        """Follow what is live, if it is ours; what has ended is returned as it ended."""
        template = live["spec"]["template"]
        stamp = stamp_of(template)
        if not is_stamp(stamp):
            return None
        if follower := self._followers.get((manifest.namespace, manifest.name, stamp)):
            return follower if follower.record.template == template else None
        record = records.get(stamp)
        if record is None:
            # The process that sent it died before it could write it down.
            back = _ROLLBACK_CAUSE.match((live["metadata"].get("annotations") or {}).get(CHANGE_CAUSE, ""))
            automatic = self._settings.rollback_on_failure and not back
            record = Record.begun(live, None, automatic, int(back[1]) if back else None)
        elif record.template != template:
            return None
        elif record.rollout.ended:
            # `kubectl rollout undo` brings an old stamp back under a new revision: that is no rollout of ours.
            revision = (live["metadata"].get("annotations") or {}).get(REVISION)
            same = record.rollout.revision is None or str(record.rollout.revision) == revision
            return Follower(name, manifest, live["metadata"]["uid"], record) if same else None
        return self.begin(name, manifest, live, record)

    def _observe(self, manifest: Manifest, live: dict, seconds: float) -> Rollout:
        """Follow a rollout that somebody else has started for as long as a request lasts; nothing is recorded."""
        template, until = live["spec"]["template"], time.monotonic() + seconds
        started = datetime.now(UTC)
        with self._watches.of(manifest.namespace, manifest.name) as view:
            while True:
                if snapshot := view.snapshot([]):
                    verdict = judge(template, snapshot, datetime.now(UTC), self._settings.settle_seconds, started)
                    left = until - time.monotonic()
                    if verdict.phase is not Phase.PROGRESSING or left <= 0:
                        break
                    view.wait(min(each for each in (left, verdict.look_again) if each is not None))
                else:
                    view.wait(1)
                    if time.monotonic() > until + 5:
                        raise Unreachable("the API server can't be watched; try again")
            replicaset = snapshot.deployment and owned_replicaset(snapshot, template)
        rollout = Rollout(
            id=replicaset["metadata"]["name"] if replicaset else "",
            deployment=manifest.name,
            namespace=manifest.namespace,
            image=image_of(template, None),
            phase=verdict.phase,
            message=verdict.message,
            started_at=replicaset["metadata"]["creationTimestamp"] if replicaset else _iso(started),
        )
        return _with_verdict(rollout, verdict)

    def _overtaken(self, manifest: Manifest, live: dict, rollout_id: str) -> Rollout:
        """Record a rollout that another one overtook while nobody looked as superseded; return how it ended."""
        ended = []

        def decide(records: Records) -> Record | None:
            record = records.get(rollout_id)
            if record is None or record.rollout.ended:
                ended.append(record and record.rollout)
                return None
            message = "the Deployment got another pod template meanwhile"
            rollout = replace(record.rollout, phase=Phase.SUPERSEDED, message=message, finished_at=_iso(_now()))
            ended.append(rollout)
            return replace(record, rollout=rollout, told=True)

        self._ledger.change(manifest.namespace, manifest.name, live["metadata"]["uid"], decide)
        if ended[-1] is None:
            raise NotFound(f"no rollout {rollout_id} of {manifest.name} is known")
        return ended[-1]

    # How it is followed

    def _follow(self, key: tuple[str, str, str], follower: Follower) -> None:
        self._metrics.followed.inc()
        try:
            with self._watches.of(follower.manifest.namespace, follower.manifest.name) as view:
                self._change(follower, lambda records: None if key[2] in records else follower.record)
                self._event(follower, "Deploying", f"{follower.record.cause} ({key[2]})")
                verdict, snapshot = self._verdict(follower, view)
                won = self._conclude(follower, verdict, snapshot)
                if won:
                    self._carry_out(follower)
            with self._lock:
                self._ended[key] = follower.record.rollout
                while len(self._ended) > MOST_REMEMBERED:
                    self._ended.popitem(last=False)
            if won:
                self._tell(follower)
        except Exception:  # The last stop of a thread: what nobody expected belongs into the log.
            log.exception("following %s failed", key, extra=_extra(follower))
        finally:
            with self._lock:
                del self._followers[key]
            self._metrics.followed.dec()

    def _verdict(self, follower: Follower, view: View) -> tuple[Verdict, Snapshot]:
        record, events = follower.record, []
        started = datetime.fromisoformat(record.rollout.started_at)
        # Warnings explain what pods don't say; they are fetched a few times only, at growing intervals.
        next_events, interval = time.monotonic() + 5, 10
        while True:
            snapshot = view.snapshot(events)
            if snapshot is None or self._is_older(snapshot, follower):
                view.wait(None)
                continue
            verdict = judge(record.template, snapshot, _now(), self._settings.settle_seconds, started)
            if verdict.phase is Phase.COMPLETE and not self._is_current(follower, snapshot, view):
                continue
            if verdict.phase not in (Phase.PROGRESSING, Phase.PAUSED):
                return verdict, snapshot
            follower.publish(replace(record, rollout=_with_verdict(record.rollout, verdict)))
            look_again = verdict.look_again
            if verdict.phase is Phase.PROGRESSING and verdict.replicas.ready < verdict.replicas.desired:
                if time.monotonic() >= next_events:
                    events = diagnosis.warnings(self._cluster, follower.manifest.namespace)
                    next_events, interval = time.monotonic() + interval, interval * 2
                    continue
                left = next_events - time.monotonic()
                look_again = left if look_again is None else min(look_again, left)
            view.wait(look_again and max(look_again, 0.01))

    def _is_older(self, snapshot: Snapshot, follower: Follower) -> bool:
        deployment = snapshot.deployment
        return (
            deployment is not None
            and deployment["metadata"]["uid"] == follower.uid
            and deployment["metadata"]["generation"] < follower.generation
        )

    def _is_current(self, follower: Follower, snapshot: Snapshot, view: View) -> bool:
        """Ask once before the good news whether the watch still tells the truth: fallen silent, it looks like peace."""
        try:
            live = self._cluster.read_deployment(follower.manifest.namespace, follower.manifest.name)
        except Refusal:
            view.wait(1)
            return False
        if live and live["metadata"]["resourceVersion"] == snapshot.deployment["metadata"]["resourceVersion"]:
            return True
        view.wait(0.5)
        again = view.snapshot([])
        if again and again.deployment == snapshot.deployment:
            view.refresh()
        return False

    # How it ends

    def _conclude(self, follower: Follower, verdict: Verdict, snapshot: Snapshot) -> bool:
        """Record the verdict with its diagnosis; return whether it was this process that did."""
        record = follower.record
        rollout = _with_verdict(record.rollout, verdict)
        found: dict[str, str] = {}
        if verdict.phase is Phase.FAILED and snapshot.deployment:
            settle, lines = self._settings.settle_seconds, self._settings.log_tail_lines
            rollout = replace(rollout, causes=diagnosis.causes(self._cluster, record, snapshot, settle, lines))
        if verdict.phase is Phase.COMPLETE:
            replicaset = owned_replicaset(snapshot, record.template)
            pods = [pod for pod in snapshot.pods if replicaset and owner(pod) == replicaset["metadata"]["uid"]]
            found, mixed = digests(record.template, pods)
            if mixed:
                rollout = replace(rollout, message=f"{rollout.message}; they run different digests of one image")
        spec = record.template["spec"]
        main = next((each["name"] for each in spec["containers"] if each["image"] == rollout.image), None)
        rollout = replace(rollout, digest=found.get(main), finished_at=_iso(_now()))
        ended = replace(
            record, rollout=rollout, digests=found, told=not self._notifier.wanted, claimed_at=rollout.finished_at
        )
        if verdict.phase is Phase.SUPERSEDED:
            ended = replace(ended, told=True)
        outcome = [ended]

        def decide(records: Records) -> Record | None:
            known = records.get(rollout.id)
            if known and known.rollout.ended:
                outcome.append(known)
                return None
            outcome.append(self._decided(ended, records, snapshot))
            return outcome[-1]

        won = self._change(follower, decide)
        follower.publish(outcome[-1])
        if won:
            self._report(follower)
        return won

    def _decided(self, ended: Record, records: Records, snapshot: Snapshot) -> Record:
        """Add what the records say: what has changed since it last worked, and whether there is a way back."""
        worked = [
            each
            for each in records.values()
            if each.rollout.phase is Phase.COMPLETE and each.rollout.id < ended.rollout.id
        ]
        if ended.rollout.phase is not Phase.FAILED or not worked:
            return ended
        rollout = replace(
            ended.rollout,
            changes=changes(worked[0].template, ended.template),
            changed_since=worked[0].rollout.revision,
        )
        rollback = "none"
        if ended.rollback_on_failure and not ended.is_rollback and snapshot.deployment:
            try:
                rollback = "pending" if way_back(records, snapshot).verified else "none"
            except Nowhere as error:
                log.warning("no rollback: %s", error, extra={"deployment": rollout.deployment, "id": rollout.id})
        return replace(ended, rollout=rollout, rollback=rollback)

    def _report(self, follower: Follower) -> None:
        rollout = follower.record.rollout
        log.info(
            "Deployment %s/%s: %s", rollout.namespace, rollout.deployment, rollout.as_text(), extra=_extra(follower)
        )
        self._metrics.rollouts.labels(follower.name, rollout.phase.value).inc()
        self._metrics.durations.labels(follower.name).observe(_duration(rollout).total_seconds())
        self._event(follower, f"Rollout{rollout.phase.value.capitalize()}", rollout.as_line())

    def _event(self, follower: Follower, reason: str, message: str) -> None:
        write_event(self._cluster, follower.record.rollout, follower.uid, reason, message)

    def _finish(self, follower: Follower) -> None:
        """Do what a process that died left undone after the verdict."""
        try:
            if follower.record.rollback == "pending":
                self._carry_out(follower)
            if not follower.record.told:
                self._tell(follower, late=True)
        except Exception:
            log.exception("finishing failed", extra=_extra(follower))

    def _carry_out(self, follower: Follower) -> None:
        """Roll back what has failed, unless something newer is there by now."""
        record = follower.record
        if record.rollback != "pending":
            return
        revision = None
        while True:
            try:
                live = self._live(follower.manifest)
                template = live["spec"]["template"]
                if template == record.template:
                    records = self._ledger.read(follower.manifest.namespace, follower.manifest.name)
                    target = way_back(records, self._snapshot(follower.manifest, live))
                    self._roll_back(follower.name, follower.manifest, target, None, expected=record.template)
                    revision = target.revision
                elif back := _ROLLBACK_CAUSE.match(live["metadata"].get("annotations", {}).get(CHANGE_CAUSE, "")):
                    revision = int(back[1])  # It was rolled back by a process that died before it could say so.
                break
            except (Unreachable, TooSlow) as error:
                log.warning("the rollback waits: %s", error, extra=_extra(follower))
                time.sleep(2)
            except Refusal as error:
                log.error("no rollback: %s", error, extra=_extra(follower))
                break

        def decide(records: Records) -> Record:
            known = records.get(record.rollout.id, record)
            return replace(known, rollback="done", rollout=replace(known.rollout, rolled_back_to=revision))

        done = replace(record, rollback="done", rollout=replace(record.rollout, rolled_back_to=revision))
        self._change(follower, decide)
        follower.publish(done)

    def _roll_back(
        self, name: str, manifest: Manifest, target: Target, cause: str | None, expected: dict | None = None
    ) -> Follower:
        """Send the former template; with `expected`, only over that one. Raises Conflict otherwise."""
        stamp = deployment_spec.new_stamp()
        what = f"rollback to revision {target.revision}" + ("" if target.verified else " (unverified)")
        cause = f"{what}: {cause}" if cause else what

        def build(live: dict | None) -> dict:
            if expected is not None and live and live["spec"]["template"] != expected:
                raise Conflict("something newer is live", reason="Superseded")
            return deployment_spec.build_rollback(manifest, target.template, target.digests, stamp, cause, live)

        live = self._cluster.apply(manifest.namespace, manifest.name, build)
        self._metrics.rollbacks.labels(name).inc()
        return self.begin(name, manifest, live, Record.begun(live, rolled_back_to=target.revision))

    # Telling

    def _tell(self, follower: Follower, late: bool = False) -> None:
        """Tell people the verdict, and record that it was told; late, only if nobody else is at it."""
        if not self._notifier.wanted or follower.record.told:
            return
        if late and not self._claim(follower):
            return
        rollout, cause = follower.record.rollout, follower.record.cause
        if self._notifier.tell(rollout, cause):
            self._change(
                follower, lambda records: replace(records.get(rollout.id, follower.record), told=True, claimed_at=None)
            )

    def _claim(self, follower: Follower) -> bool:
        claimed = follower.record.claimed_at or follower.record.rollout.finished_at
        free_at = datetime.fromisoformat(claimed) + timedelta(seconds=TELLING_TAKES)
        time.sleep(max(0, (free_at - _now()).total_seconds()))

        def decide(records: Records) -> Record | None:
            known = records.get(follower.record.rollout.id)
            if known is None or known.told or known.claimed_at != follower.record.claimed_at:
                return None
            return replace(known, claimed_at=_iso(_now()))

        return self._change(follower, decide)

    # The cluster and the ledger, as this module needs them

    def _change(self, follower: Follower, decide: Callable[[Records], Record | None]) -> bool:
        return self._ledger.insist(follower.manifest.namespace, follower.manifest.name, follower.uid, decide)

    def _recorded(self, manifest: Manifest) -> Records:
        try:
            return self._ledger.read(manifest.namespace, manifest.name)
        except Refusal as error:
            log.warning("no history: %s", error)
            return self.known_history(manifest)

    def _live(self, manifest: Manifest) -> dict:
        live = self._cluster.read_deployment(manifest.namespace, manifest.name)
        if live is None:
            raise NotFound(f"deployment {manifest.name} isn't in namespace {manifest.namespace}")
        return live

    def _snapshot(self, manifest: Manifest, live: dict) -> Snapshot:
        replicasets = self._cluster.list_all("replicasets", manifest.namespace)["items"]
        return Snapshot(live, replicasets, [], [])


def _with_verdict(rollout: Rollout, verdict: Verdict) -> Rollout:
    return replace(
        rollout,
        phase=verdict.phase,
        message=verdict.message,
        revision=verdict.revision or rollout.revision,
        replicas=verdict.replicas,
        causes=verdict.causes if verdict.phase in (Phase.PROGRESSING, Phase.FAILED) else (),
    )


def _duration(rollout: Rollout) -> timedelta:
    return datetime.fromisoformat(rollout.finished_at) - datetime.fromisoformat(rollout.started_at)


def _now() -> datetime:
    return datetime.now(UTC)


def _iso(time_: datetime) -> str:
    return time_.isoformat().replace("+00:00", "Z")


def _extra(follower: Follower) -> dict:
    return {
        "deployment": follower.manifest.name,
        "namespace": follower.manifest.namespace,
        "id": follower.record.rollout.id,
    }
