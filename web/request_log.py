"""The id of each request, its line in the log, and the count of signals."""

import logging
import re
import time
import uuid

from flask import Blueprint, Response, g, request

from web.parts import parts

log = logging.getLogger(__name__)
blueprint = Blueprint("request_log", __name__)


@blueprint.before_app_request
def start() -> None:
    """Give the request an id: the one that the sender gave it, where that is a plain word."""
    g.started = time.monotonic()
    given = request.headers.get("X-Request-ID", "")
    g.request_id = given if re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", given) else uuid.uuid4().hex


@blueprint.after_app_request
def finish(response: Response) -> Response:
    """Write the request's line to the log, and count it if it is a signal."""
    response.headers["X-Request-ID"] = g.request_id
    if request.method == "POST":
        parts().metrics.signals.labels(g.get("deployment", ""), str(response.status_code)).inc()
    path = _path_without_secrets()
    log.log(
        _level(response.status_code),
        "%s %s %s",
        request.method,
        path,
        response.status_code,
        extra={
            "method": request.method,
            "path": path,
            "status": response.status_code,
            "milliseconds": round((time.monotonic() - g.started) * 1000, 1),
        },
    )
    return response


def _path_without_secrets() -> str:
    # The path of a webhook ends in its token. A path that no route has may be a webhook's with a slip in it.
    secret = r"(?is)(dockerhub).+" if request.url_rule else r"(?s)^(/*[^/]*)/.+"
    return re.sub(secret, r"\1/…", request.path)


def _level(status: int) -> int:
    # The kubelet's probes come several times a minute for ever, and would bury the other lines.
    if request.path in ("/healthz", "/readyz") and status == 200:
        return logging.DEBUG
    return logging.WARNING if status >= 500 else logging.INFO
