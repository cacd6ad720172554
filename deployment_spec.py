"""Make what is sent to the API server, from a manifest, a signal and the live Deployment. It makes no call itself.

Every patch is a strategic merge patch, where `$patch: replace` makes a field exactly what the patch says:
https://github.com/kubernetes/community/blob/main/contributors/devel/sig-api-machinery/strategic-merge-patch.md
"""

import copy
import json
from dataclasses import dataclass
from datetime import timedelta

from kubernetes.client import V1Deployment

from errors import NotFound, OtherImage
from manifest.annotations import (
    CHANGE_CAUSE,
    RESTARTED_AT,
    ROLLED_BACK_TO,
    SIGNAL,
    UNPINNED,
    annotations_of,
    signals_of,
)
from manifest.files import Manifest
from manifest.image_reference import ImageReference, repository_of
from manifest.pod_template import (
    CONTAINER_FIELDS,
    DEFAULT_DEADLINE_SECONDS,
    containers,
    images_of,
    is_rollout_id,
    pinned,
    time_of,
    unpinned_images,
)

# A rollout that is superseded is recorded within so long, unless its process died.
MAX_UNRECORDED_SECONDS, MAX_EARLIER_SIGNALS = 60, 20


@dataclass(frozen=True)
class Signal:
    """Hold what the sender asks for; `wait` is in seconds.

    `by` says who the sender is, and `link` where the sender's run can be seen. `key` is the Idempotency-Key: it holds
    for `key_seconds`, without them as long as the rollout is recorded. `fingerprint` tells its body from another one.
    """

    image: str | None = None
    cause: str | None = None
    dry_run: bool = False
    wait: float = 0
    rollback_on_failure: bool | None = None
    revision: int | None = None
    by: str | None = None
    link: str | None = None
    key: str | None = None
    key_seconds: float | None = None
    fingerprint: str | None = None


def build(
    manifest: Manifest, signal: Signal, rollout_id: str, live: dict | None, settle_seconds: int = 0
) -> V1Deployment | dict:
    """Make the V1Deployment to create when `live` is None, else the patch for the live Deployment.

    Raises OtherImage when no container runs the signal's repository, and NotFound when there is no live Deployment
    and the manifest has no spec to create it from. `settle_seconds` is the settling time.
    """
    if manifest.body is None:
        return _patch_without_spec(manifest, signal, rollout_id, live)
    body = copy.deepcopy(manifest.body)
    template = body["spec"]["template"]
    for container in _containers_to_change(signal, template, manifest.name):
        container["image"] = signal.image
    _keep_old_pods(body["spec"], settle_seconds)
    template.setdefault("metadata", {}).setdefault("annotations", {})[RESTARTED_AT] = rollout_id
    annotations = body["metadata"].setdefault("annotations", {})
    annotations[CHANGE_CAUSE] = signal.cause or f"deploy {signal.image or containers(template)[0]['image']}"
    annotations[SIGNAL] = _noted(signal, rollout_id, live)
    if live is None:
        return V1Deployment.model_validate(body)
    annotations[ROLLED_BACK_TO] = None
    # If the manifest doesn't set `replicas`, a HorizontalPodAutoscaler or `kubectl scale` does: keep their number.
    return {**body, "spec": {"$patch": "replace", "replicas": live["spec"].get("replicas", 1), **body["spec"]}}


def build_rollback(
    manifest: Manifest, template: dict, digests: dict, revision: int, rollout_id: str, signal: Signal, live: dict | None
) -> dict:
    """Make the patch that brings back the pod template of a revision, with its images pinned to digests.

    `digests` is container -> digest. Raises NotFound when there is no live Deployment.
    """
    if live is None:
        raise NotFound(f"deployment {manifest.name} isn't in namespace {manifest.namespace}")
    restored = pinned(template, digests)
    annotations = {**annotations_of(restored), RESTARTED_AT: rollout_id}
    after = images_of(restored)
    unpinned = {name: image for name, image in images_of(template).items() if after[name] != image}
    unpinned |= unpinned_images(template)
    annotations.pop(UNPINNED, None)
    if manifest.body is None and unpinned:
        annotations[UNPINNED] = json.dumps(unpinned)
    metadata = {key: value for key, value in restored["metadata"].items() if key != "creationTimestamp"}
    restored["metadata"] = {**metadata, "annotations": annotations}
    notes = {CHANGE_CAUSE: signal.cause, ROLLED_BACK_TO: str(revision), SIGNAL: _noted(signal, rollout_id, live)}
    return {
        "metadata": {"annotations": notes},
        "spec": {"template": {"$patch": "replace", **restored}},
    }


def runs_image(manifest: Manifest, live: dict | None, image: str) -> bool:
    """Tell whether the next signal without `image` would run this image: the same repository and tag, and no digest."""
    source = manifest.body or live
    if source is None:
        return False
    template = source["spec"]["template"]
    images = images_of(template) | ({} if manifest.body else unpinned_images(template))
    references = [ImageReference.parse(each, tag_required=False) for each in images.values() if repository_of(each)]
    wanted = ImageReference.parse(image)
    found = [(each.repository, each.tag or "latest", each.digest) for each in references]
    return (wanted.repository, wanted.tag, None) in found


def _keep_old_pods(spec: dict, settle_seconds: int) -> None:
    """Let Kubernetes keep the old pods until new ones without a readiness probe have been up for the settling time.

    Without a probe a container counts as ready as soon as it starts:
    https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#min-ready-seconds
    """
    unprobed = any("readinessProbe" not in each for each in spec["template"]["spec"]["containers"])
    deadline = spec.get("progressDeadlineSeconds", DEFAULT_DEADLINE_SECONDS)
    if unprobed and "minReadySeconds" not in spec and 0 < settle_seconds < deadline:
        spec["minReadySeconds"] = settle_seconds


def _patch_without_spec(manifest: Manifest, signal: Signal, rollout_id: str, live: dict | None) -> dict:
    if live is None:
        raise NotFound(
            f"deployment {manifest.name} isn't in namespace {manifest.namespace}, and {manifest.file} has no spec to "
            "create it from: create it with the tool that manages it, or add the spec"
        )
    template = live["spec"]["template"]
    # A rollback has pinned the images. The next signal ends that: each container gets the signal's image, or the image
    # that it had before.
    changed = unpinned_images(template)
    changed |= {each["name"]: signal.image for each in _containers_to_change(signal, template, manifest.name)}
    pod = {}
    for field in CONTAINER_FIELDS:
        names = [each["name"] for each in template["spec"].get(field) or [] if each["name"] in changed]
        if names:
            pod[field] = [{"name": name, "image": changed[name]} for name in names]
    first = containers(template)[0]
    cause = signal.cause or f"deploy {signal.image or changed.get(first['name'], first['image'])}"
    annotations = {CHANGE_CAUSE: cause, ROLLED_BACK_TO: None, SIGNAL: _noted(signal, rollout_id, live)}
    return {
        "metadata": {"annotations": annotations},
        "spec": {"template": {"metadata": {"annotations": {RESTARTED_AT: rollout_id, UNPINNED: None}}, "spec": pod}},
    }


def _noted(signal: Signal, rollout_id: str, live: dict | None) -> str:
    """Write what a process needs to know of a signal that takes its rollout up, and of the signals before it."""
    names = ("image", "rollback_on_failure", "by", "link", "key", "fingerprint")
    noted = {"id": rollout_id} | {name: getattr(signal, name) for name in names}
    # Older ones are recorded by now.
    oldest = time_of(rollout_id) - timedelta(seconds=MAX_UNRECORDED_SECONDS)
    earlier = [each for each in signals_of(live) if is_rollout_id(each[0]) and time_of(each[0]) > oldest]
    return json.dumps(noted | ({"earlier": earlier[-MAX_EARLIER_SIGNALS:]} if earlier else {}))


def _containers_to_change(signal: Signal, template: dict, deployment: str) -> list[dict]:
    """Return the containers that run an image of the same repository as the signal's; none if it has no image.

    Raises OtherImage when no container runs its repository.
    """
    if signal.image is None:
        return []
    repository = ImageReference.parse(signal.image).repository
    found = [each for each in containers(template) if repository_of(each["image"]) == repository]
    if not found:
        repositories = (repository_of(each["image"]) for each in containers(template))
        right = " or ".join(dict.fromkeys(filter(None, repositories)))
        raise OtherImage(f"image: {deployment} doesn't run {repository}; it may get an image of {right}")
    return found
