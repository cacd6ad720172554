"""Answer a flood of wrong passwords with copies of one answer: most of what such a request costs is Flask's work."""

from collections.abc import Callable, Iterable
from contextlib import suppress
from io import BytesIO

from flask import Request

from access.grants import Access
from errors import Refusal, WrongPassword
from rate import MAX_LINES_PER_SECOND, PerSecond
from rollout.metrics import Metrics
from web import credentials, parsing
from web.receiving import Receiver
from web.request_log import new_id

MAX_COPIED_ANSWERS = 16
# Beside the path and Accept, the answer to a wrong password depends on these.
_UNUSUAL = {"HTTP_ORIGIN", "HTTP_SEC_FETCH_SITE", "HTTP_X_REQUEST_ID"}
# The status with its phrase, the headers, the body.
_Answer = tuple[str, list[tuple[str, str]], bytes]


class FloodGuard:
    """Stand in front of the application, and let it answer everything but the signals of a flood of wrong passwords."""

    def __init__(self, app: Callable, receiver: Receiver, access: Access, metrics: Metrics, refused: PerSecond) -> None:
        self._app, self._receiver, self._access, self._metrics, self._refused = app, receiver, access, metrics, refused
        self._answers: dict[tuple[str, str], _Answer] = {}

    def __call__(self, environ: dict, start_response: Callable) -> Iterable[bytes]:
        """Serve a request: https://peps.python.org/pep-3333/"""
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
        """Tell whether it is sure that a signal opens nothing; leave the signal as it would arrive without this."""
        request = Request(environ)
        with suppress(Refusal):  # The application meets it again.
            self._receiver.receive(request)
        if not isinstance(environ["wsgi.input"], BytesIO):
            return False
        try:
            fields = parsing.read_fields(request)
            self._access.grants(credentials.read_passwords(request, fields), None)
        except WrongPassword:
            # A token takes more than a comparison.
            return not credentials.read_token(request)
        except Refusal:
            return False
        finally:
            environ["wsgi.input"].seek(0)
        return False

    def _answer_without_password(self, environ: dict) -> _Answer:
        """Return the application's answer to the same request without any credentials, apart from its id."""
        asked = {name: value for name, value in environ.items() if name != "HTTP_AUTHORIZATION"}
        asked |= {"wsgi.input": BytesIO(b"{}"), "CONTENT_LENGTH": "2"}
        started: list = []
        answered = self._app(asked, lambda status, headers, *_: started.extend((status, headers)))
        body = b"".join(answered)
        answered.close()
        return started[0], [each for each in started[1] if each[0] != "X-Request-ID"], body
