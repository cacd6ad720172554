"""The verdict, on what a real API server answered, and on copies of that in which something is different."""

import copy
import json
from datetime import datetime, timedelta
from functools import cache

import pytest

from cluster.snapshot import Snapshot
from manifest.pod_template import running_digests
from rollout.model import Phase, Replicas
from rollout.verdict import judge
from tests.service import ROOT

RECORDINGS = ROOT / "tests" / "recordings"
PROGRESSING, COMPLETE, FAILED, SUPERSEDED, PAUSED = (
    Phase.PROGRESSING,
    Phase.COMPLETE,
    Phase.FAILED,
    Phase.SUPERSEDED,
    Phase.PAUSED,
)

# By recording, rollout in it, and seconds to settle. A line is a snapshot: its number, the phase, the gist of the
# message, and the causes as "pods: reason (exit code)". The first final phase of a rollout stands; what comes after it
# is there where it shows that nobody changes his mind.
TIMELINES = {
    ("complete", 1, 10): """
         0 | progressing | hasn't begun                                        |
         1 | progressing | 0 of 2 updated pods                                 | 5l88d 8hpr7: ContainersNotReady
         2 | progressing | of 2 updated pods                                   |
         3 | progressing | all 2 pods are ready; watching them for             |
         4 | complete    |                                                     |
         5 | progressing | hasn't begun                                        |
         6 | superseded  |                                                     |
        10 | superseded  |                                                     |
    """,
    ("complete", 1, 0): """
         2 | progressing | of 2 updated pods                                   |
         3 | complete    |                                                     |
    """,
    ("complete", 2, 10): """
         5 | progressing | hasn't begun                                        |
         6 | progressing | 1 of 2                                              | cjt5q: ContainersNotReady
         7 | progressing | 1 old pod                                           | h9fx2: ContainersNotReady
         8 | progressing | all 2 pods are ready; watching them for 10 s more   |
         9 | progressing | all 2 pods are ready; watching them for 10 s more   |
        10 | complete    |                                                     |
    """,
    ("complete", 2, 2): """
         9 | progressing | all 2 pods are ready; watching them for 2 s more    |
        10 | complete    |                                                     |
    """,
    ("complete", 2, 0): """
         7 | progressing | 1 old pod                                           | h9fx2: ContainersNotReady
         8 | complete    |                                                     |
    """,
    ("image-missing", 1, 10): """
         0 | progressing | hasn't begun                                        |
         1 | progressing | 0 of 2 updated pods                                 | 72fc2 svk6n: ContainersNotReady
         2 | progressing | all 2 pods are ready                                |
         3 | progressing | all 2 pods are ready; watching them for 5 s more    |
         4 | progressing | hasn't begun                                        |
         5 | superseded  |                                                     |
         7 | superseded  |                                                     |
    """,
    ("image-missing", 1, 2): """
         2 | progressing | all 2 pods are ready                                |
         3 | complete    |                                                     |
    """,
    ("image-missing", 2, 10): """
         4 | progressing | hasn't begun                                        |
         5 | failed      | does not start                                      | ww99z: ErrImagePull
         6 | failed      | does not start                                      | ww99z: ImagePullBackOff
         7 | failed      | does not start                                      | ww99z: ImagePullBackOff
    """,
    ("image-missing", 2, 0): """
         4 | progressing | hasn't begun                                        |
         5 | failed      | does not start                                      | ww99z: ErrImagePull
    """,
    ("crash-loop", 1, 10): """
         0 | progressing | hasn't begun                                        |
         1 | progressing | 0 of 2 updated pods                                 | 46fgc mldwq: ContainersNotReady
         2 | progressing | of 2 updated pods                                   |
         3 | progressing | all 2 pods are ready                                |
         4 | complete    |                                                     |
    """,
    ("crash-loop", 2, 10): """
         5 | progressing | hasn't begun                                        |
         6 | progressing | 1 of 2                                              | fkjfq: ContainersNotReady
         7 | progressing | 1 of 2                                              |
         8 | progressing | 1 old pod                                           | 58s74: ContainersNotReady
         9 | progressing | 1 old pod                                           | fkjfq: CrashLoopBackOff (1)
        10 | progressing | all 2 pods are ready                                | fkjfq: CrashLoopBackOff (1)
        11 | progressing | all 2 pods are ready                                | 58s74 fkjfq: CrashLoopBackOff (1)
        12 | progressing | 1 of 2 updated pods is ready                        | 58s74 fkjfq: CrashLoopBackOff (1)
        13 | progressing | 0 of 2 updated pods                                 | 58s74 fkjfq: CrashLoopBackOff (1)
        14 | progressing | 1 of 2 updated pods                                 | 58s74 fkjfq: CrashLoopBackOff (1)
        15 | progressing | all 2 pods are ready                                | 58s74 fkjfq: CrashLoopBackOff (1)
        16 | progressing | 1 of 2 updated pods                                 | 58s74 fkjfq: CrashLoopBackOff (1)
        17 | failed      | does not start                                      | 58s74 fkjfq: CrashLoopBackOff (1)
        18 | failed      | does not start                                      | 58s74 fkjfq: CrashLoopBackOff (1)
        19 | failed      | does not start                                      | 58s74 fkjfq: CrashLoopBackOff (1)
        20 | failed      | does not start                                      | 58s74 fkjfq: CrashLoopBackOff (1)
        21 | failed      | does not start                                      | 58s74 fkjfq: CrashLoopBackOff (1)
        22 | failed      | does not start                                      | 58s74 fkjfq: CrashLoopBackOff (1)
    """,
    ("crash-loop", 2, 2): """
        15 | progressing | all 2 pods are ready                                | 58s74 fkjfq: CrashLoopBackOff (1)
        16 | progressing | 1 of 2 updated pods                                 | 58s74 fkjfq: CrashLoopBackOff (1)
        17 | failed      | does not start                                      | 58s74 fkjfq: CrashLoopBackOff (1)
        18 | failed      | does not start                                      | 58s74 fkjfq: CrashLoopBackOff (1)
    """,
    # As blind as Kubernetes: there is a moment in which everything is up.
    ("crash-loop", 2, 0): """
         9 | progressing | 1 old pod                                           | fkjfq: CrashLoopBackOff (1)
        10 | complete    |                                                     |
    """,
    ("oom-killed", 1, 10): """
         0 | progressing | hasn't begun                                        |
         1 | progressing | 0 of 2 updated pods                                 | dkbhf f7jjc: ContainersNotReady
         2 | progressing | all 2 pods are ready                                |
         3 | progressing | all 2 pods are ready                                | dkbhf f7jjc: OOMKilled (137)
         4 | progressing | 1 of 2 updated pods is ready                        | dkbhf f7jjc: OOMKilled (137)
         5 | progressing | 0 of 2 updated pods                                 | dkbhf f7jjc: OOMKilled (137)
         6 | progressing | all 2 pods are ready                                | dkbhf f7jjc: OOMKilled (137)
         7 | failed      | does not start                                      | dkbhf f7jjc: OOMKilled (137)
         8 | failed      | does not start                                      | dkbhf f7jjc: OOMKilled (137)
         9 | failed      | does not start                                      | dkbhf f7jjc: OOMKilled (137)
        10 | failed      | does not start                                      | dkbhf f7jjc: OOMKilled (137)
        11 | failed      | does not start                                      | dkbhf f7jjc: OOMKilled (137)
    """,
    ("oom-killed", 1, 2): """
         6 | progressing | all 2 pods are ready                                | dkbhf f7jjc: OOMKilled (137)
         7 | failed      | does not start                                      | dkbhf f7jjc: OOMKilled (137)
    """,
    ("oom-killed", 1, 0): """
         1 | progressing | 0 of 2 updated pods                                 | dkbhf f7jjc: ContainersNotReady
         2 | complete    |                                                     |
    """,
    ("bad-config", 1, 10): """
         0 | progressing | hasn't begun                                        |
         1 | failed      | does not start                                      | 7hglq nkx9d: CreateContainerConfigError
         2 | failed      | does not start                                      | 7hglq nkx9d: CreateContainerConfigError
    """,
    ("unschedulable", 1, 10): """
         0 | progressing | 0 of 2                                              |
         1 | progressing | 0 of 2 updated pods                                 | 7mksb wvw9d: Unschedulable
         2 | progressing | 0 of 2 updated pods                                 | 7mksb wvw9d: Unschedulable
    """,
    # Ready for 10.086 s, by a clock of whole seconds: not yet proven.
    ("never-ready", 1, 10): """
         0 | progressing | hasn't begun                                        |
         1 | progressing | 0 of 2 updated pods                                 | rwbjp vmd2m: ContainersNotReady
         2 | progressing | 2 updated pods                                      |
         3 | progressing | all 2 pods are ready                                |
         4 | progressing | all 2 pods are ready; watching them for 1 s more    |
         5 | progressing | hasn't begun                                        |
         6 | superseded  |                                                     |
         9 | superseded  |                                                     |
    """,
    ("never-ready", 2, 10): """
         5 | progressing | hasn't begun                                        |
         6 | progressing | 1 of 2                                              |
         7 | progressing | 1 of 2                                              | vtjdp: ContainersNotReady
         8 | failed      | no progress for 6 s                                 | vtjdp: ContainersNotReady
         9 | failed      | no progress for 6 s                                 | vtjdp: ContainersNotReady
    """,
    ("slow", 1, 10): """
         0 | progressing | hasn't begun                                        |
         1 | progressing | 0 of 3 updated pods                                 | mpk9l qb268 vmjfs: ContainersNotReady
         2 | progressing | of 3 updated pods                                   |
         3 | progressing | all 3 pods are ready; watching them for 10 s more   |
         4 | complete    |                                                     |
    """,
    ("superseded", 1, 10): """
         0 | progressing | hasn't begun                                        |
         1 | progressing | 0 of 2 updated pods                                 | 24588 f8b4l: ContainersNotReady
         2 | progressing | 0 of 2 updated pods                                 | 24588 f8b4l: ContainersNotReady
         3 | progressing | hasn't begun                                        |
         4 | superseded  |                                                     |
         5 | superseded  |                                                     |
         6 | superseded  |                                                     |
         7 | superseded  |                                                     |
         8 | progressing | hasn't begun                                        |
         9 | superseded  |                                                     |
        15 | superseded  |                                                     |
    """,
    ("superseded", 1, 0): """
         2 | progressing | 0 of 2 updated pods                                 | 24588 f8b4l: ContainersNotReady
         4 | superseded  |                                                     |
    """,
    ("superseded", 2, 10): """
         3 | progressing | hasn't begun                                        |
         4 | progressing | 1 of 2                                              | m7ncq: ContainersNotReady
         5 | progressing | 1 of 2                                              | m7ncq: ContainersNotReady
         6 | progressing | 1 of 2                                              | m7ncq: ContainersNotReady
         7 | progressing | 1 of 2                                              | m7ncq: ContainersNotReady
         8 | progressing | hasn't begun                                        |
         9 | superseded  |                                                     |
        10 | superseded  |                                                     |
        15 | superseded  |                                                     |
    """,
    ("superseded", 3, 10): """
         8 | progressing | hasn't begun                                        |
         9 | progressing | 1 of 2                                              |
        10 | progressing | 1 of 2                                              | rkw6t: ContainersNotReady
        11 | progressing | 1 old pod                                           |
        12 | progressing | 1 old pod                                           | kjzqj: ContainersNotReady
        13 | progressing | 1 old pod                                           |
        14 | progressing | all 2 pods are ready; watching them for 10 s more   |
        15 | progressing | all 2 pods are ready; watching them for 8 s more    |
    """,
    ("superseded", 3, 2): """
        14 | progressing | all 2 pods are ready; watching them for             |
        15 | progressing | all 2 pods are ready; watching them for             |
    """,
    ("superseded", 3, 0): """
        12 | progressing | 1 old pod                                           | kjzqj: ContainersNotReady
        13 | progressing | 1 old pod                                           |
        14 | complete    |                                                     |
    """,
    ("paused", 1, 10): """
         0 | progressing | hasn't begun                                        |
         1 | progressing | 0 of 2 updated pods                                 | dzwzb qk95h: ContainersNotReady
         2 | progressing | all 2 pods are ready                                |
         3 | progressing | all 2 pods are ready; watching them for 7 s more    |
         4 | progressing | hasn't begun                                        |
         5 | superseded  |                                                     |
    """,
    ("paused", 1, 2): """
         2 | progressing | all 2 pods are ready                                |
         3 | complete    |                                                     |
    """,
    ("paused", 2, 10): """
         4 | progressing | hasn't begun                                        |
         5 | paused      | kubectl rollout resume                              |
         6 | paused      | kubectl rollout resume                              |
    """,
    ("scaled-to-zero", 1, 10): """
         0 | progressing | hasn't begun                                        |
         1 | complete    | no replicas                                         |
         2 | complete    | no replicas                                         |
    """,
    ("recreate", 1, 10): """
         0 | progressing | hasn't begun                                        |
         1 | progressing | 0 of 2 updated pods                                 | fdg4j mr9ql: ContainersNotReady
         2 | progressing | all 2 pods are ready                                |
         3 | complete    |                                                     |
    """,
    ("recreate", 2, 10): """
         4 | progressing | hasn't begun                                        |
         5 | progressing | 0 of 2                                              |
         6 | progressing | 0 of 2 updated pods                                 | gkf84 l48fr: ContainersNotReady
         7 | progressing | all 2 pods are ready                                |
         8 | complete    |                                                     |
    """,
    ("quota-exceeded", 1, 10): """
         0 | progressing | hasn't begun                                        |
         1 | progressing | 0 of 2                                              | FailedCreate
         2 | progressing | 0 of 2                                              | FailedCreate
    """,
}


def rows():
    for (name, number, settle), table in TIMELINES.items():
        for line in table.strip().splitlines():
            index, phase, gist, *causes = (each.strip() for each in line.split("|"))
            label = f"{name}-{number}-settle{settle}-{index}"
            yield pytest.param(name, number, settle, int(index), phase, gist, "".join(causes), id=label)


@cache
def recorded(name):
    return json.loads((RECORDINGS / f"{name}.json").read_text())["snapshots"]


def time_of(text):
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def snapshot_of(found):
    return Snapshot(found["deployment"], found["replicasets"], found["pods"], found["events"])


def beginnings(name):
    """Return the template and the time of each rollout in a recording."""
    begun = {}
    for found in recorded(name):
        generation = found["deployment"]["metadata"]["generation"]
        started = time_of(found["now"]) - timedelta(seconds=found["seconds"])
        begun.setdefault(generation, (found["deployment"]["spec"]["template"], started))
    return list(begun.values())


def reason_of(cause):
    return cause.reason if cause.exit_code is None else f"{cause.reason} ({cause.exit_code})"


def summary(causes):
    """Return causes as the tables have them."""
    pods = {}
    for cause in causes:
        pods.setdefault(reason_of(cause), []).append((cause.pod or "").rpartition("-")[2])
    return ", ".join(f"{' '.join(names)}: {reason}" if any(names) else reason for reason, names in pods.items())


@pytest.mark.parametrize(("name", "number", "settle", "index", "phase", "gist", "causes"), list(rows()))
def test_each_moment_of_each_recorded_rollout(name, number, settle, index, phase, gist, causes):
    template, started = beginnings(name)[number - 1]
    found = recorded(name)[index]
    verdict = judge(template, snapshot_of(found), time_of(found["now"]), settle, started)
    assert verdict.phase == phase, verdict.message
    assert gist in verdict.message
    assert summary(verdict.problems) == causes
    # Each recorded container is named like its recording. What has no container is about the pod, or about none.
    without = {"Unschedulable", "FailedCreate"}
    assert all(cause.container == (None if cause.reason in without else name) for cause in verdict.problems)


def test_the_tables_leave_no_moment_out():
    seen = {(name, index) for name, _, _, index, *_ in (row.values for row in rows())}
    everything = {path.stem for path in RECORDINGS.glob("*.json")} - {"errors"}
    assert {name for name, _ in seen} == everything
    assert {(name, index) for name in everything for index in range(len(recorded(name)))} <= seen


@pytest.mark.parametrize(
    ("name", "number", "index", "revision", "counts"),
    [
        ("complete", 2, 7, 2, Replicas(desired=2, updated=2, ready=1, available=1)),
        ("complete", 2, 10, 2, Replicas(desired=2, updated=2, ready=2, available=2)),
        ("image-missing", 2, 7, 2, Replicas(desired=2, updated=1, ready=0, available=0)),
        ("slow", 1, 1, 1, Replicas(desired=3, updated=3, ready=0, available=0)),
        ("slow", 1, 4, 1, Replicas(desired=3, updated=3, ready=3, available=3)),
        ("superseded", 3, 15, 3, Replicas(desired=2, updated=2, ready=2, available=2)),
        ("quota-exceeded", 1, 2, 1, Replicas(desired=2, updated=0, ready=0, available=0)),
        ("scaled-to-zero", 1, 2, 1, Replicas(desired=0, updated=0, ready=0, available=0)),
    ],
)
def test_revision_and_counts_are_those_of_the_updated_pods(name, number, index, revision, counts):
    template, started = beginnings(name)[number - 1]
    found = recorded(name)[index]
    verdict = judge(template, snapshot_of(found), time_of(found["now"]), 10, started)
    assert (verdict.revision, verdict.replicas) == (revision, counts)


@pytest.mark.parametrize(
    ("name", "number", "index", "words"),
    [
        ("image-missing", 2, 5, 'pulling image "acme/missing:2": not found'),
        ("bad-config", 1, 1, 'secret "app-secret" not found'),
        ("unschedulable", 1, 1, "0/1 nodes are available: 1 Insufficient cpu."),
        ("never-ready", 2, 8, "containers with unready status: [never-ready]"),
        ("quota-exceeded", 1, 1, "exceeded quota: tight, requested: pods=1, used: pods=25, limited: pods=1"),
        ("crash-loop", 2, 17, "restarted 2 times"),
        ("oom-killed", 1, 4, "restarted once"),
    ],
)
def test_a_cause_has_the_words_of_who_reported_it(name, number, index, words):
    template, started = beginnings(name)[number - 1]
    found = recorded(name)[index]
    verdict = judge(template, snapshot_of(found), time_of(found["now"]), 10, started)
    assert words in verdict.problems[0].message


@pytest.mark.parametrize("settle", [0, 2, 10])
@pytest.mark.parametrize("name", sorted({name for name, _, _ in TIMELINES}))
def test_look_again_is_when_time_alone_brings_the_verdict(name, settle):
    for number, (template, started) in enumerate(beginnings(name), 1):
        for found in recorded(name):
            if found["deployment"]["metadata"]["generation"] != number:
                continue
            snapshot, now = snapshot_of(found), time_of(found["now"])
            verdict = judge(template, snapshot, now, settle, started)
            if verdict.phase is not PROGRESSING or "hasn't begun" in verdict.message:
                assert verdict.look_again is None
                continue
            assert verdict.look_again > 0
            before, after = (now + timedelta(seconds=verdict.look_again + each) for each in (-0.01, 0.01))
            assert judge(template, snapshot, before, settle, started).phase is PROGRESSING
            assert judge(template, snapshot, after, settle, started).phase in (COMPLETE, FAILED)


# What the recordings lack: copies of them, edited


class Case:
    """A copy of a recorded moment, as the newest rollout in it sees it, with the clock at a whole second."""

    def __init__(self, name, index=-1):
        found = copy.deepcopy(recorded(name)[index])
        self.deployment, self.replicasets = found["deployment"], found["replicasets"]
        self.everything, self.events = found["pods"], [each for each in found["events"] if each["type"] != "Warning"]
        self.template = copy.deepcopy(self.deployment["spec"]["template"])
        self.now = time_of(found["now"]).replace(microsecond=0)
        self.started = self.now - timedelta(seconds=30)

    @property
    def replicaset(self):
        return Snapshot(self.deployment, self.replicasets, [], []).replicaset_of(self.template)

    @property
    def pods(self):
        uid = self.replicaset["metadata"]["uid"]
        return [each for each in self.everything if each["metadata"]["ownerReferences"][0]["uid"] == uid]

    @property
    def progressing(self):
        return next(each for each in self.deployment["status"]["conditions"] if each["type"] == "Progressing")

    def time(self, seconds=0):
        """Return the time so many seconds from now, as Kubernetes writes it."""
        return (self.now + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")

    def warn(self, thing, reason, message, at=-1):
        """Add a warning event."""
        metadata = thing["metadata"]
        about = {"kind": "Pod", "namespace": metadata["namespace"], "name": metadata["name"], "uid": metadata["uid"]}
        times = {"firstTimestamp": self.time(at), "lastTimestamp": self.time(at), "count": 1, "eventTime": None}
        event = {"metadata": {"name": f"{metadata['name']}.{len(self.events)}"}, "involvedObject": about}
        self.events.append(event | times | {"type": "Warning", "reason": reason, "message": message})

    def verdict(self, settle=10, after=0):
        """Judge, so many seconds later."""
        snapshot = Snapshot(self.deployment, self.replicasets, self.everything, self.events)
        return judge(self.template, snapshot, self.now + timedelta(seconds=after), settle, self.started)

    def found(self, settle=10, after=0):
        """Return the phase, and the causes without the pods' names, each once."""
        verdict = self.verdict(settle, after)
        bare = [
            f"{each.container}: {reason_of(each)}" if each.container else reason_of(each) for each in verdict.problems
        ]
        return verdict.phase, list(dict.fromkeys(bare))


def up():
    """Both pods of the second rollout have been ready for 13 s."""
    return Case("complete")


def just_up():
    """Both pods have been ready for a second."""
    return Case("complete", 9)


def starting(reason="ContainerCreating", message=None):
    """Both pods are scheduled; their container, app, waits for something."""
    case = Case("bad-config", 1)
    for pod in case.pods:
        edit(pod, state=waiting(reason, message), name="app", image="acme/web:2")
        condition(pod, "Ready", message="containers with unready status: [app]")
    return case


def running_unready():
    """Both pods run but aren't ready."""
    case = starting()
    for pod in case.pods:
        edit(pod, state=running(case.time(-5)), started=True)
    return case


def edit(pod, of="containerStatuses", index=0, **fields):
    pod["status"][of][index] |= fields


def add(pod, of="initContainerStatuses", **fields):
    """Add one more container: a copy of the first, but for some fields."""
    pod["status"].setdefault(of, []).append(copy.deepcopy(pod["status"]["containerStatuses"][0]) | fields)


def condition(thing, kind, **fields):
    found = next(each for each in thing["status"]["conditions"] if each["type"] == kind)
    found |= fields


def count(case, **numbers):
    """Let the controllers count, all of them updated pods."""
    fields = {"total": "replicas", "ready": "readyReplicas", "available": "availableReplicas"}
    for thing in (case.deployment, case.replicaset):
        thing["status"] |= {fields[name]: number for name, number in numbers.items()}
    case.deployment["status"]["updatedReplicas"] = case.deployment["status"]["replicas"]


def ready(pod, since):
    for kind in ("Ready", "ContainersReady"):
        condition(pod, kind, status="True", lastTransitionTime=since)
    for container in pod["status"]["containerStatuses"]:
        container |= {"ready": True, "started": True, "state": running(since)}


def waiting(reason, message=None):
    return {"waiting": {"reason": reason} | ({"message": message} if message else {})}


def running(since):
    return {"running": {"startedAt": since}}


def exited(code, reason=None, at="2026-11-22T22:04:11Z"):
    reason = reason or ("Error" if code else "Completed")
    return {"terminated": {"exitCode": code, "reason": reason, "startedAt": at, "finishedAt": at}}


# Crashing

CRASHES = [
    # state, last end, restarts, the cause, whether waiting cures it no more
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
@pytest.mark.parametrize(("state", "last", "restarts", "cause", "stuck"), CRASHES)
def test_crashing_after_two_or_three_restarts(of, state, last, restarts, cause, stuck):
    case = starting("PodInitializing")
    for pod in case.pods:
        if of == "initContainerStatuses":
            add(pod, name="app")
        edit(pod, of, state=state, lastState=last, restartCount=restarts)
    phase, causes = case.found()
    assert phase is (FAILED if stuck else PROGRESSING)
    assert cause in [each.removeprefix("app: ") for each in causes]


@pytest.mark.parametrize(
    ("last", "restarts", "stuck"), [(exited(1), 2, False), (exited(0), 2, False), (exited(0), 3, True)]
)
def test_a_program_that_ends_with_success_must_not_end_three_times(last, restarts, stuck):
    case = starting()
    for pod in case.pods:
        edit(pod, state=exited(0), lastState=last, restartCount=restarts)
    assert case.found()[0] is (FAILED if stuck else PROGRESSING)


def test_a_program_that_ends_and_is_up_for_a_moment_again_is_named_too():
    case = up()
    for pod in case.pods:
        ready(pod, case.time(-1))
        edit(pod, lastState=exited(0), restartCount=3)
    phase, causes = case.found()
    assert phase is FAILED
    assert [each.rpartition(" ")[2] for each in causes] == ["(0)"]


def test_three_restarts_and_then_up_for_long_enough_is_a_success():
    case = up()
    for pod in case.pods:
        ready(pod, case.time(-11))
        edit(pod, lastState=exited(1), restartCount=3)
    assert case.found() == (COMPLETE, [])


def test_one_crashing_pod_of_two_is_a_cause_but_no_verdict():
    case = running_unready()
    edit(case.pods[0], state=waiting("CrashLoopBackOff"), lastState=exited(1), restartCount=5)
    assert case.found() == (PROGRESSING, ["app: CrashLoopBackOff (1)", "app: ContainersNotReady"])


def test_pods_may_be_stuck_each_in_its_own_way():
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


def test_an_init_container_that_works():
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
def test_an_init_container_that_can_t_begin(reason, message, phase):
    case = starting("PodInitializing")
    for pod in case.pods:
        add(pod, name="migrate", image="acme/migrate:2", state=waiting(reason, message))
    assert case.found() == (phase, [f"migrate: {reason}"])


def test_a_sidecar_that_runs_doesn_t_hide_why_the_program_is_unready():
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


def test_a_sidecar_s_restart_begins_the_settling_anew():
    case = up()
    for pod in case.pods:
        add(pod, name="proxy", state=running(case.time(-3)), lastState=exited(1), restartCount=1)
    assert case.found()[0] is PROGRESSING
    assert case.found(after=8) == (COMPLETE, [])


# Pulling images

NOT_FOUND = (
    'rpc error: code = NotFound desc = failed to pull and unpack image "docker.io/acme/web:2": failed to resolve '
    'reference "docker.io/acme/web:2": docker.io/acme/web:2: not found'
)
DENIED = (
    'failed to resolve reference "docker.io/acme/web:2": pull access denied, repository does not exist or may require '
    "authorization: server message: insufficient_scope: authorization failed"
)
UNAUTHORIZED = (
    "failed to authorize: failed to fetch anonymous token: unexpected status from GET request to "
    "https://ghcr.io/token?scope=repository%3Aacme%2Fweb%3Apull&service=ghcr.io: 401 Unauthorized"
)
RATE_LIMITED = (
    "failed to copy: httpReadSeeker: failed open: unexpected status code "
    "https://registry-1.docker.io/v2/acme/web/manifests/2: 429 Too Many Requests - Server message: toomanyrequests: "
    "You have reached your unauthenticated pull rate limit. https://www.docker.com/increase-rate-limit"
)
SLOW = (
    'failed to do request: Head "https://registry-1.docker.io/v2/acme/web/manifests/2": dial tcp 44.208.254.194:443: '
    "i/o timeout"
)


@pytest.mark.parametrize("reason", ["ErrImagePull", "ImagePullBackOff"])
@pytest.mark.parametrize(
    ("message", "phase"),
    [
        (NOT_FOUND, FAILED),
        (DENIED, FAILED),
        (UNAUTHORIZED, FAILED),
        ("manifest unknown: manifest unknown", FAILED),
        ("Error response from daemon: manifest for acme/web:2 not found: manifest unknown", FAILED),
        (RATE_LIMITED, PROGRESSING),
        (SLOW, PROGRESSING),
        ("dial tcp: lookup registry-1.docker.io on 10.96.0.10:53: no such host", PROGRESSING),
        ("unexpected status from HEAD request: 503 Service Unavailable", PROGRESSING),
        ("context deadline exceeded", PROGRESSING),
        ("pull QPS exceeded", PROGRESSING),
        ("x509: certificate signed by unknown authority", PROGRESSING),
    ],
)
def test_a_registry_that_refuses_is_fatal_and_one_that_is_slow_is_not(reason, message, phase):
    case = starting(reason, f'Back-off pulling image "acme/web:2": ErrImagePull: {message}')
    assert case.found() == (phase, [f"app: {reason}"])


@pytest.mark.parametrize("reason", ["InvalidImageName", "ErrImageNeverPull"])
def test_an_image_that_can_never_be_pulled(reason):
    assert starting(reason).found() == (FAILED, [f"app: {reason}"])


@pytest.mark.parametrize(("message", "phase"), [(NOT_FOUND, FAILED), (DENIED, FAILED), (RATE_LIMITED, PROGRESSING)])
def test_older_kubelets_say_only_in_an_event_why(message, phase):
    case = starting("ImagePullBackOff", 'Back-off pulling image "acme/web:2"')
    assert case.found()[0] is PROGRESSING
    for pod in case.pods:
        case.warn(pod, "Failed", f'Failed to pull image "acme/web:2": {message}')
        case.warn(pod, "Failed", "Error: ErrImagePull")
    assert case.found() == (phase, ["app: ImagePullBackOff"])


def test_another_pod_s_event_says_nothing():
    case = starting("ImagePullBackOff", 'Back-off pulling image "acme/web:2"')
    case.warn(case.pods[0], "Failed", f'Failed to pull image "acme/web:2": {NOT_FOUND}')
    assert case.found()[0] is PROGRESSING


@pytest.mark.parametrize("name", ["acme/unauthorized", "acme/not-found", "acme/manifest-unknown", "unauthorized/web"])
@pytest.mark.parametrize(
    "message",
    [
        'failed to resolve reference "docker.io/IMAGE:2": unexpected status: 503 Service Unavailable',
        'failed to do request: Head "https://registry-1.docker.io/v2/IMAGE/manifests/2": dial tcp: i/o timeout',
    ],
)
def test_an_image_may_be_named_like_an_error(name, message):
    case = starting("ErrImagePull", message.replace("IMAGE", name))
    for pod in case.pods:
        edit(pod, image=f"{name}:2")
    assert case.found() == (PROGRESSING, ["app: ErrImagePull"])


@pytest.mark.parametrize("image", ["acme/web:1.429", "acme/http-429:2", "acme/web@sha256:" + "0429" * 16])
@pytest.mark.parametrize(
    "message",
    [
        'failed to resolve reference "docker.io/IMAGE": docker.io/IMAGE: not found',
        "unexpected status code https://ghcr.io/v2/PATH: 401 Unauthorized",
    ],
)
def test_an_image_may_be_named_like_a_rate_limit(image, message):
    path = image.replace("@", "/manifests/").replace(":2", "/manifests/2").replace(":1.429", "/manifests/1.429")
    case = starting("ErrImagePull", message.replace("IMAGE", image).replace("PATH", path))
    for pod in case.pods:
        edit(pod, image=image)
    assert case.found() == (FAILED, ["app: ErrImagePull"])


# Creating containers


def test_a_config_that_the_node_hasn_t_got_yet_is_not_fatal():
    case = starting("CreateContainerConfigError", "failed to sync configmap cache: timed out waiting for the condition")
    assert case.found() == (PROGRESSING, ["app: CreateContainerConfigError"])
    case = starting("CreateContainerConfigError", "failed to sync secret cache: timed out waiting for the condition")
    assert case.found() == (PROGRESSING, ["app: CreateContainerConfigError"])


@pytest.mark.parametrize("message", ['configmap "app" not found', "couldn't find key URL in Secret default/app"])
def test_a_config_that_is_missing_is_fatal(message):
    assert starting("CreateContainerConfigError", message).found()[0] is FAILED


@pytest.mark.parametrize("reason", ["CreateContainerError", "RunContainerError"])
@pytest.mark.parametrize(("seconds", "phase"), [(1, PROGRESSING), (29, PROGRESSING), (31, FAILED), (300, FAILED)])
def test_a_container_that_can_t_be_created_has_thirty_seconds(reason, seconds, phase):
    case = starting(reason, "context deadline exceeded")
    for pod in case.pods:
        case.warn(pod, "Failed", "Error: context deadline exceeded", at=-seconds)
    assert case.found() == (phase, [f"app: {reason}"])
    if phase is PROGRESSING:
        assert case.verdict().look_again == pytest.approx(30 - seconds, abs=1)
        assert case.found(after=32)[0] is FAILED


def test_without_its_event_the_thirty_seconds_count_from_when_the_pod_became_unready():
    case = starting("CreateContainerError", "context deadline exceeded")
    for pod in case.pods:
        condition(pod, "Ready", lastTransitionTime=case.time(-20))
    assert case.found()[0] is PROGRESSING
    assert case.found(after=11)[0] is FAILED


def test_the_time_that_pulling_took_doesn_t_count():
    case = starting("CreateContainerError", "context deadline exceeded")
    for pod in case.pods:
        condition(pod, "Ready", lastTransitionTime=case.time(-120))
        case.warn(pod, "Failed", f'Failed to pull image "acme/web:2": {RATE_LIMITED}', at=-119)
        case.warn(pod, "Failed", "Error: ErrImagePull", at=-119)
        case.warn(pod, "Failed", "Error: context deadline exceeded", at=-1)
    assert case.found()[0] is PROGRESSING
    assert case.found(after=31)[0] is FAILED


# What may heal


@pytest.mark.parametrize(
    ("reason", "message"),
    [
        ("FailedMount", 'MountVolume.SetUp failed for volume "app" : secret "app-secret" not found'),
        ("FailedAttachVolume", 'AttachVolume.Attach failed for volume "pvc-1" : volume is attached elsewhere'),
        ("FailedCreatePodSandBox", "Failed to create pod sandbox: network plugin is not ready"),
    ],
)
def test_what_stands_only_in_an_event_is_a_cause_and_may_heal(reason, message):
    case = starting()
    assert case.found() == (PROGRESSING, [])
    for pod in case.pods:
        case.warn(pod, reason, message)
    assert case.found() == (PROGRESSING, [reason])
    cause = case.verdict().problems[0]
    assert (cause.message, cause.pod, cause.container) == (message, case.pods[0]["metadata"]["name"], None)
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


def test_a_probe_that_fails_is_said_with_its_own_words():
    case = running_unready()
    for pod in case.pods:
        case.warn(pod, "Unhealthy", "Readiness probe failed: HTTP probe failed with statuscode: 503")
    assert case.found() == (PROGRESSING, ["app: ContainersNotReady"])
    message = case.verdict().problems[0].message
    assert "containers with unready status: [app]" in message
    assert "Readiness probe failed: HTTP probe failed with statuscode: 503" in message


def test_a_probe_that_failed_before_is_no_cause():
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


# Admission, quota


@pytest.mark.parametrize(
    "message",
    [
        'pods "web-1" is forbidden: violates PodSecurity "restricted:latest": runAsNonRoot != true',
        'admission webhook "policy.example" denied the request: no latest tags here',
    ],
)
def test_pods_that_admission_refuses_never_come(message):
    case = Case("quota-exceeded")
    condition(case.replicaset, "ReplicaFailure", message=message)
    phase, causes = case.found()
    assert (phase, causes) == (FAILED, ["FailedCreate"])
    cause = case.verdict().problems[0]
    assert (cause.message, cause.pod, cause.container) == (message, None, None)


def test_an_older_replica_set_s_refusal_is_not_ours():
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


# Pods that come and go


def evicted(pod, name="gone1"):
    """Return a copy of a pod as it is left behind when a node was short of memory."""
    left = copy.deepcopy(pod)
    left["metadata"] |= {"name": f"web-1-{name}", "uid": name}
    left["status"] |= {"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory."}
    condition(left, "Ready", status="False")
    for container in left["status"]["containerStatuses"]:
        container |= {"ready": False, "state": exited(137), "restartCount": 5}
    return left


def test_evicted_pods_are_reported_while_others_take_their_place():
    case = running_unready()
    case.everything.append(evicted(case.pods[0]))
    assert case.found() == (PROGRESSING, ["app: ContainersNotReady", "Evicted"])
    assert case.verdict().problems[-1].message == "The node was low on resource: memory."


def test_evicted_pods_alone_are_no_verdict():
    case = running_unready()
    case.everything = [evicted(pod, f"gone{number}") for number, pod in enumerate(case.pods)]
    assert case.found() == (PROGRESSING, ["Evicted"])


def test_what_an_eviction_left_behind_doesn_t_stand_against_success():
    case = up()
    case.everything.append(evicted(case.pods[0]))
    assert case.found() == (COMPLETE, [])


def test_nor_does_it_save_pods_that_are_all_stuck():
    case = starting("ErrImageNeverPull")
    case.everything.append(evicted(case.pods[0]))
    phase, causes = case.found()
    assert phase is FAILED
    assert "app: ErrImageNeverPull" in causes


def test_a_pod_that_is_being_deleted_counts_no_more():
    case = starting("ErrImageNeverPull")
    leaving = copy.deepcopy(case.pods[0])
    leaving["metadata"] |= {"name": "web-1-leaving", "uid": "leaving", "deletionTimestamp": case.time()}
    ready(leaving, case.time(-60))
    case.everything.append(leaving)
    assert case.found()[0] is FAILED


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
def test_times_are_whole_seconds_so_one_more_proves_it(settle, after, phase):
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


def test_a_restart_while_the_pod_stays_ready_begins_the_settling_anew():
    case = up()
    edit(case.pods[0], state=running(case.time(-2)), lastState=exited(1), restartCount=1)
    phase, causes = case.found()
    assert phase is PROGRESSING
    assert [each.rpartition(" ")[2] for each in causes] == ["(1)"]
    assert case.found(after=9) == (COMPLETE, [])


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


# Which ReplicaSet


def test_neither_the_stamp_nor_the_highest_revision_says_which_replica_set_is_ours():
    case = up()
    other = copy.deepcopy(case.replicaset)
    other["metadata"] |= {"name": "complete-1", "uid": "another"}
    other["metadata"]["annotations"]["deployment.kubernetes.io/revision"] = "9"
    other["spec"]["template"]["spec"]["containers"][0]["image"] = "acme/web:by-kubectl-set-image"
    case.replicasets.insert(0, other)
    verdict = case.verdict()
    assert (verdict.phase, verdict.revision) == (COMPLETE, 2)


def test_kubectl_set_image_keeps_the_stamp_and_supersedes_all_the_same():
    case = up()
    case.deployment["spec"]["template"]["spec"]["containers"][0]["image"] = "acme/web:3"
    assert case.found() == (SUPERSEDED, [])


def test_a_replica_set_of_a_deployment_that_is_gone_is_not_ours():
    case = up()
    orphan = copy.deepcopy(case.replicaset)
    orphan["metadata"] |= {"name": "orphan", "uid": "orphan"}
    orphan["metadata"]["annotations"]["deployment.kubernetes.io/revision"] = "9"
    orphan["metadata"]["ownerReferences"][0]["uid"] = "gone"
    ownerless = copy.deepcopy(orphan)
    del ownerless["metadata"]["ownerReferences"]
    case.replicasets = [orphan, ownerless, *case.replicasets]
    assert case.verdict().revision == 2


def test_pods_of_older_replica_sets_are_neither_counted_nor_blamed():
    case = Case("complete", 6)
    old = [each for each in case.everything if each not in case.pods]
    for pod in old:
        edit(pod, state=waiting("CrashLoopBackOff"), lastState=exited(1), restartCount=9, ready=False)
        condition(pod, "Ready", status="False")
    assert case.found() == (PROGRESSING, ["complete: ContainersNotReady"])


def test_the_replica_set_s_own_label_makes_no_difference_but_another_label_does():
    case = up()
    assert case.replicaset["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "2"
    case.replicaset["spec"]["template"]["metadata"]["labels"]["tier"] = "x"
    assert case.replicaset is None


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


def test_zero_replicas_are_complete_though_old_pods_still_go():
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


def test_an_autoscaler_takes_a_pod_away_meanwhile():
    case = up()
    case.deployment["spec"]["replicas"] = 1
    case.pods[0]["metadata"]["deletionTimestamp"] = case.time()
    count(case, total=1, ready=1, available=1)
    assert case.found() == (COMPLETE, [])


# The deadline


def late(reason="NewReplicaSetAvailable"):
    """One pod isn't ready any more, and the condition says what it said when both were."""
    case = running_unready()
    case.progressing.update(status="True", reason=reason, lastUpdateTime=case.time())
    return case


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


def test_a_condition_of_days_ago_says_nothing_about_what_has_just_begun():
    case = late()
    case.progressing["lastUpdateTime"] = case.time(-3 * 86_400)
    case.started = case.now
    assert case.found(after=609)[0] is PROGRESSING
    assert case.found(after=611)[0] is FAILED


def test_kubernetes_own_deadline_is_final():
    case = late()
    case.progressing.update(status="False", reason="ProgressDeadlineExceeded")
    assert case.found() == (FAILED, ["app: ContainersNotReady"])


def test_the_deadline_that_the_rollout_before_ran_into_is_not_ours():
    # With the strategy Recreate the controller first takes the old pods down, and leaves the condition as it was.
    case = Case("recreate", 5)
    case.started = case.now
    case.progressing.update(status="False", reason="ProgressDeadlineExceeded", lastUpdateTime=case.time(-3600))
    assert case.verdict().phase is PROGRESSING


# Digests

D1, D2 = ("sha256:" + each * 64 for each in "12")


def template_of(*images, init=()):
    containers = [{"name": f"c{number}", "image": image} for number, image in enumerate(images)]
    inits = [{"name": f"i{number}", "image": image} for number, image in enumerate(init)]
    return {"spec": {"containers": containers} | ({"initContainers": inits} if inits else {})}


def pod_with(*image_ids, init=()):
    statuses = [{"name": f"c{number}", "imageID": each} for number, each in enumerate(image_ids)]
    inits = [{"name": f"i{number}", "imageID": each} for number, each in enumerate(init)]
    return {"status": {"containerStatuses": statuses, "initContainerStatuses": inits}}


@pytest.mark.parametrize(
    ("image", "image_id", "digest"),
    [
        ("acme/web:1", f"docker.io/acme/web@{D1}", D1),
        ("acme/web:1", f"docker-pullable://acme/web@{D1}", D1),
        ("acme/web", f"acme/web@{D1}", D1),
        ("docker.io/acme/web:1", f"index.docker.io/acme/web@{D1}", D1),
        ("nginx", f"docker.io/library/nginx@{D1}", D1),
        ("localhost:5000/web:1", f"localhost:5000/web@{D1}", D1),
        (f"acme/web@{D1}", f"docker.io/acme/web@{D1}", D1),
        (f"acme/web:1@{D1}", f"docker.io/acme/web@{D1}", D1),
        ("acme/web:1", D1, None),
        ("acme/web:1", f"docker://{D1}", None),
        ("acme/web:1", "", None),
        ("acme/web:1", f"docker.io/acme/api@{D1}", None),
        ("acme/web:1", f"ghcr.io/acme/web@{D1}", None),
        ("acme/web:1", "docker.io/acme/web@sha512:" + "1" * 128, None),
        ("acme/web:1", "something else@entirely", None),
    ],
)
def test_a_digest_counts_where_it_is_of_the_image_s_own_repository(image, image_id, digest):
    expected = {"c0": digest} if digest else {}
    assert running_digests(template_of(image), [pod_with(image_id), pod_with(image_id)]) == (expected, False)


def test_every_container_has_its_own_digest():
    template = template_of("acme/web:1", "envoy:1", init=["acme/web:1"])
    pod = pod_with(f"docker.io/acme/web@{D1}", f"docker.io/library/envoy@{D2}", init=[f"docker.io/acme/web@{D1}"])
    assert running_digests(template, [pod]) == ({"c0": D1, "c1": D2, "i0": D1}, False)


def test_pods_of_one_rollout_with_different_digests():
    pods = [pod_with(f"docker.io/acme/web@{each}", f"docker.io/library/envoy@{D2}") for each in (D1, D2)]
    assert running_digests(template_of("acme/web:latest", "envoy:1"), pods) == ({}, True)


@pytest.mark.parametrize("pods", [[], [{"status": {}}], [{}], [pod_with()]])
def test_pods_that_say_nothing_have_no_digest(pods):
    assert running_digests(template_of("acme/web:1"), pods) == ({}, False)


def test_the_recorded_pods_have_one():
    case = up()
    (digest,) = {each["status"]["containerStatuses"][0]["imageID"].partition("@")[2] for each in case.pods}
    assert running_digests(case.template, case.pods) == ({"complete": digest}, False)
