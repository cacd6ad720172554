"""A signal with an Idempotency-Key that is sent again: it is answered with its rollout, and starts nothing."""

import threading

import pytest

from deployment_spec import Signal
from errors import KeyReused
from manifest.annotations import SIGNAL
from rollout.duplicates import Duplicate, refuse_duplicate
from rollout.model import Phase
from tests.conftest import deployment
from tests.rollout.cases import ENDED, record_of, rollout_id
from tests.rollout.helpers import (
    Gate,
    fail,
    in_background,
    limit_pods,
    phases,
    records,
    restart,
    wait_for_records,
)
from tests.service import PASSWORD

KEY = "7-1-deploy-web"


@pytest.fixture
def service(notifying):
    return notifying


def send(service, path="/deployment/web", key=KEY, accept="application/json", **fields):
    """Signal with a key."""
    return service.post(path, {"pw": PASSWORD, **fields}, Accept=accept, Idempotency_Key=key)


def replayed(answer):
    """Return whether an answer is about the rollout of an earlier signal."""
    return answer.headers["Idempotent-Replayed"] == "true"


def rollouts(cluster):
    """Return how many rollouts there were."""
    return len(cluster.replica_sets())


def test_a_signal_that_is_sent_again_is_answered_as_get_answers(service, cluster):
    first = send(service, image="acme/web:1", wait=True)
    assert (first.status, replayed(first)) == (200, False)
    again = send(service, image="acme/web:1", wait=True)
    shown = service.show(id=first.json()["id"])
    assert (again.status, replayed(again), again.json()) == (200, True, shown.json())
    text = send(service, image="acme/web:1", wait=True, accept="text/plain")
    assert text.text == service.show(accept="text/plain", id=first.json()["id"]).text
    assert (rollouts(cluster), len(records(cluster))) == (1, 1)


def test_a_failed_rollout_is_not_tried_again(service, cluster):
    service.deploy()
    first = send(service, image="acme/web:missing", wait=True)
    again = send(service, image="acme/web:missing", wait=True)
    assert (first.status, again.status, replayed(again)) == (424, 424, True)
    assert rollouts(cluster) == 2


def test_a_repeated_signal_waits_as_its_body_says(service, cluster):
    limit_pods(cluster, 0)
    first = in_background(send, service, wait=20)
    wait_for_records(cluster, 1)
    again = in_background(send, service, wait=20)
    at_once = send(service, key="another", dry_run=True)
    assert (at_once.status, again.done()) == (200, False)
    limit_pods(cluster, None)
    answers = [first.result(), again.result()]
    assert [answer.status for answer in answers] == [200, 200]
    assert [replayed(answer) for answer in answers] == [False, True]
    assert len({answer.json()["id"] for answer in answers}) == 1


def test_without_wait_a_repeated_signal_tells_that_its_rollout_progresses(service, cluster):
    limit_pods(cluster, 0)
    first = send(service)
    again = send(service)
    assert (first.status, again.status, replayed(again)) == (200, 202, True)
    assert again.json()["id"] == first.json()["id"]


@pytest.mark.parametrize(
    "other", [{"image": "acme/web:2"}, {"image": "acme/web:1", "cause": "x"}, {"image": "acme/web:1", "wait": 5}, {}]
)
def test_another_body_under_the_same_key_is_refused(service, cluster, other):
    first = send(service, image="acme/web:1", wait=True)
    answer = send(service, **other)
    assert (answer.status, answer.json()["reason"]) == (422, "KeyReused")
    assert first.json()["id"] in answer.json()["error"]
    assert rollouts(cluster) == 1


def test_a_rollback_under_the_key_of_a_deploy_is_another_body(service):
    send(service, wait=True)
    service.deploy(image="acme/web:2")
    answer = send(service, "/deployment/web/rollback", wait=True)
    assert (answer.status, answer.json()["reason"]) == (422, "KeyReused")


def test_the_password_and_ignored_fields_do_not_make_another_body(service, cluster):
    service.password("web", "only-for-web-0123456")
    first = send(service, wait=True)
    again = send(service, wait=True, sent_at="later", pw="only-for-web-0123456")
    assert (again.status, again.json()["id"], again.json()["by"]) == (200, first.json()["id"], "password default")
    assert again.json()["ignored"] == ["sent_at"]


def test_another_key_and_another_deployment_start_a_rollout(service, cluster):
    service.configure("api", deployment("api", "acme/api:1"))
    ids = {send(service, wait=True).json()["id"], send(service, key="another", wait=True).json()["id"]}
    ids.add(send(service, "/deployment/api", wait=True).json()["id"])
    assert len(ids) == 3


def test_the_key_holds_after_newer_rollouts_and_a_restart(service, replica, cluster):
    first = send(service, wait=True).json()
    service.deploy(image="acme/web:2")
    restart(service)
    for each in (service, replica):
        again = send(each, wait=True)
        assert (again.status, replayed(again), again.json()["id"]) == (200, True, first["id"])
    assert rollouts(cluster) == 2


@pytest.mark.simulated_only
def test_the_key_holds_while_its_rollout_is_not_recorded_yet(service, replica, cluster):
    service.deploy()
    wait_for_records(cluster, 1, told=True)
    limit_pods(cluster, 1)
    gate = Gate(cluster, "PATCH", "configmaps", drop=False)
    first = send(service, image="acme/web:2")
    gate.wait_until_reached()
    assert len(records(cluster)) == 1
    for each in (service, replica):
        again = send(each, image="acme/web:2")
        assert (replayed(again), again.json()["id"]) == (True, first.json()["id"])
    # The process itself knows of it even when the Deployment tells of a newer rollout.
    service.deploy(image="acme/web:3", wait=False)
    again = send(service, image="acme/web:2")
    assert (replayed(again), again.json()["id"]) == (True, first.json()["id"])
    gate.open()
    limit_pods(cluster, None)


@pytest.mark.simulated_only
def test_the_key_holds_though_a_newer_signal_came_before_the_record(service, replica, cluster):
    """The first rollout is superseded at once, and its record waits until all signals are answered."""
    service.deploy()
    wait_for_records(cluster, 1, told=True)
    gate = Gate(cluster, "PATCH", "configmaps")
    first = send(service, image="acme/web:2").json()["id"]
    assert send(replica, key="another", image="acme/web:3").status == 200
    again = in_background(send, replica, image="acme/web:2")
    shown = in_background(replica.show, id=first)
    gate.wait_until_reached()
    gate.open()
    assert replayed(again.result())
    assert [answer.json()["id"] for answer in (again.result(), shown.result())] == [first, first]
    assert [answer.status for answer in (again.result(), shown.result())] == [409, 409]
    cluster.wait_for(lambda: rollouts(cluster) == 3)


@pytest.mark.simulated_only
@pytest.mark.parametrize("exists", [False, True])
def test_the_same_key_at_two_replicas_at_the_same_moment_is_one_rollout(service, replica, cluster, exists):
    if exists:
        service.deploy()
        wait_for_records(cluster, 1, told=True)
    both = threading.Barrier(2, timeout=10)
    where = "deployments/web" if exists else "deployments"
    fail(cluster, 2, "PATCH" if exists else "POST", where, call=both.wait)
    sent = [in_background(send, each, image="acme/web:2", wait=20) for each in (service, replica)]
    answers = [each.result() for each in sent]
    assert [answer.status for answer in answers] == [200, 200]
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert sorted(replayed(answer) for answer in answers) == [False, True]
    assert (rollouts(cluster), len(records(cluster))) == (1 + exists, 1 + exists)


@pytest.mark.simulated_only
def test_the_same_rollback_at_two_replicas_at_the_same_moment_is_one_rollout(service, replica, cluster):
    for image in ("acme/web:1", "acme/web:2"):
        service.deploy(image=image)
    wait_for_records(cluster, 2, told=True)
    both = threading.Barrier(2, timeout=10)
    fail(cluster, 2, "PATCH", "deployments/web", call=both.wait)
    sent = [in_background(send, each, "/deployment/web/rollback", wait=20) for each in (service, replica)]
    answers = [each.result() for each in sent]
    assert [(answer.status, answer.json()["rolled_back_to"]) for answer in answers] == [(200, 1)] * 2
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert sorted(replayed(answer) for answer in answers) == [False, True]
    assert phases(service.show()) == ["complete"] * 3


def test_a_rollback_that_is_sent_again_goes_no_further_back(service, cluster):
    for image in ("acme/web:1", "acme/web:2", "acme/web:3"):
        service.deploy(image=image)
    first = send(service, "/deployment/web/rollback", wait=True)
    again = send(service, "/deployment/web/rollback", wait=True)
    assert [each.json()["rolled_back_to"] for each in (first, again)] == [2, 2]
    assert (first.json()["id"], replayed(again)) == (again.json()["id"], True)


@pytest.mark.parametrize(
    "change", [{"spec": {"paused": True}}, {"metadata": {"annotations": {"auto-deployer/locked": ""}}}]
)
def test_paused_or_locked_meanwhile_it_is_still_answered(service, cluster, change):
    service.deploy()
    first = [send(service, image="acme/web:2", wait=True), send(service, "/deployment/web/rollback", "back", wait=True)]
    cluster.patch(change)
    again = [send(service, image="acme/web:2", wait=True), send(service, "/deployment/web/rollback", "back", wait=True)]
    assert [(each.status, replayed(each)) for each in again] == [(200, True)] * 2
    assert [each.json()["id"] for each in first] == [each.json()["id"] for each in again]
    assert send(service, key="new").status == 409


def test_a_dry_run_uses_no_key_up(service, cluster):
    tried = send(service, dry_run=True)
    assert (tried.status, replayed(tried), cluster.get()) == (200, False, None)
    assert send(service, wait=True).status == 200
    # Another body under the same key, as any other.
    tried = send(service, dry_run=True)
    assert (tried.status, tried.json()["reason"]) == (422, "KeyReused")
    service.deploy(image="acme/web:2")
    tried = send(service, "/deployment/web/rollback", "back", dry_run=True)
    assert (tried.status, replayed(tried)) == (200, False)
    back = send(service, "/deployment/web/rollback", "back", wait=True)
    assert (back.status, replayed(back)) == (200, False)


@pytest.mark.parametrize("key", ["", "x" * 129, "a\tb", "k\xe9y"])
@pytest.mark.parametrize("path", ["/deployment/web", "/deployment/web/rollback"])
def test_what_is_no_key_is_refused_and_changes_nothing(service, cluster, path, key):
    answer = send(service, path, key)
    assert (answer.status, answer.json()["reason"]) == (400, "BadRequest")
    assert "Idempotency-Key" in answer.json()["error"]
    assert send(service, path, key, pw="wrong-horse-battery-staple").status == 403
    assert cluster.get() is None


def test_a_signal_that_was_refused_uses_no_key_up(service, cluster):
    assert send(service, image="acme/other:1").status == 403
    assert send(service, image="acme/web:1", wait=True).status == 200


@pytest.mark.simulated_only
@pytest.mark.parametrize("headers", [{}, {"Idempotency_Key": KEY}])
def test_only_a_signal_with_a_key_reads_the_records_before_it_deploys(quiet, cluster, headers):
    cluster.create(deployment())
    quiet.post("/deployment/web", {"pw": PASSWORD}, **headers)
    calls = [(each.verb, each.resource) for each in cluster.requests if each.user != "admin"]
    patch = calls.index(("patch", "deployments"))
    assert (("get", "configmaps") in calls[:patch]) == bool(headers)


@pytest.mark.simulated_only
def test_a_rollback_whose_answers_are_lost_is_followed(service, cluster):
    for image in ("acme/web:1", "acme/web:2"):
        service.deploy(image=image)
    wait_for_records(cluster, 2, told=True)
    fail(cluster, 2, "PATCH", "deployments/web", drop=True, late=True)
    answer = service.roll_back()
    assert (answer.status, answer.json()["rolled_back_to"]) == (200, 1)
    assert phases(answer) == ["complete"] * 3


# The rule itself

LIVE = deployment(namespace="default")
LIVE["metadata"]["annotations"] = {}


def keyed(number, key=KEY, fingerprint="f", **fields):
    """Return the record of a signal with a key."""
    return record_of(LIVE, number, phase=Phase.COMPLETE, finished_at=ENDED, **fields).replace(
        key=key, fingerprint=fingerprint
    )


@pytest.mark.parametrize(
    ("signal", "refusal"),
    [
        (Signal(key=KEY, fingerprint="f"), Duplicate),
        (Signal(key=KEY, fingerprint="g"), KeyReused),
        (Signal(key="another", fingerprint="f"), None),
        (Signal(), None),
        (Signal(key=KEY, fingerprint="g", dry_run=True), KeyReused),
        # The rollout of the test is older than that.
        (Signal(key=KEY, fingerprint="f", key_seconds=10), None),
        (Signal(key=KEY, fingerprint="f", key_seconds=10**9), Duplicate),
    ],
)
def test_which_signal_is_refused(signal, refusal):
    found = [keyed(2, "of another signal"), keyed(1)]
    if refusal is None:
        refuse_duplicate(signal, None, found)
    else:
        with pytest.raises(refusal, match=rollout_id(1)):
            refuse_duplicate(signal, None, found)


@pytest.mark.parametrize("written", ["nonsense", "[]", "3", '{"id": 3}', '{"key": "7-1-deploy-web"}'])
def test_a_note_that_another_client_has_spoiled_is_no_key(written):
    live = deployment(namespace="default")
    live["metadata"]["annotations"] = {SIGNAL: written}
    refuse_duplicate(Signal(key=KEY, fingerprint="f"), live, [])
