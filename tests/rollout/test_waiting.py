"""Requests that wait for a verdict: for how long, how many, and what they answer when the time is up."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.conftest import deployment
from tests.rollout.helpers import FIELDS
from tests.service import wait_for


@pytest.mark.parametrize("wait", [0.2, 0.5])
def test_when_the_time_is_up_the_answer_is_202(service, wait):
    answer = service.signal(image="acme/web:unready", wait=wait)
    assert (answer.status, answer.text.split()[0].rstrip(":")) == (202, "progressing")
    shown = service.show(wait=wait)
    assert (shown.status, shown.json()["phase"]) == (202, "progressing")
    assert shown.json()["id"] in answer.text
    assert shown.json()["replicas"]["ready"] == 0


@pytest.mark.parametrize("wait", [25, 26, 100000, True, "true"])
def test_more_than_25_seconds_are_taken_as_25(service, wait):
    if wait != "true":
        assert service.deploy(wait=wait).status == 200
    else:
        service.deploy(wait=False)
    assert service.show(wait=wait).status == 200


@pytest.mark.parametrize("wait", ["10", -1, None, [1], {}, "true"])
def test_a_bad_wait_is_named_and_nothing_happens(service, cluster, wait):
    answer = service.deploy(wait=wait)
    assert (answer.status, "wait" in answer.json()["error"]) == (400, True)
    assert service.roll_back(wait=wait).status == 400
    assert cluster.get() is None


@pytest.mark.parametrize("wait", ["-1", "soon", "1e", "e1", "1_0", "nan", "inf", ""])
def test_a_bad_wait_in_a_url_is_named(service, wait):
    service.deploy(wait=False)
    answer = service.show(wait=wait)
    assert (answer.status, "wait" in answer.json()["error"]) == (400, True)


@pytest.mark.parametrize(
    ("path", "fields", "named"),
    [
        ("web", {"rollback_on_failure": "yes"}, "rollback_on_failure"),
        ("web", {"rollback_on_failure": 1}, "rollback_on_failure"),
        ("web/rollback", {"revision": "1"}, "revision"),
        ("web/rollback", {"revision": 1.5}, "revision"),
        ("web/rollback", {"revision": -1.0}, "revision"),
        ("web/rollback", {"revision": True}, "revision"),
        ("web/rollback", {"revision": 0}, "revision"),
        ("web/rollback", {"cause": 7}, "cause"),
    ],
)
def test_a_bad_field_is_named(service, path, fields, named):
    answer = service.deploy(path, **fields)
    assert (answer.status, named in answer.json()["error"]) == (400, True)


def test_more_waiting_requests_than_half_of_the_threads(service):
    service.configure("api", deployment("api"))
    service.deploy("api")
    service.deploy(image="acme/web:unready", wait=False)
    with ThreadPoolExecutor(40) as pool:
        waiting = [pool.submit(service.show, wait=25) for _ in range(40)]
        wait_for(lambda: sum(each.done() for each in waiting) >= 8, 15)
        busy = [each.result() for each in waiting if each.done()]
        assert {each.status for each in busy} == {202}
        assert all(int(each.headers["Retry-After"]) > 0 for each in busy)
        assert service.get("/healthz").status == service.get("/readyz").status == 200
        # Signals are served; a signal that wants to wait is answered at once, and says when to ask again.
        assert service.deploy("api", wait=False).status == 200
        turned_away = service.deploy("api", wait=True)
        assert (turned_away.status, "Retry-After" in turned_away.headers) == (202, True)
        assert turned_away.json().keys() == FIELDS
        assert sum(each.done() for each in waiting) == len(busy) == 8
        assert service.deploy(wait=False).status == 200
        answers = [each.result() for each in waiting if each.result() not in busy]
    assert {(each.status, each.json()["phase"]) for each in answers} == {(409, "superseded")}
    assert service.show("api", id=turned_away.json()["id"], wait=20).status == 200
    assert "Retry-After" not in service.show(wait=20).headers
