"""What is recorded while the API server is away or refuses: later, for as long as it takes, or never."""

import pytest

from cluster import connection
from errors import Refusal
from manifest.files import Manifest
from rollout import recorder as recorder_module
from rollout.follower import Follower
from rollout.recorder import Recorder
from tests.rollout.cases import rollout_id
from tests.rollout.helpers import CONFIG_MAP


@pytest.fixture
def recorder(here, monkeypatch):
    """Record for one replica, and pause for no time."""
    monkeypatch.setattr(recorder_module, "MIN_PAUSE_SECONDS", 0)
    return Recorder(here.cluster, here.ledger, None)


@pytest.fixture
def follower(here, cluster):
    """Follow what is live."""
    manifest = Manifest(file="web.yaml", namespace=cluster.namespace, name="web", annotations={}, body=None)
    return Follower(here.cluster, 0, manifest, here.live, here.record())


@pytest.mark.simulated_only
@pytest.mark.parametrize(
    "failure", [{"status": 503}, {"status": 500}, {"status": 429}, {"status": 504}, {"drop": True}]
)
def test_a_patient_write_outlasts_an_api_server_that_writes_no_config_map(
    recorder, follower, here, elsewhere, cluster, monkeypatch, failure
):
    monkeypatch.setattr(connection, "MAX_RETRY_AFTER_SECONDS", 0)
    cluster.simulation.fail(times=7, path=CONFIG_MAP, **failure)
    cluster.simulation.fail(times=7, method="POST", path="configmaps", **failure)
    assert recorder.write(follower, lambda records: here.record(), patiently=True)
    assert follower.is_recorded
    assert elsewhere.read() == {rollout_id(1): here.record()}


@pytest.mark.simulated_only
def test_a_patient_write_ends_when_the_deployment_is_gone(recorder, follower, here, cluster):
    cluster.simulation.fail(times=100_000, method="POST", path="configmaps", status=503)
    cluster.delete("web")
    recorder.write(follower, lambda records: here.record(), patiently=True)
    assert not follower.is_recorded


def test_without_the_right_a_verdict_is_decided_on_no_records(recorder, follower, here, cluster, caplog):
    cluster.allow([{"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["get"]}])
    seen = []
    assert recorder.write(follower, lambda records: seen.append(records) or here.record(), patiently=True)
    assert not recorder.write(follower, lambda records: None, patiently=True)
    assert not follower.is_recorded
    assert "nothing is recorded" in caplog.text
    assert seen == [{}]
    with pytest.raises(Refusal):
        here.read()
    assert cluster.get(CONFIG_MAP, "configmaps") is None
