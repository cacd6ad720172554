"""The Kubernetes API as far as the product uses it: what a request means and what it changes."""

import json
from urllib.parse import urlsplit

from .admission import Admission
from .clock import Clock, random_letters
from .controllers import Controllers
from .kubelet import Kubelet
from .lists import list_page
from .patch import json_patch, strategic_merge
from .refusals import ApiError, already_exists, conflict, not_found
from .request import Request
from .schema import check_deployment, decode_patched, decode_sent, default_deployment
from .store import KINDS, Object, Store, created, single

CREATED_BY_CLIENTS = ("deployments", "pods", "configmaps", "events", "namespaces")
# The API server keeps these, whatever a client sends.
KEPT = ("name", "namespace", "uid", "creationTimestamp", "generation", "resourceVersion", "deletionTimestamp")


class Api:
    """Answers requests from the store, and refuses what a real API server refuses."""

    def __init__(self, speed: float):
        self.store, self.clock = Store(), Clock()
        self.admission = Admission(self.store)
        self.kubelet = Kubelet(self.store, self.clock, speed)
        self.controllers = Controllers(self.store, self.clock, self.admission.admit_pod)
        for name in ("default", "kube-system", "auto-deployer"):
            self.store.add("namespaces", {"metadata": {"name": name}, "status": {"phase": "Active"}})

    def answer(self, request: Request) -> tuple[int, str]:
        """Return status and body for everything but a watch."""
        if not request.resource:
            return 200, json.dumps(_discovered(urlsplit(request.path).path.rstrip("/")))
        self.admission.authorize(request)
        with self.store.lock:
            match request.verb, request.subresource, bool(request.name):
                case "get", "log", True:
                    return 200, self.log(request)
                case "get", "", True:
                    return 200, single(request.kind, self.existing(request))
                case "list", "", False:
                    return 200, list_page(self.store, request)
                case "create", "", False if request.kind in CREATED_BY_CLIENTS:
                    return 201, _shown(request, self.create(request))
                case "patch", "", True:
                    return 200, _shown(request, self.change(request))
                case "delete", "", True:
                    return 200, self.delete(request)
        raise ApiError(405, "the server does not allow this method on the requested resource")

    def existing(self, request: Request) -> Object:
        """Return the object a request names, or raise a 404."""
        item = self.store.find(request.kind, request.namespace, request.name)
        if not item:
            raise not_found(request.kind, request.group, request.name)
        return item

    def create(self, request: Request) -> Object:
        """Create an object from what was sent."""
        item = decode_sent(request.kind, _body(request), request.query.get("fieldValidation") == "Strict")
        meta = item.setdefault("metadata", {})
        if request.namespace:
            if not self.store.find("namespaces", "", request.namespace):
                raise not_found("namespaces", "", request.namespace)
            if meta.setdefault("namespace", request.namespace) != request.namespace:
                text = "the namespace of the provided object does not match the namespace sent on the request"
                raise ApiError(400, text)
        if request.kind == "deployments":
            item["status"] = {}
            default_deployment(item)
            check_deployment(item)
        if request.kind == "pods":
            item["status"] = {"phase": "Pending"}
        if "generateName" in meta:
            meta.setdefault("name", meta["generateName"] + random_letters(5))
        if self.store.find(request.kind, request.namespace, meta["name"]):
            raise already_exists(request.kind, request.group, meta["name"])
        self.admission.check_quota(request.namespace, request.kind, meta["name"])
        item = created(request.kind, item)
        return item if "dryRun" in request.query else self.store.write(request.kind, item)

    def change(self, request: Request) -> Object:
        """Patch an object."""
        old, patch = self.existing(request), _body(request)
        merge = json_patch if request.content_type == "application/json-patch+json" else strategic_merge
        strict = request.query.get("fieldValidation") == "Strict"
        item = decode_patched(request.kind, merge(old.copy(), patch), patch, strict)
        meta = item["metadata"]
        if meta.get("resourceVersion", version := old["metadata"]["resourceVersion"]) != version:
            raise conflict(request.kind, request.group, request.name)
        item["metadata"] |= {key: old["metadata"][key] for key in KEPT if key in old["metadata"]}
        if "status" in old:
            item["status"] = old["status"]
        if request.kind == "deployments":
            default_deployment(item)
            check_deployment(item, old)
            notes = [side["metadata"].get("annotations") for side in (old, item)]
            if old["spec"] != item["spec"] or notes[0] != notes[1]:
                meta["generation"] += 1
        if item == old:
            return old
        return Object(item) if "dryRun" in request.query else self.store.write(request.kind, item)

    def delete(self, request: Request) -> str:
        """Delete an object; the garbage collector deletes what it owns, and nothing outlives its namespace."""
        item = self.existing(request)
        for kind in KINDS if request.kind == "namespaces" else ():
            for one in self.store.list(kind, request.name):
                self.store.remove(kind, request.name, one["metadata"]["name"])
        self.controllers.delete(request.kind, request.namespace, request.name)
        return single(request.kind, item)

    def log(self, request: Request) -> str:
        """Return a container's log."""
        query = request.query
        lines = self.kubelet.log(self.existing(request), query.get("container", ""), query.get("previous") == "true")
        if isinstance(lines, str):
            return lines
        if "tailLines" in query:
            lines = lines[max(0, len(lines) - int(query["tailLines"])) :]
        text = "".join(line + "\n" for line in lines)
        return text[: int(query["limitBytes"])] if "limitBytes" in query else text


def _shown(request: Request, item: Object) -> str:
    if "as=PartialObjectMetadata" in request.accept:
        metadata = {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": item["metadata"]}
        return json.dumps(metadata)
    return single(request.kind, item)


def _body(request: Request) -> dict:
    try:
        return json.loads(request.body)
    except ValueError:
        raise ApiError(400, "unexpected end of JSON input") from None


def _discovered(path: str) -> dict:
    """Return what kubectl asks first, so that it can list what `make run` has deployed."""
    apps = {"name": "apps", "versions": [{"groupVersion": "apps/v1", "version": "v1"}]}
    answers = {"/version": {"major": "1", "minor": "36", "gitVersion": "v1.36.2-simulated"}}
    answers |= {
        "/api": {"kind": "APIVersions", "versions": ["v1"]},
        "/apis": {"kind": "APIGroupList", "groups": [apps]},
    }
    for path_of_group, version in {"/api/v1": "v1", "/apis/apps/v1": "apps/v1"}.items():
        resources = [
            {"name": name, "kind": kind, "namespaced": name != "namespaces", "verbs": ["get", "list"]}
            for name, (kind, api_version, _) in KINDS.items()
            if api_version == version
        ]
        answers[path_of_group] = {"kind": "APIResourceList", "groupVersion": version, "resources": resources}
    if path not in answers:
        raise ApiError(404, "the server could not find the requested resource")
    return answers[path]
