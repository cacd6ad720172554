"""One rollout as it is kept: what a rollback needs, and what is left to do."""

import json
import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Literal

from pydantic import AwareDatetime, Field

from manifest.annotations import CHANGE_CAUSE, annotations_of, rolled_back_to, signal_of
from manifest.pod_template import comparable, image_of, new_rollout_id, rollout_id_of, time_of
from rollout.model import WITH_UNKNOWN, Frozen, Phase, PodProblem, Rollout

MAX_DIAGNOSIS_CHARACTERS = 4096
MAX_LINE_CHARACTERS = 500
MAX_CHANGES = 20


class Record(Frozen):
    """Hold one rollout with all that a rollback needs; `template` is as the API server answered it."""

    rollout: Rollout
    template: dict
    cause: str
    # Container -> digest (sha256:…) of what ran, once the rollout is complete.
    digests: dict[str, str] = Field(default_factory=dict)
    rollback: Literal["none", "pending", "done"] = "none"
    rollback_on_failure: bool = False
    is_rollback: bool = False
    # The signal's Idempotency-Key, and what tells its body from another one under the same key.
    key: str | None = None
    fingerprint: str | None = None
    notified: bool = Field(False, alias="told")
    # When a process took it on itself to notify: long after that, another process takes over.
    claimed_at: AwareDatetime | None = None

    @property
    def worked(self) -> bool:
        """Whether it is one to go back to: complete, and pods of it ran."""
        rollout = self.rollout
        return rollout.phase is Phase.COMPLETE and rollout.revision is not None and rollout.replicas.desired > 0

    @property
    def is_unfinished(self) -> bool:
        """Whether something is left to do after the verdict."""
        return self.rollout.ended and (self.rollback == "pending" or not self.notified)

    @property
    def rollout_as_answered(self) -> Rollout:
        """The rollout as answers show it: one that has failed progresses until its rollback has ended."""
        if self.rollback != "pending":
            return self.rollout
        message = f"it has failed ({self.rollout.message}) and is being rolled back"
        return self.rollout.replace(phase=Phase.PROGRESSING, message=message, finished_at=None)

    def as_history(self) -> dict:
        """Return the line that a history has for it, in JSON."""
        fields = {"id", "revision", "image", "digest", "phase", "started_at", "finished_at"}
        fields |= {"by", "link", "rolled_back_to"}
        return self.rollout_as_answered.model_dump(mode="json", include=fields) | {"cause": self.cause}


class Records(dict[str, Record]):
    """Hold records by rollout id, the newest first; `unreadable` are the ids of those that this version can't read."""

    unreadable: frozenset[str] = frozenset()


def newest_first(rollout_ids: Iterable[str], records: Mapping[str, Record]) -> list[str]:
    """Sort rollout ids, of which some may have no record.

    An id lies in the future where a clock was wrong and is right again. Its revision then says where it belongs, since
    Kubernetes counts revisions; one that has ended without a revision is taken for the oldest.
    """
    now = new_rollout_id()
    revisions = {rollout_id: record.rollout.revision or 0 for rollout_id, record in records.items()}

    def place(rollout_id: str) -> tuple[str, int, str]:
        is_new = rollout_id in records and not (records[rollout_id].rollout.ended or revisions[rollout_id])
        if rollout_id <= now or is_new:
            return rollout_id, 0, rollout_id
        revision = revisions.get(rollout_id, 0)
        earlier = (each for each, number in revisions.items() if each <= now and 0 < number < revision)
        return max(earlier, default=""), revision, rollout_id

    return sorted(rollout_ids, key=place, reverse=True)


def older_than(rollout_id: str, records: Mapping[str, Record]) -> list[Record]:
    """Return the records of what was rolled out before, the newest first; all of them when this one isn't recorded."""
    ids = list(records)
    return [records[each] for each in ids[ids.index(rollout_id) + 1 if rollout_id in records else 0 :]]


def new_record(live: dict, rollback_on_failure: bool = False) -> Record:
    """Make the record of the rollout that starts with a Deployment as the API server answered it.

    What the signal asked for counts; `rollback_on_failure` is the setting, for a signal that doesn't say it.
    """
    rollout_id, signal, back = rollout_id_of(live["spec"]["template"]), signal_of(live), rolled_back_to(live)
    record = foreign_record(live, rollout_id, time_of(rollout_id), signal.get("image"))
    # Another client may have written the annotation.
    by, link, key, fingerprint = (
        value if isinstance(value := signal.get(name), str) else None for name in ("by", "link", "key", "fingerprint")
    )
    link = link if link and link.startswith("https://") else None
    record = record.replace(rollout=record.rollout.replace(by=by, link=link), key=key, fingerprint=fingerprint)
    if back is not None:
        message = f"the rollback to revision {back} has begun; Kubernetes rolls it out now"
        rollout = record.rollout.replace(rolled_back_to=back, message=message)
        return record.replace(rollout=rollout, is_rollback=True)
    asked = signal.get("rollback_on_failure")
    return record.replace(rollback_on_failure=asked if isinstance(asked, bool) else rollback_on_failure)


def foreign_record(live: dict, rollout_id: str, started_at: datetime, image: str | None = None) -> Record:
    """Make the record of a rollout that may have another id than that on its pod template."""
    metadata, template = live["metadata"], live["spec"]["template"]
    rollout = Rollout(
        id=rollout_id,
        deployment=metadata["name"],
        namespace=metadata["namespace"],
        image=image_of(template, image),
        started_at=started_at,
    )
    return Record(rollout=rollout, template=template, cause=annotations_of(live).get(CHANGE_CAUSE, ""))


def parse(key: str, text: str) -> Record:
    """Read a stored record, with the fields that only another version knows. Raises ValueError for what is none."""
    record = _in_todays_words(Record.model_validate_json(text, extra="allow"))
    if record.rollout.id != key or (record.rollout.ended and record.rollout.finished_at is None):
        raise ValueError("it is another rollout's, or has ended at no time")
    try:
        # Every use of a template must work with this one, which another client may have written.
        comparable(record.template, record.digests)
        image_of(record.template, None).partition("@")
    except (AttributeError, LookupError, TypeError) as error:
        raise ValueError(f"its template can't be used: {type(error).__name__}") from None
    return record


def _in_todays_words(record: Record) -> Record:
    # Until 2026-11 messages began with the phase, and those of failures were sentences.
    message = record.rollout.message.removeprefix(f"{record.rollout.phase}: ")
    message = re.sub(r"^no progress", "made no progress", message)
    message = {"its pods are refused": "has its pods refused", "the Deployment was deleted": "was deleted"}.get(
        message, message
    )
    if message == record.rollout.message:
        return record
    return record.replace(rollout=record.rollout.replace(message=message))


def serialize(record: Record) -> str:
    """Write a record as it is stored, with the fields that only another version knows."""
    return record.model_dump_json(context=WITH_UNKNOWN)


def truncated(record: Record) -> Record:
    """Cut a diagnosis to what a record has room for: of a log, the last lines stay."""
    changes = [line[:MAX_LINE_CHARACTERS] for line in record.rollout.changes[:MAX_CHANGES]]
    problems = [_shortened(problem) for problem in record.rollout.problems]
    while _size(problems, changes) > MAX_DIAGNOSIS_CHARACTERS:
        longest = max(range(len(problems)), key=lambda index: len("".join(problems[index].logs)), default=None)
        if longest is not None and problems[longest].logs:
            problems[longest] = problems[longest].replace(logs=problems[longest].logs[1:])
        else:
            (changes or problems).pop()
    return record.replace(rollout=record.rollout.replace(problems=tuple(problems), changes=tuple(changes)))


def _shortened(problem: PodProblem) -> PodProblem:
    message = problem.message and problem.message[:MAX_LINE_CHARACTERS]
    # No more lines than can fit, so that cutting the rest one by one takes no time.
    logs = tuple(line[:MAX_LINE_CHARACTERS] for line in problem.logs[-MAX_DIAGNOSIS_CHARACTERS // 4 :])
    return problem.replace(reason=problem.reason[:MAX_LINE_CHARACTERS], message=message, logs=logs)


def _size(problems: list[PodProblem], changes: list[str]) -> int:
    # In JSON, with every character outside ASCII escaped: the longest form that a record may take.
    return len(json.dumps([[problem.model_dump() for problem in problems], changes]))
