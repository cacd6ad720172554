"""What each rollout was and how it ended: a ConfigMap beside the Deployment, in its namespace, owned by it."""

import json
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import datetime

from cluster.api import FIELD_MANAGER, MAX_ATTEMPTS, Cluster
from errors import Conflict, NotFound, Refusal, TooSlow, Unreachable
from manifest.annotations import CHANGE_CAUSE
from manifest.pod_template import image_of, is_rollout_id, pinned, rollout_id_of, time_of, without_own_annotations
from rollout.model import Cause, Phase, Replicas, Rollout

log = logging.getLogger(__name__)

MOST_RECORDS = 20
# A ConfigMap holds 1 MiB: https://kubernetes.io/docs/concepts/configuration/configmap/
MOST_BYTES = 900_000
MOST_DIAGNOSIS = 4096
LONGEST_LINE = 500
MOST_CHANGES = 20
# Seconds between attempts to write while the API server is away.
SHORTEST_PAUSE, LONGEST_PAUSE = 0.5, 10


@dataclass(frozen=True)
class Record:
    """Hold one rollout with all that a way back needs; `template` is as the API server answered it."""

    rollout: Rollout
    template: dict
    cause: str
    # Container -> digest (sha256:…) of what ran, once it is complete.
    digests: dict[str, str] = field(default_factory=dict)
    rollback: str = "none"  # or pending, or done
    rollback_on_failure: bool = False
    is_rollback: bool = False
    told: bool = False
    # Since when somebody has been at telling: when that was long ago, another one takes over. ISO 8601.
    claimed_at: str | None = None
    # What a newer version wrote that this one doesn't know, in the places where it stood: it is written back.
    unknown: dict = field(default_factory=dict)

    @classmethod
    def begun(
        cls, live: dict, image: str | None = None, rollback_on_failure: bool = False, rolled_back_to: int | None = None
    ) -> "Record":
        """Make the record of the rollout that begins with a Deployment as the API server answered it."""
        metadata, template = live["metadata"], live["spec"]["template"]
        rollout = Rollout(
            id=rollout_id_of(template),
            deployment=metadata["name"],
            namespace=metadata["namespace"],
            image=image_of(template, image),
            phase=Phase.PROGRESSING,
            message="applied; Kubernetes rolls it out now",
            started_at=time_of(rollout_id_of(template)).isoformat().replace("+00:00", "Z"),
            rolled_back_to=rolled_back_to,
        )
        cause = (metadata.get("annotations") or {}).get(CHANGE_CAUSE, "")
        return cls(
            rollout, template, cause, rollback_on_failure=rollback_on_failure, is_rollback=rolled_back_to is not None
        )

    @property
    def worked(self) -> bool:
        """Whether it is one to go back to."""
        return self.rollout.phase is Phase.COMPLETE and self.rollout.revision is not None

    @property
    def is_undone(self) -> bool:
        """Whether something is left to do after the verdict."""
        return self.rollout.ended and (self.rollback == "pending" or not self.told)

    @property
    def told_rollout(self) -> Rollout:
        """The rollout as it is answered: until it is rolled back, a failure that shall be isn't the last word."""
        if self.rollback != "pending":
            return self.rollout
        message = f"it has failed ({self.rollout.message}) and is being rolled back"
        return replace(self.rollout, phase=Phase.PROGRESSING, message=message, finished_at=None)

    def as_history(self) -> dict:
        """Return the line that a history has for it."""
        fields = ("id", "revision", "image", "digest", "phase", "started_at", "finished_at")
        return {name: getattr(self.told_rollout, name) for name in fields} | {"cause": self.cause}


Records = dict[str, Record]


class Ledger:
    """Read and write the records of Deployments, in all replicas alike."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._locks: dict[tuple[str, str], threading.Lock] = {}
        # What was last read or written, so that a change needs one call and not two.
        self._known: dict[tuple[str, str], _State] = {}

    def insist(self, namespace: str, deployment: str, uid: str, decide: Callable[[Records], Record | None]) -> bool:
        """Change the records as `change` does, again and again for as long as the API server is away.

        Where the right is missing, nothing is written, and `decide` decides on no records: a verdict is worth telling
        all the same.
        """
        extra, pause = {"deployment": deployment, "namespace": namespace}, SHORTEST_PAUSE
        while True:
            try:
                return self.change(namespace, deployment, uid, decide)
            except (Unreachable, TooSlow) as error:
                log.warning("the record waits: %s", error, extra=extra)
                time.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE)
            except Refusal as error:
                log.error("nothing is recorded: %s", error, extra=extra)
                return decide({}) is not None

    def read(self, namespace: str, deployment: str) -> Records:
        """Return what is recorded, the newest first."""
        config_map = self._cluster.read_config_map(namespace, _name(deployment))
        return _records(config_map or {})

    def change(self, namespace: str, deployment: str, uid: str, decide: Callable[[Records], Record | None]) -> bool:
        """Write the record that `decide` makes of what is recorded; return whether there was one to write.

        Decides again when somebody else has written in between. `uid` is the Deployment's, whom the ConfigMap follows
        when it is deleted.
        """
        key = (namespace, deployment)
        with self._locks.setdefault(key, threading.Lock()):
            for _ in range(MAX_ATTEMPTS):
                remembered = self._known.pop(key, None)
                state = remembered or self._fetch(namespace, deployment)
                record = decide(state.records)
                if record is None and remembered:
                    continue  # Somebody else may have written meanwhile: only what is there now can say no.
                if record is None:
                    self._known[key] = state
                    return False
                try:
                    self._known[key] = self._write(namespace, deployment, uid, state, fit(record))
                except (Conflict, NotFound):
                    continue
                return True
        raise Unreachable(f"{_name(deployment)} in {namespace} changes all the time", reason="Conflict")

    def forget(self, namespace: str, deployment: str) -> None:
        """Drop what is remembered of a Deployment that nobody follows any more."""
        self._known.pop((namespace, deployment), None)

    def remembered(self, namespace: str, deployment: str) -> Records:
        """Return what was last read or written here, without asking."""
        state = self._known.get((namespace, deployment))
        return state.records if state else {}

    def _fetch(self, namespace: str, deployment: str) -> "_State":
        config_map = self._cluster.read_config_map(namespace, _name(deployment)) or {}
        # What can't be read counts as well: it may be a newer version's record.
        sizes = {key: len(text) for key, text in (config_map.get("data") or {}).items() if is_rollout_id(key)}
        return _State(config_map.get("metadata", {}).get("resourceVersion", ""), _records(config_map), sizes)

    def _write(self, namespace: str, deployment: str, uid: str, state: "_State", record: Record) -> "_State":
        key, text = record.rollout.id, json.dumps(_as_stored(record), separators=(",", ":"))
        sizes = {**state.sizes, key: len(text)}
        kept = _kept(sizes)
        data: dict[str, str | None] = {gone: None for gone in state.sizes if gone not in kept}
        data |= {key: text} if key in kept else {}
        owner = {"apiVersion": "apps/v1", "kind": "Deployment", "name": deployment, "uid": uid, "controller": False}
        metadata = {
            "name": _name(deployment),
            "labels": {"app.kubernetes.io/managed-by": FIELD_MANAGER},
            "ownerReferences": [owner],
        }
        if state.version:
            body = {"metadata": metadata | {"resourceVersion": state.version}, "data": data}
            answer = self._cluster.patch_config_map(namespace, _name(deployment), body)
        else:
            answer = self._cluster.create_config_map(namespace, {"metadata": metadata, "data": data})
        records = {each: found for each, found in {**state.records, key: record}.items() if each in kept}
        newest_first = dict(sorted(records.items(), reverse=True))
        return _State(answer["metadata"]["resourceVersion"], newest_first, {each: sizes[each] for each in kept})


@dataclass(frozen=True)
class _State:
    """Hold the ConfigMap as it was last seen: its resourceVersion, and each record's size in characters."""

    version: str
    records: Records
    sizes: dict[str, int]


def _name(deployment: str) -> str:
    return f"auto-deployer-{deployment}"


def _kept(sizes: dict[str, int]) -> set[str]:
    """Choose the newest keys that there is room for."""
    kept, size = set(), 0
    for key in sorted(sizes, reverse=True)[:MOST_RECORDS]:
        size += sizes[key]
        if size > MOST_BYTES and kept:
            break
        kept.add(key)
    return kept


def fit(record: Record) -> Record:
    """Cut a diagnosis to what a record has room for: the last lines of the logs are what matters in it."""
    rollout = record.rollout
    changes = tuple(line[:LONGEST_LINE] for line in rollout.changes[:MOST_CHANGES])
    causes = [
        replace(
            cause,
            reason=cause.reason[:LONGEST_LINE],
            message=cause.message and cause.message[:LONGEST_LINE],
            # No more lines than can fit, so that the rest is cut one by one in no time.
            logs=tuple(line[:LONGEST_LINE] for line in cause.logs[-MOST_DIAGNOSIS // 4 :]),
        )
        for cause in rollout.causes
    ]
    while len(json.dumps([[asdict(cause) for cause in causes], changes])) > MOST_DIAGNOSIS and (causes or changes):
        longest = max(range(len(causes)), key=lambda index: len("".join(causes[index].logs)), default=None)
        if longest is not None and causes[longest].logs:
            causes[longest] = replace(causes[longest], logs=causes[longest].logs[1:])
        elif changes:
            changes = changes[:-1]
        else:
            causes.pop()
    return replace(record, rollout=replace(rollout, causes=tuple(causes), changes=changes))


def _records(config_map: dict) -> Records:
    records = {}
    for key, text in sorted((config_map.get("data") or {}).items(), reverse=True):
        try:
            records[key] = _record(key, json.loads(text))
        except (AttributeError, LookupError, TypeError, ValueError, RecursionError):
            log.warning("ConfigMap %s: %s is no record; it is left out", config_map["metadata"]["name"], key)
    return records


def _record(key: str, stored: dict) -> Record:
    rollout = _known(Rollout, stored["rollout"])
    causes = (_known(Cause, each) for each in rollout.get("causes", ()))
    rollout["causes"] = tuple(Cause(**each | {"logs": tuple(each.get("logs", ()))}) for each in causes)
    rollout["replicas"] = Replicas(**_known(Replicas, rollout.get("replicas", {})))
    rollout |= {"changes": tuple(rollout.get("changes", ())), "phase": Phase(rollout["phase"])}
    known = {name: value for name, value in _known(Record, stored).items() if name != "unknown"}
    record = Record(**known | {"rollout": Rollout(**rollout)})
    record = replace(record, unknown=_missing(stored, _as_stored(record)) or {})
    if record.rollout.id != key:
        raise ValueError("it is another rollout's")
    # Somebody else may have written anything: what is made of a record anywhere must work with this one.
    times = [record.rollout.started_at, *([record.rollout.finished_at] if record.rollout.ended else [])]
    if record.claimed_at:
        times.append(record.claimed_at)
    if any(datetime.fromisoformat(each).tzinfo is None for each in times):
        raise ValueError("a time without its zone")
    fit(record).rollout.as_text()
    without_own_annotations(pinned(record.template, record.digests))
    image_of(record.template, record.rollout.image + record.cause)
    if not isinstance(record.rollout.revision, int | None):
        raise TypeError("revision")
    return record


def _known(kind: type, stored: dict) -> dict:
    return {each.name: stored[each.name] for each in fields(kind) if each.name in stored}


def _as_stored(record: Record) -> dict:
    stored = asdict(record)
    return _merged(stored, stored.pop("unknown"))


def _missing(stored: object, known: object) -> object:
    """Return what of a stored record isn't in what this version makes of it; None where there is nothing."""
    if isinstance(stored, dict) and isinstance(known, dict):
        found = {key: _missing(value, known[key]) if key in known else value for key, value in stored.items()}
        return {key: value for key, value in found.items() if key not in known or value is not None} or None
    if isinstance(stored, list) and isinstance(known, list | tuple) and len(stored) == len(known):
        found = [_missing(each, its) for each, its in zip(stored, known, strict=True)]
        return found if any(found) else None
    return None


def _merged(known: object, unknown: object) -> object:
    """Put back into what this version writes what `_missing` took aside; a list only as long as it was."""
    if isinstance(known, dict) and isinstance(unknown, dict):
        return {**known, **{key: _merged(known[key], each) if key in known else each for key, each in unknown.items()}}
    if isinstance(known, list | tuple) and isinstance(unknown, list) and len(known) == len(unknown):
        return [_merged(its, each) for its, each in zip(known, unknown, strict=True)]
    return known
