"""The Kubernetes API as far as it is used here: what a request means and what it changes."""

from __future__ import annotations

import copy
import json
import re
from dataclasses import dataclass, field
from urllib.parse import parse_qs, unquote, urlsplit

from . import schema
from .controllers import Controllers
from .errors import ApiError
from .node import Node
from .patch import json_patch, merge_patch, strategic_merge
from .store import KINDS, Clock, Object, Store, single, suffix

USER = "system:serviceaccount:auto-deployer:auto-deployer"
VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
DISCOVERED = ["create", "delete", "get", "list", "patch", "update", "watch"]
APPS = ("deployments", "replicasets")
SHORT_NAMES = dict(zip(KINDS, ("deploy", "rs", "po", "ev", "cm", "ns"), strict=True))
FIELDS = {
    "events": ("reason", "type", "involvedObject.kind", "involvedObject.name", "involvedObject.namespace"),
    "pods": ("status.phase", "spec.nodeName", "spec.restartPolicy"),
}
FIELDS["events"] += ("involvedObject.uid", "involvedObject.fieldPath", "involvedObject.apiVersion")
CHECKS = {
    "deployments": schema.check_deployment,
    "configmaps": schema.check_config_map,
    "events": schema.check_event,
}


@dataclass
class Request:
    """One request, in HTTP's terms and in RBAC's."""

    method: str
    path: str
    body: bytes = b""
    content_type: str = "application/json"
    user: str = "admin"
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
        parts = parts[2:] if parts[:2] == ["api", "v1"] else self._grouped(parts)
        if len(parts) > 2 and parts[0] == "namespaces":
            self.namespace, parts = parts[1], parts[2:]
        kind, self.name, sub = [*parts, "", "", ""][:3]
        self.subresource = sub
        if kind in KINDS and (KINDS[kind][1] == "apps/v1") == (self.group == "apps") and len(parts) <= 3:
            self.resource = kind + (f"/{sub}" if sub else "")
        self.verb = VERBS.get(self.method, "get" if self.name else "list")
        if self.verb == "list" and self.query.get("watch") in ("true", "1"):
            self.verb = "watch"

    @property
    def selected_name(self) -> str:
        """The name that a list or a watch is limited to, which counts for RBAC."""
        selected = re.fullmatch(r"metadata\.name==?(.+)", self.query.get("fieldSelector", ""))
        return selected[1] if selected else ""

    def _grouped(self, parts: list[str]) -> list[str]:
        if parts[0] != "apis" or len(parts) < 4:
            return []
        self.group = parts[1]
        return parts[3:] if parts[2] == "v1" else []


def not_found(resource: str, name: str) -> ApiError:
    """Return the 404 for an object."""
    group = KINDS[resource][1].rpartition("/")[0]
    title = resource + (f".{group}" if group else "")
    details = {"name": name, **({"group": group} if group else {}), "kind": resource}
    return ApiError(404, f'{title} "{name}" not found', details=details)


def about(code: int, resource: str, name: str, text: str, reason: str | None = None) -> ApiError:
    """Return a refusal whose text has {title} for the object."""
    group = KINDS[resource][1].rpartition("/")[0]
    title = resource + (f".{group}" if group else "") + (f' "{name}"' if name else "")
    details = {"name": name, "group": group, "kind": resource}
    return ApiError(code, text.format(title=title), reason, {key: value for key, value in details.items() if value})


def label_matcher(selector: str):
    """Return a predicate for a label selector."""
    tests = []
    for part in re.findall(r"[^,(]+(?:\([^)]*\))?", selector):
        match = re.fullmatch(r"\s*(!?)\s*([\w./-]+)\s*(?:(==?|!=)\s*([\w.-]*)|(in|notin)\s*\(([^)]*)\))?\s*", part)
        if not match:
            raise ApiError(400, f"unable to parse requirement: {part.strip()!r}")
        absent, key, operator, value, inside, values = match.groups()
        wanted = {item.strip() for item in values.split(",")} if inside else {value}
        if operator or inside:
            tests.append((key, wanted, operator in ("=", "==") or inside == "in"))
        else:
            tests.append((key, None, not absent))

    def matches(item: dict) -> bool:
        labels = item["metadata"].get("labels", {})
        return all(
            ((key in labels) if wanted is None else (labels.get(key) in wanted)) == positive
            for key, wanted, positive in tests
        )

    return matches


def field_matcher(resource: str, selector: str):
    """Return a predicate for a field selector."""
    tests = []
    known = ("metadata.name", "metadata.namespace", *FIELDS.get(resource, ()))
    for part in filter(None, selector.split(",")):
        match = re.fullmatch(r"([\w.]+)(==?|!=)(.*)", part)
        if not match or match[1] not in known:
            names = ", ".join(f'"{name}"' for name in known)
            raise ApiError(400, f'"{match[1] if match else part}" is not a known field selector: only {names}')
        tests.append((match[1].split("."), match[3], match[2] != "!="))

    def matches(item: dict) -> bool:
        for path, wanted, positive in tests:
            value = item
            for step in path:
                value = value.get(step, {}) if isinstance(value, dict) else {}
            if ((value or "") == wanted) != positive:
                return False
        return True

    return matches


class Api:
    """Answers requests from the store, and refuses what the real one refuses."""

    def __init__(self):
        self.store, self.clock = Store(), Clock()
        self.node = Node(self.store, self.clock)
        self.controllers = Controllers(self.store, self.clock, self.admit_pod)
        self.rules = None
        self.quotas: dict[str, dict[str, tuple[str, int]]] = {}
        for name in ("default", "kube-system", "auto-deployer"):
            self.add_namespace(name)

    def add_namespace(self, name: str) -> Object:
        """Create a namespace."""
        meta = {"name": name, "labels": {"kubernetes.io/metadata.name": name}}
        item = {"metadata": meta, "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}}
        return self.store.add("namespaces", item)

    def authorize(self, request: Request) -> None:
        """Raise a 403 in RBAC's words unless a rule allows the request."""
        if request.user == "admin" or self.rules is None:
            return
        rules = self.rules.get(request.namespace, ()) if isinstance(self.rules, dict) else self.rules
        asked = (request.verb, request.resource)
        if not {asked, (*asked, request.name or request.selected_name)} & {tuple(rule) for rule in rules}:
            place = f'in the namespace "{request.namespace}"' if request.namespace else "at the cluster scope"
            what = f'resource "{request.resource}" in API group "{request.group}" {place}'
            text = f'{{title}} is forbidden: User "{request.user}" cannot {request.verb} {what}'
            raise about(403, request.resource.partition("/")[0], request.name, text)

    def answer(self, request: Request) -> tuple[int, str]:
        """Return status and body for everything but a watch."""
        if not request.resource:
            return 200, json.dumps(self.discover(request))
        self.authorize(request)
        resource = request.resource.partition("/")[0]
        if request.subresource == "log" and resource == "pods" and request.verb == "get":
            return 200, self.log(request)
        if request.subresource not in ("", "status"):
            raise ApiError(404, "the server could not find the requested resource", details={})
        with self.store.lock:
            if request.verb == "get":
                return 200, single(resource, self.existing(resource, request))
            if request.verb == "list":
                return 200, self.list(resource, request)
            if request.verb == "create" and not request.name:
                return 201, single(resource, self.create(resource, request))
            if request.verb in ("patch", "update") and request.name:
                return 200, single(resource, self.change(resource, request))
            if request.verb == "delete" and request.name:
                return 200, self.delete(resource, request)
        raise ApiError(405, "the server does not allow this method on the requested resource")

    def discover(self, request: Request) -> dict:
        """Return what kubectl asks before anything else."""
        path = urlsplit(request.path).path.rstrip("/")
        if path == "/version":
            return {"major": "1", "minor": "36", "gitVersion": "v1.36.2"}
        if path == "/api":
            return {"kind": "APIVersions", "versions": ["v1"]}
        if path == "/apis":
            version = {"groupVersion": "apps/v1", "version": "v1"}
            group = {"name": "apps", "versions": [version], "preferredVersion": version}
            return {"kind": "APIGroupList", "apiVersion": "v1", "groups": [group]}
        version = {"/api/v1": "v1", "/apis/apps/v1": "apps/v1"}.get(path)
        if not version:
            raise ApiError(404, "the server could not find the requested resource", details={})
        found = []
        for resource, (kind, api_version, _) in KINDS.items():
            if api_version == version:
                one = {"name": resource, "singularName": kind.lower(), "kind": kind, "verbs": DISCOVERED}
                one |= {"shortNames": [SHORT_NAMES[resource]], "namespaced": resource != "namespaces"}
                found.append(one | {"categories": ["all"] if resource in ("pods", *APPS) else []})
        return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": found}

    def existing(self, resource: str, request: Request) -> Object:
        """Return the object a request names, or raise a 404."""
        item = self.store.find(resource, request.namespace, request.name)
        if not item:
            raise not_found(resource, request.name)
        return item

    def matcher(self, resource: str, request: Request):
        """Return a predicate for the namespace and the selectors of a request."""
        labels = label_matcher(request.query.get("labelSelector", ""))
        fields = field_matcher(resource, request.query.get("fieldSelector", ""))
        namespace = request.namespace

        def matches(item: dict) -> bool:
            return (not namespace or item["metadata"]["namespace"] == namespace) and labels(item) and fields(item)

        return matches

    def list(self, resource: str, request: Request) -> str:
        """Return a list, at the present version."""
        asked = request.query.get("resourceVersion") or "0"
        if not asked.isdigit():
            why = f'strconv.ParseUint: parsing "{asked}": invalid syntax'
            raise ApiError(400, f'resourceVersion: Invalid value: "{asked}": {why}')
        if int(asked) > self.store.version:
            text = f"Timeout: Too large resource version: {asked}, current: {self.store.version}"
            cause = {"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}
            raise ApiError(504, text, details={"causes": [cause], "retryAfterSeconds": 1})
        if 0 < int(asked) < self.store.oldest and request.query.get("resourceVersionMatch") == "Exact":
            raise ApiError(410, "The resourceVersion for the provided list is too old.")
        matches = self.matcher(resource, request)
        texts = [item.text for item in self.store.list(resource, request.namespace) if matches(item)]
        kind, version, _ = KINDS[resource]
        head = f'{{"kind":"{kind}List","apiVersion":"{version}","metadata":{{"resourceVersion":"{self.store.version}"}}'
        return f'{head},"items":[{",".join(texts)}]}}'

    def _check_query(self, request: Request) -> bool:
        dry_run = request.query.get("dryRun", "")
        if dry_run not in ("", "All"):
            kind = f"{request.verb.capitalize()}Options"
            text = f'Unsupported value: ["{dry_run}"]: supported values: "All"'
            raise schema.invalid(
                f"{kind}.meta.k8s.io", "meta.k8s.io", kind, "", [("FieldValueNotSupported", text, "dryRun")]
            )
        return dry_run == "All"

    def _body(self, request: Request, kind: str = ""):
        if "protobuf" in request.content_type:  # kubectl tries it first, and JSON after this
            raise ApiError(415, "415: Unsupported Media Type", details={})
        try:
            return json.loads(request.body)
        except ValueError:
            if not kind:
                raise ApiError(400, "unexpected end of JSON input") from None
            text = request.body.decode(errors="replace")
            why = f"couldn't get version/kind; json parse error: unexpected end of JSON input ({text})"
            raise ApiError(400, f"the object provided is unrecognized (must be of type {kind}): {why}") from None

    def _decode(self, resource: str, request: Request) -> dict:
        kind, version, model = KINDS[resource]
        body = self._body(request, kind)
        sent = body.get("apiVersion", version) if isinstance(body, dict) else version
        if sent != version:
            text = f"the API version in the data ({sent}) does not match the expected API version ({version})"
            raise ApiError(400, text)
        if isinstance(body, dict) and body.get("kind", kind) != kind:
            why = (
                f'no kind "{body["kind"]}" is registered for version "{version}" in scheme "pkg/runtime/scheme.go:111"'
            )
            raise ApiError(400, f'{body["kind"]} in version "v1" cannot be handled as a {kind}: {why}')
        item = schema.decode_object(kind, model, body, request.query.get("fieldValidation") == "Strict")
        if (
            resource != "namespaces"
            and item.setdefault("metadata", {}).get("namespace", request.namespace) != request.namespace
        ):
            raise ApiError(400, "the namespace of the provided object does not match the namespace sent on the request")
        return item

    def create(self, resource: str, request: Request) -> Object:
        """Create an object from what was sent."""
        dry_run, item = self._check_query(request), self._decode(resource, request)
        meta = item["metadata"]
        if resource == "namespaces":
            if self.store.find(resource, "", meta["name"]):
                raise about(409, resource, meta["name"], "{title} already exists", "AlreadyExists")
            return self.add_namespace(meta["name"])
        if resource not in CHECKS:
            raise ApiError(405, "the server does not allow this method on the requested resource")
        if not self.store.find("namespaces", "", request.namespace):
            raise not_found("namespaces", request.namespace)
        meta["namespace"] = request.namespace
        if "name" not in meta and meta.get("generateName"):
            meta["name"] = meta["generateName"] + suffix()
        self._default(resource, item)
        CHECKS[resource](item)
        if self.store.find(resource, request.namespace, meta["name"]):
            raise about(409, resource, meta["name"], "{title} already exists", "AlreadyExists")
        if resource == "deployments":
            item["status"] = {}
            self._check_quota(request.namespace, resource, meta["name"], "count/deployments.apps")
        if dry_run:
            return self._rehearse(resource, item)
        return self.store.add(resource, item)

    def _default(self, resource: str, item: dict) -> None:
        if resource == "deployments":
            schema.default_deployment(item)
        if resource == "events":
            for key, value in {"firstTimestamp": None, "lastTimestamp": None, "eventTime": None}.items():
                item.setdefault(key, value)
            item |= {key: item.get(key, "") for key in ("reportingComponent", "reportingInstance")}
            item.setdefault("source", {})

    def _rehearse(self, resource: str, item: dict) -> Object:
        """Return what add() would, without storing it."""
        aside = Store()
        result = aside.add(resource, copy.deepcopy(item)).copy()
        del result["metadata"]["resourceVersion"]
        return Object(result)

    def change(self, resource: str, request: Request) -> Object:
        """Patch or update an object."""
        old, dry_run = self.existing(resource, request), self._check_query(request)
        strict = request.query.get("fieldValidation") == "Strict"
        kind, _, model = KINDS[resource]
        if request.verb == "update":
            item = self._decode(resource, request)
            item["metadata"] = {**old["metadata"], **item["metadata"]}
            if "status" in old:
                item["status"] = old["status"] if request.subresource != "status" else item.get("status", {})
        else:
            item = self._patched(model, old, request, strict)
        meta = item.setdefault("metadata", {})
        if meta.get("resourceVersion", old["metadata"]["resourceVersion"]) != old["metadata"]["resourceVersion"]:
            why = "the object has been modified; please apply your changes to the latest version and try again"
            raise about(409, resource, request.name, f"Operation cannot be fulfilled on {{title}}: {why}")
        if meta.get("name", request.name) != request.name:
            text = f"the name of the object ({meta['name']}) does not match the name on the URL ({request.name})"
            raise ApiError(400, text)
        if meta.get("namespace", request.namespace) != request.namespace:
            raise ApiError(400, "the namespace of the provided object does not match the namespace sent on the request")
        # These the server keeps, whatever a client sends.
        for key in ("name", "namespace", "creationTimestamp", "generation", "resourceVersion", "deletionTimestamp"):
            if key in old["metadata"]:
                meta[key] = old["metadata"][key]
        if meta.setdefault("uid", old["metadata"]["uid"]) != old["metadata"]["uid"]:
            cause = (
                "FieldValueInvalid",
                f"Invalid value: {schema.show(meta['uid'])}: field is immutable",
                "metadata.uid",
            )
            group = KINDS[resource][1].rpartition("/")[0]
            raise schema.invalid(kind + (f".{group}" if group else ""), group, kind, request.name, [cause])
        item["metadata"] = {key: meta[key] for key in schema.fields_of("V1ObjectMeta") if key in meta}
        if request.subresource == "status":
            item = {**old, "status": item.get("status", {})}
        elif "status" in old:
            item["status"] = old["status"]
        self._default(resource, item)
        if resource in CHECKS:
            CHECKS[resource](item, old)
        if resource == "deployments":
            notes = [side["metadata"].get("annotations") for side in (old, item)]
            if old["spec"] != item["spec"] or notes[0] != notes[1]:
                item["metadata"]["generation"] += 1
        if item == old:
            return old
        return Object(item) if dry_run else self.store.write(resource, item)

    def _patched(self, model: str, old: Object, request: Request, strict: bool) -> dict:
        patch, document = self._body(request), old.copy()
        if request.content_type == "application/json-patch+json":
            return schema.decode_patched(model, json_patch(document, patch), patch, strict)
        if request.content_type not in ("application/strategic-merge-patch+json", "application/merge-patch+json"):
            raise ApiError(415, "415: Unsupported Media Type", details={})
        if not isinstance(patch, dict):
            kind = schema.JSON_KINDS.get(type(patch), "null")
            raise ApiError(400, f"json: cannot unmarshal {kind} into Go value of type map[string]interface {{}}")
        merge = merge_patch if "/merge-patch" in request.content_type else strategic_merge
        return schema.decode_patched(model, merge(document, patch), patch, strict)

    def delete(self, resource: str, request: Request) -> str:
        """Delete an object; what it owns follows."""
        item = self.existing(resource, request)
        if resource == "pods":
            options = self._body(request) if request.body else {}
            grace = request.query.get("gracePeriodSeconds", options.get("gracePeriodSeconds"))
            self.controllers.delete_pod(request.namespace, request.name, None if grace is None else int(grace))
            return single(resource, self.store.find(resource, request.namespace, request.name) or item)
        if resource == "namespaces":
            for kind in KINDS:
                for one in self.store.list(kind, request.name):
                    self.store.remove(kind, request.name, one["metadata"]["name"])
        self.store.remove(resource, request.namespace, request.name)
        group = KINDS[resource][1].rpartition("/")[0]
        details = {"name": request.name, **({"group": group} if group else {}), "kind": resource}
        details["uid"] = item["metadata"]["uid"]
        return json.dumps(
            {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}
        )

    def log(self, request: Request) -> str:
        """Return a container's log."""
        with self.store.lock:
            pod, query = self.existing("pods", request), request.query
            lines = self.node.log(pod, query.get("container", ""), query.get("previous") in ("true", "1"))
        if "tailLines" in query:
            lines = lines[len(lines) - int(query["tailLines"]) :] if int(query["tailLines"]) < len(lines) else lines
        text = "".join(line + "\n" for line in lines)
        return text[: int(query["limitBytes"])] if "limitBytes" in query else text

    def _check_quota(self, namespace: str, resource: str, name: str, what: str) -> None:
        if what not in self.quotas.get(namespace, {}):
            return
        quota, limit = self.quotas[namespace][what]
        items = self.store.list(resource, namespace)
        used = sum(item["status"].get("phase") not in ("Succeeded", "Failed") for item in items)
        if used >= limit:
            numbers = f"requested: {what}=1, used: {what}={used}, limited: {what}={limit}"
            raise about(403, resource, name, f"{{title}} is forbidden: exceeded quota: {quota}, {numbers}")

    def admit_pod(self, namespace: str, name: str, spec: dict) -> None:
        """Refuse a pod as quota, policy and validation do when a ReplicaSet creates it."""
        for n, container in enumerate(spec["containers"]):
            image, title = container["image"], container["name"]
            if image != image.strip():
                cause = f"Invalid value: {schema.show(image)}: must not have leading or trailing whitespace"
                where = f"spec.containers[{n}].image"
                raise schema.invalid("Pod", "", "Pod", name, [("FieldValueInvalid", cause, where)])
            if "forbidden" in image.partition("@")[0]:
                why = f'allowPrivilegeEscalation != false (container "{title}" must set '
                why += "securityContext.allowPrivilegeEscalation=false)"
                raise about(
                    403, "pods", name, f'{{title}} is forbidden: violates PodSecurity "restricted:latest": {why}'
                )
        self._check_quota(namespace, "pods", name, "pods")
