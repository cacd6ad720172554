"""A request in HTTP's terms and in RBAC's, and the objects that it selects."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import parse_qs, unquote, urlsplit

from .refusals import ApiError
from .store import KINDS

VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}


@dataclass
class Request:
    """One request. Where `resource` is empty, the path is none of an object's."""

    method: str
    path: str
    body: bytes = b""
    content_type: str = "application/json"
    accept: str = "application/json"
    user: str = "admin"
    client: str = ""
    verb: str = ""
    resource: str = ""
    group: str = ""
    namespace: str = ""
    name: str = ""
    status: int = 0
    query: dict[str, str] = field(default_factory=dict)
    subresource: str = ""

    def __post_init__(self):
        url = urlsplit(self.path)
        self.query = {key: values[-1] for key, values in parse_qs(url.query, keep_blank_values=True).items()}
        parts = [unquote(part) for part in url.path.strip("/").split("/")]
        if parts[:3] == ["apis", "apps", "v1"]:
            self.group, parts = "apps", parts[3:]
        elif parts[:2] == ["api", "v1"]:
            parts = parts[2:]
        else:
            parts = []
        if len(parts) > 2 and parts[0] == "namespaces":
            self.namespace, parts = parts[1], parts[2:]
        kind, self.name, self.subresource = [*parts, "", "", ""][:3]
        if kind in KINDS and (KINDS[kind][1] == "apps/v1") == (self.group == "apps"):
            self.resource = kind + (f"/{self.subresource}" if self.subresource else "")
        self.verb = VERBS.get(self.method, "get" if self.name else "list")
        if self.verb == "list" and self.query.get("watch") in ("true", "1"):
            self.verb = "watch"

    @property
    def kind(self) -> str:
        """The resource without its subresource."""
        return self.resource.partition("/")[0]

    @property
    def selected_name(self) -> str:
        """The name that a list or a watch is limited to; RBAC's rules about names hold for it too."""
        selected = re.fullmatch(r"metadata\.name==?(.+)", self.query.get("fieldSelector", ""))
        return selected[1] if selected else ""

    def matcher(self) -> Callable[[dict], bool]:
        """Return a predicate for the namespace and the selectors of a list or a watch."""
        labels = _pairs(self.query.get("labelSelector", ""))
        fields = _pairs(self.query.get("fieldSelector", ""))

        def matches(item: dict) -> bool:
            if self.namespace and item["metadata"].get("namespace") != self.namespace:
                return False
            own = item["metadata"].get("labels", {})
            if any(own.get(key) != value for key, value in labels.items()):
                return False
            return all(_value(item, path) == value for path, value in fields.items())

        return matches


def _pairs(selector: str) -> dict[str, str]:
    pairs = {}
    for part in filter(None, selector.split(",")):
        match = re.fullmatch(r"\s*([\w./-]+)\s*==?\s*([\w.-]*)\s*", part)
        if not match:
            raise ApiError(400, f"the simulated cluster knows no other selectors than KEY=VALUE: {part!r}")
        pairs[match[1]] = match[2]
    return pairs


def _value(item: dict, path: str) -> str:
    for step in path.split("."):
        item = item.get(step, {}) if isinstance(item, dict) else {}
    return item or ""
