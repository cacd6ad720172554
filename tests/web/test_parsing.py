"""Parsing: every sender's form of a body becomes the same signal, and everything else a clear 400."""

import json

import pytest
from flask import Request
from werkzeug.test import EnvironBuilder

from deployment_spec import Signal
from errors import BadRequest, LengthRequired, Refusal, TooLarge
from web.credentials import read_passwords
from web.parsing import (
    MAX_BODY_BYTES,
    DeployFields,
    RollbackFields,
    fingerprint,
    read_fields,
    read_id_argument,
    read_key,
    read_signal,
    read_wait_argument,
)

FIELDS = {"pw": "s3cret", "image": "acme/web:1"}
TEXT = json.dumps(FIELDS)


def request(body=b"", **headers):
    body = body.encode() if isinstance(body, str) else body
    environ = EnvironBuilder(method="POST", data=body, headers=headers).get_environ()
    return Request(environ | {"CONTENT_LENGTH": str(len(body))})


@pytest.mark.parametrize(
    "body",
    [
        TEXT,
        json.dumps({"data": FIELDS}),
        json.dumps({"data": TEXT}),
        f'{{ "data": "{TEXT}" }}',
        '{{"data":"{}"}}'.format(TEXT.replace(" ", "")),
        f'\r\n\t {{ "data" :\n"{TEXT}"\t}}\n',
        '{{ "data": "{}" }}'.format(TEXT.replace('"', '\\"')),
        f"  {TEXT}\n",
    ],
    ids=["plain", "object", "text", "pasted", "pasted-tight", "pasted-wide", "pasted-escaped", "white-space"],
)
@pytest.mark.parametrize(
    "kind", ["application/json", "application/x-www-form-urlencoded", "text/plain", "", "nonsense"]
)
def test_all_forms_are_the_same_signal(body, kind):
    assert read_fields(request(body, Content_Type=kind)) == FIELDS


def test_a_pasted_body_may_contain_escapes():
    fields = {"pw": 'with "quotes" and \\', "cause": "ü} } "}
    assert read_fields(request(f'{{ "data": "{json.dumps(fields)}" }}')) == fields


def test_other_fields_are_ignored():
    fields = {"pw": "x", "repository": {"name": "web"}, "push_data": [1, None]}
    assert read_signal(fields) == Signal()


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "the body is empty"),
        (b" \r\n\t", "the body is empty"),
        (b"pw=s3cret", "the body is not JSON"),
        (b'{"pw": "x"', "the body is not JSON"),
        (b"{'pw': 'x'}", "the body is not JSON"),
        (b'{"pw": "x"} {"pw": "x"}', "the body is not JSON"),
        (b"{}{}", "the body is not JSON"),
        (b'{"pw": "a\nb"}', "the body is not JSON"),
        (b'{"pw": NaN}', "NaN is not JSON"),
        (b'{"pw": -Infinity}', "-Infinity is not JSON"),
        (b"[]", "must be a JSON object"),
        (b'[{"pw": "x"}]', "must be a JSON object"),
        (b"1", "must be a JSON object"),
        (b"null", "must be a JSON object"),
        (b'"pw"', "must be a JSON object"),
        (b"true", "must be a JSON object"),
        (b"9" * 5000, "the body can't be used"),
        (b"[" * 1_000 + b"]" * 1_000, "the body"),
        (b"[" * 1_000, "the body"),
        (b"[" * 30_000 + b"]" * 30_000, "nested too deep"),
        (b"[" * 50_000, "nested too deep"),
        (b'{"a":' * 10_000 + b"1" + b"}" * 10_000, "nested too deep"),
        (b'{"pw": "x", "pw": "y"}', "a key appears in it twice"),
        (b'{"pw": "x", "a": {"b": 1, "b": 2}}', "a key appears in it twice"),
        (b'{"data": {"pw": "x"}, "data": {"pw": "y"}}', "a key appears in it twice"),
        (b'{"data": 1}', "data must be an object"),
        (b'{"data": null}', "data must be an object"),
        (b'{"data": [{"pw": "x"}]}', "data must be an object"),
        (b'{"data": true}', "data must be an object"),
        (b'{"data": ""}', "data is not JSON"),
        (b'{"data": "{"}', "data is not JSON"),
        (b'{"data": "pw"}', "data is not JSON"),
        (b'{"data": "1"}', "data must be a JSON object"),
        (b'{"data": "[]"}', "data must be a JSON object"),
        (b'{"data": "null"}', "data must be a JSON object"),
        (b'{ "data": "{"pw":"x"" }', "data is not JSON"),
        (b'{ "data": "{"pw":"x","pw":"y"}" }', "a key appears in it twice"),
        (b'{"data": {"data": {"pw": "x"}}}', "one envelope is enough"),
        (b'{"data": "{\\"data\\": {\\"pw\\": \\"x\\"}}"}', "one envelope is enough"),
        (b'{ "data": "{ "data": "{"pw":"x"}" }" }', "data is not JSON"),
        (b'{ "data": "{"pw":"x"}", "more": 1 }', "the body is not JSON"),
        (b'{ "Data": "{"pw":"x"}" }', "the body is not JSON"),
        (b'{ "data": "' + b"[" * 50_000 + b'" }', "nested too deep"),
        (b'{"pw": "x\xff"}', "not UTF-8: byte 9"),
        (b"\xff\xfe{\x00}\x00", "not UTF-8: byte 0"),
        (b'\xef\xbb\xbf{"pw": "x"}', "byte order mark"),
        (b"\x00", "the body is not JSON"),
        (b'{"pw": "x"}\x00', "the body is not JSON"),
        (b'{"pw": "x\x00"}', "the body is not JSON"),
    ],
)
def test_bad_bodies(body, words):
    with pytest.raises(BadRequest) as refused:
        read_fields(request(body))
    assert words in str(refused.value)


def test_a_body_of_unknown_length_is_refused_without_reading_it():
    asked = Request(EnvironBuilder(method="POST", headers={"Transfer-Encoding": "chunked"}).get_environ())
    with pytest.raises(LengthRequired, match="no Content-Length"):
        read_fields(asked)


def test_a_body_may_have_64_kib_and_not_a_byte_more():
    body = b'{"pw": "x"}'.ljust(MAX_BODY_BYTES)
    assert read_fields(request(body)) == {"pw": "x"}
    with pytest.raises(TooLarge, match="at most 65536"):
        read_fields(request(body + b" "))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"image": None}, "image must be text"),
        ({"image": 1}, "image must be text"),
        ({"image": ["acme/web:1"]}, "image must be text"),
        ({"cause": 7}, "cause must be text"),
        ({"cause": None}, "cause must be text"),
        ({"cause": "x" * 257}, "cause has 257 characters; at most 256 are allowed"),
        ({"cause": "a\x00b"}, "cause has a control character"),
        ({"cause": "a\x1b[31mb"}, "cause has a control character"),
        ({"cause": "\ud800"}, "surrogate"),
        ({"dry_run": "true"}, "dry_run must be true or false"),
        ({"dry_run": 1}, "dry_run must be true or false"),
        ({"dry_run": None}, "dry_run must be true or false"),
    ],
)
def test_a_field_of_the_wrong_type_is_named(fields, words):
    with pytest.raises(BadRequest) as refused:
        read_signal(fields)
    assert words in str(refused.value)


def test_a_cause_may_have_256_characters_of_any_alphabet():
    assert read_signal({"cause": "ü" * 255 + "🚀"}).cause == "ü" * 255 + "🚀"
    assert read_signal({"cause": "  \n "}).cause is None
    assert read_signal({}) == Signal(image=None, cause=None, dry_run=False)


@pytest.mark.parametrize(
    ("image", "words"),
    [
        # An empty image is not a missing one.
        ("", "is no image"),
        ("acme/web", "has neither tag nor digest"),
        ("acme/web:", "is no image"),
        ("acme/web :2", "is no image"),
    ],
)
def test_what_is_no_image_is_refused(image, words):
    with pytest.raises(BadRequest) as refused:
        read_signal({"image": image})
    assert str(refused.value).startswith("image: ")
    assert words in str(refused.value)


@pytest.mark.parametrize(
    ("fields", "authorization", "passwords"),
    [
        ({"pw": "päss"}, "", ["päss".encode()]),
        ({"pw": ""}, "", [b""]),
        ({"pw": "half \ud800 a pair"}, "", [b"half \xed\xa0\x80 a pair"]),
        ({}, "", []),
        ({}, "Bearer s3cret", [b"s3cret"]),
        ({}, "bearer s3cret==", [b"s3cret=="]),
        ({}, "Bearer a=b=c", [b"a=b=c"]),
        ({}, "Bearer two words", [b"two words"]),
        ({}, "Bearer p\xc3\xa4ss", ["päss".encode()]),
        ({}, "Basic dXNlcjpzM2NyZXQ=", [b"s3cret"]),
        ({}, "Basic OnM6M2NyZXQ=", [b"s:3cret"]),
        ({}, "Basic cMOkc3M6cMOkc3M=", ["päss".encode()]),
        ({"pw": "one"}, "Bearer two", [b"one", b"two"]),
        ({}, "Bearer", []),
        ({}, "Bearer ", []),
        ({}, "Basic !!!", []),
        ({}, "Basic dXNlcg==", []),
        ({}, 'Digest username="x"', []),
        ({}, "nonsense", []),
    ],
)
def test_passwords_are_read_from_the_body_and_from_the_header(fields, authorization, passwords):
    assert read_passwords(request(b"{}", Authorization=authorization), fields) == passwords


@pytest.mark.parametrize("pw", [None, 1, 1.5, True, ["x"], {"x": 1}])
def test_a_password_that_is_not_text_is_refused(pw):
    with pytest.raises(BadRequest, match="pw must be text"):
        read_passwords(request(), {"pw": pw})


@pytest.mark.parametrize("text", ["10", "1e1", "1E1", "1.0e+1", "100e-1", "0.5", "0e5", "1e999", "true", "false"])
def test_wait_means_the_same_in_the_url_and_in_the_body(text):
    url = Request(EnvironBuilder(query_string={"wait": text}).get_environ())
    assert read_wait_argument(url) == read_signal(json.loads(f'{{"wait": {text}}}')).wait


def test_an_empty_id_is_refused():
    for query, rollout_id in (({}, None), ({"id": "x"}, "x")):
        assert read_id_argument(Request(EnvironBuilder(query_string=query).get_environ())) == rollout_id
    with pytest.raises(BadRequest, match=r"^id is empty; leave it out for the newest rollout$"):
        read_id_argument(Request(EnvironBuilder(query_string={"id": ""}).get_environ()))


@pytest.mark.parametrize(("text", "revision"), [("3", 3), ("3.0", 3), ("3e0", 3), ("0.3e1", 3)])
def test_a_whole_number_is_whole_however_it_is_written(text, revision):
    found = read_signal(json.loads(f'{{"revision": {text}}}'), RollbackFields).revision
    assert (found, type(found)) == (revision, int)


@pytest.mark.parametrize("text", ["3.5", "-3.0", "0.0", "1e999", '"3"', "true", "null"])
def test_what_is_no_whole_number_is_refused(text):
    with pytest.raises(BadRequest, match=r"^revision must be a whole number, 1 or more$"):
        read_signal(json.loads(f'{{"revision": {text}}}'), RollbackFields)


def test_no_refusal_repeats_what_was_sent():
    for body in (b'{"pw": "hunter2-hunter2"', b'{"data": "hunter2"}', b'{"pw": hunter2}', b"hunter2=hunter2"):
        with pytest.raises(Refusal) as refused:
            read_fields(request(body))
        assert "hunter2" not in str(refused.value)


# Where the sender's run can be seen


@pytest.mark.parametrize(
    "link",
    [
        "https://github.com/acme/web/actions/runs/15",
        "https://gitlab.example.com:8443/acme/web/-/jobs/7?a=b&c=%20#L1",
        "https://[::1]/x",
        "https://ci.example.com",
        "https://ci.example.com/" + "x" * 489,
    ],
)
@pytest.mark.parametrize("model", [DeployFields, RollbackFields])
def test_a_link_is_an_https_url(link, model):
    assert read_signal({"link": link}, model).link == link


@pytest.mark.parametrize(
    ("link", "words"),
    [
        ("", "begins with https://"),
        ("http://ci.example.com/7", "begins with https://"),
        ("javascript:alert(1)", "begins with https://"),
        ("HTTPS://ci.example.com", "begins with https://"),
        ("https://", "begins with https://"),
        ("https:///x", "begins with https://"),
        ("https://github.com@evil.example/", "begins with https://"),
        (" https://ci.example.com", "begins with https://"),
        ("https://ci.example.com/a b", "begins with https://"),
        ("https://ci.example.com/a\tb", "begins with https://"),
        ("https://ci.example.com/\n", "begins with https://"),
        ("https://ci.example.com/\x00", "begins with https://"),
        ("https://ci.example.com/\u202e", "begins with https://"),
        ('https://ci.example.com/"><script>', "begins with https://"),
        ("https://ci.example.com/" + "x" * 490, "link has 513 characters; at most 512 are allowed"),
        (None, "link must be text"),
        (7, "link must be text"),
        (["https://ci.example.com"], "link must be text"),
    ],
)
def test_what_is_no_link_is_refused(link, words):
    with pytest.raises(BadRequest, match=words):
        read_signal({"link": link})


# A signal that may be sent again


@pytest.mark.parametrize("key", ["x", "7f9c24e8-3b12-4fef-91e0-8a1f3a1d9c55", '"quoted, with: spaces" ~', "x" * 128])
def test_a_key_is_any_printable_text(key):
    assert read_key(request(Idempotency_Key=key)) == key


def test_a_signal_needs_no_key():
    assert read_key(request()) is None


@pytest.mark.parametrize("key", ["", "x" * 129, "a\tb", "a\x00b", "a\x7fb", "k\xe9y", "a\x0bb"])
def test_what_is_no_key_is_refused(key):
    asked = request()
    asked.environ["HTTP_IDEMPOTENCY_KEY"] = key
    with pytest.raises(BadRequest, match="1 to 128 printable ASCII characters"):
        read_key(asked)


def test_what_a_signal_asks_for_makes_its_fingerprint():
    same = [
        fingerprint(fields, DeployFields)
        for fields in (
            {"pw": "a", "image": "acme/web:1", "wait": 5},
            {"wait": 5, "image": "acme/web:1", "pw": "b"},
            {"image": "acme/web:1", "wait": 5, "sent_at": "later"},
        )
    ]
    assert len(set(same)) == 1
    others = [{}, {"image": "acme/web:1"}, {"image": "acme/web:2", "wait": 5}, {"image": "acme/web:1", "wait": True}]
    assert len({*same, *(fingerprint(fields, DeployFields) for fields in others)}) == 5
    assert fingerprint({}, DeployFields) != fingerprint({}, RollbackFields)
