"""Docker Hub as the sender: what its webhook says, and which deployments that concerns. Pure.

Docker Hub signs nothing, so its payload is only a hint: what is deployed is what the manifest says.
https://docs.docker.com/docker-hub/repos/manage/webhooks/
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

from deployment_spec import images
from errors import BadRequest, NotDockerHub
from manifest.annotations import CHANGE_CAUSE
from manifest.files import Manifest
from manifest.image_reference import DOCKER_HUB, ImageReference
from manifest.pod_template import is_rollout_id, rollout_id_of, time_of
from rollout.record import Records
from web.parsing import LONGEST_CAUSE, printable

HOSTS = ("hub.docker.com", "registry.hub.docker.com")
# A push of an image for several architectures makes a webhook for each of them.
ALIKE = timedelta(seconds=10)


@dataclass(frozen=True)
class Push:
    """Name the image that was pushed, `acme/web:latest`, and by whom."""

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
        try:
            ImageReference.parse(f"{DOCKER_HUB}/{repository}:{tag}")
        except ValueError as error:
            raise BadRequest(f"repository.repo_name and push_data.tag: {error}") from None
        pusher = fields["push_data"].get("pusher")
        return cls(f"{repository}:{tag}", printable(pusher) if isinstance(pusher, str) else "")

    @property
    def cause(self) -> str:
        """What `kubectl rollout history` shows: the same for all webhooks of a push."""
        by = f" by {self.pusher}" if self.pusher else ""
        return f"{self.image} was pushed to Docker Hub{by}"[:LONGEST_CAUSE]

    def concerns(self, manifest: Manifest, live: dict | None) -> bool:
        """Tell whether a deployment runs the image: that repository and that tag, and not one digest of it."""
        pushed = ImageReference.parse(f"{DOCKER_HUB}/{self.image}")
        for image in images(manifest, live):
            reference = ImageReference.parse(image, tag_required=False)
            tag = reference.tag or "latest"
            if (reference.repository, tag, reference.digest) == (pushed.repository, pushed.tag, None):
                return True
        return False

    def has_begun(self, live: dict | None, records: Records) -> bool:
        """Tell whether a like webhook has begun a rollout just now, here or in another replica."""
        begun = {rollout_id for rollout_id, record in records.items() if record.cause == self.cause}
        if live and (live["metadata"].get("annotations") or {}).get(CHANGE_CAUSE) == self.cause:
            begun.add(rollout_id_of(live["spec"]["template"]))
        return any(is_rollout_id(each) and datetime.now(UTC) - time_of(each) < ALIKE for each in begun)


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
