"""The simulated node against a real one: what a kubelet was recorded with is played again, and compared.

For each recording the same two manifests are applied, one after the other. What the recording has must come in the same
order in the simulation: each state of each pod, its events, and what its logs answer at the end. Three things are not
compared: how long a state stands, since the kubelet's own pauses differ by seconds; what the programs log; and states
that are so short that the recording, which looked four times a second, may have missed them (`short`). The simulation
may have those where the recording has none.
"""

import dataclasses
import json
import re
import time
from collections import defaultdict
from pathlib import Path

import pytest

from tests.simulation import SimulatedCluster, node
from tests.simulation.conftest import complete
from tests.simulation.refusals import ApiError

FOLDER = Path(__file__).parent.parent / "recordings" / "kubelet"
RECORDINGS = {file.stem: json.loads(file.read_text()) for file in sorted(FOLDER.glob("*.json"))}
SPEED, PATIENCE_SECONDS = 20, 20
REVISION = "deployment.kubernetes.io/revision"
# A server that has just started refuses the first probe. The simulated one is there as soon as it is started.
NOT_PLAYED = "connect: connection refused"

# In one a pod is deleted before it runs, in the other the runtime names an image by its id, since its tag has moved.
OLD_PODS_DIFFER = {"complete-probed", "moved-tag"}


class Played:
    """A cluster in which all recordings are played at once, and what was to be seen of their pods."""

    def __init__(self, cluster: SimulatedCluster):
        self.cluster = cluster
        # By recording, version and pod: each state, with what the pod's logs answer then, and when it began.
        self.seen: dict[tuple[str, str], dict[str, list[tuple]]] = defaultdict(dict)
        cluster.api.store.listeners.append(self._notice)

    def _notice(self, resource, old, new):
        if resource == "pods" and new:
            meta = new["metadata"]
            states = self.seen[meta["namespace"], meta["annotations"]["version"]].setdefault(meta["name"], [])
            if not states or states[-1][0] != state(new):
                states.append((state(new), self._logs(new), time.monotonic()))

    def _logs(self, pod):
        answers, status = {}, pod["status"]
        for container in status.get("initContainerStatuses", []) + status.get("containerStatuses", []):
            for which in ("present", "previous"):
                try:
                    answer = self.cluster.api.kubelet.log(pod, container["name"], which == "previous")
                    answer = answer if isinstance(answer, str) else "\n".join(answer)
                except ApiError as error:
                    answer = {"status": error.code, "body": error.status}
                answers[container["name"], which] = said(answer, pod["metadata"])
        return answers

    def deploy(self, name: str, version: str) -> None:
        """Apply a recording's first or second manifest."""
        spec = built(RECORDINGS[name]["what"][version], version)
        if version == "second":
            self.cluster.patch("deployments", f"rec-{name}", "web", {"spec": {"$patch": "replace", **spec}})
            return
        # How long the first pod had to be ready changes nothing, but would have to be waited for.
        spec.pop("minReadySeconds", None)
        self.cluster.create("namespaces", "", {"metadata": {"name": f"rec-{name}"}})
        self.cluster.create("deployments", f"rec-{name}", {"metadata": {"name": "web"}, "spec": spec})

    def pods(self, name: str, version: str = "second") -> list[list[tuple]]:
        """Return the states of each pod, in the order in which the pods were created."""
        return list(self.seen[f"rec-{name}", version].values())

    def reached(self, name: str) -> bool:
        """Return whether the pods have been in every state that was recorded."""
        recorded, played = recorded_pods(name), self.pods(name)
        return len(played) >= len(recorded) and all(
            places(states, [one for one, *_ in found]) is not None
            for states, found in zip(recorded.values(), played, strict=False)
        )


def built(differing: dict, version: str) -> dict:
    """Return the spec of a Deployment as it was applied: `what` has what differs from the simplest one."""
    differing = dict(differing)
    pod, spec, replicas = differing.pop("pod", {}), differing.pop("spec", {}), differing.pop("replicas", 1)
    container = {"name": "web", "image": "acme/web:1", "imagePullPolicy": "Always", **differing}
    template = {"metadata": {"labels": {"app": "web"}, "annotations": {"version": version}}}
    template["spec"] = {"containers": [container], "terminationGracePeriodSeconds": 2, **pod}
    return {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}}, "template": template, **spec}


def plain(text: str, meta: dict) -> str:
    """Return a text without what is another's in each run: names, ids, and how long a pull took."""
    for what in ("name", "uid", "namespace"):
        text = text.replace(meta[what], what.upper())
    text = re.sub(r"in [\d.ms]+ \([\d.ms]+ including waiting\). Image size: \d+", "in a while", text)
    return re.sub(r"containerd://[0-9a-f]{64}", "ID", text)


def said(answer: str | dict, meta: dict) -> str | tuple:
    """Return what a log answered: nothing, a sentence or a refusal as it is, and LINES for a program's lines."""
    if isinstance(answer, dict):
        return answer["status"], plain(json.dumps(answer["body"], sort_keys=True), meta)
    return plain(answer, meta) if answer.startswith("unable to retrieve") else "LINES" if answer else ""


def state(pod: dict) -> tuple:
    """Return what is to be seen of a pod, as far as it is the same in each run."""
    meta, status = pod["metadata"], pod["status"]
    conditions = [
        [c["type"], c["status"], c.get("reason"), plain(c.get("message", ""), meta)]
        for c in status.get("conditions", [])
    ]
    containers = []
    for container in status.get("initContainerStatuses", []) + status.get("containerStatuses", []):
        fields = {key: container[key] for key in ("name", "image", "ready", "restartCount", "started")}
        fields["id"] = bool(container.get("containerID")), container["imageID"].partition("@sha256:")[0]
        for key in ("state", "lastState"):
            fields[key] = json.loads(plain(json.dumps(container[key]), meta))
            for times in fields[key].values():
                # Of the times only the one that is no time at all is the same in each run.
                times.pop("finishedAt", None)
                if times.get("startedAt", "")[:4] != "1970":
                    times.pop("startedAt", None)
        containers.append(fields)
    whole = "deletionTimestamp" in meta, status["phase"], status.get("reason"), conditions, containers
    return json.dumps(whole, sort_keys=True)


def short(one: str) -> bool:
    """Return whether a state may be too short to be recorded: before a container runs, and while it does."""
    containers = json.loads(one)[4]
    return not containers or any(
        "running" in container["state"] or container["state"].get("waiting") == {"reason": "ContainerCreating"}
        for container in containers
    )


def recorded_pods(name: str, old: bool = False) -> dict[str, list[str]]:
    """Return the states of each pod of the second version (or of the first) by its name, oldest pod first."""
    objects, timeline = RECORDINGS[name]["objects"], RECORDINGS[name]["timeline"]
    owners = {objects[key]["metadata"]["name"]: objects[key] for point in timeline for key in point["replicasets"]}
    newest = max(owners, key=lambda owner: int(owners[owner]["metadata"]["annotations"][REVISION]))
    found = defaultdict(list)
    for key in (key for point in timeline for key in point["pods"]):
        pod = objects[key]
        if (pod["metadata"]["ownerReferences"][0]["name"] == newest) is not old:
            states = found[pod["metadata"]["name"]]
            if not states or states[-1] != state(pod):
                states.append(state(pod))
    return dict(found)


def places(wanted: list[str], states: list[str]) -> list[int] | None:
    """Return where the wanted states are among these, one after the other; None where one is missing."""
    found, start = [], 0
    for one in wanted:
        if one not in states[start:]:
            return None
        found.append(states.index(one, start))
        start = found[-1] + 1
    return found


def told(events: list[dict], pod: str) -> dict[tuple, dict]:
    """Return the events about a pod, each with what is the same in each run, in the order of their first time."""
    found = {}
    for event in sorted(events, key=lambda event: event["metadata"]["name"].rpartition(".")[2]):
        about = event["involvedObject"]
        if about["name"] == pod and NOT_PLAYED not in event["message"]:
            # Which of the kubelet's threads writes first isn't always the same, so types are told apart in the key.
            key = event["type"], event["reason"], plain(event["message"], about), about.get("fieldPath")
            if key not in found or event.get("count", 0) > found[key].get("count", 0):
                found[key] = event
    return found


@pytest.fixture(scope="module")
def played():
    brief = dataclasses.replace(node.BEHAVIOURS["late"], after=0.5)  # three runs of 4 s are long in a test
    with pytest.MonkeyPatch.context() as patch, SimulatedCluster(speed=SPEED) as cluster:
        patch.setitem(node.BEHAVIOURS, "late", brief)
        played, kubelet = Played(cluster), cluster.api.kubelet
        for image in ("acme/web:crash", "acme/web:slow"):  # the node had them from recordings before
            kubelet.images[image] = kubelet.digest(image)
        for name in RECORDINGS:
            played.deploy(name, "first")
        for name in RECORDINGS:
            complete(cluster, "web", namespace=f"rec-{name}")
        cluster.digests["acme/web:moving"] = "sha256:" + "2" * 64
        cluster.behaviours["sha256:" + "2" * 64] = "broken"
        for name in RECORDINGS:
            played.deploy(name, "second")
        complete(cluster, "web", 2, namespace="rec-evicted")
        cluster.drain("rec-evicted", next(iter(played.seen["rec-evicted", "second"])))
        end = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < end and not all(map(played.reached, RECORDINGS)):
            time.sleep(0.2)
        yield played


@pytest.mark.parametrize("name", RECORDINGS)
def test_states(played, name):
    recorded, found = recorded_pods(name), played.pods(name)
    assert len(found) == len(recorded)
    for wanted, states in zip(recorded.values(), found, strict=True):
        states = [one for one, *_ in states]
        there = places(wanted, states)
        assert there is not None, "\n".join(["recorded:", *wanted, "played:", *states])
        more = [one for place, one in enumerate(states[: there[-1]]) if place not in there]
        assert [one for one in more if not short(one)] == []


@pytest.mark.parametrize("name", sorted(RECORDINGS.keys() - OLD_PODS_DIFFER))
def test_old_pods(played, name):
    recorded = list(recorded_pods(name, old=True).values())
    found = [[one for one, *_ in states] for states in played.pods(name, "first")]
    # Those of several replicas go in any order.
    for wanted, states in zip(sorted(recorded), sorted(found), strict=True):
        assert places(wanted, states) is not None, "\n".join(["recorded:", *wanted, "played:", *states])
        assert any(json.loads(one)[0] for one in states) is any(json.loads(one)[0] for one in wanted)


def test_pauses_before_restarts(played):
    [states] = played.pods("crash")
    ends, runs = [], []
    for one, _, began in states:
        for kind in json.loads(one)[4] and json.loads(one)[4][0]["state"]:
            {"terminated": ends, "running": runs}.get(kind, []).append(began)
    pauses = [(run - end) * SPEED for end, run in zip(ends, runs[1:], strict=False)]
    assert len(pauses) >= 3
    for pause, seconds in zip(pauses, (1, 11, 21), strict=False):
        assert seconds * 0.9 < pause


@pytest.mark.parametrize("name", RECORDINGS)
def test_logs(played, name):
    for (pod, wanted), states in zip(recorded_pods(name).items(), played.pods(name), strict=True):
        answers = states[places(wanted, [one for one, *_ in states])[-1]][1]
        meta = next(o["metadata"] for o in RECORDINGS[name]["objects"].values() if o["metadata"]["name"] == pod)
        for key, answer in RECORDINGS[name]["logs"].items():
            of, *which = key.split("/")
            if of == pod and answer is not None:
                assert answers[tuple(which)] == said(answer, meta), key


@pytest.mark.parametrize("name", RECORDINGS)
def test_events(played, name):
    events = [item for item in RECORDINGS[name]["objects"].values() if "involvedObject" in item]
    simulated = played.cluster.list("events", f"rec-{name}")
    for pod, other in zip(recorded_pods(name), played.seen[f"rec-{name}", "second"], strict=True):
        wanted, found = told(events, pod), told(simulated, other)
        assert list(found) == list(wanted)
        for key, event in wanted.items():
            again = found[key]
            assert again.keys() - {"series"} == event.keys() - {"series"}
            assert again["involvedObject"].keys() == event["involvedObject"].keys()
            assert again["reportingComponent"] == event["reportingComponent"]
            assert again["source"].keys() == event["source"].keys()
            assert (event.get("count", 0) > 1) <= (again.get("count", 0) > 1)
