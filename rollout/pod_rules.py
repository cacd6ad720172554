"""When a pod counts as settled, and when waiting doesn't cure it: the rules, one pod at a time. Pure."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from cluster.snapshot import condition

# A container that can't be created for longer than this is more than a node's bad moment.
MAX_CREATION_SECONDS = 30
# A container restarted this often counts as crashing, also while it runs for a moment.
MAX_RESTARTS = 3

# https://github.com/kubernetes/kubernetes/blob/master/pkg/kubelet/images/types.go
_PULL_NEVER_WORKS = {"InvalidImageName", "ErrImageNeverPull"}
_PULL_FAILS = {"ErrImagePull", "ImagePullBackOff"}
# What registries say when they don't have the image, or don't give it to us. Rate limits and time-outs may heal.
_PULL_REFUSED = re.compile(r"not found|manifest unknown|access denied|unauthorized|does not exist", re.IGNORECASE)
_PULL_MAY_HEAL = re.compile(r"toomanyrequests|too many requests|rate limit|\b429\b|no such host", re.IGNORECASE)
_ABOUT_PULLING = re.compile(r"Failed to pull image|Error: (?:ErrImagePull|ImagePullBackOff)")
# URLs, quotations, and words with a slash, an at sign or a tag: an image may be named after a registry's refusal.
_NAME = re.compile(r'"?\bhttps?://[^\s"]+"?|[^\s"]*[/@][^\s"]*|"[^"]*"')
_CREATION_FAILS = {"CreateContainerError", "RunContainerError"}


@dataclass(frozen=True)
class PodRules:
    """Judge pods at one moment; `settle` is in seconds, `events` are those of all pods."""

    events: list[dict]
    now: datetime
    settle: int

    def seconds_to_settle(self, pod: dict) -> float | None:
        """Return in how many seconds a pod will have been ready for long enough, without a restart since.

        None if it isn't ready.
        """
        ready = condition(pod, "Ready")
        if ready.get("status") != "True":
            return None
        if self.settle == 0:
            return 0
        since = [parse_time(ready["lastTransitionTime"])]
        # A container that is restarted at once may leave the condition Ready as it was.
        for container in container_statuses(pod):
            if started := container.get("state", {}).get("running", {}).get("startedAt"):
                since.append(parse_time(started))
        # Kubernetes cuts its times off to whole seconds: only one second more proves that the time has passed.
        return self.settle + 1 - (self.now - max(since)).total_seconds()

    def is_stuck(self, pod: dict) -> bool:
        """Tell whether a pod is in a state that waiting doesn't cure."""
        seconds_to_settle = self.seconds_to_settle(pod)
        settled = seconds_to_settle is not None and seconds_to_settle <= 0
        return any(self._container_is_stuck(pod, each, settled) for each in container_statuses(pod))

    def seconds_to_create(self, pod: dict) -> float | None:
        """Return in how many seconds a container that can't be created is given up; None if it is, or is created."""
        reasons = {each.get("state", {}).get("waiting", {}).get("reason") for each in container_statuses(pod)}
        if not reasons & _CREATION_FAILS:
            return None
        failures = [event for event in self.warnings(pod) if event.get("reason") == "Failed"]
        times = [event.get("firstTimestamp") for event in failures if not _ABOUT_PULLING.match(event["message"])]
        times = [each for each in times if each] or [condition(pod, "Ready").get("lastTransitionTime")]
        if times[0] is None:
            return MAX_CREATION_SECONDS
        left = MAX_CREATION_SECONDS - (self.now - min(map(parse_time, times))).total_seconds()
        return left if left > 0 else None

    def warnings(self, thing: dict) -> Iterator[dict]:
        """Yield the warning events about an object."""
        for event in self.events:
            if event.get("type") == "Warning" and event["involvedObject"].get("uid") == thing["metadata"]["uid"]:
                yield event

    def _container_is_stuck(self, pod: dict, container: dict, settled: bool) -> bool:
        waiting = container.get("state", {}).get("waiting", {})
        reason, message = waiting.get("reason"), waiting.get("message", "")
        if reason in _PULL_NEVER_WORKS:
            return True
        if reason == "CreateContainerConfigError":
            return not ("failed to sync" in message and "cache" in message)
        if reason in _PULL_FAILS:
            words = [message, *(event["message"] for event in self.warnings(pod) if event.get("reason") == "Failed")]
            words = [_NAME.sub(" ", each) for each in words]
            return any(_PULL_REFUSED.search(each) and not _PULL_MAY_HEAL.search(each) for each in words)
        if reason in _CREATION_FAILS and self.seconds_to_create(pod) is None:
            return True
        return _is_crashing(container) and not settled


def _is_crashing(container: dict) -> bool:
    restarts, state = container.get("restartCount", 0), container.get("state", {})
    ended = state.get("terminated") or container.get("lastState", {}).get("terminated") or {}
    down = "running" not in state and ended.get("exitCode", 0) != 0
    return restarts >= MAX_RESTARTS or (restarts >= MAX_RESTARTS - 1 and down)


def container_statuses(pod: dict) -> list[dict]:
    """Return the statuses of a pod's containers, without those of init containers that are done."""
    status = pod.get("status", {})
    first = [
        each
        for each in status.get("initContainerStatuses", [])
        if each.get("state", {}).get("terminated", {}).get("exitCode") != 0
    ]
    return [*first, *status.get("containerStatuses", [])]


def parse_time(text: str) -> datetime:
    """Read a time as the API server writes it, such as 2026-11-22T20:15:03Z."""
    return datetime.fromisoformat(text).astimezone(UTC)
