"""How often something happens, so that a flood of requests can't make the service do all of it."""

import threading
from time import monotonic


class PerSecond:
    """Count within each second of the clock."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._second, self._number = 0, 0

    def count(self) -> int:
        """Return which one of this second this is: the first is 1."""
        second = int(monotonic())
        with self._lock:
            if second != self._second:
                self._second, self._number = second, 0
            self._number += 1
            return self._number
