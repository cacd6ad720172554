"""How long to wait before the next attempt."""

import random
import threading
import time


class Backoff:
    """Space out attempts: each pause doubles the one before, up to a limit, with jitter."""

    def __init__(self, min_seconds: float, max_seconds: float) -> None:
        self._min_seconds, self._max_seconds = min_seconds, max_seconds
        self.reset()

    def reset(self) -> None:
        """Begin with the shortest pause again."""
        self._seconds = self._min_seconds

    def pause(self, stopped: threading.Event | None = None) -> None:
        """Wait before the next attempt; no longer once `stopped` is set."""
        seconds = self._seconds * random.uniform(0.5, 1)  # noqa: S311
        self._seconds = min(self._seconds * 2, self._max_seconds)
        if stopped:
            stopped.wait(seconds)
        else:
            time.sleep(seconds)
