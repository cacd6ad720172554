"""What a signal does: a manifest is read, sent to the cluster, and its rollout followed."""

import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from kubernetes.client import V1Deployment

import deployment_spec
from cluster.api import Cluster
from deployment_spec import Signal
from errors import Invalid, NotFound
from manifest import files
from manifest.files import Manifest
from manifest.pod_template import new_rollout_id
from rollout.follower import Follower
from rollout.model import Phase, Rollout
from rollout.monitor import Monitor
from rollout.record import new_record
from rollout.rights import check_rights
from settings import Settings
from web.webhooks import Push

log = logging.getLogger(__name__)


class Repeated(Exception):
    """A like webhook has begun the rollout that this one asks for."""


class Deployer:
    """Deploy what is configured."""

    def __init__(self, cluster: Cluster, settings: Settings, monitor: Monitor) -> None:
        self._cluster, self._settings, self._monitor = cluster, settings, monitor

    def configured(self) -> list[str]:
        """List the names of the deployments that have a manifest. Raises NotFound when there is no way to know."""
        return files.configured(self._settings.deployments_dir)

    def load(self, name: str) -> Manifest:
        """Read the manifest of a configured deployment. Raises Invalid."""
        return files.load(self._settings.deployments_dir, name)

    def loadable(self) -> list[tuple[str, Manifest]]:
        """Read all manifests that can be read: /check and each signal say what is wrong with the others."""
        found = []
        with suppress(NotFound):
            for name in self.configured():
                with suppress(Invalid):
                    found.append((name, self.load(name)))
        return found

    def deploy(self, name: str, signal: Signal) -> Follower:
        """Deploy; return who follows the rollout. Raises a Refusal."""
        manifest = self.load(name)
        return self._begin(name, manifest, signal, self._apply(manifest, signal))

    def rehearse(self, name: str, signal: Signal) -> Rollout:
        """Let the API server check it all and change nothing. Raises a Refusal."""
        live = self._apply(self.load(name), replace(signal, dry_run=True))
        rollout = new_record(live, signal.image).rollout
        message = "dry run: the API server accepts it all, and nothing was changed"
        return rollout.replace(phase=Phase.COMPLETE, message=message, finished_at=rollout.started_at)

    def roll_back(self, name: str, signal: Signal) -> Follower:
        """Go back to what ran before, or to a revision; return who follows the rollout. Raises a Refusal."""
        return self._monitor.roll_back(name, self.load(name), signal.revision, signal.cause)

    def check(self, name: str) -> None:
        """Try all that a deploy needs, as a dry run. Raises the Refusal that a signal would get."""
        self.rehearse(name, Signal())
        check_rights(self._cluster, self.load(name))

    def deploy_pushed(self, name: str, push: Push) -> Follower | None:
        """Deploy what was pushed to Docker Hub; return who follows the rollout, None if the deployment runs none of it.

        Raises Repeated where a like webhook has begun that just now, and a Refusal.
        """
        manifest = self.load(name)
        # Only of a Deployment that somebody else manages does the cluster know the image.
        foreign = manifest.body is None
        live = self._cluster.read_deployment(manifest.namespace, manifest.name) if foreign else None
        if not push.concerns(manifest, live):
            return None
        signal, records = Signal(cause=push.cause), self._monitor.recorded(manifest)

        def check(live: dict | None) -> None:
            if push.has_begun(live, records):
                raise Repeated

        return self._begin(name, manifest, signal, self._apply(manifest, signal, check))

    def _apply(self, manifest: Manifest, signal: Signal, check: Callable[[dict | None], None] | None = None) -> dict:
        stamp = new_rollout_id()

        def build(live: dict | None) -> V1Deployment | dict:
            body = deployment_spec.build(manifest, signal, stamp, live)
            if check:
                check(live)
            if check and live:
                # What was checked must still hold when the patch arrives.
                body["metadata"]["resourceVersion"] = live["metadata"]["resourceVersion"]
            return body

        try:
            return self._cluster.apply(manifest.namespace, manifest.name, build, signal.dry_run)
        except Invalid as error:
            raise Invalid(f"{manifest.file}: {error}", error.reason) from error

    def _begin(self, name: str, manifest: Manifest, signal: Signal, live: dict) -> Follower:
        automatic = self._settings.rollback_on_failure
        if signal.rollback_on_failure is not None:
            automatic = signal.rollback_on_failure
        record = new_record(live, signal.image, automatic)
        begun = record.rollout
        where = {"deployment": begun.deployment, "namespace": begun.namespace, "id": begun.id}
        log.info("Deployment %s/%s: %s", begun.namespace, begun.deployment, record.cause, extra=where)
        return self._monitor.start(name, manifest, live, record)
