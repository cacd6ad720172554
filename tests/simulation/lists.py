"""Lists, in pages where the client asks for a limit: all pages of one list show the same version."""

import base64
import json

from .refusals import ApiError
from .request import Request
from .store import KINDS, Store

EXPIRED = (
    "The provided continue parameter is too old to display a consistent list result. You can start a new list without "
    "the continue parameter, or use the continue token in this response to retrieve the remainder of the results. "
    "Continuing with the provided token results in an inconsistent list - objects that were created, modified, or "
    "deleted between the time the first chunk was returned and now may show up in the list."
)
LATEST = -1  # the version in a token that continues with the present objects


def list_page(store: Store, request: Request) -> str:
    """Return the list that a request asks for, or its next page."""
    matches, version, start = request.matcher(), store.version, ("", "")
    everything = store.list(request.kind, request.namespace)
    if token := request.query.get("continue"):
        listed, start = _decode(token)
        if listed != LATEST:
            version, everything = listed, store.snapshots.get((listed, request.kind, request.namespace))
            if everything is None:
                error = ApiError(410, EXPIRED)
                error.status["metadata"]["continue"] = _encode(LATEST, start)
                raise error
    items = [item for item in everything if matches(item) and _key(item) >= start]
    limit, metadata = int(request.query.get("limit") or 0), {"resourceVersion": str(version)}
    if limit and len(items) > limit:
        store.snapshots[version, request.kind, request.namespace] = everything
        metadata["continue"] = _encode(version, _key(items[limit]))
        # With a selector the API server doesn't know how many objects are left.
        if not {"labelSelector", "fieldSelector"} & request.query.keys():
            metadata["remainingItemCount"] = len(items) - limit
        items = items[:limit]
    kind, api_version, _ = KINDS[request.kind]
    head = json.dumps({"kind": f"{kind}List", "apiVersion": api_version, "metadata": metadata}, separators=(",", ":"))
    return f'{head[:-1]},"items":[{",".join(item.text for item in items)}]}}'


def _key(item: dict) -> tuple[str, str]:
    return item["metadata"].get("namespace", ""), item["metadata"]["name"]


def _encode(version: int, start: tuple[str, str]) -> str:
    token = {"v": "meta.k8s.io/v1", "rv": version, "start": "/".join(start)}
    return base64.urlsafe_b64encode(json.dumps(token).encode()).decode().rstrip("=")


def _decode(token: str) -> tuple[int, tuple[str, str]]:
    try:
        content = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
        namespace, _, name = content["start"].partition("/")
        return int(content["rv"]), (namespace, name)
    except (ValueError, KeyError, TypeError) as error:
        raise ApiError(400, f"continue key is not valid: {error}") from None
