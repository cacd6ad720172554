"""Each error of the Kubernetes API becomes a status and a sentence in our words, without a secret in it."""

import copy
import json

import pytest

from tests.conftest import deployment, role
from tests.service import ROOT

RECORDED = json.loads((ROOT / "tests" / "recordings" / "errors.json").read_text())
SECRET = "hunter2-hunter2"

pytestmark = pytest.mark.simulated_only


def refused(message, status, reason=None):
    return {"status": status, "body": {"kind": "Status", "message": message, "reason": reason, "code": status}}


# The recordings don't have these; the words are the API server's own.
QUOTING = f'Invalid value: "map[spec:map[containers:[map[env:[map[name:PASSWORD value:{SECRET}]]]]]]": '
RECORDED |= {
    "wrong-type": refused(f' "" is invalid: patch: {QUOTING}cannot convert int64 to string', 422),
    "unknown-field-beside-a-secret": refused(
        f' "" is invalid: patch: {QUOTING}strict decoding error: unknown field "spec.template.spec.port"', 422
    ),
    "pod-security": refused('deployments.apps "web" is forbidden: violates PodSecurity "restricted:latest"', 403),
    "webhook": refused('admission webhook "policy.example" denied the request: no latest tags here', 400),
    "webhook-forbids": refused('admission webhook "policy.example" denied the request: not on Fridays', 403),
    "webhook-is-away": refused("Internal error occurred: failed calling webhook: connection refused", 500),
    "too-many-requests": refused("Too many requests, please try again later.", 429),
    "etcd-is-slow": refused("Timeout: request did not complete within the allotted time", 504),
    "leader-lost": refused("etcdserver: leader changed", 500),
    "a-proxy-in-between": {"status": 502, "body": "<html><h1>Bad Gateway</h1></html>"},
    "not-even-kubernetes": {"status": 404, "body": "404 page not found"},
}
TABLE = [
    ("apply-unknown-field", "PATCH", 422, "Invalid", 'containers[name="complete"].port: field not declared in schema'),
    ("apply-immutable-selector", "PATCH", 422, "Invalid", "field is immutable"),
    ("apply-wrong-type", "PATCH", 422, "Invalid", ".spec.replicas: expected numeric (int or float), got string"),
    ("apply-bad-name", "PATCH", 422, "Invalid", "a lowercase RFC 1123 subdomain must consist of"),
    ("patch-unknown-field", "PATCH", 422, "Invalid", 'web.yaml: unknown field "spec.template.spec.containers[0].port"'),
    ("patch-immutable-selector", "PATCH", 422, "Invalid", "web.yaml: spec.selector: Invalid value:"),
    ("patch-no-containers", "PATCH", 422, "Invalid", "web.yaml: spec.template.spec.containers: Required value"),
    (
        "create-quota-exceeded",
        "POST",
        422,
        "QuotaExceeded",
        "exceeded quota: none, requested: count/deployments",
    ),
    ("namespace-not-found", "POST", 422, "NamespaceNotFound", 'namespaces "no-such-namespace" not found'),
    ("forbidden", "GET", 500, "Forbidden", 'cannot get resource "deployments" in API group "apps" in the namespace'),
    ("unauthorized", "GET", 500, "Unauthorized", "doesn't accept this service's credentials"),
    ("wrong-type", "PATCH", 422, "Invalid", "web.yaml: cannot convert int64 to string"),
    ("unknown-field-beside-a-secret", "PATCH", 422, "Invalid", 'web.yaml: unknown field "spec.template.spec.port"'),
    ("pod-security", "PATCH", 422, "AdmissionDenied", 'violates PodSecurity "restricted:latest"'),
    ("webhook", "PATCH", 422, None, "denied the request: no latest tags here"),
    ("webhook-forbids", "PATCH", 422, "AdmissionDenied", "denied the request: not on Fridays"),
    ("webhook-is-away", "PATCH", 503, "ServiceUnavailable", "failed calling webhook"),
    ("too-many-requests", "PATCH", 503, "ServiceUnavailable", "busy"),
    ("etcd-is-slow", "PATCH", 504, "Timeout", "ran out of time"),
    ("leader-lost", "PATCH", 503, "ServiceUnavailable", "etcdserver: leader changed"),
    ("a-proxy-in-between", "PATCH", 503, "ServiceUnavailable", "502"),
]


@pytest.mark.parametrize(("recorded", "method", "status", "reason", "words"), TABLE, ids=[row[0] for row in TABLE])
def test_each_error_of_the_api_has_a_status_and_a_sentence(
    client, cluster, faulty, recorded, method, status, reason, words
):
    if method == "PATCH":
        cluster.create(deployment())
    faulty(method=method, **copy.deepcopy(RECORDED[recorded]))
    answer = client.post("/deployment", {"pw": client.right}, Accept="application/json")
    assert answer.status == status
    assert words in answer.json()["error"]
    assert reason in (None, answer.json()["reason"])
    assert SECRET not in answer.text
    assert "map[" not in answer.text
    assert "restartedAt" not in answer.text
    text = client.signal()
    assert (text.status, text.headers.get_content_type()) == (status, "text/plain")
    assert words in text.text


def test_every_recorded_error_is_in_the_table_or_means_try_again():
    again = {"create-already-exists", "patch-not-found", "read-not-found", "not-even-kubernetes"}
    assert {row[0] for row in TABLE} | again == set(RECORDED)


@pytest.mark.parametrize("missing", ["get", "create", "patch"])
def test_a_missing_right_is_named_in_rbac_s_words(client, cluster, missing):
    if missing == "patch":
        cluster.create(deployment())
    left = [{**rule, "verbs": [verb for verb in rule["verbs"] if verb != missing]} for rule in role()]
    cluster.allow(left)
    answer = client.post("/deployment", {"pw": client.right}, Accept="application/json")
    assert (answer.status, answer.json()["reason"]) == (500, "Forbidden")
    assert f'cannot {missing} resource "deployments"' in answer.json()["error"]
    assert f'in the namespace "{cluster.namespace}"' in answer.json()["error"]
    cluster.allow(role())
    assert client.signal().status == 200
