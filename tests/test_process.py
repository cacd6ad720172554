"""The process under uWSGI: how it starts and ends, and that no client can stop it."""

import http.client
import itertools
import json
import select
import signal
import socket
import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from tests.conftest import ConfiguredService
from tests.service import PASSWORD, Service, read_to_end, wait_for
from web.receiving import MAX_RECEIVING_REQUESTS

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
    assert len(processes(own)) == 3  # The master, the router and the worker.
    assert own.stop() == 0
    wait_for(lambda: processes(own) == [])


def test_a_killed_service_starts_again_on_the_same_port(own):
    own.signal()
    own.kill()
    wait_for(lambda: processes(own) == [])
    own.start()
    assert own.signal().status == 200


def test_it_serves_ipv6(tmp_path):
    with ConfiguredService(tmp_path, KUBECONFIG=str(tmp_path / "nothing"), host="[::1]") as service:
        service.reset("default")
        assert service.url.startswith("http://[::1]:")
        assert service.get("/healthz").status == 200
        assert service.post(body={"pw": "wrong"}).status == 403


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


def body_head(length=100):
    return head(Content_Length=str(length))


SLOW = {
    "headers": [b"POST /deployment HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: "],
    "bodies": [body_head()],
    "both": [b"POST /deployment HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: ", body_head()],
}


@contextmanager
def dripping(service, beginnings, connections=256):
    """Hold connections that have begun a request, and send a byte on each of them every 2 s."""
    ended = threading.Event()

    def drip(senders):
        while not ended.wait(2):
            for sender in senders:
                with suppress(OSError):  # The service has cut it off.
                    sender.sendall(b"x")

    with ExitStack() as stack:
        senders = [stack.enter_context(service.connect()) for _ in range(connections)]
        for sender, beginning in zip(senders, itertools.cycle(beginnings)):
            sender.sendall(beginning)
        thread = threading.Thread(target=drip, args=[senders])
        thread.start()
        try:
            yield senders
        finally:
            ended.set()
            thread.join()


@pytest.mark.parametrize("beginnings", SLOW.values(), ids=SLOW)
def test_slow_senders_hold_up_nothing(service, beginnings):
    with dripping(service, beginnings):
        time.sleep(1)  # While so many connect, the kernel may let the next one wait for 1 s.
        until = time.monotonic() + 9
        while time.monotonic() < until:
            began = time.monotonic()
            assert service.get("/healthz").status == 200
            assert time.monotonic() - began < 1
            began = time.monotonic()
            assert service.signal().status == 200
            assert time.monotonic() - began < 2
            time.sleep(0.2)


def test_a_body_must_arrive_within_ten_seconds(service):
    with dripping(service, [body_head()], 1) as [sender]:
        began = time.monotonic()
        answer = read_to_end(sender)
        assert 9 < time.monotonic() - began < 13
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert answer.endswith(b"the body takes too long to arrive; send it in one piece, at once\n")


def test_a_silent_sender_is_told_so(service):
    with service.connect() as sender:
        sender.sendall(body_head() + b"{")
        assert read_to_end(sender).startswith(b"HTTP/1.1 408 ")


def test_one_more_body_cuts_off_the_one_that_began_first(service):
    with ExitStack() as stack:
        senders = []
        for _ in range(MAX_RECEIVING_REQUESTS):
            senders.append(stack.enter_context(service.connect()))
            senders[-1].sendall(body_head() + b"{")
            time.sleep(0.01)
        time.sleep(0.2)
        assert service.signal().status == 200
        first, second, *_ = senders
        assert read_to_end(first).startswith(b"HTTP/1.1 408 ")
        assert not select.select([second], [], [], 0.2)[0]


@pytest.mark.parametrize("path", ["/deployment", "/dockerhub/wrong", "/nothing", "/healthz"])
def test_a_large_body_gets_its_answer(service, path):
    status = {"/deployment": 413, "/dockerhub/wrong": 403, "/nothing": 404, "/healthz": 405}[path]
    for _ in range(5):
        assert service.post(path, b"x" * 20_000_000).status == status


@pytest.mark.parametrize("wait", [0, 0.5], ids=["at once", "in pieces"])
def test_a_body_in_two_pieces_is_read(service, wait):
    with service.connect() as sender:
        sender.sendall(head(Content_Length=str(len(PW))) + PW[:5].encode())
        time.sleep(wait)
        sender.sendall(PW[5:].encode())
        assert read_to_end(sender).startswith(b"HTTP/1.1 200 ")


def test_sigterm_lets_bodies_in_flight_arrive(own):
    with ExitStack() as stack:
        senders = [stack.enter_context(own.connect()) for _ in range(20)]
        for sender in senders:
            sender.sendall(head(Content_Length=str(len(PW))) + PW[:5].encode())
        time.sleep(0.5)
        own.process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        for sender in senders:
            sender.sendall(PW[5:].encode())
        assert {read_to_end(sender)[:12] for sender in senders} == {b"HTTP/1.1 200"}
    assert own.ended(30) == 0


def test_three_hundred_requests_at_once_all_get_an_answer(service):
    with ThreadPoolExecutor(300) as pool:
        answers = list(pool.map(lambda _: service.post(body={"pw": "wrong"}).status, range(300)))
    assert set(answers) == {403}


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


SECRETS = {"path": "dockerhub-token-f3a1", "header": "header-token-9c2e", "body": "body-password-77d0"}
SECRET_LINE = f"POST /dockerhub/{SECRETS['path']}?token={SECRETS['path']} HTTP/1.1\r\n".encode()
SECRET_HEADERS = (
    f"Host: {SECRETS['header']}\r\nAuthorization: Bearer {SECRETS['header']}\r\nX-Request-ID: {SECRETS['header']}!\r\n"
).encode()
SECRET_BODY = json.dumps({"pw": SECRETS["body"]}).encode()


def secret(*more):
    return SECRET_LINE + SECRET_HEADERS + b"".join(more)


LEAKY = {
    "path cut off": SECRET_LINE[:60],
    "headers cut off": secret(),
    "body cut off": secret(b"Content-Length: 100\r\n\r\n", SECRET_BODY),
    "body too long": secret(b"Content-Length: 200000\r\n\r\n", SECRET_BODY * 5_000),
    "body longer than its length": secret(b"Content-Length: 5\r\n\r\n", SECRET_BODY),
    "body not JSON": secret(b"Content-Length: 27\r\n\r\n", SECRET_BODY[:27]),
    "chunked": secret(b"Transfer-Encoding: chunked\r\n\r\n20\r\n", SECRET_BODY),
    "headers over the buffer": secret(b"X: " + SECRETS["header"].encode() * 2_500 + b"\r\n\r\n"),
    "headers over the router's buffer": secret(b"X: " + SECRETS["header"].encode() * 5_000 + b"\r\n\r\n"),
    "path over the buffer": SECRET_LINE.replace(b"?", b"/x" * 20_000 + b"?") + b"\r\n",
    "no protocol": SECRET_LINE.replace(b" HTTP/1.1", b"") + b"\r\n",
    "no method": SECRET_LINE[5:] + SECRET_HEADERS + b"\r\n",
    "header without a colon": secret(SECRETS["header"].encode() + b"\r\n\r\n"),
    "host too long": secret(b"Host: " + SECRETS["header"].encode() * 20 + b"\r\n\r\n"),
    "path with a slip": secret(b"Content-Length: 0\r\n\r\n").replace(b"/dockerhub/", b"/DockerHub//"),
    "broken escape": secret(b"Content-Length: 0\r\n\r\n").replace(b"/dockerhub/", b"/dockerhub/%zz%"),
    "not UTF-8": secret(b"Content-Length: 0\r\n\r\n").replace(b"/dockerhub/", b"/dockerhub/\xff%ff"),
}


@pytest.mark.parametrize("host", [b"", b"Host: x\r\n", b"Host: " + b"example." * 31 + b"com\r\n"])
@pytest.mark.parametrize("protocol", [b"HTTP/1.0", b"HTTP/1.1"])
def test_the_header_host_may_be_missing(service, protocol, host):
    answer = service.raw(b"GET /healthz " + protocol + b"\r\n" + host + b"\r\n")
    assert answer.startswith(protocol + b" 200 ")


@pytest.mark.parametrize("host", [b"", b" ", b"x" * 256])
def test_a_host_that_the_router_can_not_use_gets_no_answer(service, host):
    # As the comment in uwsgi.ini says; it ends where uWSGI learns to answer.
    assert service.raw(b"GET /healthz HTTP/1.1\r\nHost:" + host + b"\r\n\r\n") == b""
    assert service.get("/healthz").status == 200


@pytest.mark.parametrize("end", ["half", "whole", "reset"])
def test_no_secret_of_a_broken_request_is_in_the_log(service, end):
    for sent in LEAKY.values():
        with service.connect() as sender:
            with suppress(OSError):  # The service may have closed the connection by then.
                sender.sendall(sent)
                if end == "half":
                    sender.shutdown(socket.SHUT_WR)
                    read_to_end(sender)
            if end == "reset":
                # At once, or while the service answers.
                sender.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    time.sleep(1)
    answer = service.get("/nothing", X_Request_ID="after-all-of-them")
    service.logged(answer)
    assert [line for line in service.lines for each in SECRETS.values() if each in line] == []


def test_no_secret_of_a_slow_request_is_in_the_log(service):
    beginnings = [sent for name, sent in LEAKY.items() if "cut off" in name]
    with dripping(service, beginnings, len(beginnings)) as senders:
        assert read_to_end(senders[-1]).startswith(b"HTTP/1.1 408 ")
    assert [line for line in service.lines for each in SECRETS.values() if each in line] == []


def test_a_broken_connection_can_not_write_into_the_log(own):
    forged = b'{"message": "forged"}'
    request = b"GET /healthz HTTP/1.1\r\nHost: x\n" + forged + b"\n\r\n\r\n"
    for _ in range(200):
        with own.connect() as sender:
            sender.sendall(request)
            sender.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert own.get("/healthz").status == 200
    assert own.stop() == 0
    assert [line for line in own.lines if "forged" in line] == []
