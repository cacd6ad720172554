"""One rollout while it is followed: from its first record to the verdict, the way back and the telling."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from cluster.api import Cluster
from cluster.snapshot import Snapshot, owner_uid
from cluster.watch import View, Watches
from errors import Refusal, TooSlow, Unreachable
from manifest.annotations import ROLLED_BACK_TO
from manifest.files import Manifest
from manifest.pod_template import running_digests
from rollout import diagnosis
from rollout.changes import changes
from rollout.ledger import Ledger, Record, Records, fit
from rollout.metrics import Metrics
from rollout.model import Phase, Rollout
from rollout.notify import Notifier, write_event
from rollout.rollback import Nowhere, way_back
from rollout.verdict import SUPERSEDED, Verdict, judge
from settings import Settings

log = logging.getLogger(__name__)

# A verdict that nobody has told for so long, in seconds, is told by whoever finds it.
TELLING_TAKES = 60
# Seconds that another replica may need to roll back what it saw failing.
WINNER_TAKES = 20
# Seconds until warnings are asked for, doubled each time: they explain what pods don't say.
FIRST_WARNINGS = 5


@dataclass(frozen=True)
class Shared:
    """Hold what all followers of a process use."""

    cluster: Cluster
    settings: Settings
    metrics: Metrics
    watches: Watches
    ledger: Ledger
    notifier: Notifier
    # (name, manifest, what failed) -> the revision gone back to. Raises Refusal.
    roll_back: Callable[[str, Manifest, Record], int]


class Follower:
    """Follow one rollout; any number of requests may wait for it.

    `live` is the Deployment as the API server answered it: what is older than that says nothing about this rollout.
    """

    def __init__(self, shared: Shared, name: str, manifest: Manifest, live: dict, record: Record) -> None:
        self.record = record
        self.manifest = manifest
        self._shared, self._name = shared, name
        self._uid, self._generation = live["metadata"]["uid"], live["metadata"]["generation"]
        self._changed = threading.Condition()
        self._overtaken = False

    def wait(self, seconds: float) -> Rollout:
        """Return how it stands when there is a verdict, when it is paused, or after so many seconds."""
        with self._changed:
            self._changed.wait_for(self._is_resting, seconds)
            return self.record.told_rollout

    def overtake(self, newer: "Follower") -> None:
        """Know that a newer rollout has replaced this one, if it has: stamps don't say so, but generations do."""
        if newer._uid == self._uid and newer._generation > self._generation:
            self._overtaken = True

    @property
    def has_ended(self) -> bool:
        """Whether nothing about the rollout will change any more."""
        return self.record.rollout.ended and self.record.rollback != "pending"

    def run(self) -> None:
        """Follow the rollout to its end, whatever happens; what goes wrong stands in the log."""
        metrics, rollout_id = self._shared.metrics, self.record.rollout.id
        metrics.followed.inc()
        try:
            if self._overtaken:
                # Nothing needs to be looked at: signals in quick succession shall not queue up here.
                self._conclude(Verdict(Phase.SUPERSEDED, SUPERSEDED), Snapshot(None, [], [], []))
                return
            with self._shared.watches.of(self.manifest.namespace, self.manifest.name) as view:
                if self._write(lambda records: None if rollout_id in records else self.record):
                    self._event("Deploying", f"{self.record.cause} ({rollout_id})")
                won = self._conclude(*self._await_verdict(view))
                # While the watch is still there: the rollback goes on with it.
                if won and self.record.rollback == "pending":
                    self._carry_out_rollback()
            if not won:
                self._await_winner()
            if won and not self.record.told:
                self._tell()
        except Exception:  # The last stop of a thread: what nobody expected belongs into the log.
            log.exception("following a rollout failed", extra=self._extra())
        finally:
            metrics.followed.dec()

    def finish(self) -> None:
        """Do what a process that died left undone after the verdict."""
        try:
            if self.record.rollback == "pending":
                self._carry_out_rollback()
            if not self.record.told and self._claim():
                self._tell()
        except Exception:
            log.exception("finishing a rollout failed", extra=self._extra())

    # To the verdict

    def _await_verdict(self, view: View) -> tuple[Verdict, Snapshot]:
        record, settle = self.record, self._shared.settings.settle_seconds
        started = datetime.fromisoformat(record.rollout.started_at)
        events: list[dict] = []
        next_warnings, interval = time.monotonic() + FIRST_WARNINGS, FIRST_WARNINGS * 2
        while True:
            snapshot = view.snapshot(events)
            if snapshot is None or self._is_older(snapshot):
                if snapshot is None and view.trouble:
                    waits = replace(record.rollout, message=f"it can't be followed: {view.trouble}")
                    self._publish(replace(record, rollout=waits))
                view.wait(None)
                continue
            if self._ours(snapshot.deployment) is None:
                snapshot = Snapshot(None, [], [], [])  # Another one of this name is none of ours.
            verdict = judge(record.template, snapshot, datetime.now(UTC), settle, started)
            good_or_gone = verdict.phase is Phase.COMPLETE or snapshot.deployment is None
            if good_or_gone and not self._is_current(snapshot, view):
                continue
            if verdict.phase not in (Phase.PROGRESSING, Phase.PAUSED):
                return verdict, snapshot
            self._publish(replace(record, rollout=with_verdict(record.rollout, verdict)))
            wakes = [] if verdict.look_again is None else [max(verdict.look_again, 0.01)]
            if verdict.phase is Phase.PROGRESSING and snapshot.unready_pods():
                if time.monotonic() >= next_warnings:
                    events = diagnosis.warnings(self._shared.cluster, snapshot)
                    next_warnings, interval = time.monotonic() + interval, interval * 2
                    continue
                wakes.append(max(next_warnings - time.monotonic(), 0.01))
            view.wait(min(wakes, default=None))

    def _is_older(self, snapshot: Snapshot) -> bool:
        deployment = self._ours(snapshot.deployment)
        return deployment is not None and deployment["metadata"]["generation"] < self._generation

    def _is_current(self, snapshot: Snapshot, view: View) -> bool:
        """Ask once before what can't be taken back: a watch that has fallen silent, or lags, looks like peace."""
        try:
            live = self._shared.cluster.read_deployment(self.manifest.namespace, self.manifest.name)
        except Refusal:
            view.wait(1)
            return False
        seen = _version(snapshot.deployment)
        if _version(self._ours(live)) == seen:
            return True
        view.wait(0.5)
        again = view.snapshot([])
        if again and _version(self._ours(again.deployment)) == seen:
            view.refresh()
        return False

    def _ours(self, deployment: dict | None) -> dict | None:
        return deployment if deployment and deployment["metadata"]["uid"] == self._uid else None

    # The verdict

    def _conclude(self, verdict: Verdict, snapshot: Snapshot) -> bool:
        """Record the verdict with its diagnosis; return whether it was this process that did."""
        ended = self._ended(verdict, snapshot)
        outcome = [ended]

        def decide(records: Records) -> Record | None:
            known = records.get(ended.rollout.id)
            if known and known.rollout.ended:
                outcome.append(known)
                return None
            outcome.append(fit(self._compared(ended, records, snapshot)))
            return outcome[-1]

        # The write may have arrived though its answer was lost: then it is our own verdict that is found.
        won = self._write(decide) or outcome[-1].claimed_at == ended.claimed_at
        self._publish(outcome[-1])
        if won:
            rollout = self.record.rollout
            log.info(
                "Deployment %s/%s: %s", rollout.namespace, rollout.deployment, rollout.as_text(), extra=self._extra()
            )
            self._shared.metrics.count(self._name, rollout)
            self._event(f"Rollout{rollout.phase.value.capitalize()}", rollout.as_line())
        return won

    def _ended(self, verdict: Verdict, snapshot: Snapshot) -> Record:
        record, settings = self.record, self._shared.settings
        rollout = with_verdict(record.rollout, verdict)
        ran: dict[str, str] = {}
        if verdict.phase is Phase.FAILED and snapshot.deployment:
            lines = settings.log_tail_lines
            causes = diagnosis.causes(self._shared.cluster, record, snapshot, settings.settle_seconds, lines)
            rollout = replace(rollout, causes=causes)
        if verdict.phase is Phase.COMPLETE:
            replicaset = snapshot.replicaset_of(record.template)
            pods = [pod for pod in snapshot.pods if replicaset and owner_uid(pod) == replicaset["metadata"]["uid"]]
            ran, mixed = running_digests(record.template, pods)
            if mixed:
                rollout = replace(rollout, message=f"{rollout.message}; they run different digests of one image")
        containers = record.template["spec"]["containers"]
        main = next((each["name"] for each in containers if each["image"] == rollout.image), None)
        rollout = replace(rollout, digest=ran.get(main), finished_at=iso(datetime.now(UTC)))
        silent = verdict.phase is Phase.SUPERSEDED or not self._shared.notifier.wanted
        return replace(record, rollout=rollout, digests=ran, told=silent, claimed_at=rollout.finished_at)

    def _compared(self, ended: Record, records: Records, snapshot: Snapshot) -> Record:
        """Add what the records say: what has changed since it last worked, and whether there is a way back."""
        last = next((each for each in records.values() if each.worked and each.rollout.id < ended.rollout.id), None)
        if ended.rollout.phase is not Phase.FAILED:
            return ended
        rollout, rollback = ended.rollout, "none"
        if last:
            differences = changes(last.template, ended.template)
            rollout = replace(rollout, changes=differences, changed_since=last.rollout.revision)
        if ended.rollback_on_failure and not ended.is_rollback and snapshot.deployment:
            try:
                way_back(records, snapshot, automatic=True)
                rollback = "pending"
            except Nowhere as error:
                log.warning("no rollback: %s", error, extra=self._extra())
        return replace(ended, rollout=rollout, rollback=rollback)

    # After the verdict

    def _carry_out_rollback(self) -> None:
        """Roll back what has failed, unless something newer is there by now."""
        revision = None
        while True:
            try:
                live = self._shared.cluster.read_deployment(self.manifest.namespace, self.manifest.name)
                if live is None:
                    break
                if live["spec"]["template"] == self.record.template:
                    revision = self._shared.roll_back(self._name, self.manifest, self.record)
                else:
                    revision = rolled_back_to(live)  # By a process that died before it could say so.
                break
            except (Unreachable, TooSlow) as error:
                log.warning("the rollback waits: %s", error, extra=self._extra())
                time.sleep(2)
            except Refusal as error:
                log.error("no rollback: %s", error, extra=self._extra())
                break
        failed = self.record

        def decide(records: Records) -> Record:
            known = records.get(failed.rollout.id, failed)
            return replace(known, rollback="done", rollout=replace(known.rollout, rolled_back_to=revision))

        self._write(decide)
        self._publish(replace(failed, rollback="done", rollout=replace(failed.rollout, rolled_back_to=revision)))

    def _await_winner(self) -> None:
        """Wait a while for what another replica makes of the verdict that it was first to record."""
        until = time.monotonic() + WINNER_TAKES
        while self.record.rollback == "pending" and time.monotonic() < until:
            time.sleep(0.5)
            try:
                records = self._shared.ledger.read(self.manifest.namespace, self.manifest.name)
            except Refusal:
                continue
            self._publish(records.get(self.record.rollout.id, self.record))

    def _tell(self) -> None:
        record = self.record
        # One of several that can't be reached is a matter for the log: the others shall not be told again for it.
        if self._shared.notifier.tell(record.rollout, record.cause):
            self._write(lambda records: replace(records.get(record.rollout.id, record), told=True))

    def _claim(self) -> bool:
        """Wait until whoever was to tell it should have; return whether nobody did, and it is up to this process."""
        claimed_at = self.record.claimed_at
        if not self._shared.notifier.wanted or claimed_at is None:
            return False
        free_at = datetime.fromisoformat(claimed_at) + timedelta(seconds=TELLING_TAKES)
        time.sleep(max(0, (free_at - datetime.now(UTC)).total_seconds()))

        def decide(records: Records) -> Record | None:
            known = records.get(self.record.rollout.id)
            if known is None or known.told or known.claimed_at != claimed_at:
                return None
            return replace(known, claimed_at=iso(datetime.now(UTC)))

        return self._write(decide)

    def _write(self, decide: Callable[[Records], Record | None]) -> bool:
        return self._shared.ledger.insist(self.manifest.namespace, self.manifest.name, self._uid, decide)

    def _event(self, reason: str, message: str) -> None:
        write_event(self._shared.cluster, self.record.rollout, self._uid, reason, message)

    def _publish(self, record: Record) -> None:
        with self._changed:
            self.record = record
            self._changed.notify_all()

    def _is_resting(self) -> bool:
        return self.has_ended or self.record.rollout.phase is Phase.PAUSED

    def _extra(self) -> dict:
        return {
            "deployment": self.manifest.name,
            "namespace": self.manifest.namespace,
            "id": self.record.rollout.id,
        }


def with_verdict(rollout: Rollout, verdict: Verdict) -> Rollout:
    """Return a rollout with what a verdict says of it."""
    return replace(
        rollout,
        phase=verdict.phase,
        message=verdict.message,
        revision=verdict.revision or rollout.revision,
        replicas=verdict.replicas,
        causes=verdict.causes if verdict.phase in (Phase.PROGRESSING, Phase.FAILED) else (),
    )


def rolled_back_to(live: dict) -> int | None:
    """Return the revision that a live Deployment was rolled back to, by its annotation; None if it wasn't."""
    revision = (live["metadata"].get("annotations") or {}).get(ROLLED_BACK_TO, "")
    return int(revision) if revision.isdecimal() else None


def iso(time_: datetime) -> str:
    """Write a time in UTC as ISO 8601, with a Z."""
    return time_.isoformat().replace("+00:00", "Z")


def _version(deployment: dict | None) -> str | None:
    return deployment["metadata"]["resourceVersion"] if deployment else None
