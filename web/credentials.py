"""Read the credentials of a request: passwords and tokens, from its body and its Authorization header."""

from base64 import b64decode
from contextlib import suppress

from flask import Request

from errors import BadRequest


def read_passwords(request: Request, fields: dict | None = None) -> list[bytes]:
    """Return the passwords of a request: those in the field `pw` of its body and in its Authorization header.

    Raises BadRequest when `pw` isn't text.
    """
    passwords = []
    if fields and "pw" in fields:
        if not isinstance(fields["pw"], str):
            raise BadRequest("pw must be text")
        passwords.append(fields["pw"].encode("utf-8", "surrogatepass"))
    scheme, given = _authorization(request)
    password = given if scheme == "bearer" else b""
    if scheme == "basic":
        # https://www.rfc-editor.org/rfc/rfc7617: user, colon, password. A header that isn't base64 has no password.
        with suppress(ValueError):
            password = b64decode(given, validate=True).partition(b":")[2]
    return [*passwords, password] if password else passwords


def read_token(request: Request) -> bytes:
    """Return what the Authorization header holds as a bearer token, or nothing."""
    scheme, given = _authorization(request)
    return given if scheme == "bearer" else b""


def _authorization(request: Request) -> tuple[str, bytes]:
    """Return the scheme of the Authorization header, in lower case, and what follows it."""
    # Not read by Werkzeug, which takes a token that contains = for parameters.
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    # WSGI decodes the bytes of a header as latin-1: https://peps.python.org/pep-3333/#unicode-issues
    return scheme.lower(), given.strip().encode("latin-1", "replace")
