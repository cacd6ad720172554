"""Rollouts while the API server is away, busy or broken, or while a watch misses something."""

import pytest

from tests.rollout.helpers import (
    fail,
    id_of,
    in_background,
    limit_pods,
    phases,
    records,
    set_image,
    wait_for_records,
    watches,
)
from tests.service import wait_for

pytestmark = pytest.mark.simulated_only


def test_the_api_server_goes_away_during_a_rollout(service, cluster):
    service.deploy()
    limit_pods(cluster, 1)
    waiting = in_background(service.deploy, image="acme/web:2")
    cluster.simulation.wait_for(lambda: len(watches(cluster)) == 3)
    wait_for_records(cluster, 2)
    logged = len(service.log)
    cluster.simulation.stop_serving()
    try:
        rollout_id = id_of(cluster.get())
        limit_pods(cluster, None)
        assert service.get("/readyz").status == service.get("/healthz").status == 200
        # The service answers for what it follows all the same.
        assert service.show(id=rollout_id).status == 202
        wait_for(lambda: any("can't be reached" in line["message"] for line in service.log[logged:]))
        cluster.simulation.wait_for(lambda: cluster.get()["status"].get("updatedReplicas") == 1)
        cluster.simulation.wait_for(lambda: cluster.get()["status"].get("replicas") == 1)
    finally:
        cluster.simulation.serve_again()
    answer = waiting.result()
    assert (answer.status, answer.json()["id"]) == (200, rollout_id)
    assert phases(service.show()) == ["complete", "complete"]


def test_the_api_server_is_away_at_the_start(service, cluster):
    service.deploy()
    limit_pods(cluster, 1)
    rollout_id = service.deploy(image="acme/web:2", wait=False).json()["id"]
    wait_for_records(cluster, 2)
    service.kill()
    logged = len(service.log)
    cluster.simulation.stop_serving()
    try:
        service.start()
        wait_for(lambda: any("can't be looked for yet" in line["message"] for line in service.log[logged:]))
        assert service.show().status == 503
    finally:
        cluster.simulation.serve_again()
    limit_pods(cluster, None)
    cluster.simulation.wait_for(lambda: records(cluster)[1]["rollout"]["phase"] == "complete")
    assert service.show(id=rollout_id, wait=5).status == 200


@pytest.mark.parametrize("status", [429, 500])
def test_the_api_server_is_busy_or_broken(service, cluster, status):
    service.deploy()
    for resource in ("deployments?", "replicasets", "pods", "configmaps", "events"):
        fail(cluster, 2, "", resource, status=status)
    fail(cluster, 1, "PATCH", "configmaps", status=status)
    answer = service.deploy(image="acme/web:2")
    assert (answer.status, answer.json()["phase"]) == (200, "complete")
    assert phases(service.show()) == ["complete", "complete"]


def test_a_verdict_waits_until_the_api_server_can_record_it(service, cluster):
    limit_pods(cluster, 0)
    rollout_id = service.deploy(image="acme/web:badconfig", wait=False).json()["id"]
    cluster.simulation.wait_for(lambda: records(cluster))
    fail(cluster, 2, "PATCH", "configmaps", status=500)
    fail(cluster, 1, "GET", "events", status=500)
    limit_pods(cluster, None)
    answer = service.show(id=rollout_id, wait=True)
    assert (answer.status, answer.json()["causes"][0]["reason"]) == (424, "CreateContainerConfigError")
    cluster.simulation.wait_for(lambda: records(cluster)[0]["rollout"]["phase"] == "failed")


def test_a_silent_watch_is_not_taken_for_success(quiet, cluster):
    limit_pods(cluster, 0)
    waiting = in_background(quiet.deploy)
    wait_for_records(cluster, 1)

    def change():
        cluster.simulation.silence_watches()
        set_image(cluster, "acme/web:missing")

    # The watch has shown that all pods are ready. Before the service says so, it reads the Deployment once.
    fail(cluster, 1, "GET", "deployments/web", call=change)
    limit_pods(cluster, None)
    answer = waiting.result()
    assert (answer.status, answer.json()["phase"]) == (409, "superseded")


@pytest.mark.parametrize("image", [None, "acme/web:2"], ids=["create", "patch"])
def test_a_signal_that_arrives_and_is_never_answered_is_followed(service, cluster, image):
    if image:
        service.deploy()
        wait_for_records(cluster, 1)
    sent = "PATCH" if image else "POST"
    # The second time it is refused, since it has arrived before; that answer is lost too.
    fault = fail(cluster, 2, sent, "deployments", late=True, drop=True)
    answer = service.deploy(image=image or "acme/web:1")
    assert (answer.status, answer.json()["phase"], fault.times) == (200, "complete", 0)
    assert answer.json()["id"] == id_of(cluster.get())
    wait_for_records(cluster, 2 if image else 1)


def test_a_signal_that_never_arrives_is_refused(service, cluster):
    fail(cluster, 2, "POST", "deployments", drop=True)
    answer = service.deploy()
    assert (answer.status, answer.json()["reason"]) == (503, "ServiceUnavailable")
    assert cluster.get() is None
