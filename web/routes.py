"""The signals and the questions about rollouts: POST and GET of /deployment, and rollback."""

from collections.abc import Callable
from dataclasses import replace

from flask import Blueprint, Response, g, request
from werkzeug.routing import PathConverter

from access.grants import Grants
from deployer import Report
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
    if request.method == "OPTIONS" and request.path.startswith(("/deployment", "/check")):
        grants()


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
    return _shown(name, parsing.read_id_argument(request), parsing.read_wait_argument(request))


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
