"""What happens when the API server refuses the credentials, or is away, slow, or hangs up."""

import copy
import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.conftest import InProcess, deployment
from tests.rollout.helpers import quiet_client
from tests.service import ROOT, free_port
from tests.simulation import SimulatedCluster

UNAUTHORIZED = json.loads((ROOT / "tests" / "recordings" / "errors.json").read_text())["unauthorized"]

pytestmark = pytest.mark.simulated_only


# Credentials


def own(cluster, tmp_path, **user):
    """Serve in this process with a kubeconfig of its own, which only requests read."""
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
    client = quiet_client(tmp_path / "own", KUBECONFIG=str(tmp_path / "kubeconfig"))
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


def test_a_rotated_token_file_is_read_again(cluster, tmp_path, rotated):
    token_file = tmp_path / "token"
    token_file.write_text(cluster.simulation.token)
    client = own(cluster, tmp_path, tokenFile=str(token_file))
    assert client.signal().status == 200
    token_file.write_text(rotated("another-token"))
    assert client.signal().status == 200


def test_a_token_in_an_edited_kubeconfig_is_read_again(cluster, tmp_path, rotated):
    client = own(cluster, tmp_path, token=cluster.simulation.token)
    assert client.signal().status == 200
    kubeconfig = tmp_path / "kubeconfig"
    old = cluster.simulation.token
    kubeconfig.write_text(kubeconfig.read_text().replace(old, rotated("another-token")))
    assert client.signal().status == 200


def test_one_401_is_tried_again_and_a_second_is_the_operator_s_error(client, cluster, faulty):
    faulty(1, "GET", **copy.deepcopy(UNAUTHORIZED))
    assert client.signal().status == 200
    faulty(method="GET", **copy.deepcopy(UNAUTHORIZED))
    answer = client.signal()
    assert answer.status == 500
    assert cluster.simulation.token not in answer.text


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
        # The queue is full: the kernel no longer answers.
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


def test_a_server_that_does_not_speak_http_is_a_503(cluster, tmp_path):
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


def test_a_closed_port_is_a_503(cluster, tmp_path):
    client = own(cluster, tmp_path, token="x")
    kubeconfig = tmp_path / "kubeconfig"
    here = f"http://127.0.0.1:{free_port()}"
    kubeconfig.write_text(kubeconfig.read_text().replace(cluster.simulation.url, here))
    assert client.signal().status == 503


def test_a_slow_api_server_is_a_504(client, cluster, faulty, monkeypatch):
    # The real limit, 10 s, is too long for a test.
    monkeypatch.setattr("cluster.connection.READ_TIMEOUT_SECONDS", 0.2)
    faulty(1, "GET", delay=1)
    answer = client.post("/deployment", {"pw": client.right}, Accept="application/json")
    assert (answer.status, answer.json()["reason"]) == (504, "Timeout")
    assert client.signal().status == 200


def test_a_busy_api_server_gets_the_pause_that_it_asks_for_once(client, faulty):
    faulty(1, "GET", status=429, headers={"Retry-After": "1"})
    began = time.monotonic()
    assert client.signal().status == 200
    assert time.monotonic() - began >= 1
    faulty(method="GET", status=429, headers={"Retry-After": "1"})
    assert client.signal().status == 503


@pytest.mark.parametrize("pause", ["6", "0", "-1", "soon", "Wed, 21 Oct 2026 07:28:00 GMT"])
def test_a_pause_that_is_no_short_number_is_not_waited_for(client, faulty, pause):
    faulty(1, "GET", status=429, headers={"Retry-After": pause})
    began = time.monotonic()
    answer = client.signal()
    assert (answer.status, time.monotonic() - began < 4) == (503, True)
    assert "the API server is busy" in answer.text


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
    # No other client opens connections to this cluster.
    with SimulatedCluster() as simulation:
        simulation.write_kubeconfig(tmp_path / "kubeconfig")
        client = InProcess(tmp_path, KUBECONFIG=str(tmp_path / "kubeconfig"))
        client.reset("default")
        assert client.signal(dry_run=True).status == 200
        opened = set(simulation._server.open)
        for _ in range(5):
            assert client.signal(dry_run=True).status == 200
        assert set(simulation._server.open) == opened
