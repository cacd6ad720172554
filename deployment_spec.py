"""Make what is sent to the API server, from a manifest, a signal and the live Deployment. It makes no call itself.

Every patch is a strategic merge patch, where `$patch: replace` makes a field exactly what the patch says:
https://github.com/kubernetes/community/blob/main/contributors/devel/sig-api-machinery/strategic-merge-patch.md
"""

import copy
import json
from dataclasses import dataclass

from kubernetes.client import V1Deployment

from errors import BadRequest, NotFound, OtherImage
from manifest.annotations import CHANGE_CAUSE, RESTARTED_AT, ROLLED_BACK_TO, UNPINNED, annotations_of
from manifest.files import Manifest
from manifest.image_reference import ImageReference
from manifest.pod_template import containers, pinned, unpinned_images


@dataclass(frozen=True)
class Signal:
    """Hold what the sender asks for; `wait` is in seconds."""

    image: str | None = None
    cause: str | None = None
    dry_run: bool = False
    wait: float = 0
    rollback_on_failure: bool | None = None
    revision: int | None = None


def build(manifest: Manifest, signal: Signal, rollout_id: str, live: dict | None) -> V1Deployment | dict:
    """Make the V1Deployment to create when `live` is None, else the patch for the live Deployment.

    Raises BadRequest or OtherImage when the signal's image can't be used, and NotFound when there is no live Deployment
    and the manifest has no spec to create it from.
    """
    if manifest.body is None:
        return _patch_without_spec(manifest, signal, rollout_id, live)
    body = copy.deepcopy(manifest.body)
    template = body["spec"]["template"]
    for container in _containers_to_change(signal, template, manifest.name):
        container["image"] = signal.image
    _annotate(template, RESTARTED_AT, rollout_id)
    _annotate(body, CHANGE_CAUSE, signal.cause or f"deploy {signal.image or containers(template)[0]['image']}")
    return V1Deployment.model_validate(body) if live is None else _patch_with_spec(body, live)


def build_rollback(
    manifest: Manifest, template: dict, digests: dict, revision: int, rollout_id: str, cause: str, live: dict | None
) -> dict:
    """Make the patch that brings back the pod template of a revision, with its images pinned to digests.

    `digests` is container -> digest. Raises NotFound when there is no live Deployment.
    """
    if live is None:
        raise NotFound(f"deployment {manifest.name} isn't in namespace {manifest.namespace}")
    restored = pinned(template, digests)
    annotations = {**annotations_of(restored), RESTARTED_AT: rollout_id}
    unpinned = {
        before["name"]: before["image"]
        for before, after in zip(containers(template), containers(restored), strict=True)
        if before["image"] != after["image"]
    } | unpinned_images(template)
    annotations.pop(UNPINNED, None)
    if manifest.body is None and unpinned:
        annotations[UNPINNED] = json.dumps(unpinned)
    metadata = {key: value for key, value in restored["metadata"].items() if key != "creationTimestamp"}
    restored["metadata"] = {**metadata, "annotations": annotations}
    return {
        "metadata": {"annotations": {CHANGE_CAUSE: cause, ROLLED_BACK_TO: str(revision)}},
        "spec": {"template": {"$patch": "replace", **restored}},
    }


def images(manifest: Manifest, live: dict | None) -> list[str]:
    """Return the images that a signal without `image` would run: the manifest's, or without a spec the live ones."""
    if manifest.body is not None:
        return [container["image"] for container in containers(manifest.body["spec"]["template"])]
    if live is None:
        return []
    template = live["spec"]["template"]
    unpinned = unpinned_images(template)
    names = [unpinned.get(container["name"], container["image"]) for container in containers(template)]
    return [name for name in names if _repository(name)]


def runs_image(manifest: Manifest, live: dict | None, image: str) -> bool:
    """Tell whether the next signal without `image` would run this image: the same repository and tag, and no digest."""
    wanted = ImageReference.parse(image)
    for each in images(manifest, live):
        reference = ImageReference.parse(each, tag_required=False)
        tag = reference.tag or "latest"
        if (reference.repository, tag, reference.digest) == (wanted.repository, wanted.tag, None):
            return True
    return False


def _patch_with_spec(body: dict, live: dict) -> dict:
    body["metadata"]["annotations"][ROLLED_BACK_TO] = None
    # If the manifest doesn't set `replicas`, a HorizontalPodAutoscaler or `kubectl scale` does: keep their number.
    return {**body, "spec": {"$patch": "replace", "replicas": live["spec"].get("replicas", 1), **body["spec"]}}


def _patch_without_spec(manifest: Manifest, signal: Signal, rollout_id: str, live: dict | None) -> dict:
    if live is None:
        raise NotFound(
            f"deployment {manifest.name} isn't in namespace {manifest.namespace}, and {manifest.file} has no spec to "
            "create it from: create it with the tool that manages it, or add the spec"
        )
    template = live["spec"]["template"]
    # A rollback has pinned the images. The next signal ends that: each container gets the signal's image, or the image
    # that it had before.
    names = {each["name"] for each in containers(template)}
    wanted = {name: image for name, image in unpinned_images(template).items() if name in names}
    wanted |= {each["name"]: signal.image for each in _containers_to_change(signal, template, manifest.name)}
    pod = {}
    for field in ("containers", "initContainers"):
        changed = [
            {"name": each["name"], "image": wanted[each["name"]]}
            for each in template["spec"].get(field, [])
            if each["name"] in wanted
        ]
        pod |= {field: changed} if changed else {}
    first = containers(template)[0]
    cause = signal.cause or f"deploy {signal.image or wanted.get(first['name'], first['image'])}"
    return {
        "metadata": {"annotations": {CHANGE_CAUSE: cause, ROLLED_BACK_TO: None}},
        "spec": {"template": {"metadata": {"annotations": {RESTARTED_AT: rollout_id, UNPINNED: None}}, "spec": pod}},
    }


def _annotate(thing: dict, annotation: str, value: str) -> None:
    thing.setdefault("metadata", {}).setdefault("annotations", {})[annotation] = value


def _containers_to_change(signal: Signal, template: dict, deployment: str) -> list[dict]:
    """Return the containers that run an image of the same repository as the signal's; none if it has no image.

    Raises BadRequest when the signal's image is no image, and OtherImage when no container runs its repository.
    """
    if signal.image is None:
        return []
    try:
        repository = ImageReference.parse(signal.image).repository
    except ValueError as error:
        raise BadRequest(f"image: {error}") from None
    found = [each for each in containers(template) if _repository(each["image"]) == repository]
    if not found:
        repositories = (_repository(each["image"]) for each in containers(template))
        right = " or ".join(dict.fromkeys(filter(None, repositories)))
        raise OtherImage(f"image: {deployment} doesn't run {repository}; it may get an image of {right}")
    return found


def _repository(image: str) -> str | None:
    try:
        return ImageReference.parse(image, tag_required=False).repository
    except ValueError:
        return None  # Another tool may write any text into the live Deployment; no signal can ask for such an image.
