"""Decodes, completes and checks what is sent, as the API server does. The client's models know all fields."""

import functools
import json

from kubernetes import client
from kubernetes.utils.quantity import parse_quantity

from .refusals import ApiError, invalid, recorded_cause
from .store import KINDS

SCALARS = {"str": (str,), "datetime": (str,), "bytes": (str,), "int": (int,), "bool": (bool,), "float": (int, float)}
QUANTITIES = {"limits", "requests", "sizeLimit", "divisor"}
NOT_A_QUANTITY = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
# The API server leaves these out when they hold their zero value; other fields keep a zero that was sent.
OMITTED_WHEN_ZERO = {"minReadySeconds", "initialDelaySeconds", "hostPort", "paused", "readOnly", "tty", "stdin"}
POD = {"restartPolicy": "Always", "terminationGracePeriodSeconds": 30, "dnsPolicy": "ClusterFirst"}
CONTAINER = {"terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File"}
PROBE = {"timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3}
POLICIES = ("Always", "IfNotPresent", "Never")
IMMUTABLE = recorded_cause("patch-immutable-selector")["message"].rpartition(": ")[2]


def decode_sent(resource: str, body, strict: bool) -> dict:
    """Return an object that was sent to be created, or raise the 400 that says why not."""
    kind, _, model = KINDS[resource]
    try:
        return _decode_strictly(model, body, strict)
    except ValueError as error:
        raise ApiError(400, f'{kind} in version "v1" cannot be handled as a {kind}: {error}') from None


def decode_patched(resource: str, patched: dict, patch, strict: bool) -> dict:
    """Return a patched object, or raise the 422 that quotes the whole patch before it says why not."""
    try:
        return _decode_strictly(KINDS[resource][2], patched, strict)
    except ValueError as error:
        message = f"Invalid value: {json.dumps(go_format(patch))}: {error}"
        raise invalid("", "", [recorded_cause("patch-unknown-field") | {"message": message}]) from None


def _decode_strictly(model: str, value, strict: bool) -> dict:
    unknown: list[str] = []
    result = decode(model, value, unknown)
    if unknown and strict:
        fields = ", ".join(f'unknown field "{path}"' for path in unknown)
        raise ValueError(f"strict decoding error: {fields}")
    return {key: item for key, item in result.items() if key not in ("kind", "apiVersion")}


def decode(kind: str, value, unknown: list[str], path: str = ""):
    """Return value as the API server keeps it, and collect the paths of unknown fields."""
    if kind == "object" or value is None:
        return value
    if path.rpartition(".")[2] in QUANTITIES:
        return {key: quantity(item) for key, item in value.items()} if isinstance(value, dict) else quantity(value)
    if type(value) not in SCALARS.get(kind, (list,) if kind.startswith("List[") else (dict,)):
        raise ValueError(f"unrecognized type: {kind}")
    if kind in SCALARS:
        return value
    if kind.startswith("List["):
        return [decode(kind[5:-1], item, unknown, f"{path}[{n}]") for n, item in enumerate(value)]
    if kind.startswith("Dict["):
        return {key: decode(kind[10:-1], item, unknown, path) or "" for key, item in value.items()}
    fields, result = fields_of(kind), {}
    for key, item in value.items():
        below = f"{path}.{key}" if path else key
        if key not in fields:
            unknown.append(below)
            continue
        item = decode(fields[key], item, unknown, below)
        empty = item in ("", [], {}) and not fields[key].startswith("V1")
        if item is not None and not empty and (item or key not in OMITTED_WHEN_ZERO):
            result[key] = item
    return result


@functools.cache
def fields_of(kind: str) -> dict[str, str]:
    """Return the JSON names and types of a model's fields."""
    model = getattr(client, kind)
    return {model.attribute_map[name]: kind for name, kind in model.openapi_types.items()}


def quantity(value) -> str:
    """Return a quantity as text. The API server also writes it in its shortest form: 1Gi for 1024Mi."""
    try:
        parse_quantity(str(value))
    except ValueError:
        raise ValueError(NOT_A_QUANTITY) from None
    return str(value)


def go_format(value) -> str:
    """Return a value as the API server quotes it in refusals of a patch."""
    if isinstance(value, dict):
        return "map[" + " ".join(f"{key}:{go_format(value[key])}" for key in sorted(value)) + "]"
    if isinstance(value, list):
        return "[" + " ".join(map(go_format, value)) + "]"
    return "<nil>" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _fill(item: dict, defaults: dict) -> None:
    for key, value in defaults.items():
        item.setdefault(key, value)


def default_deployment(deployment: dict) -> None:
    """Fill in a Deployment, in place."""
    spec = deployment.setdefault("spec", {})
    _fill(spec, {"replicas": 1, "revisionHistoryLimit": 10, "progressDeadlineSeconds": 600})
    strategy = spec.setdefault("strategy", {})
    if strategy.setdefault("type", "RollingUpdate") == "RollingUpdate":
        _fill(strategy.setdefault("rollingUpdate", {}), {"maxUnavailable": "25%", "maxSurge": "25%"})
    pod = spec.setdefault("template", {}).setdefault("spec", {})
    _fill(pod, POD)
    _fill(pod, {"securityContext": {}, "schedulerName": "default-scheduler"})
    for container in pod.get("initContainers", []) + pod.get("containers", []):
        _default_container(container)


def _default_container(container: dict) -> None:
    _fill(container, CONTAINER)
    container.setdefault("resources", {})
    container.setdefault("imagePullPolicy", pull_policy(container.get("image", "")))
    for port in container.get("ports", []):
        port.setdefault("protocol", "TCP")
    for key in {"livenessProbe", "readinessProbe", "startupProbe"} & container.keys():
        _fill(container[key], PROBE)


def pull_policy(image: str) -> str:
    """Return Always for :latest and for no tag, as long as there is no digest."""
    name, _, digest = image.partition("@")
    tag = name.rpartition("/")[2].partition(":")[2] or "latest"
    return "Always" if tag == "latest" and not digest else "IfNotPresent"


def check_deployment(deployment: dict, old: dict | None = None) -> None:
    """Raise a 422 that names everything that is wrong with a Deployment."""
    spec, pod = deployment["spec"], deployment["spec"]["template"]["spec"]
    labels, selector = spec["template"].get("metadata", {}).get("labels", {}), spec.get("selector", {})
    found = []
    if any(labels.get(key) != value for key, value in selector.get("matchLabels", {}).items()):
        found.append(_wrong("spec.template.metadata.labels", labels, "`selector` does not match template `labels`"))
    if not pod.get("containers"):
        found.append(recorded_cause("patch-no-containers"))
    for kind in ("initContainers", "containers"):
        for n, container in enumerate(pod.get(kind, [])):
            found += _check_container(f"spec.template.spec.{kind}[{n}]", container, pod)
    if old and selector != old["spec"]["selector"]:
        found.append(_wrong("spec.selector", selector, IMMUTABLE))
    if found:
        raise invalid("Deployment.apps", deployment["metadata"].get("name", ""), found)


def _check_container(path: str, container: dict, pod: dict) -> list[dict[str, str]]:
    found = []
    for n, port in enumerate(container.get("ports", [])):
        if not 0 < port["containerPort"] < 65536:
            why = "must be between 1 and 65535, inclusive"
            found.append(_wrong(f"{path}.ports[{n}].containerPort", port["containerPort"], why))
    volumes = [volume["name"] for volume in pod.get("volumes", [])]
    for n, mount in enumerate(container.get("volumeMounts", [])):
        if mount["name"] not in volumes:
            found.append(_wrong(f"{path}.volumeMounts[{n}].name", mount["name"], "", "Not found"))
    if container["imagePullPolicy"] not in POLICIES:
        why = 'supported values: "Always", "IfNotPresent", "Never"'
        found.append(_wrong(f"{path}.imagePullPolicy", container["imagePullPolicy"], why, "Unsupported value"))
    return found


def _wrong(field: str, value, why: str, what: str = "Invalid value") -> dict[str, str]:
    message = f"{what}: {json.dumps(value, separators=(',', ':'))}" + (f": {why}" if why else "")
    reasons = {"Not found": "FieldValueNotFound", "Unsupported value": "FieldValueNotSupported"}
    return {"reason": reasons.get(what, "FieldValueInvalid"), "message": message, "field": field}
