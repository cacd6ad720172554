"""What the tests over HTTP share: they read a Deployment, an answer or the records, and make requests fail."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

import pytest

from manifest.annotations import REVISION
from manifest.pod_template import rollout_id_of
from rollout.monitor import Monitor
from tests.conftest import InProcess, deployment

DIGEST = r"sha256:[0-9a-f]{64}"
FIELDS = {"id", "deployment", "namespace", "revision", "image", "digest", "phase", "message", "replicas", "causes"}
FIELDS |= {"changes", "changed_since", "rolled_back_to", "started_at", "finished_at", "history"}
FIELDS |= {"by", "link", "locked"}
# A manifest whose Deployment another client manages.
NO_SPEC = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}}
CONFIG_MAP = "auto-deployer-web"


def quiet_client(folder, **environ):
    """Make an application in this process that asks the cluster only when it gets a request.

    It has no thread that looks for unfinished rollouts: that thread asks the cluster at its own times, at the start and
    a minute later, whatever a test counts or waits for.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Monitor, "resume", lambda *arguments: None)
        return InProcess(folder, **environ)


def in_background(call, *arguments, **fields):
    """Make a call in a thread of its own; return its future."""
    pool = ThreadPoolExecutor(1)
    try:
        return pool.submit(call, *arguments, **fields)
    finally:
        pool.shutdown(wait=False)


# Reading


def id_of(live):
    """Return the rollout id on a Deployment."""
    return rollout_id_of(live["spec"]["template"])


def image_of(live):
    """Return the image of a Deployment's container."""
    return live["spec"]["template"]["spec"]["containers"][0]["image"]


def revision_of(replica_set):
    """Return the revision of a ReplicaSet."""
    return int(replica_set["metadata"]["annotations"][REVISION])


def listed(cluster, resource):
    """Return the objects of a kind in the test's namespace."""
    return cluster._admin.list(resource, cluster.namespace)


def phases(answer):
    """Return the phases in the history of an answer, the newest first."""
    return [each["phase"] for each in answer.json()["history"]]


def without_history(answer):
    """Return the rollout in an answer without the history, which later rollouts change."""
    return {key: value for key, value in answer.json().items() if key != "history"}


def records(cluster):
    """Return what is recorded, the oldest first."""
    data = (cluster.get(CONFIG_MAP, "configmaps") or {}).get("data") or {}
    return [json.loads(data[key]) for key in sorted(data)]


def wait_for_records(cluster, count, **fields):
    """Wait until so many rollouts are recorded, the newest with these fields."""

    def is_recorded():
        found = records(cluster)
        return len(found) == count and fields.items() <= found[-1].items()

    cluster.wait_for(is_recorded)


def asked(cluster, verb, resource):
    """Return the service's requests of a kind in the test's namespace."""
    return [each for each in cluster.requests if (each.verb, each.resource) == (verb, resource)]


def watches(cluster, name="web"):
    """Return the open watches that would show an object of this name in the test's namespace."""
    probe = {"metadata": {"namespace": cluster.namespace, "name": name, "labels": {}}}
    with cluster.simulation.api.store.lock:
        return [each for each in cluster.simulation.api.store.watches if each.matches(probe)]


# What kubectl and other clients do


def with_container(name, **fields):
    """Return a manifest whose container has more fields."""
    manifest = deployment(name)
    manifest["spec"]["template"]["spec"]["containers"][0] |= fields
    return manifest


def set_image(cluster, image):
    """Do as `kubectl set image` does."""
    return cluster.patch({"spec": {"template": {"spec": {"containers": [{"name": "web", "image": image}]}}}})


def limit_pods(cluster, most):
    """Let no more than so many pods into the namespace: a rollout that needs more goes on; None lifts the limit."""
    if cluster.simulation:
        cluster.simulation.set_quota(cluster.namespace, pods=most)
    elif most is None:
        cluster.delete("tight", "resourcequotas")
    else:
        cluster.create({"metadata": {"name": "tight"}, "spec": {"hard": {"pods": str(most)}}}, "resourcequotas")
        cluster.wait_for(lambda: cluster.get("tight", "resourcequotas").get("status", {}).get("hard"))


# What goes wrong


def fail(cluster, times, method, resource, **how):
    """Make the next requests for a resource in the test's namespace fail, and no other's."""
    return cluster.simulation.fail(times, method, f"/namespaces/{cluster.namespace}/{resource}", **how)


class Gate:
    """Hold the next requests for a resource in the test's namespace; with `drop` they are then never answered."""

    def __init__(self, cluster, method, resource, drop=True):
        self._opened, self._reached = threading.Event(), threading.Event()
        self._fault = fail(cluster, 1000, method, resource, call=self._hold, drop=drop)

    def _hold(self):
        self._reached.set()
        self._opened.wait()

    def wait_until_reached(self):
        """Wait until a request is held."""
        assert self._reached.wait(10)

    def open(self):
        """Let go of the requests, and hold no more."""
        self._fault.times = 0
        self._opened.set()


def deploy_and_hold(service, cluster, **fields):
    """Deploy once, then again with these fields, and let no pod in for that; return its rollout id once it is recorded.

    The first rollout is over by then: it is recorded as notified, and writes nothing any more.
    """
    service.deploy()
    wait_for_records(cluster, 1, told=True)
    limit_pods(cluster, 1)
    rollout_id = service.deploy(wait=False, **fields).json()["id"]
    wait_for_records(cluster, 2)
    return rollout_id


def restart(service):
    """End the service as a power cut does, and start it again."""
    service.kill()
    service.start()


def let_a_minute_pass(cluster):
    """Make what isn't finished a minute older, so that another process may finish it."""

    def older(text):
        return text and (datetime.fromisoformat(text) - timedelta(seconds=61)).isoformat().replace("+00:00", "Z")

    data = cluster.get(CONFIG_MAP, "configmaps")["data"]
    for key, text in data.items():
        record = json.loads(text)
        if record["told"] and record["rollback"] != "pending":
            continue
        record["claimed_at"] = older(record["claimed_at"])
        record["rollout"]["finished_at"] = older(record["rollout"]["finished_at"])
        data[key] = json.dumps(record)
    cluster.patch({"data": data}, CONFIG_MAP, "configmaps")
