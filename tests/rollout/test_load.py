"""What rollouts cost: requests to the API server, watches and threads."""

import time
from pathlib import Path

import pytest

from cluster.watch import View
from tests.rollout.helpers import id_of, watches
from tests.service import wait_for

pytestmark = pytest.mark.simulated_only


def workers(service):
    """Return the pids of the master and its workers."""
    master = service.process.pid
    return [master, *map(int, Path(f"/proc/{master}/task/{master}/children").read_text().split())]


def threads(service):
    """Return how many threads a service has."""
    return sum(len(list(Path(f"/proc/{pid}/task").iterdir())) for pid in workers(service))


def test_a_burst_of_signals_leaves_the_last_rollout_and_no_threads(service, cluster):
    service.deploy()
    cluster.simulation.wait_for(lambda: not watches(cluster))
    wait_for(lambda: "auto_deployer_rollouts_followed 0.0" in service.get("/metrics").text)
    before = threads(service)
    ids = []

    def is_rolled_out():
        return any(id_of({"spec": replica_set["spec"]}) == ids[-1] for replica_set in cluster.replica_sets())

    for number in range(25):
        # Only the last one gets ready, however long the signals take.
        answer = service.deploy(image=f"acme/web:{number}{'-unready' if number < 24 else ''}", wait=False)
        assert answer.status == 200
        ids.append(answer.json()["id"])
        # Each signal starts a rollout of its own in Kubernetes too.
        cluster.simulation.wait_for(is_rolled_out)
    last = service.show(id=ids[-1], wait=True)
    assert (last.status, last.json()["image"]) == (200, "acme/web:24")
    assert service.show().json()["id"] == ids[-1]
    wait_for(lambda: "auto_deployer_rollouts_followed 0.0" in service.get("/metrics").text)
    newest, *others = service.show().json()["history"]
    assert (newest["id"], newest["phase"]) == (ids[-1], "complete")
    assert [each["id"] for each in others] == ids[-2:-21:-1]
    assert {each["phase"] for each in others} <= {"superseded", "complete"}
    assert sum(each["phase"] == "superseded" for each in others) >= len(others) - 3
    cluster.simulation.wait_for(lambda: not watches(cluster))
    wait_for(lambda: threads(service) <= before)


def test_a_rollout_takes_few_requests_and_an_idle_service_none(quiet, cluster, monkeypatch):
    # A watch that is half a second late makes the service list everything again. On a busy machine it may be late for
    # nothing, so it gets more time here; test_api_failures.py has the test of watches that miss something.
    in_time = View.wait
    monkeypatch.setattr(View, "wait", lambda view, seconds: in_time(view, seconds and max(seconds, 20)))
    quiet.deploy()
    cluster.simulation.wait_for(lambda: not watches(cluster))
    before = len(cluster.requests)
    assert quiet.deploy(image="acme/web:2").status == 200
    cluster.simulation.wait_for(lambda: not watches(cluster))
    used = cluster.requests[before:]
    assert len(used) <= 18, [f"{each.verb} {each.resource}" for each in used]
    # It lists and watches each kind once, however many follow.
    assert [each.resource for each in used].count("pods") <= 2
    before = len(cluster.requests)
    time.sleep(1)
    assert len(cluster.requests) == before
