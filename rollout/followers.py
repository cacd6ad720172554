"""The followers at work in this process, and the rollouts that they have seen ending lately."""

import threading
from collections import Counter, OrderedDict
from collections.abc import Iterable

from manifest.files import Manifest
from rollout.follower import Follower
from rollout.model import Rollout

# Ended rollouts that are remembered: answers need them where nothing can be recorded.
MAX_REMEMBERED = 200

# Namespace, Deployment, rollout id.
Key = tuple[str, str, str]
# Namespace, Deployment.
Place = tuple[str, str]


class Followers:
    """Hold one follower for each rollout that is followed."""

    def __init__(self) -> None:
        self._lock, self._at_work = threading.Lock(), dict[Key, Follower]()
        self._ended: OrderedDict[Key, Rollout] = OrderedDict()
        # How often something has changed in a place.
        self._changed, self._changes = threading.Condition(), Counter[Place]()

    def get(self, key: Key) -> Follower | None:
        """Return the follower of a rollout."""
        return self._at_work.get(key)

    def of(self, manifest: Manifest) -> list[Follower]:
        """Return the followers of the rollouts of one Deployment, the newest last."""
        with self._lock:
            return [each for key, each in self._at_work.items() if key[:2] == (manifest.namespace, manifest.name)]

    def ended(self, key: Key) -> Rollout | None:
        """Return a rollout that has ended lately."""
        return self._ended.get(key)

    def add(self, follower: Follower) -> Follower:
        """Add a follower, which may supersede others; return the one that follows its rollout already, if any."""
        with self._lock:
            for key, other in self._at_work.items():
                if key[:2] == follower.key[:2] and key != follower.key:
                    other.supersede(follower)
            known = self._at_work.setdefault(follower.key, follower)
        if known is follower:
            follower.on_change = self._count
            self._count(follower)
        return known

    def remove(self, follower: Follower) -> bool:
        """Remove a follower; return whether it was the last one of its Deployment."""
        with self._lock:
            # First, since readers take no lock: an ended rollout must be found in one of the two.
            if follower.has_ended:
                self._ended[follower.key] = follower.record.rollout
            del self._at_work[follower.key]
            if len(self._ended) > MAX_REMEMBERED:
                self._ended.popitem(last=False)
            was_last = not any(key[:2] == follower.key[:2] for key in self._at_work)
        self._count(follower)
        return was_last

    def changes(self, places: Iterable[Place]) -> tuple[int, ...]:
        """Return numbers that differ as soon as this process sees a change of a rollout in one of these places."""
        return tuple(self._changes[place] for place in places)

    def wait_for_change(self, places: Iterable[Place], seen: tuple[int, ...], seconds: float) -> None:
        """Wait until `changes` returns something else than `seen`, but no longer than so many seconds."""
        with self._changed:
            self._changed.wait_for(lambda: self.changes(places) != seen, seconds)

    def _count(self, follower: Follower) -> None:
        with self._changed:
            self._changes[follower.key[:2]] += 1
            self._changed.notify_all()
