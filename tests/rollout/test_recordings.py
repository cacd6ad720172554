"""The verdict at each recorded moment of a real cluster: a table for each rollout."""

from datetime import timedelta

import pytest

from rollout.model import Phase, Replicas
from rollout.verdict import judge
from tests.rollout.cases import RECORDINGS, reason_of, recorded, rollouts_in, snapshot_of, time_of

# The key names the recording, the rollout in it, and the seconds to settle. Each line stands for a snapshot: its
# number, the phase, a part of the message, and the problems as "pods: reason (exit code)". The first final phase of a
# rollout is its verdict; later lines show that the verdict stays the same.
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
            index, phase, words, *problems = (each.strip() for each in line.split("|"))
            label = f"{name}-{number}-settle{settle}-{index}"
            yield pytest.param(name, number, settle, int(index), phase, words, "".join(problems), id=label)


def summary(problems):
    """Write problems as the tables have them."""
    pods = {}
    for problem in problems:
        pods.setdefault(reason_of(problem), []).append((problem.pod or "").rpartition("-")[2])
    return ", ".join(f"{' '.join(names)}: {reason}" if any(names) else reason for reason, names in pods.items())


@pytest.mark.parametrize(("name", "number", "settle", "index", "phase", "words", "problems"), list(rows()))
def test_each_moment_of_each_recorded_rollout(name, number, settle, index, phase, words, problems):
    template, started = rollouts_in(name)[number - 1]
    found = recorded(name)[index]
    verdict = judge(template, snapshot_of(found), time_of(found["now"]), settle, started)
    assert verdict.phase == phase, verdict.message
    assert words in verdict.message
    assert summary(verdict.problems) == problems
    # Each recorded container has the name of its recording. These two reasons are not about a container.
    without = {"Unschedulable", "FailedCreate"}
    assert all(problem.container == (None if problem.reason in without else name) for problem in verdict.problems)


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
    template, started = rollouts_in(name)[number - 1]
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
def test_a_problem_has_the_words_of_the_component_that_reported_it(name, number, index, words):
    template, started = rollouts_in(name)[number - 1]
    found = recorded(name)[index]
    verdict = judge(template, snapshot_of(found), time_of(found["now"]), 10, started)
    assert words in verdict.problems[0].message


@pytest.mark.parametrize("settle", [0, 2, 10])
@pytest.mark.parametrize("name", sorted({name for name, _, _ in TIMELINES}))
def test_look_again_is_when_time_alone_brings_the_verdict(name, settle):
    for number, (template, started) in enumerate(rollouts_in(name), 1):
        for found in recorded(name):
            if found["deployment"]["metadata"]["generation"] != number:
                continue
            snapshot, now = snapshot_of(found), time_of(found["now"])
            verdict = judge(template, snapshot, now, settle, started)
            if verdict.phase is not Phase.PROGRESSING or "hasn't begun" in verdict.message:
                assert verdict.look_again is None
                continue
            assert verdict.look_again > 0
            before, after = (now + timedelta(seconds=verdict.look_again + each) for each in (-0.01, 0.01))
            assert judge(template, snapshot, before, settle, started).phase is Phase.PROGRESSING
            assert judge(template, snapshot, after, settle, started).phase in (Phase.COMPLETE, Phase.FAILED)
