"""Receive the body of a request before anything else is done with it, and let no slow sender hold a thread for long."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import BytesIO

from flask import Request

from errors import BadRequest, Refusal, RequestTimeout
from web.parsing import MAX_BODY_BYTES

# Half of uwsgi.ini's threads: a request whose body arrives holds one.
MAX_RECEIVING_REQUESTS = 48
MAX_RECEIVE_SECONDS = 10
CHUNK_BYTES = 64 * 1024
_CHECK_SECONDS = 0.5


@dataclass(eq=False)
class _Reading:
    fd: int
    deadline: float
    cut: bool = False


class Receiver:
    """Receive bodies: only so many at a time, and each within its time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._readings: dict[_Reading, None] = {}  # The one that began first comes first.
        threading.Thread(target=self._cut_overdue, name="receiving", daemon=True).start()

    def receive(self, request: Request) -> None:
        """Replace the stream of a request by the body. Raises RequestTimeout or BadRequest; a second call too.

        It also reads a body that is too large, and drops it: a sender that is refused while it sends sees a reset
        in place of the answer.
        """
        stream, length = request.environ["wsgi.input"], request.content_length
        if isinstance(stream, Refusal):
            raise stream
        if not length or isinstance(stream, BytesIO):
            return
        body = bytearray()
        with self._reading(stream.fileno()) as reading:
            try:
                while length > 0 and (chunk := stream.read(min(length, CHUNK_BYTES))):
                    length -= len(chunk)
                    if request.content_length <= MAX_BODY_BYTES:
                        body += chunk
            except OSError as error:
                is_late, short = reading.cut or "timeout" in str(error), "the body is shorter than the Content-Length"
                request.environ["wsgi.input"] = RequestTimeout() if is_late else BadRequest(short)
                raise request.environ["wsgi.input"] from None
        request.environ["wsgi.input"] = BytesIO(body)

    @contextmanager
    def _reading(self, fd: int) -> Iterator[_Reading]:
        reading = _Reading(fd, time.monotonic() + MAX_RECEIVE_SECONDS)
        with self._lock:
            waiting = [each for each in self._readings if not each.cut]
            if len(waiting) >= MAX_RECEIVING_REQUESTS:
                self._cut(waiting[0])
            self._readings[reading] = None
        try:
            yield reading
        finally:
            with self._lock:
                del self._readings[reading]

    def _cut_overdue(self) -> None:
        while True:
            time.sleep(_CHECK_SECONDS)
            now = time.monotonic()
            with self._lock:
                for reading in self._readings:
                    if reading.deadline <= now and not reading.cut:
                        self._cut(reading)

    def _cut(self, reading: _Reading) -> None:
        """End the stream of a reading; the lock must be held, so that its connection is still open."""
        reading.cut = True
        connection = socket.socket(fileno=reading.fd)
        with suppress(OSError):  # The sender has closed the connection.
            # The thread that reads sees the end of the body; the connection still takes the answer.
            connection.shutdown(socket.SHUT_RD)
        connection.detach()
