"""Every deployment at a glance: at most two calls for each, and none while nothing changes within two seconds."""

import re
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import NamedTuple

from cluster.snapshot import Snapshot, condition, revision_of
from manifest.files import Manifest
from rollout.followers import Followers, Place
from rollout.model import Phase, Rollout
from rollout.pod_rules import parse_time
from rollout.record import Records, foreign_record
from rollout.verdict import judge

MAX_AGE_SECONDS = 2
MAX_READING_THREADS = 4


class Glance(NamedTuple):
    """Hold the newest rollout, None where there is none or, with a `problem`, where it can't be read.

    Hold also the recorded rollouts, and why the Deployment is locked.
    """

    rollout: Rollout | None = None
    history: Records = Records()
    locked: str | None = None
    problem: str | None = None


class Overview:
    """Look at Deployments, a few at once, and remember for a moment what was seen."""

    def __init__(self, look: Callable[[Manifest], Glance], followers: Followers) -> None:
        self._look, self._followers = look, followers
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


def foreign_rollout(live: dict, settle: int) -> Rollout:
    """Describe a rollout that another client started, as far as the Deployment alone tells of it."""
    progress, status = condition(live, "Progressing"), live.get("status", {})
    named = re.search(r'ReplicaSet "([^"]+)"', progress.get("message", ""))
    started_at = parse_time(progress.get("lastUpdateTime") or live["metadata"]["creationTimestamp"])
    record = foreign_record(live, named[1] if named else live["metadata"]["name"], started_at)
    verdict = judge(record.template, Snapshot(live, [], [], []), datetime.now(UTC), settle, started=None)
    rollout = verdict.of(record.rollout).replace(revision=revision_of(live))
    numbers = [status.get(field, 0) for field in ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas")]
    desired, ready = rollout.replicas.desired, numbers[2]
    rollout = rollout.replace(replicas=rollout.replicas.replace(ready=ready, available=numbers[3]))
    if rollout.phase is not Phase.PROGRESSING:
        return rollout
    if set(numbers) == {desired} and status.get("observedGeneration", 0) >= live["metadata"]["generation"]:
        message = "1 pod is ready" if desired == 1 else f"{desired} pods are ready"
        return rollout.replace(phase=Phase.COMPLETE, message=message, problems=())
    return rollout.replace(message=f"{ready} of {desired} pods {'is' if ready == 1 else 'are'} ready", problems=())
