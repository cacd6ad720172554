"""`make bench` starts, and is red where a target is missed."""

import os
import signal
import subprocess
import sys

from tests.bench.figure import Figure, judge
from tests.service import ROOT

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


def test_it_starts_on_the_simulated_cluster(tmp_path):
    environ = os.environ | {"TMPDIR": str(tmp_path), "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "tests.bench"]
    with subprocess.Popen(command, cwd=ROOT, env=environ, stdout=subprocess.PIPE, text=True) as bench:
        assert bench.stdout.readline().startswith("simulated cluster, Kubernetes v1.")
        bench.send_signal(signal.SIGINT)
        bench.stdout.read()
    assert list(tmp_path.iterdir()) == []
