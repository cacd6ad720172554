"""Wait longer and longer between attempts that fail."""

import random
import threading
import time


class Backoff:
    """Pause between attempts; each pause doubles the one before, up to a limit."""

    def __init__(self, min_seconds: float, max_seconds: float) -> None:
        self._min_seconds, self._max_seconds, self._next_seconds = min_seconds, max_seconds, min_seconds

    def pause(self, stopped: threading.Event | None = None) -> None:
        """Wait before the next attempt; the wait ends early when `stopped` is set."""
        # Callers that failed at the same moment don't try again together.
        seconds = self._next_seconds * random.uniform(0.5, 1)  # noqa: S311
        self._next_seconds = min(self._next_seconds * 2, self._max_seconds)
        wait = stopped.wait if stopped else time.sleep
        wait(seconds)

    def reset(self) -> None:
        """Make the next pause the shortest one again, since an attempt has worked."""
        self._next_seconds = self._min_seconds
