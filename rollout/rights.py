"""Whether this service's account may do what following a rollout needs."""

from contextlib import suppress

from cluster.api import Cluster
from cluster.watch import KINDS
from errors import Invalid, NotFound
from manifest.files import Manifest
from rollout.ledger import Ledger


def check_rights(cluster: Cluster, manifest: Manifest) -> None:
    """Make the calls that following a rollout needs. Raises what the API server refuses."""
    namespace, name = manifest.namespace, manifest.name
    for kind in KINDS:
        # No object has this label; the call only tests our permission.
        only = name if kind == "deployments" else None
        listed = cluster.list_all(kind, namespace, {"auto-deployer/check": "none"}, only)
        cluster.watch(kind, namespace, listed["metadata"]["resourceVersion"], only).close()
    cluster.pod_events(namespace, name)
    with suppress(NotFound, Invalid):
        cluster.read_log(namespace, f"{name}-auto-deployer-check", name, previous=False, lines=1)
    Ledger(cluster).read(namespace, name)
