"""What comes of a rollout beside its verdict: its record, its Events, the automatic rollback, the message. Each once.

Of several replicas that follow one rollout, the one that records the verdict does the rest.
"""

import logging
import time
from datetime import UTC, datetime, timedelta

from cluster.api import Cluster
from cluster.backoff import Backoff
from cluster.snapshot import Snapshot
from deployment_spec import Signal
from errors import Refusal, TooSlow, Unreachable
from manifest.annotations import rolled_back_to
from manifest.pod_template import running_digests
from rollout import rollback
from rollout.changes import changes
from rollout.diagnosis import diagnose
from rollout.follower import Follower
from rollout.ledger import Ledger
from rollout.metrics import Metrics
from rollout.model import Phase, Rollout
from rollout.notify import Notifier
from rollout.record import Record, Records, older_than, truncated
from rollout.recorder import Recorder, ended_as_recorded, rolled_back
from rollout.rollback import NothingToRollBackTo, SomethingNewer, Target
from rollout.verdict import Verdict
from rollout.wording import as_line, as_message, as_text
from settings import Settings

log = logging.getLogger(__name__)

# A process that has recorded a verdict notifies within this time; after that, the process that finds it does.
MAX_NOTIFYING_SECONDS = 60
# Another replica rolls back within this time what it saw failing.
MAX_ROLLBACK_SECONDS = 20
# Between attempts to roll back while the API server can't be reached.
MIN_PAUSE_SECONDS, MAX_PAUSE_SECONDS = 2, 10


class Aftermath:
    """Do what is to be done about a rollout that a follower has watched."""

    def __init__(self, cluster: Cluster, ledger: Ledger, notifier: Notifier, metrics: Metrics, settings: Settings):
        self._cluster, self._ledger, self._notifier = cluster, ledger, notifier
        self._metrics, self._settings, self.recorder = metrics, settings, Recorder(cluster, ledger, settings.public_url)

    def record_verdict(self, follower: Follower, verdict: Verdict, snapshot: Snapshot) -> tuple[bool, Target | None]:
        """Record a verdict with its diagnosis; return whether this process did, and where to roll back to, if at all.

        Where another replica has recorded its verdict, that one counts.
        """
        ended, ran = self._ended(follower.record, verdict, snapshot)
        decided: tuple[Record, Target | None] = ended, None

        def decide(records: Records) -> Record | None:
            nonlocal decided
            known = records.get(ended.rollout.id)
            if known and known.rollout.ended:
                decided = known, decided[1]
                return None
            target = self._automatic_target(ended, records, snapshot)
            record = ended_as_recorded(records, truncated(_compared(ended, ran, records, target)))
            decided = record, target
            return record

        written = self.recorder.write(follower, decide)
        record, target = decided
        # The write may have arrived though its answer was lost: then it is our own verdict that is found.
        won = written or record.claimed_at == ended.claimed_at
        follower.publish(record)
        if won:
            self._announce(follower, record.rollout)
        return won, target if won else None

    def roll_back(self, follower: Follower, target: Target | None = None) -> dict | None:
        """Roll back what has failed, to a target that is chosen if none is given, and record that.

        Return the Deployment as it was answered, or None where nothing was sent: something newer is live, or there is
        nothing to go back to.
        """
        failed, live, revision = follower.record, None, None
        backoff = Backoff(MIN_PAUSE_SECONDS, MAX_PAUSE_SECONDS)
        while True:
            try:
                target = target or self._choose_target(follower)
                live = rollback.send(self._cluster, follower.manifest, target, Signal(), over=failed.template)
                revision = target.revision
                self._metrics.rollbacks.labels(follower.manifest.stem).inc()
                break
            except SomethingNewer as newer:
                # It may be this rollback: its answer was lost, or the process died that sent it.
                revision = rolled_back_to(newer.live)
                live = newer.live if revision else None
                break
            except (Unreachable, TooSlow) as error:
                log.warning("the rollback has to wait: %s", error, extra=failed.rollout.log_fields)
                backoff.pause()
            except Refusal as error:
                log.error("no rollback: %s", error, extra=failed.rollout.log_fields)
                break
        self.recorder.write(follower, lambda records: rolled_back(ended_as_recorded(records, failed), revision))
        follower.publish(rolled_back(failed, revision))
        return live

    def await_rollback(self, follower: Follower) -> None:
        """Wait a while for the rollback of the replica that was first to record the verdict."""
        until = time.monotonic() + MAX_ROLLBACK_SECONDS
        while follower.record.rollback == "pending" and time.monotonic() < until:
            time.sleep(0.5)
            try:
                records = self._ledger.read(follower.manifest.namespace, follower.manifest.name)
            except Refusal:
                continue  # It is only a wait: the answer shows what is known.
            follower.publish(records.get(follower.record.rollout.id, follower.record))

    def notify(self, follower: Follower) -> None:
        """Send the message about a verdict, and record that it was sent."""
        record = follower.record
        if record.notified:
            return
        name, failed = follower.manifest.stem, record.rollout.phase is Phase.FAILED
        message = as_message(record, self.recorder.page_of(follower))
        if self._notifier.send(*message, name, failed, may_go_on=lambda: self._keep_claim(follower)):
            follower.publish(follower.record.replace(notified=True))
            self.recorder.write(follower, lambda records: ended_as_recorded(records, record).replace(notified=True))

    def claim_notification(self, follower: Follower) -> bool:
        """Wait for the claim of another process to expire; return whether this process may now notify."""
        claimed_at = follower.record.claimed_at
        if follower.record.notified or not self._notifier.wanted or claimed_at is None:
            return False
        free_at = claimed_at + timedelta(seconds=MAX_NOTIFYING_SECONDS)
        time.sleep(max(0, (free_at - datetime.now(UTC)).total_seconds()))
        return self._claim(follower)

    def _keep_claim(self, follower: Follower) -> bool:
        """Renew the claim long before it expires, since a URL may be tried for longer; return False if it is lost."""
        age = datetime.now(UTC) - follower.record.claimed_at
        return age.total_seconds() < MAX_NOTIFYING_SECONDS / 3 or self._claim(follower, follower.record)

    def _claim(self, follower: Follower, otherwise: Record | None = None) -> bool:
        """Claim the message from now on; return False if another process has it. Unrecorded, `otherwise` counts."""
        claimed_at, now = follower.record.claimed_at, datetime.now(UTC)

        def decide(records: Records) -> Record | None:
            known = records.get(follower.record.rollout.id, otherwise)
            known = known and ended_as_recorded(records, follower.record)
            # It is ours already where the API server took our claim and its answer was lost.
            if known is None or known.notified or known.claimed_at not in (claimed_at, now):
                return None
            return known.replace(claimed_at=now)

        is_ours = self.recorder.write(follower, decide)
        if is_ours:
            follower.publish(follower.record.replace(claimed_at=now))
        return is_ours

    def _ended(self, record: Record, verdict: Verdict, snapshot: Snapshot) -> tuple[Record, dict[str, str]]:
        """Return the record with its verdict and diagnosis, and the digests that the pods run."""
        rollout = verdict.of(record.rollout)
        pods = snapshot.pods_of(snapshot.replicaset_of(record.template)) if snapshot.deployment else []
        ran, mixed = running_digests(record.template, pods)
        if verdict.phase is Phase.FAILED and snapshot.deployment:
            rollout = rollout.replace(problems=diagnose(self._cluster, record, snapshot, self._settings))
        if verdict.phase is Phase.COMPLETE and mixed:
            rollout = rollout.replace(message=f"{rollout.message}; they run different digests of one image")
        digests = ran if verdict.phase is Phase.COMPLETE else {}
        containers = record.template["spec"]["containers"]
        main = next((each["name"] for each in containers if each["image"] == rollout.image), None)
        rollout = rollout.replace(digest=digests.get(main), finished_at=datetime.now(UTC))
        silent = verdict.phase is Phase.SUPERSEDED or not self._notifier.wanted
        return record.replace(rollout=rollout, digests=digests, notified=silent, claimed_at=rollout.finished_at), ran

    def _automatic_target(self, ended: Record, records: Records, snapshot: Snapshot) -> Target | None:
        wanted = ended.rollback_on_failure and not ended.is_rollback
        if ended.rollout.phase is not Phase.FAILED or not wanted or snapshot.deployment is None:
            return None
        try:
            return rollback.choose_target(records, snapshot, automatic=True)
        except NothingToRollBackTo as error:
            log.warning("no rollback: %s", error, extra=ended.rollout.log_fields)
            return None

    def _choose_target(self, follower: Follower) -> Target:
        records = self._ledger.read(follower.manifest.namespace, follower.manifest.name)
        snapshot = rollback.read_snapshot(self._cluster, follower.manifest)
        if snapshot.deployment["spec"]["template"] != follower.record.template:
            raise SomethingNewer(snapshot.deployment)
        return rollback.choose_target(records, snapshot, automatic=True)

    def _announce(self, follower: Follower, rollout: Rollout) -> None:
        level = logging.WARNING if rollout.phase is Phase.FAILED else logging.INFO
        where = f"{rollout.namespace}/{rollout.deployment}"
        log.log(level, "Deployment %s: %s", where, as_text(rollout), extra=rollout.log_fields)
        self._metrics.count(follower.manifest.stem, rollout)
        if rollout.phase is not Phase.SUPERSEDED:
            self.recorder.announce(follower)
        if follower.is_announced:
            self.recorder.event(follower, f"Rollout{rollout.phase.value.capitalize()}", as_line(rollout))


def _compared(ended: Record, ran: dict[str, str], records: Records, target: Target | None) -> Record:
    """Add to a verdict what the records say: what has changed since a rollout last worked, and whether to go back."""
    rollout = ended.rollout
    last = next((each for each in older_than(rollout.id, records) if each.worked), None)
    if last:
        lines = changes(last.template, ended.template, last.digests, ran)
        rollout = rollout.replace(changes=lines, changed_since=last.rollout.revision)
    return ended.replace(rollout=rollout, rollback="pending" if target else "none")
