"""The clock that everything in the simulated cluster runs by; times and random names."""

import heapq
import itertools
import random
import sys
import threading
import time
import traceback
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

LETTERS = "bcdfghjklmnpqrstvwxz2456789"


def now(seconds: float = 0) -> str:
    """Return the time in so many seconds as the API writes it, without fractions."""
    return (datetime.now(UTC) + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


def age(timestamp: str) -> float:
    """Return how many seconds ago a timestamp was."""
    return (datetime.now(UTC) - datetime.fromisoformat(timestamp)).total_seconds()


def random_letters(count: int) -> str:
    """Return a random end for a name, of the letters that Kubernetes uses."""
    return "".join(random.choices(LETTERS, k=count))


class Clock(threading.Thread):
    """One thread that does what is due, and sleeps until something is due."""

    def __init__(self):
        super().__init__(daemon=True, name="simulated-clock")
        self._wake, self._heap, self._due = threading.Condition(), [], {}
        self._count, self._stopped = itertools.count(), False

    def after(self, seconds: float, key: tuple, act: Callable[[], None]) -> None:
        """Call act later; of several calls with the same key only the earliest happens."""
        due = time.monotonic() + seconds
        with self._wake:
            if self._due.get(key, due + 1) <= due:
                return
            self._due[key] = due
            heapq.heappush(self._heap, (due, next(self._count), key, act))
            if self._heap[0][0] == due:
                self._wake.notify()

    def stop(self) -> None:
        """End the thread."""
        with self._wake:
            self._stopped = True
            self._wake.notify()

    def run(self):
        while True:
            with self._wake:
                while not self._stopped and (not self._heap or self._heap[0][0] > time.monotonic()):
                    self._wake.wait(self._heap[0][0] - time.monotonic() if self._heap else None)
                if self._stopped:
                    return
                due, _, key, act = heapq.heappop(self._heap)
                if self._due.get(key) != due:
                    continue
                del self._due[key]
            try:
                act()
            except Exception:
                traceback.print_exc(file=sys.stderr)
