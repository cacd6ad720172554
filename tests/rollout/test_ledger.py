"""What is remembered of each rollout, in a ConfigMap beside its Deployment."""

import copy
import json
import logging
import threading
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cluster.api import Cluster
from cluster.snapshot import Snapshot
from errors import Refusal, Unreachable
from manifest.annotations import RESTARTED_AT
from rollout import ledger as ledger_module
from rollout.ledger import Ledger
from rollout.model import Phase, PodProblem, Replicas
from rollout.record import new_record, serialize
from rollout.rollback import NothingToRollBackTo, choose_target
from rollout.wording import as_markdown, as_text
from tests.conftest import deployment

D1 = "sha256:" + "1" * 64
NAME = "auto-deployer-web"
ENDED = datetime(2026, 11, 22, 20, 15, 9, tzinfo=UTC)


def rollout_id(number):
    return f"20261122T2000{number:02}.123456Z"


@pytest.fixture
def live(cluster):
    """Create a Deployment as this service stamps them, of no pods."""
    manifest = deployment(replicas=0)
    manifest["spec"]["template"]["metadata"]["annotations"] = {RESTARTED_AT: rollout_id(1)}
    manifest["metadata"]["annotations"] = {"kubernetes.io/change-cause": "deploy acme/web:1"}
    return cluster.create(manifest)


class Place:
    """The records of one Deployment, as one replica of the service reads and writes them."""

    def __init__(self, kubeconfig, live):
        self.ledger, self.live = Ledger(Cluster(str(kubeconfig))), live
        self._where = (live["metadata"]["namespace"], "web")

    def record(self, number=1, **fields):
        """Make a record; its number is its stamp's."""
        found = copy.deepcopy(self.live)
        found["spec"]["template"]["metadata"]["annotations"][RESTARTED_AT] = rollout_id(number)
        record = new_record(found)
        inside = {name: fields.pop(name) for name in list(fields) if not hasattr(record, name)}
        if inside.get("phase", Phase.PROGRESSING) is not Phase.PROGRESSING:
            inside = {"finished_at": ENDED} | inside
        return record.replace(rollout=record.rollout.replace(**inside), **fields)

    def change(self, decide, how="change"):
        """Change the records, and return whether something was written."""
        return getattr(self.ledger, how)(*self._where, self.live["metadata"]["uid"], decide)

    def write(self, record):
        """Write a record, whatever is there."""
        return self.change(lambda records: record)

    def read(self):
        """Return what is recorded."""
        return self.ledger.read(*self._where)


@pytest.fixture
def here(admin, live):
    return Place(admin.kubeconfig, live)


@pytest.fixture
def elsewhere(admin, live):
    """Another replica."""
    return Place(admin.kubeconfig, live)


@pytest.fixture
def stored(cluster):
    """Return what the ConfigMap holds."""
    return lambda: cluster.get(NAME, "configmaps")["data"]


# A round trip


def test_nothing_is_recorded_at_first(here, cluster):
    assert here.read() == {}
    assert cluster.get(NAME, "configmaps") is None


def test_a_rollout_that_has_begun(here):
    record = here.record()
    rollout = record.rollout
    assert (rollout.id, rollout.deployment, rollout.image) == (rollout_id(1), "web", "acme/web:1")
    assert (rollout.phase, rollout.started_at) == (Phase.PROGRESSING, datetime(2026, 11, 22, 20, 0, 1, 123456, UTC))
    assert record.template == here.live["spec"]["template"]
    assert (record.cause, record.rollback, record.notified) == ("deploy acme/web:1", "none", False)
    assert here.write(record)
    assert here.read() == {rollout_id(1): record}


def test_all_of_a_record_is_kept(here, elsewhere):
    problems = (
        crash(("Traceback", "KeyError: 'DATABASE_URL' é")),
        PodProblem(reason="FailedCreate", message="exceeded quota: tight"),
        PodProblem(reason="ContainersNotReady"),
    )
    record = here.record(
        phase=Phase.FAILED,
        message="does not start",
        digest=D1,
        revision=7,
        replicas=Replicas(desired=3, updated=1, ready=0, available=0),
        problems=problems,
        changes=("image: acme/web:1 -> acme/web:2",),
        rolled_back_to=6,
        finished_at=ENDED,
        cause="rollback to revision 6",
        digests={"web": D1},
        rollback="pending",
        rollback_on_failure=True,
        notified=True,
    )
    assert here.write(record)
    assert elsewhere.read() == {rollout_id(1): record}
    assert elsewhere.read()[rollout_id(1)].rollout == record.rollout


def test_a_key_for_each_rollout_the_newest_first(here, elsewhere, stored):
    for number in (2, 1, 3):
        here.write(here.record(number))
    assert list(elsewhere.read()) == [rollout_id(3), rollout_id(2), rollout_id(1)]
    assert {key: json.loads(text)["rollout"]["id"] for key, text in stored().items()} == {
        rollout_id(number): rollout_id(number) for number in (1, 2, 3)
    }


def test_a_record_is_replaced_by_its_next_state(here, elsewhere):
    here.write(here.record(1))
    here.write(here.record(2))
    done = here.record(1, phase=Phase.COMPLETE, digests={"web": D1})
    here.write(done)
    assert elsewhere.read() == {rollout_id(1): done, rollout_id(2): here.record(2)}


def test_it_belongs_to_the_deployment_and_goes_with_it(here, cluster):
    here.write(here.record())
    (owner,) = cluster.get(NAME, "configmaps")["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"], owner["uid"]) == ("Deployment", "web", here.live["metadata"]["uid"])
    cluster.delete("web")
    cluster.wait_for(lambda: cluster.get(NAME, "configmaps") is None)


@pytest.mark.simulated_only
def test_a_change_costs_one_call_once_the_records_are_known(here, cluster):
    here.write(here.record(1))
    before = len(cluster.requests)
    here.write(here.record(2))
    assert [each.method for each in cluster.requests[before:]] == ["PATCH"]


def test_nothing_to_write_is_said_only_of_what_is_there_now(here, elsewhere):
    here.write(here.record(1))
    elsewhere.write(here.record(2))
    seen = []
    assert here.change(lambda records: seen.append(list(records))) is False
    assert seen[-1] == [rollout_id(2), rollout_id(1)]


# How much is kept


def test_the_newest_twenty_are_kept(here, elsewhere, stored):
    for number in range(1, 24):
        here.write(here.record(number))
    assert list(elsewhere.read()) == [rollout_id(number) for number in range(23, 3, -1)]
    assert len(stored()) == 20


def test_one_that_is_older_than_the_newest_twenty_makes_it_no_more(here, stored):
    for number in range(2, 22):
        here.write(here.record(number))
    here.write(here.record(1, phase=Phase.SUPERSEDED))
    assert sorted(stored()) == [rollout_id(number) for number in range(2, 22)]


def diagnosis_of(text):
    rollout = json.loads(text)["rollout"]
    return json.dumps([rollout["causes"], rollout["changes"]])


def crash(logs, pod="web-1-x", message="restarted 3 times"):
    where = {"pod": pod, "container": "web"}
    return PodProblem(reason="CrashLoopBackOff", message=message, exit_code=1, logs=tuple(logs), **where)


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
def test_the_diagnosis_is_cut_to_4_kib(here, elsewhere, stored, problems, changes):
    here.write(here.record(phase=Phase.FAILED, problems=tuple(problems), changes=tuple(changes)))
    assert len(diagnosis_of(stored()[rollout_id(1)]).encode()) <= 4096
    kept = elsewhere.read()[rollout_id(1)].rollout
    assert [(each.reason, each.pod) for each in kept.problems[:1]] == [(each.reason, each.pod) for each in problems[:1]]
    assert bool(kept.changes) == bool(changes)


def test_of_a_long_log_the_end_is_kept(here, elsewhere):
    lines = [f"line {number}: {'x' * 100}" for number in range(500)]
    here.write(here.record(problems=(crash(lines),)))
    logs = elsewhere.read()[rollout_id(1)].rollout.problems[0].logs
    assert len(logs) > 20
    assert list(logs) == lines[-len(logs) :]


def test_of_a_line_that_is_longer_than_all_there_is_room_for_something_is_kept(here, elsewhere):
    here.write(here.record(problems=(crash(["x" * 20_000]),)))
    (line,) = elsewhere.read()[rollout_id(1)].rollout.problems[0].logs
    assert "xxxx" in line


def test_a_short_diagnosis_is_kept_as_it_is(here, elsewhere):
    record = here.record(
        problems=(crash(["KeyError: 'DATABASE_URL'"]), PodProblem(reason="Evicted")), changes=("command changed",)
    )
    here.write(record)
    assert elsewhere.read()[rollout_id(1)] == record


def test_large_templates_make_it_fewer_than_twenty(here, elsewhere, stored):
    template = copy.deepcopy(here.live["spec"]["template"])
    template["spec"]["containers"][0]["env"] = [{"name": "LARGE", "value": "x" * 100_000}]
    for number in range(1, 13):
        assert here.write(here.record(number, template=template))
    kept = list(elsewhere.read())
    assert kept == [rollout_id(number) for number in range(12, 12 - len(kept), -1)]
    assert 8 <= len(kept) <= 10
    assert sum(len(text) for text in stored().values()) < 2**20


# Nonsense


@pytest.mark.parametrize(
    "nonsense",
    ["", "not JSON", "{", "null", "3", "[]", "{}", '"text"', '{"rollout": {}}', '{"rollout": null, "template": {}}'],
)
def test_nonsense_is_left_out_and_left_alone(here, elsewhere, cluster, stored, nonsense):
    here.write(here.record(1))
    cluster.patch({"data": {"README": nonsense, rollout_id(9): nonsense}}, NAME, "configmaps")
    assert elsewhere.read() == {rollout_id(1): here.record(1)}
    assert elsewhere.write(elsewhere.record(2))
    assert elsewhere.read() == {rollout_id(2): here.record(2), rollout_id(1): here.record(1)}
    assert stored()["README"] == nonsense


def test_a_config_map_that_holds_nothing(here, elsewhere, cluster):
    cluster.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": NAME}}, "configmaps")
    assert here.read() == {}
    assert here.write(here.record())
    assert elsewhere.read() == {rollout_id(1): here.record()}


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


def test_a_spoiled_record_is_left_out_or_harms_nobody_who_reads_it(here, stored, caplog):
    caplog.set_level(logging.CRITICAL)
    problems = (crash(["KeyError"]), PodProblem(reason="Evicted"))
    good = here.record(1, phase=Phase.COMPLETE, revision=1, digests={"web": D1}, finished_at=ENDED)
    here.write(good.replace(rollout=good.rollout.replace(problems=problems, changes=("command changed",))))
    text = stored()[rollout_id(1)]
    live = copy.deepcopy(here.live)
    live["spec"]["template"]["metadata"]["annotations"][RESTARTED_AT] = rollout_id(3)
    snapshot = Snapshot(live, [], [], [])
    broken = []
    for path, value, nonsense in spoiled(text):
        config_map = {
            "metadata": {"name": NAME},
            "data": {rollout_id(1): nonsense, rollout_id(3): text.replace(rollout_id(1), rollout_id(3))},
        }
        try:
            records = ledger_module._parse_all(config_map)
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


# Written by several versions: during a deploy of auto-deployer itself an older and a newer one meet here

RECORDED = json.loads((Path(__file__).parent / "records.json").read_text())


def of_the_future(text):
    """Add what this version doesn't know, in each place that has a name."""
    stored = json.loads(text)
    stored |= {"approvals": [{"by": "jane", "at": None}], "window": {"from": "22:00"}, "owner": None}
    stored["rollout"] |= {"link": "https://example.com/runs/1", "score": 0.1}
    stored["rollout"]["replicas"]["draining"] = 1
    for cause in stored["rollout"]["causes"]:
        cause["hint"] = {"see": ["a", {"b": 1}]}
    return stored


def write_all(cluster, texts, uid):
    owner = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "uid": uid}
    metadata = {"name": NAME, "ownerReferences": [owner]}
    cluster.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": texts}, "configmaps")


def test_records_of_the_version_before_are_read(here, cluster):
    write_all(cluster, RECORDED, here.live["metadata"]["uid"])
    first, failed, back = sorted(here.read().values(), key=lambda record: record.rollout.id)
    assert (first.rollout.phase, first.rollout.revision, first.cause) == (Phase.COMPLETE, 1, "first")
    assert first.digests == {"web": first.rollout.digest}
    assert (failed.rollout.phase, failed.rollback, failed.rollout.rolled_back_to) == (Phase.FAILED, "done", 1)
    assert failed.rollout.problems[0].logs[-1] == "KeyError: 'DATABASE_URL'"
    assert failed.rollout.changes == ("image: acme/web:1 -> acme/web:crash",)
    assert (back.rollout.phase, back.is_rollback, back.rollout.rolled_back_to) == (Phase.COMPLETE, True, 1)
    assert not any(record.model_extra or record.rollout.model_extra for record in (first, failed, back))


def test_records_of_the_version_before_are_written_again_as_they_were(here, cluster, stored):
    write_all(cluster, RECORDED, here.live["metadata"]["uid"])
    for key, record in here.read().items():
        here.write(record.replace(notified=True))
        assert json.loads(stored()[key]) == json.loads(RECORDED[key]) | {"told": True}


def test_what_a_newer_version_wrote_survives_when_a_record_is_written_again(here, cluster, stored):
    newer = {key: of_the_future(text) for key, text in RECORDED.items()}
    write_all(cluster, {key: json.dumps(each) for key, each in newer.items()}, here.live["metadata"]["uid"])
    assert len(here.read()) == 3
    for key, record in here.read().items():
        here.write(record.replace(notified=True, rollout=record.rollout.replace(message="said anew")))
        expected = newer[key] | {"told": True, "rollout": newer[key]["rollout"] | {"message": "said anew"}}
        assert json.loads(stored()[key]) == expected


def test_a_newer_version_s_records_that_this_one_doesn_t_write_stay_byte_for_byte(here, cluster, stored):
    newer = {key: json.dumps(of_the_future(text), indent=2) for key, text in RECORDED.items()}
    write_all(cluster, newer, here.live["metadata"]["uid"])
    assert here.write(here.record(1))
    assert stored() == newer | {rollout_id(1): stored()[rollout_id(1)]}


@pytest.mark.parametrize("field", ["digests", "rollback", "rollback_on_failure", "is_rollback", "told", "claimed_at"])
def test_a_missing_field_of_a_record_gets_its_default(here, cluster, field):
    stored = {
        key: {name: each for name, each in json.loads(text).items() if name != field} for key, text in RECORDED.items()
    }
    write_all(cluster, {key: json.dumps(each) for key, each in stored.items()}, here.live["metadata"]["uid"])
    default = here.record().model_dump()[field]
    assert [record.model_dump()[field] for record in here.read().values()] == [default] * 3


@pytest.mark.parametrize(
    "field", ["digest", "revision", "replicas", "causes", "changes", "rolled_back_to", "changed_since"]
)
def test_a_missing_field_of_a_rollout_gets_its_default(here, cluster, field):
    stored = {key: json.loads(text) for key, text in RECORDED.items()}
    for each in stored.values():
        del each["rollout"][field]
    write_all(cluster, {key: json.dumps(each) for key, each in stored.items()}, here.live["metadata"]["uid"])
    default = here.record().rollout.model_dump()[field]
    assert [record.rollout.model_dump()[field] for record in here.read().values()] == [default] * 3


def test_a_record_that_cannot_be_read_is_kept_until_twenty_newer_ones_are_there(here, cluster, stored):
    cancelled = RECORDED["20261124T065148.279014Z"].replace('"phase":"complete"', '"phase":"cancelled"')
    cancelled = cancelled.replace("20261124T065148.279014Z", rollout_id(3))
    write_all(cluster, {rollout_id(3): cancelled}, here.live["metadata"]["uid"])
    assert here.read() == {}
    for number in (1, 2, *range(4, 24)):
        assert stored()[rollout_id(3)] == cancelled
        here.write(here.record(number))
    assert sorted(stored()) == [rollout_id(number) for number in range(4, 24)]


# Written by several


def test_whoever_finds_that_another_has_written_decides_again(here, elsewhere):
    here.write(here.record(1))
    elsewhere.read()
    elsewhere.change(lambda records: None)
    here.write(here.record(2))
    seen = []

    def decide(records):
        seen.append(sorted(records))
        return elsewhere.record(3)

    assert elsewhere.change(decide)
    assert seen == [[rollout_id(1)], [rollout_id(1), rollout_id(2)]]
    assert sorted(here.read()) == [rollout_id(1), rollout_id(2), rollout_id(3)]


def test_whoever_finds_the_phase_final_has_lost_and_does_nothing(here, elsewhere, cluster):
    for place in (here, elsewhere):
        place.change(lambda records: None)
    here.write(here.record())
    elsewhere.change(lambda records: elsewhere.record() if not records else None)

    def decide_by(place, phase):
        def decide(records):
            record = records[rollout_id(1)]
            return None if record.rollout.ended else place.record(phase=phase)

        return decide

    assert here.change(decide_by(here, Phase.COMPLETE))
    version = cluster.get(NAME, "configmaps")["metadata"]["resourceVersion"]
    assert not elsewhere.change(decide_by(elsewhere, Phase.FAILED))
    assert cluster.get(NAME, "configmaps")["metadata"]["resourceVersion"] == version
    assert elsewhere.read()[rollout_id(1)].rollout.phase is Phase.COMPLETE


def test_two_that_both_begin_the_config_map(here, elsewhere):
    for place in (here, elsewhere):
        place.change(lambda records: None)
    assert here.write(here.record(1))
    assert elsewhere.write(elsewhere.record(2))
    assert sorted(here.read()) == [rollout_id(1), rollout_id(2)]


def test_many_at_once_lose_nothing(here, elsewhere):
    def write(place, numbers):
        for number in numbers:
            place.write(place.record(number))

    jobs = [(here, range(1, 6)), (here, range(6, 11)), (elsewhere, range(11, 16)), (elsewhere, range(16, 21))]
    threads = [threading.Thread(target=write, args=job) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(here.read()) == [rollout_id(number) for number in range(1, 21)]


def test_somebody_deletes_it(here, elsewhere, cluster):
    here.write(here.record(1))
    cluster.delete(NAME, "configmaps")
    assert here.read() == {}
    seen = []
    assert here.change(lambda records: seen.append(sorted(records)) or here.record(2))
    assert seen[-1] == []
    assert list(elsewhere.read()) == [rollout_id(2)]


def test_somebody_else_s_keys_and_labels_stay(here, cluster, stored):
    here.write(here.record(1))
    cluster.patch({"metadata": {"labels": {"team": "a"}}, "data": {"notes": "ours"}}, NAME, "configmaps")
    here.write(here.record(2))
    assert stored().keys() == {"notes", rollout_id(1), rollout_id(2)}
    assert cluster.get(NAME, "configmaps")["metadata"]["labels"]["team"] == "a"


@pytest.mark.simulated_only
def test_what_changes_all_the_time_is_given_up(here, cluster):
    here.write(here.record(1))
    cluster.simulation.fail(times=1_000, method="PATCH", path=NAME, status=409)
    with pytest.raises(Unreachable, match="changes all the time"):
        here.write(here.record(2))


# While the API server is away, or refuses


@pytest.mark.simulated_only
@pytest.mark.parametrize(
    "failure", [{"status": 503}, {"status": 500}, {"status": 429}, {"status": 504}, {"drop": True}]
)
def test_insisting_outlasts_an_api_server_that_is_away(here, elsewhere, cluster, monkeypatch, failure):
    monkeypatch.setattr(ledger_module, "MIN_PAUSE_SECONDS", 0)
    cluster.simulation.fail(times=5, path=NAME, **failure)
    cluster.simulation.fail(times=5, method="POST", path="configmaps", **failure)
    assert here.change(lambda records: here.record(), "change_until_reachable")
    assert elsewhere.read() == {rollout_id(1): here.record()}


@pytest.mark.simulated_only
def test_a_write_whose_answer_was_lost_is_found_when_deciding_again(here, elsewhere, cluster):
    here.write(here.record(1))
    writing = new_record(here.live)

    def arrives():
        elsewhere.write(writing.replace(notified=True))

    cluster.simulation.fail(method="PATCH", path=NAME, call=arrives, drop=True)
    assert not here.change(lambda records: None if records[rollout_id(1)].notified else writing.replace(notified=True))
    assert elsewhere.read()[rollout_id(1)].notified


def test_without_the_right_a_verdict_is_decided_on_no_records(here, cluster):
    cluster.allow([{"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["get"]}])
    seen = []
    assert here.change(lambda records: seen.append(records) or here.record(), "change_until_reachable")
    assert not here.change(lambda records: None, "change_until_reachable")
    assert seen == [{}]
    with pytest.raises(Refusal):
        here.read()
    assert cluster.get(NAME, "configmaps") is None
