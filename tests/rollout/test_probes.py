"""What a probe reports, and which container a probe killed."""

import pytest

from rollout.model import Phase
from tests.rollout.cases import add, edit, exited, ready, running, running_unready, up

PROGRESSING, COMPLETE, FAILED = Phase.PROGRESSING, Phase.COMPLETE, Phase.FAILED


def test_a_failing_probe_is_reported_in_its_own_words():
    case = running_unready()
    for pod in case.pods:
        case.warn(pod, "Unhealthy", "Readiness probe failed: HTTP probe failed with statuscode: 503")
    assert case.found() == (PROGRESSING, ["app: ContainersNotReady"])
    message = case.verdict().problems[0].message
    assert "containers with unready status: [app]" in message
    assert "Readiness probe failed: HTTP probe failed with statuscode: 503" in message


def test_a_probe_that_failed_before_is_no_problem():
    case = up()
    for pod in case.pods:
        ready(pod, case.time(-1))
        case.warn(pod, "Unhealthy", "Readiness probe failed: connection refused", at=-9)
    assert case.found() == (PROGRESSING, [])


def test_only_the_container_that_is_unready_is_named():
    case = running_unready()
    for pod in case.pods:
        add(pod, "containerStatuses", name="proxy", ready=True)
    assert case.found() == (PROGRESSING, ["app: ContainersNotReady"])


LIVENESS = "Liveness probe failed: HTTP probe failed with statuscode: 404"
KILLING = "Container app failed liveness probe, will be restarted"


def ended_at(case, seconds, code=0, reason=None, ran=9):
    """Return how a container ended so many seconds from now."""
    end = exited(code, reason)
    end["terminated"] |= {"startedAt": case.time(seconds - ran), "finishedAt": case.time(seconds)}
    return end


def killed(code=0, reason=None):
    """Return a case in which one pod's container ended 3 s ago, for the first time, and runs again."""
    case = running_unready()
    edit(case.pods[0], state=running(case.time(-2)), lastState=ended_at(case, -3, code, reason), restartCount=1)
    return case


def tell(case, pod, reason, message, at=-1, container="app", kind="Warning"):
    """Add an event about a container of a pod."""
    case.warn(pod, reason, message, at)
    case.events[-1]["type"] = kind
    case.events[-1]["involvedObject"]["fieldPath"] = f"spec.containers{{{container}}}"


def said_of(case):
    return case.verdict().problems[0].message


@pytest.mark.parametrize("kind", ["Liveness", "Startup"])
@pytest.mark.parametrize("code", [0, 1, 137, 143])
def test_a_probe_that_killed_a_container_is_named(code, kind):
    case, words = killed(code), LIVENESS.replace("Liveness", kind)
    tell(case, case.pods[0], "Unhealthy", words, at=-4)
    tell(case, case.pods[0], "Killing", KILLING.replace("liveness", kind.lower()), at=-3, kind="Normal")
    assert case.found() == (PROGRESSING, [f"app: CrashLoopBackOff ({code})", "app: ContainersNotReady"])
    assert said_of(case) == words


def test_the_newest_words_of_a_probe_are_the_problem():
    case = killed()
    tell(case, case.pods[0], "Unhealthy", LIVENESS.replace("404", "503"), at=-4)
    tell(case, case.pods[0], "Unhealthy", LIVENESS, at=-5)
    assert said_of(case) == LIVENESS.replace("404", "503")


def test_the_killing_alone_names_the_probe():
    case = killed(137)
    tell(case, case.pods[0], "Killing", KILLING, at=-3, kind="Normal")
    assert said_of(case) == KILLING


@pytest.mark.parametrize(("code", "reason"), [(1, None), (137, "OOMKilled")])
def test_a_probe_that_failed_once_is_not_named_for_a_program_that_ended_by_itself(code, reason):
    case = killed(code, reason)
    tell(case, case.pods[0], "Unhealthy", LIVENESS, at=-5)
    assert said_of(case) == "restarted once"


def test_the_probe_of_another_container_an_earlier_instance_or_for_readiness_is_not_named():
    case = killed()
    tell(case, case.pods[0], "Unhealthy", LIVENESS, at=-4, container="proxy")
    tell(case, case.pods[0], "Unhealthy", LIVENESS, at=-13)
    tell(case, case.pods[1], "Unhealthy", LIVENESS, at=-4)
    tell(case, case.pods[0], "Unhealthy", LIVENESS.replace("Liveness", "Readiness"), at=-4)
    # A program that has ended once with success, and runs again.
    assert case.found() == (PROGRESSING, ["app: ContainersNotReady"])
