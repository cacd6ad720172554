"""Translate the Kubernetes API's errors into refusals: our words, without the values that the API may quote."""

import json
import re

from kubernetes.client import ApiException
from kubernetes.client.rest import RESTResponse
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError, ReadTimeoutError

from errors import Conflict, Forbidden, Invalid, NotFound, Refusal, TooSlow, Unreachable


class Expired(Unreachable):
    """The API server no longer knows this resourceVersion, or the rest of this list; the caller has to list again."""


_BAD_CREDENTIALS = "the API server doesn't accept this service's credentials; is its ServiceAccount still there?"
# The API server says a missing right in these words. Other 403s have others: a full quota, the refusal of a policy.
_MISSING_RIGHT = r'User ".*" cannot \w+ resource ".*'
_HOW_TO_GRANT = (
    "{found}. This service's own account lacks that right, or the namespace doesn't exist: "
    "see k8s/role.yaml and k8s/rolebinding.yaml"
)
_NO_NAMESPACE = "{message}; create the namespace, or correct metadata.namespace"
# What an error becomes: the first row with its status and with a pattern that its message contains.
_TABLE = (
    ([401], "", Forbidden(_BAD_CREDENTIALS, reason="Unauthorized")),
    ([403], _MISSING_RIGHT, Forbidden(_HOW_TO_GRANT)),
    ([403], "exceeded quota", Invalid("{message}", reason="QuotaExceeded")),
    ([403], "", Invalid("{message}", reason="AdmissionDenied")),
    ([404], "^namespaces ", Invalid(_NO_NAMESPACE, reason="NamespaceNotFound")),
    ([404], "", NotFound("{message}")),
    ([409], "", Conflict("{message}")),
    ([410], "", Expired("{message}")),
    ([429], "", Unreachable("the API server is busy: {message}")),
    ([504], "", TooSlow("the API server ran out of time: {message}")),
    # An unknown field is a 422 in a patch, a 400 in a create, and a 500 in a server-side apply.
    ([400, 413, 415, 422], "", Invalid("{message}")),
    (range(500, 600), "typed patch object|denied the request", Invalid("{message}")),
    (range(1000), "denied the request", Invalid("{message}", reason="AdmissionDenied")),
)
_STRICT_DECODING = "strict decoding error: "


def refusal(answer: RESTResponse) -> Refusal:
    """Translate an error that the API server answered."""
    message = _message(answer)
    for statuses, pattern, error in _TABLE:
        if answer.status in statuses and (found := re.search(pattern, message)):
            sentence = str(error).format(message=_without_values(message), found=found[0])
            return type(error)(sentence, error.reason)
    return Unreachable(f"the API server answers {answer.status}: {_without_values(message)}")


def connection_refusal(error: Exception, host: str, timeout_seconds: float) -> Refusal:
    """Translate an error of the connection to the API server at `host`."""
    if isinstance(error, ApiException):  # The client reports in this way that TLS failed.
        return Unreachable(f"no secure connection to the API server: {error.reason.strip().splitlines()[-1]}")
    if isinstance(error, ReadTimeoutError):
        return TooSlow(f"the API server took longer than {timeout_seconds} s; try again")
    return unreachable(host, why_broken(error))


def unreachable(host: str, why: str) -> Unreachable:
    """Say that the API server at `host` can't be reached, and why."""
    return Unreachable(f"the API server at {host} can't be reached: {why}; try again")


def why_broken(error: Exception) -> str:
    """Say in a few words why a connection broke."""
    # It is a kind of ConnectTimeoutError, so it has to come first.
    if isinstance(error, NewConnectionError):
        return str(error).rsplit(": ", 1)[-1]
    return "it doesn't answer" if isinstance(error, ConnectTimeoutError) else type(error).__name__


def _message(answer: RESTResponse) -> str:
    try:
        return str(json.loads(answer.data)["message"])
    except (KeyError, TypeError, ValueError):
        # What answered is not the API server, but for example a proxy in between.
        return answer.reason or "no reason given"


def _without_values(message: str) -> str:
    # The refusal of a patch quotes the whole patch first, the values of environment variables included.
    if _STRICT_DECODING in message:
        return message.split(_STRICT_DECODING, 1)[1]
    if 'Invalid value: "map[' in message or 'Invalid value: "{' in message:
        return message.rsplit('": ', 1)[-1]
    return re.sub(r"^(?:Deployment\.apps \"[^\"]*\" is invalid: |.* cannot be handled as a Deployment: )", "", message)
