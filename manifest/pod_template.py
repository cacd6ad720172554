"""Read and change pod templates: their containers, their rollout id, and their images, pinned or not."""

import json
from datetime import UTC, datetime

from manifest.annotations import RESTARTED_AT, UNPINNED, annotations_of
from manifest.image_reference import ImageReference, repository_of

# Of a Deployment that says nothing else:
# https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#progress-deadline-seconds
DEFAULT_DEADLINE_SECONDS = 600

_ID_FORMAT = "%Y%m%dT%H%M%S.%fZ"
CONTAINER_FIELDS = ("containers", "initContainers")


def new_rollout_id() -> str:
    """Make a rollout id: the present time in UTC, in the basic format of ISO 8601, with microseconds."""
    return datetime.now(UTC).strftime(_ID_FORMAT)


def is_rollout_id(text: str | None) -> bool:
    """Tell whether this service can have made a text as a rollout id."""
    try:
        return time_of(text or "").strftime(_ID_FORMAT) == text
    except ValueError:
        return False


def time_of(rollout_id: str) -> datetime:
    """Return when a rollout id was made."""
    # Not with strptime, which takes fifty times as long: a history is full of these.
    return datetime.fromisoformat(rollout_id)


def rollout_id_of(template: dict) -> str | None:
    """Return the rollout id on a pod template, or None when it has none."""
    return annotations_of(template).get(RESTARTED_AT)


def containers(template: dict) -> list[dict]:
    """Return the containers of a pod template, with the init containers last."""
    return [each for field in CONTAINER_FIELDS for each in template["spec"].get(field) or []]


def images_of(template: dict) -> dict[str, str]:
    """Return the images of a pod template, as container -> image."""
    return {each["name"]: each["image"] for each in containers(template)}


def image_of(template: dict, wanted: str | None) -> str:
    """Return the image that a rollout is about: `wanted` if a container has it, else the first container's."""
    images = [container["image"] for container in containers(template)]
    return wanted if wanted in images else images[0]


def pinned(template: dict, digests: dict[str, str]) -> dict:
    """Return a pod template with images pinned to digests, given as container -> digest."""

    def pin(container: dict) -> dict:
        digest = digests.get(container["name"])
        return {**container, "image": ImageReference.pin(container["image"], digest)} if digest else container

    spec = template["spec"]
    changed = {field: [pin(each) for each in spec[field]] for field in CONTAINER_FIELDS if field in spec}
    return {**template, "metadata": dict(template.get("metadata") or {}), "spec": {**spec, **changed}}


def unpinned_images(template: dict) -> dict[str, str]:
    """Return what the images were called before a rollback pinned them, as container -> image; empty if none did."""
    try:
        former, present = json.loads(annotations_of(template)[UNPINNED]), images_of(template)
        return {name: image for name, image in former.items() if name in present and isinstance(image, str)}
    except (AttributeError, KeyError, ValueError):
        return {}  # The annotation is missing, or another client has overwritten it.


def without_own_annotations(template: dict) -> dict:
    """Return a pod template without the annotations that this service writes, to compare it with another one."""
    kept = {key: each for key, each in annotations_of(template).items() if key not in (RESTARTED_AT, UNPINNED)}
    return {**template, "metadata": {**(template.get("metadata") or {}), "annotations": kept}}


def comparable(template: dict, digests: dict[str, str]) -> dict:
    """Return what a pod template runs, given the digests that ran, for comparison with another.

    An image that carries a digest is compared without its tag: the container runtime ignores that.
    """
    carried = {each["name"]: each["image"].partition("@")[2] for each in containers(template) if "@" in each["image"]}
    return without_own_annotations(pinned(template, carried | digests))


def without_hash(template: dict) -> dict:
    """Return the template of a ReplicaSet without the label that the Deployment controller adds to it."""
    metadata = template.get("metadata", {})
    labels = {key: value for key, value in metadata.get("labels", {}).items() if key != "pod-template-hash"}
    return {**template, "metadata": {**metadata, "labels": labels}}


def running_digests(template: dict, pods: list[dict]) -> tuple[dict[str, str], bool]:
    """Return what runs, as container -> digest, and whether two pods run different digests; then the dict is empty.

    The container runtime reports the digest in `imageID`, as `REPOSITORY@sha256:…`.
    """
    found: dict[str, set[str]] = {}
    repositories = {name: repository_of(image) for name, image in images_of(template).items()}
    fields = ("initContainerStatuses", "containerStatuses")
    for status in (each for pod in pods for field in fields for each in pod.get("status", {}).get(field, [])):
        image, _, digest = status.get("imageID", "").removeprefix("docker-pullable://").partition("@")
        repository = repositories.get(status["name"])
        if digest.startswith("sha256:") and repository and repository_of(image) == repository:
            found.setdefault(status["name"], set()).add(digest)
    mixed = any(len(digests) > 1 for digests in found.values())
    return ({} if mixed else {name: digests.pop() for name, digests in found.items()}), mixed
