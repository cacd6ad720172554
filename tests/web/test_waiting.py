"""The limit on waiting requests."""

from contextlib import ExitStack

import pytest

from web.parts import MAX_WAITING_REQUESTS, Waiting


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
