"""Carry one call to the API server and its answer back, with the credentials of this service."""

import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import urllib3
from kubernetes import client, config
from kubernetes.client.rest import RESTResponse
from urllib3.exceptions import HTTPError, ProtocolError

from cluster.api_errors import connection_refusal, refusal, unreachable, why_broken
from errors import Unreachable

# A signal makes two calls, and fails with the first one that takes longer.
CONNECT_TIMEOUT_SECONDS, READ_TIMEOUT_SECONDS = 2, 10
# A busy API server says after how many seconds to ask again; most often 1.
# https://kubernetes.io/docs/concepts/cluster-administration/flow-control/
MAX_RETRY_AFTER_SECONDS = 5
# So many connections stay open between calls. A busy moment may open more; each of those is closed after its call.
MAX_CONNECTIONS = 16
# The log of a container isn't JSON.
ANYTHING = "application/json, */*"
# https://kubernetes.io/docs/reference/using-api/api-concepts/#receiving-resources-as-tables-or-metadata
METADATA_ALONE = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1, application/json"


class Connection:
    """Send calls to one API server. It connects at the first one, so that the service starts without a cluster too."""

    def __init__(self, kubeconfig: str | None) -> None:
        self._kubeconfig = kubeconfig
        self._client: client.ApiClient | None = None
        self._lock = threading.Lock()

    def call(
        self, method: str, path: str, query: dict | None = None, body: object = None, accept: str = ANYTHING
    ) -> dict:
        """Make a call; return the JSON of its answer as the API server wrote it. Raises a Refusal."""
        answer = self.send(method, path, query, body, accept)
        try:
            return json.loads(answer.data)
        except ValueError as error:
            raise unreachable(self._connected().configuration.host, "what answers there is no API server") from error

    def send(
        self,
        method: str,
        path: str,
        query: dict | None = None,
        body: object = None,
        accept: str = ANYTHING,
        max_silence_seconds: float = 0,
    ) -> RESTResponse:
        """Make a call; return its answer, read to its end unless `max_silence_seconds` is given: then it is a watch.

        It makes the call a second time where the connection broke, since no call does harm when it arrives twice; where
        the API server is busy, after the pause that it asks for; and with credentials read again where they were
        refused, since Kubernetes rotates the token of a service account. Raises a Refusal.
        """
        headers = {"Accept": accept, "Content-Type": "application/json"}
        if method == "PATCH":
            headers["Content-Type"] = "application/strategic-merge-patch+json"
        read_seconds = max_silence_seconds or READ_TIMEOUT_SECONDS
        connected = self._connected()
        for is_last in (False, True):
            try:
                # Not through AppsV1Api: its import takes some 20 MiB, and each call through it takes longer.
                request = connected.param_serialize(
                    method, path, query_params=query, header_params=headers, body=body, auth_settings=["BearerToken"]
                )
                answer = connected.call_api(*request, _request_timeout=(CONNECT_TIMEOUT_SECONDS, read_seconds))
                is_good = 200 <= answer.status < 300
                if not (is_good and max_silence_seconds):
                    # This gives the connection back; an answer that isn't read takes the TLS session with it.
                    answer.read()
            except ProtocolError:
                continue
            except (client.ApiException, HTTPError, OSError) as error:
                raise connection_refusal(error, connected.configuration.host, read_seconds) from error
            if is_good:
                return answer
            pause = _retry_after_seconds(answer)
            if is_last or (answer.status != 401 and not pause):
                raise refusal(answer)
            if pause:
                time.sleep(pause)
            else:
                connected = self._connected(refused=connected)
        raise unreachable(connected.configuration.host, "it ends each connection")

    def _connected(self, refused: client.ApiClient | None = None) -> client.ApiClient:
        with self._lock:
            # Otherwise another thread has read the credentials again already.
            if self._client is refused:
                self._client = _connect(self._kubeconfig)
            return self._client


class Stream:
    """Yield the events of a watch, one JSON object each, until the API server ends it or `close` is called."""

    def __init__(self, response: urllib3.HTTPResponse) -> None:
        self._response, self._is_being_read = response, False

    def __iter__(self) -> Iterator[dict]:
        self._is_being_read = True
        try:
            yield from (json.loads(line) for line in self._response if line.strip())
        except (HTTPError, OSError, ValueError) as error:
            raise Unreachable(f"a watch broke: {why_broken(error)}") from error
        finally:
            self._response.close()

    def close(self) -> None:
        """End the stream; any thread may call this."""
        with suppress(OSError, ValueError, RuntimeError):
            self._response.shutdown()
        # The thread that reads closes the response itself.
        if not self._is_being_read:
            self._response.close()


def _retry_after_seconds(answer: RESTResponse) -> int:
    """Return the pause that a busy API server asks for; 0 when it asks for none, or for one that is too long."""
    text = answer.headers.get("Retry-After", "") if answer.status == 429 else ""
    seconds = int(text) if re.fullmatch("[0-9]{1,5}", text) else 0
    return seconds if seconds <= MAX_RETRY_AFTER_SECONDS else 0


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
