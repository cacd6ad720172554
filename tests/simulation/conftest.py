"""Fixtures and helpers of the simulated cluster's own tests."""

import http.client
import json
import re
import threading

import pytest
from kubernetes import client, config, watch

from tests.simulation import SimulatedCluster

STRATEGIC = "application/strategic-merge-patch+json"
DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"
PODS = "/api/v1/namespaces/default/pods"
STRICT = "?fieldValidation=Strict"
MINIMUM = ("Available", "True", "MinimumReplicasAvailable", "Deployment has minimum availability.")
NO_MINIMUM = ("Available", "False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
CREATED = ("Progressing", "True", "NewReplicaSetCreated", 'Created new replica set "NAME"')
UPDATED = ("Progressing", "True", "ReplicaSetUpdated", 'ReplicaSet "NAME" is progressing.')
PROGRESSED = ("Progressing", "True", "NewReplicaSetAvailable", 'ReplicaSet "NAME" has successfully progressed.')


@pytest.fixture(scope="module")
def shared():
    with SimulatedCluster() as cluster:
        yield cluster


@pytest.fixture
def cluster():
    with SimulatedCluster() as cluster:
        yield cluster


@pytest.fixture
def api(cluster, tmp_path):
    cluster.write_kubeconfig(tmp_path / "kubeconfig")
    configuration = client.Configuration()
    config.load_kube_config(str(tmp_path / "kubeconfig"), client_configuration=configuration)
    configuration.retries = False
    with client.ApiClient(configuration) as api_client:
        yield client.AppsV1Api(api_client)


def deployment(name="web", image="acme/web:1", replicas=2, **spec):
    container = {"name": "web", "image": image}
    template = {"metadata": {"labels": {"app": name}}, "spec": {"containers": [container]}}
    spec = {"replicas": replicas, "selector": {"matchLabels": {"app": name}}, "template": template} | spec
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec}


def with_image(image):
    return {"spec": {"template": {"spec": {"containers": [{"name": "web", "image": image}]}}}}


def first_container(item):
    return item["spec"]["template"]["spec"]["containers"][0]


class Http:
    """One connection, raw: what the client library hides can be seen."""

    def __init__(self, cluster, token=None):
        self.connection = http.client.HTTPConnection(cluster.url.removeprefix("http://"), timeout=10)
        self.headers = {"Authorization": f"Bearer {token}"} if token else {}

    def __call__(self, method, path, body=None, content_type="application/json"):
        text = body if body is None or isinstance(body, str) else json.dumps(body)
        self.connection.request(method, path, text, {"Content-Type": content_type, **self.headers})
        response = self.connection.getresponse()
        text = response.read().decode()
        return response.status, json.loads(text) if text.startswith("{") else text


class Follower(threading.Thread):
    """Watches until the stream ends, and keeps what it saw and how it ended."""

    def __init__(self, api, **options):
        super().__init__(daemon=True)
        self.api, self.options, self.seen, self.error = api, options, [], None
        self.began = threading.Event()
        self.start()

    def run(self):
        try:
            for event in watch.Watch().stream(self.api.list_namespaced_deployment, "default", **self.options):
                self.seen.append((event["type"], event["object"].metadata.name))
                self.began.set()
        except Exception as error:
            self.error = error


def play(cluster, name, image, replicas=2, namespace="default", **spec):
    cluster.create("deployments", namespace, deployment(name, image, replicas, **spec))


def conditions(item):
    found = item["status"].get("conditions", [])
    return {(c["type"], c["status"], c["reason"], re.sub(r'"[\w-]+"', '"NAME"', c["message"])) for c in found}


def counts(item):
    return {key: value for key, value in item["status"].items() if key not in ("conditions", "observedGeneration")}


def states(cluster, name, resource="deployments"):
    """Return every state that an object has been in."""
    changes = [new for _, kind, _, new in cluster.api.store.history if kind == resource and new]
    return [item for item in changes if item["metadata"]["name"] == name]


def complete(cluster, name, generation=1, namespace="default"):
    def done():
        item = cluster.get("deployments", namespace, name)
        settled = item["status"].get("observedGeneration", 0) >= generation and PROGRESSED in conditions(item)
        now = [counts(item).get(key, 0) for key in ("replicas", "updatedReplicas")]
        return settled and now == [item["spec"]["replicas"]] * 2 and item

    return cluster.wait_for(done)


def pods(cluster, name, namespace="default"):
    return cluster.list("pods", namespace, labels=f"app={name}")


def container_state(cluster, name, reason, key="containerStatuses"):
    def found():
        for pod in pods(cluster, name):
            for status in pod["status"].get(key, []):
                if reason in (status["state"].get("waiting", {}).get("reason"), *status["state"]):
                    return pod, status
        return None

    return cluster.wait_for(found)


def events(cluster, name):
    return [(e["type"], e["reason"], e["message"]) for e in cluster.list("events") if name in e["metadata"]["name"]]
