"""Rollouts while other clients change, delete or spoil the ConfigMap with the records."""

import json
import time

import pytest

from tests.rollout.helpers import (
    CONFIG_MAP,
    fail,
    id_of,
    image_of,
    in_background,
    limit_pods,
    phases,
    records,
    restart,
    wait_for_records,
)

pytestmark = pytest.mark.simulated_only


def test_another_client_writes_the_ledger_in_between(service, cluster):
    service.deploy()
    key, text = cluster.get(CONFIG_MAP, "configmaps")["data"].popitem()
    other = text.replace(key, "20200101T000000.000000Z")

    def write():
        cluster.patch({"data": {"20200101T000000.000000Z": other}}, CONFIG_MAP, "configmaps")
        cluster.patch({"metadata": {"labels": {"changed": str(time.monotonic_ns())}}}, CONFIG_MAP, "configmaps")

    fail(cluster, 3, "PATCH", "configmaps", call=write)
    answer = service.deploy(image="acme/web:2")
    assert answer.status == 200
    assert len(records(cluster)) == 3
    assert [each["rollout"]["phase"] for each in records(cluster)] == ["complete"] * 3


def test_the_ledger_is_deleted(service, cluster):
    service.deploy()
    cluster.simulation.wait_for(lambda: all(each["told"] for each in records(cluster)))
    limit_pods(cluster, 1)
    waiting = in_background(service.deploy, image="acme/web:2", wait=20)
    wait_for_records(cluster, 2)
    cluster.delete(CONFIG_MAP, "configmaps")
    limit_pods(cluster, None)
    answer = waiting.result()
    assert (answer.status, answer.json()["phase"]) == (200, "complete")
    assert phases(service.show()) == ["complete"]
    cluster.simulation.wait_for(lambda: all(each["told"] for each in records(cluster)))
    cluster.delete(CONFIG_MAP, "configmaps")
    # A rollout without a record is taken up, as if the process had died before it could record it.
    shown = service.show(wait=True)
    assert (shown.status, shown.json()["image"]) == (200, "acme/web:2")
    # Without a record the target is the previous ReplicaSet.
    back = service.roll_back()
    assert (back.status, image_of(cluster.get())) == (200, "acme/web:1")
    assert "unverified" in back.json()["history"][0]["cause"]


NONSENSE = ["", "{", "null", "7", "[]", "{}", '{"rollout": {}}', '{"rollout": null, "template": 3}', "é" * 50]
EDITED = [
    {"rollout": []},
    {"template": {"spec": []}},
    {"template": {"spec": {"containers": ["web"]}}},
    {"template": {"spec": {"containers": []}}},
    {"digests": 7},
    {"digests": {"web": 7}},
    {"cause": None},
    {"told": "yes"},
    {"told": False, "claimed_at": "yesterday"},
    {"rollback": "soon"},
    {"from_a_newer_version": 1},
    {"rollout": {"phase": "happy"}},
    {"rollout": {"phase": "failed", "finished_at": None}},
    {"rollout": {"started_at": 7}},
    {"rollout": {"revision": "7"}},
    {"rollout": {"causes": [{"reason": 7}]}},
    {"rollout": {"causes": None}},
    {"rollout": {"id": "another"}},
    {"rollout": {"from_a_newer_version": 1}},
]


def test_nonsense_in_the_ledger_stops_no_rollout(service, cluster):
    service.deploy()
    good = records(cluster)[0]
    limit_pods(cluster, 1)
    waiting = in_background(service.deploy, image="acme/web:2")
    wait_for_records(cluster, 2)
    nonsense = {f"20300101T00000{number}.000000Z": each for number, each in enumerate(NONSENSE)}
    entries = nonsense | {"README": "hands off", "20200101T000000.000000Z": "x", id_of(cluster.get()): "nonsense"}
    # JSON that is not quite as this service writes it may be left out, and must not stop a rollout either.
    edited = {f"20200101T0000{number + 10}.000000Z": each for number, each in enumerate(EDITED)}
    for key, each in edited.items():
        rollout = good["rollout"] | {"id": key}
        if isinstance(each.get("rollout"), dict):
            each = each | {"rollout": rollout | each["rollout"]}
        entries[key] = json.dumps(good | {"rollout": rollout} | each)
    cluster.patch({"data": entries}, CONFIG_MAP, "configmaps")
    limit_pods(cluster, None)
    answer = waiting.result()
    assert (answer.status, answer.json()["phase"]) == (200, "complete")
    for shown in (service.show(), service.show(id=answer.json()["id"])):
        assert (shown.status, shown.json().get("id")) == (200, answer.json()["id"]), shown.text
    statuses = {key: service.show(id=key).status for key in entries}
    assert set(statuses.values()) <= {200, 404, 424}, statuses
    restart(service)
    assert service.show(id=answer.json()["id"]).status == 200
    assert phases(service.show())[:1] == ["complete"]
    assert service.roll_back(revision=99).status == 409
    assert service.roll_back(revision=1).status == 200


def test_a_rollout_that_another_process_left_unfinished_is_superseded(service, cluster):
    """It was recorded after this process last read the records, and another rollout is live by now."""
    limit_pods(cluster, 0)
    newest = service.deploy(wait=False).json()["id"]
    cluster.simulation.wait_for(lambda: records(cluster))
    key, (record,) = "20200101T000000.000000Z", records(cluster)
    left = record | {"rollout": record["rollout"] | {"id": key}}
    cluster.patch({"data": {key: json.dumps(left)}}, CONFIG_MAP, "configmaps")
    shown = service.show()
    assert (shown.status, shown.json().get("id")) == (202, newest), shown.text
    assert (service.show(id=key).status, service.show(id=key).json()["phase"]) == (409, "superseded")
    limit_pods(cluster, None)
    assert service.show(wait=True).status == 200
