"""Find every fault of a manifest, and name the field that it is in."""

import re
from collections.abc import Iterator

from kubernetes.client import V1Deployment
from pydantic import ValidationError

from manifest import annotations
from manifest.image_reference import ImageReference

# https://kubernetes.io/docs/concepts/overview/working-with-objects/names/
_DNS_LABEL = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
_NAMES = {"name": rf"(?=.{{1,253}}\Z){_DNS_LABEL}(\.{_DNS_LABEL})*", "namespace": _DNS_LABEL}
# The API server sets these fields. `kubectl get -o yaml` writes them into a manifest, and old values make conflicts.
_SET_BY_SERVER = ("creationTimestamp", "generation", "managedFields", "resourceVersion", "selfLink", "uid")
# These fields, and the values in these maps, are of Kubernetes' type Quantity. In a manifest they are often numbers,
# while the client's models accept only text.
# https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/
_QUANTITIES, _QUANTITY_MAPS = {"divisor", "sizeLimit"}, {"limits", "overhead", "requests"}
# The user chooses the keys in these maps, so a key there is never an unknown field.
_FREE_KEYS = {"annotations", "labels", "matchLabels", "nodeSelector", "options", "volumeAttributes"} | _QUANTITY_MAPS
# The client's model requires a spec. This one takes its place in a manifest without spec.
_ANY_SPEC = {"selector": {}, "template": {}}
# A type of pydantic's errors -> what we say instead. https://docs.pydantic.dev/latest/errors/validation_errors/
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
    """Return a manifest without the fields that only the API server sets, and with every quantity as text."""
    if not isinstance(document, dict):
        return document
    own = {key: value for key, value in document.items() if key != "status"}
    if isinstance(own.get("metadata"), dict):
        own["metadata"] = {key: value for key, value in own["metadata"].items() if key not in _SET_BY_SERVER}
    if "spec" in own:
        own["spec"] = _with_quantities(own["spec"])
    return own


def faults_of(document: object) -> Iterator[str]:
    """Yield each fault with the field that it is in, and never with a value, which may be a secret."""
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
        # A misspelt annotation would let more workflows deploy than the operator meant to.
        if str(key).startswith("auto-deployer/github") and key not in annotations.GITHUB:
            yield f"metadata.annotations: unknown {key}; there are {', '.join(annotations.GITHUB)}"
    if "spec" in document:
        yield from _faults_by_model(document)
        yield from _faults_of_images(document["spec"])
    else:
        yield from _faults_by_model({**document, "spec": _ANY_SPEC})


def _faults_by_model(document: dict) -> Iterator[str]:
    for path in _fields_in_snake_case(document):
        # The client's models accept a field in Python's spelling too, but kubectl and the API server don't.
        yield f"{path}: unknown field"
    try:
        V1Deployment.model_validate(document)
    except ValidationError as error:
        # The input stays out of the messages: it may be the value of an environment variable.
        seen = set()
        for each in error.errors(include_input=False, include_url=False, include_context=False):
            location, message = list(each["loc"]), _WORDS.get(each["type"], each["msg"])
            if location[-1] in ("int", "str"):
                # pydantic reports a field that may be a number or text twice, once for each type.
                location, message = location[:-1], "must be a whole number or text"
            path = _path(location)
            if path not in seen:
                seen.add(path)
                yield f"{path}: {message}"


def _faults_of_images(spec: object) -> Iterator[str]:
    # The API server doesn't parse the name of an image, but this service decides by it which signals it accepts.
    try:
        pod = spec["template"]["spec"]
        lists = {field: pod.get(field) or [] for field in ("containers", "initContainers")}
        images = [
            (f"spec.template.spec.{field}[{index}].image", container.get("image"))
            for field, containers in lists.items()
            for index, container in enumerate(containers)
        ]
    except (AttributeError, KeyError, TypeError):
        # The model has reported the wrong shape already, except for one case: it accepts a template without a spec.
        if isinstance(spec, dict) and isinstance(spec.get("template"), dict) and spec["template"].get("spec") is None:
            yield "spec.template.spec: required, but missing"
        return
    if not lists["containers"]:
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
    result = {}
    for key, value in node.items():
        if key in _QUANTITIES:
            result[key] = _as_quantity(value)
        elif key in _QUANTITY_MAPS and isinstance(value, dict):
            result[key] = {name: _as_quantity(each) for name, each in value.items()}
        else:
            result[key] = value if key in _FREE_KEYS else _with_quantities(value)
    return result


def _as_quantity(value: object) -> object:
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _fields_in_snake_case(node: object, location: tuple = ()) -> Iterator[str]:
    if isinstance(node, list):
        for index, each in enumerate(node):
            yield from _fields_in_snake_case(each, (*location, index))
    elif isinstance(node, dict):
        for key, value in node.items():
            if "_" in key:
                yield _path([*location, key])
            if key not in _FREE_KEYS:
                yield from _fields_in_snake_case(value, (*location, key))


def _path(location: list) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).removeprefix(".")
