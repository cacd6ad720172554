"""The webhooks of Docker Hub: POST /dockerhub/TOKEN, and what its payload says.

Docker Hub doesn't sign its webhooks, so the payload is only a hint: the service deploys what the manifest says.
https://docs.docker.com/docker-hub/repos/manage/webhooks/
"""

import logging
from dataclasses import dataclass
from urllib.parse import urlsplit

from flask import Blueprint, Response, g, request

from deployment_spec import Signal
from errors import BadRequest, NotDockerHub, Refusal
from manifest.image_reference import DOCKER_HUB, ImageReference
from rollout.duplicates import Duplicate
from web import answers
from web.parsing import MAX_CAUSE_CHARACTERS, UNPRINTABLE, read_fields
from web.parts import parts

log = logging.getLogger(__name__)
blueprint = Blueprint("webhooks", __name__)

# A push of an image for several architectures makes a webhook for each of them, all within so long.
MAX_PUSH_SECONDS = 10
HOSTS = ("hub.docker.com", "registry.hub.docker.com")


@dataclass(frozen=True)
class Push:
    """Say which image was pushed, as in `acme/web:latest`."""

    image: str
    # With its registry, since a repository's name may look like one.
    reference: str
    pusher: str

    @property
    def signal(self) -> Signal:
        """What the push asks for: a deploy, one for all webhooks of a push."""
        cause = f"{self.image} was pushed to Docker Hub" + (f" by {self.pusher}" if self.pusher else "")
        by = f"{self.pusher} on Docker Hub" if self.pusher else None
        # No sender can have this key: a header holds no line break.
        key = f"Docker Hub\n{self.image}\n{self.pusher}"
        return Signal(cause=cause[:MAX_CAUSE_CHARACTERS], by=by, key=key, key_seconds=MAX_PUSH_SECONDS)

    @classmethod
    def from_fields(cls, fields: dict) -> "Push":
        """Read a webhook's payload. Raises BadRequest with the name of the field, or NotDockerHub."""
        _check_callback(fields.get("callback_url"))
        image = f"{_text(fields, 'repository', 'repo_name')}:{_text(fields, 'push_data', 'tag')}"
        reference = f"{DOCKER_HUB}/{image}"
        try:
            ImageReference.parse(reference)
        except ValueError as error:
            raise BadRequest(f"repository.repo_name and push_data.tag: {error}") from None
        pusher = fields["push_data"].get("pusher")
        pusher = " ".join(UNPRINTABLE.sub("", pusher).split()) if isinstance(pusher, str) else ""
        return cls(image, reference, pusher[:MAX_CAUSE_CHARACTERS])


@blueprint.post("/dockerhub/<path:token>")
def redeploy(token: str) -> Response:
    """Deploy every deployment that runs the image that was pushed to Docker Hub."""
    parts().access.check_docker_hub(token.encode())
    g.has_password = True
    push = Push.from_fields(read_fields(request))
    outcomes, refusals = [], []
    for name in parts().deployer.configured():
        try:
            with parts().calling.slot():
                report = parts().deployer.deploy_pushed(name, push.reference, push.signal)
            if report:
                rollout_id = report.rollout.id
                outcomes.append(_outcome(name, "deploying", f"deploying, id {rollout_id}", rollout_id))
        except Duplicate:
            outcomes.append(_outcome(name, "already", "already deploying, for another webhook of this push"))
        except Refusal as refusal:
            # Docker Hub shows its users no answer, so the log must.
            log.warning("the push of %s doesn't deploy %s: %s", push.image, name, refusal, extra={"deployment": name})
            outcomes.append(_outcome(name, "refused", str(refusal)))
            refusals.append(refusal)
    lines = [f"{each['deployment']}: {each['message']}" for each in outcomes]
    if refusals:
        return answers.error(refusals[0].status, "\n".join(lines), refusals[0].reason, deployments=outcomes)
    lines = lines or [f"nothing to do: no deployment runs {push.image}"]
    return answers.answer(200, {"deployments": outcomes}, "\n".join(f"ok: {line}" for line in lines))


def _outcome(name: str, outcome: str, message: str, rollout_id: str | None = None) -> dict:
    return {"deployment": name, "outcome": outcome, "id": rollout_id, "message": message}


def _check_callback(url: object) -> None:
    if url is None:
        return
    if not isinstance(url, str):
        raise BadRequest("callback_url must be text")
    try:
        host = urlsplit(url).hostname
    except ValueError:
        host = None
    if url and host not in HOSTS:
        raise NotDockerHub(f"callback_url isn't at {HOSTS[0]}: Docker Hub didn't send this")


def _text(fields: dict, part: str, name: str) -> str:
    within = fields.get(part)
    value = within.get(name) if isinstance(within, dict) else None
    if not isinstance(value, str):
        raise BadRequest(f"{part}.{name} must be text; this is no webhook of Docker Hub")
    return value
