"""What is deployed: a manifest file and a signal make the Deployment that is sent, stamped."""

import copy
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path

from kubernetes.client import V1Deployment
from pydantic import ValidationError

from access.passwords import WHO_MAY
from errors import BadRequest, Invalid, NotFound, OtherImage
from manifest import kubectl_yaml
from manifest.image_reference import ImageReference
from web.parsing import Signal

# On the pod template: a new value makes Kubernetes roll out even when nothing else has changed.
RESTARTED_AT = "auto-deployer/restartedAt"
# `kubectl rollout history` shows it. https://kubernetes.io/docs/reference/labels-annotations-taints/#change-cause
CHANGE_CAUSE = "kubernetes.io/change-cause"
# On the template of a rollback where no manifest says which images are meant: container -> image before it was pinned.
UNPINNED = "auto-deployer/unpinned"
# On the Deployment, for a process that finds a rollback which another one sent and couldn't record.
ROLLED_BACK_TO = "auto-deployer/rolled-back-to"
RESERVED = frozenset({"rollback", "default", "dockerhub"})
SUFFIX = ".yaml"

_STAMP_FORM = "%Y%m%dT%H%M%S.%fZ"
_POD_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
# https://kubernetes.io/docs/concepts/overview/working-with-objects/names/
_DNS_LABEL = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
_NAMES = {"name": rf"(?=.{{1,253}}\Z){_DNS_LABEL}(\.{_DNS_LABEL})*", "namespace": _DNS_LABEL}
# What the API server sets. A manifest saved with `kubectl get -o yaml` has them, and stale ones make conflicts.
_SET_BY_SERVER = ("creationTimestamp", "generation", "managedFields", "resourceVersion", "selfLink", "uid")
# Fields of Kubernetes' type Quantity, and maps of them: written as numbers by kubectl's users, strings in the models.
# https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/
_QUANTITIES, _QUANTITY_MAPS = {"divisor", "sizeLimit"}, {"limits", "overhead", "requests"}
# Maps whose keys are the user's.
_FREE_KEYS = {"annotations", "labels", "matchLabels", "nodeSelector", "options", "volumeAttributes"} | _QUANTITY_MAPS


@dataclass(frozen=True)
class Manifest:
    """Hold a manifest that was read and found good; `body` is the Deployment in it, None where it has no spec."""

    file: str
    namespace: str
    name: str
    annotations: dict[str, str]
    body: dict | None


def new_stamp() -> str:
    """Make a rollout's id from the time: UTC, ISO 8601 basic, in microseconds."""
    return datetime.now(UTC).strftime(_STAMP_FORM)


def is_stamp(text: str | None) -> bool:
    """Tell whether a text is a stamp as this service makes them."""
    if not re.fullmatch(r"[0-9]{8}T[0-9]{6}\.[0-9]{6}Z", text or ""):
        return False
    try:
        return bool(time_of(text))
    except ValueError:
        return False


def time_of(stamp: str) -> datetime:
    """Return when a stamp was made."""
    return datetime.strptime(stamp, _STAMP_FORM).replace(tzinfo=UTC)


def configured(directory: Path) -> list[str]:
    """List the names of the deployments that have a manifest. Raises NotFound when the directory can't be read."""
    try:
        # `..data` and its like belong to the mount of a ConfigMap.
        files = [path for path in directory.iterdir() if path.suffix == SUFFIX and not path.name.startswith(".")]
    except OSError as error:
        raise NotFound(f"no deployment is configured: {directory} can't be read: {error.strerror}") from None
    return sorted(path.stem for path in files)


def load(directory: Path, name: str) -> Manifest:
    """Read the manifest of a configured deployment. Raises Invalid, which names file, field and all that is wrong."""
    file = name + SUFFIX
    if name in RESERVED:
        raise Invalid(f"{file}: the name {name} is reserved; rename the file")
    try:
        content = (directory / file).read_bytes()
        namespace = _POD_NAMESPACE.read_text().strip() if _POD_NAMESPACE.is_file() else "default"
    except OSError as error:
        raise Invalid(f"{file}: can't be read: {error.strerror}") from None
    return _parsed(file, content, namespace)


def build(manifest: Manifest, signal: Signal, stamp: str, live: dict | None) -> V1Deployment | dict:
    """Make what is sent: the V1Deployment to create when `live` is None, else the strategic merge patch for `live`.

    Raises OtherImage, or NotFound where the manifest has no spec and so nothing to create.
    """
    if manifest.body is None:
        return _restamped(manifest, signal, stamp, live)
    body = copy.deepcopy(manifest.body)
    template = body["spec"]["template"]
    containers = _containers(template)
    if signal.image is not None:
        for index in _runs(signal.image, [container["image"] for container in containers], manifest.name):
            containers[index]["image"] = signal.image
    _annotate(template, RESTARTED_AT, stamp)
    _annotate(body, CHANGE_CAUSE, signal.cause or f"deploy {signal.image or containers[0]['image']}")
    return V1Deployment.model_validate(body) if live is None else _replacing(body, live)


def _annotate(thing: dict, annotation: str, value: str) -> None:
    thing.setdefault("metadata", {}).setdefault("annotations", {})[annotation] = value


def build_rollback(
    manifest: Manifest, template: dict, digests: dict, revision: int, stamp: str, cause: str, live: dict | None
) -> dict:
    """Make the strategic merge patch that brings a former pod template back, with its images pinned to the digests.

    Raises NotFound when there is no live Deployment.
    """
    if live is None:
        raise NotFound(f"deployment {manifest.name} isn't in namespace {manifest.namespace}")
    former = pinned(template, digests)
    annotations = {**former["metadata"].get("annotations", {}), RESTARTED_AT: stamp}
    unpinned = {
        container["name"]: container["image"]
        for container, now in zip(_containers(template), _containers(former), strict=True)
        if container["image"] != now["image"]
    } | _unpinned(template)
    annotations.pop(UNPINNED, None)
    if manifest.body is None and unpinned:
        annotations[UNPINNED] = json.dumps(unpinned)
    former["metadata"] = {**former["metadata"], "annotations": annotations}
    former["metadata"].pop("creationTimestamp", None)
    return {
        "metadata": {"annotations": {CHANGE_CAUSE: cause, ROLLED_BACK_TO: str(revision)}},
        "spec": {"template": {"$patch": "replace", **former}},
    }


def _unpinned(template: dict) -> dict[str, str]:
    try:
        noted = json.loads(((template.get("metadata") or {}).get("annotations") or {})[UNPINNED])
        return {name: image for name, image in noted.items() if isinstance(image, str)}
    except (AttributeError, KeyError, ValueError):
        return {}  # Nothing noted, or somebody spoiled it.


def pinned(template: dict, digests: dict[str, str]) -> dict:
    """Return a pod template with the images of these containers fixed to the digests that once ran."""
    spec = dict(template["spec"])
    for field in ("containers", "initContainers"):
        if field in spec:
            spec[field] = [
                {**each, "image": ImageReference.pin(each["image"], digests[each["name"]])}
                if each["name"] in digests
                else each
                for each in spec[field]
            ]
    return {**template, "metadata": dict(template.get("metadata") or {}), "spec": spec}


def unstamped(template: dict) -> dict:
    """Return a pod template without what this service writes on it, for comparison with another."""
    metadata = dict(template.get("metadata") or {})
    annotations = metadata.get("annotations") or {}
    metadata["annotations"] = {key: each for key, each in annotations.items() if key not in (RESTARTED_AT, UNPINNED)}
    return {**template, "metadata": metadata}


def stamp_of(template: dict) -> str | None:
    """Return the stamp on a pod template, or None when it has none."""
    return ((template.get("metadata") or {}).get("annotations") or {}).get(RESTARTED_AT)


def image_of(template: dict, wanted: str | None) -> str:
    """Return the image that a rollout is about: the wanted one, where a container has it, else the first one's."""
    images = [container["image"] for container in _containers(template)]
    return wanted if wanted in images else images[0]


def images(manifest: Manifest, live: dict | None) -> list[str]:
    """Return the images that the next signal without `image` would run: the manifest's, or else the live ones."""
    if manifest.body is not None:
        return [container["image"] for container in _containers(manifest.body["spec"]["template"])]
    if live is None:
        return []
    template = live["spec"]["template"]
    named = _unpinned(template)
    present = [named.get(container["name"], container["image"]) for container in _containers(template)]
    return [image for image in present if _repository(image)]


def _replacing(body: dict, live: dict) -> dict:
    # `$patch: replace`: the spec becomes exactly the manifest's, and a field that was taken out of it is gone.
    # https://github.com/kubernetes/community/blob/main/contributors/devel/sig-api-machinery/strategic-merge-patch.md
    # Left out of the manifest, the number is somebody else's: a HorizontalPodAutoscaler's, or that of `kubectl scale`.
    body["metadata"]["annotations"][ROLLED_BACK_TO] = None
    return {**body, "spec": {"$patch": "replace", "replicas": live["spec"].get("replicas", 1), **body["spec"]}}


def _restamped(manifest: Manifest, signal: Signal, stamp: str, live: dict | None) -> dict:
    if live is None:
        raise NotFound(
            f"deployment {manifest.name} isn't in namespace {manifest.namespace}, and {manifest.file} has no spec to "
            "create it from: create it with what manages it, or add the spec"
        )
    template, pod = live["spec"]["template"], {}
    containers = _containers(template)
    # After a rollback the images are pinned; only a signal that names one, or else the former names, end that.
    names = {each["name"] for each in containers}
    images = {name: image for name, image in _unpinned(template).items() if name in names}
    if signal.image is not None:
        for index in _runs(signal.image, [container["image"] for container in containers], manifest.name):
            images[containers[index]["name"]] = signal.image
    for field in ("containers", "initContainers"):
        changed = [
            {"name": each["name"], "image": images[each["name"]]}
            for each in template["spec"].get(field, [])
            if each["name"] in images
        ]
        pod |= {field: changed} if changed else {}
    first = images.get(containers[0]["name"], containers[0]["image"])
    return {
        "metadata": {
            "annotations": {CHANGE_CAUSE: signal.cause or f"deploy {signal.image or first}", ROLLED_BACK_TO: None}
        },
        "spec": {"template": {"metadata": {"annotations": {RESTARTED_AT: stamp, UNPINNED: None}}, "spec": pod}},
    }


def _containers(template: dict) -> list[dict]:
    return [*template["spec"]["containers"], *template["spec"].get("initContainers", [])]


def _runs(image: str, present: list[str], deployment: str) -> list[int]:
    """Find the containers whose image is of the same repository. Raises BadRequest or OtherImage."""
    try:
        repository = ImageReference.parse(image).repository
    except ValueError as error:
        raise BadRequest(f"image: {error}") from None
    repositories = [_repository(each) for each in present]
    found = [index for index, each in enumerate(repositories) if each == repository]
    if not found:
        right = " or ".join(dict.fromkeys(filter(None, repositories)))
        raise OtherImage(f"image: {deployment} doesn't run {repository}; it may get an image of {right}")
    return found


def _repository(image: str) -> str | None:
    try:
        return ImageReference.parse(image, tag_required=False).repository
    except ValueError:
        return None  # In a live Deployment of somebody else's making: no signal can mean it.


# By content: the same bytes are read into a Manifest once, and an edited file is read anew.
@lru_cache(maxsize=256)
def _parsed(file: str, content: bytes, namespace: str) -> Manifest:
    try:
        document = kubectl_yaml.load(content)
    except ValueError as error:
        raise Invalid(f"{file}: {error}") from None
    try:
        document = _own_fields(document) if isinstance(document, dict) else document
        problems = [f"{file}: {problem}" for problem in _problems(document)]
    except RecursionError:
        raise Invalid(f"{file}: is nested too deep, or an anchor in it holds itself") from None
    if problems:
        raise Invalid("\n".join(problems))
    metadata = document["metadata"]
    body = None
    if "spec" in document:
        body = V1Deployment.model_validate(document).model_dump(mode="json", by_alias=True, exclude_none=True)
    annotations = metadata.get("annotations") or {}
    return Manifest(file, metadata.get("namespace") or namespace, metadata["name"], annotations, body)


def _own_fields(document: dict) -> dict:
    own = {key: value for key, value in document.items() if key != "status"}
    if isinstance(own.get("metadata"), dict):
        own["metadata"] = {key: value for key, value in own["metadata"].items() if key not in _SET_BY_SERVER}
    if "spec" in own:
        own["spec"] = _with_quantities(own["spec"])
    return own


def _problems(document: object) -> Iterator[str]:
    """Yield all that is wrong with a manifest, each with its field and never with a value of the environment."""
    if not isinstance(document, dict):
        yield "must be a Deployment manifest, with apiVersion, kind and metadata"
        return
    for field, right in (("apiVersion", "apps/v1"), ("kind", "Deployment")):
        if document.get(field) != right:
            yield f"{field}: must be {right}"
    metadata = document.get("metadata")
    if not isinstance(metadata, dict):
        metadata = {}
    if not metadata.get("name"):
        yield "metadata.name: required, but missing"
    for field, form in _NAMES.items():
        value = metadata.get(field)
        if value is not None and not (isinstance(value, str) and re.fullmatch(form, value)):
            yield f"metadata.{field}: must be lower-case letters, digits and dashes"
    annotations = metadata.get("annotations")
    for key in annotations if isinstance(annotations, dict) else ():
        # Misspelt, it would limit nothing.
        if str(key).startswith("auto-deployer/github") and key not in WHO_MAY:
            yield f"metadata.annotations: unknown {key}; there are {', '.join(WHO_MAY)}"
    if "spec" in document:
        yield from _unknown_to_model(document)
        yield from _bad_images(document["spec"])
    else:
        yield from _unknown_to_model({**document, "spec": _ANY_SPEC})


# Stands in where a manifest has none, since the model wants one.
_ANY_SPEC = {"selector": {}, "template": {}}


# For what pydantic calls its errors: https://docs.pydantic.dev/latest/errors/validation_errors/
_WORDS = {
    "extra_forbidden": "unknown field",
    "missing": "required, but missing",
    "string_type": "must be text; put it into quotes",
    "int_type": "must be a whole number",
    "bool_type": "must be true or false",
    "list_type": "must be a list",
    "dict_type": "must hold fields",
    "model_type": "must hold fields",
}


def _unknown_to_model(document: dict) -> Iterator[str]:
    for path in _snake_case(document):
        # The models take Python's spelling of a field as well; kubectl and the API server don't.
        yield f"{path}: unknown field"
    try:
        V1Deployment.model_validate(document)
    except ValidationError as error:
        # Without the input: it may be the value of an environment variable.
        seen = set()
        for each in error.errors(include_input=False, include_url=False, include_context=False):
            location, message = list(each["loc"]), _WORDS.get(each["type"], each["msg"])
            if location[-1] in ("int", "str"):
                # A field that may be either reports twice, once for each.
                location, message = location[:-1], "must be a whole number or text"
            path = _path(location)
            if path not in seen:
                seen.add(path)
                yield f"{path}: {message}"


def _bad_images(spec: object) -> Iterator[str]:
    # Images come before the API server is asked: which signals are let in depends on them.
    try:
        pod = spec["template"]["spec"]
        lists = [(field, pod.get(field) or []) for field in ("containers", "initContainers")]
        named = [(f"spec.template.spec.{field}[{n}].image", each) for field, of in lists for n, each in enumerate(of)]
        images = [(path, each.get("image")) for path, each in named]
    except (AttributeError, KeyError, TypeError):
        # The model alone would let a template without a spec pass.
        if isinstance(spec, dict) and isinstance(spec.get("template"), dict) and spec["template"].get("spec") is None:
            yield "spec.template.spec: required, but missing"
        return  # The shape is wrong, and the model has said so.
    if not lists[0][1]:
        yield "spec.template.spec.containers: at least one is required"
    for path, image in images:
        if not image:
            yield f"{path}: required, but missing"
        elif isinstance(image, str):
            try:
                ImageReference.parse(image, tag_required=False)
            except ValueError as error:
                yield f"{path}: {error}"


def _with_quantities(node: object) -> object:
    if isinstance(node, list):
        return [_with_quantities(each) for each in node]
    if not isinstance(node, dict):
        return node
    read = {}
    for key, value in node.items():
        if key in _QUANTITIES:
            read[key] = _quantity(value)
        elif key in _QUANTITY_MAPS and isinstance(value, dict):
            read[key] = {name: _quantity(each) for name, each in value.items()}
        else:
            read[key] = value if key in _FREE_KEYS else _with_quantities(value)
    return read


def _quantity(value: object) -> object:
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _snake_case(node: object, location: tuple = ()) -> Iterator[str]:
    if isinstance(node, list):
        for index, each in enumerate(node):
            yield from _snake_case(each, (*location, index))
    elif isinstance(node, dict):
        for key, value in node.items():
            if "_" in key:
                yield _path([*location, key])
            if key not in _FREE_KEYS:
                yield from _snake_case(value, (*location, key))


def _path(location: list) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).removeprefix(".")
