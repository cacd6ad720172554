"""Tells people: a message for each verdict, by Apprise, and Events that `kubectl describe` shows."""

import logging
import socket
import time
from datetime import UTC, datetime
from pathlib import Path

from cluster.api import Cluster
from errors import Refusal
from rollout.model import Phase, Rollout

log = logging.getLogger(__name__)

# Seconds between the attempts to send a message.
PAUSES = (2, 8, 20)


class Notifier:
    """Send messages to the URLs of a file, one a line, read when used."""

    def __init__(self, urls_file: Path | None) -> None:
        self._urls_file = urls_file

    @property
    def wanted(self) -> bool:
        """Whether anybody is to be told."""
        return self._urls_file is not None

    def tell(self, rollout: Rollout, cause: str) -> bool:
        """Send the message about a verdict, again after a while where that fails; return whether anybody got it.

        One URL of several that never works is a matter for the log: the others shall not be told again for it.
        """
        took = datetime.fromisoformat(rollout.finished_at) - datetime.fromisoformat(rollout.started_at)
        lines = [rollout.as_line(), f"image {rollout.image}, {cause}, took {round(took.total_seconds())} s"]
        if rollout.rolled_back_to:
            lines.append(f"rolled back to revision {rollout.rolled_back_to}")
        title = f"{rollout.deployment} in {rollout.namespace}: {rollout.phase}"
        return self._send(title, "\n".join(lines), rollout.phase is Phase.FAILED)

    def _send(self, title: str, text: str, failed: bool) -> bool:
        try:
            lines = self._urls_file.read_text().splitlines()
        except (OSError, UnicodeDecodeError) as error:
            log.error("NOTIFY_URLS_FILE can't be read: %s", type(error).__name__)
            return False
        # Only here, since it takes 10 MiB that nobody without chat messages should pay.
        import apprise

        # What Apprise logs may hold the tokens that stand in its URLs.
        logging.getLogger("apprise").setLevel(logging.CRITICAL)
        kind = apprise.NotifyType.FAILURE if failed else apprise.NotifyType.SUCCESS
        left = urls = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
        for pause in (*PAUSES, None):
            # One by one, so that those who have it don't get it again.
            left = [url for url in left if not _delivered(apprise, url, title, text, kind)]
            if not left or pause is None:
                break
            time.sleep(pause)
        if left:
            log.error("%s of %s notifications could not be delivered: %s", len(left), len(urls), title)
        return len(left) < len(urls) or not urls


def _delivered(apprise: object, url: str, title: str, text: str, kind: object) -> bool:
    one = apprise.Apprise()
    return bool(one.add(url)) and bool(one.notify(title=title, body=text, notify_type=kind))


def write_event(cluster: Cluster, rollout: Rollout, uid: str, reason: str, message: str) -> None:
    """Write an Event about the Deployment with this uid; where that fails, only the log says so."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    event = {
        "metadata": {"generateName": f"{rollout.deployment}.", "namespace": rollout.namespace},
        "involvedObject": {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "name": rollout.deployment,
            "namespace": rollout.namespace,
            "uid": uid,
        },
        "type": "Warning" if rollout.phase is Phase.FAILED else "Normal",
        "reason": reason,
        # https://kubernetes.io/docs/reference/kubernetes-api/cluster-resources/event-v1/: at most 1 KiB
        "message": message[:1000],
        "source": {"component": "auto-deployer"},
        "reportingComponent": "auto-deployer",
        "reportingInstance": socket.gethostname(),
        "firstTimestamp": now,
        "lastTimestamp": now,
        "count": 1,
    }
    try:
        cluster.create_event(rollout.namespace, event)
    except Refusal as error:
        log.warning("no Event was written: %s", error, extra={"namespace": rollout.namespace, "id": rollout.id})
