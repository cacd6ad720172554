"""Read a request: its body, its credentials and its query. Every sender's form of a signal becomes one Signal."""

import hashlib
import json
import re
from collections.abc import Set
from typing import Annotated, ClassVar

from flask import Request
from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, InstanceOf, PlainValidator, ValidationError

from deployment_spec import Signal
from errors import BadRequest, LengthRequired, TooLarge
from manifest.image_reference import ImageReference

MAX_BODY_BYTES = 64 * 1024
MAX_CAUSE_CHARACTERS = 256
MAX_LINK_CHARACTERS = 512
# Load balancers end a request after 30 s.
MAX_WAIT_SECONDS = 25
# The characters of https://www.rfc-editor.org/rfc/rfc3986#section-2, without a user's name before the host.
LINK = re.compile(r"https://[!$-.0-;=A-Z\[\]_a-z~]+([/?#][!#-;=?-Z\[\]_a-z~]*)?")
UNPRINTABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
# What AcrylicShrimp/webhook-action 1.0.4 sends: its input pasted, unescaped, between `{ "data": "` and `" }`.
# https://github.com/AcrylicShrimp/webhook-action/blob/master/entrypoint.sh
_PASTED = re.compile(r'[ \t\r\n]*\{[ \t\r\n]*"data"[ \t\r\n]*:[ \t\r\n]*"(.*)"[ \t\r\n]*\}[ \t\r\n]*', re.DOTALL)
_WHOLE = "a whole number, 1 or more"
# By the type of pydantic's error.
_MUST_BE = {"is_instance_of": "text", "bool_type": "true or false", "int_type": _WHOLE, "greater_than": _WHOLE}


def wait_seconds(value: object) -> float:
    """Return how many seconds to wait: `true` means the maximum, and a larger number too. Raises BadRequest."""
    if isinstance(value, bool):
        return MAX_WAIT_SECONDS if value else 0
    if not isinstance(value, int | float) or not value >= 0:
        raise BadRequest("wait must be true, false, or a number of seconds")
    return min(value, MAX_WAIT_SECONDS)


def _plain_text(cause: str) -> str | None:
    if len(cause) > MAX_CAUSE_CHARACTERS:
        raise BadRequest(f"cause has {len(cause)} characters; at most {MAX_CAUSE_CHARACTERS} are allowed")
    if UNPRINTABLE.search(cause):
        raise BadRequest("cause has a control character or half a surrogate pair in it; send plain text")
    return cause.strip() or None


def _https_url(link: str) -> str:
    if len(link) > MAX_LINK_CHARACTERS:
        raise BadRequest(f"link has {len(link)} characters; at most {MAX_LINK_CHARACTERS} are allowed")
    if not LINK.fullmatch(link):
        raise BadRequest("link must be a URL that begins with https://, such as that of the sender's run")
    return link


def _whole(number: object) -> object:
    return int(number) if isinstance(number, float) and number.is_integer() else number


def _image(text: str) -> str:
    try:
        ImageReference.parse(text)
    except ValueError as error:
        raise BadRequest(f"image: {error}") from None
    return text


class _Fields(BaseModel, strict=True):
    """The fields of every signal. One that is missing is None; a sender's null is refused."""

    # InstanceOf, since pydantic's own check of text refuses half a surrogate pair in its own words.
    cause: Annotated[InstanceOf[str], AfterValidator(_plain_text)] = None
    link: Annotated[InstanceOf[str], AfterValidator(_https_url)] = None
    dry_run: bool = False
    wait: Annotated[float, PlainValidator(wait_seconds)] = 0
    refused: ClassVar[Set[str]] = frozenset()


class DeployFields(_Fields):
    """The fields of a deploy."""

    image: Annotated[InstanceOf[str], AfterValidator(_image)] = None
    rollback_on_failure: bool = None


class RollbackFields(_Fields):
    """The fields of a rollback, which can't honour the other fields of a deploy."""

    refused: ClassVar[Set[str]] = DeployFields.model_fields.keys() - _Fields.model_fields.keys()
    # In JSON, 3.0 is the same number as 3.
    revision: Annotated[int, BeforeValidator(_whole), Field(gt=0)] = None


_OURS = {"pw", "data"} | DeployFields.model_fields.keys() | RollbackFields.model_fields.keys()
_BY_LETTERS = {name.replace("_", ""): name for name in _OURS}


def unknown_fields(fields: dict, model: type[BaseModel]) -> list[str]:
    """Return the fields that mean nothing here, sorted, since senders add their own.

    Raises BadRequest for one that is ours but for case, dashes and underscores: `dry-run` must not deploy for real.
    """
    unknown = sorted(fields.keys() - model.model_fields.keys() - model.refused - {"pw"})
    for name in unknown:
        if (right := _ours(name)) and right != name:
            raise BadRequest(f"{name}: write {right}")
    return unknown


def _ours(name: str) -> str | None:
    """Return which of our fields a name means, whatever its case, dashes and underscores."""
    return _BY_LETTERS.get(re.sub("[-_]", "", name.lower()))


def read_signal(fields: dict, model: type[BaseModel] = DeployFields) -> Signal:
    """Make a Signal of the fields of a body. Raises BadRequest, which names the wrong field."""
    for name in sorted(fields.keys() & model.refused):
        raise BadRequest(f"a rollback takes no {name}")
    try:
        return Signal(**dict(model.model_validate(fields)))
    except ValidationError as error:
        [wrong, *_] = error.errors()
        raise BadRequest(f"{wrong['loc'][0]} must be {_MUST_BE[wrong['type']]}") from None


def read_fields(request: Request) -> dict:
    """Read the fields from the body of a POST, in any of the four forms that senders use.

    The Content-Type doesn't matter, so that `curl -d` works. Raises LengthRequired, TooLarge or BadRequest.
    """
    length = request.content_length
    if length is None:
        raise LengthRequired("the request has no Content-Length; send the body in one piece (curl -d does)")
    if length > MAX_BODY_BYTES:
        raise TooLarge(f"the body has {length} bytes; at most {MAX_BODY_BYTES} are read")
    try:
        body = request.get_data(cache=False).decode()
    except UnicodeDecodeError as error:
        raise BadRequest(f"the body is not UTF-8: byte {error.start} can't be read") from None
    if not body.strip():
        raise BadRequest('the body is empty; send JSON, such as {"pw": "…"}')
    if body.startswith("\ufeff"):
        raise BadRequest("the body begins with a byte order mark; send JSON without one")
    outer = _json_object(body, "the body")
    if "data" not in outer:
        return outer
    inner = outer["data"]
    if not isinstance(inner, str | dict):
        raise BadRequest("data must be an object, or text that holds one")
    inner = _json_object(inner, "data") if isinstance(inner, str) else inner
    if "data" in inner:
        raise BadRequest("data holds another data; one envelope is enough")
    beside = {name: value for name, value in outer.items() if name != "data"}
    for name in sorted(beside):
        if right := _ours(name):
            raise BadRequest(f"{name} stands beside data, where it is not read; write {right} inside data")
    return beside | inner


def read_key(request: Request) -> str | None:
    """Read the header Idempotency-Key. Raises BadRequest.

    https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/
    """
    key = request.headers.get("Idempotency-Key")
    if key is not None and not re.fullmatch(r"[ -~]{1,128}", key):
        raise BadRequest("Idempotency-Key must have 1 to 128 printable ASCII characters, such as a UUID")
    return key


def fingerprint(fields: dict, model: type[BaseModel]) -> str:
    """Return what tells this signal from another one under the same key: its kind, and the fields that mean something.

    They must be valid. The password is none of them: it may be rotated before a signal is sent again.
    """
    asked = [model.__name__, {name: _whole(fields[name]) for name in fields.keys() & model.model_fields.keys()}]
    return hashlib.blake2b(json.dumps(asked, sort_keys=True).encode(), digest_size=16).hexdigest()


def read_wait_argument(request: Request) -> float:
    """Read `?wait=` from the URL: a number of seconds, or true. Raises BadRequest."""
    text = request.args.get("wait", "false").lower()
    # float() alone would also accept infinities and underscores.
    number = float(text) if re.fullmatch(r"[0-9]+(\.[0-9]+)?(e[-+]?[0-9]+)?", text) else None
    return wait_seconds({"true": True, "false": False}.get(text, number))


def read_id_argument(request: Request) -> str | None:
    """Read `?id=` from the URL. Raises BadRequest when it is empty, as a script's variable may be."""
    rollout_id = request.args.get("id")
    if rollout_id == "":
        raise BadRequest("id is empty; leave it out for the newest rollout")
    return rollout_id


def _json_object(text: str, what: str) -> dict:
    try:
        value = _DECODER.decode(text)
    except json.JSONDecodeError as error:
        place = f"{error.msg}, line {error.lineno} column {error.colno}"
        if what == "data":
            raise BadRequest(f"data is not JSON: {place}") from None
        if pasted := _PASTED.fullmatch(text):
            return {"data": pasted[1]}
        raise BadRequest(f"the body is not JSON: {place}") from None
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


# Made once: json.loads would make one for each body.
_DECODER = json.JSONDecoder(object_pairs_hook=_without_duplicates, parse_constant=_refuse_constant)
