"""The limits on the requests that wait for a verdict, and on those that ask the cluster."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from errors import Unreachable
from tests.service import wait_for
from web.parts import MAX_CALLING_REQUESTS, MAX_STANDSTILL_SECONDS, MAX_WAITING_REQUESTS, Calling, Waiting


def test_requests_wait_until_all_slots_are_taken():
    waiting = Waiting()
    with ExitStack() as taken:
        for _ in range(MAX_WAITING_REQUESTS):
            assert taken.enter_context(waiting.slot(25)) == 25
        with waiting.slot(25) as granted:
            assert granted == 0
    with waiting.slot(7.5) as granted:
        assert granted == 7.5


def test_a_request_that_does_not_wait_takes_no_slot():
    waiting = Waiting()
    with ExitStack() as stack:
        for _ in range(MAX_WAITING_REQUESTS):
            assert stack.enter_context(waiting.slot(0)) == 0
        assert stack.enter_context(waiting.slot(1)) == 1


def test_an_error_frees_the_slot():
    waiting = Waiting()
    for _ in range(MAX_WAITING_REQUESTS + 1):
        with pytest.raises(LookupError), waiting.slot(1) as granted:
            assert granted == 1
            raise LookupError


def test_requests_queue_for_the_cluster_while_it_answers():
    calling, most = Calling(), []
    inside = []

    def ask(_):
        with calling.slot():
            inside.append(1)
            most.append(len(inside))
            time.sleep(0.1)
            inside.pop()

    with ThreadPoolExecutor(64) as pool:
        list(pool.map(ask, range(200)))
    assert max(most) <= MAX_CALLING_REQUESTS


def test_requests_are_refused_while_the_cluster_hangs():
    calling, hangs = Calling(), threading.Event()

    def hang():
        with calling.slot():
            hangs.wait()

    with ThreadPoolExecutor(MAX_CALLING_REQUESTS) as pool, ExitStack() as ending:
        ending.callback(hangs.set)
        for _ in range(MAX_CALLING_REQUESTS):
            pool.submit(hang)
        wait_for(lambda: calling._inside == MAX_CALLING_REQUESTS)
        # The first one finds out that no place comes free; the second one is refused at once.
        for most in (MAX_STANDSTILL_SECONDS + 1, 1):
            began = time.monotonic()
            with pytest.raises(Unreachable), calling.slot():
                pass
            assert time.monotonic() - began < most
        with calling.slot(granted=25):
            pass
    with calling.slot():
        pass


@pytest.mark.simulated_only
def test_an_api_server_that_hangs_under_80_pollers(services, cluster):
    service = services("api-hangs")
    service.reset(cluster.namespace)
    assert service.signal().status == 200
    fault = cluster.simulation.fail(10_000, "GET", f"/namespaces/{cluster.namespace}/", delay=12)
    answers, ended = [], threading.Event()

    def poll():
        while not ended.is_set():
            answers.append(service.show(wait=5))
            ended.wait(1)

    with ThreadPoolExecutor(80) as pool:
        try:
            for _ in range(80):
                pool.submit(poll)
            slowest = 0
            for _ in range(20):
                began = time.monotonic()
                assert service.get("/healthz").status == service.get("/readyz").status == 200
                slowest = max(slowest, time.monotonic() - began)
                time.sleep(0.1)
        finally:
            fault.times = 0
            ended.set()
    assert slowest < 1
    refused = [each for each in answers if each.status == 503]
    assert {each.headers["Retry-After"] for each in refused} == {"5"}
    assert "too many requests wait for the API server" in refused[0].text
