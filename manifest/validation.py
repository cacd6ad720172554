"""Whether a manifest can be deployed: every fault, with the field that it is in. Pure."""

import re
from collections.abc import Iterator

from kubernetes.client import V1Deployment
from pydantic import ValidationError

from manifest import annotations
from manifest.image_reference import ImageReference

# https://kubernetes.io/docs/concepts/overview/working-with-objects/names/
_DNS_LABEL = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
_NAMES = {"name": rf"(?=.{{1,253}}\Z){_DNS_LABEL}(\.{_DNS_LABEL})*", "namespace": _DNS_LABEL}
# What the API server sets. A manifest saved with `kubectl get -o yaml` has these fields, and stale ones make conflicts.
_SET_BY_SERVER = ("creationTimestamp", "generation", "managedFields", "resourceVersion", "selfLink", "uid")
# Fields of Kubernetes' type Quantity, and maps of them: kubectl's users write numbers, the models want text.
# https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/
_QUANTITIES, _QUANTITY_MAPS = {"divisor", "sizeLimit"}, {"limits", "overhead", "requests"}
# Maps whose keys the user chooses.
_FREE_KEYS = {"annotations", "labels", "matchLabels", "nodeSelector", "options", "volumeAttributes"} | _QUANTITY_MAPS
# Stands in where a manifest has no spec, since the model requires one.
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


def without_server_fields(document: object) -> object:
    """Return a manifest without what only the API server sets, and with every quantity as text."""
    if not isinstance(document, dict):
        return document
    own = {key: value for key, value in document.items() if key != "status"}
    if isinstance(own.get("metadata"), dict):
        own["metadata"] = {key: value for key, value in own["metadata"].items() if key not in _SET_BY_SERVER}
    if "spec" in own:
        own["spec"] = _with_quantities(own["spec"])
    return own


def problems_of(document: object) -> Iterator[str]:
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
    given = metadata.get("annotations")
    for key in given if isinstance(given, dict) else ():
        # A misspelt one would limit no workflow.
        if str(key).startswith("auto-deployer/github") and key not in annotations.GITHUB:
            yield f"metadata.annotations: unknown {key}; there are {', '.join(annotations.GITHUB)}"
    if "spec" in document:
        yield from _unknown_to_model(document)
        yield from _bad_images(document["spec"])
    else:
        yield from _unknown_to_model({**document, "spec": _ANY_SPEC})


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
