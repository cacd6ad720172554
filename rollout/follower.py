"""One rollout, watched to its verdict. It reads, and records nothing; what comes after stands in aftermath.py."""

import logging
import math
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime

from cluster.api import Cluster
from cluster.snapshot import Snapshot
from cluster.watch import View
from errors import Refusal, Unreachable
from manifest.annotations import lock_of
from manifest.files import Manifest
from manifest.pod_template import is_rollout_id
from rollout.diagnosis import read_events
from rollout.model import Phase, Rollout
from rollout.record import Record
from rollout.verdict import SUPERSEDED, Verdict, judge

log = logging.getLogger(__name__)

# A follower waits this long before it begins, since its work would delay the answer to the signal.
ANSWER_FIRST_SECONDS = 0.01
# Until warning events are asked for, doubled each time: they explain what pods don't say.
MIN_WARNINGS_SECONDS = 5
# A rollout that is superseded within this time needs one record and no Event.
RECORD_START_SECONDS = 0.5
# For the first answer of a watch, beyond the time that a request wants to wait.
MAX_FIRST_LOOK_SECONDS = 5

# What is known of a Deployment that is gone, or of which nothing is asked.
GONE = Snapshot(None, [], [], [])


class Follower:
    """Follow one rollout; any number of requests may wait for it.

    `live` is the Deployment as the API server answered it: what is older says nothing about this rollout.
    """

    def __init__(self, cluster: Cluster, settle_seconds: int, manifest: Manifest, live: dict, record: Record) -> None:
        self.manifest, self.record, self.is_superseded = manifest, record, False
        self.at_start = record.rollout
        self._view: View | None = None
        # Whether an earlier rollout of the Deployment worked; what the record says, for who follows to set.
        self.something_works = False
        # Called after each change that requests may see.
        self.on_change: Callable[[Follower], None] = lambda follower: None
        # When to record its start, by time.monotonic(); whether an Event tells it; whether its end is recorded. The
        # recorder sets all three.
        self.record_start_at, self.is_announced, self.is_recorded = time.monotonic() + RECORD_START_SECONDS, False, True
        self.uid, self._generation = live["metadata"]["uid"], live["metadata"]["generation"]
        # Why the Deployment is locked; the watch sees it too.
        self.locked = lock_of(live)
        self._cluster, self._settle_seconds, self._changed = cluster, settle_seconds, threading.Condition()
        self._events: list[dict] = []
        self._next_warnings, self._warnings_pause = time.monotonic() + MIN_WARNINGS_SECONDS, MIN_WARNINGS_SECONDS

    @property
    def key(self) -> tuple[str, str, str]:
        """Namespace, Deployment, rollout id."""
        return self.manifest.namespace, self.manifest.name, self.record.rollout.id

    @property
    def place(self) -> tuple[str, str, str]:
        """Namespace, Deployment, and the uid of the Deployment."""
        return self.manifest.namespace, self.manifest.name, self.uid

    @property
    def has_ended(self) -> bool:
        """Whether nothing about the rollout will change any more."""
        return self.record.rollout.ended and self.record.rollback != "pending"

    def wait(self, seconds: float) -> Rollout:
        """Return how the rollout stands when it has ended or is paused, or after so many seconds."""
        with self._changed:
            self._changed.wait_for(lambda: self.has_ended or self.record.rollout.phase is Phase.PAUSED, seconds)
            return self.record.rollout_as_answered

    def publish(self, record: Record) -> None:
        """Show a new state of the rollout to the requests that wait for it."""
        with self._changed:
            is_news, self.record = record != self.record, record
            self._changed.notify_all()
        if is_news:
            self.on_change(self)

    def supersede(self, newer: "Follower") -> None:
        """Learn that a newer rollout has replaced this one, if it has: generations say so, rollout ids don't."""
        if newer.uid == self.uid and newer._generation > self._generation:
            self.is_superseded = True
            if self._view:
                self._view.changed.set()

    def follow(
        self, view: View, until: float = math.inf, meanwhile: Callable[[], float] = lambda: math.inf
    ) -> tuple[Verdict, Snapshot]:
        """Watch until there is a verdict; return it, and what it was made of.

        It calls `meanwhile` now and then while there is none; that returns in how many seconds to call it again.

        With `until`, of time.monotonic(), return also at that time, or when the rollout is paused. Raises a Refusal if
        nothing could be seen by then.
        """
        self._view = view
        while True:
            snapshot, record = self._look(view, until, meanwhile), self.record
            if snapshot is None:
                return Verdict(Phase.SUPERSEDED, SUPERSEDED), GONE
            self.locked = lock_of(snapshot.deployment)
            verdict = judge(
                record.template,
                snapshot,
                now=datetime.now(UTC),
                settle=self._settle_seconds,
                started=record.rollout.started_at if is_rollout_id(record.rollout.id) else None,
                something_works=self.something_works,
            )
            good_or_gone = verdict.phase is Phase.COMPLETE or snapshot.deployment is None
            if good_or_gone and until == math.inf and not self._is_current(snapshot, view):
                continue
            if verdict.phase not in (Phase.PROGRESSING, Phase.PAUSED):
                return verdict, snapshot
            self.publish(record.replace(rollout=verdict.of(record.rollout)))
            if time.monotonic() >= until or (verdict.phase is Phase.PAUSED and until < math.inf):
                return verdict, snapshot
            self._wait_for_change(view, verdict, snapshot, min(until, time.monotonic() + meanwhile()))

    def _look(self, view: View, until: float, meanwhile: Callable[[], float]) -> Snapshot | None:
        """Return a snapshot that is no older than the rollout; None when this process has sent a newer one."""
        # Without a look at the cluster: after many signals at once, the Deployment controller is far behind.
        while not self.is_superseded:
            snapshot = view.snapshot(self._events)
            if snapshot is None and view.trouble:
                message = f"it can't be followed: {view.trouble}"
                self.publish(self.record.replace(rollout=self.record.rollout.replace(message=message)))
            if snapshot and self._own(snapshot.deployment) is None:
                return GONE  # Another Deployment of this name isn't ours.
            if snapshot and snapshot.deployment["metadata"]["generation"] >= self._generation:
                return snapshot
            if time.monotonic() >= until + MAX_FIRST_LOOK_SECONDS:
                raise view.trouble or Unreachable("the API server can't be watched; try again")
            view.wait(min(meanwhile(), math.inf if until == math.inf else 1))
        return None

    def _is_current(self, snapshot: Snapshot, view: View) -> bool:
        """Ask the API server once before a final verdict: a watch that broke silently looks like one without news."""
        try:
            live = self._cluster.read_deployment(self.manifest.namespace, self.manifest.name)
        except Refusal:
            view.wait(1)
            return False
        seen = _version(snapshot.deployment)
        if _version(self._own(live)) == seen:
            return True
        view.wait(0.5)
        again = view.snapshot([])
        if again and _version(self._own(again.deployment)) == seen:
            view.refresh()
        return False

    def _wait_for_change(self, view: View, verdict: Verdict, snapshot: Snapshot, until: float) -> None:
        """Wait until something changes, or time alone may change the verdict; read events when they are due."""
        wakes = [until - time.monotonic(), math.inf if verdict.look_again is None else verdict.look_again]
        if verdict.phase is Phase.PROGRESSING and snapshot.troubled_pods(self.record.template):
            if time.monotonic() >= self._next_warnings:
                self._events = read_events(self._cluster, snapshot, self.record.template)
                self._warnings_pause *= 2
                self._next_warnings = time.monotonic() + self._warnings_pause
                return
            wakes.append(self._next_warnings - time.monotonic())
        view.wait(max(min(wakes), 0.01))

    def _own(self, deployment: dict | None) -> dict | None:
        return deployment if deployment and deployment["metadata"]["uid"] == self.uid else None


def _version(deployment: dict | None) -> str | None:
    return deployment["metadata"]["resourceVersion"] if deployment else None
