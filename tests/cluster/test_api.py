"""The Kubernetes API's errors in our words, and what happens when it is away, slow or crowded."""

import copy
import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.conftest import InProcess, deployment, role
from tests.service import ROOT, free_port
from tests.simulation import SimulatedCluster

RECORDED = json.loads((ROOT / "tests" / "recordings" / "errors.json").read_text())
SECRET = "hunter2-hunter2"

pytestmark = pytest.mark.simulated_only


def refused(message, status, reason=None):
    return {"status": status, "body": {"kind": "Status", "message": message, "reason": reason, "code": status}}


# Not among the recordings, but in the same server's words.
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


@pytest.fixture
def faulty(cluster):
    """Make requests of the test's own namespace fail."""

    def fail(times=1000, method="", **how):
        return cluster.simulation.fail(times, method, f"/namespaces/{cluster.namespace}/deployments", **how)

    return fail


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


# Somebody else was faster


def test_created_by_somebody_else_in_between_it_is_patched(client, cluster, faulty):
    faulty(1, "POST", call=lambda: cluster.create(deployment(image="acme/web:0")))
    assert client.signal().status == 200
    assert cluster.writes == ["POST", "PATCH"]


def test_deleted_by_somebody_else_in_between_it_is_created(client, cluster, faulty):
    cluster.create(deployment(image="acme/web:0"))
    faulty(1, "PATCH", call=lambda: cluster.delete("web"))
    assert client.signal().status == 200
    assert cluster.writes == ["PATCH", "POST"]


def test_a_burst_of_conflicts_is_outlasted(client, cluster, faulty):
    cluster.create(deployment(image="acme/web:0"))
    faulty(8, "PATCH", status=409)
    assert client.signal().status == 200
    assert cluster.get("web")["spec"]["template"]["spec"]["containers"][0]["image"] == "acme/web:1"


def test_conflicts_without_end_are_a_503(client, cluster, faulty):
    cluster.create(deployment())
    faulty(method="PATCH", status=409)
    answer = client.post("/deployment", {"pw": client.right}, Accept="application/json")
    assert (answer.status, answer.json()["reason"]) == (503, "Conflict")
    assert "is being changed all the time; try again" in answer.json()["error"]


# Credentials


def own(cluster, tmp_path, **user):
    """Serve in this process with a kubeconfig of its own."""
    (tmp_path / "own").mkdir()
    kubeconfig = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": cluster.simulation.url}}],
        "users": [{"name": "u", "user": user}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "c",
    }
    (tmp_path / "kubeconfig").write_text(json.dumps(kubeconfig))
    client = InProcess(tmp_path / "own", KUBECONFIG=str(tmp_path / "kubeconfig"))
    client.reset(cluster.namespace)
    return client


@pytest.fixture
def rotated(cluster):
    """Give the service's account another token."""
    before = cluster.simulation.token

    def rotate(token):
        cluster.simulation.token = token
        return token

    yield rotate
    cluster.simulation.token = before


def test_a_rotated_token_file_is_read_anew(cluster, tmp_path, rotated):
    token_file = tmp_path / "token"
    token_file.write_text(cluster.simulation.token)
    client = own(cluster, tmp_path, tokenFile=str(token_file))
    assert client.signal().status == 200
    token_file.write_text(rotated("another-token"))
    assert client.signal().status == 200


def test_a_token_in_an_edited_kubeconfig_is_read_anew(cluster, tmp_path, rotated):
    client = own(cluster, tmp_path, token=cluster.simulation.token)
    assert client.signal().status == 200
    kubeconfig = tmp_path / "kubeconfig"
    old = cluster.simulation.token
    kubeconfig.write_text(kubeconfig.read_text().replace(old, rotated("another-token")))
    assert client.signal().status == 200


def test_one_401_is_tried_again_and_a_second_is_the_operator_s_error(client, cluster, faulty):
    faulty(1, "GET", **copy.deepcopy(RECORDED["unauthorized"]))
    assert client.signal().status == 200
    faulty(method="GET", **copy.deepcopy(RECORDED["unauthorized"]))
    answer = client.signal()
    assert answer.status == 500
    assert cluster.simulation.token not in answer.text


# Missing rights


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


# An API server that is away, slow, or hangs up


def test_an_api_server_that_is_down_is_a_503_and_the_next_signal_works(client, cluster):
    assert client.signal().status == 200
    cluster.simulation.stop_serving()
    try:
        began = time.monotonic()
        answer = client.post("/deployment", {"pw": client.right}, Accept="application/json")
        assert time.monotonic() - began < 5
    finally:
        cluster.simulation.serve_again()
    assert (answer.status, answer.json()["reason"]) == (503, "ServiceUnavailable")
    assert "can't be reached: " in answer.json()["error"]
    assert "Connection refused" in answer.json()["error"]
    assert client.signal().status == 200


def test_a_host_that_swallows_every_packet_is_a_503_within_5_seconds(cluster, tmp_path):
    with socket.create_server(("127.0.0.1", 0), backlog=0) as deaf:
        # A full queue: the kernel answers nobody any more.
        waiting = [socket.socket() for _ in range(4)]
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(deaf.getsockname())
        client = own(cluster, tmp_path, token="x")
        kubeconfig = tmp_path / "kubeconfig"
        here = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        kubeconfig.write_text(kubeconfig.read_text().replace(cluster.simulation.url, here))
        began = time.monotonic()
        answer = client.signal()
        assert time.monotonic() - began < 5
        for each in waiting:
            each.close()
    assert answer.status == 503
    assert "it doesn't answer" in answer.text


def test_what_speaks_no_http_is_a_503(cluster, tmp_path):
    client = own(cluster, tmp_path, token="x")
    kubeconfig = tmp_path / "kubeconfig"
    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor(1) as pool:
        here = f"http://127.0.0.1:{server.getsockname()[1]}"
        kubeconfig.write_text(kubeconfig.read_text().replace(cluster.simulation.url, here))

        def babble():
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(65536)
                    connection.sendall(b"SSH-2.0-OpenSSH_9.6\r\n")

        pool.submit(babble)
        answer = client.signal()
        server.shutdown(socket.SHUT_RDWR)
    assert answer.status == 503


def test_a_kubeconfig_that_names_nothing_is_a_503_and_its_repair_needs_no_restart(cluster, tmp_path):
    client = own(cluster, tmp_path, token=cluster.simulation.token)
    good = (tmp_path / "kubeconfig").read_text()
    for bad in ("", "nonsense", "{}", good.replace('"current-context": "c"', '"current-context": "other"')):
        (tmp_path / "kubeconfig").write_text(bad)
        answer = client.signal()
        assert answer.status == 503
        assert "no way to a cluster" in answer.text
    (tmp_path / "kubeconfig").write_text(good)
    assert client.signal().status == 200


def test_a_port_that_nobody_listens_on_is_a_503(cluster, tmp_path):
    client = own(cluster, tmp_path, token="x")
    kubeconfig = tmp_path / "kubeconfig"
    here = f"http://127.0.0.1:{free_port()}"
    kubeconfig.write_text(kubeconfig.read_text().replace(cluster.simulation.url, here))
    assert client.signal().status == 503


def test_a_slow_api_server_is_a_504(client, cluster, faulty, monkeypatch):
    # Ten seconds in earnest, which no test needs to wait for.
    monkeypatch.setattr("cluster.connection.READ_TIMEOUT_SECONDS", 0.2)
    faulty(1, "GET", delay=1)
    answer = client.post("/deployment", {"pw": client.right}, Accept="application/json")
    assert (answer.status, answer.json()["reason"]) == (504, "Timeout")
    assert client.signal().status == 200


def test_connections_that_went_stale_are_no_error(client, cluster):
    with ThreadPoolExecutor(8) as pool:
        assert {each.status for each in pool.map(lambda _: client.signal(), range(16))} == {200}
    cluster.simulation.stop_serving()
    cluster.simulation.serve_again()
    with ThreadPoolExecutor(8) as pool:
        assert {each.status for each in pool.map(lambda _: client.signal(), range(16))} == {200}


@pytest.mark.parametrize("method", ["GET", "POST", "PATCH"])
def test_a_connection_that_breaks_in_the_middle_is_tried_again(client, cluster, faulty, method):
    if method == "PATCH":
        cluster.create(deployment(image="acme/web:0"))
    faulty(1, method, drop=True)
    assert client.signal().status == 200
    assert cluster.get("web")["spec"]["template"]["spec"]["containers"][0]["image"] == "acme/web:1"


def test_connections_that_always_break_are_a_503(client, faulty):
    faulty(drop=True)
    assert client.signal().status == 503


def test_connections_are_reused(tmp_path):
    # A cluster of its own, where nobody else comes and goes.
    with SimulatedCluster() as simulation:
        simulation.write_kubeconfig(tmp_path / "kubeconfig")
        client = InProcess(tmp_path, KUBECONFIG=str(tmp_path / "kubeconfig"))
        client.reset("default")
        assert client.signal(dry_run=True).status == 200
        opened = set(simulation._server.open)
        for _ in range(5):
            assert client.signal(dry_run=True).status == 200
        assert set(simulation._server.open) == opened
