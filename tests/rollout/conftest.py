"""Fixtures: services for rollouts, and the records as replicas of the service read and write them."""

import pytest

from tests.rollout.helpers import quiet_client


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
