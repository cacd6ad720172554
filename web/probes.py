"""The questions about the service itself: /healthz, /readyz, /metrics, and /check of what a deploy needs."""

from flask import Blueprint, Response

from errors import Invalid, NotFound, Refusal
from web import answers
from web.parts import grants, parts

blueprint = Blueprint("probes", __name__)


@blueprint.get("/healthz")
def healthz() -> Response:
    """Say that the process serves."""
    return answers.answer(200, {"status": "ok"}, "ok")


@blueprint.get("/readyz")
def readyz() -> Response:
    """Say whether the service can take signals; this asks no API server."""
    ready, problems = parts().access.readiness()
    try:
        parts().deployer.configured()
    except NotFound as error:
        ready, problems = False, [*problems, str(error)]
    status = "ok" if ready else "not ready"
    data = {"status": status, "problems": problems}
    return answers.answer(200 if ready else 503, data, "\n".join([status, *problems]))


@blueprint.get("/metrics")
def metrics() -> Response:
    """Show the counters, in Prometheus' format."""
    return Response(parts().metrics.text(), content_type="text/plain; version=0.0.4; charset=utf-8")


@blueprint.get("/check")
@blueprint.get("/check/<path:name>")
def check(name: str | None = None) -> Response:
    """Say whether a deploy would work: of one deployment, or of all that the credentials open."""
    opened, configured = grants(), parts().deployer.configured()
    names = opened.allowed(configured) if name is None else [opened.require(name, configured)]
    if not names:
        raise Invalid("there is no deployment to check; put a manifest NAME.yaml into DEPLOYMENTS_DIR")
    problems = {each: _problems(each) for each in names}
    checks = [{"deployment": each, "ok": not problems[each], "problems": problems[each]} for each in names]
    text = "\n".join(_lines(problems))
    if any(problems.values()):
        return answers.error(422, text, "Invalid", checks=checks)
    return answers.answer(200, {"checks": checks}, text)


def _problems(name: str) -> list[str]:
    try:
        parts().deployer.check(name)
    except Refusal as refusal:
        return str(refusal).splitlines()
    return []


def _lines(problems: dict[str, list[str]]) -> list[str]:
    lines = []
    for name, found in problems.items():
        lines += [f"error: {name}: {problem}" for problem in found] or [f"ok: {name}: a deploy would work"]
    return lines
