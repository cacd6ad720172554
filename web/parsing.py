"""Read a request: its body, its credentials and its query. Every sender's form of a signal becomes one Signal."""

import json
import re
from base64 import b64decode
from contextlib import suppress

from flask import Request

from deployment_spec import Signal
from errors import BadRequest, LengthRequired, TooLarge

MAX_BODY_BYTES = 64 * 1024
MAX_CAUSE_CHARACTERS = 256
# Load balancers end a request after 30 s.
MAX_WAIT_SECONDS = 25
# What AcrylicShrimp/webhook-action 1.0.4 sends: its input pasted, unescaped, between `{ "data": "` and `" }`.
# https://github.com/AcrylicShrimp/webhook-action/blob/master/entrypoint.sh
_PASTED = re.compile(r'[ \t\r\n]*\{[ \t\r\n]*"data"[ \t\r\n]*:[ \t\r\n]*"(.*)"[ \t\r\n]*\}[ \t\r\n]*', re.DOTALL)
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")


def read_signal(fields: dict) -> Signal:
    """Make a Signal of the fields of a deploy, and ignore fields that senders add for themselves.

    Raises BadRequest, which names the wrong field.
    """
    return Signal(
        image=_text(fields, "image"),
        cause=_cause(fields),
        dry_run=_flag(fields, "dry_run") or False,
        wait=wait_seconds(fields.get("wait", False)),
        rollback_on_failure=_flag(fields, "rollback_on_failure"),
    )


def read_rollback(fields: dict) -> Signal:
    """Make a Signal of the fields of a rollback. Raises BadRequest, which names the wrong field."""
    revision = fields.get("revision")
    if "revision" in fields and (not isinstance(revision, int) or isinstance(revision, bool) or revision < 1):
        raise BadRequest("revision must be a whole number, 1 or more")
    return Signal(cause=_cause(fields), wait=wait_seconds(fields.get("wait", False)), revision=revision)


def read_fields(request: Request) -> dict:
    """Read the fields from the body of a POST, in any of the four forms that senders use.

    The Content-Type doesn't matter, so that `curl -d` works. Raises LengthRequired, TooLarge or BadRequest.
    """
    length = request.content_length
    if length is None:
        raise LengthRequired("the request has no Content-Length; send the body in one piece (curl -d does)")
    if length > MAX_BODY_BYTES:
        raise TooLarge(f"the body has {length} bytes; at most {MAX_BODY_BYTES} are read")
    return _without_envelope(_decoded(request.get_data(cache=False)))


def wait_seconds(value: object) -> float:
    """Return how many seconds to wait: `true` means the maximum, and a larger number too. Raises BadRequest."""
    if isinstance(value, bool):
        return MAX_WAIT_SECONDS if value else 0
    if not isinstance(value, int | float) or not value >= 0:
        raise BadRequest("wait must be true, false, or a number of seconds")
    return min(value, MAX_WAIT_SECONDS)


def read_wait_argument(request: Request) -> float:
    """Read `?wait=` from the URL: a number of seconds, or true. Raises BadRequest."""
    text = request.args.get("wait", "false").lower()
    if text in ("true", "false"):
        return wait_seconds(text == "true")
    # A number as JSON writes it; float() alone would also accept infinities and underscores.
    return wait_seconds(float(text) if re.fullmatch(r"[0-9]+(\.[0-9]+)?", text) else None)


def read_passwords(request: Request, fields: dict | None = None) -> list[bytes]:
    """Return the passwords of a request: those in the field `pw` of its body and in its Authorization header.

    Raises BadRequest when `pw` isn't text.
    """
    passwords = []
    if (pw := _text(fields or {}, "pw")) is not None:
        passwords.append(pw.encode("utf-8", "surrogatepass"))
    if (token := read_bearer(request)) is not None:
        passwords.append(token)
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "basic":
        # https://www.rfc-editor.org/rfc/rfc7617: user, colon, password. A header that isn't base64 has no password.
        with suppress(ValueError):
            if password := b64decode(token.strip(), validate=True).partition(b":")[2]:
                passwords.append(password)
    return passwords


def read_bearer(request: Request) -> bytes | None:
    """Return the Bearer token of the Authorization header, or None when there is none."""
    # Not read by Werkzeug, which takes a token that contains = for parameters.
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        return None
    # WSGI decodes the bytes of a header as latin-1: https://peps.python.org/pep-3333/#unicode-issues
    return token.strip().encode("latin-1", "replace")


def _decoded(body: bytes) -> str:
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise BadRequest(f"the body is not UTF-8: byte {error.start} can't be read") from None
    if not text.strip():
        raise BadRequest('the body is empty; send JSON, such as {"pw": "…"}')
    if text.startswith("\ufeff"):
        raise BadRequest("the body begins with a byte order mark; send JSON without one")
    return text


def _without_envelope(text: str) -> dict:
    try:
        outer = _json(text, "the body")
    except json.JSONDecodeError as error:
        pasted = _PASTED.fullmatch(text)
        if not pasted:
            raise BadRequest(f"the body is not JSON: {error.msg}, line {error.lineno} column {error.colno}") from None
        outer = {"data": pasted[1]}
    if "data" not in outer:
        return outer
    inner = outer["data"]
    if isinstance(inner, str):
        try:
            inner = _json(inner, "data")
        except json.JSONDecodeError as error:
            raise BadRequest(f"data is not JSON: {error.msg}, line {error.lineno} column {error.colno}") from None
    elif not isinstance(inner, dict):
        raise BadRequest("data must be an object, or text that holds one")
    if "data" in inner:
        raise BadRequest("data holds another data; one envelope is enough")
    return inner


def _json(text: str, what: str) -> dict:
    # The caller handles JSONDecodeError, since the text may be something else than JSON.
    try:
        value = json.loads(text, object_pairs_hook=_without_duplicates, parse_constant=_refuse_constant)
    except json.JSONDecodeError:
        raise
    except RecursionError:
        raise BadRequest(f"{what} is nested too deep") from None
    except ValueError as error:
        raise BadRequest(f"{what} can't be used: {error}") from None
    if not isinstance(value, dict):
        raise BadRequest(f'{what} must be a JSON object, such as {{"pw": "…"}}')
    return value


def _without_duplicates(pairs: list[tuple[str, object]]) -> dict:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise ValueError("a key appears in it twice")
    return fields


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _text(fields: dict, name: str) -> str | None:
    value = fields.get(name)
    if name in fields and not isinstance(value, str):
        raise BadRequest(f"{name} must be text")
    return value


def _flag(fields: dict, name: str) -> bool | None:
    value = fields.get(name)
    if name in fields and not isinstance(value, bool):
        raise BadRequest(f"{name} must be true or false")
    return value


def printable(text: str) -> str:
    """Return a text on one line, without the characters that an annotation should not contain."""
    return " ".join(_UNPRINTABLE.sub("", text).split())


def _cause(fields: dict) -> str | None:
    cause = _text(fields, "cause")
    if cause is not None and len(cause) > MAX_CAUSE_CHARACTERS:
        raise BadRequest(f"cause has {len(cause)} characters; at most {MAX_CAUSE_CHARACTERS} are allowed")
    if cause is not None and _UNPRINTABLE.search(cause):
        raise BadRequest("cause has a control character or half a surrogate pair in it; send plain text")
    return (cause or "").strip() or None
