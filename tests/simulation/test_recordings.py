"""The simulated node against a real one: what a kubelet was recorded with is played again, and compared.

For each recording the same two manifests are applied, one after the other. What the recording has must come in the same
order in the simulation: each state of each pod, its events, and what its logs answer at the end. Three things are not
compared: how long a state stands, since the kubelet's own pauses differ by seconds; what the programs log; and states
that are so short that the recording, which looked four times a second, may have missed them (`short`). The simulation
may have those where the recording has none.
"""

import dataclasses
import json
import time
from collections import defaultdict

import pytest

from tests.simulation import SimulatedCluster, node
from tests.simulation.conftest import complete
from tests.simulation.recorded import RECORDINGS, built, places, recorded_pods, said, state, told
from tests.simulation.refusals import ApiError

SPEED, PATIENCE_SECONDS = 20, 20
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


def short(one: str) -> bool:
    """Return whether a state may be too short to be recorded: before a container runs, and while it does."""
    containers = json.loads(one)[4]
    return not containers or any(
        "running" in container["state"] or container["state"].get("waiting") == {"reason": "ContainerCreating"}
        for container in containers
    )


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
    began = {"terminated": [], "running": []}
    for one, _, when in states:
        for container in json.loads(one)[4]:
            [kind] = container["state"]
            began.get(kind, []).append(when)
    pauses = [(run - end) * SPEED for end, run in zip(began["terminated"], began["running"][1:], strict=False)]
    assert len(pauses) >= 3
    assert all(pause > 0.9 * least for pause, least in zip(pauses, (1, 11, 21), strict=False))


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
            if event.get("count", 0) > 1:
                assert again["count"] > 1
