"""The API server's refusals: a Status object, in the words that were recorded on a real API server."""

import json
import re
from http import HTTPStatus
from pathlib import Path

RECORDED = json.loads((Path(__file__).parents[1] / "recordings" / "errors.json").read_text())
REASONS = {410: "Expired", 422: "Invalid", 504: "Timeout"}  # where it isn't HTTP's own phrase
CONFLICT = "the object has been modified; please apply your changes to the latest version and try again"


class ApiError(Exception):
    """An answer other than success."""

    def __init__(self, code: int, message: str, reason: str = "", details: dict | None = None):
        super().__init__(message)
        self.code = code
        reason = reason or REASONS.get(code) or HTTPStatus(code).phrase.replace(" ", "")
        self.status = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message}
        self.status |= {"reason": reason} | ({"details": details} if details else {}) | {"code": code}


def replay(name: str, changes: dict[str, str]) -> ApiError:
    """Return a recorded refusal with other names in it; details that become empty are left out."""
    # The longest first: "deployments.apps" before "deployments".
    pattern = re.compile("|".join(re.escape(old) for old in sorted(changes, key=len, reverse=True)))
    body = RECORDED[name]["body"]
    texts = {"message": body["message"]} | body["details"]
    details = {key: pattern.sub(lambda match: changes[match[0]], text) for key, text in texts.items()}
    message = details.pop("message")
    return ApiError(body["code"], message, body["reason"], {key: value for key, value in details.items() if value})


def named(resource: str, group: str) -> dict[str, str]:
    """Return the changes that turn a recorded refusal about a Deployment into one about another kind."""
    title = f"{resource}.{group}" if group else resource
    return {"deployments.apps": title, "deployments": resource, "apps": group}


def not_found(resource: str, group: str, name: str) -> ApiError:
    """Return the 404 for an object."""
    return replay("read-not-found", named(resource, group) | {"nothing": name})


def already_exists(resource: str, group: str, name: str) -> ApiError:
    """Return the 409 for an object whose name is taken."""
    return replay("create-already-exists", named(resource, group) | {"complete": name})


def conflict(resource: str, group: str, name: str) -> ApiError:
    """Return the 409 for a change to an older version."""
    title = named(resource, group)["deployments.apps"]
    return ApiError(409, f'Operation cannot be fulfilled on {title} "{name}": {CONFLICT}')


def recorded_cause(name: str) -> dict[str, str]:
    """Return the first cause that a recorded refusal lists: reason, message, field."""
    return RECORDED[name]["body"]["details"]["causes"][0]


def invalid(title: str, name: str, causes: list[dict[str, str]]) -> ApiError:
    """Return the 422 that lists what validation found."""
    found = [f"{cause['field']}: {cause['message']}" for cause in causes]
    text = found[0] if len(found) == 1 else "[" + ", ".join(found) + "]"
    return ApiError(422, f'{title} "{name}" is invalid: {text}', details={"name": name, "causes": causes})
