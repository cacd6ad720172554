"""The records of a Deployment's rollouts in a ConfigMap: written, read, limited in number and size."""

import copy
import json
from datetime import UTC, datetime

import pytest

from rollout.model import Phase, PodProblem, Replicas
from rollout.record import truncated
from tests.rollout.cases import D1, ENDED, RECORDED, crash, of_the_future, rollout_id
from tests.rollout.helpers import CONFIG_MAP

# A round trip


def test_nothing_is_recorded_at_first(here, cluster):
    assert here.read() == {}
    assert cluster.get(CONFIG_MAP, "configmaps") is None


def test_a_rollout_that_has_started(here):
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


def test_the_config_map_belongs_to_the_deployment_and_is_deleted_with_it(here, cluster):
    here.write(here.record())
    (owner,) = cluster.get(CONFIG_MAP, "configmaps")["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"], owner["uid"]) == ("Deployment", "web", here.live["metadata"]["uid"])
    cluster.delete("web")
    cluster.wait_for(lambda: cluster.get(CONFIG_MAP, "configmaps") is None)


@pytest.mark.simulated_only
def test_a_change_costs_one_call_once_the_records_are_known(here, cluster):
    here.write(here.record(1))
    before = len(cluster.requests)
    here.write(here.record(2))
    assert [each.method for each in cluster.requests[before:]] == ["PATCH"]


def test_nothing_to_write_is_only_decided_on_current_records(here, elsewhere):
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


def test_a_record_older_than_the_newest_twenty_is_not_written(here, stored):
    for number in range(2, 22):
        here.write(here.record(number))
    here.write(here.record(1, phase=Phase.SUPERSEDED))
    assert sorted(stored()) == [rollout_id(number) for number in range(2, 22)]


def test_a_record_is_truncated_when_it_is_written(here, elsewhere):
    record = here.record(phase=Phase.FAILED, problems=(crash(f"line {number}: {'x' * 100}" for number in range(500)),))
    here.write(record)
    assert elsewhere.read() == {rollout_id(1): truncated(record)}
    assert truncated(record) != record


def test_fewer_than_twenty_records_are_kept_if_templates_are_large(here, elsewhere, stored):
    template = copy.deepcopy(here.live["spec"]["template"])
    template["spec"]["containers"][0]["env"] = [{"name": "LARGE", "value": "x" * 100_000}]
    for number in range(1, 13):
        assert here.write(here.record(number, template=template))
    kept = list(elsewhere.read())
    assert kept == [rollout_id(number) for number in range(12, 12 - len(kept), -1)]
    assert 8 <= len(kept) <= 10
    assert sum(len(text) for text in stored().values()) < 2**20


# A clock that was set back


def of_2090(here, number, revision, **fields):
    """Return the record of a rollout that started while the clock was wrong."""
    record = here.record(number, phase=Phase.COMPLETE, revision=revision, **fields)
    return record.replace(rollout=record.rollout.replace(id=f"2090{rollout_id(number)[4:]}"))


def test_records_of_the_future_do_not_push_out_new_ones(here, elsewhere, cluster):
    for number in range(1, 21):
        here.write(of_2090(here, number, revision=number))
    for number in range(21, 26):
        # It has no revision when it starts.
        here.write(here.record(number))
        assert rollout_id(number) in elsewhere.read()
        here.write(here.record(number, phase=Phase.COMPLETE, revision=number))
    kept = list(elsewhere.read().values())
    assert [each.rollout.revision for each in kept] == list(range(25, 5, -1))
    assert list(here.ledger.known(cluster.namespace, "web")) == list(elsewhere.read())


def test_records_of_the_future_stand_where_their_revision_says(here, elsewhere):
    here.write(here.record(1, phase=Phase.COMPLETE, revision=1))
    here.write(here.record(2, phase=Phase.SUPERSEDED))
    here.write(of_2090(here, 3, revision=2))
    here.write(of_2090(here, 4, revision=3))
    here.write(here.record(5, phase=Phase.COMPLETE, revision=4))
    here.write(here.record(6, phase=Phase.SUPERSEDED))
    here.write(here.record(7))
    revisions = [each.rollout.revision for each in elsewhere.read().values()]
    assert revisions == [None, None, 4, None, 3, 2, 1]


def test_superseded_records_of_the_future_are_the_first_to_go(here, elsewhere):
    for number in range(1, 21):
        record = of_2090(here, number, revision=None)
        here.write(record.replace(rollout=record.rollout.replace(phase=Phase.SUPERSEDED)))
    for number in range(21, 41):
        here.write(here.record(number, phase=Phase.COMPLETE, revision=number))
    assert list(elsewhere.read()) == [rollout_id(number) for number in range(40, 20, -1)]


def test_a_deployment_that_is_created_anew_counts_revisions_from_one(here, elsewhere):
    """Its records stay where the ConfigMap outlives the Deployment that it belonged to."""
    for number in range(1, 21):
        here.write(here.record(number, phase=Phase.COMPLETE, revision=number + 100))
    here.write(here.record(21, phase=Phase.COMPLETE, revision=1))
    assert next(iter(elsewhere.read())) == rollout_id(21)


# Nonsense


@pytest.mark.parametrize(
    "nonsense",
    ["", "not JSON", "{", "null", "3", "[]", "{}", '"text"', '{"rollout": {}}', '{"rollout": null, "template": {}}'],
)
def test_nonsense_is_neither_read_nor_changed(here, elsewhere, cluster, stored, nonsense):
    here.write(here.record(1))
    cluster.patch({"data": {"README": nonsense, rollout_id(9): nonsense}}, CONFIG_MAP, "configmaps")
    assert elsewhere.read() == {rollout_id(1): here.record(1)}
    assert elsewhere.write(elsewhere.record(2))
    assert elsewhere.read() == {rollout_id(2): here.record(2), rollout_id(1): here.record(1)}
    assert stored()["README"] == nonsense


def test_a_config_map_that_holds_nothing(here, elsewhere, cluster):
    cluster.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": CONFIG_MAP}}, "configmaps")
    assert here.read() == {}
    assert here.write(here.record())
    assert elsewhere.read() == {rollout_id(1): here.record()}


# Records of a newer version


def write_all(cluster, texts, uid):
    """Create the ConfigMap with these records."""
    owner = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "uid": uid}
    metadata = {"name": CONFIG_MAP, "ownerReferences": [owner]}
    cluster.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": texts}, "configmaps")


def test_records_of_a_newer_version_stay_byte_for_byte_when_another_one_is_written(here, cluster, stored):
    newer = {key: json.dumps(of_the_future(text), indent=2) for key, text in RECORDED.items()}
    write_all(cluster, newer, here.live["metadata"]["uid"])
    assert here.write(here.record(1))
    assert stored() == newer | {rollout_id(1): stored()[rollout_id(1)]}


def test_a_record_that_cannot_be_read_is_kept_until_twenty_newer_ones_are_there(here, cluster, stored):
    cancelled = RECORDED["20261124T065148.279014Z"].replace('"phase":"complete"', '"phase":"cancelled"')
    cancelled = cancelled.replace("20261124T065148.279014Z", rollout_id(3))
    write_all(cluster, {rollout_id(3): cancelled}, here.live["metadata"]["uid"])
    assert here.read() == {}
    for number in (1, 2, *range(4, 24)):
        assert stored()[rollout_id(3)] == cancelled
        here.write(here.record(number))
    assert sorted(stored()) == [rollout_id(number) for number in range(4, 24)]


def test_the_size_is_counted_in_bytes(here, elsewhere, stored):
    """A ConfigMap holds 1 MiB, and a Korean letter takes three bytes of it."""
    template = copy.deepcopy(here.live["spec"]["template"])
    template["spec"]["containers"][0]["env"] = [{"name": "GREETING", "value": "안" * 60_000}]
    for number in range(1, 8):
        assert here.write(here.record(number, template=template))
    assert sum(len(text.encode()) for text in stored().values()) < 900_000
    assert 3 <= len(elsewhere.read()) <= 5
