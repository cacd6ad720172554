"""Each request's id, its line in the log, and its place in the metrics."""

import logging
import random
import re
import time

from flask import Blueprint, Response, g, request

from rate import MAX_LINES_PER_SECOND, PerSecond
from web.parts import parts

log = logging.getLogger(__name__)
blueprint = Blueprint("request_log", __name__)

# A client that guesses passwords sends thousands a second, and would bury the other lines.
refused = PerSecond()


@blueprint.before_app_request
def identify() -> None:
    """Give the request an id: the one that the sender gave it, where that is a plain word."""
    g.started = time.monotonic()
    given = request.headers.get("X-Request-ID", "")
    g.request_id = given if re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", given) else new_id()


def new_id() -> str:
    """Make an id for a request."""
    # Not from the kernel's random numbers: while it makes them, Python lets another thread run.
    return f"{random.getrandbits(128):032x}"


@blueprint.after_app_request
def write_line(response: Response) -> Response:
    """Write the request's line to the log, and count it if it is a signal."""
    status = response.status_code
    response.headers["X-Request-ID"] = g.request_id
    if request.method == "POST":
        parts().metrics.signals.labels(g.get("deployment", ""), str(status)).inc()
    is_known = g.get("has_password") or "deployment" in g
    if 400 <= status < 500 and not is_known and not _has_line():
        return response
    path = request.path
    # The path of a webhook ends in its token. A path that no route has may be a webhook's with a slip in it.
    if request.url_rule is None or "token" in request.view_args or "dockerhub" in path.lower():
        path = re.sub(r"(?s)^(/*[^/]*)/.+", r"\1/…", path)
    level = logging.WARNING if status >= 500 else logging.INFO
    if path in ("/healthz", "/readyz") and status == 200:
        level = logging.DEBUG  # The kubelet's probes come several times a minute, and would bury the other lines.
    milliseconds = round((time.monotonic() - g.started) * 1000, 1)
    fields = {"method": request.method, "path": path, "status": status, "milliseconds": milliseconds}
    log.log(level, "%s %s %s", request.method, path, status, extra=fields)
    return response


def _has_line() -> bool:
    """Tell whether a request without the right credentials gets a line; say so where the next ones don't."""
    number = refused.count()
    if number == MAX_LINES_PER_SECOND + 1:
        log.warning("over %s requests with wrong credentials within a second; the others have no line", number - 1)
    return number <= MAX_LINES_PER_SECOND
