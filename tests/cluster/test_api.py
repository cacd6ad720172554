"""A Deployment is created or patched although other clients change it at the same time."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from cluster.api import Cluster
from tests.conftest import deployment

pytestmark = pytest.mark.simulated_only


def test_a_deployment_that_another_client_creates_in_between_is_patched(client, cluster, faulty):
    faulty(1, "POST", call=lambda: cluster.create(deployment(image="acme/web:0")))
    assert client.signal().status == 200
    assert cluster.writes == ["POST", "PATCH"]


def test_a_deployment_that_another_client_deletes_in_between_is_created(client, cluster, faulty):
    cluster.create(deployment(image="acme/web:0"))
    faulty(1, "PATCH", call=lambda: cluster.delete("web"))
    assert client.signal().status == 200
    assert cluster.writes == ["PATCH", "POST"]


def test_a_signal_succeeds_after_a_burst_of_conflicts(client, cluster, faulty):
    cluster.create(deployment(image="acme/web:0"))
    faulty(8, "PATCH", status=409)
    assert client.signal().status == 200
    assert cluster.get("web")["spec"]["template"]["spec"]["containers"][0]["image"] == "acme/web:1"


def test_endless_conflicts_are_a_503(client, cluster, faulty, monkeypatch):
    monkeypatch.setattr("cluster.api.MAX_APPLY_SECONDS", 2)
    cluster.create(deployment())
    faulty(method="PATCH", status=409)
    answer = client.post("/deployment", {"pw": client.right}, Accept="application/json")
    assert (answer.status, answer.json()["reason"]) == (503, "Conflict")
    assert "is being changed all the time; try again" in answer.json()["error"]


# What other clients change between our read and our patch

NO_SPEC = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}}


@pytest.mark.parametrize("manifest", [deployment(), NO_SPEC])
def test_a_pause_in_between_is_not_overwritten(client, cluster, faulty, manifest):
    cluster.create(deployment(image="acme/web:0"))
    client.configure("web", manifest)
    faulty(1, "PATCH", call=lambda: cluster.patch({"spec": {"paused": True}}))
    answer = client.post("/deployment", {"pw": client.right}, Accept="application/json")
    assert (answer.status, answer.json()["reason"]) == (409, "Paused")
    live = cluster.get("web")["spec"]
    assert (live["paused"], live["template"]["spec"]["containers"][0]["image"]) == (True, "acme/web:0")


def test_a_scaling_in_between_keeps_its_number_where_the_manifest_has_none(client, cluster, faulty):
    cluster.create(deployment(image="acme/web:0"))
    manifest = deployment()
    del manifest["spec"]["replicas"]
    client.configure("web", manifest)
    faulty(1, "PATCH", call=lambda: cluster.patch({"spec": {"replicas": 3}}))
    assert client.signal().status == 200
    assert cluster.get("web")["spec"]["replicas"] == 3


def test_a_container_that_is_added_in_between_gets_the_image_too(client, cluster, faulty):
    cluster.create(deployment(image="acme/web:0"))
    client.configure("web", NO_SPEC)
    worker = {"spec": {"template": {"spec": {"containers": [{"name": "worker", "image": "acme/web:0"}]}}}}
    faulty(1, "PATCH", call=lambda: cluster.patch(worker))
    assert client.signal(image="acme/web:2").status == 200
    images = [each["image"] for each in cluster.get("web")["spec"]["template"]["spec"]["containers"]]
    assert images == ["acme/web:2", "acme/web:2"]


def test_a_hundred_signals_at_once_spread_over_two_replicas(client, service, cluster):
    with ThreadPoolExecutor(100) as pool:
        replicas = [client, service] * 50
        answers = list(pool.map(lambda replica: replica.signal(), replicas))
    assert [answer.status for answer in answers] == [200] * 100


def test_signals_at_once_to_one_replica_do_not_conflict_with_each_other(client, cluster, faulty):
    cluster.create(deployment(image="acme/web:0", replicas=0))
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: client.signal(), range(20)))
    assert [answer.status for answer in answers] == [200] * 20
    # Only the controller, which writes the status, makes a few conflicts.
    assert len(cluster.writes) <= 40


def test_a_signal_waits_only_so_long_for_the_signals_before_it(client, cluster, faulty, monkeypatch):
    monkeypatch.setattr("cluster.api.MAX_APPLY_SECONDS", 1)
    cluster.create(deployment(image="acme/web:0", replicas=0))
    # From then on the controller has nothing to write that could conflict.
    cluster.wait_for(lambda: cluster.replica_sets() and cluster.get()["status"].get("observedGeneration"))
    faulty(1, "PATCH", delay=3)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(client.signal)
        cluster.simulation.wait_for(lambda: cluster.writes)
        second = client.post("/deployment", {"pw": client.right}, Accept="application/json")
    assert first.result().status == 200
    assert (second.status, second.json()["reason"]) == (503, "Conflict")


# What the API server sends back


def test_a_config_map_that_is_written_comes_back_without_its_data(admin, cluster):
    api = Cluster(str(admin.kubeconfig))
    made = api.create_config_map(cluster.namespace, {"metadata": {"name": "records"}, "data": {"one": "1"}})
    changed = api.patch_config_map(cluster.namespace, "records", {"data": {"two": "2"}})
    assert made["metadata"]["resourceVersion"] != changed["metadata"]["resourceVersion"]
    assert "data" not in made | changed
    assert api.read_config_map(cluster.namespace, "records")["data"] == {"one": "1", "two": "2"}
