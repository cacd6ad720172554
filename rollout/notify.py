"""Sends messages about verdicts by Apprise, and writes the Events that `kubectl describe` shows."""

import logging
import socket
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from types import ModuleType

from cluster.api import Cluster
from cluster.backoff import Backoff
from errors import Conflict, Refusal
from rollout.model import Rollout

log = logging.getLogger(__name__)

# Attempts to send a message to a URL, and the seconds between them.
MAX_ATTEMPTS = 4
MIN_PAUSE_SECONDS, MAX_PAUSE_SECONDS = 4, 20
# https://kubernetes.io/docs/reference/kubernetes-api/cluster-resources/event-v1/: 1 KiB
MAX_EVENT_CHARACTERS = 1000
_CANNOT_BE_READ = "NOTIFY_URLS_FILE can't be read: %s"


class Notifier:
    """Send messages to the URLs of a file, one per line, read when used."""

    def __init__(self, urls_file: Path | None) -> None:
        self._urls_file = urls_file

    @property
    def wanted(self) -> bool:
        """Whether there is a file of URLs."""
        return self._urls_file is not None

    def send(self, title: str, text: str, failed: bool, may_go_on: Callable[[], bool] = lambda: True) -> bool:
        """Send a message to every URL, again after a while where that fails; return whether any URL took it.

        One URL of several that never works is only logged: the others don't get the message again for it. Stops when
        `may_go_on`, which is asked before each attempt, returns False.
        """
        try:
            urls = list(_urls(self._urls_file.read_text()).values())
        except (OSError, UnicodeDecodeError) as error:
            log.error(_CANNOT_BE_READ, type(error).__name__)
            return False
        apprise = _apprise()
        kind = apprise.NotifyType.FAILURE if failed else apprise.NotifyType.SUCCESS
        left, backoff = list(urls), Backoff(MIN_PAUSE_SECONDS, MAX_PAUSE_SECONDS)
        for attempt in range(1, MAX_ATTEMPTS + 1):
            # One by one: a URL that has the message doesn't get it again.
            for url in tuple(left):
                if not may_go_on():
                    return False
                if _delivered(apprise, url, title, text, kind):
                    left.remove(url)
            if not left:
                return True
            if attempt < MAX_ATTEMPTS:
                backoff.pause()
        log.error("%s of %s notifications could not be delivered: %s", len(left), len(urls), title)
        return len(left) < len(urls)


def unusable_lines(urls_file: Path | None) -> list[str]:
    """Return a sentence for each line of the file of URLs that Apprise can't use: its number, as its text is secret."""
    try:
        text = urls_file.read_text() if urls_file else ""
    except (OSError, UnicodeDecodeError) as error:
        return [_CANNOT_BE_READ % type(error).__name__]
    return [f"{urls_file}, line {number}, gets no message: Apprise can't use this URL" for number in _unusable(text)]


# The readiness probe asks every few seconds.
@lru_cache(maxsize=1)
def _unusable(text: str) -> list[int]:
    return [number for number, url in _urls(text).items() if not _apprise().Apprise().add(url)]


def _urls(text: str) -> dict[int, str]:
    """Return the URLs by the number of their line."""
    lines = {number: line.strip() for number, line in enumerate(text.splitlines(), 1)}
    return {number: line for number, line in lines.items() if line and not line.startswith("#")}


def _apprise() -> ModuleType:
    # Not at the top: it takes 10 MiB, which a service without messages doesn't need.
    import apprise

    # Apprise logs its URLs, which may hold tokens.
    logging.getLogger("apprise").setLevel(logging.CRITICAL)
    return apprise


def _delivered(apprise: object, url: str, title: str, text: str, kind: object) -> bool:
    one = apprise.Apprise()
    return bool(one.add(url)) and bool(one.notify(title=title, body=text, notify_type=kind))


def new_event(rollout: Rollout, uid: str, reason: str, message: str) -> dict:
    """Make an Event about the Deployment with this uid."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    about = {"apiVersion": "apps/v1", "kind": "Deployment", "name": rollout.deployment, "namespace": rollout.namespace}
    return {
        # A name that is always the same: what arrives twice, since an answer was lost, is refused the second time.
        "metadata": {"name": f"{uid}.{rollout.id}.{reason}".lower(), "namespace": rollout.namespace},
        "involvedObject": about | {"uid": uid},
        "type": "Warning" if reason == "RolloutFailed" else "Normal",
        "reason": reason,
        "message": message[:MAX_EVENT_CHARACTERS],
        "source": {"component": "auto-deployer"},
        "reportingComponent": "auto-deployer",
        "reportingInstance": socket.gethostname(),
        "firstTimestamp": now,
        "lastTimestamp": now,
        "count": 1,
    }


def write_event(cluster: Cluster, rollout: Rollout, uid: str, reason: str, message: str) -> None:
    """Write an Event about the Deployment with this uid, once for each reason; an error of the API is only logged."""
    try:
        with suppress(Conflict):  # It is there already.
            cluster.create_event(rollout.namespace, new_event(rollout, uid, reason, message))
    except Refusal as error:
        log.warning("no Event was written: %s", error, extra=rollout.log_fields)
