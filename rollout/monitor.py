"""Which rollouts there are: those this process started, foreign ones, and those that a process left which died."""

import logging
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime

from cluster.api import MAX_ATTEMPTS, Cluster
from cluster.snapshot import revision_of
from cluster.watch import Watches
from deployment_spec import Signal
from errors import NotFound, Refusal, TooSlow, Unreachable
from manifest.annotations import signals_of
from manifest.files import Manifest
from manifest.pod_template import is_rollout_id, rollout_id_of
from rollout import rollback
from rollout.aftermath import MAX_NOTIFYING_SECONDS, Aftermath
from rollout.duplicates import refuse_duplicate
from rollout.follower import ANSWER_FIRST_SECONDS, Follower
from rollout.followers import Followers, Key
from rollout.foreign import foreign_at_a_glance, record_of_foreign, watch_foreign
from rollout.ledger import Ledger
from rollout.metrics import Metrics
from rollout.model import Rollout
from rollout.notify import Notifier
from rollout.overview import Overview
from rollout.record import Record, Records, new_record
from rollout.resuming import resume_all
from settings import Settings

log = logging.getLogger(__name__)

# Another replica records within this time what it saw superseded.
MAX_RECORDING_SECONDS = 3
# An older verdict isn't news any more.
MAX_NEWS_SECONDS = 24 * 60 * 60


class _NotRecordedYet(NotFound):  # A replica has started the rollout, and is about to record it.
    pass


class Monitor:
    """Start to follow rollouts, find them again, and tell how they go."""

    def __init__(self, cluster: Cluster, settings: Settings, metrics: Metrics) -> None:
        self._cluster, self._settings, self._metrics = cluster, settings, metrics
        self._watches, self._ledger = Watches(cluster), Ledger(cluster)
        self._notifier = Notifier(settings.notify_urls_file, settings.deployments_dir)
        self._aftermath = Aftermath(cluster, self._ledger, self._notifier, metrics, settings)
        self._recorder = self._aftermath.recorder
        self._followers, self._finishing = Followers(), dict[Key, Follower]()
        self.overview = Overview(cluster, self._ledger, self._followers, self._newest)

    def start(self, manifest: Manifest, live: dict, record: Record) -> Follower:
        """Follow a rollout, from the Deployment as the API server answered it; once, however often it is started."""
        follower = self._follower(manifest, live, record)
        if (known := self._followers.add(follower)) is not follower:
            return known
        try:
            threading.Thread(target=self._run, args=(follower,), name=f"follow {follower.key}", daemon=True).start()
        except RuntimeError:  # The process has no more threads: no request may wait for this one.
            self._followers.remove(follower)
            raise
        return follower

    def roll_back(self, manifest: Manifest, signal: Signal) -> Follower:
        """Go back to what ran before, or to a revision; a dry run changes nothing, and its follower isn't started.

        Raises Duplicate, NotFound, NothingToRollBackTo or Conflict (paused).
        """
        for _ in range(MAX_ATTEMPTS):
            snapshot = rollback.read_snapshot(self._cluster, manifest)
            records = self._ledger.read(manifest.namespace, manifest.name)
            self.refuse_duplicate(manifest, signal, snapshot.deployment, records)
            target = rollback.choose_target(records, snapshot, signal.revision)
            try:
                live = rollback.send(self._cluster, manifest, target, signal, snapshot.deployment["spec"]["template"])
            except rollback.SomethingNewer:
                continue  # Another client has changed it meanwhile: choose again, from what is there now.
            if signal.dry_run:
                return self._follower(manifest, live, new_record(live))
            self._metrics.rollbacks.labels(manifest.stem).inc()
            return self.start(manifest, live, new_record(live))
        raise Unreachable(f"deployment {manifest.name} is being changed all the time; try again", reason="Conflict")

    def refuse_duplicate(self, manifest: Manifest, signal: Signal, live: dict | None, records: Records) -> None:
        """Raise Duplicate or KeyReused for a signal whose key has started a rollout."""
        known = records | {each.record.rollout.id: each.record for each in self._followers.of(manifest)}
        refuse_duplicate(signal, live, known.values())

    def show(self, manifest: Manifest, rollout_id: str | None, seconds: float) -> tuple[Rollout, Records, dict | None]:
        """Return a rollout, without an id the newest, when it has ended or after so many seconds; and what is recorded.

        Return also the live Deployment, where it was read for that. Raises NotFound.
        """
        until = time.monotonic() + MAX_RECORDING_SECONDS
        while True:
            try:
                return self._find(manifest, rollout_id, seconds)
            except _NotRecordedYet:
                if time.monotonic() >= until:
                    raise
                time.sleep(0.1)

    def _find(self, manifest: Manifest, rollout_id: str | None, seconds: float) -> tuple[Rollout, Records, dict | None]:
        key = (manifest.namespace, manifest.name, rollout_id)
        if follower := self._followers.get(key):
            return follower.wait(seconds), self.recorded(manifest), None
        if ended := self._followers.ended(key):
            return ended, self.recorded(manifest), None
        records = self._ledger.read(manifest.namespace, manifest.name)
        asked = records.get(rollout_id)
        if asked and asked.rollout.ended and not any(record.is_unfinished for record in records.values()):
            return asked.rollout, records, None
        live = rollback.read_live(self._cluster, manifest)
        found = self._take_up(manifest, live, records)
        self._finish_others(manifest, live, records, older_than=MAX_NOTIFYING_SECONDS)
        if found and rollout_id in (None, found.record.rollout.id):
            return self._finishing.get(found.key, found).wait(seconds), self.recorded(manifest), None
        if asked:
            return self._recorder.record_superseded(manifest, live, rollout_id), self.recorded(manifest), live
        if found is None:
            follower = self._follower(manifest, live, record_of_foreign(live))
            follower.something_works = any(each.worked for each in records.values())
            foreign = watch_foreign(self._watches, follower, seconds)
            if rollout_id in (None, foreign.id):
                return foreign, records, live
        is_ours = rollout_id in (each for each, *_ in signals_of(live))
        raise (_NotRecordedYet if is_ours else NotFound)(f"no rollout {rollout_id} of {manifest.name} is known")

    def watching(self, manifest: Manifest) -> Follower | None:
        """Return the follower that watches the newest rollout at this moment."""
        return next((each for each in reversed(self._followers.of(manifest)) if not each.record.rollout.ended), None)

    def known(self, manifest: Manifest) -> Records:
        """Return what is known of the records without a call; it may be nothing."""
        return self._ledger.known(manifest.namespace, manifest.name)

    def recorded(self, manifest: Manifest) -> Records:
        """Return what is recorded, or what is known of it while the API server can't be reached."""
        return self._ledger.read_or_known(manifest.namespace, manifest.name)

    def resume(self, manifests: Callable[[], list[Manifest]]) -> None:
        """Finish what a dead process left undone. Look twice: an old pod gets signals while a new one takes over."""
        resume_all(self._resume_one, manifests)
        time.sleep(MAX_NOTIFYING_SECONDS)
        resume_all(self._resume_one, manifests)

    def _follower(self, manifest: Manifest, live: dict, record: Record) -> Follower:
        return Follower(self._cluster, self._settings.settle_seconds, manifest, live, record)

    def _run(self, follower: Follower) -> None:
        self._metrics.followed.inc()
        time.sleep(ANSWER_FIRST_SECONDS)
        try:
            self._watch(follower)
            self._recorder.record_at_last(follower)
        except Exception:  # The last stop of a thread: the log is the only place left to say it.
            log.exception("following a rollout failed", extra=follower.record.rollout.log_fields)
        finally:
            self._metrics.followed.dec()
        if self._followers.remove(follower):
            self._ledger.forget(follower.manifest.namespace, follower.manifest.name)

    def _watch(self, follower: Follower) -> None:
        after, manifest = self._aftermath, follower.manifest
        with self._watches.of(manifest.namespace, manifest.name) as view:
            verdict, snapshot = follower.follow(view, meanwhile=lambda: self._recorder.record_start(follower))
            won, target = after.record_verdict(follower, verdict, snapshot)
            # While the watch is still open: the rollback goes on with it.
            if target and (live := after.roll_back(follower, target)):
                self.start(manifest, live, new_record(live))
        if won:
            after.notify(follower)
        else:
            after.await_rollback(follower)

    def _finish(self, follower: Follower) -> None:
        """Do what another process left undone: it died after the verdict."""
        try:
            if follower.record.rollback == "pending" and (live := self._aftermath.roll_back(follower)):
                self.start(follower.manifest, live, new_record(live))
            if self._aftermath.claim_notification(follower):
                self._aftermath.notify(follower)
            self._recorder.record_at_last(follower)
        except Exception:  # As in _run.
            log.exception("finishing a rollout failed", extra=follower.record.rollout.log_fields)
        del self._finishing[follower.key]

    # Rollouts that are found

    def _resume_one(self, manifest: Manifest) -> None:
        try:
            records = self._ledger.read(manifest.namespace, manifest.name)
            live = rollback.read_live(self._cluster, manifest)
            self._take_up(manifest, live, records)
            self._finish_others(manifest, live, records, older_than=0)
        except NotFound:
            return
        except (Unreachable, TooSlow):
            raise
        except Refusal as error:
            log.error("Deployment %s/%s: %s", manifest.namespace, manifest.name, error)
        except Exception:  # One bad record must not keep the other deployments from being finished.
            log.exception("Deployment %s/%s can't be taken up", manifest.namespace, manifest.name)

    def _take_up(self, manifest: Manifest, live: dict, records: Records) -> Follower | None:
        """Follow what is live, if it is ours; return one that has ended as it ended."""
        template = live["spec"]["template"]
        rollout_id = rollout_id_of(template)
        if not is_rollout_id(rollout_id) or rollout_id in records.unreadable:
            return None
        if follower := self._followers.get((manifest.namespace, manifest.name, rollout_id)):
            return follower if follower.record.template == template else None
        record = records.get(rollout_id)
        if record is None:
            # The process that sent it died before it could record it.
            record = new_record(live, self._settings.rollback_on_failure)
        elif record.template != template:
            return None
        elif record.rollout.ended:
            # `kubectl rollout undo` brings an old rollout id back under a new revision: that is no rollout of ours.
            same = record.rollout.revision in (None, revision_of(live))
            return self._follower(manifest, live, record) if same else None
        return self.start(manifest, live, record)

    def _newest(self, manifest: Manifest, live: dict, records: Records) -> Rollout:
        """Return how what is live stands, without a call."""
        if found := self._take_up(manifest, live, records):
            return self._finishing.get(found.key, found).wait(0)
        return foreign_at_a_glance(live, self._settings.settle_seconds)

    def _finish_others(self, manifest: Manifest, live: dict, records: Records, older_than: float) -> None:
        """Finish the recorded rollouts that no process works on any more: their verdict is older than these seconds."""
        for rollout_id, record in records.items():
            key = (manifest.namespace, manifest.name, rollout_id)
            if self._followers.get(key):
                continue
            if not record.rollout.ended:
                if rollout_id != rollout_id_of(live["spec"]["template"]):
                    self._recorder.record_superseded(manifest, live, rollout_id)
                continue
            age = (datetime.now(UTC) - record.rollout.finished_at).total_seconds()
            wanted = record.rollback == "pending" or (self._notifier.wanted and age < MAX_NEWS_SECONDS)
            if record.is_unfinished and wanted and age > older_than:
                follower = self._follower(manifest, live, record)
                if self._finishing.setdefault(key, follower) is follower:
                    threading.Thread(target=self._finish, args=(follower,), daemon=True).start()
