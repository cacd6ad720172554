"""What a pod template says: its containers, its rollout id, its images, pinned or not. Pure."""

import json
import re
from datetime import UTC, datetime

from manifest.annotations import RESTARTED_AT, UNPINNED, annotations_of
from manifest.image_reference import ImageReference

_ID_FORMAT = "%Y%m%dT%H%M%S.%fZ"
_CONTAINER_FIELDS = ("containers", "initContainers")


def new_rollout_id() -> str:
    """Make a rollout id from the time: UTC, ISO 8601 basic, in microseconds."""
    return datetime.now(UTC).strftime(_ID_FORMAT)


def is_rollout_id(text: str | None) -> bool:
    """Tell whether a text is a rollout id as this service makes them."""
    if not re.fullmatch(r"[0-9]{8}T[0-9]{6}\.[0-9]{6}Z", text or ""):
        return False
    try:
        return bool(time_of(text))
    except ValueError:
        return False


def time_of(rollout_id: str) -> datetime:
    """Return when a rollout id was made."""
    return datetime.strptime(rollout_id, _ID_FORMAT).replace(tzinfo=UTC)


def rollout_id_of(template: dict) -> str | None:
    """Return the rollout id on a pod template, or None when it has none."""
    return annotations_of(template).get(RESTARTED_AT)


def containers(template: dict) -> list[dict]:
    """Return the containers of a pod template, the init containers after the others."""
    return [each for field in _CONTAINER_FIELDS for each in template["spec"].get(field) or []]


def image_of(template: dict, wanted: str | None) -> str:
    """Return the image that a rollout is about: the wanted one, where a container has it, else the first one's."""
    images = [container["image"] for container in containers(template)]
    return wanted if wanted in images else images[0]


def pinned(template: dict, digests: dict[str, str]) -> dict:
    """Return a pod template with the images of these containers fixed to the digests that once ran."""
    spec = dict(template["spec"])
    for field in _CONTAINER_FIELDS:
        if field in spec:
            spec[field] = [
                {**each, "image": ImageReference.pin(each["image"], digests[each["name"]])}
                if each["name"] in digests
                else each
                for each in spec[field]
            ]
    return {**template, "metadata": dict(template.get("metadata") or {}), "spec": spec}


def unpinned_images(template: dict) -> dict[str, str]:
    """Return the images that a rollback noted before it pinned them, by container; none where it noted nothing."""
    try:
        noted = json.loads(annotations_of(template)[UNPINNED])
        return {name: image for name, image in noted.items() if isinstance(image, str)}
    except (AttributeError, KeyError, ValueError):
        return {}  # No rollback noted anything, or another client overwrote the note.


def without_own_annotations(template: dict) -> dict:
    """Return a pod template without what this service writes on it, for comparison with another."""
    kept = {key: each for key, each in annotations_of(template).items() if key not in (RESTARTED_AT, UNPINNED)}
    return {**template, "metadata": {**(template.get("metadata") or {}), "annotations": kept}}


def without_hash(template: dict) -> dict:
    """Return the template of a ReplicaSet without the label that the Deployment controller adds to it."""
    metadata = template.get("metadata", {})
    labels = {key: value for key, value in metadata.get("labels", {}).items() if key != "pod-template-hash"}
    return {**template, "metadata": {**metadata, "labels": labels}}


def running_digests(template: dict, pods: list[dict]) -> tuple[dict[str, str], bool]:
    """Return which digest each container of a template runs, and whether the pods differ in that (then there is none).

    The container runtime tells the digest in `imageID`, as `REPOSITORY@sha256:…`.
    """
    found: dict[str, set[str]] = {}
    images = {each["name"]: each["image"] for each in containers(template)}
    statuses = ("initContainerStatuses", "containerStatuses")
    for container in (each for pod in pods for kind in statuses for each in pod.get("status", {}).get(kind, [])):
        name, _, digest = container.get("imageID", "").removeprefix("docker-pullable://").partition("@")
        image = images.get(container["name"])
        if digest.startswith("sha256:") and image and _same_repository(name, image):
            found.setdefault(container["name"], set()).add(digest)
    mixed = any(len(each) > 1 for each in found.values())
    return ({} if mixed else {name: each.pop() for name, each in found.items()}), mixed


def _same_repository(name: str, image: str) -> bool:
    try:
        names = (ImageReference.parse(each, tag_required=False).repository for each in (name, image))
        return len(set(names)) == 1
    except ValueError:
        return False
