"""Carry one call to the API server and its answer back, with the credentials of this service."""

import threading

import urllib3
from kubernetes import client, config
from kubernetes.client import ApiException
from kubernetes.client.rest import RESTResponse

from cluster.api_errors import connection_refusal, refusal, unreachable
from errors import Unreachable

# A signal makes two calls, and fails with the first one that takes longer.
CONNECT_TIMEOUT_SECONDS, READ_TIMEOUT_SECONDS = 2, 10
# So many connections stay open between calls. A busy moment may open more; each of those is closed after its call.
MAX_CONNECTIONS = 16

_CONTENT_TYPES = {
    "POST": {"Content-Type": "application/json"},
    "PATCH": {"Content-Type": "application/strategic-merge-patch+json"},
}


class Connection:
    """Send calls to one API server.

    It reads the kubeconfig at the first call, so that the service starts although there is no cluster yet.
    """

    def __init__(self, kubeconfig: str | None) -> None:
        self._kubeconfig = kubeconfig
        self._client: client.ApiClient | None = None
        self._lock = threading.Lock()

    @property
    def host(self) -> str:
        """The URL of the API server."""
        return self._connected().configuration.host

    def send(
        self,
        method: str,
        path: str,
        query: dict | None = None,
        body: object = None,
        read_timeout_seconds: float | None = None,
        accept: str = "application/json",
    ) -> RESTResponse:
        """Make a call; return its answer, read to its end unless it is a watch. Raises a Refusal.

        It makes the call a second time where the connection broke, since no call does harm when it arrives twice; and
        with credentials read again where they were refused, since Kubernetes rotates the token of a service account.
        """
        query, timeout = query or {}, (CONNECT_TIMEOUT_SECONDS, read_timeout_seconds or READ_TIMEOUT_SECONDS)
        for is_last in (False, True):
            connected = self._connected()
            try:
                # Not through AppsV1Api: its import takes some 20 MiB, and each call through it takes longer.
                request = connected.param_serialize(
                    method,
                    path,
                    query_params=list(query.items()),
                    header_params={"Accept": accept} | _CONTENT_TYPES.get(method, {}),
                    body=body,
                    auth_settings=["BearerToken"],
                )
                return _answer(connected.call_api(*request, _request_timeout=timeout), is_watch="watch" in query)
            except ApiException as error:
                if error.status != 401 or is_last:
                    raise refusal(error) from error
                self._forget(connected)
            except urllib3.exceptions.ProtocolError:
                continue
            except (urllib3.exceptions.HTTPError, OSError) as error:
                raise connection_refusal(error, connected.configuration.host, timeout[1]) from error
        raise unreachable(self.host, "it ends each connection")

    def _connected(self) -> client.ApiClient:
        with self._lock:
            if self._client is None:
                self._client = _connect(self._kubeconfig)
            return self._client

    def _forget(self, refused: client.ApiClient) -> None:
        with self._lock:
            # Another thread may have read the credentials again already.
            if self._client is refused:
                self._client = None


def _answer(answer: RESTResponse, is_watch: bool) -> RESTResponse:
    is_good = 200 <= answer.status < 300
    if is_good and is_watch:
        return answer
    # An answer that is read to its end gives its connection back; an unread one takes the TLS session with it.
    answer.read()
    if not is_good:
        raise ApiException.from_response(http_resp=answer, body=answer.data.decode(), data=None)
    return answer


def _connect(kubeconfig: str | None) -> client.ApiClient:
    settings = client.Configuration()
    try:
        try:
            config.load_incluster_config(settings)
        except config.ConfigException:
            if not kubeconfig:
                raise
            config.load_kube_config(kubeconfig, client_configuration=settings)
    except Exception as error:  # A kubeconfig runs programs, and people write it by hand: it can fail in any way.
        raise Unreachable(
            f"no way to a cluster: {error} Outside a cluster, KUBECONFIG must name a file that kubectl can use"
        ) from error
    settings.retries = False
    settings.connection_pool_maxsize = MAX_CONNECTIONS
    return client.ApiClient(settings)
