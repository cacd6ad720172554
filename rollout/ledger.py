"""What each rollout was and how it ended: a ConfigMap beside the Deployment, in its namespace, owned by it."""

import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from cluster.api import FIELD_MANAGER, MAX_ATTEMPTS, Cluster
from errors import Conflict, NotFound, Refusal, Unreachable
from manifest.pod_template import is_rollout_id
from rollout.record import Record, Records, newest_first, parse, serialize, truncated

log = logging.getLogger(__name__)

MAX_RECORDS = 20
# A ConfigMap holds 1 MiB: https://kubernetes.io/docs/concepts/configuration/configmap/
MAX_BYTES = 900_000

# What to write when these are the records; None for nothing.
Decide = Callable[[Records], Record | None]


@dataclass(frozen=True)
class _State:
    """Hold the ConfigMap as it was last seen: its resourceVersion, and the bytes of what stands under each key."""

    version: str
    records: Records
    sizes: dict[str, int]


class Ledger:
    """Read and write the records of Deployments, in all replicas alike."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._locks: dict[tuple[str, str], threading.Lock] = {}
        # What was last read or written, so that a change needs one call and not two.
        self._known: dict[tuple[str, str], _State] = {}

    def read(self, namespace: str, deployment: str) -> Records:
        """Return what is recorded, the newest first."""
        return _parse_all(self._cluster.read_config_map(namespace, _name(deployment)) or {})

    def read_or_known(self, namespace: str, deployment: str) -> Records:
        """Return what is recorded, or what is known of it while it can't be read."""
        try:
            return self.read(namespace, deployment)
        except Refusal as error:
            log.warning("no history: %s", error, extra={"deployment": deployment, "namespace": namespace})
            return self.known(namespace, deployment)

    def known(self, namespace: str, deployment: str) -> Records:
        """Return what this process last read or wrote, without a call."""
        state = self._known.get((namespace, deployment))
        return state.records if state else Records()

    def check_writing(self, namespace: str, deployment: str) -> None:
        """Try, as a dry run, whether records can be written. Raises a Refusal."""
        name = _name(deployment)
        # What is there already, or not yet, is refused only after the API server has looked at our rights.
        with suppress(Conflict):
            self._cluster.create_config_map(namespace, {"metadata": {"name": name}}, dry_run=True)
        with suppress(NotFound):
            self._cluster.patch_config_map(namespace, name, {"metadata": {"name": name}}, dry_run=True)

    def forget(self, namespace: str, deployment: str) -> None:
        """Drop what is known of a Deployment of which no rollout is followed any more."""
        self._known.pop((namespace, deployment), None)

    def change(self, namespace: str, deployment: str, uid: str, decide: Decide) -> bool:
        """Write the record that `decide` makes of what is recorded; return whether there was one to write.

        Lets it decide again when another client has written in between. `uid` is the Deployment's. Raises a Refusal.
        """
        key = (namespace, deployment)
        with self._locks.setdefault(key, threading.Lock()):
            for _ in range(MAX_ATTEMPTS):
                known = self._known.pop(key, None)
                state = known or self._fetch(namespace, deployment)
                record = decide(state.records)
                if record is None and known:
                    continue  # Another replica may have written meanwhile: only what is there now can say no.
                if record is None:
                    self._known[key] = state
                    return False
                try:
                    self._known[key] = self._write(namespace, deployment, uid, state, truncated(record))
                except (Conflict, NotFound):
                    continue
                return True
        raise Unreachable(f"{_name(deployment)} in {namespace} changes all the time", reason="Conflict")

    def _fetch(self, namespace: str, deployment: str) -> _State:
        config_map = self._cluster.read_config_map(namespace, _name(deployment)) or {}
        # What can't be read counts as well: a newer version may have written it.
        sizes = {key: len(text.encode()) for key, text in (config_map.get("data") or {}).items() if is_rollout_id(key)}
        return _State(config_map.get("metadata", {}).get("resourceVersion", ""), _parse_all(config_map), sizes)

    def _write(self, namespace: str, deployment: str, uid: str, state: _State, record: Record) -> _State:
        key, text = record.rollout.id, serialize(record)
        sizes = {**state.sizes, key: len(text.encode())}
        written = {**state.records, key: record}
        kept = _newest_that_fit(sizes, written)
        data: dict[str, str | None] = {gone: None for gone in state.sizes if gone not in kept}
        data |= {key: text} if key in kept else {}
        owner = {"apiVersion": "apps/v1", "kind": "Deployment", "name": deployment, "uid": uid, "controller": False}
        labels = {"app.kubernetes.io/managed-by": FIELD_MANAGER}
        metadata = {"name": _name(deployment), "labels": labels, "ownerReferences": [owner]}
        if state.version:
            metadata["resourceVersion"] = state.version
            answer = self._cluster.patch_config_map(namespace, _name(deployment), {"metadata": metadata, "data": data})
        else:
            answer = self._cluster.create_config_map(namespace, {"metadata": metadata, "data": data})
        records = Records((each, written[each]) for each in newest_first(written.keys() & kept, written))
        records.unreadable = state.records.unreadable & kept
        return _State(answer["metadata"]["resourceVersion"], records, {each: sizes[each] for each in kept})


def _name(deployment: str) -> str:
    return f"auto-deployer-{deployment}"


def _newest_that_fit(sizes: dict[str, int], records: dict[str, Record]) -> set[str]:
    kept, size = set(), 0
    for key in newest_first(sizes, records)[:MAX_RECORDS]:
        size += sizes[key]
        if size > MAX_BYTES and kept:
            break
        kept.add(key)
    return kept


def _parse_all(config_map: dict) -> Records:
    found, unreadable = {}, set()
    for key, text in (config_map.get("data") or {}).items():
        if not is_rollout_id(key):
            continue
        try:
            found[key] = parse(key, text)
        except ValueError:
            log.warning("ConfigMap %s: the record %s can't be read", config_map["metadata"]["name"], key)
            unreadable.add(key)
    records = Records((key, found[key]) for key in newest_first(found, found))
    records.unreadable = frozenset(unreadable)
    return records
