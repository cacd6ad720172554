"""What the views of one application share, and how a view gets it."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from flask import current_app, request

from access.grants import Access, Grants
from deployer import Deployer
from rollout.metrics import Metrics
from web import parsing

# The key of `app.extensions`: https://flask.palletsprojects.com/en/stable/extensiondev/#the-extension-class-and-initialization
EXTENSION = "auto-deployer"
# A third of uwsgi.ini's threads. A waiting request holds one; a half is for bodies that arrive, and the rest is always
# free for signals and probes.
MAX_WAITING_REQUESTS = 32


class Waiting:
    """Count the requests that wait for a verdict, so that there are never too many of them."""

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


@dataclass(frozen=True)
class Parts:
    """Hold what the views of one application share."""

    deployer: Deployer
    access: Access
    metrics: Metrics
    waiting: Waiting


def parts() -> Parts:
    """Return the parts of the application that serves the current request."""
    return current_app.extensions[EXTENSION]


def grants(fields: dict | None = None) -> Grants:
    """Return what the credentials of the current request open; `fields` are those of its body. Raises WrongPassword."""
    token = parsing.read_authorization(request, "bearer")
    return parts().access.grants(parsing.read_passwords(request, fields), token)
