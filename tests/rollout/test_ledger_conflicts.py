"""The ledger while several clients write it, and while the API server is away or refuses."""

import threading

import pytest

from errors import Unreachable
from rollout.model import Phase
from rollout.record import new_record
from tests.rollout.cases import rollout_id
from tests.rollout.helpers import CONFIG_MAP

# Several clients write it


def test_a_writer_decides_again_when_another_one_has_written(here, elsewhere):
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


def test_a_writer_that_finds_a_verdict_writes_nothing(here, elsewhere, cluster):
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
    version = cluster.get(CONFIG_MAP, "configmaps")["metadata"]["resourceVersion"]
    assert not elsewhere.change(decide_by(elsewhere, Phase.FAILED))
    assert cluster.get(CONFIG_MAP, "configmaps")["metadata"]["resourceVersion"] == version
    assert elsewhere.read()[rollout_id(1)].rollout.phase is Phase.COMPLETE


def test_two_writers_create_the_config_map(here, elsewhere):
    for place in (here, elsewhere):
        place.change(lambda records: None)
    assert here.write(here.record(1))
    assert elsewhere.write(elsewhere.record(2))
    assert sorted(here.read()) == [rollout_id(1), rollout_id(2)]


def test_many_writers_at_once_lose_nothing(here, elsewhere):
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


def test_another_client_deletes_the_config_map(here, elsewhere, cluster):
    here.write(here.record(1))
    cluster.delete(CONFIG_MAP, "configmaps")
    assert here.read() == {}
    seen = []
    assert here.change(lambda records: seen.append(sorted(records)) or here.record(2))
    assert seen[-1] == []
    assert list(elsewhere.read()) == [rollout_id(2)]


def test_keys_and_labels_of_other_clients_stay(here, cluster, stored):
    here.write(here.record(1))
    cluster.patch({"metadata": {"labels": {"team": "a"}}, "data": {"notes": "ours"}}, CONFIG_MAP, "configmaps")
    here.write(here.record(2))
    assert stored().keys() == {"notes", rollout_id(1), rollout_id(2)}
    assert cluster.get(CONFIG_MAP, "configmaps")["metadata"]["labels"]["team"] == "a"


@pytest.mark.simulated_only
def test_a_write_that_always_conflicts_is_given_up(here, cluster):
    here.write(here.record(1))
    cluster.simulation.fail(times=1_000, method="PATCH", path=CONFIG_MAP, status=409)
    with pytest.raises(Unreachable, match="changes all the time"):
        here.write(here.record(2))


# The API server is away, or refuses


@pytest.mark.simulated_only
def test_a_write_whose_answer_was_lost_is_found_when_deciding_again(here, elsewhere, cluster):
    here.write(here.record(1))
    writing = new_record(here.live)

    def arrives():
        elsewhere.write(writing.replace(notified=True))

    cluster.simulation.fail(method="PATCH", path=CONFIG_MAP, call=arrives, drop=True)
    assert not here.change(lambda records: None if records[rollout_id(1)].notified else writing.replace(notified=True))
    assert elsewhere.read()[rollout_id(1)].notified
