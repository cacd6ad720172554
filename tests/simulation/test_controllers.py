"""Rollouts, as the controllers of a real control plane were recorded."""

import re
import time

import pytest

from tests.simulation.conftest import (
    CREATED,
    DEPLOYMENTS,
    MINIMUM,
    NO_MINIMUM,
    PROGRESSED,
    UPDATED,
    Http,
    complete,
    conditions,
    counts,
    deployment,
    play,
    pods,
    states,
    with_image,
)


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
    sizes = {
        name: [item["spec"]["replicas"] for item in states(shared, name, "replicasets")]
        for name in (old["metadata"]["name"], new["metadata"]["name"])
    }
    assert [list(dict.fromkeys(each)) for each in sizes.values()] == [[2, 1, 0], [1, 2]]
    pod = pods(shared, "complete")[0]
    assert pod["spec"]["nodeName"] == "node-1" and pod["metadata"]["ownerReferences"][0]["kind"] == "ReplicaSet"
    ready_since = next(c for c in pod["status"]["conditions"] if c["type"] == "Ready")
    assert ready_since["status"] == "True" and re.fullmatch(r"[-\d]+T[:\d]+Z", ready_since["lastTransitionTime"])
    status = pod["status"]["containerStatuses"][0]
    assert status["ready"] and status["restartCount"] == 0 and status["lastState"] == {}
    assert re.fullmatch(r"docker\.io/acme/web@sha256:[0-9a-f]{64}", status["imageID"])


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


def test_pausing_and_going_back(shared):
    item = deployment("back")
    item["metadata"]["annotations"] = {"kubernetes.io/change-cause": "first"}
    shared.create("deployments", "default", item)
    complete(shared, "back")
    change = {"metadata": {"annotations": {"kubernetes.io/change-cause": "second"}}}
    second = with_image("acme/web:2")["spec"]
    shared.patch("deployments", "default", "back", change | {"spec": second | {"paused": True}})
    item = shared.wait_for(
        lambda: (found := shared.get("deployments", "default", "back"))["status"]["observedGeneration"] == 2 and found
    )
    assert "updatedReplicas" not in item["status"] and counts(item)["readyReplicas"] == 2
    shared.patch("deployments", "default", "back", {"spec": {"paused": None, "replicas": 3}})
    assert counts(complete(shared, "back", 3))["updatedReplicas"] == 3
    first = shared.list("replicasets", "default", labels="app=back")
    template = next(r for r in first if r["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "1")
    template = template["spec"]["template"]
    del template["metadata"]["labels"]["pod-template-hash"]
    undo = [{"op": "replace", "path": "/spec/template", "value": template}]  # what kubectl rollout undo sends
    shared.patch("deployments", "default", "back", undo)
    complete(shared, "back", 4)
    both = {
        r["metadata"]["annotations"]["deployment.kubernetes.io/revision"]: r
        for r in shared.list("replicasets", "default", labels="app=back")
    }
    assert sorted(both) == ["2", "3"] and both["3"]["spec"]["replicas"] == 3
    assert both["3"]["metadata"]["annotations"]["kubernetes.io/change-cause"] == "second"


@pytest.mark.parametrize("replicas", [0, 1, 4])
def test_scaling(shared, replicas):
    name = f"scale-to-{replicas}"
    play(shared, name, "acme/web:1")
    complete(shared, name)
    shared.patch("deployments", "default", name, {"spec": {"replicas": replicas}})
    shared.wait_for(lambda: counts(shared.get("deployments", "default", name)).get("readyReplicas", 0) == replicas)


def test_nothing_to_run(shared):
    play(shared, "zero", "acme/web:1", replicas=0)
    item = complete(shared, "zero")
    assert counts(item) == {"terminatingReplicas": 0} and conditions(item) == {MINIMUM, PROGRESSED}


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


def test_many_at_once(cluster):
    begun = time.process_time()
    for n in range(200):
        play(cluster, f"web-{n}", "acme/web:1", replicas=1)

    def done():
        items = cluster.api.store.objects["deployments"].values()
        return all(item["status"].get("availableReplicas") == 1 for item in items)

    cluster.wait_for(done, 20)
    assert time.process_time() - begun < 8


def test_the_oldest_replicasets_beyond_the_limit_go_when_a_rollout_is_complete(shared):
    play(shared, "history", "acme/web:0", revisionHistoryLimit=2)
    for number in range(1, 6):
        patch = {"spec": {"template": {"spec": {"containers": [{"name": "web", "image": f"acme/web:{number}"}]}}}}
        shared.patch("deployments", "default", "history", patch)
        complete(shared, "history", generation=number + 1)

    def names():
        return [each["metadata"]["name"] for each in shared.list("replicasets", "default")]

    shared.wait_for(lambda: sum(name.startswith("history-") for name in names()) == 3)
