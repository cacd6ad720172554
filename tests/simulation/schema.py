"""Decodes, defaults and checks objects as the API server does. What fields there are, the client's models know."""

import functools
import json
import re
from decimal import Decimal, InvalidOperation

from kubernetes import client

from .errors import ApiError, invalid

INT64 = {"terminationGracePeriodSeconds", "runAsUser", "runAsGroup", "fsGroup", "activeDeadlineSeconds"}
INT64 |= {"generation", "observedGeneration", "tolerationSeconds", "expirationSeconds", "deletionGracePeriodSeconds"}
QUANTITIES = {"limits", "requests", "sizeLimit", "overhead", "divisor"}
# Go leaves these out of its JSON when they hold their zero value; elsewhere a zero is a pointer's and stays.
OMITTED_WHEN_ZERO = {"minReadySeconds", "initialDelaySeconds", "hostPort", "paused", "readOnly", "tty", "stdin"}
OMITTED_WHEN_ZERO |= {"stdinOnce", "hostNetwork", "hostPID", "hostIPC"}
JSON_KINDS = {str: "string", bool: "bool", int: "number", float: "number", list: "array", dict: "object"}
REFLECT_KINDS = {str: "string", bool: "bool", int: "int64", float: "float64", list: "slice", dict: "map"}

DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
DNS_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
NOT_A_SUBDOMAIN = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and "
    "end with an alphanumeric character (e.g. 'example.com', regex used for validation is "
    r"'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)
NOT_A_LABEL = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with "
    "an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)
NOT_A_KEY = (
    "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  "
    "or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')"
)
NOT_A_QUANTITY = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"


class Mistyped(Exception):
    """A value that doesn't fit its field; Go words that differently for a whole object and for a patch."""

    def __init__(self, value, wanted: str, struct: str, path: str):
        super().__init__(path)
        self.value, self.wanted, self.struct, self.path = value, wanted, struct, path

    def in_object(self) -> str:
        """Say it as encoding/json does."""
        kind = JSON_KINDS[type(self.value)] + (f" {self.value}" if isinstance(self.value, float) else "")
        path = re.sub(r"\[\d+\]", "", self.path)
        return f"json: cannot unmarshal {kind} into Go struct field {self.struct}.{path} of type {self.wanted}"

    def in_patch(self) -> str:
        """Say it as the converter from unstructured data does."""
        kind, wanted = REFLECT_KINDS[type(self.value)], self.wanted
        if wanted.startswith("[]"):
            return f"cannot restore slice from {kind}"
        if wanted.startswith("map["):
            return f"cannot restore map from {kind}"
        if "." in wanted:
            return f"cannot restore struct from: {kind}"
        return f"cannot convert {kind} to {wanted}" if kind in ("int64", "float64") else f"unrecognized type: {wanted}"


def decode(kind: str, value, unknown: list[str], path: str = "", struct: str = ""):
    """Return value as the API server would keep it, and collect the unknown fields' paths."""
    if kind == "object":
        return value
    if value is None:
        return {} if kind.startswith("V1") and path.endswith("]") else None
    name = path.rpartition(".")[2]
    if kind.startswith("List["):
        if not isinstance(value, list):
            raise Mistyped(value, go_type(kind, name), struct, path)
        return [decode(kind[5:-1], item, unknown, f"{path}[{n}]", struct) for n, item in enumerate(value)]
    if kind.startswith("Dict["):
        if not isinstance(value, dict):
            raise Mistyped(value, go_type(kind, name), struct, path)
        if name in QUANTITIES:
            return {key: quantity(item) for key, item in value.items()}
        return {key: decode(kind[10:-1], item, unknown, path, struct) or "" for key, item in value.items()}
    if kind in SCALARS:
        if name in QUANTITIES:
            return quantity(value)
        if type(value) not in SCALARS[kind]:
            raise Mistyped(value, go_type(kind, name), struct, path)
        return value
    if not isinstance(value, dict):
        raise Mistyped(value, go_type(kind, name), struct, path)
    fields, result = fields_of(kind), {}
    struct = kind.removeprefix("Core").removeprefix("V1")
    for key, item in value.items():
        below = f"{path}.{key}" if path else key
        if key not in fields:
            unknown.append(below)
            continue
        item = decode(fields[key], item, unknown, below, struct)
        scalar = fields[key] in SCALARS
        if item is None or item == "" or (key in OMITTED_WHEN_ZERO and not item):
            continue
        if scalar or item or not fields[key].startswith(("List[", "Dict[")):
            result[key] = item
    return result


SCALARS = {"str": (str,), "datetime": (str,), "bytes": (str,), "int": (int,), "bool": (bool,), "float": (int, float)}


@functools.cache
def fields_of(kind: str) -> dict[str, str]:
    """Return the JSON names and types of a model's fields."""
    model = getattr(client, kind)
    return {model.attribute_map[name]: kind for name, kind in model.openapi_types.items()}


def go_type(kind: str, name: str) -> str:
    """Translate a model's type into Go's name for it."""
    if kind.startswith("List["):
        return "[]" + go_type(kind[5:-1], name)
    if kind.startswith("Dict["):
        return "map[string]" + go_type(kind[10:-1], name)
    if kind == "int":
        return "int64" if name in INT64 else "int32"
    return {"str": "string", "datetime": "string", "bytes": "string", "float": "float64"}.get(kind) or (
        kind if kind == "bool" else "v1." + kind.removeprefix("Core").removeprefix("V1")
    )


def quantity(value) -> str:
    """Return the canonical form of a quantity: 0.5 is 500m, 1024Mi is 1Gi."""
    match = re.fullmatch(r"([+-]?[0-9.]+)([eE][-+]?[0-9]+|[numkMGTPE]|[KMGTPE]i)?", str(value))
    try:
        number, suffix = Decimal(match[1]), match[2] or ""
    except (TypeError, InvalidOperation):
        raise ValueError(NOT_A_QUANTITY) from None
    if suffix.endswith("i"):
        power = "KMGTPE".index(suffix[0]) + 1
        if number == number.to_integral_value():
            while number and number % 1024 == 0 and power < 6:
                number, power = number / 1024, power + 1
            return f"{int(number)}{'KMGTPE'[power - 1]}i"
        number, suffix = number * 1024**power, ""
    scales = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"]
    if suffix[:1] in ("e", "E") and len(suffix) > 1:
        number, suffix = number * Decimal(10) ** int(suffix[1:]), ""
    power = scales.index(suffix)
    while number != number.to_integral_value() and power > 0:
        number, power = number * 1000, power - 1
    while number and number % 1000 == 0 and power < len(scales) - 1:
        number, power = number / 1000, power + 1
    return f"{int(number)}{scales[power] if number else ''}"


def default_deployment(deployment: dict) -> None:
    """Fill in what a Deployment leaves out, in place."""
    spec = deployment.setdefault("spec", {})
    spec.setdefault("replicas", 1)
    strategy = spec.setdefault("strategy", {})
    if strategy.setdefault("type", "RollingUpdate") == "RollingUpdate":
        rolling = strategy.setdefault("rollingUpdate", {})
        rolling.setdefault("maxUnavailable", "25%")
        rolling.setdefault("maxSurge", "25%")
    spec.setdefault("revisionHistoryLimit", 10)
    spec.setdefault("progressDeadlineSeconds", 600)
    default_pod(spec.setdefault("template", {}).setdefault("spec", {}))


def default_pod(spec: dict) -> None:
    """Fill in what a pod's spec leaves out, in place."""
    defaults = {"restartPolicy": "Always", "terminationGracePeriodSeconds": 30, "dnsPolicy": "ClusterFirst"}
    for key, value in (defaults | {"securityContext": {}, "schedulerName": "default-scheduler"}).items():
        spec.setdefault(key, value)
    account = spec.get("serviceAccountName") or spec.get("serviceAccount")
    if account:
        spec["serviceAccountName"] = spec["serviceAccount"] = account
    for container in spec.get("initContainers", []) + spec.get("containers", []):
        container.setdefault("resources", {})
        container.setdefault("terminationMessagePath", "/dev/termination-log")
        container.setdefault("terminationMessagePolicy", "File")
        if container.get("image"):
            container.setdefault("imagePullPolicy", pull_policy(container["image"]))
        for port in container.get("ports", []):
            port.setdefault("protocol", "TCP")
        for variable in container.get("env", []):
            if "fieldRef" in variable.get("valueFrom", {}):
                variable["valueFrom"]["fieldRef"].setdefault("apiVersion", "v1")
        for key in ("livenessProbe", "readinessProbe", "startupProbe"):
            if key in container:
                for name, value in PROBE.items():
                    container[key].setdefault(name, value)
        actions = [container.get(key, {}) for key in ("livenessProbe", "readinessProbe", "startupProbe")]
        for action in actions + list(container.get("lifecycle", {}).values()):
            if "httpGet" in action:
                action["httpGet"].setdefault("path", "/")
                action["httpGet"].setdefault("scheme", "HTTP")
    for volume in spec.get("volumes", []):
        for kind in ("configMap", "secret", "projected", "downwardAPI"):
            if kind in volume:
                volume[kind].setdefault("defaultMode", 420)
        for item in volume.get("downwardAPI", {}).get("items", []):
            item.get("fieldRef", {}).setdefault("apiVersion", "v1")
        if "hostPath" in volume:
            volume["hostPath"].setdefault("type", "")


PROBE = {"timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3}


def pull_policy(image: str) -> str:
    """Return Always for :latest and for no tag, as long as there is no digest."""
    name, _, digest = image.partition("@")
    tag = name.rpartition("/")[2].partition(":")[2] or "latest"
    return "Always" if tag == "latest" and not digest else "IfNotPresent"


def show(value) -> str:
    """Return a value as the API server quotes it."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


class Findings(list):
    """What validation found, as (reason, message, field)."""

    def required(self, field: str, why: str = ""):
        """Note a field that must not be empty."""
        self.append(("FieldValueRequired", "Required value" + (f": {why}" if why else ""), field))

    def invalid(self, field: str, value, why: str):
        """Note a value that is no good."""
        self.append(("FieldValueInvalid", f"Invalid value: {show(value)}: {why}", field))

    def one_of(self, field: str, value, *allowed: str):
        """Note a value that isn't one of those allowed."""
        if value not in allowed:
            message = f"Unsupported value: {show(value)}: supported values: {', '.join(map(show, allowed))}"
            self.append(("FieldValueNotSupported", message, field))


def check_name(found: Findings, name: str) -> None:
    """Check a name for the form that most kinds ask of it."""
    if not name:
        found.required("metadata.name", "name or generateName is required")
    elif len(name) > 253 or not DNS_SUBDOMAIN.fullmatch(name):
        found.invalid("metadata.name", name, NOT_A_SUBDOMAIN)


def check_deployment(deployment: dict, old: dict | None = None) -> None:
    """Raise a 422 that names everything that is wrong with a Deployment."""
    found, spec = Findings(), deployment["spec"]
    name = deployment["metadata"].get("name", "")
    check_name(found, name)
    for field in ("replicas", "minReadySeconds", "revisionHistoryLimit"):
        if spec.get(field, 0) < 0:
            found.invalid(f"spec.{field}", spec[field], "must be greater than or equal to 0")
    selector, labels = spec.get("selector"), spec["template"].get("metadata", {}).get("labels")
    wanted = (selector or {}).get("matchLabels", {})
    if selector is None:
        found.required("spec.selector")
    elif not wanted and not selector.get("matchExpressions"):
        found.invalid("spec.selector", selector, "empty selector is invalid for deployment")
    if selector is None or any((labels or {}).get(key) != value for key, value in wanted.items()):
        found.invalid("spec.template.metadata.labels", labels, "`selector` does not match template `labels`")
    check_pod(found, spec["template"]["spec"])
    strategy, rolling = spec["strategy"], spec["strategy"].get("rollingUpdate")
    found.one_of("spec.strategy.type", strategy["type"], "Recreate", "RollingUpdate")
    if strategy["type"] == "Recreate" and rolling:
        why = "Forbidden: may not be specified when strategy `type` is 'Recreate'"
        found.append(("FieldValueForbidden", why, "spec.strategy.rollingUpdate"))
    elif rolling and all(rolling[key] in (0, "0%") for key in ("maxSurge", "maxUnavailable")):
        why = "may not be 0 when `maxSurge` is 0"
        found.invalid("spec.strategy.rollingUpdate.maxUnavailable", rolling["maxUnavailable"], why)
    if spec["progressDeadlineSeconds"] <= spec.get("minReadySeconds", 0):
        why = "must be greater than minReadySeconds"
        found.invalid("spec.progressDeadlineSeconds", spec["progressDeadlineSeconds"], why)
    if old and selector != old["spec"]["selector"]:
        found.invalid("spec.selector", selector, "field is immutable")
    if found:
        raise invalid("Deployment.apps", "apps", "Deployment", name, found)


def check_pod(found: Findings, spec: dict) -> None:
    """Check what a pod template's spec must have."""
    path = "spec.template.spec"
    volumes, names = {volume.get("name") for volume in spec.get("volumes", [])}, set()
    for n, volume in enumerate(spec.get("volumes", [])):
        for kind in [key for key in volume if key != "name"][1:]:
            why = "Forbidden: may not specify more than 1 volume type"
            found.append(("FieldValueForbidden", why, f"{path}.volumes[{n}].{kind}"))
    if not spec.get("containers"):
        found.required(f"{path}.containers")
    for kind in ("initContainers", "containers"):
        for n, container in enumerate(spec.get(kind, [])):
            check_container(found, f"{path}.{kind}[{n}]", container, names, volumes)
    found.one_of(f"{path}.restartPolicy", spec["restartPolicy"], "Always")


def check_container(found: Findings, path: str, container: dict, names: set, volumes: set) -> None:
    """Check one container; names are those of the containers before it."""
    name = container.get("name", "")
    if not name:
        found.required(f"{path}.name")
    elif len(name) > 63 or not DNS_LABEL.fullmatch(name):
        found.invalid(f"{path}.name", name, NOT_A_LABEL)
    elif name in names:
        found.append(("FieldValueDuplicate", f"Duplicate value: {show(name)}", f"{path}.name"))
    names.add(name)
    if not container.get("image"):
        found.required(f"{path}.image")
    for n, port in enumerate(container.get("ports", [])):
        number = port.get("containerPort", 0)
        if not number:
            found.required(f"{path}.ports[{n}].containerPort")
        elif not 0 < number < 65536:
            found.invalid(f"{path}.ports[{n}].containerPort", number, "must be between 1 and 65535, inclusive")
    for n, variable in enumerate(container.get("env", [])):
        if not variable.get("name"):
            found.required(f"{path}.env[{n}].name")
    for n, mount in enumerate(container.get("volumeMounts", [])):
        if mount.get("name") not in volumes:
            where = f"{path}.volumeMounts[{n}].name"
            found.append(("FieldValueNotFound", f"Not found: {show(mount.get('name', ''))}", where))
    if "imagePullPolicy" in container:
        policy = container["imagePullPolicy"]
        found.one_of(f"{path}.imagePullPolicy", policy, "Always", "IfNotPresent", "Never")


def check_config_map(config_map: dict, old: dict | None = None) -> None:
    """Raise a 422 for a bad name, a bad key, or too much data."""
    found, data = Findings(), config_map.get("data", {})
    name = config_map["metadata"].get("name", "")
    check_name(found, name)
    for key in data:
        if not re.fullmatch(r"[-._a-zA-Z0-9]+", key):
            found.invalid(f"data[{key}]", key, NOT_A_KEY)
    if sum(len(text.encode()) for text in data.values()) > 1048576:
        found.append(("FieldValueTooLong", "Too long: may not be more than 1048576 bytes", "[]"))
    if found:
        raise invalid("ConfigMap", "", "ConfigMap", name, found)


def check_event(event: dict, old: dict | None = None) -> None:
    """Raise a 422 for an event about an object of another namespace."""
    about, name = event.get("involvedObject", {}).get("namespace", ""), event["metadata"].get("name", "")
    if about != event["metadata"]["namespace"]:
        found = Findings()
        found.invalid("involvedObject.namespace", about, "does not match event.namespace")
        raise invalid("Event", "", "Event", name, found)


def decode_object(kind: str, model: str, body: dict, strict: bool) -> dict:
    """Return an object as sent for create or update, or raise the 400 that says why not."""
    unknown: list[str] = []
    try:
        result = decode(model, body, unknown)
    except (Mistyped, ValueError) as error:
        why = error.in_object() if isinstance(error, Mistyped) else str(error)
        raise ApiError(400, f'{kind} in version "v1" cannot be handled as a {kind}: {why}') from None
    if unknown and strict:
        why = "strict decoding error: " + ", ".join(f'unknown field "{path}"' for path in unknown)
        raise ApiError(400, f'{kind} in version "v1" cannot be handled as a {kind}: {why}')
    return result


def decode_patched(model: str, patched: dict, patch, strict: bool) -> dict:
    """Return a patched object, or raise the 422 that quotes the whole patch before it says why not."""
    unknown: list[str] = []
    try:
        result = decode(model, patched, unknown)
        if not unknown or not strict:
            return result
        why = "strict decoding error: " + ", ".join(f'unknown field "{path}"' for path in sorted(unknown))
    except (Mistyped, ValueError) as error:
        why = error.in_patch() if isinstance(error, Mistyped) else str(error)
    quoted = f"Invalid value: {show(go_format(patch))}: {why}"
    raise invalid("", "", "", "", [("FieldValueInvalid", quoted, "patch")])


def go_format(value) -> str:
    """Return a value as Go's fmt prints it."""
    if isinstance(value, dict):
        return "map[" + " ".join(f"{key}:{go_format(value[key])}" for key in sorted(value)) + "]"
    if isinstance(value, list):
        return "[" + " ".join(map(go_format, value)) + "]"
    if value is None:
        return "<nil>"
    return str(value).lower() if isinstance(value, bool) else str(value)
