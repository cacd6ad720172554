"""How an answer looks, as Accept prefers: text, JSON, Markdown or HTML; what an error becomes; the log lines."""

import gzip
import logging
import re
import shlex
from collections.abc import Callable
from urllib.parse import quote

from flask import Blueprint, Response, g, jsonify, request
from werkzeug.datastructures import MIMEAccept
from werkzeug.exceptions import HTTPException

from deployer import Report, Standing
from errors import InvalidToken, Refusal, WrongPassword
from rollout.model import Phase, Rollout
from rollout.wording import as_applied, as_lock, as_markdown, as_text, page_url
from web import page
from web.page import Page
from web.parts import parts

log = logging.getLogger(__name__)
blueprint = Blueprint("answers", __name__)

STATUS_OF = {Phase.COMPLETE: 200, Phase.PROGRESSING: 202, Phase.SUPERSEDED: 409, Phase.PAUSED: 409, Phase.FAILED: 424}
RETRY_AFTER_SECONDS = 5
PAGE_RETRY_AFTER_SECONDS = 10
GZIP_LEVEL = 4
HTML, KINDS = "text/html", ("text/plain", "application/json", "text/markdown")
SAFE_METHODS = ("GET", "HEAD")
# The endpoints that have a page.
PAGES = ("deployment.overview", "deployment.show")
_HTTP_SENTENCES = {404: "there is nothing at this path; signals go to /deployment or /deployment/NAME"}


def answer(
    status: int,
    data: dict,
    text: str,
    markdown: Callable[[], str] | None = None,
    shown: Callable[[], Page] | None = None,
) -> Response:
    """Answer in the media type that the request prefers; text is the default."""
    if ignored := g.get("ignored"):
        data = {**data, "ignored": ignored}
    renderers = {
        "text/plain": lambda: Response(f"{text}\n", mimetype="text/plain"),
        "application/json": lambda: jsonify(data),
    }
    if markdown:
        renderers["text/markdown"] = lambda: Response(markdown(), mimetype="text/markdown")
    if shown and request.method in SAFE_METHODS:
        renderers[HTML] = lambda: _html(shown())
    response = renderers[_preferred(list(renderers))]()
    response.status_code = status
    response.headers["Vary"] = "Accept"
    if response.mimetype == HTML:
        response.headers["Vary"] = "Accept, Accept-Encoding"
        if "error" not in data:
            # Not If-Match, which would get a 412.
            response.make_conditional({key: each for key, each in request.environ.items() if key != "HTTP_IF_MATCH"})
    return response


def _html(shown: Page) -> Response:
    # The bars of many deployments are much alike.
    is_packed = request.accept_encodings["gzip"] > 0
    body = shown.render().encode()
    response = Response(gzip.compress(body, GZIP_LEVEL) if is_packed else body, mimetype=HTML)
    if is_packed:
        response.headers["Content-Encoding"] = "gzip"
    response.set_etag(shown.tag)
    return response


def prefers_html() -> bool:
    """Tell whether the request is a browser's, which shows a page."""
    return request.method in SAFE_METHODS and _preferred([*KINDS, HTML]) == HTML


def _preferred(kinds: list[str]) -> str:
    """Return the media type that the request's Accept prefers; the first one where it says nothing."""
    if not (accepted := request.accept_mimetypes):
        return kinds[0]
    # Without parameters: Werkzeug takes `application/json; charset=utf-8` for another type.
    plain = MIMEAccept([(kind.partition(";")[0], quality) for kind, quality in accepted])
    return plain.best_match(kinds, default=kinds[0])


def error(status: int, sentence: str, reason: str, **data: object) -> Response:
    """Answer with an error: its sentence and its reason, and other data where there is some."""
    shown = (lambda: page.error(status, sentence)) if request.endpoint in PAGES else None
    return answer(status, {**data, "error": sentence, "reason": reason}, sentence, shown=shown)


def overview(standings: list[Standing]) -> Response:
    """Answer with how several deployments stand, without their history, which only the page shows."""
    found = [each.as_json() for each in standings]

    def shown() -> Page:
        both = zip(found, standings, strict=True)
        return page.overview([data | {"name": each.name, "history": each.glance.history} for data, each in both])

    text = "\n".join(f"ok: {_row(each)}" for each in standings) or "ok: no deployment is configured"
    return answer(200, {"deployments": found}, text, shown=shown)


def _row(standing: Standing) -> str:
    rollout = standing.glance.rollout
    which = f", revision {rollout.revision}, image {rollout.image}" if rollout and rollout.revision else ""
    lock = f", {as_lock(standing.glance.locked)}" if standing.glance.locked is not None else ""
    message = " ".join(standing.message.split())
    return f"{standing.name}: {standing.phase}: {message}{which}{lock}"


def rollout_state(report: Report) -> Response:
    """Answer with the state of a rollout: its phase decides the status."""
    return _about_rollout(STATUS_OF[report.rollout.phase], report, as_text(report.rollout))


def applied(report: Report) -> Response:
    """Answer that the API server has accepted a change, before anything is known of the rollout."""
    return _about_rollout(200, report, as_applied(report.rollout))


def too_many_waiting(report: Report) -> Response:
    """Answer with a rollout that is progressing, and say that the request can't wait for its verdict."""
    sentence = "too many requests wait already; ask again with GET and ?id="
    response = _about_rollout(202, report, f"{as_text(report.rollout)}\n{sentence}")
    response.headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    return response


def _about_rollout(status: int, report: Report, text: str) -> Response:
    data = report.rollout.as_json() | {
        "locked": report.locked,
        "history": [record.as_history() for record in report.history.values()],
    }
    if report.locked is not None:
        text = f"{text}\n{as_lock(report.locked)}"

    def markdown() -> str:
        rollout, history, locked = report
        url = page_url(parts().public_url, g.deployment)
        return as_markdown(rollout, history, _way_back(rollout), locked, url)

    return answer(status, data, text, markdown, lambda: page.rollout(data, is_newest="id" not in request.args))


def _way_back(rollout: Rollout) -> str:
    """Return the command with which this caller can roll a rollout back."""
    # Outside its job, a workflow has no token. Without a valid Host, the URL isn't known.
    if g.has_token or not request.host:
        return f"kubectl rollout undo deployment/{rollout.deployment} --namespace {rollout.namespace}"
    # In clear text only within the machine, whatever stands between: the command sends a password.
    scheme = "http" if re.match(r"(127\.0\.0\.1|localhost|\[::1\])(:|$)", request.host) else "https"
    name = request.view_args.get("name")
    path = f"/deployment/{quote(name)}" if name else "/deployment"
    url = f"{scheme}://{request.host}{path}/rollback"
    return f'curl --data "{{\\"pw\\": \\"$PASSWORD\\", \\"wait\\": true}}" {shlex.quote(url)}'


@blueprint.app_errorhandler(Refusal)
def refuse(refusal: Refusal) -> Response:
    """Answer a request that the service refuses."""
    if refusal.status >= 500:
        # The sender can't mend these, so the operator must find them in the log.
        log.warning("%s", refusal)
    asks = isinstance(refusal, WrongPassword | InvalidToken) and prefers_html()
    response = error(401 if asks else refusal.status, str(refusal), refusal.reason)
    if asks:  # So that the browser asks for the password.
        response.headers["WWW-Authenticate"] = 'Basic realm="auto-deployer", charset="UTF-8"'
    if refusal.retry_after_seconds:
        response.headers["Retry-After"] = str(refusal.retry_after_seconds)
    return response


@blueprint.app_errorhandler(HTTPException)
def refuse_http(exception: HTTPException) -> Response:
    """Answer a request that Flask refuses, such as one with a path or a method that doesn't exist."""
    sentence = _HTTP_SENTENCES.get(exception.code, exception.name.lower())
    if allowed := getattr(exception, "valid_methods", None):
        methods = " or ".join(sorted(set(allowed) - {"HEAD", "OPTIONS"}))
        sentence = f"this path doesn't accept {request.method}; use {methods}"
    response = error(exception.code, sentence, exception.name.replace(" ", ""))
    response.headers.extend((key, value) for key, value in exception.get_headers() if key != "Content-Type")
    return response


@blueprint.app_errorhandler(Exception)
def fail(exception: Exception) -> Response:
    """Answer a request that meets a bug; the log has the traceback."""
    log.exception("unexpected error")
    return error(500, f"internal error; the log tells more under request_id {g.request_id}", "InternalError")
