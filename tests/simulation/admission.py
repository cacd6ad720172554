"""Who may do what, and how much: RBAC's rules, quotas and the pod security policy."""

from .refusals import ApiError, named, replay
from .request import Request
from .store import KINDS, Store

ADMIN, SERVICE_ACCOUNT = "admin", "system:serviceaccount:auto-deployer:auto-deployer"


class Admission:
    """Refuses what a cluster's admin doesn't allow."""

    def __init__(self, store: Store):
        self.store = store
        # By namespace: (verb, resource) or (verb, resource, name) each. None: all is allowed.
        self.rules: dict[str, list[tuple[str, ...]]] | None = None
        self.quotas: dict[str, dict[str, tuple[str, int]]] = {}

    def authorize(self, request: Request) -> None:
        """Raise a 403 in RBAC's words unless a rule allows the request."""
        if request.user == ADMIN or self.rules is None:
            return
        asked = (request.verb, request.resource)
        if {asked, (*asked, request.name or request.selected_name)} & set(self.rules.get(request.namespace, ())):
            return
        changes = named(request.kind, request.group) | {
            ' "complete"': f' "{request.name}"' if request.name else "",
            "complete": request.name,
            '"system:serviceaccount:recordings:default"': f'"{request.user}"',
            "cannot get": f"cannot {request.verb}",
            'resource "deployments"': f'resource "{request.resource}"',
            'group "apps"': f'group "{request.group}"',
            'namespace "recordings"': f'namespace "{request.namespace}"',
        }
        raise replay("forbidden", changes)

    def check_quota(self, namespace: str, resource: str, name: str) -> None:
        """Raise a 403 when a namespace may not have one more of a kind."""
        group = KINDS[resource][1].rpartition("/")[0]
        what = f"count/{resource}.{group}" if group else resource
        if what not in self.quotas.get(namespace, {}):
            return
        quota, limit = self.quotas[namespace][what]
        items = self.store.list(resource, namespace)
        used = sum(item["status"].get("phase") not in ("Succeeded", "Failed") for item in items)
        if used < limit:
            return
        changes = named(resource, group) | {
            "one-more": name,
            "quota: none": f"quota: {quota}",
            "requested: count/deployments.apps=1": f"requested: {what}=1",
            "used: count/deployments.apps=13": f"used: {what}={used}",
            "limited: count/deployments.apps=0": f"limited: {what}={limit}",
        }
        raise replay("create-quota-exceeded", changes)

    def admit_pod(self, namespace: str, name: str, spec: dict) -> None:
        """Refuse a pod as a quota or the pod security policy does when a ReplicaSet creates it."""
        for container in spec["containers"]:
            if "forbidden" in container["image"].partition("@")[0]:
                why = f'allowPrivilegeEscalation != false (container "{container["name"]}" must set '
                why += "securityContext.allowPrivilegeEscalation=false)"
                text = f'pods "{name}" is forbidden: violates PodSecurity "restricted:latest": {why}'
                raise ApiError(403, text, details={"name": name, "kind": "pods"})
        self.check_quota(namespace, "pods", name)
