"""What is known of a namespace is found by the name of the Deployment that it belongs to."""

import copy

import pytest

from cluster.snapshot import MAX_EMPTY_REPLICASETS, Store, trimmed


def thing(name, owner=None, **fields):
    """Make an object as the API server sends it; its uid is its name with a sign before it."""
    metadata = {"name": name, "namespace": "team", "uid": f"#{name}", "resourceVersion": "7", "managedFields": [{}]}
    if owner:
        metadata["ownerReferences"] = [{"uid": f"#{owner}", "controller": True}]
    return {"metadata": metadata, "status": {}} | fields


def replicaset(name, owner, number=1):
    annotations = {"auto-deployer/restartedAt": str(number)}
    template = {
        "metadata": {"annotations": annotations},
        "spec": {"containers": [{"name": "web", "image": "acme/web"}]},
    }
    return thing(name, owner, spec={"replicas": 3, "selector": {}, "template": template})


@pytest.fixture
def store():
    """Hold two Deployments with a ReplicaSet and a pod each, and a pod of a Job."""
    store = Store()
    put(store, "deployments", thing("web"), thing("api"))
    put(store, "replicasets", replicaset("web-1", "web"), replicaset("api-1", "api"))
    put(store, "pods", thing("web-1-a", "web-1"), thing("api-1-a", "api-1"), thing("job-a", "job"), thing("bare"))
    return store


def put(store, kind, *things):
    for each in things:
        store.put(kind, trimmed(kind, each))


def names(things):
    return [each["metadata"]["name"] for each in things]


def test_a_snapshot_holds_what_belongs_to_one_deployment(store):
    put(store, "replicasets", replicaset("web-2", "web", 2))
    put(store, "pods", thing("web-2-a", "web-2"), thing("web-2-b", "web-2"))
    snapshot = store.snapshot("web", [{"reason": "Failed"}])
    assert snapshot.deployment["metadata"]["name"] == "web"
    assert names(snapshot.replicasets) == ["web-1", "web-2"]
    assert names(snapshot.pods) == ["web-1-a", "web-2-a", "web-2-b"]
    assert snapshot.events == [{"reason": "Failed"}]


def test_a_snapshot_of_a_deployment_that_is_not_there_is_empty(store):
    snapshot = store.snapshot("other", [])
    assert (snapshot.deployment, snapshot.replicasets, snapshot.pods) == (None, [], [])


def test_an_object_replaces_its_former_state(store):
    put(store, "pods", thing("web-1-a", "web-1", status={"phase": "Running"}))
    (pod,) = store.snapshot("web", []).pods
    assert pod["status"] == {"phase": "Running"}


def test_a_list_replaces_all_objects_of_its_kind_and_no_others(store):
    store.replace_all("pods", [trimmed("pods", thing("web-1-b", "web-1"))])
    assert names(store.snapshot("web", []).pods) == ["web-1-b"]
    assert names(store.snapshot("api", []).replicasets) == ["api-1"]
    assert store.snapshot("api", []).pods == []
    store.replace_all("replicasets", [])
    assert store.deployment_of("pods", thing("web-1-b", "web-1")) is None
    store.replace_all("deployments", [])
    assert store.snapshot("web", []).deployment is None


@pytest.mark.parametrize(
    ("kind", "removed", "left"),
    [
        ("pods", thing("web-1-a", "web-1"), (["web"], ["web-1"], [])),
        ("replicasets", replicaset("web-1", "web"), (["web"], [], [])),
        ("deployments", thing("web"), ([None], [], [])),
    ],
)
def test_a_deleted_object_is_forgotten(store, kind, removed, left):
    for _ in range(2):
        store.remove(kind, removed)
        snapshot = store.snapshot("web", [])
        deployment = snapshot.deployment and snapshot.deployment["metadata"]["name"]
        assert ([deployment], names(snapshot.replicasets), names(snapshot.pods)) == left
    assert names(store.snapshot("api", []).pods) == ["api-1-a"]


def test_nothing_is_left_of_replicasets_that_are_gone(store):
    """A paused rollout may be followed for weeks, while other Deployments come and go."""
    for number in range(50):
        other = replicaset(f"other-{number}", f"other{number}")
        other["spec"]["template"]["spec"]["containers"][0]["image"] = f"acme/other:{number}"
        put(store, "replicasets", other)
        put(store, "pods", thing(f"other-{number}-a", f"other-{number}"))
        store.remove("pods", thing(f"other-{number}-a", f"other-{number}"))
        store.remove("replicasets", other)
    assert [spec["containers"][0]["image"] for spec in store._pod_specs.values()] == ["acme/web"]
    assert {kind: len(things) for kind, things in store._things.items()} == {
        "deployments": 2,
        "replicasets": 2,
        "pods": 3,
    }
    store.replace_all("replicasets", [])
    assert store._pod_specs == {}


def test_a_deployment_that_takes_the_name_of_another_one_gets_nothing_of_it(store):
    store.remove("deployments", thing("web"))
    other = thing("web")
    other["metadata"]["uid"] = "#another"
    put(store, "deployments", other)
    snapshot = store.snapshot("web", [])
    assert snapshot.deployment["metadata"]["uid"] == "#another"
    assert snapshot.replicasets == snapshot.pods == []


@pytest.mark.parametrize(
    ("kind", "changed", "deployment"),
    [
        ("deployments", thing("other"), "other"),
        ("replicasets", replicaset("web-2", "web"), "web"),
        ("replicasets", replicaset("other-1", "other"), None),
        ("pods", thing("api-1-b", "api-1"), "api"),
        ("pods", thing("job-b", "job"), None),
        ("pods", thing("bare"), None),
    ],
)
def test_it_knows_to_which_deployment_a_change_belongs(store, kind, changed, deployment):
    assert store.deployment_of(kind, changed) == deployment


def test_no_more_is_kept_than_a_verdict_needs():
    web, before = replicaset("web-1", "web"), replicaset("web-1", "web")
    web["metadata"]["annotations"] = {"deployment.kubernetes.io/revision": "4", "deployment.kubernetes.io/notes": "x"}
    kept = trimmed("replicasets", web)
    assert kept["metadata"].keys() == {"name", "namespace", "uid", "ownerReferences", "annotations"}
    assert kept["metadata"]["annotations"] == {"deployment.kubernetes.io/revision": "4"}
    assert kept["spec"] == {"template": before["spec"]["template"]}
    assert trimmed("pods", thing("web-1-a", "web-1", spec={"nodeName": "a"})).keys() == {"metadata", "status"}
    deployment = trimmed("deployments", thing("web", spec={"replicas": 3}))
    assert deployment["spec"] == {"replicas": 3}
    assert "managedFields" not in deployment["metadata"]


def test_templates_that_differ_only_in_the_rollout_id_share_one_pod_spec(store):
    sent = replicaset("web-2", "web", 2)
    before = copy.deepcopy(sent)
    put(store, "replicasets", sent)
    first, second = [each["spec"]["template"] for each in store.snapshot("web", []).replicasets]
    assert first["metadata"] != second["metadata"]
    assert first["spec"] is second["spec"]
    assert sent == before


def test_of_replicasets_without_pods_only_the_newest_are_kept(store):
    for number in range(2, 500):
        found = replicaset(f"web-{number}", "web", number)
        found["metadata"]["annotations"] = {"deployment.kubernetes.io/revision": str(number)}
        found["status"] = {"replicas": int(number == 2), "terminatingReplicas": int(number == 3)}
        put(store, "replicasets", found)
    kept = names(store.snapshot("web", []).replicasets)
    assert {"web-2", "web-3", "web-499"} <= set(kept)
    assert len(kept) <= MAX_EMPTY_REPLICASETS + 3
    assert names(store.snapshot("api", []).replicasets) == ["api-1"]
