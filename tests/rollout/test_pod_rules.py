"""When a pod has settled, and when waiting doesn't cure it: its containers can't be created."""

from datetime import timedelta

import pytest

from rollout.model import Phase
from tests.rollout.cases import (
    RATE_LIMITED,
    add,
    condition,
    count,
    edit,
    exited,
    ready,
    running,
    running_unready,
    starting,
    up,
    waiting,
)

PROGRESSING, COMPLETE, FAILED = Phase.PROGRESSING, Phase.COMPLETE, Phase.FAILED


# Init containers and sidecars


def test_an_init_container_that_is_done():
    case = starting("PodInitializing")
    for pod in case.pods:
        add(pod, name="migrate", ready=True, state=exited(0), restartCount=0)
    assert case.found() == (PROGRESSING, [])


def test_an_init_container_that_succeeded_at_its_fourth_attempt():
    case = running_unready()
    for pod in case.pods:
        add(pod, name="migrate", ready=True, state=exited(0), lastState=exited(1), restartCount=3)
    assert case.found() == (PROGRESSING, ["app: ContainersNotReady"])
    for pod in case.pods:
        ready(pod, case.time(-11))
    count(case, ready=2, available=2)
    assert case.found() == (COMPLETE, [])


def test_an_init_container_at_work():
    case = starting("PodInitializing")
    for pod in case.pods:
        add(pod, name="migrate", state=running(case.time(-300)))
    assert case.found() == (PROGRESSING, [])


@pytest.mark.parametrize(
    ("reason", "message", "phase"),
    [
        ("ImagePullBackOff", 'Back-off pulling image "acme/migrate:2": ErrImagePull: not found', FAILED),
        ("ImagePullBackOff", 'Back-off pulling image "acme/migrate:2": ErrImagePull: i/o timeout', PROGRESSING),
        ("CreateContainerConfigError", 'secret "app-secret" not found', FAILED),
    ],
)
def test_an_init_container_that_cannot_start(reason, message, phase):
    case = starting("PodInitializing")
    for pod in case.pods:
        add(pod, name="migrate", image="acme/migrate:2", state=waiting(reason, message))
    assert case.found() == (phase, [f"migrate: {reason}"])


def test_a_restart_of_a_sidecar_starts_the_settling_again():
    case = up()
    for pod in case.pods:
        add(pod, name="proxy", state=running(case.time(-3)), lastState=exited(1), restartCount=1)
    assert case.found()[0] is PROGRESSING
    assert case.found(after=8) == (COMPLETE, [])


# Creating containers


def test_a_config_that_the_node_does_not_have_yet_is_not_fatal():
    case = starting("CreateContainerConfigError", "failed to sync configmap cache: timed out waiting for the condition")
    assert case.found() == (PROGRESSING, ["app: CreateContainerConfigError"])
    case = starting("CreateContainerConfigError", "failed to sync secret cache: timed out waiting for the condition")
    assert case.found() == (PROGRESSING, ["app: CreateContainerConfigError"])


@pytest.mark.parametrize("message", ['configmap "app" not found', "couldn't find key URL in Secret default/app"])
def test_a_config_that_is_missing_is_fatal(message):
    assert starting("CreateContainerConfigError", message).found()[0] is FAILED


@pytest.mark.parametrize("reason", ["CreateContainerError", "RunContainerError"])
@pytest.mark.parametrize(("seconds", "phase"), [(1, PROGRESSING), (29, PROGRESSING), (31, FAILED), (300, FAILED)])
def test_a_container_that_cannot_be_created_has_thirty_seconds(reason, seconds, phase):
    case = starting(reason, "context deadline exceeded")
    for pod in case.pods:
        case.warn(pod, "Failed", "Error: context deadline exceeded", at=-seconds)
    assert case.found() == (phase, [f"app: {reason}"])
    if phase is PROGRESSING:
        assert case.verdict().look_again == pytest.approx(30 - seconds, abs=1)
        assert case.found(after=32)[0] is FAILED


def test_without_an_event_the_thirty_seconds_count_from_when_the_pod_became_unready():
    case = starting("CreateContainerError", "context deadline exceeded")
    for pod in case.pods:
        condition(pod, "Ready", lastTransitionTime=case.time(-20))
    assert case.found()[0] is PROGRESSING
    assert case.found(after=11)[0] is FAILED


def test_the_time_that_pulling_took_does_not_count():
    case = starting("CreateContainerError", "context deadline exceeded")
    for pod in case.pods:
        condition(pod, "Ready", lastTransitionTime=case.time(-120))
        case.warn(pod, "Failed", f'Failed to pull image "acme/web:2": {RATE_LIMITED}', at=-119)
        case.warn(pod, "Failed", "Error: ErrImagePull", at=-119)
        case.warn(pod, "Failed", "Error: context deadline exceeded", at=-1)
    assert case.found()[0] is PROGRESSING
    assert case.found(after=31)[0] is FAILED


# Settling


@pytest.mark.parametrize(
    ("settle", "after", "phase"),
    [
        (0, 0, COMPLETE),
        (1, 1.999, PROGRESSING),
        (1, 2, COMPLETE),
        (10, 10, PROGRESSING),
        (10, 10.999, PROGRESSING),
        (10, 11, COMPLETE),
    ],
)
def test_times_are_whole_seconds_so_settling_takes_one_more(settle, after, phase):
    case = up()
    for pod in case.pods:
        ready(pod, case.time())
    assert case.found(settle, after)[0] is phase


def test_the_pod_that_was_ready_last_counts():
    case = up()
    ready(case.pods[1], case.time(-4))
    verdict = case.verdict()
    assert verdict.phase is PROGRESSING
    assert verdict.look_again == pytest.approx(7)
    assert case.found(after=7) == (COMPLETE, [])


def test_a_restart_while_the_pod_stays_ready_starts_the_settling_again():
    case = up()
    edit(case.pods[0], state=running(case.time(-2)), lastState=exited(1), restartCount=1)
    phase, problems = case.found()
    assert phase is PROGRESSING
    assert [each.rpartition(" ")[2] for each in problems] == ["(1)"]
    assert case.found(after=9) == (COMPLETE, [])


def test_the_settling_counts_from_our_start_where_the_clock_of_a_node_lags():
    case = up()
    case.started = case.now - timedelta(seconds=4)
    verdict = case.verdict()
    assert (verdict.phase, verdict.look_again) == (PROGRESSING, pytest.approx(7))
    assert case.found(after=7) == (COMPLETE, [])


def test_the_settling_never_counts_from_a_null_time():
    case = up()
    case.started = case.now - timedelta(seconds=4)
    for pod in case.pods:
        ready(pod, None)
    assert case.found(after=6)[0] is PROGRESSING
    assert case.found(after=7) == (COMPLETE, [])
    # Of a rollout that another client began, no time is known then.
    case.started = None
    assert case.found(after=3600)[0] is PROGRESSING
    for pod in case.pods:
        edit(pod, state=running(case.time(-11)))
    assert case.found() == (COMPLETE, [])


def test_without_any_time_the_thirty_seconds_for_creating_never_pass():
    case = starting("CreateContainerError", "context deadline exceeded")
    for pod in case.pods:
        condition(pod, "Ready", lastTransitionTime=None)
        case.warn(pod, "Failed", "Error: context deadline exceeded")
        case.events[-1]["firstTimestamp"] = None
    assert case.found(after=60) == (PROGRESSING, ["app: CreateContainerError"])
    assert case.found(after=611) == (FAILED, ["app: CreateContainerError"])
