"""`make bench` is red where a target is missed."""

from tests.bench.figure import Figure, judge

MET = Figure("a signal", 1.7, " s", at_most=1.8)
MISSED = Figure("  growth", 2.0, " MiB", at_most=1)
INFORMS = Figure("memory after all this", 900, " MiB")
NOT_MEASURED = Figure("memory after start", None, " MiB", at_most=65)


def test_a_missed_target_is_named():
    assert judge([MET, MISSED, INFORMS]) == "missed:\n  growth: 2 MiB, target ≤ 1 MiB"
    assert MISSED.cells()[3] == "MISSED"


def test_without_a_missed_target_it_ends_well():
    assert judge([MET, INFORMS, NOT_MEASURED]) == 0
    assert MET.cells() == ("a signal", "1.70 s", "≤ 1.80 s", "ok")
    assert judge([Figure("just so", 1.8, at_most=1.8)]) == 0
