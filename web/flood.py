"""Answer a flood of wrong passwords with copies of one answer, since Flask's work is most of the cost of a request."""

from collections.abc import Callable, Iterable
from contextlib import suppress
from io import BytesIO

from flask import Request
from werkzeug.exceptions import HTTPException

from access.grants import Access
from errors import Refusal, WrongPassword
from rate import MAX_LINES_PER_SECOND, PerSecond
from rollout.metrics import Metrics
from web import credentials, parsing
from web.receiving import Receiver
from web.request_log import new_id

MAX_COPIED_ANSWERS = 16
# The answer to a wrong password also depends on these headers, not only on the path and Accept.
_UNUSUAL = {"HTTP_ORIGIN", "HTTP_SEC_FETCH_SITE", "HTTP_UPGRADE", "HTTP_X_REQUEST_ID"}
# The status with its phrase, the headers, the body.
_Answer = tuple[str, list[tuple[str, str]], bytes]


class FloodGuard:
    """Stand in front of the application, and let it answer every request, except wrong passwords in a flood."""

    def __init__(self, app: Callable, receiver: Receiver, access: Access, metrics: Metrics, refused: PerSecond) -> None:
        self._app, self._receiver, self._access, self._metrics, self._refused = app, receiver, access, metrics, refused
        self._answers: dict[tuple[str, str], _Answer] = {}

    def __call__(self, environ: dict, start_response: Callable) -> Iterable[bytes]:
        """Serve a request, as WSGI says: https://peps.python.org/pep-3333/"""
        is_signal = environ["REQUEST_METHOD"] == "POST" and environ["PATH_INFO"].startswith("/deployment")
        is_flood = is_signal and self._refused.number > MAX_LINES_PER_SECOND
        if not is_flood or environ.keys() & _UNUSUAL or not self._has_wrong_password(environ):
            return self._app(environ, start_response)
        key = environ["PATH_INFO"], environ.get("HTTP_ACCEPT", "")
        if (answer := self._answers.get(key)) is None:
            answer = self._answer_without_password(environ)  # The application counts this one.
            self._answers = dict([*self._answers.items()][1 - MAX_COPIED_ANSWERS :]) | {key: answer}
        else:
            self._metrics.signals.labels("", answer[0][:3]).inc()
        status, headers, body = answer
        start_response(status, [*headers, ("X-Request-ID", new_id())])
        return [body]

    def _has_wrong_password(self, environ: dict) -> bool:
        """Tell whether a signal surely opens nothing. The application can still read its body afterwards."""
        request = Request(environ, populate_request=False)
        with suppress(Refusal):  # The application raises the same error, and answers it.
            self._receiver.receive(request)
        if not isinstance(environ["wsgi.input"], BytesIO):
            return False
        try:
            fields = parsing.read_fields(request)
            self._access.grants(credentials.read_passwords(request, fields), None)
        except WrongPassword:
            # The application checks tokens, which have two dots: that needs more than a comparison.
            return credentials.read_token(request).count(b".") != 2
        except (Refusal, HTTPException):
            return False
        finally:
            environ["wsgi.input"].seek(0)
        return False

    def _answer_without_password(self, environ: dict) -> _Answer:
        """Return the application's answer to the same request without credentials. Leave out X-Request-ID."""
        # All senders get this copy, so the application sees no other header of the present sender.
        asked = {name: each for name, each in environ.items() if name == "HTTP_ACCEPT" or not name.startswith("HTTP_")}
        asked |= {"wsgi.input": BytesIO(b"{}"), "CONTENT_LENGTH": "2"}
        started: list = []
        answered = self._app(asked, lambda status, headers, *_: started.extend((status, headers)))
        body = b"".join(answered)
        answered.close()
        return started[0], [each for each in started[1] if each[0] != "X-Request-ID"], body
