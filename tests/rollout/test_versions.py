"""Two versions of this service write the same ConfigMap while auto-deployer deploys itself."""

import json

import pytest

from tests.conftest import deployment
from tests.rollout.helpers import CONFIG_MAP, FIELDS, id_of, quiet_client


def stored(cluster, rollout_id):
    """Return a record as it is stored."""
    return json.loads(cluster.get(CONFIG_MAP, "configmaps")["data"][rollout_id])


def store(cluster, rollout_id, record):
    """Write a record as another version would."""
    cluster.patch({"data": {rollout_id: json.dumps(record)}}, CONFIG_MAP, "configmaps")


@pytest.fixture
def another_process(admin, cluster, tmp_path):
    """Serve from a process that knows only what is in the cluster."""
    client = quiet_client(tmp_path, KUBECONFIG=str(admin.kubeconfig), SETTLE_SECONDS="0")
    client.reset(cluster.namespace)
    return client


def test_a_live_record_that_this_version_cannot_read_is_neither_followed_nor_written(service, cluster, another_process):
    done = service.deploy().json()
    future = stored(cluster, done["id"]) | {"rollback": "declined", "window": "22:00"}
    store(cluster, done["id"], future)
    shown = another_process.show()
    # It is shown as the cluster has it, like another client's rollout.
    assert (shown.status, shown.json().keys(), shown.json()["phase"]) == (200, FIELDS, "complete")
    assert another_process.show(wait=5).status == 200
    assert stored(cluster, done["id"]) == future
    # The next deploy is recorded beside it.
    assert service.deploy(image="acme/web:2").status == 200
    assert stored(cluster, done["id"]) == future


def test_a_verdict_keeps_what_another_version_added_while_the_rollout_ran(service, cluster):
    service.configure("web", deployment(image="acme/web:slow"))
    service.signal()
    rollout_id = id_of(cluster.get())
    cluster.wait_for(lambda: cluster.get(CONFIG_MAP, "configmaps") and stored(cluster, rollout_id))
    record = stored(cluster, rollout_id)
    assert record["rollout"]["phase"] == "progressing"
    store(cluster, rollout_id, record | {"by": "jane", "rollout": record["rollout"] | {"link": "https://x/1"}})
    assert service.show(id=rollout_id, wait=15).status == 200
    record = stored(cluster, rollout_id)
    assert (record["rollout"]["phase"], record["by"], record["rollout"]["link"]) == ("complete", "jane", "https://x/1")
