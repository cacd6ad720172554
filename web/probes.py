"""The questions about the service itself: /healthz, /readyz, /metrics, and /check of what a deploy needs."""

from flask import Blueprint, Response

from deployer import Check
from errors import Invalid, NotFound
from rollout.wording import as_lock
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
    problems = [*problems, *parts().deployer.unusable_urls()]
    status = "ok" if ready else "not ready"
    text = "\n".join([status, *problems])
    return answers.answer(200 if ready else 503, {"status": status, "problems": problems}, text)


@blueprint.get("/metrics")
def metrics() -> Response:
    """Show the counters, in Prometheus' format."""
    return Response(parts().metrics.text(), content_type="text/plain; version=0.0.4; charset=utf-8")


@blueprint.get("/check")
@blueprint.get("/check/<path:name>")
def check(name: str | None = None) -> Response:
    """Say whether a deploy would work: of one deployment, or of all that the credentials open."""
    opened, deployer = grants(), parts().deployer
    configured = deployer.configured()
    names = opened.allowed(configured) if name is None else [opened.require(name, configured)]
    warnings = [sentence for each, sentence in deployer.ignored().items() if opened.by_password(each)]
    if not names:
        sentence = "there is no deployment to check; put a manifest NAME.yaml into DEPLOYMENTS_DIR"
        raise Invalid("\n".join([sentence, *warnings]))
    warnings += deployer.unusable_urls()
    checks, lines = [], []
    for each in names:
        with parts().calling.slot():
            check = deployer.check(each)
        checks.append({"deployment": each, "ok": not check.problems, **check._asdict()})
        lines += _lines(each, check)
    text = "\n".join([*lines, *(f"warning: {each}" for each in warnings)])
    if all(each["ok"] for each in checks):
        return answers.answer(200, {"checks": checks, "warnings": warnings}, text)
    return answers.error(422, text, "Invalid", checks=checks, warnings=warnings)


def _lines(name: str, check: Check) -> list[str]:
    lines = [f"error: {name}: {problem}" for problem in check.problems] or [f"ok: {name}: a deploy would work"]
    if check.locked is not None:
        lines.append(as_lock(": ".join(filter(None, (name, check.locked)))))
    return lines + [f"advice: {name}: {sentence}" for sentence in check.advice]
