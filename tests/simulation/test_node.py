"""What the node makes of an image, as it was recorded."""

import time

import pytest

from tests.simulation.conftest import (
    MINIMUM,
    NO_MINIMUM,
    PODS,
    PROGRESSED,
    UPDATED,
    Http,
    complete,
    conditions,
    container_state,
    counts,
    deployment,
    events,
    play,
    pods,
    with_image,
)
from tests.simulation.deployments import limits


def test_crash_loop_looks_like_a_success_first(shared):
    play(shared, "crash-loop", "acme/crash:1", replicas=1)
    complete(shared, "crash-loop")  # no probe: Kubernetes believes it
    pod, status = container_state(shared, "crash-loop", "CrashLoopBackOff")
    assert status["restartCount"] == 1 and not status["ready"]
    name, uid = pod["metadata"]["name"], pod["metadata"]["uid"]
    who = f"restarting failed container=web pod={name}_default({uid})"
    assert status["state"] == {"waiting": {"reason": "CrashLoopBackOff", "message": f"back-off 10s {who}"}}
    ended = status["lastState"]["terminated"]
    assert (ended["exitCode"], ended["reason"]) == (1, "Error")
    unready = {c["type"]: (c["reason"], c["message"]) for c in pod["status"]["conditions"] if c["status"] == "False"}
    why = ("ContainersNotReady", "containers with unready status: [web]")
    assert unready == {"Ready": why, "ContainersReady": why} and pod["status"]["phase"] == "Running"
    assert {NO_MINIMUM, PROGRESSED} == shared.wait_for(
        lambda: (found := conditions(shared.get("deployments", "default", "crash-loop"))) & {NO_MINIMUM} and found
    )
    text = f"Back-off restarting failed container web in pod {name}_default({uid})"
    assert ("Warning", "BackOff", text) in events(shared, name)
    http = Http(shared)
    status, log = http("GET", f"{PODS}/{name}/log?previous=true&tailLines=2&container=web")
    assert (status, log) == (200, "  File \"<frozen os>\", line 717, in __getitem__\nKeyError: 'DATABASE_URL'\n")
    assert len(http("GET", f"{PODS}/{name}/log?previous=true&limitBytes=10")[1]) == 10


def test_image_missing(shared):
    play(shared, "gone", "acme/web:1")
    complete(shared, "gone")
    shared.patch("deployments", "default", "gone", with_image("acme/missing:2"))
    pod, status = container_state(shared, "gone", "ErrImagePull")
    assert status["state"]["waiting"]["message"].endswith("docker.io/acme/missing:2: not found")
    assert (status["imageID"], status["image"], pod["status"]["phase"]) == ("", "acme/missing:2", "Pending")
    _, status = container_state(shared, "gone", "ImagePullBackOff")
    assert status["state"]["waiting"]["message"].startswith('Back-off pulling image "acme/missing:2"')
    found = events(shared, pod["metadata"]["name"])
    assert ("Warning", "Failed", "Error: ErrImagePull") in found
    item = shared.get("deployments", "default", "gone")
    assert conditions(item) == {MINIMUM, UPDATED}
    stuck = {"replicas": 3, "updatedReplicas": 1, "readyReplicas": 2, "availableReplicas": 2, "unavailableReplicas": 1}
    assert counts(item) == stuck | {"terminatingReplicas": 0}
    log = Http(shared)("GET", f"{PODS}/{pod['metadata']['name']}/log")
    why = "is waiting to start: trying and failing to pull image"
    assert log[1]["message"] == f'container "web" in pod "{pod["metadata"]["name"]}" {why}'


def test_other_ways_to_fail(shared):
    for name in ("badconfig", "huge", "unready", "slow"):
        play(shared, name, f"acme/{name}:1", replicas=1)
    _, status = container_state(shared, "badconfig", "CreateContainerConfigError")
    assert status["state"]["waiting"]["message"] == 'secret "missing" not found'
    pod = shared.wait_for(lambda: (found := pods(shared, "huge")) and found[0]["status"].get("conditions") and found[0])
    condition = pod["status"]["conditions"][0]
    assert [condition[key] for key in ("type", "status", "reason")] == ["PodScheduled", "False", "Unschedulable"]
    assert condition["message"].startswith("0/1 nodes are available: 1 Insufficient cpu.")
    assert pod["status"]["phase"] == "Pending" and "nodeName" not in pod["spec"]
    assert conditions(shared.get("deployments", "default", "huge")) == {NO_MINIMUM, UPDATED}
    pod, status = container_state(shared, "unready", "running")
    assert pod["status"]["phase"] == "Running" and not status["ready"] and status["started"]
    begun = time.monotonic()
    complete(shared, "slow")
    assert 3 < time.monotonic() - begun < 6


def test_init_container_that_does_not_end(shared):
    item = deployment("init", replicas=1)
    item["spec"]["template"]["spec"]["initContainers"] = [{"name": "first", "image": "acme/hang:1"}]
    shared.create("deployments", "default", item)
    pod, status = container_state(shared, "init", "running", "initContainerStatuses")
    assert status["name"] == "first" and pod["status"]["phase"] == "Pending"
    assert pod["status"]["containerStatuses"][0]["state"] == {"waiting": {"reason": "PodInitializing"}}
    assert Http(shared)("GET", f"{PODS}/{pod['metadata']['name']}/log?container=first") == (200, "")


def test_the_log_of_an_instance_that_is_gone(shared):
    play(shared, "gone-log", "acme/exit0:1", replicas=1)

    def ended_twice():
        for pod in pods(shared, "gone-log"):
            for status in pod["status"].get("containerStatuses", []):
                if "terminated" in status["state"] and status["lastState"]:
                    return pod["metadata"]["name"], status["lastState"]["terminated"]["containerID"]
        return None

    name, instance = shared.wait_for(ended_twice)
    answer = Http(shared)("GET", f"{PODS}/{name}/log?previous=true&tailLines=2")
    # The container may wait for its restart by now: its last instance is there then, and was the second.
    gone = (200, f"unable to retrieve container logs for {instance}")
    assert answer in (gone, (200, "reading the configuration\ndone\n"))


@pytest.mark.parametrize(
    ("wanted", "surge", "unavailable", "pods"),
    [
        (1, "25%", "25%", (1, 0)),
        (3, "25%", "25%", (1, 0)),
        (4, "25%", "25%", (1, 1)),
        (10, "25%", "25%", (3, 2)),
        (3, "0%", "10%", (0, 1)),
        (2, 0, 5, (0, 2)),
    ],
)
def test_percentages_are_rounded_in_favour_of_what_serves(wanted, surge, unavailable, pods):
    rolling = {"maxSurge": surge, "maxUnavailable": unavailable}
    item = {"spec": {"replicas": wanted, "strategy": {"type": "RollingUpdate", "rollingUpdate": rolling}}}
    assert limits(item) == pods


def test_moved_tag(shared):
    shared.digests["acme/moving:latest"] = "sha256:" + "1" * 64
    play(shared, "moving", "acme/moving:latest", replicas=1)
    complete(shared, "moving")

    def ids():
        return {s["imageID"] for p in pods(shared, "moving") for s in p["status"].get("containerStatuses", [])}

    assert ids() == {"docker.io/acme/moving@sha256:" + "1" * 64}
    shared.digests["acme/moving:latest"] = "sha256:" + "2" * 64
    shared.behaviours["sha256:" + "2" * 64] = "crash"
    again = {"spec": {"template": {"metadata": {"annotations": {"again": "1"}}}}}
    shared.patch("deployments", "default", "moving", again)
    _, status = container_state(shared, "moving", "CrashLoopBackOff")
    assert status["imageID"].endswith("2" * 64)
    pinned = "acme/moving:latest@sha256:" + "1" * 64
    shared.patch("deployments", "default", "moving", with_image(pinned))
    shared.wait_for(lambda: ids() == {"docker.io/acme/moving@sha256:" + "1" * 64})
