"""Whether this service's account may do what following a rollout needs."""

from contextlib import suppress

from cluster.api import Cluster
from cluster.watch import KINDS
from errors import Conflict, Invalid, NotFound
from manifest.files import Manifest
from rollout.ledger import Ledger
from rollout.notify import new_event
from rollout.record import new_record


def check_rights(cluster: Cluster, manifest: Manifest, live: dict) -> None:
    """Make the calls that following a rollout needs, and change nothing. Raises what the API server refuses.

    `live` is the Deployment as the API server answered a dry run.
    """
    namespace, name = manifest.namespace, manifest.name
    for kind in KINDS:
        # No object has this label; the call only tests our permission.
        only = name if kind == "deployments" else None
        listed = cluster.list_all(kind, namespace, {"auto-deployer/check": "none"}, only)
        cluster.watch(kind, namespace, listed["metadata"]["resourceVersion"], only).close()
    cluster.pod_events(namespace, name)
    with suppress(NotFound, Invalid):
        cluster.read_log(namespace, f"{name}-auto-deployer-check", name, previous=False, lines=1)
    ledger = Ledger(cluster)
    ledger.read(namespace, name)
    ledger.check_writing(namespace, name)
    event = new_event(new_record(live).rollout, live["metadata"]["uid"], "Deploying", "auto-deployer checks its rights")
    with suppress(Conflict):
        cluster.create_event(namespace, event, dry_run=True)
