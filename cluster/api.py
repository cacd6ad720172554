"""Every call to the Kubernetes API, and its errors in our words."""

import json
import logging
import random
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import urllib3
from kubernetes import client, config
from kubernetes.client import ApiException, V1Deployment
from kubernetes.client.rest import RESTResponse

from errors import Conflict, Forbidden, Invalid, NotFound, Refusal, TooSlow, Unreachable

log = logging.getLogger(__name__)

FIELD_MANAGER = "auto-deployer"
# Seconds to connect and to read. A signal makes two calls, and fails with the first.
TIMEOUT = (2, 10)
# A watch is opened anew after so many seconds; the API server shows a sign of life at least once a minute (a bookmark).
# https://kubernetes.io/docs/reference/using-api/api-concepts/#watch-bookmarks
WATCH_SECONDS = 900
SILENCE_SECONDS = 75
# Objects in a page of a list.
PAGE = 500
# One for each request at work in a busy moment; more are opened when needed, and closed after use.
CONNECTIONS = 16
# The API server itself gives up after five conflicts; a burst of signals to one Deployment makes more.
MAX_ATTEMPTS = 12

_CONTENT_TYPES = {
    "POST": {"Content-Type": "application/json"},
    "PATCH": {"Content-Type": "application/strategic-merge-patch+json"},
}
_RBAC = re.compile(r'User ".*" cannot \w+ resource ".*')
_STRICT = "strict decoding error: "


class Expired(Unreachable):
    """The API server no longer knows the resourceVersion that was asked for: list again."""


class Stream:
    """Yield the events of a watch, one JSON object each, until the server ends it or `close` is called."""

    def __init__(self, response: urllib3.HTTPResponse) -> None:
        self._response = response
        self._read_by_somebody = False

    def __iter__(self) -> Iterator[dict]:
        rest, self._read_by_somebody = b"", True
        try:
            for chunk in self._response.stream(65536):
                *lines, rest = (rest + chunk).split(b"\n")
                yield from (json.loads(line) for line in lines if line.strip())
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            raise Unreachable(f"a watch broke: {_why(error)}") from error
        finally:
            self._response.close()

    def close(self) -> None:
        """End the stream, from whatever thread."""
        with suppress(OSError, ValueError, RuntimeError):
            self._response.shutdown()
        if not self._read_by_somebody:
            self._response.close()


class Cluster:
    """Talk to the API server; connects when first used, so that a cluster that is away stops nobody from starting."""

    def __init__(self, kubeconfig: str | None) -> None:
        self._kubeconfig = kubeconfig
        self._connected: client.ApiClient | None = None
        self._lock = threading.Lock()

    def apply(
        self, namespace: str, name: str, build: Callable[[dict | None], V1Deployment | dict], dry_run: bool = False
    ) -> dict:
        """Read the Deployment, then create or patch it with what `build` makes of it; return the API server's answer.

        `build` gets the live Deployment, or None. Raises Conflict when it is paused: the patch would lie in wait and
        roll out at `kubectl rollout resume`. Raises what `build` raises, and a Refusal for each error of the API.
        """
        options = {"fieldManager": FIELD_MANAGER, "fieldValidation": "Strict"} | ({"dryRun": "All"} if dry_run else {})
        for attempt in range(MAX_ATTEMPTS):
            live = self.read_deployment(namespace, name)
            if live and live["spec"].get("paused"):
                raise Conflict(
                    f"deployment {name} in {namespace} is paused, nothing was changed; "
                    f"resume it with: kubectl rollout resume deployment/{name} -n {namespace}",
                    reason="Paused",
                )
            body = build(live)
            try:
                if live is None:
                    return self._call("POST", _path("deployments", namespace), options, body)
                return self._call("PATCH", _path("deployments", namespace, name), options, body)
            except (Conflict, NotFound) as error:
                # Created, deleted or changed by somebody else in between: see what is there now.
                log.info("%s; trying again", error, extra={"deployment": name, "namespace": namespace})
                time.sleep(random.uniform(0, 0.02 * 2 ** min(attempt, 5)))  # noqa: S311
        raise Unreachable(
            f"deployment {name} in {namespace} is being changed all the time; try again", reason="Conflict"
        )

    def read_deployment(self, namespace: str, name: str) -> dict | None:
        """Return the live Deployment, or None when there is none."""
        try:
            return self._call("GET", _path("deployments", namespace, name))
        except NotFound:
            return None

    def list_all(
        self, kind: str, namespace: str, labels: dict[str, str] | None = None, name: str | None = None
    ) -> dict:
        """Return the list of the objects of a kind in a namespace, with the resourceVersion to watch from."""
        selector = ",".join(f"{key}={value}" for key, value in (labels or {}).items())
        query = ({"labelSelector": selector} if selector else {}) | _only(name)
        return self._call("GET", _path(kind, namespace), query)

    def pages(self, kind: str, namespace: str, name: str | None = None) -> Iterator[dict]:
        """Yield the list of a kind page by page: a namespace may hold thousands. Raises Expired in between."""
        query = {"limit": str(PAGE)} | _only(name)
        while True:
            page = self._call("GET", _path(kind, namespace), query)
            yield page
            if not (after := page["metadata"].get("continue")):
                return
            query["continue"] = after

    def watch(self, kind: str, namespace: str, resource_version: str, name: str | None = None) -> "Stream":
        """Open a stream of what changes from a resourceVersion on. Raises Expired when the server knows it no more."""
        query = _only(name) | {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": resource_version,
            "timeoutSeconds": str(WATCH_SECONDS),
        }
        answer = self._send("GET", _path(kind, namespace), query, None, (TIMEOUT[0], SILENCE_SECONDS))
        return Stream(answer.response)

    def warnings(self, namespace: str, pod: str) -> list[dict]:
        """Return the warning events about a pod."""
        query = {"fieldSelector": f"type=Warning,involvedObject.kind=Pod,involvedObject.name={pod}", "limit": "50"}
        return self._call("GET", _path("events", namespace), query)["items"]

    def create_event(self, namespace: str, event: dict) -> None:
        """Create an Event."""
        self._call("POST", _path("events", namespace), {"fieldManager": FIELD_MANAGER}, event)

    def read_log(self, namespace: str, pod: str, container: str, previous: bool, lines: int) -> list[str]:
        """Return the last lines of a container's log, of the instance before the present one if `previous`."""
        query = {
            "container": container,
            "tailLines": str(lines),
            # It counts from the first of these lines on: narrow, it would cut off the last ones.
            "limitBytes": str(1 << 20),
            "previous": str(previous).lower(),
        }
        answer = self._send("GET", _path("pods", namespace, pod) + "/log", query, None, TIMEOUT, accept="*/*")
        return answer.read().decode(errors="replace").splitlines()

    def read_config_map(self, namespace: str, name: str) -> dict | None:
        """Return a ConfigMap, or None when there is none."""
        try:
            return self._call("GET", _path("configmaps", namespace, name))
        except NotFound:
            return None

    def create_config_map(self, namespace: str, body: dict) -> dict:
        """Create a ConfigMap. Raises Conflict when there is one."""
        return self._call("POST", _path("configmaps", namespace), {"fieldManager": FIELD_MANAGER}, body)

    def patch_config_map(self, namespace: str, name: str, body: dict) -> dict:
        """Change a ConfigMap. Raises Conflict when its resourceVersion isn't the body's, NotFound when it is gone."""
        return self._call("PATCH", _path("configmaps", namespace, name), {"fieldManager": FIELD_MANAGER}, body)

    def _call(self, method: str, path: str, query: dict | None = None, body: object = None) -> dict:
        """Make a call and return the JSON of its answer, as the API server wrote it."""
        answer = self._send(method, path, query, body, TIMEOUT)
        try:
            return json.loads(answer.data)
        except ValueError as error:
            raise _unreachable(self._connection(), "what answers there is no API server") from error

    def _send(
        self,
        method: str,
        path: str,
        query: dict | None,
        body: object,
        timeout: tuple[float, float],
        accept: str = "application/json",
    ) -> RESTResponse:
        """Make a call and return its answer, read to the end unless it is a watch.

        A connection that broke is tried once more: everything sent from here means the same when it arrives twice.
        So are credentials that are refused, read anew: the token of a service account is rotated.
        """
        for last in (False, True):
            connected = self._connection()
            try:
                # Not through AppsV1Api: importing the API classes takes some 20 MiB, and each call of one longer.
                request = connected.param_serialize(
                    method,
                    path,
                    query_params=list((query or {}).items()),
                    header_params={"Accept": accept} | _CONTENT_TYPES.get(method, {}),
                    body=body,
                    auth_settings=["BearerToken"],
                )
                answer = connected.call_api(*request, _request_timeout=timeout)
                if 200 <= answer.status < 300 and "watch" in (query or {}):
                    return answer
                # Read to its end, an answer gives its connection back; left unread, it takes the TLS session with it.
                answer.read()
                if not 200 <= answer.status < 300:
                    raise ApiException.from_response(http_resp=answer, body=answer.data.decode(), data=None)
                return answer
            except ApiException as error:
                if error.status == 401 and not last:
                    self._forget(connected)
                    continue
                raise refusal(error) from error
            except urllib3.exceptions.NewConnectionError as error:  # Before the time-out, of which it is a kind.
                raise _unreachable(connected, _why(error)) from error
            except urllib3.exceptions.ConnectTimeoutError as error:
                raise _unreachable(connected, "it doesn't answer") from error
            except urllib3.exceptions.ReadTimeoutError as error:
                raise TooSlow(f"the API server took longer than {TIMEOUT[1]} s; try again") from error
            except urllib3.exceptions.ProtocolError:
                continue
            except (urllib3.exceptions.HTTPError, OSError) as error:
                raise _unreachable(connected, _why(error)) from error
        raise _unreachable(self._connection(), "it ends each connection")

    def _connection(self) -> client.ApiClient:
        with self._lock:
            if self._connected is None:
                self._connected = _connect(self._kubeconfig)
            return self._connected

    def _forget(self, refused: client.ApiClient) -> None:
        with self._lock:
            if self._connected is refused:
                self._connected = None


def _path(kind: str, namespace: str, name: str = "") -> str:
    group = "/apis/apps/v1" if kind in ("deployments", "replicasets") else "/api/v1"
    return f"{group}/namespaces/{namespace}/{kind}" + (f"/{name}" if name else "")


def _only(name: str | None) -> dict[str, str]:
    return {"fieldSelector": f"metadata.name={name}"} if name else {}


def refusal(error: ApiException) -> Refusal:
    """Say an error of the API in our words: the sentence that matters, without the values that it may quote."""
    try:
        message = str(json.loads(error.body)["message"])
    except (KeyError, TypeError, ValueError):
        message = str(error.reason or "no reason given").strip().splitlines()[-1]
    match error.status:
        case 0:  # The client's own way to say that TLS failed.
            return Unreachable(f"no secure connection to the API server: {message.splitlines()[-1]}")
        case 401:
            return Forbidden(
                "the API server doesn't accept this service's credentials; is its ServiceAccount still there?",
                reason="Unauthorized",
            )
        # Missing rights, a full quota and a policy's refusal all are 403; only the first is in RBAC's words.
        case 403 if missing := _RBAC.search(message):
            return Forbidden(
                f"{missing[0]}. This service's own account lacks that right, or the namespace doesn't exist: "
                "see k8s/role.yaml and k8s/rolebinding.yaml"
            )
        case 403 if "exceeded quota" in message:
            return Invalid(message, reason="QuotaExceeded")
        case 403:
            return Invalid(message, reason="AdmissionDenied")
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
        # A patch with an unknown field is a 422, a create with one a 400, and a server-side apply with one a 500.
        case 400 | 413 | 415 | 422:
            return Invalid(_sentence(message))
        case status if status >= 500 and ("typed patch object" in message or "denied the request" in message):
            return Invalid(_sentence(message))
        case status if "denied the request" in message:
            return Invalid(message, reason="AdmissionDenied")
        case status:
            return Unreachable(f"the API server answers {status}: {_sentence(message)}")


def _sentence(message: str) -> str:
    # Refusals of a patch quote all of it first, values of environment variables included.
    if _STRICT in message:
        return message.split(_STRICT, 1)[1]
    if 'Invalid value: "map[' in message or 'Invalid value: "{' in message:
        return message.rsplit('": ', 1)[-1]
    return re.sub(r"^(?:Deployment\.apps \"[^\"]*\" is invalid: |.* cannot be handled as a Deployment: )", "", message)


def _connect(kubeconfig: str | None) -> client.ApiClient:
    settings = client.Configuration()
    try:
        try:
            config.load_incluster_config(settings)
        except config.ConfigException:
            if not kubeconfig:
                raise
            config.load_kube_config(kubeconfig, client_configuration=settings)
    except Exception as error:  # Kubeconfigs run programs and hold whatever people write: anything can be wrong.
        raise Unreachable(
            f"no way to a cluster: {error} Outside a cluster, KUBECONFIG must name a file that kubectl can use"
        ) from error
    settings.retries = False
    settings.connection_pool_maxsize = CONNECTIONS
    return client.ApiClient(settings)


def _unreachable(connected: client.ApiClient, why: str) -> Unreachable:
    return Unreachable(f"the API server at {connected.configuration.host} can't be reached: {why}; try again")


def _why(error: Exception) -> str:
    if isinstance(error, urllib3.exceptions.NewConnectionError):
        return str(error).rsplit(": ", 1)[-1]
    return type(error).__name__
