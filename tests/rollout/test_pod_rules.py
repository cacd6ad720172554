"""When a pod has settled, and when waiting doesn't cure it: it crashes, or its containers can't be created."""

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


# Crashing


CRASHES = [
    # the state, how it last ended, the restarts, the problem, and whether the pod is stuck
    (exited(1), {}, 0, "Error (1)", False),
    (waiting("CrashLoopBackOff"), exited(1), 1, "CrashLoopBackOff (1)", False),
    (exited(1), exited(1), 1, "CrashLoopBackOff (1)", False),
    (waiting("CrashLoopBackOff"), exited(1), 2, "CrashLoopBackOff (1)", True),
    (exited(1), exited(1), 2, "CrashLoopBackOff (1)", True),
    (waiting("CrashLoopBackOff"), exited(128, "StartError"), 2, "CrashLoopBackOff (128)", True),
    (waiting("CrashLoopBackOff"), exited(137, "OOMKilled"), 2, "OOMKilled (137)", True),
    (exited(137, "OOMKilled"), {}, 0, "OOMKilled (137)", False),
    (running("2026-11-22T22:04:11Z"), exited(1), 2, "CrashLoopBackOff (1)", False),
    (running("2026-11-22T22:04:11Z"), exited(1), 3, "CrashLoopBackOff (1)", True),
    (waiting("CrashLoopBackOff"), exited(1), 7, "CrashLoopBackOff (1)", True),
    (waiting("CrashLoopBackOff"), exited(0), 2, "CrashLoopBackOff (0)", False),
    (waiting("CrashLoopBackOff"), exited(0), 3, "CrashLoopBackOff (0)", True),
]


@pytest.mark.parametrize("of", ["containerStatuses", "initContainerStatuses"])
@pytest.mark.parametrize(("state", "last", "restarts", "problem", "stuck"), CRASHES)
def test_crashing_after_two_or_three_restarts(of, state, last, restarts, problem, stuck):
    case = starting("PodInitializing")
    for pod in case.pods:
        if of == "initContainerStatuses":
            add(pod, name="app")
        edit(pod, of, state=state, lastState=last, restartCount=restarts)
    phase, problems = case.found()
    assert phase is (FAILED if stuck else PROGRESSING)
    assert problem in [each.removeprefix("app: ") for each in problems]


@pytest.mark.parametrize(
    ("last", "restarts", "stuck"), [(exited(1), 2, False), (exited(0), 2, False), (exited(0), 3, True)]
)
def test_a_program_that_ends_with_success_must_not_end_three_times(last, restarts, stuck):
    case = starting()
    for pod in case.pods:
        edit(pod, state=exited(0), lastState=last, restartCount=restarts)
    assert case.found()[0] is (FAILED if stuck else PROGRESSING)


def test_a_crashing_program_that_is_up_for_a_moment_is_named_too():
    case = up()
    for pod in case.pods:
        ready(pod, case.time(-1))
        edit(pod, lastState=exited(0), restartCount=3)
    phase, problems = case.found()
    assert phase is FAILED
    assert [each.rpartition(" ")[2] for each in problems] == ["(0)"]


def test_three_restarts_and_then_up_for_long_enough_is_a_success():
    case = up()
    for pod in case.pods:
        ready(pod, case.time(-11))
        edit(pod, lastState=exited(1), restartCount=3)
    assert case.found() == (COMPLETE, [])


def test_one_crashing_pod_of_two_is_a_problem_but_no_failure():
    case = running_unready()
    edit(case.pods[0], state=waiting("CrashLoopBackOff"), lastState=exited(1), restartCount=5)
    assert case.found() == (PROGRESSING, ["app: CrashLoopBackOff (1)", "app: ContainersNotReady"])


def test_each_pod_may_be_stuck_for_another_reason():
    case = starting("InvalidImageName", 'Failed to apply default image tag "a b"')
    edit(case.pods[0], state=waiting("CrashLoopBackOff"), lastState=exited(1), restartCount=2)
    assert case.found() == (FAILED, ["app: CrashLoopBackOff (1)", "app: InvalidImageName"])


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
