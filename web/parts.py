"""What the views of one application share, and how a view gets it."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from flask import current_app, g, request

from access.grants import Access, Grants
from deployer import Deployer
from errors import Unreachable
from rollout.metrics import Metrics
from web import credentials

# The key of `app.extensions`: https://flask.palletsprojects.com/en/stable/extensiondev/#the-extension-class-and-initialization
EXTENSION = "auto-deployer"
# A third of uwsgi.ini's threads. A waiting request holds one; a half is for bodies that arrive, and the rest is always
# free for signals and probes.
MAX_WAITING_REQUESTS = 32
# Of these, so many may be of open pages, so that a signal can always wait for its verdict.
MAX_WAITING_PAGES = 16
# So many others may ask the cluster at a time. With those that wait for an issuer's keys, they leave threads to probes.
MAX_CALLING_REQUESTS = 20
# While the API server answers, requests queue for a place: it hangs when no place has come free for so long. A place
# that was held for longer than a working API server needs doesn't count.
MAX_STANDSTILL_SECONDS, MAX_HELD_SECONDS = 2, 5


class Waiting:
    """Count the requests that wait for a verdict, so that there are never too many of them."""

    def __init__(self, most: int = MAX_WAITING_REQUESTS) -> None:
        self._free = threading.BoundedSemaphore(most)

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


class Calling:
    """Count the requests that ask the cluster, so that an API server that hangs doesn't hold all threads."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._inside, self._moved_at = 0, time.monotonic()

    @contextmanager
    def slot(self, granted: float = 0) -> Iterator[None]:
        """Hold a place; a request that was granted a wait has one already. Raises Unreachable when there is none."""
        if granted:
            yield
            return
        began = self._enter()
        try:
            yield
        finally:
            with self._changed:
                self._inside -= 1
                if time.monotonic() - began < MAX_HELD_SECONDS:
                    self._moved_at = time.monotonic()
                self._changed.notify()

    def _enter(self) -> float:
        with self._changed:
            while self._inside >= MAX_CALLING_REQUESTS:
                left = self._moved_at + MAX_STANDSTILL_SECONDS - time.monotonic()
                if left <= 0:
                    raise Unreachable("too many requests wait for the API server, which is slow to answer; try again")
                self._changed.wait(left)
            now = time.monotonic()
            if not self._inside:
                self._moved_at = now
            self._inside += 1
            return now


@dataclass(frozen=True)
class Parts:
    """Hold what the views of one application share."""

    deployer: Deployer
    access: Access
    metrics: Metrics
    waiting: Waiting
    waiting_pages: Waiting
    calling: Calling
    public_url: str | None


def parts() -> Parts:
    """Return the parts of the application that serves the current request."""
    return current_app.extensions[EXTENSION]


def grants(fields: dict | None = None) -> Grants:
    """Return what the credentials of the current request open; `fields` are those of its body. Raises a Refusal."""
    opened = parts().access.grants(credentials.read_passwords(request, fields), credentials.read_token(request))
    g.has_password = bool(opened.password_files)
    return opened
