"""How often something happens within a second."""

import threading

import rate
from access.passwords import MAX_READS_PER_SECOND
from rate import PerSecond
from tests.service import ROOT


def test_a_thread_that_is_late_begins_no_second_anew(monkeypatch):
    other_counted = threading.Event()

    def monotonic():
        if threading.current_thread() is late:
            other_counted.wait(0.3)
            return 10.9
        return 11.0

    monkeypatch.setattr(rate, "monotonic", monotonic)
    each = PerSecond()
    late = threading.Thread(target=each.count)
    late.start()
    assert each.count() == 1
    other_counted.set()
    late.join()
    assert each.count() == 2


def test_more_reads_are_allowed_than_there_are_threads():
    [threads] = [line for line in (ROOT / "uwsgi.ini").read_text().splitlines() if line.startswith("threads =")]
    assert int(threads.partition("=")[2]) < MAX_READS_PER_SECOND
