"""Count how often something happens within a second, so that the service can do less for each request of a flood."""

import threading
from collections.abc import Callable
from time import monotonic

MAX_LINES_PER_SECOND = 100


class PerSecond:
    """Count within each second of the clock."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._second, self._number = 0, 0

    @property
    def number(self) -> int:
        """How often it has happened in this second."""
        return self._number if self._second == int(monotonic()) else 0

    def count(self) -> int:
        """Count once more; return how often it has happened in this second, this time included."""
        with self._lock:
            second = int(monotonic())
            if second != self._second:
                self._second, self._number = second, 0
            self._number += 1
            return self._number


def few_lines() -> Callable[[object], bool]:
    """Return a filter for a logger that any sender can make write: https://docs.python.org/3/howto/logging.html#filters"""
    lines = PerSecond()
    return lambda record: lines.count() <= MAX_LINES_PER_SECOND
