"""The webhooks of Docker Hub: POST /dockerhub/TOKEN, and what its payload says.

Docker Hub signs nothing, so the payload is only a hint: the service deploys what the manifest says.
https://docs.docker.com/docker-hub/repos/manage/webhooks/
"""

import logging
from dataclasses import dataclass
from urllib.parse import urlsplit

from flask import Blueprint, Response, request

from deployer import DuplicateWebhook
from errors import BadRequest, NotDockerHub, Refusal
from manifest.image_reference import DOCKER_HUB, ImageReference
from web import answers, parsing
from web.parsing import MAX_CAUSE_CHARACTERS
from web.parts import parts

log = logging.getLogger(__name__)
blueprint = Blueprint("webhooks", __name__)

HOSTS = ("hub.docker.com", "registry.hub.docker.com")


@dataclass(frozen=True)
class Push:
    """Say which image was pushed, as in `acme/web:latest`, and which user pushed it."""

    image: str
    pusher: str

    @classmethod
    def from_fields(cls, fields: dict) -> "Push":
        """Read a webhook's payload. Raises BadRequest with the name of the field, or NotDockerHub."""
        callback = fields.get("callback_url") or ""
        if not isinstance(callback, str):
            raise BadRequest("callback_url must be text")
        if callback and _host(callback) not in HOSTS:
            raise NotDockerHub(f"callback_url isn't at {HOSTS[0]}: Docker Hub didn't send this")
        repository, tag = _text(fields, "repository", "repo_name"), _text(fields, "push_data", "tag")
        pusher = fields["push_data"].get("pusher")
        push = cls(f"{repository}:{tag}", parsing.printable(pusher) if isinstance(pusher, str) else "")
        try:
            ImageReference.parse(push.reference)
        except ValueError as error:
            raise BadRequest(f"repository.repo_name and push_data.tag: {error}") from None
        return push

    @property
    def reference(self) -> str:
        """The image with its registry, since a repository's name may look like one."""
        return f"{DOCKER_HUB}/{self.image}"

    @property
    def cause(self) -> str:
        """The change-cause, which is the same for every webhook of one push."""
        by = f" by {self.pusher}" if self.pusher else ""
        return f"{self.image} was pushed to Docker Hub{by}"[:MAX_CAUSE_CHARACTERS]


@blueprint.post("/dockerhub/<path:token>")
def redeploy(token: str) -> Response:
    """Deploy every deployment that runs the image that was pushed to Docker Hub."""
    parts().access.check_docker_hub(token.encode())
    push = Push.from_fields(parsing.read_fields(request))
    outcomes, first_refusal = [], None
    for name in parts().deployer.configured():
        outcome, refusal = _deploy_pushed(name, push)
        outcomes += [outcome] if outcome else []
        first_refusal = first_refusal or refusal
    lines = [f"{each['deployment']}: {each['message']}" for each in outcomes]
    if first_refusal:
        return answers.error(first_refusal.status, "\n".join(lines), first_refusal.reason, deployments=outcomes)
    lines = lines or [f"nothing to do: no deployment runs {push.image}"]
    return answers.answer(200, {"deployments": outcomes}, "\n".join(f"ok: {line}" for line in lines))


def _deploy_pushed(name: str, push: Push) -> tuple[dict | None, Refusal | None]:
    try:
        report = parts().deployer.deploy_pushed(name, push.reference, push.cause)
    except DuplicateWebhook:
        return _outcome(name, "already", "already deploying, for another webhook of this push"), None
    except Refusal as refusal:
        # Docker Hub shows its users no answer, so the log must.
        log.warning("the push of %s doesn't deploy %s: %s", push.image, name, refusal, extra={"deployment": name})
        return _outcome(name, "refused", str(refusal)), refusal
    if report is None:
        return None, None
    return _outcome(name, "deploying", f"deploying, id {report.rollout.id}", report.rollout.id), None


def _outcome(name: str, outcome: str, message: str, rollout_id: str | None = None) -> dict:
    return {"deployment": name, "outcome": outcome, "id": rollout_id, "message": message}


def _host(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None


def _text(fields: dict, part: str, name: str) -> str:
    within = fields.get(part)
    value = within.get(name) if isinstance(within, dict) else None
    if not isinstance(value, str):
        raise BadRequest(f"{part}.{name} must be text; this is no webhook of Docker Hub")
    return value
