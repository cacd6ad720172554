"""Pauses between attempts double up to a limit, vary at random, and end early when asked."""

import threading
import time

import pytest

from cluster.backoff import Backoff


@pytest.fixture
def pauses(monkeypatch):
    """Record each pause instead of waiting for it, and let chance always choose the same factor."""
    slept = []
    monkeypatch.setattr("cluster.backoff.time.sleep", slept.append)

    def pauses(backoff, count, factor=1):
        monkeypatch.setattr("cluster.backoff.random.uniform", lambda low, high: {0.5: low, 1: high}[factor])
        slept.clear()
        for _ in range(count):
            backoff.pause()
        return list(slept)

    return pauses


def test_each_pause_doubles_the_one_before_up_to_the_limit(pauses):
    assert pauses(Backoff(0.5, 3), 5) == [0.5, 1, 2, 3, 3]


def test_a_pause_is_cut_to_half_at_most(pauses):
    assert pauses(Backoff(0.5, 3), 4, factor=0.5) == [0.25, 0.5, 1, 1.5]


def test_after_a_reset_the_pauses_start_again(pauses):
    backoff = Backoff(1, 10)
    assert pauses(backoff, 3) == [1, 2, 4]
    backoff.reset()
    assert pauses(backoff, 2) == [1, 2]


def test_two_callers_that_fail_together_wait_for_different_times(monkeypatch):
    slept = []
    monkeypatch.setattr("cluster.backoff.time.sleep", slept.append)
    for _ in range(20):
        Backoff(1, 10).pause()
    assert len(set(slept)) > 1
    assert all(0.5 <= seconds <= 1 for seconds in slept)


def test_a_pause_ends_early_when_the_event_is_set():
    stopped, backoff = threading.Event(), Backoff(30, 30)
    threading.Timer(0.05, stopped.set).start()
    began = time.monotonic()
    backoff.pause(stopped)
    backoff.pause(stopped)
    assert time.monotonic() - began < 5
