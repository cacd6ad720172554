"""Read the Deployment in a manifest, or find every fault and name the field that it is in."""

from collections.abc import Iterator
from typing import Annotated

from kubernetes.client import V1Container, V1Deployment, V1DeploymentSpec, V1ObjectMeta, V1PodSpec, V1PodTemplateSpec
from pydantic import AfterValidator, Field, StrictStr, ValidationError, field_validator

from manifest import annotations
from manifest.image_reference import ImageReference

# https://kubernetes.io/docs/concepts/overview/working-with-objects/names/
_DNS_LABEL = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
# The API server sets these fields. `kubectl get -o yaml` writes them into a manifest, and old values make conflicts.
_SET_BY_SERVER = ("creationTimestamp", "generation", "managedFields", "resourceVersion", "selfLink", "uid")
# The values in these maps, and these fields, are of Kubernetes' type Quantity. In a manifest they are often numbers,
# while the client's models accept only text.
# https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/
_QUANTITY_MAPS = {"limits", "overhead", "requests"}
_QUANTITIES = {"divisor", "sizeLimit"} | _QUANTITY_MAPS
# The user chooses the keys in these maps, so a key there is never an unknown field.
_FREE_KEYS = {"annotations", "labels", "matchLabels", "nodeSelector", "options", "volumeAttributes"}
# A type of pydantic's errors -> what we say instead. https://docs.pydantic.dev/latest/errors/validation_errors/
_WORDS = {
    "extra_forbidden": "unknown field",
    "missing": "required, but missing",
    "string_type": "must be text; put it into quotes",
    "string_pattern_mismatch": "must be lower-case letters, digits and dashes",
    "string_too_long": "must be lower-case letters, digits and dashes",
    "too_short": "at least one is required",
    "int_type": "must be a whole number",
    "bool_type": "must be true or false",
    "list_type": "must be a list",
    "dict_type": "must hold fields",
    "model_type": "must hold fields",
}


def _check_image(image: str) -> str:
    # The API server doesn't parse the name of an image, but this service decides by it which signals it accepts.
    ImageReference.parse(image, tag_required=False)
    return image


# The models below are the client's, with what this service requires beyond them.
class _Metadata(V1ObjectMeta):
    name: Annotated[StrictStr, Field(pattern=rf"^{_DNS_LABEL}(\.{_DNS_LABEL})*$", max_length=253)]
    namespace: Annotated[StrictStr, Field(pattern=f"^{_DNS_LABEL}$")] | None = None

    @field_validator("annotations")
    @classmethod
    def _check_annotations(cls, given: dict[str, str] | None) -> dict[str, str] | None:
        # A misspelt annotation would let more workflows deploy than the operator meant to.
        ours = (key for key in given or {} if key.startswith("auto-deployer/github"))
        if unknown := [key for key in ours if key not in annotations.GITHUB]:
            raise ValueError(f"unknown {', '.join(unknown)}; there are {', '.join(annotations.GITHUB)}")
        return given


class _Container(V1Container):
    image: Annotated[StrictStr, AfterValidator(_check_image)]


class _PodSpec(V1PodSpec):
    containers: Annotated[list[_Container], Field(min_length=1)]
    init_containers: list[_Container] | None = Field(None, alias="initContainers")


class _PodTemplateSpec(V1PodTemplateSpec):
    spec: _PodSpec


class _DeploymentSpec(V1DeploymentSpec):
    template: _PodTemplateSpec


class _Deployment(V1Deployment):
    metadata: _Metadata
    spec: _DeploymentSpec = None


def read_deployment(document: object) -> V1Deployment:
    """Read the Deployment in a document, without the fields that only the API server sets; its spec may be None.

    Raises ValueError with a line for each fault, which names the field, and never a value, which may be a secret.
    """
    if not isinstance(document, dict):
        raise ValueError("must be a Deployment manifest, with apiVersion, kind and metadata")
    document = {key: value for key, value in _with_quantities(document).items() if key != "status"}
    metadata = document["metadata"] = document.get("metadata") or {}
    if isinstance(metadata, dict):
        document["metadata"] = {key: value for key, value in metadata.items() if key not in _SET_BY_SERVER}
    required = {"apiVersion": "apps/v1", "kind": "Deployment"}
    faults = [f"{field}: must be {right}" for field, right in required.items() if document.get(field) != right]
    # The client's models accept a field in Python's spelling too, but kubectl and the API server don't.
    faults += [f"{path}: unknown field" for path in _fields_in_snake_case(document)]
    try:
        deployment = _Deployment.model_validate(document)
    except ValidationError as error:
        faults += _faults_of(error)
    if faults:
        raise ValueError("\n".join(dict.fromkeys(faults)))
    return deployment


def _faults_of(error: ValidationError) -> Iterator[str]:
    # First the faults that Kubernetes would find too. The others are ValueErrors of the models above.
    for each in sorted(error.errors(include_url=False), key=lambda each: each["type"] == "value_error"):
        # An input is never shown: it may be the value of an environment variable.
        kind = "missing" if (each["type"], each["input"]) == ("string_type", None) else each["type"]
        location, words = each["loc"], _WORDS.get(kind, each["msg"].removeprefix("Value error, "))
        if location[-1] in ("int", "str"):
            # pydantic reports a field that may be a number or text twice, once for each type.
            location, words = location[:-1], "must be a whole number or text"
        yield f"{_path(location)}: {words}"


def _with_quantities(node: object, is_quantity: bool = False) -> object:
    if isinstance(node, list):
        return [_with_quantities(each) for each in node]
    if isinstance(node, dict):
        return {
            key: value if key in _FREE_KEYS else _with_quantities(value, is_quantity or key in _QUANTITIES)
            for key, value in node.items()
        }
    return str(node) if is_quantity and type(node) in (int, float) else node


def _fields_in_snake_case(node: object, location: tuple = ()) -> Iterator[str]:
    fields = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in fields:
        if "_" in str(key):
            yield _path((*location, key))
        if key not in _FREE_KEYS | _QUANTITY_MAPS:
            yield from _fields_in_snake_case(value, (*location, key))


def _path(location: tuple) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).removeprefix(".")
