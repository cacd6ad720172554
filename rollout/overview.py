"""Every deployment at a glance: at most two calls for each, and none while nothing changes within two seconds."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from cluster.api import Cluster
from errors import Forbidden
from manifest.annotations import lock_of
from manifest.files import Manifest
from rollout.followers import Followers, Place
from rollout.ledger import Ledger
from rollout.model import Rollout
from rollout.record import Records

MAX_AGE_SECONDS = 2
MAX_READING_THREADS = 4

# Returns how what is live stands, from the Deployment and what is recorded.
Newest = Callable[[Manifest, dict, Records], Rollout]


class Glance(NamedTuple):
    """Hold the newest rollout, None where there is none or, with a `problem`, where it can't be read.

    Hold also what is recorded, a line for each rollout as in a history, and why the Deployment is locked.
    """

    rollout: Rollout | None = None
    history: tuple[dict, ...] = ()
    locked: str | None = None
    problem: str | None = None


class Overview:
    """Look at Deployments, a few at once, and remember for a moment what was seen."""

    def __init__(self, cluster: Cluster, ledger: Ledger, followers: Followers, newest: Newest) -> None:
        self._cluster, self._ledger, self._followers, self._newest = cluster, ledger, followers, newest
        self.changes, self.wait_for_change = followers.changes, followers.wait_for_change
        self._locks: dict[Place, threading.Lock] = {}
        self._seen: dict[Place, tuple[float, tuple[int, ...], Manifest, Glance]] = {}
        self._pool = ThreadPoolExecutor(MAX_READING_THREADS, thread_name_prefix="overview")

    def glances(self, manifests: list[Manifest]) -> list[Glance]:
        """Return what is known of each Deployment. Raises a Refusal, the first that a call meets."""
        if len(manifests) == 1:
            return [self._glance(manifests[0])]
        return list(self._pool.map(self._glance, manifests))

    def _glance(self, manifest: Manifest) -> Glance:
        place = (manifest.namespace, manifest.name)
        # Requests that come together make the calls once.
        with self._locks.setdefault(place, threading.Lock()):
            changes, now = self._followers.changes([place]), time.monotonic()
            if seen := self._seen.get(place):
                since, before, of, glance = seen
                if now - since < MAX_AGE_SECONDS and before == changes and of == manifest:
                    return glance
            glance = self._look(manifest)
            # What changes during the calls is looked at again.
            self._seen[place] = (time.monotonic(), changes, manifest, glance)
            return glance

    def _look(self, manifest: Manifest) -> Glance:
        place = (manifest.namespace, manifest.name)
        try:
            records, live = self._ledger.read(*place), self._cluster.read_deployment(*place)
        except Forbidden as error:  # In another namespace, the account may have all rights.
            return Glance(problem=str(error))
        if live is None:
            return Glance()
        # Not the records, whose pod templates take memory and are not shown.
        history = tuple(record.as_history() for record in records.values())
        return Glance(self._newest(manifest, live, records), history, lock_of(live))
