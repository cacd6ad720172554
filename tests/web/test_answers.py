"""Answers: text or JSON, unknown paths and methods, and what the log says about each."""

import re

import pytest

import rate
from tests.service import PASSWORD
from tests.web.helpers import PW, basic, rollout_id


@pytest.mark.parametrize(
    "name",
    ["nothing", "Web", "web.yaml", "web%20", "../web", "%2e%2e%2fweb", "a%2fb", "web%2f", "/web", "w%00b", "%ff"],
)
def test_a_name_that_is_not_configured_is_a_404(service, cluster, name):
    for path in (f"/deployment/{name}", f"/check/{name}"):
        ask = service.get if "check" in path else service.post
        body = {} if "check" in path else {"body": {}}
        answer = ask(path, **body, Accept="application/json", Authorization=f"Bearer {PASSWORD}")
        assert (answer.status, answer.json()["reason"]) == (404, "NotFound")
    assert cluster.get("web") is None


@pytest.mark.parametrize("path", ["/deployments", "/Deployment", "/deploymentweb", "/favicon.ico", "/static"])
def test_other_paths_are_a_404_that_names_the_right_ones(service, path):
    for ask in (service.post, service.get):
        answer = ask(path)
        assert answer.status == 404
        assert "signals go to /deployment" in answer.text


def test_static_has_only_what_the_page_needs(service):
    for path in ("/static/app.py", "/static/../page.py", "/static/%2e%2e/page.py"):
        assert service.get(path).status == 404


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        # The server reads the last of them as the first.
        ("POST", "/", "GET"),
        ("POST", "/deployment/..", "GET"),
        ("POST", "/static/page.js", "GET"),
        ("PUT", "/deployment", "POST"),
        ("DELETE", "/deployment", "POST"),
        ("PATCH", "/deployment/web", "POST"),
        ("DELETE", "/deployment/web", "POST"),
        ("POST", "/check", "GET"),
        ("DELETE", "/check/web", "GET"),
        ("POST", "/healthz", "GET"),
        ("PUT", "/readyz", "GET"),
    ],
)
def test_another_method_is_a_405_that_names_the_right_ones(service, method, path, allowed):
    answer = service.ask(method, path, PW, {"Accept": "application/json"})
    assert answer.status == 405
    assert allowed in answer.headers["Allow"].split(", ")
    assert method not in answer.headers["Allow"]
    assert answer.json()["reason"] == "MethodNotAllowed"
    assert allowed in answer.json()["error"]


def test_an_empty_id_is_a_400(client):
    assert client.get("/deployment/web?id=").status == 403
    client.deploy(wait=False)
    answer = client.show(id="")
    assert (answer.status, answer.json()["reason"]) == (400, "BadRequest")
    assert client.show().status == 202


ALL_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
PATHS = ("/deployment", "/deployment/web", "/deployment/rollback", "/deployment/web/rollback", "/check", "/check/web")
PATHS += ("/deployment/web/rollback/", "/deployment/rollback/", "/deployment/a/rollback", "/dockerhub/x")


@pytest.mark.parametrize("path", ["/deployment", "/deployment/web", "/deployment/nothing/rollback", "/check"])
def test_options_without_a_password_says_nothing(client, path):
    for headers in ({}, {"Authorization": "Bearer wrong"}):
        answer = client.ask("OPTIONS", path, None, {"Accept": "application/json"} | headers)
        assert (answer.status, answer.headers["Allow"]) == (403, None)
        assert answer.json() == {"error": "wrong or missing password", "reason": "WrongPassword"}


@pytest.mark.parametrize("path", PATHS)
def test_allow_names_exactly_the_methods_that_there_are(client, path):
    headers = {"Authorization": f"Bearer {PASSWORD}"}
    statuses = {method: client.ask(method, path, None, headers).status for method in ALL_METHODS}
    there = {method for method, status in statuses.items() if status != 405}
    assert "OPTIONS" not in there
    for method in ALL_METHODS:
        answer = client.ask(method, path, None, headers)
        allow = answer.headers["Allow"]
        assert (None if allow is None else set(allow.split(", "))) == (None if method in there else there)


# Text and JSON


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        (None, "text/plain"),
        ("*/*", "text/plain"),
        ("text/plain", "text/plain"),
        ("text/*", "text/plain"),
        ("text/html", "text/plain"),
        ("nonsense", "text/plain"),
        ("text/plain, application/json", "text/plain"),
        ("application/json;q=0.5, text/plain", "text/plain"),
        ("application/json;q=0", "text/plain"),
        ("application/json", "application/json"),
        ("application/json; charset=utf-8", "application/json"),
        ("application/*", "application/json"),
        ("text/html, application/json", "application/json"),
        ("text/plain;q=0.5, application/json", "application/json"),
        ("application/json, */*;q=0.8", "application/json"),
    ],
)
def test_every_answer_is_text_unless_accept_prefers_json(service, accept, kind):
    headers = {"Accept": accept} if accept else {}
    for answer in (
        service.post(body=PW, **headers),
        service.post(body="", **headers),
        service.post(body="{}", **headers),
        service.get("/healthz", **headers),
        service.get("/readyz", **headers),
        service.get("/nothing", **headers),
        service.get("/check", Authorization=f"Bearer {PASSWORD}", **headers),
        service.ask("PUT", "/deployment", "", headers),
    ):
        assert answer.headers.get_content_type() == kind
        if kind == "application/json" and answer.status >= 400:
            assert answer.json().keys() == {"error", "reason"}


# The log


def test_the_log_names_the_request_the_deployment_and_the_rollout(service, cluster):
    answer = service.post(body={"pw": PASSWORD}, X_Request_ID="build-7.1_a")
    assert answer.headers["X-Request-ID"] == "build-7.1_a"
    lines = service.logged(answer)
    assert {"method": "POST", "path": "/deployment", "status": 200}.items() <= lines[-1].items()
    told = {"deployment": "web", "namespace": cluster.namespace, "id": rollout_id(cluster.get("web"))}
    assert any(told.items() <= line.items() for line in lines)


@pytest.mark.parametrize("given", ["", "a b", "x" * 65, 'a"b', "ä", "{}", "a/b"])
def test_a_request_id_that_is_not_a_plain_word_is_replaced(service, given):
    answer = service.get("/nothing", X_Request_ID=given)
    assert re.fullmatch("[0-9a-f]{32}", answer.headers["X-Request-ID"])


def test_the_log_never_shows_a_secret(service):
    wrong = "a-wrong-password-1234"
    for fields in ({"pw": PASSWORD}, {"pw": wrong}, {"pw": PASSWORD, "image": 7}, {"pw": PASSWORD, "image": "x/y:1"}):
        service.post(body=fields)
    service.post(body=f'{{"pw": "{wrong}')
    service.post("/deployment/nothing?pw=" + wrong, {"pw": PASSWORD})
    service.get("/check", Authorization=f"Bearer {PASSWORD}")
    service.get("/check", Authorization=basic(wrong))
    service.logged(service.get("/check", Authorization=f"Bearer {wrong}"))
    log = "\n".join(service.lines)
    for secret in (PASSWORD, wrong, basic(wrong), "Bearer "):
        assert secret not in log


def test_a_flood_of_guesses_does_not_bury_the_lines_of_right_signals(client, caplog, monkeypatch):
    monkeypatch.setattr(rate, "monotonic", lambda: -1.0)  # A second that no other test had.
    caplog.set_level("INFO", "web.request_log")

    def lines():
        return [record.getMessage() for record in caplog.records if record.name == "web.request_log"]

    for _ in range(rate.MAX_LINES_PER_SECOND + 50):
        assert client.post(body={"pw": "a-wrong-password-1234"}).status == 403
    assert client.get("/nothing").status == 404
    assert lines().count("POST /deployment 403") == rate.MAX_LINES_PER_SECOND
    assert [line for line in lines() if "have no line" in line] == [lines()[-1]]
    assert client.post(body=PW).status == 200
    assert client.post(body={"pw": PASSWORD, "image": 7}).status == 400
    assert client.post("/deployment/nothing", PW).status == 404
    assert lines()[-3:] == ["POST /deployment 200", "POST /deployment 400", "POST /deployment/nothing 404"]


def test_a_flood_of_forged_tokens_does_not_bury_them_either(client, caplog, monkeypatch):
    monkeypatch.setattr(rate, "monotonic", lambda: -2.0)
    for _ in range(rate.MAX_LINES_PER_SECOND + 50):
        assert client.post(body={}, Authorization="Bearer a.b.c").status == 403
    assert caplog.text.count("a token was sent") == rate.MAX_LINES_PER_SECOND


def test_an_error_that_the_operator_must_mend_is_a_warning_in_the_log(service, cluster):
    cluster.allow([])
    answer = service.signal()
    assert answer.status == 500
    lines = service.logged(answer)
    assert [line["level"] for line in lines] == ["warning", "warning"]
    assert "cannot get resource" in lines[0]["message"]
    assert service.logged(service.get("/nothing"))[-1]["level"] == "info"
