"""One rollout as it is kept: read, written and truncated; and records of older and newer versions of the service."""

import copy
import json
import logging
from contextlib import suppress

import pytest

from cluster.snapshot import Snapshot
from manifest.annotations import CHANGE_CAUSE, RESTARTED_AT
from rollout.ledger import _parse_all
from rollout.model import Phase, PodProblem
from rollout.record import parse, serialize, truncated
from rollout.rollback import NothingToRollBackTo, choose_target
from rollout.wording import as_markdown, as_text
from tests.conftest import deployment
from tests.rollout.cases import D1, ENDED, RECORDED, crash, of_the_future, record_of, rollout_id
from tests.rollout.helpers import CONFIG_MAP

LIVE = deployment(namespace="default")
LIVE["metadata"] |= {"uid": "web's", "annotations": {CHANGE_CAUSE: "deploy acme/web:1"}}


def read_back(record):
    """Return a record as it is read after it was written."""
    return parse(record.rollout.id, serialize(truncated(record)))


# How much of a diagnosis is kept


def diagnosis_of(text):
    """Return what is limited in a stored record, in JSON."""
    rollout = json.loads(text)["rollout"]
    return json.dumps([rollout["causes"], rollout["changes"]])


@pytest.mark.parametrize(
    ("problems", "changes"),
    [
        ([crash(f"line {number}: {'x' * 100}" for number in range(500))], []),
        ([crash(["é" * 200] * 100), crash(["y" * 200] * 100, "web-1-y")], []),
        ([crash(["x" * 20_000])], []),
        ([crash(["x" * 9_000, "y" * 9_000])], ["image: acme/web:1 -> acme/web:2"]),
        ([crash([], message="m" * 20_000)], []),
        ([crash([], f"web-1-{number}", "m" * 2_000) for number in range(5)], []),
        ([], [f"env VARIABLE_{number} added" for number in range(2_000)]),
        ([], [f"image: {'a' * 500}:1 -> {'b' * 500}:2"] * 40),
        ([crash(["x" * 500] * 20)], [f"image: {'a' * 500}:1 -> {'b' * 500}:2"] * 40),
    ],
)
def test_the_diagnosis_is_cut_to_4_kib(problems, changes):
    record = record_of(LIVE, phase=Phase.FAILED, problems=tuple(problems), changes=tuple(changes))
    assert len(diagnosis_of(serialize(truncated(record))).encode()) <= 4096
    kept = read_back(record).rollout
    assert [(each.reason, each.pod) for each in kept.problems[:1]] == [(each.reason, each.pod) for each in problems[:1]]
    assert bool(kept.changes) == bool(changes)


def test_of_a_long_log_the_end_is_kept():
    lines = [f"line {number}: {'x' * 100}" for number in range(500)]
    logs = read_back(record_of(LIVE, problems=(crash(lines),))).rollout.problems[0].logs
    assert len(logs) > 20
    assert list(logs) == lines[-len(logs) :]


def test_the_beginning_of_a_very_long_line_is_kept():
    (line,) = read_back(record_of(LIVE, problems=(crash(["x" * 20_000]),))).rollout.problems[0].logs
    assert "xxxx" in line


def test_a_short_diagnosis_is_kept_as_it_is():
    problems = (crash(["KeyError: 'DATABASE_URL'"]), PodProblem(reason="Evicted"))
    record = record_of(LIVE, problems=problems, changes=("command changed",))
    assert read_back(record) == record


# Records that another client has spoiled


def spoiled(text):
    """Yield a record's JSON with each field in turn missing, of another type, or unknown."""

    def places(node, path=()):
        for key, value in node.items():
            yield (*path, key)
            if isinstance(value, dict) and len(path) < 4:
                yield from places(value, (*path, key))
            elif isinstance(value, list) and value and isinstance(value[0], dict):
                yield from places(value[0], (*path, key, 0))

    for path in places(json.loads(text)):
        for value in (None, 3, "x", [], {}, [3], {"x": 3}, "missing", "unknown"):
            whole = json.loads(text)
            node = whole
            for step in path[:-1]:
                node = node[step]
            if value == "missing":
                del node[path[-1]]
            elif value == "unknown":
                node["unknown"] = 3
            else:
                node[path[-1]] = value
            yield path, value, json.dumps(whole)


def test_a_spoiled_record_is_left_out_or_can_be_used(caplog):
    caplog.set_level(logging.CRITICAL)
    problems = (crash(["KeyError"]), PodProblem(reason="Evicted"))
    good = record_of(LIVE, 1, phase=Phase.COMPLETE, revision=1, digests={"web": D1}, finished_at=ENDED)
    text = serialize(good.replace(rollout=good.rollout.replace(problems=problems, changes=("command changed",))))
    live = copy.deepcopy(LIVE)
    live["spec"]["template"]["metadata"]["annotations"] = {RESTARTED_AT: rollout_id(3)}
    snapshot = Snapshot(live, [], [], [])
    broken = []
    for path, value, nonsense in spoiled(text):
        config_map = {
            "metadata": {"name": CONFIG_MAP},
            "data": {rollout_id(1): nonsense, rollout_id(3): text.replace(rollout_id(1), rollout_id(3))},
        }
        try:
            records = _parse_all(config_map)
            for record in records.values():
                json.dumps([record.rollout.as_json(), as_text(record.rollout), record.as_history()])
                as_markdown(record.rollout, records, "")
                assert record.rollout.started_at.tzinfo
                assert record.rollout.finished_at is None or record.rollout.finished_at.tzinfo
            for revision in (None, 1):
                with suppress(NothingToRollBackTo):
                    choose_target(records, snapshot, revision)
            for record in records.values():
                serialize(record)
        except Exception as error:
            broken.append(f"{path} = {value!r}: {error!r}")
    assert "\n".join(broken) == ""


# Older and newer versions: while auto-deployer deploys itself, both read and write the same records


def as_read(texts):
    """Read records, the oldest first."""
    return [parse(key, text) for key, text in sorted(texts.items())]


def test_records_of_the_previous_version_are_read():
    first, failed, back = as_read(RECORDED)
    assert (first.rollout.phase, first.rollout.revision, first.cause) == (Phase.COMPLETE, 1, "first")
    assert first.digests == {"web": first.rollout.digest}
    assert (failed.rollout.phase, failed.rollback, failed.rollout.rolled_back_to) == (Phase.FAILED, "done", 1)
    assert failed.rollout.problems[0].logs[-1] == "KeyError: 'DATABASE_URL'"
    assert failed.rollout.changes == ("image: acme/web:1 -> acme/web:crash",)
    assert (back.rollout.phase, back.is_rollback, back.rollout.rolled_back_to) == (Phase.COMPLETE, True, 1)
    assert not any(record.model_extra or record.rollout.model_extra for record in (first, failed, back))


def test_records_of_the_previous_version_are_written_again_as_they_were():
    for record in as_read(RECORDED):
        written = json.loads(serialize(truncated(record.replace(notified=True))))
        expected = json.loads(RECORDED[record.rollout.id]) | {"told": True}
        # Only the message no longer begins with the phase, and there are new fields.
        expected["rollout"] |= {"message": record.rollout.message, "by": None, "link": None}
        expected |= {"key": None, "fingerprint": None}
        assert written == expected


@pytest.mark.parametrize(
    ("phase", "old", "text"),
    [
        ("complete", "complete: 3 pods are ready", "complete: 3 pods are ready"),
        ("failed", "does not start", "failed: revision 1 of web does not start"),
        ("failed", "no progress for 610 s", "failed: revision 1 of web made no progress for 610 s"),
        ("failed", "its pods are refused", "failed: revision 1 of web has its pods refused"),
        ("failed", "the Deployment was deleted", "failed: revision 1 of web was deleted"),
    ],
)
def test_a_message_of_the_previous_version_reads_well(phase, old, text):
    stored = json.loads(RECORDED["20261124T065148.279014Z"])
    stored["rollout"] |= {"phase": phase, "message": old}
    (record,) = as_read({"20261124T065148.279014Z": json.dumps(stored)})
    assert text in as_text(record.rollout).splitlines()


def test_fields_of_a_newer_version_stay_when_a_record_is_written_again():
    newer = {key: of_the_future(text) for key, text in RECORDED.items()}
    for record in as_read({key: json.dumps(each) for key, each in newer.items()}):
        changed = record.replace(notified=True, rollout=record.rollout.replace(message="another message"))
        stored = newer[record.rollout.id]
        rollout = {"by": None, "link": None} | stored["rollout"] | {"message": "another message"}
        expected = {"key": None, "fingerprint": None} | stored | {"told": True, "rollout": rollout}
        assert json.loads(serialize(truncated(changed))) == expected


@pytest.mark.parametrize(
    "field", ["digests", "rollback", "rollback_on_failure", "is_rollback", "told", "claimed_at", "key", "fingerprint"]
)
def test_a_missing_field_of_a_record_gets_its_default(field):
    stored = {key: json.loads(text) for key, text in RECORDED.items()}
    for each in stored.values():
        each.pop(field, None)
    default = record_of(LIVE).model_dump()[field]
    read = as_read({key: json.dumps(each) for key, each in stored.items()})
    assert [record.model_dump()[field] for record in read] == [default] * 3


@pytest.mark.parametrize(
    "field", ["digest", "revision", "replicas", "causes", "changes", "rolled_back_to", "changed_since", "by", "link"]
)
def test_a_missing_field_of_a_rollout_gets_its_default(field):
    stored = {key: json.loads(text) for key, text in RECORDED.items()}
    for each in stored.values():
        each["rollout"].pop(field, None)
    default = record_of(LIVE).rollout.model_dump()[field]
    read = as_read({key: json.dumps(each) for key, each in stored.items()})
    assert [record.rollout.model_dump()[field] for record in read] == [default] * 3
