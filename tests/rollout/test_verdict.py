"""The verdict on edited copies of recordings: the Deployment itself, its numbers, its deadline."""

import copy
from datetime import timedelta

import pytest

from cluster.snapshot import Snapshot
from rollout.model import Phase, Replicas
from rollout.verdict import judge
from tests.rollout.cases import Case, count, just_up, late, ready, running_unready, starting, up

PROGRESSING, COMPLETE, FAILED, SUPERSEDED, PAUSED = (
    Phase.PROGRESSING,
    Phase.COMPLETE,
    Phase.FAILED,
    Phase.SUPERSEDED,
    Phase.PAUSED,
)


# The Deployment itself


def test_a_deployment_that_is_deleted_has_failed():
    case = up()
    case.deployment["metadata"]["deletionTimestamp"] = case.time()
    verdict = case.verdict()
    assert verdict.phase is FAILED
    assert "deleted" in verdict.message
    template, case.deployment = case.template, None
    verdict = judge(template, Snapshot(None, [], [], []), case.now, 10, case.started)
    assert verdict.phase is FAILED
    assert "deleted" in verdict.message


def test_kubectl_set_image_keeps_the_rollout_id_and_supersedes_all_the_same():
    case = up()
    case.deployment["spec"]["template"]["spec"]["containers"][0]["image"] = "acme/web:3"
    assert case.found() == (SUPERSEDED, [])


@pytest.mark.parametrize("make", [up, lambda: starting("ErrImageNeverPull"), lambda: Case("quota-exceeded")])
def test_nothing_is_decided_before_the_controller_has_seen_the_change(make):
    case = make()
    case.deployment["metadata"]["generation"] += 1
    case.progressing.update(status="False", reason="ProgressDeadlineExceeded")
    assert case.found(settle=0)[0] is PROGRESSING


def test_paused_in_the_middle():
    case = running_unready()
    case.deployment["spec"]["paused"] = True
    assert case.found()[0] is PAUSED
    case.deployment["spec"]["template"]["spec"]["containers"][0]["image"] = "acme/web:3"
    assert case.found()[0] is SUPERSEDED


def test_zero_replicas_are_complete_while_old_pods_terminate():
    case = Case("complete", 7)
    case.deployment["spec"]["replicas"] = 0
    assert case.found() == (COMPLETE, [])


def test_an_autoscaler_adds_a_pod_meanwhile():
    case = up()
    case.deployment["spec"]["replicas"] = 3
    verdict = case.verdict()
    assert verdict.phase is PROGRESSING
    assert "2 of 3" in verdict.message
    third = copy.deepcopy(case.pods[0])
    third["metadata"] |= {"name": "complete-6df5bc6f8f-third", "uid": "third"}
    ready(third, case.time())
    case.everything.append(third)
    count(case, total=3, ready=3, available=3)
    assert case.found()[0] is PROGRESSING
    assert case.found(after=11) == (COMPLETE, [])


def test_an_autoscaler_removes_a_pod_meanwhile():
    case = up()
    case.deployment["spec"]["replicas"] = 1
    case.pods[0]["metadata"]["deletionTimestamp"] = case.time()
    count(case, total=1, ready=1, available=1)
    assert case.found() == (COMPLETE, [])


def test_min_ready_seconds_longer_than_the_settling():
    case = up()
    case.deployment["spec"]["minReadySeconds"] = 30
    count(case, available=0)
    verdict = case.verdict()
    assert verdict.phase is PROGRESSING
    assert verdict.look_again > 60
    assert verdict.replicas == Replicas(desired=2, updated=2, ready=2, available=0)
    count(case, available=2)
    assert case.found() == (COMPLETE, [])


# The deadline


@pytest.mark.parametrize("reason", ["NewReplicaSetAvailable", "ReplicaSetUpdated", "NewReplicaSetCreated"])
@pytest.mark.parametrize(
    ("deadline", "settle", "after", "phase"),
    [
        (600, 10, 609, PROGRESSING),
        (600, 10, 611, FAILED),
        (600, 0, 599, PROGRESSING),
        (600, 0, 601, FAILED),
        (6, 10, 15, PROGRESSING),
        (6, 10, 17, FAILED),
        (None, 10, 609, PROGRESSING),
        (None, 10, 611, FAILED),
        (2**31 - 1, 10, 864_000, PROGRESSING),
    ],
)
def test_the_deadline_counts_from_the_last_progress(reason, deadline, settle, after, phase):
    case = late(reason)
    case.deployment["spec"]["progressDeadlineSeconds"] = deadline
    if deadline is None:
        del case.deployment["spec"]["progressDeadlineSeconds"]
    assert case.found(settle, after) == (phase, ["app: ContainersNotReady"])


def test_a_deployment_without_a_deadline_has_no_such_condition():
    case = late()
    case.deployment["spec"]["progressDeadlineSeconds"] = 2**31 - 1
    case.deployment["status"]["conditions"].remove(case.progressing)
    assert case.found(after=864_000)[0] is PROGRESSING


def test_without_the_condition_the_deadline_counts_from_the_start():
    case = late()
    case.deployment["status"]["conditions"].remove(case.progressing)
    assert case.found(after=579)[0] is PROGRESSING
    assert case.found(after=581)[0] is FAILED


def test_a_large_rollout_that_keeps_progressing_is_not_cut_off():
    case = late("ReplicaSetUpdated")
    case.started -= timedelta(hours=5)
    assert case.found(after=300)[0] is PROGRESSING


def test_a_condition_of_days_ago_says_nothing_about_a_rollout_that_has_just_started():
    case = late()
    case.progressing["lastUpdateTime"] = case.time(-3 * 86_400)
    case.started = case.now
    assert case.found(after=609)[0] is PROGRESSING
    assert case.found(after=611)[0] is FAILED


def test_kubernetes_own_deadline_is_final():
    case = late()
    case.progressing.update(status="False", reason="ProgressDeadlineExceeded")
    assert case.found() == (FAILED, ["app: ContainersNotReady"])


def test_the_deadline_that_the_previous_rollout_exceeded_is_not_ours():
    # With the strategy Recreate the controller first deletes the old pods, and leaves the condition as it was.
    case = Case("recreate", 5)
    case.started = case.now
    case.progressing.update(status="False", reason="ProgressDeadlineExceeded", lastUpdateTime=case.time(-3600))
    assert case.verdict().phase is PROGRESSING


# Rollouts of another client


def foreign(make=up):
    """Return a case of a rollout that this service did not begin."""
    case = make()
    case.started = None
    return case


def scaled(case, desired, exists):
    """Scale the Deployment; with `exists`, the new pod is there and waits to be scheduled."""
    case.deployment["spec"]["replicas"] = desired
    if exists:
        third = copy.deepcopy(case.pods[0])
        third["metadata"] |= {"name": "complete-6df5bc6f8f-third", "uid": "third"}
        third["status"] = {"phase": "Pending"}
        case.everything.append(third)
        count(case, total=3, ready=2, available=2)


@pytest.mark.parametrize("exists", [False, True])
def test_a_foreign_rollout_that_is_complete_stays_so_while_it_is_scaled(exists):
    case = foreign()
    assert case.found() == (COMPLETE, [])
    scaled(case, 3, exists)
    for seconds in (0, 611, 864_000):
        assert case.found(after=seconds) == (COMPLETE, [])
    # Ours is recorded: its verdict stands anyway, and before that every pod counts.
    case.started = case.now - timedelta(seconds=30)
    assert case.found()[0] is PROGRESSING


def test_a_foreign_rollout_is_complete_only_when_its_last_pod_has_settled():
    case = foreign()
    case.progressing["lastUpdateTime"] = case.time(-1)
    ready(case.pods[1], case.time(-1))
    assert case.found()[0] is PROGRESSING
    assert case.found(after=9)[0] is PROGRESSING
    assert case.found(after=10) == (COMPLETE, [])


def test_a_foreign_rollout_is_scaled_down_and_to_zero():
    case = foreign()
    case.deployment["spec"]["replicas"] = 1
    assert case.found() == (COMPLETE, [])
    case.deployment["spec"]["replicas"] = 0
    assert case.found() == (COMPLETE, [])


def test_a_foreign_rollout_that_has_not_been_complete_progresses():
    case = foreign()
    case.progressing["reason"] = "ReplicaSetUpdated"
    scaled(case, 3, exists=True)
    assert case.found()[0] is PROGRESSING
    case = foreign(just_up)
    scaled(case, 3, exists=True)
    assert case.found()[0] is PROGRESSING


def test_a_foreign_rollout_has_only_the_deadline_of_kubernetes():
    case = foreign(late)
    verdict = case.verdict(after=864_000)
    assert (verdict.phase, verdict.look_again) == (PROGRESSING, None)
    case.progressing.update(status="False", reason="ProgressDeadlineExceeded")
    assert case.found() == (FAILED, ["app: ContainersNotReady"])


def test_a_foreign_rollout_that_does_not_start_fails_like_ours():
    assert foreign(lambda: starting("ErrImageNeverPull")).found() == (FAILED, ["app: ErrImageNeverPull"])
