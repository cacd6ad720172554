"""Passwords over HTTP: which callers the service lets in, and what the others learn."""

import pytest

from tests.conftest import deployment
from tests.service import PASSWORD
from tests.web.helpers import WRONG_PASSWORD, basic


@pytest.mark.parametrize(
    "authorization", [f"Bearer {PASSWORD}", f"bearer {PASSWORD}", basic(PASSWORD), basic(PASSWORD, "")]
)
def test_the_authorization_header_may_have_the_password(service, authorization):
    assert service.post(body={}, Authorization=authorization).status == 200
    assert service.get("/check", Authorization=authorization).status == 200


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, WRONG_PASSWORD),
        ({"pw": ""}, WRONG_PASSWORD),
        ({"pw": "wrong"}, WRONG_PASSWORD),
        ({"pw": PASSWORD + "\n"}, WRONG_PASSWORD),
        ({"pw": " " + PASSWORD}, WRONG_PASSWORD),
        ({"pw": PASSWORD[:-1]}, WRONG_PASSWORD),
        ({"pw": PASSWORD.upper()}, WRONG_PASSWORD),
        ({"pw": PASSWORD + "\x00"}, WRONG_PASSWORD),
        ({"pw": "pässwörter-überall"}, WRONG_PASSWORD),
        ({"pw": "\ud800\udc00\ud800"}, WRONG_PASSWORD),
        ({"pw": "x" * 60_000}, WRONG_PASSWORD),
        ({"PW": PASSWORD}, WRONG_PASSWORD),
        ({"password": PASSWORD}, WRONG_PASSWORD),
        ({"pw": "wrong", "image": 7, "cause": [], "dry_run": "x"}, WRONG_PASSWORD),
        ({"pw": "wrong", "image": "acme/api:1"}, WRONG_PASSWORD),
        ({"pw": "default"}, WRONG_PASSWORD),
    ],
)
@pytest.mark.parametrize("path", ["/deployment", "/deployment/web", "/deployment/nothing", "/deployment/a/b"])
def test_without_a_right_password_the_answer_says_nothing_else(service, cluster, fields, words, path):
    service.configure("api", "nonsense: [")
    answer = service.post(path, fields, Accept="application/json")
    assert (answer.status, answer.json()) == (403, {"error": words, "reason": "WrongPassword"})
    assert cluster.get("web") is None


@pytest.mark.parametrize("pw", [None, 1, 1.5, True, [PASSWORD], {"pw": PASSWORD}])
def test_a_password_that_is_not_text(service, cluster, pw):
    answer = service.post(body={"pw": pw}, Accept="application/json")
    assert (answer.status, answer.json()) == (400, {"error": "pw must be text", "reason": "BadRequest"})
    assert cluster.get("web") is None


@pytest.mark.parametrize("path", ["/check", "/check/web", "/check/nothing", "/check/a/b"])
@pytest.mark.parametrize(
    "authorization",
    ["", "Bearer", "Bearer ", "Bearer wrong", f"Digest {PASSWORD}", PASSWORD, "Basic !!", basic("wrong"), basic("")],
)
def test_a_check_without_a_right_password(service, path, authorization):
    answer = service.get(path, **({"Authorization": authorization} if authorization else {}))
    assert (answer.status, answer.text) == (403, WRONG_PASSWORD + "\n")


def test_a_password_of_one_deployment_opens_only_that_one(service, cluster):
    service.configure("api", deployment("api", "acme/api:1"))
    service.password("api", "only-for-the-api-01")
    api = {"pw": "only-for-the-api-01"}
    assert service.post("/deployment/web", api).status == 403
    assert service.post("/deployment/nothing", api).status == 403
    several = service.post("/deployment", api)
    assert (several.status, "/deployment/web" in several.text) == (400, False)
    assert service.post("/deployment/api", api).status == 200
    assert cluster.get("web") is None
    checked = service.get("/check", Authorization="Bearer only-for-the-api-01")
    assert (checked.status, {line.split(": ")[1] for line in checked.text.splitlines()}) == (200, {"api"})
    assert service.get("/check/web", Authorization="Bearer only-for-the-api-01").status == 403
    assert service.post("/deployment/api", {"pw": PASSWORD}).status == 200


def test_a_changed_password_file_needs_no_restart(service):
    service.password("default", PASSWORD, "the-next-password-1")
    assert service.post(body={"pw": "the-next-password-1"}).status == 200
    assert service.signal().status == 200
    service.password("default", "the-next-password-1")
    assert service.post(body={"pw": "the-next-password-1"}).status == 200
    assert service.signal().status == 403


def test_crlf_and_blank_lines_in_a_password_file_are_harmless(service):
    (service.passwords_dir / "default").write_bytes(b"\r\n" + PASSWORD.encode() + b"\r\n\r\n")
    assert service.signal().status == 200
    assert service.post(body={"pw": ""}).status == 403
    assert service.post(body={"pw": "\r"}).status == 403


def test_without_any_password_file_nothing_opens(service):
    (service.passwords_dir / "default").unlink()
    assert service.signal().status == 403
    assert service.post(body={}).status == 403
