"""When a pod counts as settled, and when its problem doesn't go away: rules for one pod. They make no call."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from cluster.snapshot import condition

# A container that can't be created for longer than this is more than a node's bad moment.
MAX_CREATION_SECONDS = 30
# How often a container may end before waiting is no use. A first installation may wait for its database; where an
# earlier version works, the database is there.
MAX_ENDS, MAX_ENDS_WHERE_SOMETHING_WORKS = 3, 2
# A program that ends this often is no use either, however long it ran each time.
MAX_ENDS_AFTER_LONG_RUNS = 5

# https://github.com/kubernetes/kubernetes/blob/master/pkg/kubelet/images/types.go
_PULL_NEVER_WORKS = {"InvalidImageName", "ErrImageNeverPull"}
_PULL_FAILS = {"ErrImagePull", "ImagePullBackOff"}
# What registries say when they don't have the image, or don't give it to us. Rate limits and time-outs may heal.
_PULL_REFUSED = re.compile(
    r"not found|manifest unknown|name_unknown|does not exist|access denied|denied:|unauthorized|no basic auth|"
    r"403 forbidden|insufficient_scope",
    re.IGNORECASE,
)
_PULL_MAY_HEAL = re.compile(r"toomanyrequests|too many requests|rate limit|\b(429|50\d)\b|no such host", re.IGNORECASE)
_ABOUT_PULLING = re.compile(r"Failed to pull image|Error: (?:ErrImagePull|ImagePullBackOff)")
_CREATION_FAILS = {"CreateContainerError", "RunContainerError"}
# The runtime can't start such a program, now or later: it isn't there, or isn't allowed.
NEVER_STARTS = {"StartError", "ContainerCannotRun"}


@dataclass(frozen=True)
class PodRules:
    """Judge pods at one moment; `settle` is in seconds, `events` are those of all pods.

    `started` is when this service began the rollout, None for a foreign one. `something_works`: an earlier rollout of
    the Deployment worked. `probed` are the containers with a readiness or startup probe.
    """

    events: list[dict]
    now: datetime
    settle: int
    started: datetime | None = None
    something_works: bool = False
    probed: frozenset[str] = frozenset()

    def seconds_to_settle(self, pod: dict) -> float | None:
        """Return in how many seconds a pod will have been ready for long enough, without a restart since.

        None if it isn't ready.
        """
        ready = condition(pod, "Ready")
        if ready.get("status") != "True":
            return None
        if self.settle == 0:
            return 0
        # A container that is restarted at once may leave the condition Ready as it was; a node's clock may lag.
        times = [ready.get("lastTransitionTime")]
        times += [each.get("state", {}).get("running", {}).get("startedAt") for each in container_statuses(pod)]
        since = [parse_time(each) for each in times if each] + ([self.started] if self.started else [])
        # Kubernetes cuts its times off to whole seconds: only one second more proves that the time has passed.
        return self.settle + 1 - (self.now - max(since, default=self.now)).total_seconds()

    def is_stuck(self, pod: dict) -> bool:
        """Tell whether a pod has a problem that doesn't go away by itself."""
        return any(self._container_is_stuck(pod, each) for each in container_statuses(pod))

    def is_settled(self, pod: dict) -> bool:
        """Tell whether a pod has been ready for long enough."""
        seconds = self.seconds_to_settle(pod)
        return seconds is not None and seconds <= 0

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
        """Return the warning events about an object."""
        return (event for event in self.events_of(thing) if event.get("type") == "Warning")

    def events_of(self, thing: dict) -> list[dict]:
        """Return the events about an object, the newest last, each with a message."""
        uid = thing["metadata"]["uid"]
        found = [{"message": ""} | event for event in self.events if event["involvedObject"].get("uid") == uid]
        return sorted(found, key=lambda event: event.get("lastTimestamp") or event.get("eventTime") or "")

    def _container_is_stuck(self, pod: dict, container: dict) -> bool:
        waiting = container.get("state", {}).get("waiting", {})
        reason, message = waiting.get("reason"), waiting.get("message") or ""
        if reason in _PULL_NEVER_WORKS or never_starts(container):
            return True
        if reason == "CreateContainerConfigError":
            return not ("failed to sync" in message and "cache" in message)
        if reason in _PULL_FAILS:
            words = [message, *(event["message"] for event in self.warnings(pod) if event.get("reason") == "Failed")]
            words = [_without_names(each) for each in words]
            return any(_PULL_REFUSED.search(each) and not _PULL_MAY_HEAL.search(each) for each in words)
        if reason in _CREATION_FAILS and self.seconds_to_create(pod) is None:
            return True
        return self._ends_too_often(pod, container) and not self.is_settled(pod)

    def _ends_too_often(self, pod: dict, container: dict) -> bool:
        ends = ends_of(container)
        # Before its last end it was ready for long enough to count as settled: what was before that counts no more.
        # Without a probe it is ready for as long as it runs; with one, only the kubelet knew. While an init container
        # runs, the pod is not ready.
        unknown = container["name"] in self.probed or container in pod["status"].get("initContainerStatuses", [])
        if self.settle and ran_for(container) > self.settle and not unknown:
            return ends >= MAX_ENDS_AFTER_LONG_RUNS
        return ends >= (MAX_ENDS_WHERE_SOMETHING_WORKS if self.something_works else MAX_ENDS)


def last_end(container: dict) -> dict:
    """Return how a container ended last; an empty dict if it never did."""
    return container.get("state", {}).get("terminated") or container.get("lastState", {}).get("terminated") or {}


def ran_for(container: dict) -> float:
    """Return for how many seconds a container ran before it ended last; 0 if it never did."""
    end = last_end(container)
    # The runtime can't tell the times of a container that it has lost.
    if not (end.get("startedAt") and end.get("finishedAt")):
        return 0
    return (parse_time(end["finishedAt"]) - parse_time(end["startedAt"])).total_seconds()


def ends_of(container: dict) -> int:
    """Return how often a container has ended."""
    running = "running" in container.get("state", {})
    return container.get("restartCount", 0) + (1 if last_end(container) and not running else 0)


def never_starts(container: dict) -> bool:
    """Tell whether the runtime can't start the program of a container."""
    return "running" not in container.get("state", {}) and last_end(container).get("reason") in NEVER_STARTS


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


def _without_names(message: str) -> str:
    # Quotations, and words with a slash or an at sign: an image may be named after a registry's refusal.
    bare = re.sub(r'"[^"]*"', " ", message)
    return " ".join(word for word in bare.split() if "/" not in word and "@" not in word)
