"""The limit on requests that wait for a verdict."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

# Half of uwsgi.ini's threads: a waiting request holds one, and the other half must be free for signals and probes.
MAX_WAITING_REQUESTS = 32


class Waiting:
    """Count the requests that wait, so that there are never too many of them."""

    def __init__(self) -> None:
        self._free = threading.BoundedSemaphore(MAX_WAITING_REQUESTS)

    @contextmanager
    def slot(self, seconds: float) -> Iterator[float]:
        """Yield how many seconds the request may wait: as many as it wants, or 0 when too many requests wait."""
        if not seconds or not self._free.acquire(blocking=False):
            yield 0
            return
        try:
            yield seconds
        finally:
            self._free.release()
