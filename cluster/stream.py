"""Read the events of a watch as they arrive."""

import json
from collections.abc import Iterator
from contextlib import suppress

import urllib3

from cluster.api_errors import why_broken
from errors import Unreachable

_CHUNK_BYTES = 65536


class Stream:
    """Yield the events of a watch, one JSON object each, until the API server ends it or `close` is called."""

    def __init__(self, response: urllib3.HTTPResponse) -> None:
        self._response = response
        self._is_being_read = False

    def __iter__(self) -> Iterator[dict]:
        rest, self._is_being_read = b"", True
        try:
            for chunk in self._response.stream(_CHUNK_BYTES):
                *lines, rest = (rest + chunk).split(b"\n")
                yield from (json.loads(line) for line in lines if line.strip())
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
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
