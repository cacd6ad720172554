"""A failed rollout names a problem, whatever the API server answers: shown on every recording and edited copies."""

import copy
from datetime import timedelta

import pytest

from errors import Forbidden, NotFound
from rollout.diagnosis import diagnose
from rollout.model import Phase
from rollout.record import foreign_record
from rollout.verdict import judge
from settings import Settings
from tests.rollout.cases import KUBELET, RECORDINGS, kubelet, recorded, snapshot_of, start_of, time_of

STAND_IN = sorted({path.stem for path in RECORDINGS.glob("*.json")} - {"errors"})
# Long after any deadline of the recordings, which is 600 s where they say nothing.
LONG_AFTER_SECONDS = 900
TIMES = {"lastTransitionTime", "lastUpdateTime", "startedAt", "finishedAt", "firstTimestamp", "lastTimestamp"}
TIMES |= {"eventTime", "creationTimestamp"}
GONE = f"unable to retrieve container logs for containerd://{'0123' * 16}"


# Edits: each changes a copy of a snapshot, given also the pods of the rollout and those of older ones


def as_recorded(snapshot, ours, old):
    """Change nothing."""


def without_pods(snapshot, ours, old):
    snapshot.pods.clear()


def without_our_pods(snapshot, ours, old):
    snapshot.pods[:] = old


def without_replicasets(snapshot, ours, old):
    snapshot.replicasets.clear()


def without_conditions_of_pods(snapshot, ours, old):
    for pod in snapshot.pods:
        pod["status"].pop("conditions", None)


def without_conditions_at_all(snapshot, ours, old):
    for thing in (snapshot.deployment, *snapshot.replicasets, *snapshot.pods):
        thing["status"].pop("conditions", None)


def without_statuses_of_containers(snapshot, ours, old):
    for pod in snapshot.pods:
        pod["status"].pop("containerStatuses", None)
        pod["status"].pop("initContainerStatuses", None)


def without_statuses(snapshot, ours, old):
    for thing in (*snapshot.replicasets, *snapshot.pods):
        thing["status"] = {}
    snapshot.deployment["status"] = {"observedGeneration": snapshot.deployment["metadata"]["generation"]}


def without_events(snapshot, ours, old):
    snapshot.events.clear()


def with_silent_events(snapshot, ours, old):
    for event in snapshot.events:
        event.pop("message", None)
        event.pop("reason", None)


def without_times(snapshot, ours, old):
    def forget(value):
        if isinstance(value, dict):
            value.update(dict.fromkeys(TIMES & value.keys()))
            value = value.values()
        for each in value if not isinstance(value, str | int | float | None) else ():
            forget(each)

    for things in ([snapshot.deployment], snapshot.replicasets, snapshot.pods, snapshot.events):
        forget(things)


def with_old_pods_that_do_not_terminate(snapshot, ours, old):
    for pod in old:
        pod["metadata"]["deletionTimestamp"] = "2026-11-22T00:00:00Z"


def with_only_old_pods_that_do_not_terminate(snapshot, ours, old):
    with_old_pods_that_do_not_terminate(snapshot, ours, old)
    snapshot.pods[:] = old


def with_an_init_container_that_hangs(snapshot, ours, old):
    for pod in ours:
        status, hangs = pod["status"], {"name": "migrate", "ready": False, "restartCount": 0, "lastState": {}}
        status["initContainerStatuses"] = [hangs | {"state": {"running": {"startedAt": "2026-11-22T00:00:00Z"}}}]
        for each in status.get("containerStatuses", []):
            each |= {"state": {"waiting": {"reason": "PodInitializing"}}, "lastState": {}, "restartCount": 0}
        message = "containers with incomplete status: [migrate]"
        unmet = {"type": "Initialized", "reason": "ContainersNotInitialized", "status": "False", "message": message}
        unready = {"type": "Ready", "reason": "ContainersNotReady", "status": "False"}
        status["conditions"] = [unmet, unready | {"message": "containers with unready status: [web]"}]


def with_an_unmet_readiness_gate(snapshot, ours, old):
    for pod in ours:
        for each in pod["status"].get("containerStatuses", []):
            each |= {"state": {"running": {}}, "lastState": {}, "ready": True, "restartCount": 0}
        message = 'corresponding condition of pod readiness gate "example.com/lb" does not exist.'
        unmet = {"type": "Ready", "status": "False", "reason": "ReadinessGatesNotReady", "message": message}
        pod["status"]["conditions"] = [{"type": "ContainersReady", "status": "True"}, unmet]


def with_evicted_pods(snapshot, ours, old):
    for pod in ours:
        pod["status"] |= {"phase": "Failed", "reason": "Evicted"}


def that_is_deleted(snapshot, ours, old):
    snapshot.deployment["metadata"]["deletionTimestamp"] = "2026-11-22T00:00:00Z"


# All functions above, by how their names begin.
EDITS = [value for value in globals().values() if getattr(value, "__name__", "").startswith(("as_", "that_", "with"))]


class Answers:
    """Answer for the API server what a diagnosis asks it: `log` is what each log is, `events` may be refused."""

    def __init__(self, events, log):
        self._events, self._log = events, log

    def pod_events(self, namespace, pod):
        if self._events is None:
            raise Forbidden("may not list events")
        return [each for each in self._events if each["involvedObject"].get("name") == pod]

    def read_log(self, namespace, pod, container, previous, lines):
        if self._log is None:
            raise NotFound("no log")
        return self._log


def edited(found, edit):
    """Return a snapshot of a copy of what was recorded, after an edit."""
    template = found["deployment"]["spec"]["template"]
    snapshot = snapshot_of(copy.deepcopy(found))
    ours = snapshot.pods_of(snapshot.replicaset_of(template))
    edit(snapshot, ours, [pod for pod in snapshot.pods if pod not in ours])
    return snapshot


def judged(found, snapshot, after=0, settle=10, something_works=False):
    """Judge the newest rollout, so many seconds later."""
    template, now = found["deployment"]["spec"]["template"], time_of(found["now"]) + timedelta(seconds=after)
    return judge(template, snapshot, now, settle, start_of(found), something_works)


def diagnosed(found, snapshot, events, log):
    """Return what the diagnosis of the newest rollout names."""
    record = foreign_record(found["deployment"], "web-1", start_of(found))
    return diagnose(Answers(events, log), record, snapshot, Settings())


def recordings():
    stand_in = [pytest.param(recorded(name), id=name) for name in STAND_IN]
    return stand_in + [pytest.param(kubelet(name), id=f"kubelet-{name}") for name in KUBELET]


@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.parametrize("snapshots", recordings())
def test_no_failure_is_without_a_problem(snapshots, edit):
    for found in snapshots:
        snapshot = edited(found, edit)
        verdicts = [judged(found, snapshot, *how) for how in [(0, 10, True), (0, 0), (LONG_AFTER_SECONDS,)]]
        assert verdicts[-1].phase is not Phase.PROGRESSING or "hasn't begun" in verdicts[-1].message
        for verdict in verdicts:
            assert verdict.problems or verdict.phase is not Phase.FAILED
            assert all(each.reason for each in verdict.problems)
        if Phase.FAILED in {each.phase for each in verdicts}:
            for events, log in [(snapshot.events, ["KeyError"]), (snapshot.events, None), (None, [GONE]), ([], [])]:
                assert diagnosed(found, snapshot, events, log)


def at_the_deadline(name, edit, index=-1):
    """Judge and diagnose an edited moment of a recording when its time is up; return the problems of the diagnosis."""
    found = kubelet(name)[index]
    snapshot = edited(found, edit)
    verdict = judged(found, snapshot, LONG_AFTER_SECONDS)
    assert verdict.phase is Phase.FAILED
    problems = diagnosed(found, snapshot, snapshot.events, [])
    assert verdict.problems == tuple(each.replace(logs=()) for each in problems)
    return [(each.reason, each.container, each.message) for each in problems]


def test_an_init_container_that_hangs_is_named():
    hangs = ("ContainersNotInitialized", "migrate", "containers with incomplete status: [migrate]")
    assert at_the_deadline("volume-missing", with_an_init_container_that_hangs, 1) == [hangs]


def test_an_unmet_readiness_gate_is_named():
    ((reason, container, message),) = at_the_deadline("unready", with_an_unmet_readiness_gate)
    assert (reason, container) == ("ReadinessGatesNotReady", None)
    assert "example.com/lb" in message


def test_an_old_pod_that_does_not_terminate_is_named():
    # With the strategy Recreate no new pod is made before the old one is gone.
    found = kubelet("recreate")[2]
    snapshot = edited(found, as_recorded)
    (problem,) = judged(found, snapshot, LONG_AFTER_SECONDS).problems
    assert (problem.reason, problem.pod) == ("Terminating", snapshot.pods[0]["metadata"]["name"])
    assert judged(found, snapshot).problems == ()


def test_an_evicted_pod_hides_no_pod_that_still_counts():
    def edit(snapshot, ours, old):
        evicted = copy.deepcopy(ours)
        with_evicted_pods(snapshot, evicted, old)
        with_an_init_container_that_hangs(snapshot, ours, old)
        snapshot.pods[:0] = evicted

    assert [each[0] for each in at_the_deadline("unready", edit, 4)] == ["ContainersNotInitialized", "Evicted"]


def test_what_the_rollout_before_achieved_is_no_problem():
    # The condition says still that the ReplicaSet before has progressed.
    assert at_the_deadline("recreate", without_pods, 2) == [("ProgressDeadlineExceeded", None, None)]


def test_a_deployment_that_is_being_deleted_is_named_before_its_pods():
    found = kubelet("crash")[9]
    snapshot = edited(found, that_is_deleted)
    assert [each.reason for each in judged(found, snapshot).problems] == ["Deleted"]
    assert [each.reason for each in diagnosed(found, snapshot, [], [])] == ["Deleted"]
