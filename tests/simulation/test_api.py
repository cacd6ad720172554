"""Requests and refusals, as a real API server was recorded."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation.conftest import (
    DEPLOYMENTS,
    PODS,
    STRATEGIC,
    STRICT,
    Http,
    complete,
    deployment,
    first_container,
    play,
)
from tests.simulation.refusals import RECORDED

NAMES = {"recordings": "default", "complete": "web", "nothing": "gone", "no-such-namespace": "nowhere"}
NAMES |= {"system:serviceaccount:recordings:default": "system:serviceaccount:auto-deployer:auto-deployer"}
NAMES |= {"quota: none": "quota: tight", "one-more": "more", "apps=13": "apps=1"}


def recorded(name):
    """Return status and body of a recorded refusal, with the names that these tests use."""
    text = json.dumps(RECORDED[name])
    for old, new in sorted(NAMES.items(), key=lambda pair: -len(pair[0])):
        text = text.replace(old, new)
    answer = json.loads(text)
    return answer["status"], answer["body"]


def test_refusals_are_the_recorded_ones(cluster):
    http, nowhere = Http(cluster), DEPLOYMENTS.replace("default", "nowhere")
    assert http("POST", DEPLOYMENTS, deployment())[0] == 201
    assert http("GET", DEPLOYMENTS + "/gone") == recorded("read-not-found")
    assert http("PATCH", DEPLOYMENTS + "/gone", {}, STRATEGIC) == recorded("patch-not-found")
    assert http("POST", nowhere, deployment()) == recorded("namespace-not-found")
    assert http("POST", DEPLOYMENTS, deployment()) == recorded("create-already-exists")
    cluster.set_quota("default", deployments=0)
    assert http("POST", DEPLOYMENTS, deployment("more")) == recorded("create-quota-exceeded")
    cluster.rules = {"default": []}
    assert Http(cluster, cluster.token)("GET", DEPLOYMENTS + "/web") == recorded("forbidden")
    assert Http(cluster, "stale")("GET", DEPLOYMENTS + "/web") == recorded("unauthorized")


WRONG = {
    "patch-unknown-field": (
        lambda d: first_container(d).update(port=1),
        'strict decoding error: unknown field "spec.template.spec.containers[0].port"',
    ),
    "patch-no-containers": (
        lambda d: d["spec"]["template"]["spec"].update(containers=[]),
        "spec.template.spec.containers: Required value",
    ),
    "labels": (
        lambda d: d["spec"]["template"]["metadata"].update(labels={"app": "other"}),
        'spec.template.metadata.labels: Invalid value: {"app":"other"}: `selector` does not match template `labels`',
    ),
    "port": (
        lambda d: first_container(d).update(ports=[{"containerPort": 99999}]),
        "spec.template.spec.containers[0].ports[0].containerPort: Invalid value: 99999: "
        "must be between 1 and 65535, inclusive",
    ),
    "volume": (
        lambda d: first_container(d).update(volumeMounts=[{"name": "data", "mountPath": "/data"}]),
        'spec.template.spec.containers[0].volumeMounts[0].name: Not found: "data"',
    ),
    "policy": (
        lambda d: first_container(d).update(imagePullPolicy="Sometimes"),
        'spec.template.spec.containers[0].imagePullPolicy: Unsupported value: "Sometimes": '
        'supported values: "Always", "IfNotPresent", "Never"',
    ),
    "quantity": (
        lambda d: first_container(d).update(resources={"requests": {"cpu": "abc"}}),
        "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
    ),
    "type": (lambda d: d["spec"].update(replicas="three"), "unrecognized type: int"),
}


@pytest.mark.parametrize("change, why", WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_refused_when_created_and_when_patched(cluster, change, why):
    wrong, http = deployment(), Http(cluster)
    change(wrong)
    status, answer = http("POST", DEPLOYMENTS + STRICT, wrong)
    assert status in (400, 422) and answer["message"].endswith(f": {why}")
    http("POST", DEPLOYMENTS, deployment())
    # As the product patches: the whole spec is replaced.
    status, answer = http(
        "PATCH", f"{DEPLOYMENTS}/web{STRICT}", {"spec": {"$patch": "replace", **wrong["spec"]}}, STRATEGIC
    )
    assert status == 422 and answer["message"].endswith(f": {why}")
    assert http("GET", f"{DEPLOYMENTS}/web")[1]["metadata"]["generation"] == 1


def test_patches_are_refused_in_the_recorded_words(cluster):
    http = Http(cluster)
    http("POST", DEPLOYMENTS, deployment())
    status, answer = http(
        "PATCH", f"{DEPLOYMENTS}/web", {"spec": {"template": {"spec": {"containers": None}}}}, STRATEGIC
    )
    assert (status, answer["message"]) == (422, recorded("patch-no-containers")[1]["message"])
    assert answer["details"]["causes"] == recorded("patch-no-containers")[1]["details"]["causes"]
    selector = {"selector": {"matchLabels": {"app": "other"}}, "template": {"metadata": {"labels": {"app": "other"}}}}
    status, answer = http("PATCH", f"{DEPLOYMENTS}/web", {"spec": selector}, STRATEGIC)
    assert (status, answer["message"]) == (422, recorded("patch-immutable-selector")[1]["message"])
    patch = {"spec": {"template": {"spec": {"containers": [{"name": "web", "port": 1}]}}}}
    status, answer = http("PATCH", f"{DEPLOYMENTS}/web{STRICT}", patch, STRATEGIC)
    quoted = "map[spec:map[template:map[spec:map[containers:[map[name:web port:1]]]]]]"
    message = re.sub(r'"map\[.*\]"', f'"{quoted}"', recorded("patch-unknown-field")[1]["message"])
    assert (status, answer["message"]) == (422, message)
    status, answer = http("PATCH", f"{DEPLOYMENTS}/web", {"metadata": {"resourceVersion": "1"}}, STRATEGIC)
    text = "the object has been modified; please apply your changes to the latest version and try again"
    assert answer["message"] == f'Operation cannot be fulfilled on deployments.apps "web": {text}'
    assert (status, answer["reason"]) == (409, "Conflict")


def test_dry_run_changes_nothing(cluster):
    http = Http(cluster)
    status, answer = http("POST", f"{DEPLOYMENTS}?dryRun=All", deployment())
    assert status == 201 and "resourceVersion" not in answer["metadata"]
    assert http("GET", DEPLOYMENTS + "/web")[0] == 404
    _, before = http("POST", DEPLOYMENTS, deployment(replicas=0))
    status, answer = http("PATCH", f"{DEPLOYMENTS}/web?dryRun=All", {"spec": {"replicas": 3}}, STRATEGIC)
    assert (status, answer["spec"]["replicas"], answer["metadata"]["generation"]) == (200, 3, 2)
    assert http("GET", DEPLOYMENTS + "/web")[1]["spec"] == before["spec"]


def test_defaults(cluster):
    item = deployment()
    del item["spec"]["replicas"]
    first_container(item).update(
        image="acme/web", ports=[{"containerPort": 80}], resources={"requests": {"cpu": 0.5, "memory": "1024Mi"}}
    )
    _, answer = Http(cluster)("POST", DEPLOYMENTS + STRICT, item)
    assert answer["spec"] == {
        "replicas": 1,
        "selector": {"matchLabels": {"app": "web"}},
        "template": {
            "metadata": {"labels": {"app": "web"}},
            "spec": {
                "containers": [
                    {
                        "name": "web",
                        "image": "acme/web",
                        "ports": [{"containerPort": 80, "protocol": "TCP"}],
                        "resources": {"requests": {"cpu": "0.5", "memory": "1024Mi"}},
                        "terminationMessagePath": "/dev/termination-log",
                        "terminationMessagePolicy": "File",
                        "imagePullPolicy": "Always",
                    }
                ],
                "restartPolicy": "Always",
                "terminationGracePeriodSeconds": 30,
                "dnsPolicy": "ClusterFirst",
                "securityContext": {},
                "schedulerName": "default-scheduler",
            },
        },
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"}},
        "revisionHistoryLimit": 10,
        "progressDeadlineSeconds": 600,
    }


def test_config_maps(cluster):
    http, path = Http(cluster), "/api/v1/namespaces/default/configmaps"
    _, made = http("POST", path, {"metadata": {"name": "ledger"}, "data": {"a": "1"}})
    status, changed = http("PATCH", path + "/ledger", {"data": {"a": None, "b": "2"}}, STRATEGIC)
    assert (status, changed["data"]) == (200, {"b": "2"})
    stale = {"metadata": {"resourceVersion": made["metadata"]["resourceVersion"]}, "data": {"c": "3"}}
    assert http("PATCH", path + "/ledger", stale, STRATEGIC)[0] == 409
    assert http("DELETE", path + "/ledger")[0] == 200
    assert http("GET", path + "/ledger")[1]["message"] == 'configmaps "ledger" not found'


def test_selectors(shared):
    for name in ("one", "two"):
        play(shared, name, "acme/web:1", replicas=1)
        complete(shared, name)
    http = Http(shared)

    def names(path, query):
        return {item["metadata"]["name"] for item in http("GET", path + query)[1]["items"]}

    assert names(DEPLOYMENTS, "?fieldSelector=metadata.name%3Done") == {"one"}
    (pod,) = names(PODS, "?labelSelector=app%3Done")
    assert pod not in names(PODS, "?labelSelector=app%3Dtwo")
    found = http("GET", f"/api/v1/namespaces/default/events?fieldSelector=involvedObject.name%3D{pod}")[1]["items"]
    assert {event["involvedObject"]["name"] for event in found} == {pod}
    assert http("GET", PODS + "?labelSelector=app+in+(one,two)")[0] == 400


def test_rules(cluster):
    cluster.rules = {"default": [("get", "deployments")]}
    service, admin = Http(cluster, cluster.token), Http(cluster)
    admin("POST", DEPLOYMENTS, deployment())
    assert service("GET", DEPLOYMENTS + "/web")[0] == 200
    status, answer = service("PATCH", DEPLOYMENTS + "/web", {}, STRATEGIC)
    who = 'User "system:serviceaccount:auto-deployer:auto-deployer"'
    what = 'resource "deployments" in API group "apps" in the namespace "default"'
    assert answer["message"] == f'deployments.apps "web" is forbidden: {who} cannot patch {what}'
    assert (status, answer["reason"]) == (403, "Forbidden")
    assert service("GET", DEPLOYMENTS + "?watch=1")[0] == 403
    assert Http(cluster, "stale")("GET", DEPLOYMENTS + "/web")[1]["message"] == "Unauthorized"
    ours = [(r.verb, r.resource, r.namespace, r.status) for r in cluster.requests if r.user != "admin"]
    assert ours == [
        ("get", "deployments", "default", 200),
        ("patch", "deployments", "default", 403),
        ("watch", "deployments", "default", 403),
    ]


def test_command_line(tmp_path):
    command = [sys.executable, "-m", "tests.simulation", "--port", "0", "--kubeconfig", str(tmp_path / "config")]
    root = Path(__file__).parents[2]
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) as process:
        url = process.stdout.readline().strip()
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+", url) and url in (tmp_path / "config").read_text()
        process.terminate()
        assert process.wait(5) == 0
