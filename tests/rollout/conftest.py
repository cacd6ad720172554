"""Fixtures: services for rollouts, and the records as replicas of the service read and write them."""

import pytest

from cluster.api import Cluster
from manifest.annotations import CHANGE_CAUSE, RESTARTED_AT
from rollout.ledger import Ledger
from tests.conftest import deployment
from tests.rollout.cases import record_of, rollout_id
from tests.rollout.helpers import CONFIG_MAP, quiet_client


@pytest.fixture
def service(quick_service):
    """Serve without settling time, under uWSGI; start again what a test has ended."""
    if quick_service.process.poll() is not None:
        quick_service.start()
    return quick_service


@pytest.fixture
def automatic(services, cluster):
    """Serve with ROLLBACK_ON_FAILURE."""
    service = services(SETTLE_SECONDS="0", ROLLBACK_ON_FAILURE="true", LOG_TAIL_LINES="0")
    service.reset(cluster.namespace)
    return service


@pytest.fixture
def quiet(admin, cluster, tmp_path):
    """Serve without settling time, in this process, and ask the cluster only for requests and rollouts."""
    client = quiet_client(tmp_path, KUBECONFIG=str(admin.kubeconfig), SETTLE_SECONDS="0")
    client.reset(cluster.namespace)
    return client


@pytest.fixture(scope="module")
def notify_settings(chat, tmp_path_factory):
    """Return the settings of a service that sends its messages to the chat."""
    urls = tmp_path_factory.mktemp("chat") / "urls"
    urls.write_text(f"json://127.0.0.1:{chat.port}/\n")
    return {"SETTLE_SECONDS": "0", "NOTIFY_URLS_FILE": str(urls)}


@pytest.fixture
def notifying(services, notify_settings, cluster):
    """Serve without settling time, and notify the chat; start again what a test has ended."""
    service = services(**notify_settings)
    service.reset(cluster.namespace)
    if service.process.poll() is not None:
        service.start()
    return service


@pytest.fixture
def replica(admin, notify_settings, cluster, tmp_path):
    """Serve as a second replica of `notifying` that finishes only what it is asked for."""
    client = quiet_client(tmp_path, KUBECONFIG=str(admin.kubeconfig), **notify_settings)
    client.reset(cluster.namespace)
    return client


class Place:
    """The records of one Deployment, as one replica of the service reads and writes them."""

    def __init__(self, kubeconfig, live):
        self.cluster, self.live = Cluster(str(kubeconfig)), live
        self.ledger = Ledger(self.cluster)
        self._where = (live["metadata"]["namespace"], "web")

    def record(self, number=1, **fields):
        """Make the record of a rollout of the Deployment."""
        return record_of(self.live, number, **fields)

    def change(self, decide):
        """Change the records, and return whether something was written."""
        return self.ledger.change(*self._where, self.live["metadata"]["uid"], decide)

    def write(self, record):
        """Write a record, whatever is recorded."""
        return self.change(lambda records: record)

    def read(self):
        """Return what is recorded."""
        return self.ledger.read(*self._where)


@pytest.fixture
def live(cluster):
    """Create a Deployment without pods, with a rollout id as this service writes it."""
    manifest = deployment(replicas=0)
    manifest["spec"]["template"]["metadata"]["annotations"] = {RESTARTED_AT: rollout_id(1)}
    manifest["metadata"]["annotations"] = {CHANGE_CAUSE: "deploy acme/web:1"}
    return cluster.create(manifest)


@pytest.fixture
def here(admin, live):
    """Give the ledger of one replica."""
    return Place(admin.kubeconfig, live)


@pytest.fixture
def elsewhere(admin, live):
    """Give the ledger of another replica."""
    return Place(admin.kubeconfig, live)


@pytest.fixture
def stored(cluster):
    """Return a function that returns what the ConfigMap holds."""
    return lambda: cluster.get(CONFIG_MAP, "configmaps")["data"]
