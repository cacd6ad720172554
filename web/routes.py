"""The signals and the questions about rollouts: POST and GET of /deployment, and rollback."""

import time
from collections.abc import Callable
from dataclasses import replace

from flask import Blueprint, Response, g, request
from werkzeug.routing import PathConverter

from access.grants import Grants
from deployer import LOOK_AGAIN_SECONDS, Report, Standing
from deployment_spec import Signal
from rollout.duplicates import Duplicate
from rollout.model import Phase
from web import answers, parsing
from web.parts import grants, parts

blueprint = Blueprint("deployment", __name__)


class NameConverter(PathConverter):
    """Match the name of a deployment, and no path that ends in the word for a rollback."""

    regex = rf"(?!(.*/)?rollback\Z){PathConverter.regex}"


@blueprint.before_app_request
def check_credentials_of_options() -> None:
    """Refuse OPTIONS as other methods are refused: a caller without the right credentials learns nothing else."""
    is_open = request.path != "/" and not request.path.startswith(("/deployment", "/check"))
    if request.method == "OPTIONS" and not is_open:
        grants()


@blueprint.get("/")
def overview() -> Response:
    """Show how every deployment stands that the credentials open."""
    names = grants().allowed(parts().deployer.configured())
    return _watched(names, lambda standings: (answers.overview(standings), True))


@blueprint.post("/deployment")
@blueprint.post("/deployment/<name:name>")
def deploy(name: str | None = None) -> Response:
    """Deploy what the manifest and the signal say."""
    return _start(name, parsing.DeployFields, parts().deployer.deploy)


@blueprint.post("/deployment/rollback")
@blueprint.post("/deployment/<path:name>/rollback")
def roll_back(name: str | None = None) -> Response:
    """Roll back to the last rollout that worked, or to a revision."""
    return _start(name, parsing.RollbackFields, parts().deployer.roll_back)


@blueprint.get("/deployment")
@blueprint.get("/deployment/<name:name>")
def show(name: str | None = None) -> Response:
    """Show how a rollout goes: the newest, or the one with the `id` of the query."""
    _, name = _opened(name)
    rollout_id = parsing.read_id_argument(request)
    if not (answers.prefers_html() and "If-None-Match" in request.headers):
        return _shown(name, rollout_id, parsing.read_wait_argument(request))

    def look(_: list[Standing]) -> tuple[Response, bool]:
        report = parts().deployer.show(name, rollout_id, 0)
        return answers.rollout_state(report), report.rollout.ended

    return _watched([name], look)


def _watched(names: list[str], look: Callable[[list[Standing]], tuple[Response, bool]]) -> Response:
    """Answer a page: at once, or, where it shows all this already, when that changes or `?wait=` is over.

    `look` takes how they stand; it returns the answer, and whether `await_change` notices all that may change in it.
    """
    wanted = parsing.read_wait_argument(request) if "If-None-Match" in request.headers else 0
    shared = parts()
    with (
        shared.waiting_pages.slot(wanted) as allowed,
        shared.waiting.slot(allowed) as granted,
        shared.calling.slot(granted),
    ):
        until = time.monotonic() + granted
        while True:
            standings = shared.deployer.overview(names)
            response, is_still = look(standings)
            if response.status_code != 304 or time.monotonic() >= until:
                break
            soon = until if is_still else min(until, time.monotonic() + LOOK_AGAIN_SECONDS)
            shared.deployer.await_change(standings, soon)
    if wanted and not granted:
        response.headers["Retry-After"] = str(answers.PAGE_RETRY_AFTER_SECONDS)
    return response


def _start(name: str | None, model: type, start: Callable[[str, Signal], Report]) -> Response:
    fields = parsing.read_fields(request)
    opened, name = _opened(name, fields)
    g.ignored = parsing.unknown_fields(fields, model)
    signal = parsing.read_signal(fields, model)
    by, link = opened.sender(name)
    if key := parsing.read_key(request):
        signal = replace(signal, key=key, fingerprint=parsing.fingerprint(fields, model))
    signal = replace(signal, by=by, link=link or signal.link)
    try:
        with parts().calling.slot():
            report = start(name, signal)
    except Duplicate as duplicate:
        response = _shown(name, duplicate.rollout_id, signal.wait)
        response.headers["Idempotent-Replayed"] = "true"
        return response
    if signal.dry_run or not signal.wait:
        return answers.applied(report)
    return _shown(name, report.rollout.id, signal.wait)


def _shown(name: str, rollout_id: str | None, seconds: float) -> Response:
    """Answer with a rollout when it has ended, or after so many seconds; at once when too many requests wait."""
    with parts().waiting.slot(seconds) as granted, parts().calling.slot(granted):
        report = parts().deployer.show(name, rollout_id, granted)
    if seconds and not granted and report.rollout.phase is Phase.PROGRESSING:
        return answers.too_many_waiting(report)
    return answers.rollout_state(report)


def _opened(name: str | None, fields: dict | None = None) -> tuple[Grants, str]:
    # The credentials first: without the right ones, a caller learns nothing about names.
    opened = grants(fields)
    g.has_token = opened.workflow is not None
    g.deployment = opened.require(name, parts().deployer.configured())
    return opened, g.deployment
