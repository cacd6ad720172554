"""What a signal does. This is the one door from the HTTP side to the cluster and to the rollouts in it."""

import logging
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import NamedTuple

from kubernetes.client import V1Deployment

import deployment_spec
from cluster.api import Cluster
from deployment_spec import Signal
from errors import Conflict, Invalid, NotFound, Refusal
from manifest import files
from manifest.advice import advise
from manifest.annotations import LOCKED, lock_of
from manifest.files import Manifest
from manifest.pod_template import new_rollout_id
from rollout.follower import Follower
from rollout.model import Phase, Rollout
from rollout.monitor import Monitor
from rollout.notify import unusable_lines
from rollout.overview import Glance
from rollout.record import Record, Records, new_record
from rollout.rights import check_rights
from rollout.wording import as_lock
from settings import Settings

log = logging.getLogger(__name__)

# For a page that waits: another replica, or kubectl, may have changed something.
LOOK_AGAIN_SECONDS = 5


class Report(NamedTuple):
    """Hold a rollout, the recorded rollouts of the same Deployment, the newest first, and why the latter is locked."""

    rollout: Rollout
    history: Records
    locked: str | None = None


class Standing(NamedTuple):
    """Hold how a configured deployment stands: `phase` is also `absent`, `invalid` or `unknown`, without a rollout."""

    name: str
    namespace: str | None
    deployment: str
    phase: str
    message: str
    glance: Glance = Glance()

    def as_json(self) -> dict:
        """Return the form that answers have; null is what isn't known."""
        if rollout := self.glance.rollout:
            return rollout.as_json() | {"locked": self.glance.locked}
        nothing = {field.alias or name: None for name, field in Rollout.model_fields.items()}
        known = {"deployment": self.deployment, "namespace": self.namespace, "causes": [], "changes": []}
        return nothing | known | {"phase": self.phase, "message": self.message, "locked": None}


class Check(NamedTuple):
    """Hold what a check has found: a sentence for each problem and for each piece of advice, and why it is locked."""

    problems: list[str]
    advice: list[str]
    locked: str | None


class Deployer:
    """Deploy the configured deployments, roll them back, and report how their rollouts go."""

    def __init__(self, cluster: Cluster, settings: Settings, monitor: Monitor) -> None:
        self._cluster, self._settings, self._monitor = cluster, settings, monitor
        self._logged = set[str]()

    def configured(self) -> list[str]:
        """List the names of the deployments that have a manifest. Raises NotFound when the directory can't be read."""
        self.ignored()
        return files.configured(self._settings.deployments_dir)

    def ignored(self) -> dict[str, str]:
        """Return a sentence for each file that would be a manifest but for its suffix, by its name. Raises NotFound."""
        names = files.configured(self._settings.deployments_dir, files.MISNAMED_SUFFIX)
        suffix, right = files.MISNAMED_SUFFIX, files.SUFFIX
        found = {name: f"{name}{suffix} is ignored: the name of a manifest ends in {right}" for name in names}
        self._log_new(found.values())
        return found

    def unusable_urls(self) -> list[str]:
        """Return a sentence for each line of NOTIFY_URLS_FILE that gets no message."""
        found = unusable_lines(self._settings.notify_urls_file, self._settings.deployments_dir)
        self._log_new(found)
        return found

    def load(self, name: str) -> Manifest:
        """Read the manifest of a configured deployment. Raises Invalid."""
        return files.load(self._settings.deployments_dir, name)

    def loadable(self) -> list[Manifest]:
        """Read every manifest that has no error; /check and each signal say what is wrong with the others."""
        found = []
        with suppress(NotFound):
            for name in self.configured():
                with suppress(Invalid):
                    found.append(self.load(name))
        return found

    def deploy(self, name: str, signal: Signal) -> Report:
        """Deploy, and report the rollout at its start; a dry run changes nothing. Raises a Refusal, or Duplicate."""
        return self._deploy(self.load(name), signal)

    def roll_back(self, name: str, signal: Signal) -> Report:
        """Go back to the last rollout that worked, or to a revision, and report the new rollout. Raises a Refusal.

        A dry run changes nothing.
        """
        follower = self._monitor.roll_back(self.load(name), signal)
        return _dry_run(follower.record, follower.locked) if signal.dry_run else self._report(follower)

    def show(self, name: str, rollout_id: str | None, seconds: float) -> Report:
        """Report a rollout, without an id the newest, when it has ended or after so many seconds. Raises a Refusal."""
        manifest = self.load(name)
        rollout, history, live = self._monitor.show(manifest, rollout_id, seconds)
        return Report(rollout, history, lock_of(live) if live else self.locked(manifest))

    def overview(self, names: list[str]) -> list[Standing]:
        """Report how these deployments stand. Raises a Refusal where the API server can't be asked."""
        standings, manifests = {}, {}
        for name in names:
            try:
                manifests[name] = self.load(name)
            except Invalid as error:
                standings[name] = Standing(name, None, name, "invalid", str(error))
        for (name, manifest), glance in zip(
            manifests.items(), self._monitor.overview.glances([*manifests.values()]), strict=True
        ):
            phase, message = "absent", "it isn't in the cluster yet; the first signal creates it"
            if glance.problem:
                phase, message = "unknown", glance.problem
            elif glance.rollout:
                phase, message = glance.rollout.phase, glance.rollout.message
            standings[name] = Standing(name, manifest.namespace, manifest.name, phase, message, glance)
        return [standings[name] for name in names]

    def await_change(self, standings: list[Standing], until: float) -> None:
        """Wait until deployments stand otherwise than this, or until that time of time.monotonic().

        A change that this process sees is noticed at once, and what another client changes within a few seconds.
        """
        names = [each.name for each in standings]
        places = [(each.namespace, each.deployment) for each in standings if each.namespace]
        while True:
            seen, left = self._monitor.overview.changes(places), until - time.monotonic()
            if left <= 0 or self.overview(names) != standings:
                return
            self._monitor.overview.wait_for_change(places, seen, min(left, LOOK_AGAIN_SECONDS))

    def locked(self, manifest: Manifest) -> str | None:
        """Return why the live Deployment is locked; None where it isn't, or where the API server doesn't say."""
        if follower := self._monitor.watching(manifest):
            return follower.locked
        with suppress(Refusal):
            return lock_of(self._cluster.read_deployment(manifest.namespace, manifest.name))
        return None

    def check(self, name: str) -> Check:
        """Try everything that a deploy needs, as a dry run; a lock doesn't count as a problem."""
        problems, advice, locked = [], [], None
        try:
            manifest = self.load(name)
            live = self._send(manifest, Signal(dry_run=True), even_locked=True)
            locked, advice = lock_of(live), advise(live)
            check_rights(self._cluster, manifest, live)
        except Refusal as refusal:
            problems = str(refusal).splitlines()
        return Check(problems, advice, locked)

    def deploy_pushed(self, name: str, image: str, signal: Signal) -> Report | None:
        """Deploy if the deployment runs the image that was pushed, and report the rollout; else return None.

        Raises a Refusal, or Duplicate when another webhook of the same push has started the rollout.
        """
        manifest = self.load(name)
        # A manifest without spec names no image: only the live Deployment does.
        live = self._cluster.read_deployment(manifest.namespace, manifest.name) if manifest.body is None else None
        if not deployment_spec.runs_image(manifest, live, image):
            return None
        return self._deploy(manifest, signal)

    def _deploy(self, manifest: Manifest, signal: Signal) -> Report:
        live = self._send(manifest, signal)
        record = new_record(live, self._settings.rollback_on_failure)
        if signal.dry_run:
            return _dry_run(record, lock_of(live))
        started = record.rollout
        log.info("Deployment %s/%s: %s", started.namespace, started.deployment, record.cause, extra=started.log_fields)
        return self._report(self._monitor.start(manifest, live, record))

    def _send(self, manifest: Manifest, signal: Signal, even_locked: bool = False) -> dict:
        """Send what a signal makes of a manifest; return the Deployment as the API server answered it."""
        rollout_id, settle_seconds = new_rollout_id(), self._settings.settle_seconds

        def build(live: dict | None) -> V1Deployment | dict:
            if signal.key:
                recorded = self._monitor.recorded(manifest)
                self._monitor.refuse_duplicate(manifest, signal, live, recorded)
            if (lock := lock_of(live)) is not None and not even_locked:
                raise _locked(manifest, lock)
            return deployment_spec.build(manifest, signal, rollout_id, live, settle_seconds)

        try:
            return self._cluster.apply(manifest.namespace, manifest.name, rollout_id, build, signal.dry_run)
        except Invalid as error:
            raise Invalid(f"{manifest.file}: {error}", error.reason) from error

    def _log_new(self, sentences: Iterable[str]) -> None:
        for sentence in sentences:
            if sentence not in self._logged:
                self._logged.add(sentence)
                log.warning("%s", sentence)

    def _report(self, follower: Follower) -> Report:
        # What the monitor knows costs no call, so that a signal is answered at once.
        return Report(follower.at_start, self._monitor.known(follower.manifest), follower.locked)


def _locked(manifest: Manifest, lock: str) -> Conflict:
    where = f"deployment {manifest.name} in {manifest.namespace}"
    unlock = f"kubectl annotate deployment/{manifest.name} -n {manifest.namespace} {LOCKED}-"
    return Conflict(f"{where} is {as_lock(lock)}; nothing was changed; unlock it with: {unlock}", reason="Locked")


def _dry_run(record: Record, locked: str | None) -> Report:
    message, started = "dry run: the API server accepts it all, and nothing was changed", record.rollout
    ended = started.replace(phase=Phase.COMPLETE, message=message, finished_at=started.started_at)
    return Report(ended, Records(), locked)
