"""The HTTP side: routes, and how results and errors become answers."""

import ctypes
import logging
import os
import re
import threading
import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from flask import Flask, Response, g, jsonify, request
from werkzeug.datastructures import MIMEAccept
from werkzeug.exceptions import HTTPException, MethodNotAllowed

import logs
from access.grants import Access, Grants
from access.passwords import Passwords
from cluster.api import Cluster
from deployer import Deployer, Repeated
from errors import Invalid, NotFound, Refusal
from rollout.follower import Follower
from rollout.ledger import Records
from rollout.metrics import Metrics
from rollout.model import Phase, Rollout
from rollout.monitor import Monitor
from settings import Settings
from web import parsing
from web.webhooks import Push

if TYPE_CHECKING:
    from access import oidc

log = logging.getLogger(__name__)


def create_app(environ: Mapping[str, str] = os.environ) -> Flask:
    """Wire the parts together. Raises ValueError that names every bad setting."""
    _share_one_arena()
    logs.configure()
    settings = Settings.from_environ(environ)
    passwords = Passwords(settings.passwords_dir)
    access = Access(passwords, _tokens(settings), settings.deployments_dir)
    cluster, metrics = Cluster(settings.kubeconfig), Metrics()
    monitor = Monitor(cluster, settings, metrics)
    deployer = Deployer(cluster, settings, monitor)
    waiting = threading.BoundedSemaphore(MOST_WAITING)
    app = Flask(__name__, static_folder=None)
    app.url_map.strict_slashes = False
    # `//web` is another name than `web`, and none that exists.
    app.url_map.merge_slashes = False
    passwords.read()  # What is wrong with them stands in the log from the start.

    def grants(fields: dict | None = None) -> Grants:
        return access.grants(parsing.read_passwords(request, fields), parsing.read_bearer(request))

    def answer(follower: Follower, seconds: float) -> Response:
        """Answer at once, or when the rollout has ended, as the sender wants it."""
        if not seconds:
            rollout, known = follower.record.rollout, monitor.known(follower.manifest)
            return _answer(200, _rollout_json(rollout, known), _applied(rollout))
        if not waiting.acquire(blocking=False):
            return _all_busy(follower.record.rollout, monitor.known(follower.manifest))
        try:
            rollout = follower.wait(seconds)
        finally:
            waiting.release()
        return _rollout_answer(rollout, monitor.recorded(follower.manifest))

    @app.post("/deployment")
    @app.post("/deployment/<path:name>")
    def deploy(name: str | None = None) -> Response:
        fields = parsing.read_fields(request)
        g.deployment = name = grants(fields).require(name, deployer.configured())
        signal = parsing.read_signal(fields)
        if signal.dry_run:
            rollout = deployer.rehearse(name, signal)
            return _answer(200, _rollout_json(rollout, {}), _applied(rollout))
        return answer(deployer.deploy(name, signal), signal.wait)

    @app.post("/deployment/rollback")
    @app.post("/deployment/<path:name>/rollback")
    def rollback(name: str | None = None) -> Response:
        fields = parsing.read_fields(request)
        g.deployment = name = grants(fields).require(name, deployer.configured())
        signal = parsing.read_rollback(fields)
        return answer(deployer.roll_back(name, signal), signal.wait)

    @app.post("/dockerhub/<path:token>")
    def redeploy(token: str) -> Response:
        access.check_docker_hub(token.encode())
        push = Push.from_fields(parsing.read_fields(request))
        outcomes, refusal = [], None
        for name in deployer.configured():
            try:
                if follower := deployer.deploy_pushed(name, push):
                    outcomes.append(_outcome(name, "deploying", follower.record.rollout.id))
            except Repeated:
                outcomes.append(_outcome(name, "already"))
            except Refusal as error:
                refusal = refusal or error
                outcomes.append(_outcome(name, "refused", message=str(error)))
        return _push_answer(push, outcomes, refusal)

    @app.get("/deployment")
    @app.get("/deployment/<path:name>")
    def show(name: str | None = None) -> Response:
        if name and f"/{name}".endswith("/rollback"):
            raise MethodNotAllowed(["POST"])
        g.deployment = name = grants().require(name, deployer.configured())
        seconds = parsing.read_wait_argument(request)
        if seconds and not waiting.acquire(blocking=False):
            rollout, records = monitor.rollout(name, deployer.load(name), request.args.get("id"), 0)
            if rollout.phase is not Phase.PROGRESSING:
                return _rollout_answer(rollout, records)
            return _all_busy(rollout, records)
        try:
            return _rollout_answer(*monitor.rollout(name, deployer.load(name), request.args.get("id"), seconds))
        finally:
            if seconds:
                waiting.release()

    @app.get("/metrics")
    def show_metrics() -> Response:
        return Response(metrics.text(), content_type="text/plain; version=0.0.4; charset=utf-8")

    @app.get("/check")
    @app.get("/check/<path:name>")
    def check(name: str | None = None) -> Response:
        opened, configured = grants(), deployer.configured()
        names = [opened.require(name, configured)] if name is not None else opened.allowed(configured)
        if not names:
            raise Invalid("there is no deployment to check; put a manifest NAME.yaml into DEPLOYMENTS_DIR")
        problems = {}
        for each in names:
            try:
                deployer.check(each)
            except Refusal as error:
                problems[each] = str(error).splitlines()
        return _check_answer(names, problems)

    @app.get("/healthz")
    def healthz() -> Response:
        return _answer(200, {"status": "ok"}, "ok")

    @app.get("/readyz")
    def readyz() -> Response:
        usable, problems = access.readiness()
        try:
            deployer.configured()
        except NotFound as error:
            problems, usable = [*problems, str(error)], False
        ready = "ok" if usable else "not ready"
        return _answer(200 if usable else 503, {"status": ready, "problems": problems}, "\n".join([ready, *problems]))

    @app.before_request
    def begin() -> None:
        g.began = time.monotonic()
        given = request.headers.get("X-Request-ID", "")
        g.request_id = given if re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", given) else uuid.uuid4().hex

    @app.after_request
    def write_access_line(response: Response) -> Response:
        response.headers["X-Request-ID"] = g.request_id
        if request.method == "POST":
            metrics.signals.labels(g.get("deployment", ""), str(response.status_code)).inc()
        # The kubelet's probes, several a minute for ever, would bury the rest.
        probe = request.path in ("/healthz", "/readyz") and response.status_code == 200
        # Behind /dockerhub stands a secret, and nobody knows what behind a path that doesn't exist.
        secret = r"(?is)(dockerhub).+" if request.url_rule else r"(?s)^(/*[^/]*)/.+"
        path = re.sub(secret, r"\1/…", request.path)
        log.log(
            logging.DEBUG if probe else logging.INFO,
            "%s %s %s",
            request.method,
            path,
            response.status_code,
            extra={
                "method": request.method,
                "path": path,
                "status": response.status_code,
                "milliseconds": round((time.monotonic() - g.began) * 1000, 1),
            },
        )
        return response

    @app.errorhandler(Refusal)
    def refuse(error: Refusal) -> Response:
        return _answer(error.status, {"error": str(error), "reason": error.reason}, str(error))

    @app.errorhandler(HTTPException)
    def refuse_http(error: HTTPException) -> Response:
        sentence = _HTTP_SENTENCES.get(error.code, error.name.lower())
        if allowed := getattr(error, "valid_methods", None):
            sentence = (
                f"{request.method} doesn't work here; use {' or '.join(sorted(set(allowed) - {'HEAD', 'OPTIONS'}))}"
            )
        answer = _answer(error.code, {"error": sentence, "reason": error.name.replace(" ", "")}, sentence)
        answer.headers.extend((key, value) for key, value in error.get_headers() if key != "Content-Type")
        return answer

    @app.errorhandler(Exception)
    def fail(error: Exception) -> Response:
        log.exception("unexpected error")
        sentence = f"internal error; the log tells more under request_id {g.request_id}"
        return _answer(500, {"error": sentence, "reason": "InternalError"}, sentence)

    threading.Thread(target=monitor.resume, args=(deployer.loadable,), name="resume", daemon=True).start()
    return app


_M_ARENA_MAX = -8
# Half of uwsgi.ini's threads: the others are left for signals and probes.
MOST_WAITING = 32
_STATUS_OF = {
    Phase.COMPLETE: 200,
    Phase.PROGRESSING: 202,
    Phase.SUPERSEDED: 409,
    Phase.PAUSED: 409,
    Phase.FAILED: 424,
}
_HTTP_SENTENCES = {404: "there is nothing at this path; signals go to /deployment or /deployment/NAME"}


def _share_one_arena() -> None:
    # glibc gives each of the 64 threads a heap of its own: 6 MiB that nobody needs, as one thread computes at a time.
    # https://man7.org/linux/man-pages/man3/mallopt.3.html
    with suppress(AttributeError):  # Another C library has no such thing.
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)


def _tokens(settings: Settings) -> "oidc.Tokens | None":
    if not settings.oidc_audience:
        return None
    # Only now: with the cryptography that it brings it takes some 10 MiB, which nobody else needs.
    from access import oidc

    return oidc.Tokens(settings.oidc_issuer, settings.oidc_audience)


def _applied(rollout: Rollout) -> str:
    where = f"deployment {rollout.deployment} in {rollout.namespace}, image {rollout.image}, id {rollout.id}"
    return f"ok: {where}\n{rollout.message}"


def _rollout_json(rollout: Rollout, records: Records) -> dict:
    return rollout.as_json() | {"history": [record.as_history() for record in records.values()]}


def _rollout_answer(rollout: Rollout, records: Records) -> Response:
    return _answer(_STATUS_OF[rollout.phase], _rollout_json(rollout, records), rollout.as_text())


def _all_busy(rollout: Rollout, records: Records) -> Response:
    busy = "too many requests wait already; ask again with GET and ?id="
    response = _answer(202, _rollout_json(rollout, records), f"{rollout.as_text()}\n{busy}")
    response.headers["Retry-After"] = "5"
    return response


def _check_answer(names: list[str], problems: dict[str, list[str]]) -> Response:
    lines = [
        f"{'error' if name in problems else 'ok'}: {name}: {problem}"
        for name in names
        for problem in problems.get(name, ["a deploy would work"])
    ]
    checks = [{"deployment": name, "ok": name not in problems, "problems": problems.get(name, [])} for name in names]
    body = {"checks": checks}
    if problems:
        body |= {"error": "\n".join(lines), "reason": "Invalid"}
    return _answer(422 if problems else 200, body, "\n".join(lines))


def _outcome(name: str, outcome: str, rollout_id: str | None = None, message: str | None = None) -> dict:
    said = {
        "deploying": f"deploying, id {rollout_id}",
        "already": "already deploying, for another webhook of this push",
    }
    return {"deployment": name, "outcome": outcome, "id": rollout_id, "message": message or said[outcome]}


def _push_answer(push: Push, outcomes: list[dict], refusal: Refusal | None) -> Response:
    body, lines = {"deployments": outcomes}, [f"{each['deployment']}: {each['message']}" for each in outcomes]
    if refusal:
        return _answer(refusal.status, body | {"error": "\n".join(lines), "reason": refusal.reason}, "\n".join(lines))
    lines = lines or [f"nothing to do: no deployment runs {push.image}"]
    return _answer(200, body, "\n".join(f"ok: {line}" for line in lines))


def _answer(status: int, body: dict, text: str) -> Response:
    """Answer in text, or in JSON where the request's Accept prefers that."""
    # Without parameters: to Werkzeug, `application/json; charset=utf-8` is another type.
    wanted = MIMEAccept([(kind.partition(";")[0], quality) for kind, quality in request.accept_mimetypes])
    accepted = wanted.best_match(["text/plain", "application/json"], default="text/plain")
    response = jsonify(body) if accepted == "application/json" else Response(text + "\n", mimetype="text/plain")
    response.status_code = status
    response.headers["Vary"] = "Accept"
    return response
