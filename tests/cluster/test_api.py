"""A Deployment is created or patched although other clients change it at the same time."""

import pytest

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


def test_endless_conflicts_are_a_503(client, cluster, faulty):
    cluster.create(deployment())
    faulty(method="PATCH", status=409)
    answer = client.post("/deployment", {"pw": client.right}, Accept="application/json")
    assert (answer.status, answer.json()["reason"]) == (503, "Conflict")
    assert "is being changed all the time; try again" in answer.json()["error"]
