"""The patches of Kubernetes: strategic merge, merge (RFC 7386) and JSON patch (RFC 6902)."""

from .errors import ApiError
from .schema import go_format

# By what the elements of a list are told apart; all other lists are replaced as a whole.
MERGE_KEYS = {
    "conditions": "type",
    "containers": "name",
    "env": "name",
    "ephemeralContainers": "name",
    "hostAliases": "ip",
    "imagePullSecrets": "name",
    "initContainers": "name",
    "ownerReferences": "uid",
    "ports": "containerPort",
    "resourceClaims": "name",
    "schedulingGates": "name",
    "topologySpreadConstraints": "topologyKey",
    "volumeDevices": "devicePath",
    "volumeMounts": "mountPath",
    "volumes": "name",
}
ORDER, PRIMITIVES = "$setElementOrder/", "$deleteFromPrimitiveList/"


def strategic_merge(original: dict, patch: dict) -> dict:
    """Return original with the patch merged in, field by field and element by element."""
    directive = patch.get("$patch")
    if directive == "replace":
        return {key: value for key, value in patch.items() if key != "$patch"}
    if directive == "delete":
        return {}
    if directive not in (None, "merge"):
        raise ApiError(500, f"unknown patch type: {directive} in map: {go_format(patch)}")
    result = dict(original)
    if "$retainKeys" in patch:
        result = {key: value for key, value in result.items() if key in patch["$retainKeys"]}
    for key, value in patch.items():
        if key.startswith(PRIMITIVES):
            field = key.removeprefix(PRIMITIVES)
            result[field] = [item for item in result.get(field, []) if item not in value]
        if key.startswith("$"):
            continue
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict):
            old = result.get(key)
            result[key] = strategic_merge(old if isinstance(old, dict) else {}, value)
        elif isinstance(value, list) and key in MERGE_KEYS:
            old = result.get(key)
            result[key] = merge_lists(old if isinstance(old, list) else [], value, MERGE_KEYS[key])
        elif key == "finalizers":
            result[key] = list(dict.fromkeys(result.get(key, []) + value))
        else:
            result[key] = value
        if ORDER + key in patch and key in MERGE_KEYS:
            wanted = [element.get(MERGE_KEYS[key]) for element in patch[ORDER + key]]
            known = [element for element in result[key] if element.get(MERGE_KEYS[key]) in wanted]
            rest = [element for element in result[key] if element not in known]
            result[key] = sorted(known, key=lambda element: wanted.index(element[MERGE_KEYS[key]])) + rest
    return result


def merge_lists(original: list, patch: list, key: str) -> list:
    """Merge two lists of maps whose elements are told apart by a key."""
    if any(isinstance(item, dict) and item.get("$patch") == "replace" and key not in item for item in patch):
        return [item for item in patch if "$patch" not in item]
    for item in patch:
        if not isinstance(item, dict) or key not in item:
            raise ApiError(500, f"map: {go_format(item)} does not contain declared merge key: {key}")
    places = {item.get(key): place for place, item in enumerate(original)}
    named = {item[key] for item in patch}
    rest = [item for item in original if item.get(key) not in named]
    result = []
    for item in patch:
        if item.get("$patch") == "delete":
            continue
        known = item[key] in places
        # What the patch doesn't name keeps its place before what it does name, where it had one.
        while rest and known and places[rest[0].get(key)] < places[item[key]]:
            result.append(rest.pop(0))
        result.append(strategic_merge(original[places[item[key]]] if known else {}, item))
    return result + rest


def merge_patch(original, patch):
    """Return original with an RFC 7386 patch applied."""
    if not isinstance(patch, dict):
        return patch
    result = dict(original) if isinstance(original, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge_patch(result.get(key), value)
    return result


def json_patch(document, operations: list):
    """Apply an RFC 6902 patch (add, remove, replace, test), in place."""
    for operation in operations:
        *parents, last = [part.replace("~1", "/").replace("~0", "~") for part in operation["path"].split("/")[1:]]
        place = document
        try:
            for part in parents:
                place = place[int(part) if isinstance(place, list) else part]
            if isinstance(place, list):
                last = len(place) if last == "-" else int(last)
            if operation["op"] == "add" and isinstance(place, list):
                place.insert(last, operation["value"])
            elif operation["op"] == "remove":
                del place[last]
            elif operation["op"] == "test":
                if place[last] != operation["value"]:
                    raise KeyError(last)
            else:
                if operation["op"] == "replace":
                    place[last]
                place[last] = operation["value"]
        except (KeyError, IndexError, ValueError, TypeError):
            why = f"{operation.get('op')} operation does not apply: doc is missing path: {operation['path']}"
            raise ApiError(422, f"the server rejected our request due to an error in our request: {why}") from None
    return document
