"""Problems name the pod and the container, and quote the kubelet, the scheduler and the admission plugins."""

import copy

import pytest

from rollout.model import Phase
from tests.rollout.cases import (
    Case,
    add,
    condition,
    edit,
    evicted,
    exited,
    just_up,
    ready,
    running,
    running_unready,
    starting,
    up,
    waiting,
)

PROGRESSING, COMPLETE, FAILED = Phase.PROGRESSING, Phase.COMPLETE, Phase.FAILED


# What may heal


@pytest.mark.parametrize(
    ("reason", "message"),
    [
        ("FailedMount", 'MountVolume.SetUp failed for volume "app" : secret "app-secret" not found'),
        ("FailedAttachVolume", 'AttachVolume.Attach failed for volume "pvc-1" : volume is attached elsewhere'),
        ("FailedCreatePodSandBox", "Failed to create pod sandbox: network plugin is not ready"),
    ],
)
def test_what_only_an_event_says_is_a_problem_and_may_heal(reason, message):
    case = starting()
    assert case.found() == (PROGRESSING, [])
    for pod in case.pods:
        case.warn(pod, reason, message)
    assert case.found() == (PROGRESSING, [reason])
    problem = case.verdict().problems[0]
    assert (problem.message, problem.pod, problem.container) == (message, case.pods[0]["metadata"]["name"], None)
    assert case.found(after=611) == (FAILED, [reason])


def test_a_pod_that_waited_for_a_node_and_got_one_is_not_unschedulable_any_more():
    case = starting()
    for pod in case.pods:
        case.warn(pod, "FailedScheduling", "0/1 nodes are available: 1 Insufficient cpu.", at=-40)
    assert case.found() == (PROGRESSING, [])


def test_a_pod_without_a_node_is_fatal_at_the_deadline():
    case = Case("unschedulable")
    assert case.found(after=600) == (PROGRESSING, ["Unschedulable"])
    assert case.found(after=611) == (FAILED, ["Unschedulable"])


# Their order


def test_crashing_pods_come_before_unready_and_evicted_ones():
    case = running_unready()
    crashing = copy.deepcopy(case.pods[1])
    crashing["metadata"] |= {"name": "web-1-crashing", "uid": "crashing"}
    edit(crashing, state=waiting("CrashLoopBackOff"), lastState=exited(1), restartCount=1)
    case.everything[:0] = [evicted(crashing)]
    case.everything.append(crashing)
    for after, phase in [(0, PROGRESSING), (611, FAILED)]:
        expected = ["app: CrashLoopBackOff (1)", "app: ContainersNotReady", "Evicted"]
        assert case.found(after=after) == (phase, expected)


def test_five_problems_at_most_and_the_crashing_among_them():
    case = running_unready()
    for number in range(9):
        case.everything[:0] = [evicted(case.pods[-1], f"gone{number}")]
    edit(case.pods[-1], state=waiting("CrashLoopBackOff"), lastState=exited(1), restartCount=1)
    reasons = [each.reason for each in case.verdict().problems]
    assert reasons == ["CrashLoopBackOff", "ContainersNotReady", "Evicted", "Evicted", "Evicted"]


# Sidecars


def test_a_running_sidecar_does_not_hide_why_the_program_is_unready():
    case = running_unready()
    for pod in case.pods:
        add(pod, name="proxy", state=running(case.time(-9)), ready=True, started=True)
    assert case.found() == (PROGRESSING, ["app: ContainersNotReady"])


def test_a_sidecar_that_is_unready_is_named():
    case = running_unready()
    for pod in case.pods:
        edit(pod, ready=True)
        add(pod, name="proxy", state=running(case.time(-9)), ready=False, started=True)
        pod["spec"]["initContainers"] = [{"name": "proxy", "image": "envoy:1", "restartPolicy": "Always"}]
        condition(pod, "Ready", message="containers with unready status: [proxy]")
    assert case.found() == (PROGRESSING, ["proxy: ContainersNotReady"])


# Admission, quota


@pytest.mark.parametrize(
    "message",
    [
        'pods "web-1" is forbidden: violates PodSecurity "restricted:latest": runAsNonRoot != true',
        'admission webhook "policy.example" denied the request: no latest tags here',
    ],
)
def test_pods_that_admission_refuses_are_never_created(message):
    case = Case("quota-exceeded")
    condition(case.replicaset, "ReplicaFailure", message=message)
    phase, problems = case.found()
    assert (phase, problems) == (FAILED, ["FailedCreate"])
    problem = case.verdict().problems[0]
    assert (problem.message, problem.pod, problem.container) == (message, None, None)


def test_the_refusal_of_an_older_replica_set_is_not_ours():
    case = just_up()
    refused = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "violates PodSecurity"}
    other = next(each for each in case.replicasets if each is not case.replicaset)
    other["status"]["conditions"] = [refused]
    case.deployment["status"]["conditions"].append(refused)
    assert case.found() == (PROGRESSING, [])


def test_a_full_quota_is_fatal_at_the_deadline():
    case = Case("quota-exceeded")
    assert case.found(after=600) == (PROGRESSING, ["FailedCreate"])
    assert case.found(after=620) == (FAILED, ["FailedCreate"])
    case.progressing.update(status="False", reason="ProgressDeadlineExceeded", lastUpdateTime=case.time())
    assert case.found() == (FAILED, ["FailedCreate"])


# Evicted pods, deleted pods


def test_evicted_pods_are_reported_while_others_take_their_place():
    case = running_unready()
    case.everything.append(evicted(case.pods[0]))
    assert case.found() == (PROGRESSING, ["app: ContainersNotReady", "Evicted"])
    assert case.verdict().problems[-1].message == "The node was low on resource: memory."


def test_evicted_pods_alone_are_no_failure():
    case = running_unready()
    case.everything = [evicted(pod, f"gone{number}") for number, pod in enumerate(case.pods)]
    assert case.found() == (PROGRESSING, ["Evicted"])


def test_an_evicted_pod_does_not_stand_against_success():
    case = up()
    case.everything.append(evicted(case.pods[0]))
    assert case.found() == (COMPLETE, [])


def test_an_evicted_pod_does_not_save_pods_that_are_all_stuck():
    case = starting("ErrImageNeverPull")
    case.everything.append(evicted(case.pods[0]))
    phase, problems = case.found()
    assert phase is FAILED
    assert "app: ErrImageNeverPull" in problems


def test_a_pod_that_is_being_deleted_does_not_count():
    case = starting("ErrImageNeverPull")
    leaving = copy.deepcopy(case.pods[0])
    leaving["metadata"] |= {"name": "web-1-leaving", "uid": "leaving", "deletionTimestamp": case.time()}
    ready(leaving, case.time(-60))
    case.everything.append(leaving)
    assert case.found()[0] is FAILED
