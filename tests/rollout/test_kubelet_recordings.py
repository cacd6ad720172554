"""The verdict at each recorded moment of a real kubelet: a table for each rollout."""

from datetime import timedelta

import pytest

from cluster.snapshot import revision_of
from manifest.pod_template import running_digests, without_hash
from rollout.changes import changes
from rollout.model import Phase, Replicas
from rollout.verdict import judge
from tests.rollout.cases import KUBELET, kubelet, reason_of, snapshot_of, start_of, time_of

# The key names the recording, whether an earlier rollout is known to have worked, and the seconds to settle. Each line
# stands for a snapshot: its number, the phase, a part of the message, and the problems as "pod container: reason (exit
# code)". The tables of 10 s where something works leave no snapshot out.
TIMELINES = {
    ("complete", True, 10): """
         0 | progressing | 0 of 1 pod is updated                              |
         1 | progressing | 1 old pod is still to be terminated                |
         2 | progressing | 1 old pod                                          |
         3 | progressing | its pod is ready; watching it for 10 s more        |
         4 | progressing | its pod is ready; watching it for 10 s more        |
         5 | progressing | its pod is ready; watching it for 9 s more         |
         6 | progressing | its pod is ready; watching it for 8 s more         |
         7 | progressing | its pod is ready; watching it for 5 s more         |
    """,
    ("complete", True, 2): """
         3 | progressing | its pod is ready; watching it for 2 s more         |
         4 | progressing | its pod is ready; watching it for 2 s more         |
         5 | progressing | its pod is ready; watching it for 1 s more         |
         6 | complete    | 1 pod is ready                                     |
         7 | complete    | 1 pod is ready                                     |
    """,
    ("complete", True, 0): """
         2 | progressing | 1 old pod                                          |
         3 | complete    | 1 pod is ready                                     |
    """,
    ("complete-probed", True, 10): """
         0 | progressing | 0 of 3 pods are updated                            |
         1 | progressing | 1 of 3 pods are updated                            |
         2 | progressing | 1 of 3 pods are updated                            |
         3 | progressing | 1 of 3 pods are updated                            |
         4 | progressing | 1 of 3 pods are updated                            |
         5 | progressing | 1 of 3 pods are updated                            |
         6 | progressing | 1 of 3 pods are updated                            |
         7 | progressing | 2 of 3 pods are updated                            |
         8 | progressing | 2 of 3 pods are updated                            |
         9 | progressing | 2 of 3 pods are updated                            |
        10 | progressing | 2 of 3 pods are updated                            |
        11 | progressing | 2 of 3 pods are updated                            |
        12 | progressing | 2 of 3 pods are updated                            | k2hhc web: ContainersNotReady
        13 | progressing | 2 of 3 pods are updated                            |
        14 | progressing | 1 old pod                                          |
        15 | progressing | 1 old pod                                          |
        16 | progressing | 1 old pod                                          | kjqz7 web: ContainersNotReady
        17 | progressing | all 3 pods are ready; watching them for 11 s more  |
        18 | progressing | all 3 pods are ready; watching them for 10 s more  |
        19 | progressing | all 3 pods are ready; watching them for 10 s more  |
        20 | progressing | all 3 pods are ready; watching them for 7 s more   |
    """,
    ("complete-probed", True, 2): """
        17 | progressing | all 3 pods are ready; watching them for 3 s more   |
        19 | progressing | all 3 pods are ready; watching them for 2 s more   |
        20 | complete    | 3 pods are ready                                   |
    """,
    ("complete-probed", True, 0): """
        16 | progressing | 1 old pod                                          | kjqz7 web: ContainersNotReady
        17 | complete    | 3 pods are ready                                   |
    """,
    ("crash", True, 10): """
         0 | progressing | hasn't begun                                       |
         1 | progressing | 1 old pod                                          |
         2 | progressing | 1 old pod                                          |
         3 | progressing | 1 old pod                                          |
         4 | progressing | 1 old pod                                          |
         5 | progressing | its pod is ready; watching it for 9 s more         |
         6 | progressing | 0 of 1 updated pods are ready                      | 9kbh8 web: Error (1)
         7 | progressing | 0 of 1 updated pods are ready                      | 9kbh8 web: Error (1)
         8 | progressing | its pod is ready; watching it for 11 s more        | 9kbh8 web: CrashLoopBackOff (1)
         9 | failed      | does not start                                     | 9kbh8 web: CrashLoopBackOff (1)
        10 | failed      | does not start                                     | 9kbh8 web: CrashLoopBackOff (1)
        11 | failed      | does not start                                     | 9kbh8 web: CrashLoopBackOff (1)
        12 | failed      | does not start                                     | 9kbh8 web: CrashLoopBackOff (1)
        13 | failed      | does not start                                     | 9kbh8 web: CrashLoopBackOff (1)
        14 | failed      | does not start                                     | 9kbh8 web: CrashLoopBackOff (1)
        15 | failed      | does not start                                     | 9kbh8 web: CrashLoopBackOff (1)
        16 | failed      | does not start                                     | 9kbh8 web: CrashLoopBackOff (1)
        17 | failed      | does not start                                     | 9kbh8 web: CrashLoopBackOff (1)
    """,
    ("crash", True, 2): """
         5 | progressing | its pod is ready; watching it for 1 s more         |
         8 | progressing | its pod is ready; watching it for 3 s more         | 9kbh8 web: CrashLoopBackOff (1)
         9 | failed      | does not start                                     | 9kbh8 web: CrashLoopBackOff (1)
        11 | failed      | does not start                                     | 9kbh8 web: CrashLoopBackOff (1)
    """,
    # As blind as Kubernetes: there is a moment in which everything is up.
    ("crash", True, 0): """
         4 | progressing | 1 old pod                                          |
         5 | complete    | 1 pod is ready                                     |
    """,
    # The old pod is gone at snapshot 5: from then on three ends are needed.
    ("crash", False, 10): """
         8 | progressing | its pod is ready; watching it for 11 s more        | 9kbh8 web: CrashLoopBackOff (1)
         9 | progressing | 0 of 1 updated pods are ready                      | 9kbh8 web: CrashLoopBackOff (1)
        10 | progressing | 0 of 1 updated pods are ready                      | 9kbh8 web: CrashLoopBackOff (1)
        11 | progressing | its pod is ready; watching it for 10 s more        | 9kbh8 web: CrashLoopBackOff (1)
        12 | failed      | does not start                                     | 9kbh8 web: CrashLoopBackOff (1)
        13 | failed      | does not start                                     | 9kbh8 web: CrashLoopBackOff (1)
        14 | failed      | does not start                                     | 9kbh8 web: CrashLoopBackOff (1)
        17 | failed      | does not start                                     | 9kbh8 web: CrashLoopBackOff (1)
    """,
    ("crash-kept-alive", True, 10): """
         0 | progressing | 0 of 1 pod is updated                              |
         1 | progressing | 1 old pod                                          |
         2 | progressing | 1 old pod                                          |
         3 | progressing | 1 old pod                                          |
         4 | progressing | 1 old pod                                          | 687g5 web: Error (1)
         5 | progressing | 1 old pod                                          | 687g5 web: CrashLoopBackOff (1)
         6 | failed      | does not start                                     | 687g5 web: CrashLoopBackOff (1)
         7 | failed      | does not start                                     | 687g5 web: CrashLoopBackOff (1)
         8 | failed      | does not start                                     | 687g5 web: CrashLoopBackOff (1)
         9 | failed      | does not start                                     | 687g5 web: CrashLoopBackOff (1)
        10 | failed      | does not start                                     | 687g5 web: CrashLoopBackOff (1)
    """,
    # Its old pod serves all the while: that alone shows that the database is there.
    ("crash-kept-alive", False, 10): """
         5 | progressing | 1 old pod                                          | 687g5 web: CrashLoopBackOff (1)
         6 | failed      | does not start                                     | 687g5 web: CrashLoopBackOff (1)
    """,
    ("crash-kept-alive", True, 0): """
         3 | progressing | 1 old pod                                          |
         5 | progressing | 1 old pod                                          | 687g5 web: CrashLoopBackOff (1)
         6 | failed      | does not start                                     | 687g5 web: CrashLoopBackOff (1)
    """,
    ("crash-late", True, 10): """
         0 | progressing | hasn't begun                                       |
         1 | progressing | 1 old pod                                          |
         2 | progressing | 1 old pod                                          |
         3 | progressing | its pod is ready; watching it for 10 s more        |
         4 | progressing | its pod is ready; watching it for 9 s more         |
         5 | progressing | its pod is ready; watching it for 7 s more         |
         6 | progressing | 0 of 1 updated pods are ready                      | 84r25 web: Error (3)
         7 | progressing | its pod is ready; watching it for 10 s more        | 84r25 web: CrashLoopBackOff (3)
         8 | failed      | does not start                                     | 84r25 web: CrashLoopBackOff (3)
         9 | failed      | does not start                                     | 84r25 web: CrashLoopBackOff (3)
        10 | failed      | does not start                                     | 84r25 web: CrashLoopBackOff (3)
        11 | failed      | does not start                                     | 84r25 web: CrashLoopBackOff (3)
        12 | failed      | does not start                                     | 84r25 web: CrashLoopBackOff (3)
    """,
    # It runs for 4 s each time: longer than the settling, so no end counts beside the last one.
    ("crash-late", True, 2): """
         4 | progressing | its pod is ready; watching it for 1 s more         |
         5 | complete    | 1 pod is ready                                     |
         6 | progressing | 0 of 1 updated pods are ready                      | 84r25 web: Error (3)
         8 | progressing | 0 of 1 updated pods are ready                      | 84r25 web: CrashLoopBackOff (3)
        12 | progressing | 0 of 1 updated pods are ready                      | 84r25 web: CrashLoopBackOff (3)
    """,
    ("crash-late", False, 10): """
         8 | progressing | 0 of 1 updated pods are ready                      | 84r25 web: CrashLoopBackOff (3)
         9 | progressing | 0 of 1 updated pods are ready                      | 84r25 web: CrashLoopBackOff (3)
        10 | progressing | its pod is ready; watching it for 10 s more        | 84r25 web: CrashLoopBackOff (3)
        11 | failed      | does not start                                     | 84r25 web: CrashLoopBackOff (3)
        12 | failed      | does not start                                     | 84r25 web: CrashLoopBackOff (3)
    """,
    ("exit-zero", True, 10): """
         0 | progressing | hasn't begun                                       |
         1 | progressing | 1 old pod                                          |
         2 | progressing | 1 old pod                                          |
         3 | progressing | its pod is ready; watching it for 10 s more        |
         4 | progressing | 0 of 1 updated pods are ready                      | hztks web: Completed (0)
         5 | failed      | does not start                                     | hztks web: CrashLoopBackOff (0)
         6 | failed      | does not start                                     | hztks web: CrashLoopBackOff (0)
         7 | failed      | does not start                                     | hztks web: CrashLoopBackOff (0)
         8 | failed      | does not start                                     | hztks web: CrashLoopBackOff (0)
         9 | failed      | does not start                                     | hztks web: CrashLoopBackOff (0)
        10 | failed      | does not start                                     | hztks web: CrashLoopBackOff (0)
        11 | failed      | does not start                                     | hztks web: CrashLoopBackOff (0)
        12 | failed      | does not start                                     | hztks web: CrashLoopBackOff (0)
    """,
    ("exit-zero", True, 2): """
         3 | progressing | its pod is ready; watching it for 2 s more         |
         5 | failed      | does not start                                     | hztks web: CrashLoopBackOff (0)
    """,
    ("exit-zero", False, 10): """
         5 | progressing | 0 of 1 updated pods are ready                      | hztks web: CrashLoopBackOff (0)
         6 | progressing | 0 of 1 updated pods are ready                      | hztks web: CrashLoopBackOff (0)
         7 | progressing | its pod is ready; watching it for 10 s more        | hztks web: CrashLoopBackOff (0)
         8 | failed      | does not start                                     | hztks web: CrashLoopBackOff (0)
         9 | failed      | does not start                                     | hztks web: CrashLoopBackOff (0)
        12 | failed      | does not start                                     | hztks web: CrashLoopBackOff (0)
    """,
    # An event tells of it 0.2 s before the status of the container does.
    ("start-error", True, 10): """
         0 | progressing | 1 old pod                                          |
         1 | progressing | 1 old pod                                          |
         2 | progressing | 1 old pod                                          | bvz7x: Failed
         3 | failed      | does not start                                     | bvz7x web: StartError (128)
         4 | failed      | does not start                                     | bvz7x web: StartError (128)
         5 | failed      | does not start                                     | bvz7x web: StartError (128)
         6 | failed      | does not start                                     | bvz7x web: StartError (128)
         7 | failed      | does not start                                     | bvz7x web: StartError (128)
    """,
    ("start-error", False, 0): """
         3 | failed      | does not start                                     | bvz7x web: StartError (128)
         7 | failed      | does not start                                     | bvz7x web: StartError (128)
    """,
    # A probe kills it, but for 2 s after the start all is well.
    ("liveness", True, 10): """
         0 | progressing | 1 old pod                                          |
         1 | progressing | 1 old pod                                          |
         2 | progressing | 1 old pod                                          |
         3 | progressing | its pod is ready; watching it for 9 s more         |
         4 | progressing | its pod is ready; watching it for 9 s more         |
         5 | progressing | its pod is ready; watching it for 8 s more         |
         6 | progressing | its pod is ready; watching it for 7 s more         |
         7 | progressing | its pod is ready; watching it for 10 s more        | 6qdtp web: CrashLoopBackOff (0)
         8 | progressing | its pod is ready; watching it for 9 s more         | 6qdtp web: CrashLoopBackOff (0)
         9 | failed      | does not start                                     | 6qdtp web: CrashLoopBackOff (0)
        10 | failed      | does not start                                     | 6qdtp web: CrashLoopBackOff (0)
        11 | failed      | does not start                                     | 6qdtp web: CrashLoopBackOff (0)
        12 | failed      | does not start                                     | 6qdtp web: CrashLoopBackOff (0)
        13 | failed      | does not start                                     | 6qdtp web: CrashLoopBackOff (0)
    """,
    ("liveness", True, 2): """
         5 | progressing | its pod is ready; watching it for 1 s more         |
         6 | complete    | 1 pod is ready                                     |
    """,
    ("liveness", False, 10): """
         9 | progressing | its pod is ready; watching it for 10 s more        | 6qdtp web: CrashLoopBackOff (0)
        10 | failed      | does not start                                     | 6qdtp web: CrashLoopBackOff (0)
        11 | failed      | does not start                                     | 6qdtp web: CrashLoopBackOff (0)
        13 | failed      | does not start                                     | 6qdtp web: CrashLoopBackOff (0)
    """,
    ("startup-probe", True, 10): """
         0 | progressing | hasn't begun                                       |
         1 | progressing | 1 old pod                                          |
         2 | progressing | 1 old pod                                          |
         3 | progressing | 1 old pod                                          |
         4 | progressing | 1 old pod                                          | tht6b web: ContainersNotReady
         5 | progressing | 1 old pod                                          | tht6b web: ContainersNotReady
         6 | progressing | 1 old pod                                          | tht6b web: CrashLoopBackOff (0)
         7 | failed      | does not start                                     | tht6b web: CrashLoopBackOff (0)
         8 | failed      | does not start                                     | tht6b web: CrashLoopBackOff (0)
         9 | failed      | does not start                                     | tht6b web: CrashLoopBackOff (0)
        10 | failed      | does not start                                     | tht6b web: CrashLoopBackOff (0)
        11 | failed      | does not start                                     | tht6b web: CrashLoopBackOff (0)
    """,
    # It runs for 3 s each time, and is never ready: longer than the settling or not, each end counts.
    ("startup-probe", True, 2): """
         6 | progressing | 1 old pod                                          | tht6b web: CrashLoopBackOff (0)
         7 | failed      | does not start                                     | tht6b web: CrashLoopBackOff (0)
         9 | failed      | does not start                                     | tht6b web: CrashLoopBackOff (0)
    """,
    ("startup-probe", False, 10): """
         6 | progressing | 1 old pod                                          | tht6b web: CrashLoopBackOff (0)
         7 | failed      | does not start                                     | tht6b web: CrashLoopBackOff (0)
    """,
    ("init-crash", True, 10): """
         0 | progressing | hasn't begun                                       |
         1 | progressing | 1 old pod                                          |
         2 | progressing | 1 old pod                                          |
         3 | progressing | 1 old pod                                          |
         4 | progressing | 1 old pod                                          |
         5 | progressing | 1 old pod                                          | rdjdc migrate: Error (1)
         6 | progressing | 1 old pod                                          | rdjdc migrate: CrashLoopBackOff (1)
         7 | failed      | does not start                                     | rdjdc migrate: CrashLoopBackOff (1)
         8 | failed      | does not start                                     | rdjdc migrate: CrashLoopBackOff (1)
         9 | failed      | does not start                                     | rdjdc migrate: CrashLoopBackOff (1)
        10 | failed      | does not start                                     | rdjdc migrate: CrashLoopBackOff (1)
        11 | failed      | does not start                                     | rdjdc migrate: CrashLoopBackOff (1)
    """,
    ("init-crash", False, 0): """
         6 | progressing | 1 old pod                                          | rdjdc migrate: CrashLoopBackOff (1)
         7 | failed      | does not start                                     | rdjdc migrate: CrashLoopBackOff (1)
        11 | failed      | does not start                                     | rdjdc migrate: CrashLoopBackOff (1)
    """,
    ("oom", True, 10): """
         0 | progressing | 0 of 1 pod is updated                              |
         1 | progressing | 1 old pod                                          |
         2 | progressing | 1 old pod                                          |
         3 | progressing | its pod is ready; watching it for 10 s more        |
         4 | progressing | its pod is ready; watching it for 10 s more        |
         5 | progressing | its pod is ready; watching it for 9 s more         |
         6 | progressing | 0 of 1 updated pods are ready                      | bpjmp web: OOMKilled (137)
         7 | progressing | its pod is ready; watching it for 10 s more        | bpjmp web: OOMKilled (137)
         8 | failed      | does not start                                     | bpjmp web: OOMKilled (137)
         9 | failed      | does not start                                     | bpjmp web: OOMKilled (137)
        10 | failed      | does not start                                     | bpjmp web: OOMKilled (137)
        11 | failed      | does not start                                     | bpjmp web: OOMKilled (137)
        12 | failed      | does not start                                     | bpjmp web: OOMKilled (137)
    """,
    ("oom", True, 2): """
         3 | progressing | its pod is ready; watching it for 2 s more         |
         7 | progressing | its pod is ready; watching it for 2 s more         | bpjmp web: OOMKilled (137)
         8 | failed      | does not start                                     | bpjmp web: OOMKilled (137)
    """,
    ("oom", False, 10): """
         8 | progressing | 0 of 1 updated pods are ready                      | bpjmp web: OOMKilled (137)
         9 | progressing | 0 of 1 updated pods are ready                      | bpjmp web: OOMKilled (137)
        10 | progressing | its pod is ready; watching it for 10 s more        | bpjmp web: OOMKilled (137)
        11 | failed      | does not start                                     | bpjmp web: OOMKilled (137)
        12 | failed      | does not start                                     | bpjmp web: OOMKilled (137)
    """,
    ("image-missing", True, 10): """
         0 | progressing | 0 of 1 pod is updated                              |
         1 | progressing | 1 old pod                                          |
         2 | progressing | 1 old pod                                          | 9mnvs: Failed
         3 | failed      | does not start                                     | 9mnvs web: ErrImagePull
         4 | failed      | does not start                                     | 9mnvs web: ImagePullBackOff
         5 | failed      | does not start                                     | 9mnvs web: ErrImagePull
         6 | failed      | does not start                                     | 9mnvs web: ErrImagePull
    """,
    ("secret-missing", True, 10): """
         0 | progressing | hasn't begun                                       |
         1 | progressing | 1 old pod                                          |
         2 | progressing | 1 old pod                                          |
         3 | failed      | does not start                                     | kv7qm web: CreateContainerConfigError
         4 | failed      | does not start                                     | kv7qm web: CreateContainerConfigError
    """,
    ("non-root", True, 10): """
         0 | progressing | hasn't begun                                       |
         1 | progressing | 1 old pod                                          |
         2 | progressing | 1 old pod                                          |
         3 | failed      | does not start                                     | cbvrm web: CreateContainerConfigError
         4 | failed      | does not start                                     | cbvrm web: CreateContainerConfigError
    """,
    ("registry-away", True, 10): """
         0 | progressing | 1 old pod                                          |
         1 | progressing | 1 old pod                                          |
         2 | progressing | 1 old pod                                          | bt4wf: Failed
         3 | progressing | 1 old pod                                          | bt4wf web: ErrImagePull
         4 | progressing | 1 old pod                                          | bt4wf web: ImagePullBackOff
         5 | progressing | 1 old pod                                          | bt4wf web: ErrImagePull
         6 | progressing | 1 old pod                                          | bt4wf web: ErrImagePull
    """,
    ("unready", True, 10): """
         0 | progressing | 0 of 1 pod is updated                              |
         1 | progressing | 1 old pod                                          |
         2 | progressing | 1 old pod                                          |
         3 | progressing | 1 old pod                                          |
         4 | progressing | 1 old pod                                          | ftpbd web: ContainersNotReady
         5 | progressing | 1 old pod                                          | ftpbd web: ContainersNotReady
         6 | failed      | made no progress for 20 s                          | ftpbd web: ContainersNotReady
         7 | failed      | made no progress for 20 s                          | ftpbd web: ContainersNotReady
    """,
    ("volume-missing", True, 10): """
         0 | progressing | hasn't begun                                       |
         1 | progressing | 1 old pod                                          |
         2 | failed      | made no progress for 20 s                          | l6lj5: FailedMount
         3 | failed      | made no progress for 20 s                          | l6lj5: FailedMount
    """,
    ("unschedulable", True, 10): """
         0 | progressing | 0 of 1 pod is updated                              |
         1 | progressing | 1 old pod                                          | 6gxl5: Unschedulable
         2 | failed      | made no progress for 20 s                          | 6gxl5: Unschedulable
         3 | failed      | made no progress for 20 s                          | 6gxl5: Unschedulable
    """,
    # The evicted pod is deleted, and another one takes its place: that one starts the settling again.
    ("evicted", True, 10): """
         0 | progressing | 0 of 2 pods are updated                            |
         1 | progressing | 1 of 2 pods are updated                            |
         2 | progressing | 1 of 2 pods are updated                            |
         3 | progressing | 1 old pod                                          |
         4 | progressing | 1 old pod                                          |
         5 | progressing | 1 old pod                                          |
         6 | progressing | 1 old pod                                          |
         7 | progressing | all 2 pods are ready; watching them for 10 s more  |
         8 | progressing | all 2 pods are ready; watching them for 10 s more  |
         9 | progressing | all 2 pods are ready; watching them for 10 s more  |
        10 | progressing | 1 of 2 updated pods is ready                       |
        11 | progressing | 1 of 2 updated pods is ready                       |
        12 | progressing | 1 of 2 updated pods is ready                       |
        13 | progressing | all 2 pods are ready; watching them for 10 s more  |
        14 | progressing | all 2 pods are ready; watching them for 10 s more  |
        15 | progressing | all 2 pods are ready; watching them for 2 s more   |
    """,
    ("evicted", True, 2): """
         9 | progressing | all 2 pods are ready; watching them for 2 s more   |
        13 | progressing | all 2 pods are ready; watching them for 2 s more   |
        15 | complete    | 2 pods are ready                                   |
    """,
    ("evicted", True, 0): """
         6 | progressing | 1 old pod                                          |
         7 | complete    | 2 pods are ready                                   |
    """,
    ("recreate", True, 10): """
         0 | progressing | 0 of 1 pod is updated                              |
         1 | progressing | 0 of 1 pod is updated                              |
         2 | progressing | 0 of 1 pod is updated                              |
         3 | progressing | 0 of 1 updated pods are ready                      |
         4 | progressing | 0 of 1 updated pods are ready                      |
         5 | progressing | 0 of 1 updated pods are ready                      |
         6 | progressing | 0 of 1 updated pods are ready                      |
         7 | progressing | 0 of 1 updated pods are ready                      |
         8 | progressing | its pod is ready; watching it for 10 s more        |
         9 | progressing | its pod is ready; watching it for 1 s more         |
    """,
    ("recreate", True, 2): """
         8 | progressing | its pod is ready; watching it for 2 s more         |
         9 | complete    | 1 pod is ready                                     |
    """,
    ("sidecar", True, 10): """
         0 | progressing | hasn't begun                                       |
         1 | progressing | 1 old pod                                          |
         2 | progressing | 1 old pod                                          |
         3 | progressing | 1 old pod                                          |
         4 | progressing | 1 old pod                                          |
         5 | progressing | 1 old pod                                          |
         6 | progressing | its pod is ready; watching it for 10 s more        |
         7 | progressing | its pod is ready; watching it for 10 s more        |
         8 | progressing | its pod is ready; watching it for 9 s more         |
         9 | progressing | its pod is ready; watching it for 3 s more         |
    """,
    ("sidecar", True, 2): """
         8 | progressing | its pod is ready; watching it for 1 s more         |
         9 | complete    | 1 pod is ready                                     |
    """,
    ("sidecar", True, 0): """
         5 | progressing | 1 old pod                                          |
         6 | complete    | 1 pod is ready                                     |
    """,
    ("moved-tag", True, 10): """
         0 | progressing | 1 old pod                                          |
         1 | progressing | 1 old pod                                          |
         2 | progressing | 1 old pod                                          |
         3 | progressing | 1 old pod                                          |
         4 | progressing | its pod is ready; watching it for 10 s more        |
         5 | progressing | 0 of 1 updated pods are ready                      | sr7q4 web: Error (2)
         6 | progressing | 0 of 1 updated pods are ready                      | sr7q4 web: Error (2)
         7 | progressing | its pod is ready; watching it for 10 s more        | sr7q4 web: CrashLoopBackOff (2)
         8 | failed      | does not start                                     | sr7q4 web: CrashLoopBackOff (2)
         9 | failed      | does not start                                     | sr7q4 web: CrashLoopBackOff (2)
        10 | failed      | does not start                                     | sr7q4 web: CrashLoopBackOff (2)
        11 | failed      | does not start                                     | sr7q4 web: CrashLoopBackOff (2)
        12 | failed      | does not start                                     | sr7q4 web: CrashLoopBackOff (2)
    """,
    ("moved-tag", False, 10): """
         8 | progressing | 0 of 1 updated pods are ready                      | sr7q4 web: CrashLoopBackOff (2)
         9 | progressing | 0 of 1 updated pods are ready                      | sr7q4 web: CrashLoopBackOff (2)
        10 | progressing | its pod is ready; watching it for 11 s more        | sr7q4 web: CrashLoopBackOff (2)
        11 | failed      | does not start                                     | sr7q4 web: CrashLoopBackOff (2)
        12 | failed      | does not start                                     | sr7q4 web: CrashLoopBackOff (2)
    """,
}
WORKING = ("complete", "complete-probed", "evicted", "recreate", "sidecar", "registry-away")
OLD_POD_SERVES = ("crash-kept-alive", "image-missing", "init-crash", "non-root", "registry-away", "secret-missing")
OLD_POD_SERVES += ("start-error", "startup-probe", "unready", "unschedulable", "volume-missing")
NOT_FOUND_BY_PROBE = "probe failed: HTTP probe failed with statuscode: 404"


def template_of(name):
    return kubelet(name)[0]["deployment"]["spec"]["template"]


def first_template_of(name):
    """Return the pod template of the rollout that worked before the recorded one."""
    found = kubelet(name)[0]
    return next(without_hash(each["spec"]["template"]) for each in found["replicasets"] if revision_of(each) == 1)


def verdict_of(name, index, works=True, settle=10, after=0, template=None):
    """Judge the recorded rollout at a snapshot, so many seconds later."""
    found = kubelet(name)[index]
    now = time_of(found["now"]) + timedelta(seconds=after)
    return judge(template or template_of(name), snapshot_of(found), now, settle, start_of(kubelet(name)[0]), works)


def rows():
    for (name, works, settle), table in TIMELINES.items():
        for line in table.strip().splitlines():
            index, phase, words, problems = (each.strip() for each in line.split("|"))
            label = f"{name}-{'works' if works else 'first'}-settle{settle}-{index}"
            yield pytest.param(name, works, settle, int(index), phase, words, problems, id=label)


def summary(problems):
    """Write problems as the tables have them."""
    names = [((each.pod or "").rpartition("-")[2], each.container) for each in problems]
    return ", ".join(
        f"{' '.join(filter(None, each))}: {reason_of(problem)}" for each, problem in zip(names, problems, strict=True)
    )


@pytest.mark.parametrize(("name", "works", "settle", "index", "phase", "words", "problems"), list(rows()))
def test_each_moment_of_each_recorded_rollout(name, works, settle, index, phase, words, problems):
    verdict = verdict_of(name, index, works, settle)
    assert verdict.phase == phase, verdict.message
    assert words in verdict.message
    assert summary(verdict.problems) == problems


def test_the_tables_leave_no_moment_out():
    assert len(KUBELET) == 22
    values = [row.values for row in rows()]
    listed = {(name, index) for name, works, settle, index, *_ in values if (works, settle) == (True, 10)}
    assert listed == {(name, index) for name in KUBELET for index in range(len(kubelet(name)))}


@pytest.mark.parametrize("works", [True, False])
@pytest.mark.parametrize("settle", [0, 2, 10])
@pytest.mark.parametrize("name", WORKING)
def test_what_works_or_may_heal_is_never_called_failed(name, settle, works):
    phases = {verdict_of(name, index, works, settle).phase for index in range(len(kubelet(name)))}
    assert phases <= {Phase.PROGRESSING, Phase.COMPLETE}


@pytest.mark.parametrize("settle", [0, 2, 10])
@pytest.mark.parametrize("name", OLD_POD_SERVES)
def test_an_old_pod_that_serves_shows_that_something_works(name, settle):
    for index in range(len(kubelet(name))):
        assert verdict_of(name, index, False, settle) == verdict_of(name, index, True, settle)


@pytest.mark.parametrize("name", KUBELET)
def test_the_version_that_worked_before_is_superseded_and_never_failed(name):
    for index in range(len(kubelet(name))):
        verdict = verdict_of(name, index, template=first_template_of(name))
        begun = "hasn't begun" not in verdict.message
        assert verdict.phase is (Phase.SUPERSEDED if begun else Phase.PROGRESSING)


@pytest.mark.parametrize("works", [True, False])
@pytest.mark.parametrize("settle", [0, 2, 10])
@pytest.mark.parametrize("name", KUBELET)
def test_look_again_is_when_time_alone_brings_the_verdict(name, settle, works):
    for index in range(len(kubelet(name))):
        verdict = verdict_of(name, index, works, settle)
        if verdict.phase is not Phase.PROGRESSING or "hasn't begun" in verdict.message:
            assert verdict.look_again is None
            continue
        assert verdict.look_again > 0
        assert verdict_of(name, index, works, settle, verdict.look_again - 0.01).phase is Phase.PROGRESSING
        assert verdict_of(name, index, works, settle, verdict.look_again + 0.01).phase in (Phase.COMPLETE, Phase.FAILED)


def foreign_verdict_of(name, index, settle):
    found = kubelet(name)[index]
    return judge(template_of(name), snapshot_of(found), time_of(found["now"]), settle, None, something_works=True)


@pytest.mark.parametrize("settle", [2, 10])
@pytest.mark.parametrize("name", [name for name in KUBELET if name != "evicted"])
def test_a_rollout_of_another_client_is_judged_alike(name, settle):
    for index in range(len(kubelet(name))):
        ours, foreign = verdict_of(name, index, settle=settle), foreign_verdict_of(name, index, settle)
        assert (foreign.phase, foreign.message, foreign.problems) == (ours.phase, ours.message, ours.problems)


def test_a_rollout_of_another_client_stays_complete_when_a_pod_is_replaced():
    phases = [foreign_verdict_of("evicted", index, 10).phase for index in range(16)]
    assert phases == [Phase.PROGRESSING] * 15 + [Phase.COMPLETE]


# The words


RUNTIME = 'OCI runtime create failed: runc create failed: unable to start container process: exec: "/no/such/program"'


@pytest.mark.parametrize(
    ("name", "index", "words"),
    [
        ("crash", 6, "restarted 0 times"),
        ("crash", 8, "restarted once"),
        ("crash", 9, "restarted once"),
        ("crash", 12, "restarted 2 times"),
        ("start-error", 2, RUNTIME),
        ("start-error", 3, RUNTIME),
        ("start-error", 5, RUNTIME),
        ("liveness", 7, f"Liveness {NOT_FOUND_BY_PROBE}"),
        ("liveness", 9, f"Liveness {NOT_FOUND_BY_PROBE}"),
        ("liveness", 10, f"Liveness {NOT_FOUND_BY_PROBE}"),
        ("liveness", 13, f"Liveness {NOT_FOUND_BY_PROBE}"),
        ("startup-probe", 5, f"Startup {NOT_FOUND_BY_PROBE}"),
        ("startup-probe", 6, f"Startup {NOT_FOUND_BY_PROBE}"),
        ("startup-probe", 7, f"Startup {NOT_FOUND_BY_PROBE}"),
        ("startup-probe", 8, f"Startup {NOT_FOUND_BY_PROBE}"),
        ("startup-probe", 9, f"Startup {NOT_FOUND_BY_PROBE}"),
        ("image-missing", 3, "docker.io/acme/web:missing: not found"),
        ("secret-missing", 3, 'secret "nope" not found'),
        ("non-root", 3, "container has runAsNonRoot and image will run as root"),
        ("registry-away", 3, "dial tcp 127.0.0.1:5999: connect: connection refused"),
        ("unready", 4, "containers with unready status: [web]"),
        ("unready", 6, f"Readiness {NOT_FOUND_BY_PROBE}"),
        ("volume-missing", 2, 'MountVolume.SetUp failed for volume "v" : configmap "nope" not found'),
        ("unschedulable", 1, "0/1 nodes are available: 1 Insufficient cpu."),
    ],
)
def test_a_problem_has_the_words_of_the_component_that_reported_it(name, index, words):
    assert words in verdict_of(name, index).problems[0].message


@pytest.mark.parametrize(
    ("name", "index", "counts"),
    [
        ("complete-probed", 16, Replicas(desired=3, updated=3, ready=2, available=2)),
        ("complete-probed", 20, Replicas(desired=3, updated=3, ready=3, available=3)),
        ("crash", 9, Replicas(desired=1, updated=1, ready=0, available=0)),
        # The old pod, which is available, is not counted.
        ("crash-kept-alive", 6, Replicas(desired=1, updated=1, ready=0, available=0)),
        ("evicted", 11, Replicas(desired=2, updated=2, ready=1, available=1)),
        ("recreate", 1, Replicas(desired=1, updated=0, ready=0, available=0)),
    ],
)
def test_revision_and_counts_are_those_of_the_updated_pods(name, index, counts):
    verdict = verdict_of(name, index)
    assert verdict.replicas == counts
    assert verdict.revision == (None if name == "recreate" else 2)


def test_a_tag_that_was_moved_is_a_change():
    snapshot = snapshot_of(kubelet("moved-tag")[3])
    before, after = first_template_of("moved-tag"), template_of("moved-tag")
    ran = [running_digests(each, snapshot.pods_of(snapshot.replicaset_of(each)))[0] for each in (before, after)]
    assert changes(before, after, *ran) == ("image acme/web:moving: sha256:efdc845112cc -> sha256:1f690e13cb78",)
