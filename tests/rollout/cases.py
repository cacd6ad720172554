"""What pure tests judge: recorded moments of rollouts, edited copies of these, and records."""

import copy
import json
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

from cluster.snapshot import Snapshot
from manifest.annotations import RESTARTED_AT
from rollout.model import Phase, PodProblem
from rollout.record import new_record
from rollout.verdict import judge
from tests.service import ROOT

RECORDINGS = ROOT / "tests" / "recordings"
# The recordings of a real node, by name.
KUBELET = sorted(path.stem for path in (RECORDINGS / "kubelet").glob("*.json"))
# What a registry says that limits the rate of pulls.
RATE_LIMITED = (
    "failed to copy: httpReadSeeker: failed open: unexpected status code "
    "https://registry-1.docker.io/v2/acme/web/manifests/2: 429 Too Many Requests - Server message: toomanyrequests: "
    "You have reached your unauthenticated pull rate limit. https://www.docker.com/increase-rate-limit"
)


@cache
def recorded(name):
    return json.loads((RECORDINGS / f"{name}.json").read_text())["snapshots"]


@cache
def kubelet(name):
    """Return the snapshots of a recording of a real node, with the objects in place of their names."""
    stored = json.loads((RECORDINGS / "kubelet" / f"{name}.json").read_text())
    for found in stored["timeline"]:
        found["deployment"] = stored["objects"][found["deployment"]]
        for kind in ("replicasets", "pods", "events"):
            found[kind] = [stored["objects"][each] for each in found[kind]]
    return stored["timeline"]


def start_of(found):
    """Return when the newest rollout of a snapshot was sent."""
    return time_of(found["now"]) - timedelta(seconds=found["seconds"])


def time_of(text):
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def snapshot_of(found):
    return Snapshot(found["deployment"], found["replicasets"], found["pods"], found["events"])


def rollouts_in(name):
    """Return the template and the start of each rollout in a recording."""
    found_first = {}
    for found in recorded(name):
        generation = found["deployment"]["metadata"]["generation"]
        found_first.setdefault(generation, (found["deployment"]["spec"]["template"], start_of(found)))
    return list(found_first.values())


def reason_of(problem):
    """Return the reason of a problem, with its exit code."""
    return problem.reason if problem.exit_code is None else f"{problem.reason} ({problem.exit_code})"


# Edited copies


class Case:
    """Copy a recorded moment, to be judged for the newest rollout in it, with the clock at a whole second."""

    def __init__(self, name, index=-1):
        found = copy.deepcopy(recorded(name)[index])
        self.deployment, self.replicasets = found["deployment"], found["replicasets"]
        self.everything, self.events = found["pods"], [each for each in found["events"] if each["type"] != "Warning"]
        self.template = copy.deepcopy(self.deployment["spec"]["template"])
        self.now = time_of(found["now"]).replace(microsecond=0)
        self.started, self.something_works = self.now - timedelta(seconds=30), False

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
        now = self.now + timedelta(seconds=after)
        return judge(self.template, snapshot, now, settle, self.started, self.something_works)

    def found(self, settle=10, after=0):
        """Return the phase, and each problem once, without the name of its pod."""
        verdict = self.verdict(settle, after)
        bare = [
            f"{each.container}: {reason_of(each)}" if each.container else reason_of(each) for each in verdict.problems
        ]
        return verdict.phase, list(dict.fromkeys(bare))


def up():
    """Return a case in which both pods of the second rollout have been ready for 13 s."""
    return Case("complete")


def just_up():
    """Return a case in which both pods have been ready for a second."""
    return Case("complete", 9)


def starting(reason="ContainerCreating", message=None):
    """Return a case in which both pods are scheduled, and their container, app, waits for something."""
    case = Case("bad-config", 1)
    for pod in case.pods:
        edit(pod, state=waiting(reason, message), name="app", image="acme/web:2")
        condition(pod, "Ready", message="containers with unready status: [app]")
    return case


def running_unready():
    """Return a case in which both pods run and are not ready."""
    case = starting()
    for pod in case.pods:
        edit(pod, state=running(case.time(-5)), started=True)
    return case


def late(reason="NewReplicaSetAvailable"):
    """Return a case in which no pod is ready any more, and the condition says what it said when both were."""
    case = running_unready()
    case.progressing.update(status="True", reason=reason, lastUpdateTime=case.time())
    return case


def evicted(pod, name="gone1"):
    """Return a copy of a pod as the kubelet leaves it behind when the node is short of memory."""
    left = copy.deepcopy(pod)
    left["metadata"] |= {"name": f"web-1-{name}", "uid": name}
    left["status"] |= {"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory."}
    condition(left, "Ready", status="False")
    for container in left["status"]["containerStatuses"]:
        container |= {"ready": False, "state": exited(137), "restartCount": 5}
    return left


def edit(pod, of="containerStatuses", index=0, **fields):
    pod["status"][of][index] |= fields


def add(pod, of="initContainerStatuses", **fields):
    """Add a container: a copy of the first one with other fields."""
    pod["status"].setdefault(of, []).append(copy.deepcopy(pod["status"]["containerStatuses"][0]) | fields)


def condition(thing, kind, **fields):
    found = next(each for each in thing["status"]["conditions"] if each["type"] == kind)
    found |= fields


def count(case, **numbers):
    """Set the numbers that the controllers count; all pods are updated ones."""
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


# Records

D1 = "sha256:" + "1" * 64
ENDED = datetime(2026, 11, 22, 20, 15, 9, tzinfo=UTC)
# Rollout id -> JSON, as a version wrote it that refused a record with unknown fields.
RECORDED = json.loads((Path(__file__).parent / "records.json").read_text())


def rollout_id(number):
    return f"20261122T2000{number:02}.123456Z"


def record_of(live, number=1, **fields):
    """Make the record of a rollout of a Deployment; the number stands in its rollout id.

    Fields that a record doesn't have are those of its rollout.
    """
    live = copy.deepcopy(live)
    live["spec"]["template"]["metadata"].setdefault("annotations", {})[RESTARTED_AT] = rollout_id(number)
    record = new_record(live)
    inside = {name: fields.pop(name) for name in list(fields) if not hasattr(record, name)}
    if inside.get("phase", Phase.PROGRESSING) is not Phase.PROGRESSING:
        inside = {"finished_at": ENDED} | inside
    return record.replace(rollout=record.rollout.replace(**inside), **fields)


def crash(logs, pod="web-1-x", message="restarted 3 times"):
    """Return the problem of a container that crashes."""
    where = {"pod": pod, "container": "web"}
    return PodProblem(reason="CrashLoopBackOff", message=message, exit_code=1, logs=tuple(logs), **where)


def of_the_future(text):
    """Read a stored record, and add what this version doesn't know, in each place that has a name."""
    stored = json.loads(text)
    stored |= {"approvals": [{"by": "jane", "at": None}], "window": {"from": "22:00"}, "owner": None}
    stored["rollout"] |= {"link": "https://example.com/runs/1", "score": 0.1}
    stored["rollout"]["replicas"]["draining"] = 1
    for problem in stored["rollout"]["causes"]:
        problem["hint"] = {"see": ["a", {"b": 1}]}
    return stored
