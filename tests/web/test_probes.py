"""Probes: /healthz and /readyz say what the service itself needs, not how the cluster is."""

import pytest

from tests.service import PASSWORD


def test_healthz_and_readyz(service):
    for path in ("/healthz", "/readyz"):
        answer = service.get(path)
        assert (answer.status, answer.text) == (200, "ok\n")
        assert service.ask("HEAD", path).status == 200


@pytest.mark.simulated_only
def test_health_does_not_depend_on_the_cluster(service, cluster):
    cluster.simulation.stop_serving()
    try:
        assert service.get("/healthz").status == 200
        assert service.get("/readyz").status == 200
        assert service.signal().status == 503
        assert service.get("/check", Authorization=f"Bearer {PASSWORD}").status == 422
    finally:
        cluster.simulation.serve_again()
    assert service.signal().status == 200


def test_one_bad_manifest_leaves_the_service_ready(service):
    service.configure("bad", "nonsense: [")
    assert service.get("/readyz").status == 200


def test_readyz_names_a_weak_password_without_showing_it(service):
    service.password("web", "too-short", PASSWORD)
    answer = service.get("/readyz", Accept="application/json")
    assert answer.status == 200
    assert "web, line 1, opens nothing" in answer.text
    assert "too-short" not in answer.text


@pytest.mark.parametrize("missing", ["passwords", "password", "deployments"])
def test_the_service_is_not_ready_without(service, missing):
    if missing == "password":
        service.password("default", "change-me-change-me")
    else:
        folder = service.passwords_dir if missing == "passwords" else service.deployments_dir
        moved = folder.rename(folder.with_name("moved"))
    answer = service.get("/readyz")
    assert answer.status == 503
    assert ("can't be read" if missing != "password" else "no usable password") in answer.text
    assert "change-me" not in answer.text
    assert service.get("/healthz").status == 200
    if missing != "password":
        moved.rename(folder)
        assert service.get("/readyz").status == 200
