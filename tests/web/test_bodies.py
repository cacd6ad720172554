"""Bodies: every form that a sender may use, and a clear error for everything else."""

import json

import pytest

from tests.service import PASSWORD
from tests.web.helpers import PW


@pytest.mark.parametrize(
    "body",
    [
        PW,
        f'{{"data": {PW}}}',
        json.dumps({"data": PW}),
        f'{{ "data": "{PW}" }}',
        '{"data":"' + PW.replace('"', '\\"') + '"}',
        json.dumps({"ref": "refs/heads/main", "pw": PASSWORD, "n": [1, {"x": None}]}),
    ],
    ids=["plain", "object", "text", "pasted", "pasted-escaped", "with-fields-of-others"],
)
@pytest.mark.parametrize("kind", ["application/json", "application/x-www-form-urlencoded"])
def test_every_form_of_the_body_deploys(service, cluster, body, kind):
    assert service.post(body=body, Content_Type=kind).status == 200
    assert cluster.get("web")


def test_a_body_of_64_kib_deploys(service, cluster):
    assert service.post(body=PW.ljust(64 * 1024)).status == 200
    assert cluster.get("web")


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b"", 400, "empty"),
        (b"  \n", 400, "empty"),
        (b'{"pw": ', 400, "not JSON"),
        (b"pw=x", 400, "not JSON"),
        (b"[]", 400, "must be a JSON object"),
        (b"7", 400, "must be a JSON object"),
        (b"null", 400, "must be a JSON object"),
        (b'"text"', 400, "must be a JSON object"),
        (b"[" * 1_000 + b"]" * 1_000, 400, "the body"),
        (b"[" * 50_000, 400, "nested too deep"),
        (b'{"a":' * 10_000, 400, "nested too deep"),
        (b'{"data": 7}', 400, "data must be an object"),
        (b'{"data": "{"}', 400, "data is not JSON"),
        (b'{"data": {"data": {}}}', 400, "one envelope is enough"),
        (b'{ "data": "{ "data": "{}" }" }', 400, "one envelope is enough"),
        (b'{"pw": "a", "pw": "b"}', 400, "twice"),
        (b'{"pw": NaN}', 400, "NaN"),
        (b'{"pw": "\x00"}', 400, "not JSON"),
        (b"\x00" * 100, 400, "not JSON"),
        (b'{"pw": "\xe4"}', 400, "not UTF-8"),
        (b"\xef\xbb\xbf" + PW.encode(), 400, "byte order mark"),
        (PW.encode("utf-16"), 400, "not UTF-8"),
        (b"{" + b" " * 65_535 + b"}", 413, "at most 65536"),
        (b"x" * 65 * 1024, 413, "at most 65536"),
        (b"x" * 2_000_000, 413, "at most 65536"),
    ],
)
def test_a_bad_body_gets_a_clear_error_and_changes_nothing(service, cluster, body, status, words):
    for authorization in ("Bearer wrong", f"Bearer {PASSWORD}"):
        answer = service.post(body=body, Authorization=authorization)
        assert (answer.status, answer.headers.get_content_type()) == (status, "text/plain")
        assert words in answer.text
        assert "Traceback" not in answer.text
    answer = service.post(body=body, Accept="application/json")
    assert answer.json().keys() == {"error", "reason"}
    assert words in answer.json()["error"]
    assert answer.json()["reason"] == {400: "BadRequest", 413: "RequestEntityTooLarge"}[status]
    assert cluster.get("web") is None


@pytest.mark.parametrize(
    ("fields", "status", "words"),
    [
        ({"image": ""}, 400, "image: '' is no image"),
        ({"image": None}, 400, "image must be text"),
        ({"image": 1}, 400, "image must be text"),
        ({"image": ["acme/web:2"]}, 400, "image must be text"),
        ({"image": "acme/web"}, 400, "neither tag nor digest; write acme/web:latest"),
        ({"image": "acme/web:"}, 400, "is no image"),
        ({"image": "acme/web :2"}, 400, "is no image"),
        ({"image": "acme/web:2\n"}, 400, "is no image"),
        ({"image": "acme/web:2\x00"}, 400, "is no image"),
        ({"image": "acme/web:2\ud800"}, 400, "is no image"),
        ({"image": "Acme/Web:2"}, 400, "is no image"),
        ({"image": "../acme/web:2"}, 400, "is no image"),
        ({"image": "acme/../web:2"}, 400, "is no image"),
        ({"image": "acme/web@sha256:123"}, 400, "is no image"),
        ({"image": "acme/web:" + "x" * 60_000}, 400, "is no image"),
        ({"image": "acme/api:2"}, 403, "it may get an image of docker.io/acme/web"),
        ({"image": "evil/acme/web:2"}, 403, "it may get an image of docker.io/acme/web"),
        ({"image": "ghcr.io/acme/web:2"}, 403, "it may get an image of docker.io/acme/web"),
        ({"image": "docker.io.evil.example/acme/web:2"}, 403, "it may get an image of docker.io/acme/web"),
        ({"image": "docker.io:443/acme/web:2"}, 403, "it may get an image of docker.io/acme/web"),
        ({"cause": 1}, 400, "cause must be text"),
        ({"cause": "x" * 257}, 400, "at most 256"),
        ({"cause": "a\x00b"}, 400, "control character"),
        ({"dry_run": "yes"}, 400, "dry_run must be true or false"),
        ({"dry_run": 1}, 400, "dry_run must be true or false"),
    ],
)
def test_a_bad_field_gets_a_clear_error_and_changes_nothing(service, cluster, fields, status, words):
    for path in ("/deployment", "/deployment/web"):
        answer = service.post(path, {"pw": PASSWORD, **fields}, Accept="application/json")
        assert answer.status == status
        assert words in answer.json()["error"]
        assert answer.json()["reason"] == {400: "BadRequest", 403: "ImageNotAllowed"}[status]
    assert cluster.get("web") is None
