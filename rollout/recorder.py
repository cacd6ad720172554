"""Write down what is known of a followed rollout: at once where that works, and later where it doesn't.

Nothing waits for a ConfigMap that can't be written: not the watching, the verdict, the rollback, or the message.
"""

import logging
import math
import time
from datetime import UTC, datetime

from cluster.api import Cluster
from cluster.backoff import Backoff
from errors import NotFound, Refusal, TooSlow, Unreachable
from manifest.files import Manifest
from rollout.follower import Follower
from rollout.ledger import Decide, Ledger
from rollout.model import Phase, Rollout
from rollout.notify import MAX_EVENT_CHARACTERS, write_event
from rollout.record import Record, Records
from rollout.verdict import SUPERSEDED
from rollout.wording import as_start, page_url

log = logging.getLogger(__name__)

# Between attempts to record the start of a rollout.
RECORD_AGAIN_SECONDS = 10
# Attempts to write where only the ConfigMap can't be written, and the pauses between attempts.
MAX_ATTEMPTS = 5
MIN_PAUSE_SECONDS, MAX_PAUSE_SECONDS = 0.1, 10


class Recorder:
    """Write records and Events of rollouts."""

    def __init__(self, cluster: Cluster, ledger: Ledger, public_url: str | None) -> None:
        self._cluster, self._ledger, self._public_url = cluster, ledger, public_url

    def page_of(self, follower: Follower) -> str | None:
        """Return where a browser shows a rollout."""
        return page_url(self._public_url, follower.manifest.stem, follower.record.rollout.id)

    def record_start(self, follower: Follower) -> float:
        """Record that a rollout has started, unless it is recorded; return in how many seconds to try again.

        It makes one attempt when one is due, so that watching doesn't wait for the ConfigMap.
        """
        record = follower.record
        if (seconds := follower.record_start_at - time.monotonic()) > 0:
            return seconds

        def decide(records: Records) -> Record | None:
            follower.something_works = any(each.worked for each in records.values())
            is_recorded = record.rollout.id in records or record.rollout.id in records.unreadable
            return None if is_recorded else record

        try:
            self._ledger.change(*follower.place, decide)
            follower.record_start_at = math.inf
        except Refusal as error:
            log.warning("the start isn't recorded yet: %s", error, extra=record.rollout.log_fields)
            follower.record_start_at = time.monotonic() + RECORD_AGAIN_SECONDS
            decide(self._ledger.read_or_known(*follower.place[:2]))
        self.announce(follower)
        return follower.record_start_at - time.monotonic()

    def record_at_last(self, follower: Follower) -> None:
        """Record what couldn't be recorded when it happened, for as long as it takes."""
        if follower.is_recorded:
            return

        def decide(records: Records) -> Record:
            known = ended_as_recorded(records, follower.record)
            return known.replace(notified=known.notified or follower.record.notified)

        self.write(follower, decide, patiently=True)

    def record_superseded(self, manifest: Manifest, live: dict, rollout_id: str) -> Rollout:
        """Record that a newer rollout superseded this one while no process followed it; return how it ended.

        Raises NotFound when it isn't recorded.
        """
        ended = None

        def decide(records: Records) -> Record | None:
            nonlocal ended
            record = records.get(rollout_id)
            if record is None or record.rollout.ended:
                ended = record and record.rollout_as_answered
                return None
            now = datetime.now(UTC)
            ended = record.rollout.replace(phase=Phase.SUPERSEDED, message=SUPERSEDED, finished_at=now)
            return record.replace(rollout=ended, notified=True)

        self._ledger.change(manifest.namespace, manifest.name, live["metadata"]["uid"], decide)
        if ended is None:
            raise NotFound(f"no rollout {rollout_id} of {manifest.name} is known")
        return ended

    def announce(self, follower: Follower) -> None:
        """Write the Event that a rollout has started, once."""
        if not follower.is_announced:
            follower.is_announced = True
            self.event(follower, "Deploying", as_start(follower.record))

    def event(self, follower: Follower, reason: str, message: str) -> None:
        """Write an Event about the Deployment of a rollout."""
        end = f" {url}" if (url := self.page_of(follower)) else ""
        message = message[: MAX_EVENT_CHARACTERS - len(end)] + end
        write_event(self._cluster, follower.record.rollout, follower.uid, reason, message)

    def write(self, follower: Follower, decide: Decide, patiently: bool = False) -> bool:
        """Write what `decide` makes of the records, or leave it for later; return whether there was something to write.

        It waits while the API server can't be reached: then there is nothing else to do either. Where only the
        ConfigMap can't be written, it tries MAX_ATTEMPTS times, or `patiently` as long as that may pass. It gives up at
        once where the API server refuses the write, and where the Deployment is gone.
        """
        backoff, failed = Backoff(MIN_PAUSE_SECONDS, MAX_PAUSE_SECONDS), 0
        while True:
            try:
                decided = self._ledger.change(*follower.place, decide)
                follower.is_recorded = True
                return decided
            except Refusal as error:
                log.warning("the record can't be written: %s", error, extra=follower.record.rollout.log_fields)
                may_pass = isinstance(error, Unreachable | TooSlow if patiently else Unreachable)
                is_reachable, is_there = self._look(follower)
            failed += is_reachable
            if is_reachable and not (is_there and may_pass and (patiently or failed < MAX_ATTEMPTS)):
                if patiently:
                    log.error("nothing is recorded", extra=follower.record.rollout.log_fields)
                follower.is_recorded = False
                return decide(self._ledger.read_or_known(*follower.place[:2])) is not None
            backoff.pause()

    def _look(self, follower: Follower) -> tuple[bool, bool]:
        """Tell whether the API server answers, and whether the Deployment is still there."""
        try:
            live = self._cluster.read_deployment(*follower.place[:2])
        except Refusal as error:
            return not isinstance(error, Unreachable | TooSlow), True
        return True, live is not None and live["metadata"]["uid"] == follower.uid


def ended_as_recorded(records: Records, ended: Record) -> Record:
    """Return the verdict that is recorded, or else this one: it may be that it couldn't be recorded."""
    known = records.get(ended.rollout.id)
    if known is None:
        return ended
    if known.rollout.ended:
        # It may be that the end of the rollback couldn't be recorded.
        is_done = known.rollback == "pending" and ended.rollback == "done"
        return rolled_back(known, ended.rollout.rolled_back_to) if is_done else known
    # Only one of two versions of this service may know who sent the signal.
    sent = {"by": ended.rollout.by or known.rollout.by, "link": ended.rollout.link or known.rollout.link}
    return known.renewed_by(ended.replace(rollout=known.rollout.renewed_by(ended.rollout.replace(**sent))))


def rolled_back(record: Record, revision: int | None) -> Record:
    """Return a record with its rollback done; without a revision nothing was sent."""
    return record.replace(rollback="done", rollout=record.rollout.replace(rolled_back_to=revision))
