"""Holds the simulated cluster to what a real control plane answers; what is expected was recorded on one."""

import http.client
import json
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from kubernetes import client, config, watch

from tests.simulation import SimulatedCluster

STRATEGIC = "application/strategic-merge-patch+json"
DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"
PODS = "/api/v1/namespaces/default/pods"
STRICT = "?fieldValidation=Strict"
MINIMUM = ("Available", "True", "MinimumReplicasAvailable", "Deployment has minimum availability.")
NO_MINIMUM = ("Available", "False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
CREATED = ("Progressing", "True", "NewReplicaSetCreated", 'Created new replica set "NAME"')
UPDATED = ("Progressing", "True", "ReplicaSetUpdated", 'ReplicaSet "NAME" is progressing.')
PROGRESSED = ("Progressing", "True", "NewReplicaSetAvailable", 'ReplicaSet "NAME" has successfully progressed.')


def deployment(name="web", image="acme/web:1", replicas=2, **spec):
    container = {"name": "web", "image": image}
    template = {"metadata": {"labels": {"app": name}}, "spec": {"containers": [container]}}
    spec = {"replicas": replicas, "selector": {"matchLabels": {"app": name}}, "template": template} | spec
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec}


def with_image(image):
    return {"spec": {"template": {"spec": {"containers": [{"name": "web", "image": image}]}}}}


@pytest.fixture(scope="module")
def shared():
    with SimulatedCluster() as cluster:
        yield cluster


@pytest.fixture
def cluster():
    with SimulatedCluster() as cluster:
        yield cluster


class Http:
    """One connection, raw: what the client library hides can be seen."""

    def __init__(self, cluster, token=None):
        self.connection = http.client.HTTPConnection(cluster.url.removeprefix("http://"), timeout=10)
        self.headers = {"Authorization": f"Bearer {token}"} if token else {}

    def __call__(self, method, path, body=None, content_type="application/json"):
        text = body if body is None or isinstance(body, str) else json.dumps(body)
        self.connection.request(method, path, text, {"Content-Type": content_type, **self.headers})
        response = self.connection.getresponse()
        text = response.read().decode()
        return response.status, json.loads(text) if text.startswith("{") else text


def play(cluster, name, image, replicas=2, namespace="default", **spec):
    cluster.create("deployments", namespace, deployment(name, image, replicas, **spec))


def conditions(item):
    found = item["status"].get("conditions", [])
    return {(c["type"], c["status"], c["reason"], re.sub(r'"[\w-]+"', '"NAME"', c["message"])) for c in found}


def counts(item):
    return {key: value for key, value in item["status"].items() if key not in ("conditions", "observedGeneration")}


def states(cluster, name):
    """Return every state that a Deployment has been in."""
    changes = [new for _, resource, _, new in cluster.api.store.history if resource == "deployments" and new]
    return [item for item in changes if item["metadata"]["name"] == name]


def complete(cluster, name, generation=1, namespace="default"):
    def done():
        item = cluster.get("deployments", namespace, name)
        settled = item["status"].get("observedGeneration", 0) >= generation and PROGRESSED in conditions(item)
        now = [counts(item).get(key, 0) for key in ("replicas", "updatedReplicas")]
        return settled and now == [item["spec"]["replicas"]] * 2 and item

    return cluster.wait_for(done)


def pods(cluster, name, namespace="default"):
    return cluster.list("pods", namespace, labels=f"app={name}")


def container_state(cluster, name, reason, key="containerStatuses"):
    def found():
        for pod in pods(cluster, name):
            for status in pod["status"].get(key, []):
                if reason in (status["state"].get("waiting", {}).get("reason"), *status["state"]):
                    return pod, status
        return None

    return cluster.wait_for(found)


def events(cluster, name):
    return [(e["type"], e["reason"], e["message"]) for e in cluster.list("events") if name in e["metadata"]["name"]]


# Rollouts, as recorded


def test_complete(shared):
    play(shared, "complete", "acme/web:1")
    first = complete(shared, "complete")
    assert conditions(first) == {MINIMUM, PROGRESSED}
    ready = {"replicas": 2, "updatedReplicas": 2, "readyReplicas": 2, "availableReplicas": 2, "terminatingReplicas": 0}
    assert counts(first) == ready
    assert first["metadata"]["annotations"] == {"deployment.kubernetes.io/revision": "1"}
    shared.patch("deployments", "default", "complete", with_image("acme/web:2"))
    shared.wait_for(lambda: complete(shared, "complete", 2) and len(pods(shared, "complete")) == 2)
    after = [step for step in states(shared, "complete") if step["metadata"]["generation"] == 2]
    assert all(counts(step)["availableReplicas"] >= 2 and counts(step)["replicas"] <= 3 for step in after)
    told = [(conditions(step), counts(step)) for step in after]
    replaced = {**ready, "replicas": 3, "unavailableReplicas": 1}
    # The states after that one may come and go between two looks of the controller.
    assert ({MINIMUM, UPDATED}, replaced | {"updatedReplicas": 1}) in told
    assert told[-1] == ({MINIMUM, PROGRESSED}, ready)
    old, new = sorted(
        shared.list("replicasets", "default", labels="app=complete"),
        key=lambda item: item["metadata"]["annotations"]["deployment.kubernetes.io/revision"],
    )
    assert (old["spec"]["replicas"], new["spec"]["replicas"]) == (0, 2)
    assert old["status"] == {"replicas": 0, "terminatingReplicas": 0, "observedGeneration": 3}
    hash_ = new["metadata"]["labels"]["pod-template-hash"]
    assert new["metadata"]["name"] == f"complete-{hash_}"
    assert new["spec"]["selector"]["matchLabels"] == {"app": "complete", "pod-template-hash": hash_}
    assert new["metadata"]["annotations"] == {
        "deployment.kubernetes.io/desired-replicas": "2",
        "deployment.kubernetes.io/max-replicas": "3",
        "deployment.kubernetes.io/revision": "2",
    }
    steps = [text for _, reason, text in events(shared, "complete.") if reason == "ScalingReplicaSet"]
    assert [text.rpartition("complete-")[0] + text[-11:] for text in steps] == [
        "Scaled up replica set from 0 to 2",
        "Scaled up replica set from 0 to 1",
        "Scaled down replica set from 2 to 1",
        "Scaled up replica set from 1 to 2",
        "Scaled down replica set from 1 to 0",
    ]
    pod = pods(shared, "complete")[0]
    assert pod["spec"]["nodeName"] == "node-1" and pod["metadata"]["ownerReferences"][0]["kind"] == "ReplicaSet"
    ready_since = next(c for c in pod["status"]["conditions"] if c["type"] == "Ready")
    assert ready_since["status"] == "True" and re.fullmatch(r"[-\d]+T[:\d]+Z", ready_since["lastTransitionTime"])
    status = pod["status"]["containerStatuses"][0]
    assert status["ready"] and status["restartCount"] == 0 and status["lastState"] == {}
    assert re.fullmatch(r"docker\.io/acme/web@sha256:[0-9a-f]{64}", status["imageID"])


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


def test_killed_for_memory(shared):
    play(shared, "oom", "acme/oom:1", replicas=1)
    _, status = container_state(shared, "oom", "CrashLoopBackOff")
    ended = status["lastState"]["terminated"]
    assert (ended["exitCode"], ended["reason"]) == (137, "OOMKilled")


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


def test_init_container_that_crashes(shared):
    item = deployment("init", replicas=1)
    item["spec"]["template"]["spec"]["initContainers"] = [{"name": "first", "image": "acme/crash:1"}]
    shared.create("deployments", "default", item)
    pod, status = container_state(shared, "init", "CrashLoopBackOff", "initContainerStatuses")
    assert status["name"] == "first" and pod["status"]["phase"] == "Pending"
    assert pod["status"]["containerStatuses"][0]["state"] == {"waiting": {"reason": "PodInitializing"}}
    texts = [c.get("message") for c in pod["status"]["conditions"] if c["type"] == "Initialized"]
    assert texts == ["containers with incomplete status: [first]"]


def test_quota_and_policy_show_as_replica_failure(cluster):
    cluster.set_quota("default", "tight", pods=0)
    play(cluster, "full", "acme/web:1")
    item = cluster.wait_for(
        lambda: (found := cluster.get("deployments", "default", "full"))["status"].get("conditions", [])[2:] and found
    )
    failure = item["status"]["conditions"][2]
    assert (failure["type"], failure["status"], failure["reason"]) == ("ReplicaFailure", "True", "FailedCreate")
    why = r"exceeded quota: tight, requested: pods=1, used: pods=0, limited: pods=0"
    assert re.fullmatch(rf'pods "full-\w+-\w+" is forbidden: {why}', failure["message"])
    assert conditions(item) >= {CREATED, NO_MINIMUM}
    assert counts(item) == {"unavailableReplicas": 2, "terminatingReplicas": 0}
    cluster.set_quota("default")
    assert conditions(complete(cluster, "full")) == {MINIMUM, PROGRESSED}
    cluster.set_quota("default", deployments=1)
    status, refusal = Http(cluster)("POST", DEPLOYMENTS, deployment("more"))
    counted = "requested: count/deployments.apps=1, used: count/deployments.apps=1, limited: count/deployments.apps=1"
    assert refusal["message"] == f'deployments.apps "more" is forbidden: exceeded quota: tight, {counted}'
    assert (status, refusal["reason"]) == (403, "Forbidden")
    cluster.patch("deployments", "default", "full", with_image("acme/forbidden:1"))
    policy = cluster.wait_for(
        lambda: [
            c
            for c in cluster.get("deployments", "default", "full")["status"]["conditions"]
            if "violates" in c["message"]
        ]
    )
    assert 'is forbidden: violates PodSecurity "restricted:latest": allowPrivilegeEscalation' in policy[0]["message"]


def test_deadline(shared):
    play(shared, "late", "acme/unready:1", progressDeadlineSeconds=1)
    late = ("Progressing", "False", "ProgressDeadlineExceeded", 'ReplicaSet "NAME" has timed out progressing.')
    shared.wait_for(lambda: late in conditions(shared.get("deployments", "default", "late")))


def test_minimum_of_ready_seconds(shared):
    play(shared, "settle", "acme/web:1", replicas=1, minReadySeconds=2)
    shared.wait_for(lambda: counts(shared.get("deployments", "default", "settle")).get("readyReplicas"))
    assert conditions(shared.get("deployments", "default", "settle")) == {NO_MINIMUM, UPDATED}
    complete(shared, "settle")


def test_recreate_takes_all_down_first(shared):
    play(shared, "recreate", "acme/web:1", strategy={"type": "Recreate"})
    complete(shared, "recreate")
    shared.patch("deployments", "default", "recreate", with_image("acme/web:2"))
    complete(shared, "recreate", 2)
    alive, seen = {}, set()
    for _, resource, old, new in shared.api.store.history:
        item = new or old
        if resource == "pods" and item["metadata"]["name"].startswith("recreate-"):
            alive[item["metadata"]["uid"]] = new and item["spec"]["containers"][0]["image"]
            seen.add(frozenset(filter(None, alive.values())))
    assert seen == {frozenset({"acme/web:1"}), frozenset(), frozenset({"acme/web:2"})}


def test_pausing_scaling_and_going_back(shared):
    item = deployment("back", revisionHistoryLimit=1)
    item["metadata"]["annotations"] = {"kubernetes.io/change-cause": "first"}
    shared.create("deployments", "default", item)
    complete(shared, "back")
    change = {"metadata": {"annotations": {"kubernetes.io/change-cause": "second"}}, "spec": {"paused": True}}
    shared.patch(
        "deployments", "default", "back", change | {"spec": with_image("acme/web:2")["spec"] | {"paused": True}}
    )
    paused = ("Progressing", "Unknown", "DeploymentPaused", "Deployment is paused")
    item = shared.wait_for(
        lambda: (found := shared.get("deployments", "default", "back"))["status"]["observedGeneration"] == 2 and found
    )
    assert conditions(item) == {MINIMUM, paused} and "updatedReplicas" not in item["status"]
    shared.patch("deployments", "default", "back", {"spec": {"replicas": 3}})
    shared.wait_for(lambda: counts(shared.get("deployments", "default", "back")).get("readyReplicas") == 3)
    shared.patch("deployments", "default", "back", {"spec": {"paused": None}})
    assert counts(complete(shared, "back", 4))["updatedReplicas"] == 3
    first = shared.list("replicasets", "default", labels="app=back")
    template = next(r for r in first if r["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "1")
    template = template["spec"]["template"]
    del template["metadata"]["labels"]["pod-template-hash"]
    undo = [{"op": "replace", "path": "/spec/template", "value": template}]  # what kubectl rollout undo sends
    shared.patch("deployments", "default", "back", undo)
    complete(shared, "back", 5)
    both = {
        r["metadata"]["annotations"]["deployment.kubernetes.io/revision"]: r
        for r in shared.list("replicasets", "default", labels="app=back")
    }
    assert sorted(both) == ["2", "3"] and both["3"]["spec"]["replicas"] == 3
    notes = both["3"]["metadata"]["annotations"]
    assert notes["deployment.kubernetes.io/revision-history"] == "1"
    assert notes["kubernetes.io/change-cause"] == "second"
    shared.patch("deployments", "default", "back", with_image("acme/web:4"))
    complete(shared, "back", 6)
    shared.wait_for(lambda: len(shared.list("replicasets", "default", labels="app=back")) == 2)


def test_nothing_to_run(shared):
    play(shared, "zero", "acme/web:1", replicas=0)
    item = complete(shared, "zero")
    assert counts(item) == {"terminatingReplicas": 0} and conditions(item) == {MINIMUM, PROGRESSED}


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


def test_deleting_and_evicting(cluster):
    play(cluster, "web", "acme/web:1")
    complete(cluster, "web")
    owner = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}
    owner["uid"] = cluster.get("deployments", "default", "web")["metadata"]["uid"]
    meta = {"name": "ledger", "ownerReferences": [owner]}
    cluster.create("configmaps", "default", {"metadata": meta})
    first, second = pods(cluster, "web")
    cluster.delete("pods", "default", first["metadata"]["name"])
    cluster.evict("default", second["metadata"]["name"])
    cluster.wait_for(lambda: counts(cluster.get("deployments", "default", "web")).get("readyReplicas") == 2)
    evicted = cluster.get("pods", "default", second["metadata"]["name"])
    assert (evicted["status"]["phase"], evicted["status"]["reason"]) == ("Failed", "Evicted")
    cluster.delete("deployments", "default", "web")
    cluster.wait_for(lambda: not any(cluster.list(kind) for kind in ("replicasets", "pods", "configmaps")))


# The API


BAD = {
    "unknown": (lambda d: d["spec"].update(foo=1), 'strict decoding error: unknown field "spec.foo"'),
    "in a container": (
        lambda d: first_container(d).update(port=1),
        'strict decoding error: unknown field "spec.template.spec.containers[0].port"',
    ),
    "replicas": (
        lambda d: d["spec"].update(replicas="three"),
        "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32",
    ),
    "variable": (
        lambda d: first_container(d).update(env=[{"name": "A", "value": 1}]),
        "json: cannot unmarshal number into Go struct field EnvVar.spec.template.spec.containers.env.value "
        "of type string",
    ),
    "quantity": (
        lambda d: first_container(d).update(resources={"requests": {"cpu": "abc"}}),
        "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
    ),
    "list": (
        lambda d: d["spec"]["template"]["spec"].update(containers={"a": 1}),
        "json: cannot unmarshal object into Go struct field PodSpec.spec.template.spec.containers "
        "of type []v1.Container",
    ),
}
INVALID = {
    "containers": (
        lambda d: d["spec"]["template"]["spec"].update(containers=[]),
        "spec.template.spec.containers: Required value",
    ),
    "image": (lambda d: first_container(d).pop("image"), "spec.template.spec.containers[0].image: Required value"),
    "labels": (
        lambda d: d["spec"].update(selector={"matchLabels": {"app": "other"}}),
        'spec.template.metadata.labels: Invalid value: {"app":"web"}: `selector` does not match template `labels`',
    ),
    "several": (
        lambda d: d.pop("spec"),
        "[spec.selector: Required value, spec.template.metadata.labels: Invalid value: null: `selector` does not match "
        "template `labels`, spec.template.spec.containers: Required value]",
    ),
    "negative": (
        lambda d: d["spec"].update(replicas=-1),
        "spec.replicas: Invalid value: -1: must be greater than or equal to 0",
    ),
}


def first_container(item):
    return item["spec"]["template"]["spec"]["containers"][0]


@pytest.mark.parametrize("change, why", BAD.values(), ids=BAD)
def test_create_refuses_what_it_cannot_decode(shared, change, why):
    item = deployment()
    change(item)
    status, answer = Http(shared)("POST", DEPLOYMENTS + STRICT, item)
    text = f'Deployment in version "v1" cannot be handled as a Deployment: {why}'
    assert (status, answer["reason"], answer["message"]) == (400, "BadRequest", text)


@pytest.mark.parametrize("change, why", INVALID.values(), ids=INVALID)
def test_create_refuses_what_is_invalid(shared, change, why):
    item = deployment()
    change(item)
    status, answer = Http(shared)("POST", DEPLOYMENTS + STRICT, item)
    text = f'Deployment.apps "web" is invalid: {why}'
    assert (status, answer["reason"], answer["message"]) == (422, "Invalid", text)
    assert answer["details"]["kind"] == "Deployment" and answer["details"]["causes"]


def test_refusals(cluster):
    http = Http(cluster)
    assert http("POST", DEPLOYMENTS, deployment())[0] == 201
    missing = 'deployments.apps "nothing" not found'
    for method, body in (("GET", None), ("PATCH", {}), ("DELETE", None)):
        status, answer = http(method, DEPLOYMENTS + "/nothing", body, STRATEGIC)
        assert (status, answer["message"]) == (404, missing)
        assert answer["details"] == {"name": "nothing", "group": "apps", "kind": "deployments"}
    elsewhere = DEPLOYMENTS.replace("default", "nowhere")
    assert http("POST", elsewhere, deployment())[1]["message"] == 'namespaces "nowhere" not found'
    status, answer = http("POST", DEPLOYMENTS, deployment())
    assert (status, answer["reason"]) == (409, "AlreadyExists")
    assert answer["message"] == 'deployments.apps "web" already exists'
    bad = [
        ({"spec": {"foo": 1}}, "map[spec:map[foo:1]]", 'strict decoding error: unknown field "spec.foo"'),
        ({"spec": {"replicas": "three"}}, "map[spec:map[replicas:three]]", "unrecognized type: int32"),
        (
            {"spec": {"template": {"metadata": {"annotations": {"a": 1}}}}},
            "map[spec:map[template:map[metadata:map[annotations:map[a:1]]]]]",
            "cannot convert int64 to string",
        ),
    ]
    for patch, quoted, why in bad:
        status, answer = http("PATCH", f"{DEPLOYMENTS}/web{STRICT}", patch, STRATEGIC)
        assert (status, answer["message"]) == (422, f' "" is invalid: patch: Invalid value: "{quoted}": {why}')
    selector = {"selector": {"matchLabels": {"app": "x"}}, "template": {"metadata": {"labels": {"app": "x"}}}}
    status, answer = http("PATCH", f"{DEPLOYMENTS}/web", {"spec": selector}, STRATEGIC)
    value = '{"matchLabels":{"app":"x"}}'
    text = f"spec.selector: Invalid value: {value}: field is immutable"
    assert (status, answer["message"]) == (422, f'Deployment.apps "web" is invalid: {text}')
    status, answer = http("PATCH", f"{DEPLOYMENTS}/web", {"metadata": {"resourceVersion": "1"}}, STRATEGIC)
    text = "the object has been modified; please apply your changes to the latest version and try again"
    assert answer["message"] == f'Operation cannot be fulfilled on deployments.apps "web": {text}'
    assert (status, answer["reason"]) == (409, "Conflict")


def test_dry_run_changes_nothing(cluster):
    http = Http(cluster)
    status, answer = http("POST", f"{DEPLOYMENTS}?dryRun=All", deployment())
    assert status == 201 and "resourceVersion" not in answer["metadata"]
    assert http("GET", DEPLOYMENTS + "/web")[0] == 404
    _, before = http("POST", DEPLOYMENTS, deployment(replicas=0))
    status, answer = http("PATCH", f"{DEPLOYMENTS}/web?dryRun=All", {"spec": {"replicas": 3}}, STRATEGIC)
    assert (status, answer["spec"]["replicas"], answer["metadata"]["generation"]) == (200, 3, 2)
    assert http("GET", DEPLOYMENTS + "/web")[1]["spec"] == before["spec"]


def test_defaults(cluster):
    item = deployment()
    del item["spec"]["replicas"]
    first_container(item).update(
        image="acme/web", ports=[{"containerPort": 80}], resources={"requests": {"cpu": 0.5, "memory": "1024Mi"}}
    )
    _, answer = Http(cluster)("POST", DEPLOYMENTS + STRICT, item)
    assert answer["spec"] == {
        "replicas": 1,
        "selector": {"matchLabels": {"app": "web"}},
        "template": {
            "metadata": {"labels": {"app": "web"}},
            "spec": {
                "containers": [
                    {
                        "name": "web",
                        "image": "acme/web",
                        "ports": [{"containerPort": 80, "protocol": "TCP"}],
                        "resources": {"requests": {"cpu": "500m", "memory": "1Gi"}},
                        "terminationMessagePath": "/dev/termination-log",
                        "terminationMessagePolicy": "File",
                        "imagePullPolicy": "Always",
                    }
                ],
                "restartPolicy": "Always",
                "terminationGracePeriodSeconds": 30,
                "dnsPolicy": "ClusterFirst",
                "securityContext": {},
                "schedulerName": "default-scheduler",
            },
        },
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"}},
        "revisionHistoryLimit": 10,
        "progressDeadlineSeconds": 600,
    }


def variables(item):
    return [(v["name"], v.get("value")) for v in first_container(item)["env"]]


def test_strategic_merge(cluster):
    item = deployment(replicas=0)
    env = [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]
    first_container(item).update(env=env, command=["a", "b"])
    item["metadata"]["annotations"] = {"a": "1"}
    http = Http(cluster)
    http("POST", DEPLOYMENTS, item)

    def patched(patch):
        status, answer = http("PATCH", f"{DEPLOYMENTS}/web{STRICT}&dryRun=All", patch, STRATEGIC)
        assert status == 200, answer
        return answer

    def in_container(**fields):
        return patched({"spec": {"template": {"spec": {"containers": [{"name": "web", **fields}]}}}})

    merged = in_container(env=[{"name": "B", "value": "3"}, {"name": "C", "value": "4"}])
    assert variables(merged) == [("A", "1"), ("B", "3"), ("C", "4")]
    moved = in_container(env=[{"name": "C", "value": "4"}, {"name": "A", "value": "9"}])
    assert variables(moved) == [("C", "4"), ("A", "9"), ("B", "2")]
    assert variables(in_container(env=[{"name": "A", "$patch": "delete"}])) == [("B", "2")]
    assert first_container(in_container(command=["c"]))["command"] == ["c"]
    assert "a" not in patched({"metadata": {"annotations": {"a": None}}})["metadata"].get("annotations", {})
    spec = deployment(image="acme/web:2")["spec"]
    del spec["replicas"]
    replaced = patched({"spec": {"$patch": "replace", **spec}})
    assert replaced["spec"]["replicas"] == 1 and "env" not in first_container(replaced)
    assert first_container(replaced)["image"] == "acme/web:2" and replaced["metadata"]["annotations"]["a"] == "1"
    assert replaced["spec"]["strategy"]["type"] == "RollingUpdate"


def test_generation_counts_what_is_asked_for(cluster):
    cluster.create("deployments", "default", deployment(replicas=0))

    def generation(patch):
        return cluster.patch("deployments", "default", "web", patch)["metadata"]["generation"]

    assert [generation({"metadata": {"labels": {"a": "b"}}}), generation({"spec": {"replicas": 0}})] == [1, 1]
    assert [generation({"metadata": {"annotations": {"a": "b"}}}), generation({"spec": {"replicas": 1}})] == [2, 3]


def test_config_maps(cluster):
    http, path = Http(cluster), "/api/v1/namespaces/default/configmaps"
    _, made = http("POST", path, {"metadata": {"name": "ledger"}, "data": {"a": "1"}})
    status, changed = http("PATCH", path + "/ledger", {"data": {"a": None, "b": "2"}}, "application/merge-patch+json")
    assert (status, changed["data"]) == (200, {"b": "2"})
    status, answer = http("PUT", path + "/ledger", made)
    assert (status, answer["reason"]) == (409, "Conflict")
    status, answer = http("PUT", path + "/ledger", changed | {"data": {"c": "3"}})
    assert (status, answer["data"]) == (200, {"c": "3"})
    assert http("PATCH", path + "/ledger", {"data": {"a:b": "1"}}, STRATEGIC)[0] == 422
    status, answer = http("DELETE", path + "/ledger")
    assert (status, answer["status"]) == (200, "Success")


def test_selectors(shared):
    for name in ("one", "two"):
        play(shared, name, "acme/web:1", replicas=1)
        complete(shared, name)
    http = Http(shared)

    def names(path, query):
        return {item["metadata"]["name"] for item in http("GET", path + query)[1]["items"]}

    assert names(DEPLOYMENTS, "?fieldSelector=metadata.name%3Done") == {"one"}
    (pod,) = names(PODS, "?labelSelector=app%3Done")
    assert names(PODS, "?labelSelector=app+in+(one,two),pod-template-hash") > {pod}
    assert pod not in names(PODS, "?labelSelector=app!%3Done") | names(PODS, "?labelSelector=!app")
    found = http("GET", f"/api/v1/namespaces/default/events?fieldSelector=involvedObject.name%3D{pod}")[1]["items"]
    assert {event["involvedObject"]["name"] for event in found} == {pod}
    assert http("GET", DEPLOYMENTS + "?fieldSelector=spec.foo%3D1")[0] == 400


def test_rules(cluster):
    cluster.rules = {"default": [("get", "deployments")]}
    service, admin = Http(cluster, cluster.token), Http(cluster)
    admin("POST", DEPLOYMENTS, deployment())
    assert service("GET", DEPLOYMENTS + "/web")[0] == 200
    status, answer = service("PATCH", DEPLOYMENTS + "/web", {}, STRATEGIC)
    who = 'User "system:serviceaccount:auto-deployer:auto-deployer"'
    what = 'resource "deployments" in API group "apps" in the namespace "default"'
    assert answer["message"] == f'deployments.apps "web" is forbidden: {who} cannot patch {what}'
    assert (status, answer["reason"]) == (403, "Forbidden")
    assert service("GET", DEPLOYMENTS + "?watch=1")[0] == 403
    assert Http(cluster, "stale")("GET", DEPLOYMENTS + "/web")[1]["message"] == "Unauthorized"
    ours = [(r.verb, r.resource, r.namespace, r.status) for r in cluster.requests if r.user != "admin"]
    assert ours == [
        ("get", "deployments", "default", 200),
        ("patch", "deployments", "default", 403),
        ("watch", "deployments", "default", 403),
    ]


# Watches and faults, as the client library meets them


@pytest.fixture
def api(cluster, tmp_path):
    cluster.write_kubeconfig(tmp_path / "kubeconfig")
    configuration = client.Configuration()
    config.load_kube_config(str(tmp_path / "kubeconfig"), client_configuration=configuration)
    configuration.retries = False
    with client.ApiClient(configuration) as api_client:
        yield client.AppsV1Api(api_client)


class Follower(threading.Thread):
    """Watches until the stream ends, and keeps what it saw and how it ended."""

    def __init__(self, api, **options):
        super().__init__(daemon=True)
        self.api, self.options, self.seen, self.error = api, options, [], None
        self.began = threading.Event()
        self.start()

    def run(self):
        try:
            for event in watch.Watch().stream(self.api.list_namespaced_deployment, "default", **self.options):
                self.seen.append((event["type"], event["object"].metadata.name))
                self.began.set()
        except Exception as error:
            self.error = error


def open_watches(cluster):
    return cluster.api.store.watches


def test_watch(cluster, api):
    api.create_namespaced_deployment("default", deployment("before", replicas=0))
    version = api.list_namespaced_deployment("default").metadata.resource_version
    follower = Follower(api, resource_version=version, timeout_seconds=2, field_selector="metadata.name=web")
    for name in ("other", "web"):
        cluster.create("deployments", "default", deployment(name, replicas=0))
        complete(cluster, name)
    cluster.delete("deployments", "default", "web")
    follower.join(5)
    kinds = [kind for kind, _ in follower.seen]
    assert {name for _, name in follower.seen} == {"web"} and follower.error is None
    assert (kinds[0], kinds[-1], set(kinds[1:-1])) == ("ADDED", "DELETED", {"MODIFIED"})
    assert not open_watches(cluster)


def test_a_watcher_that_leaves_is_noticed(cluster):
    http = Http(cluster)
    http.connection.request("GET", DEPLOYMENTS + "?watch=1")
    assert http.connection.getresponse().status == 200
    cluster.wait_for(lambda: open_watches(cluster))
    http.connection.close()
    cluster.wait_for(lambda: not open_watches(cluster))


def test_history_that_has_expired(cluster, api):
    version = api.list_namespaced_deployment("default").metadata.resource_version
    cluster.expire_history()
    follower = Follower(api, resource_version=version, timeout_seconds=2)
    follower.join(5)
    assert isinstance(follower.error, client.ApiException) and follower.error.status == 410
    fresh = api.list_namespaced_deployment("default").metadata.resource_version
    assert int(fresh) > int(version)
    with pytest.raises(client.ApiException, match="Too large resource version"):
        api.list_namespaced_deployment("default", resource_version="99999999")


def test_watches_that_break_or_say_nothing(cluster, api):
    cut = Follower(api)
    cluster.wait_for(lambda: open_watches(cluster))
    play(cluster, "web", "acme/web:1", replicas=0)
    complete(cluster, "web")
    assert cut.began.wait(5)
    cluster.cut_watches()
    cut.join(5)
    assert not cut.is_alive()
    raw = Http(cluster)
    raw.connection.request("GET", DEPLOYMENTS + "?watch=1&timeoutSeconds=1")
    answer = raw.connection.getresponse()
    assert json.loads(answer.readline())["type"] == "ADDED"
    cluster.silence_watches()
    play(cluster, "more", "acme/web:1", replicas=0)
    answer.fp.raw._sock.settimeout(1.5)  # longer than timeoutSeconds: the connection is as good as dead
    with pytest.raises(TimeoutError):
        while answer.readline():
            pass


def test_requests_that_fail(cluster, api):
    play(cluster, "web", "acme/web:1", replicas=0)
    cluster.fail(2, "GET", "/deployments/web", status=500)
    for _ in range(2):
        with pytest.raises(client.ApiException) as caught:
            api.read_namespaced_deployment("web", "default")
        assert caught.value.status == 500
    assert api.read_namespaced_deployment("web", "default").metadata.name == "web"
    cluster.fail(status=429, path="/web")
    with pytest.raises(client.ApiException) as caught:
        api.read_namespaced_deployment("web", "default")
    assert caught.value.headers["Retry-After"] == "1"
    cluster.fail(drop=True)
    with pytest.raises(ConnectionError):
        Http(cluster)("GET", DEPLOYMENTS + "/web")
    cluster.fail(delay=0.2)
    begun = time.monotonic()
    api.read_namespaced_deployment("web", "default")
    assert time.monotonic() - begun >= 0.2
    other = {"metadata": {"labels": {"by": "somebody"}}}
    cluster.fail(method="PATCH", call=lambda: cluster.patch("deployments", "default", "web", other))
    seen = api.read_namespaced_deployment("web", "default").metadata.resource_version
    with pytest.raises(client.ApiException) as caught:
        api.patch_namespaced_deployment("web", "default", {"metadata": {"resourceVersion": seen}})
    assert caught.value.status == 409


def test_going_away_and_coming_back(cluster):
    play(cluster, "web", "acme/web:1", replicas=1)
    kept, url = Http(cluster), cluster.url
    assert kept("GET", DEPLOYMENTS + "/web")[0] == 200
    follower = Http(cluster)
    follower.connection.request("GET", DEPLOYMENTS + "?watch=1")
    stream = follower.connection.getresponse()
    cluster.stop_serving()
    with pytest.raises(ConnectionError):
        kept("GET", DEPLOYMENTS + "/web")
    with pytest.raises(ConnectionRefusedError):
        Http(cluster)("GET", DEPLOYMENTS + "/web")
    with pytest.raises(http.client.IncompleteRead):
        stream.read()
    complete(cluster, "web")  # the cluster goes on without its API
    cluster.serve_again()
    assert cluster.url == url and Http(cluster)("GET", DEPLOYMENTS + "/web")[0] == 200


def test_many_at_once(cluster):
    begun = time.process_time()
    for n in range(200):
        play(cluster, f"web-{n}", "acme/web:1", replicas=1)

    def done():
        items = cluster.api.store.objects["deployments"].values()
        return all(item["status"].get("availableReplicas") == 1 for item in items)

    cluster.wait_for(done, 20)
    assert time.process_time() - begun < 8


def test_command_line(tmp_path):
    command = [sys.executable, "-m", "tests.simulation", "--port", "0", "--kubeconfig", str(tmp_path / "config")]
    root = Path(__file__).parents[2]
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) as process:
        url = process.stdout.readline().strip()
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+", url) and url in (tmp_path / "config").read_text()
        process.terminate()
        assert process.wait(5) == 0
