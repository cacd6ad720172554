"""Sends messages about verdicts by Apprise, and writes the Events that `kubectl describe` shows."""

import logging
import re
import socket
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from cluster.api import Cluster
from cluster.backoff import Backoff
from errors import Conflict, NotFound, Refusal
from manifest.files import configured
from rollout.model import Rollout

log = logging.getLogger(__name__)

# Attempts to send a message to a URL, and the seconds between them.
MAX_ATTEMPTS = 4
MIN_PAUSE_SECONDS, MAX_PAUSE_SECONDS = 4, 20
# https://kubernetes.io/docs/reference/kubernetes-api/cluster-resources/event-v1/: 1 KiB
MAX_EVENT_CHARACTERS = 1000
# The tag of a URL that gets only messages about failures.
FAILED = "failed"
_CANNOT_BE_READ = "NOTIFY_URLS_FILE can't be read: %s"


class Notifier:
    """Send messages to the URLs of a file in Apprise's text format, read when used; their tags say which they get."""

    def __init__(self, urls_file: Path | None, deployments_dir: Path) -> None:
        self._urls_file, self._deployments_dir = urls_file, deployments_dir

    @property
    def wanted(self) -> bool:
        """Whether there is a file of URLs."""
        return self._urls_file is not None

    def send(
        self, title: str, text: str, deployment: str, failed: bool, may_go_on: Callable[[], bool] = lambda: True
    ) -> bool:
        """Send a message to each URL that wants it, again after a while where that fails; return whether one took it.

        It is true as well where no URL wants it. One URL of several that never works is only logged: the others don't
        get the message again for it. Stops when `may_go_on`, which is asked before each attempt, returns False.
        """
        try:
            lines = _read(self._urls_file.read_text())
        except (OSError, UnicodeDecodeError) as error:
            log.error(_CANNOT_BE_READ, type(error).__name__)
            return False
        usable = [line for line in lines if not line.problem(_names(self._deployments_dir))]
        if lines and not usable:
            log.error("no line of NOTIFY_URLS_FILE can be used: %s", title)
            return False
        left = [line for line in usable if line.wants(deployment, failed)]
        number, backoff = len(left), Backoff(MIN_PAUSE_SECONDS, MAX_PAUSE_SECONDS)
        for attempt in range(1, MAX_ATTEMPTS + 1):
            # One by one: a URL that has the message doesn't get it again.
            for line in tuple(left):
                if not may_go_on():
                    return False
                if line.urls.notify(title=title, body=text, notify_type="failure" if failed else "success"):
                    left.remove(line)
            if not left:
                return True
            if attempt < MAX_ATTEMPTS:
                backoff.pause()
        log.error("%s of %s notifications could not be delivered: %s", len(left), number, title)
        return len(left) < number


class Line(NamedTuple):
    """Hold a line of the file: what Apprise made of its URL, or None where Apprise can't use it, and the tags."""

    number: int
    urls: object | None
    tags: frozenset[str]

    def problem(self, names: frozenset[str] | None) -> str | None:
        """Return why the line gets no message, or None; `names` are those of the deployments, if they are known."""
        if not self.urls:
            return "Apprise can't use this URL"
        if names is not None and self.tags - {FAILED, *names}:
            return 'one of its tags is neither "failed" nor the name of a deployment'
        return None

    def wants(self, deployment: str, failed: bool) -> bool:
        """Return whether the tags let through a message about this deployment."""
        names = self.tags - {FAILED}
        return (failed or FAILED not in self.tags) and (not names or deployment.lower() in names)


def unusable_lines(urls_file: Path | None, deployments_dir: Path) -> list[str]:
    """Return a sentence for each line of the file of URLs that gets no message: its number, as its text is secret."""
    try:
        text = urls_file.read_text() if urls_file else ""
    except (OSError, UnicodeDecodeError) as error:
        return [_CANNOT_BE_READ % type(error).__name__]
    problems = _problems(text, _names(deployments_dir)) if text else {}
    return [f"{urls_file}, line {number}, gets no message: {problem}" for number, problem in problems.items()]


# The readiness probe asks every few seconds.
@lru_cache(maxsize=1)
def _problems(text: str, names: frozenset[str] | None) -> dict[int, str]:
    return {line.number: problem for line in _read(text) if (problem := line.problem(names))}


def _names(deployments_dir: Path) -> frozenset[str] | None:
    """Return the names of the deployments as Apprise writes tags, or None where the directory can't be read."""
    try:
        return frozenset(name.lower() for name in configured(deployments_dir))
    except NotFound:
        return None


def _read(text: str) -> list[Line]:
    """Read each line by itself: to Apprise, a line that it can't read spoils the whole file."""
    lines = {number: line.strip() for number, line in enumerate(text.splitlines(), 1)}
    return [_line(number, line) for number, line in lines.items() if line and line[0] not in "#;"]


def _line(number: int, text: str) -> Line:
    apprise = _apprise()
    urls = apprise.Apprise()
    if re.match("[a-z0-9]+://", text, re.IGNORECASE):
        # Without tags, several URLs may share a line.
        return Line(number, urls if urls.add(text) else None, frozenset())
    # This opens nothing: of an `include` it only returns what it names, as the second value.
    services, _ = apprise.ConfigBase.config_parse_text(text)
    tags = frozenset(str(tag) for service in services for tag in service.tags)
    return Line(number, urls if urls.add(services) else None, tags)


def _apprise() -> ModuleType:
    # Not at the top: it takes 10 MiB, which a service without messages doesn't need.
    import apprise

    # Apprise logs its URLs, which may hold tokens.
    logging.getLogger("apprise").setLevel(logging.CRITICAL)
    return apprise


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
