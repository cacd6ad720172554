"""How often a container may end before waiting is no use, and what can't be started at all."""

import pytest

from rollout.model import Phase
from tests.rollout.cases import add, edit, exited, ready, running, running_unready, starting, up, waiting

PROGRESSING, COMPLETE, FAILED = Phase.PROGRESSING, Phase.COMPLETE, Phase.FAILED


CRASHES = [
    # the state, how it last ended, the restarts, the problem, and how often the container has ended
    (exited(1), {}, 0, "Error (1)", 1),
    (exited(137, "OOMKilled"), {}, 0, "OOMKilled (137)", 1),
    (running("2026-11-22T22:04:11Z"), exited(1), 1, "CrashLoopBackOff (1)", 1),
    (waiting("CrashLoopBackOff"), exited(1), 1, "CrashLoopBackOff (1)", 2),
    (exited(1), exited(1), 1, "CrashLoopBackOff (1)", 2),
    (waiting("CrashLoopBackOff"), exited(0), 1, "CrashLoopBackOff (0)", 2),
    (running("2026-11-22T22:04:11Z"), exited(1), 2, "CrashLoopBackOff (1)", 2),
    (running("2026-11-22T22:04:11Z"), exited(0), 2, "CrashLoopBackOff (0)", 2),
    (waiting("CrashLoopBackOff"), exited(1), 2, "CrashLoopBackOff (1)", 3),
    (exited(1), exited(1), 2, "CrashLoopBackOff (1)", 3),
    (waiting("CrashLoopBackOff"), exited(0), 2, "CrashLoopBackOff (0)", 3),
    (waiting("CrashLoopBackOff"), exited(137, "OOMKilled"), 2, "OOMKilled (137)", 3),
    (running("2026-11-22T22:04:11Z"), exited(1), 3, "CrashLoopBackOff (1)", 3),
    (waiting("CrashLoopBackOff"), exited(0), 3, "CrashLoopBackOff (0)", 4),
    (waiting("CrashLoopBackOff"), exited(1), 7, "CrashLoopBackOff (1)", 8),
]


def containers_of(case, of, **fields):
    """Give the container of both pods, or an init container in its place, these fields."""
    for pod in case.pods:
        if of == "initContainerStatuses":
            add(pod, name="app")
        edit(pod, of, **fields)


@pytest.mark.parametrize("something_works", [True, False])
@pytest.mark.parametrize("of", ["containerStatuses", "initContainerStatuses"])
@pytest.mark.parametrize(("state", "last", "restarts", "problem", "ends"), CRASHES)
def test_two_ends_are_fatal_where_something_works_and_three_otherwise(
    of, state, last, restarts, problem, ends, something_works
):
    case = starting("PodInitializing")
    case.something_works = something_works
    containers_of(case, of, state=state, lastState=last, restartCount=restarts)
    phase, problems = case.found()
    assert phase is (FAILED if ends >= (2 if something_works else 3) else PROGRESSING)
    assert problem in [each.removeprefix("app: ") for each in problems]


@pytest.mark.parametrize("something_works", [True, False])
@pytest.mark.parametrize(
    ("last", "restarts", "problem", "ends"),
    [
        ({}, 0, "Completed (0)", 1),
        (exited(0), 1, "CrashLoopBackOff (0)", 2),
        (exited(1), 1, "CrashLoopBackOff (0)", 2),
        (exited(0), 2, "CrashLoopBackOff (0)", 3),
        (exited(1), 2, "CrashLoopBackOff (0)", 3),
    ],
)
def test_an_end_with_success_counts_like_any_end(last, restarts, problem, ends, something_works):
    case = starting()
    case.something_works = something_works
    containers_of(case, "containerStatuses", state=exited(0), lastState=last, restartCount=restarts)
    assert case.found() == (FAILED if ends >= (2 if something_works else 3) else PROGRESSING, [f"app: {problem}"])


@pytest.mark.parametrize("of", ["containerStatuses", "initContainerStatuses"])
@pytest.mark.parametrize("end", [exited(128, "StartError"), exited(127, "ContainerCannotRun")])
@pytest.mark.parametrize("restarts", [0, 1, 2])
def test_a_program_that_cannot_be_started_is_fatal_at_once(end, restarts, of):
    end["terminated"]["message"] = 'exec: "serve": executable file not found in $PATH'
    reason, code = end["terminated"]["reason"], end["terminated"]["exitCode"]
    for state, last in [
        (end, {}),
        (waiting("RunContainerError", "it can't run"), end),
        (waiting("CrashLoopBackOff", "back-off 10s restarting failed container"), end),
    ]:
        case = starting("PodInitializing")
        containers_of(case, of, state=state, lastState=last, restartCount=restarts)
        assert case.found() == (FAILED, [f"app: {reason} ({code})"])
        assert case.verdict().problems[0].message == 'exec: "serve": executable file not found in $PATH'


def test_a_program_that_is_started_after_all_is_not_fatal():
    case = running_unready()
    containers_of(case, "containerStatuses", lastState=exited(128, "StartError"), restartCount=1)
    assert case.found() == (PROGRESSING, ["app: CrashLoopBackOff (128)"])


# What is ready for long enough in between starts to count anew


@pytest.mark.parametrize(
    ("seconds", "restarts", "phase"),
    [
        (10, 3, FAILED),
        (11, 3, PROGRESSING),
        # A program that ends again and again is no use, however long it runs each time.
        (11, 4, FAILED),
        (600, 4, FAILED),
    ],
)
def test_an_end_after_a_long_run_is_the_first_one(seconds, restarts, phase):
    case = starting()
    long_run = exited(1)
    long_run["terminated"] |= {"startedAt": case.time(-seconds - 1), "finishedAt": case.time(-1)}
    containers_of(
        case, "containerStatuses", state=waiting("CrashLoopBackOff"), lastState=long_run, restartCount=restarts
    )
    assert case.found() == (phase, ["app: CrashLoopBackOff (1)"])


@pytest.mark.parametrize("probe", ["readinessProbe", "startupProbe"])
def test_a_container_with_a_probe_may_have_run_for_long_without_being_ready(probe):
    case = starting()
    for template in (case.template, case.deployment["spec"]["template"], case.replicaset["spec"]["template"]):
        template["spec"]["containers"][0] |= {"name": "app", probe: {"httpGet": {"path": "/", "port": 80}}}
    long_run = exited(1)
    long_run["terminated"] |= {"startedAt": case.time(-61), "finishedAt": case.time(-1)}
    containers_of(case, "containerStatuses", state=waiting("CrashLoopBackOff"), lastState=long_run, restartCount=2)
    assert case.found() == (FAILED, ["app: CrashLoopBackOff (1)"])


def test_a_pod_is_not_ready_while_an_init_container_runs_however_long():
    case = starting("PodInitializing")
    long_run = exited(1)
    long_run["terminated"] |= {"startedAt": case.time(-61), "finishedAt": case.time(-1)}
    containers_of(case, "initContainerStatuses", state=waiting("CrashLoopBackOff"), lastState=long_run, restartCount=2)
    assert case.found() == (FAILED, ["app: CrashLoopBackOff (1)"])


@pytest.mark.parametrize("time", ["startedAt", "finishedAt"])
def test_an_end_without_times_counts_like_any_end(time):
    case = starting()
    lost = exited(137, "ContainerStatusUnknown")
    lost["terminated"][time] = None
    containers_of(case, "containerStatuses", state=waiting("CrashLoopBackOff"), lastState=lost, restartCount=2)
    assert case.found() == (FAILED, ["app: CrashLoopBackOff (137)"])


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
