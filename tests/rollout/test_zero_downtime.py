"""A failing deploy takes no pod of the old version down, also without a readiness probe."""

import threading

import pytest

from tests.rollout.helpers import image_of, listed

pytestmark = pytest.mark.simulated_only


class Client:
    """Ask every 50 ms whether a pod of the old version serves, as a Service sees it: ready, and not terminating."""

    def __init__(self, cluster):
        self.asked, self.unserved, self._cluster, self._stopped = 0, 0, cluster, threading.Event()
        self._thread = threading.Thread(target=self._ask, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stopped.set()
        self._thread.join()

    def _ask(self):
        while not self._stopped.wait(0.05):
            self.asked += 1
            self.unserved += not any(self._serves(pod) for pod in listed(self._cluster, "pods"))

    @staticmethod
    def _serves(pod):
        ready = any(each["type"] == "Ready" and each["status"] == "True" for each in pod["status"]["conditions"])
        crashes = "crash" in pod["spec"]["containers"][0]["image"]
        return ready and not crashes and "deletionTimestamp" not in pod["metadata"]


def test_no_request_is_lost_in_a_failing_deploy_and_its_rollback(services, cluster):
    # Kubernetes counts in whole seconds that are cut off: one or two could pass between two crashes.
    service = services(SETTLE_SECONDS="3")
    service.reset(cluster.namespace)
    assert service.deploy(image="acme/web:1").status == 200
    assert cluster.get()["spec"]["minReadySeconds"] == 3
    with Client(cluster) as client:
        assert service.deploy(image="acme/web:crash", rollback_on_failure=True).status == 424
        assert service.show(wait=20).json()["phase"] == "complete"
    assert image_of(cluster.get()).startswith("acme/web@sha256:")
    assert client.asked > 20
    assert client.unserved == 0
