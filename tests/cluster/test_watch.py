"""The watch of a namespace, tested through the rollouts that are followed in it."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from cluster.api import Cluster
from cluster.snapshot import owner_uid
from cluster.watch import Watches
from tests.conftest import deployment
from tests.rollout.helpers import (
    NO_SPEC,
    Gate,
    asked,
    fail,
    in_background,
    limit_pods,
    quiet_client,
    wait_for_records,
    watches,
)
from tests.service import wait_for

pytestmark = pytest.mark.simulated_only


@pytest.fixture
def service(quick_service):
    return quick_service


@pytest.mark.parametrize("how", ["410", "half a line", "both"])
def test_a_watch_ends(service, cluster, how):
    service.deploy()
    limit_pods(cluster, 1)
    waiting = in_background(service.deploy, image="acme/web:2")
    cluster.simulation.wait_for(lambda: len(watches(cluster)) == 3)
    wait_for_records(cluster, 2)
    if how == "410":
        # The next watches ask for versions that are too old by then.
        cluster.simulation.fail(3, "GET", "watch=true", call=cluster.simulation.expire_history)
    elif how == "both":
        cluster.simulation.expire_history()
    cluster.simulation.cut_watches()
    limit_pods(cluster, None)
    answer = waiting.result()
    assert (answer.status, answer.json()["replicas"]["ready"]) == (200, 1)


def test_all_watches_fall_silent(admin, cluster, tmp_path, monkeypatch):
    # In production it is more than a minute, since an API server sends a bookmark only once a minute.
    monkeypatch.setattr("cluster.api.MAX_SILENCE_SECONDS", 1)
    client = quiet_client(tmp_path, KUBECONFIG=str(admin.kubeconfig), SETTLE_SECONDS="0")
    client.reset(cluster.namespace)
    limit_pods(cluster, 0)
    waiting = in_background(client.deploy)
    cluster.simulation.wait_for(lambda: len(watches(cluster)) == 3)
    wait_for_records(cluster, 1)
    cluster.simulation.silence_watches()
    limit_pods(cluster, None)
    answer = waiting.result()
    assert (answer.status, answer.json()["phase"]) == (200, "complete")


def test_one_watch_lags_behind_the_others(service, cluster):
    limit_pods(cluster, 0)
    fail(cluster, 1, "GET", "replicasets?", delay=1)
    waiting = in_background(service.deploy)
    cluster.simulation.wait_for(lambda: asked(cluster, "watch", "replicasets"))
    limit_pods(cluster, None)
    answer = waiting.result()
    assert answer.status == 200
    assert answer.json()["replicas"] == {"desired": 1, "updated": 1, "ready": 1, "available": 1}


def test_a_second_deployment_is_not_taken_for_deleted_before_it_is_listed(service, cluster):
    """The watch of one Deployment becomes a watch of all: until these are listed, nothing is known of the others."""
    cluster.create(deployment("other"))
    cluster.simulation.wait_for(lambda: cluster.get("other")["status"].get("availableReplicas") == 1)
    service.configure("other", NO_SPEC | {"metadata": {"name": "other"}})
    limit_pods(cluster, 0)
    gate = Gate(cluster, "GET", "deployments?limit", drop=False)
    service.signal("web")
    # It waits for the first list, which is only of that one, when it is asked for the other.
    gate.wait_until_reached()
    shown = in_background(service.show, "other")
    cluster.simulation.wait_for(lambda: [each for each in asked(cluster, "get", "deployments") if each.name == "other"])
    gate.open()
    assert shown.result().status == 200
    limit_pods(cluster, None)
    assert service.show("web", wait=20).status == 200


def test_all_rollouts_of_a_namespace_share_one_watch_of_each_kind(service, cluster):
    names = [f"web{number}" for number in range(6)]
    for name in names:
        service.configure(name, deployment(name, "acme/web:unready"))
    for name in names:
        service.deploy(name, wait=False)
    with ThreadPoolExecutor(len(names)) as pool:
        waiting = [pool.submit(service.show, name, wait=True) for name in names]
        # Without a name: a watch of a single Deployment doesn't count.
        cluster.simulation.wait_for(lambda: len(watches(cluster, name="")) == 3)
        assert all(service.show(name).status == 202 for name in names)
        assert len(watches(cluster, name="")) == 3
        for name in names:
            cluster.delete(name)
        assert {each.result().status for each in waiting} == {424}
    cluster.simulation.wait_for(lambda: not watches(cluster, name=""))


def test_trouble_is_over_when_everything_is_known_again(admin, cluster):
    cluster.create(deployment("web"))
    with Watches(Cluster(str(admin.kubeconfig))).of(cluster.namespace, "web") as view:
        wait_for(lambda: view.snapshot([]))
        fail(cluster, 1, "GET", "pods", status=500)
        cluster.simulation.cut_watches()
        wait_for(lambda: view.trouble)
        wait_for(lambda: view.snapshot([]))
        assert view.trouble is None


def kept(view):
    """Return the uids of all objects that are kept, by kind."""
    things = view._watched._store._things
    return {kind: sorted(uid for each in things[kind].values() for uid in each) for kind in things}


def uids(cluster, name):
    """Return the uids of a Deployment, its ReplicaSets and its pods, by kind."""
    replicasets = cluster.replica_sets(name)
    above = {each["metadata"]["uid"] for each in replicasets}
    pods = [each for each in cluster._admin.list("pods", cluster.namespace) if owner_uid(each) in above]
    things = {"deployments": [cluster.get(name)], "replicasets": replicasets, "pods": pods}
    return {kind: sorted(each["metadata"]["uid"] for each in found) for kind, found in things.items()}


def test_nothing_is_kept_that_has_no_followed_owner(admin, cluster):
    for name in ("web", "other", "web-2"):
        cluster.create(deployment(name))
    for name in ("web", "other", "web-2"):
        cluster.simulation.wait_for(lambda name=name: cluster.get(name)["status"].get("availableReplicas"))
    watches = Watches(Cluster(str(admin.kubeconfig)))
    with watches.of(cluster.namespace, "web") as view:
        wait_for(lambda: view.snapshot([]))
        assert kept(view) == uids(cluster, "web")
        # What comes later is dropped too, and what belongs to the followed Deployment is not.
        for name in ("other", "web"):
            cluster.patch(
                {"spec": {"template": {"spec": {"containers": [{"name": "web", "image": "acme/web:2"}]}}}}, name
            )
            cluster.simulation.wait_for(lambda name=name: len(uids(cluster, name)["replicasets"]) == 2)
        wait_for(lambda: kept(view) == uids(cluster, "web"))
        with watches.of(cluster.namespace, "other") as another:
            wait_for(lambda: another.snapshot([]))
            wait_for(lambda: len(another.snapshot([]).pods) == len(uids(cluster, "other")["pods"]))
            assert len(view.snapshot([]).replicasets) == len(another.snapshot([]).replicasets) == 2


class Paged(Cluster):
    """Note of each page whether it was dropped before the next one was read."""

    def __init__(self, kubeconfig):
        super().__init__(kubeconfig)
        self.dropped = []

    def pages(self, kind, namespace, name=None):
        for page in super().pages(kind, namespace, name):
            yield page
            self.dropped.append(not page)


def test_one_page_at_a_time_is_held_in_memory(admin, cluster, monkeypatch):
    monkeypatch.setattr("cluster.api.MAX_PAGE_ITEMS", 1)
    for number in range(4):
        pod = {"metadata": {"name": f"foreign-{number}"}, "spec": {"containers": [{"name": "main", "image": "other"}]}}
        cluster.create(pod, "pods")
    cluster.create(deployment("web"))
    paged = Paged(str(admin.kubeconfig))
    with Watches(paged).of(cluster.namespace, "web") as view:
        wait_for(lambda: view.snapshot([]))
    assert len([each for each in asked(cluster, "list", "pods") if "continue" in each.query]) >= 3
    assert len(paged.dropped) >= 5
    assert all(paged.dropped)
