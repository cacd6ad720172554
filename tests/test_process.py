"""The process under uWSGI: how it starts and ends, and that no client can stop it."""

import http.client
import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from tests.conftest import ConfiguredService
from tests.service import PASSWORD, Service, read_to_end, wait_for

PW = json.dumps({"pw": PASSWORD})


@pytest.fixture
def own(admin, cluster, tmp_path):
    """Serve from a process of this test alone, which it may end."""
    with ConfiguredService(tmp_path, KUBECONFIG=str(admin.kubeconfig)) as service:
        service.reset(cluster.namespace)
        yield service


def processes(service):
    """Return the ids of the service's processes."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        # All its processes are in its process group. A zombie has ended and only waits for its parent.
        if int(fields[2]) == service.process.pid and fields[0] != "Z":
            found.append(int(stat.parent.name))
    return sorted(found)


def head(path="/deployment", **headers):
    """Return a POST up to its body."""
    lines = [f"POST {path} HTTP/1.1", "Host: 127.0.0.1", *(f"{k.replace('_', '-')}: {v}" for k, v in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode()


# Start and end


def test_bad_settings_end_the_process_with_one_message_that_names_them_all():
    service = Service({"DEPLOYMENTS_DIR": "", "PASSWORDS_DIR": ""})
    service.begin()
    assert service.ended(20) == 22
    log = "\n".join(service.lines)
    assert log.count("ValueError: bad settings:") == 1
    message = log.partition("ValueError: bad settings:")[2].splitlines()
    assert message[1].startswith("  DEPLOYMENTS_DIR: ")
    assert message[2].startswith("  PASSWORDS_DIR: ")
    assert not [line for line in service.lines if "respawn" in line.lower()]


def test_missing_directories_do_not_end_the_process(own):
    for folder in (own.deployments_dir, own.passwords_dir):
        folder.rename(folder.with_name(f"no-{folder.name}"))
    own.restart()
    assert own.get("/healthz").status == 200
    assert own.get("/readyz").status == 503
    assert not [line for line in own.lines if line.startswith("Traceback")]
    for folder in (own.deployments_dir, own.passwords_dir):
        folder.with_name(f"no-{folder.name}").rename(folder)
    assert own.get("/readyz").status == 200
    assert own.signal().status == 200


def test_the_service_starts_while_the_cluster_is_away(tmp_path):
    with ConfiguredService(tmp_path, KUBECONFIG=str(tmp_path / "nothing")) as service:
        service.reset("default")
        assert service.get("/readyz").status == 200
        answer = service.signal()
        assert answer.status == 503
        assert "KUBECONFIG must name a file that kubectl can use" in answer.text


@pytest.mark.simulated_only
def test_sigterm_lets_a_request_in_flight_finish(own, cluster):
    assert own.signal().status == 200
    asked = len(cluster.requests)
    cluster.simulation.fail(1, "PATCH", f"/namespaces/{cluster.namespace}/", delay=1)
    with ThreadPoolExecutor() as pool:
        flying = pool.submit(own.signal, image="acme/web:2")
        wait_for(lambda: "PATCH" in [each.method for each in cluster.requests[asked:]])
        own.stop()
        answer = flying.result()
    assert answer.status == 200
    assert cluster.get("web")["spec"]["template"]["spec"]["containers"][0]["image"] == "acme/web:2"


def test_sigterm_ends_all_processes(own):
    own.signal()
    assert len(processes(own)) == 2
    assert own.stop() == 0
    wait_for(lambda: processes(own) == [])


def test_a_killed_service_starts_again_on_the_same_port(own):
    own.signal()
    own.kill()
    wait_for(lambda: processes(own) == [])
    own.start()
    assert own.signal().status == 200


# What clients can't do


def test_signals_are_served_beside_idle_connections(service):
    with ExitStack() as stack:
        for _ in range(64):
            stack.enter_context(service.connect())
        assert service.signal().status == 200


def test_signals_are_served_beside_kept_connections(service):
    with ExitStack() as stack:
        for _ in range(64):
            connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=20)
            stack.callback(connection.close)
            connection.request("GET", "/healthz", headers={"Connection": "keep-alive"})
            response = connection.getresponse()
            assert response.headers["Connection"] == "close"
        assert service.signal().status == 200


def test_unfinished_requests_hold_no_thread_for_long(service):
    with ExitStack() as stack:
        for _ in range(64):
            stack.enter_context(service.connect()).sendall(b"POST /deployment HTTP/1.1\r\nHost: ")
        began = time.monotonic()
        assert service.signal().status == 200
        assert time.monotonic() - began < 5


@pytest.mark.parametrize("size", [8 * 1024, 30 * 1024])
def test_a_long_header_is_served(service, size):
    assert service.get("/healthz", Authorization="Bearer " + "x" * size).status == 200
    assert service.post(body=PW, X_Forwarded_For="1" * size).status == 200


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (head() + b"", 411),
        (head(Content_Type="application/json"), 411),
        (head(Transfer_Encoding="chunked") + b"5\r\n12345\r\n0\r\n\r\n", 411),
        (head(Content_Length="0"), 400),
        (head(Content_Length=str(len(PW))) + PW.encode(), 200),
        (head(Content_Length=str(len(PW)), Expect="100-continue") + PW.encode(), 200),
        (head(Content_Length=str(70_000)) + b"x" * 70_000, 413),
        (head("/deployment/w%2fb", Content_Length=str(len(PW))) + PW.encode(), 404),
        (head("/deployment/../healthz", Content_Length=str(len(PW))) + PW.encode(), 405),
    ],
)
def test_unusual_requests(service, sent, status):
    answer = service.raw(sent)
    assert answer.startswith(b"HTTP/1.1 %d " % status), answer[:200]


@pytest.mark.parametrize(
    "sent",
    [
        b"\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 200,
        b"GET\r\n\r\n",
        b"GET /healthz\r\n\r\n",
        b"POST /deployment HTTP/9.9\r\n\r\n",
        b"POST /deployment HTTP/1.1\r\nContent-Length: -5\r\n\r\n{}",
        b"POST /deployment HTTP/1.1\r\nContent-Length: many\r\n\r\n{}",
        b"POST /deployment HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n{}",
        b"POST /deployment HTTP/1.1\r\n" + b"X: y\r\n" * 5_000 + b"\r\n",
        b"POST /" + b"a" * 40_000 + b" HTTP/1.1\r\n\r\n",
        head(Content_Length="100") + b'{"pw": ',
    ],
    ids=range(11),
)
def test_nonsense_neither_ends_the_process_nor_deploys(service, cluster, sent):
    before = processes(service)
    with service.connect() as connection:
        with suppress(OSError):  # The service may have closed the connection by then.
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
        answer = read_to_end(connection)
    assert b" 200 OK" not in answer or b"GET /healthz" in sent
    assert b" 500 " not in answer[:20]
    assert cluster.get("web") is None
    assert service.signal().status == 200
    assert processes(service) == before


def test_clients_may_close_the_connection_before_the_answer(service, cluster):
    before = processes(service)
    for _ in range(10):
        with service.connect() as connection:
            connection.sendall(head(Content_Length=str(len(PW))) + PW.encode())
    cluster.wait_for(lambda: cluster.get("web"))
    assert service.signal().status == 200
    assert processes(service) == before


def test_a_hundred_signals_at_once(service, cluster):
    before = processes(service)
    with ThreadPoolExecutor(100) as pool:
        answers = list(pool.map(lambda n: service.signal(image=f"acme/web:{n}"), range(100)))
    # A real API server may be too slow for so many signals; the answer is then an error.
    assert {answer.status for answer in answers} - ({200} if cluster.simulation else {200, 503, 504}) == set()
    live = cluster.get("web")
    image = live["spec"]["template"]["spec"]["containers"][0]["image"]
    rollout_id = live["spec"]["template"]["metadata"]["annotations"]["auto-deployer/restartedAt"]
    assert live["metadata"]["annotations"]["kubernetes.io/change-cause"] == f"deploy {image}"
    assert [f"image {image}," in answer.text for answer in answers if rollout_id in answer.text] in ([True], [])
    assert processes(service) == before
    assert not [line for line in service.lines if "DAMN" in line or "respawn" in line.lower()]


def test_many_deeply_nested_bodies_end_no_worker(service):
    before = processes(service)
    bodies = ["[" * 60_000, '{"a":' * 12_000, '{ "data": "' + "[" * 60_000 + '" }'] * 20
    with ThreadPoolExecutor(60) as pool:
        assert {answer.status for answer in pool.map(lambda body: service.post(body=body), bodies)} == {400}
    assert processes(service) == before


def test_no_request_can_write_a_line_of_its_own_into_the_log(service):
    service.ask("GET", '/"}%0a{"message":"forged', headers={"User-Agent": '"}\t{"x": 1', "X-Request-ID": "seen-1"})
    wait_for(lambda: [line for line in service.log if line.get("request_id") == "seen-1" and "status" in line])
    assert not [line for line in service.lines if line.startswith('{"message":"forged')]
