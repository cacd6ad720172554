"""Translate the Kubernetes API's errors into refusals: our words, without the values that the API may quote."""

import json
import re

import urllib3
from kubernetes.client import ApiException

from errors import Conflict, Forbidden, Invalid, NotFound, Refusal, TooSlow, Unreachable

# The API server says a missing right in these words. Other 403s have others: a full quota, the refusal of a policy.
_MISSING_RIGHT = re.compile(r'User ".*" cannot \w+ resource ".*')
_STRICT_DECODING = "strict decoding error: "
_DENIED_BY_WEBHOOK = "denied the request"
_BAD_APPLY = "typed patch object"
# An unknown field is a 422 in a patch, a 400 in a create, and a 500 in a server-side apply.
_BAD_OBJECT = (400, 413, 415, 422)


class Expired(Unreachable):
    """The API server no longer knows the resourceVersion that was asked for; the caller has to list again."""


def refusal(error: ApiException) -> Refusal:
    """Translate an error that the API server answered."""
    message = _message(error)
    match error.status:
        case 0:  # With this status the client reports that TLS failed.
            return Unreachable(f"no secure connection to the API server: {message.splitlines()[-1]}")
        case 401:
            return Forbidden(
                "the API server doesn't accept this service's credentials; is its ServiceAccount still there?",
                reason="Unauthorized",
            )
        case 403:
            return _forbidden(message)
        case 404 if message.startswith("namespaces "):
            return Invalid(
                f"{message}; create the namespace, or correct metadata.namespace", reason="NamespaceNotFound"
            )
        case 404:
            return NotFound(message)
        case 409:
            return Conflict(message)
        case 410:
            return Expired(message)
        case 429:
            return Unreachable(f"the API server is busy: {message}")
        case 504:
            return TooSlow(f"the API server ran out of time: {message}")
        case status if status in _BAD_OBJECT:
            return Invalid(_without_values(message))
        case status if status >= 500 and (_BAD_APPLY in message or _DENIED_BY_WEBHOOK in message):
            return Invalid(_without_values(message))
        case status if _DENIED_BY_WEBHOOK in message:
            return Invalid(message, reason="AdmissionDenied")
        case status:
            return Unreachable(f"the API server answers {status}: {_without_values(message)}")


def connection_refusal(error: Exception, host: str, timeout_seconds: float) -> Refusal:
    """Translate an error of the connection to the API server at `host`."""
    match error:
        # It is a kind of ConnectTimeoutError, so it has to come first.
        case urllib3.exceptions.NewConnectionError():
            return unreachable(host, why_broken(error))
        case urllib3.exceptions.ConnectTimeoutError():
            return unreachable(host, "it doesn't answer")
        case urllib3.exceptions.ReadTimeoutError():
            return TooSlow(f"the API server took longer than {timeout_seconds} s; try again")
        case _:
            return unreachable(host, why_broken(error))


def unreachable(host: str, why: str) -> Unreachable:
    """Say that the API server at `host` can't be reached, and why."""
    return Unreachable(f"the API server at {host} can't be reached: {why}; try again")


def why_broken(error: Exception) -> str:
    """Say in a few words why a connection broke."""
    if isinstance(error, urllib3.exceptions.NewConnectionError):
        return str(error).rsplit(": ", 1)[-1]
    return type(error).__name__


def _message(error: ApiException) -> str:
    try:
        return str(json.loads(error.body)["message"])
    except (KeyError, TypeError, ValueError):
        # What answered is not the API server, but for example a proxy in between.
        return str(error.reason or "no reason given").strip().splitlines()[-1]


def _forbidden(message: str) -> Refusal:
    if missing := _MISSING_RIGHT.search(message):
        return Forbidden(
            f"{missing[0]}. This service's own account lacks that right, or the namespace doesn't exist: "
            "see k8s/role.yaml and k8s/rolebinding.yaml"
        )
    if "exceeded quota" in message:
        return Invalid(message, reason="QuotaExceeded")
    return Invalid(message, reason="AdmissionDenied")


def _without_values(message: str) -> str:
    # The refusal of a patch quotes the whole patch first, the values of environment variables included.
    if _STRICT_DECODING in message:
        return message.split(_STRICT_DECODING, 1)[1]
    if 'Invalid value: "map[' in message or 'Invalid value: "{' in message:
        return message.rsplit('": ', 1)[-1]
    return re.sub(r"^(?:Deployment\.apps \"[^\"]*\" is invalid: |.* cannot be handled as a Deployment: )", "", message)
