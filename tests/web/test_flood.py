"""In a flood of wrong passwords, their senders get copies of one answer. Other senders get their usual answers."""

import gc
import json
import re
from io import BytesIO

import pytest
from werkzeug.test import EnvironBuilder

import rate
from tests.service import PASSWORD, wait_for
from tests.web.helpers import PW, basic
from web.flood import MAX_COPIED_ANSWERS

WRONG = "a-wrong-password-1234"
HTML = "text/html,application/xhtml+xml,*/*;q=0.8"


@pytest.fixture
def flood(client, monkeypatch):
    """Return a function that begins a flood, in a second that goes on for the whole test."""

    def begin():
        monkeypatch.setattr(rate, "monotonic", lambda: -3.0)
        for _ in range(rate.MAX_LINES_PER_SECOND + 1):
            assert client.post(body={"pw": WRONG}).status == 403

    return begin


def counted(client):
    """Return how many signals without a deployment were answered 403."""
    found = re.search(r'signals_total{deployment="",status="403"} (\S+)', client.get("/metrics").text)
    return float(found[1]) if found else 0


def _environ():
    body = json.dumps({"pw": WRONG, "cause": "x" * 50_000}).encode()
    return EnvironBuilder("/deployment", method="POST", data=body).get_environ()


@pytest.mark.parametrize("accept", ["", "application/json", "text/markdown", HTML, "image/png"])
@pytest.mark.parametrize(
    ("body", "headers"),
    [
        ({"pw": WRONG}, {}),
        ({"data": json.dumps({"pw": WRONG, "wait": True})}, {}),
        ({}, {}),
        ({}, {"Authorization": f"Bearer {WRONG}"}),
        ({}, {"Authorization": basic(WRONG)}),
        ({"pw": WRONG}, {"Authorization": "Bearer a.b.c"}),
        ({"pw": WRONG}, {"X-Request-ID": "build-7"}),
        ({"pw": WRONG}, {"Origin": "https://other.example.com"}),
    ],
)
@pytest.mark.parametrize("path", ["/deployment", "/deployment/nothing/rollback"])
def test_an_answer_is_the_same_in_a_flood(client, flood, path, body, headers, accept):
    def ask():
        answer = client.ask("POST", path, body, {"Accept": accept, **headers} if accept else headers)
        given = dict(answer.headers)
        return answer.status, answer.text, given.pop("X-Request-ID"), given

    calm = ask()
    assert calm[0] == 403
    flood()
    before = counted(client)
    first, second = ask(), ask()
    assert calm[:2] == first[:2] == second[:2]
    assert calm[3] == first[3] == second[3]
    assert len({calm[2], first[2], second[2]}) == (1 if "X-Request-ID" in headers else 3)
    assert counted(client) == before + 2


@pytest.mark.parametrize("path", ["/deployment", "/deployment/web"])
def test_no_sender_can_spoil_the_copies(client, flood, path):
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Accept": "q/1"}
    calm = client.ask("POST", path, {"pw": WRONG}, upgrade)
    flood()
    assert [client.ask("POST", path, {"pw": WRONG}, upgrade).status for _ in range(3)] == [calm.status] * 3
    assert client.ask("POST", path, {"pw": WRONG}, {"Accept": "q/1"}).status == 403


def test_a_copied_answer_keeps_nothing_of_the_body(client, flood):
    flood()
    gc.collect()
    gc.disable()
    try:
        for _ in range(20):
            assert client.app.wsgi_app(_environ(), lambda *_: None)[0].startswith(b"wrong or missing")
        assert not any(b"x" * 1000 in each.getvalue() for each in gc.get_objects() if isinstance(each, BytesIO))
    finally:
        gc.enable()


def test_everything_else_is_answered_as_ever(client, flood, cluster):
    flood()
    assert client.post(body={"pw": WRONG}).status == 403
    for body, status in ((PW, 200), ("{", 400), ({"pw": 3}, 400), ("x" * 70_000, 413)):
        assert client.post(body=body).status == status
    assert client.post(body={"data": {"pw": PASSWORD, "cause": "in a flood"}}).status == 200
    assert client.post(body={"pw": WRONG}, Authorization=f"Bearer {PASSWORD}").status == 200
    assert cluster.get("web")["metadata"]["annotations"]["kubernetes.io/change-cause"].startswith("deploy ")
    assert client.post("/deploymentweb", {"pw": WRONG}).status == 404
    assert client.post("/healthz", {"pw": WRONG}).status == 405
    assert client.get("/deployment/web", Authorization=f"Bearer {PASSWORD}").status == 202


def test_copies_of_many_kinds_take_little_memory(client, flood):
    flood()
    for number in range(200):
        assert client.post(f"/deployment/{number}", {"pw": WRONG}).status == 403
    assert len(client.app.wsgi_app._answers) <= MAX_COPIED_ANSWERS


def test_a_body_that_ends_too_early_is_refused_in_a_flood_too(service):
    def refused():
        return re.search(r'signals_total{deployment="",status="400"} (\S+)', service.get("/metrics").text)

    before = refused()
    for _ in range(150):
        service.post(body={"pw": WRONG})
    with service.connect() as connection:
        connection.sendall(b"POST /deployment HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
    wait_for(lambda: (now := refused()) and (not before or float(now[1]) > float(before[1])))
    assert service.signal().status == 200
