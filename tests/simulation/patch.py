"""Strategic merge patches, as far as the product sends them, and the one JSON patch that kubectl rollout undo sends."""

from .refusals import ApiError

# The field by which the elements of a list are told apart; all other lists are replaced as a whole.
BY_NAME = ("containers", "env", "imagePullSecrets", "initContainers", "volumes")
MERGE_KEYS = {"conditions": "type", "ownerReferences": "uid", "ports": "containerPort", "volumeMounts": "mountPath"}
MERGE_KEYS |= dict.fromkeys(BY_NAME, "name")


def strategic_merge(original: dict, patch: dict) -> dict:
    """Return original with the patch merged in, field by field and element by element."""
    directive = patch.get("$patch", "merge")
    if directive not in ("merge", "replace"):
        raise ApiError(500, f"unknown patch type: {directive}")
    result = {} if directive == "replace" else dict(original)
    for key, value in patch.items():
        old = result.get(key)
        if key == "$patch":
            continue
        if value is None and directive == "merge":
            result.pop(key, None)
        elif isinstance(value, dict):
            result[key] = strategic_merge(old if isinstance(old, dict) else {}, value)
        elif isinstance(value, list) and key in MERGE_KEYS:
            result[key] = merge_lists(old or [], value, MERGE_KEYS[key])
        else:
            result[key] = value
    return result


def merge_lists(original: list[dict], patch: list[dict], key: str) -> list[dict]:
    """Merge two lists whose elements are told apart by a key."""
    for item in patch:
        if key not in item:
            raise ApiError(500, f"map: does not contain declared merge key: {key}")
    places = {item.get(key): place for place, item in enumerate(original)}
    named = {item[key] for item in patch}
    rest = [item for item in original if item.get(key) not in named]
    result = []
    for item in patch:
        if item.get("$patch") == "delete":
            continue
        known = item[key] in places
        # An element that the patch doesn't name stays before a named one, if it was before that one.
        while rest and known and places[rest[0].get(key)] < places[item[key]]:
            result.append(rest.pop(0))
        result.append(strategic_merge(original[places[item[key]]] if known else {}, item))
    return result + rest


def json_patch(document: dict, operations: list[dict]) -> dict:
    """Replace the fields that a JSON patch names, in place."""
    for operation in operations:
        if operation["op"] != "replace":
            raise ApiError(422, f"the simulated cluster knows no operation {operation['op']}")
        *parents, last = operation["path"].strip("/").split("/")
        place = document
        for part in parents:
            place = place[part]
        place[last] = operation["value"]
    return document
