"""Requests that schemathesis makes up from openapi.yaml: the service answers each of them as the document says."""

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.service import ROOT

pytestmark = pytest.mark.simulated_only

SCHEMATHESIS = Path(sys.executable).with_name("schemathesis")
MAX_SECONDS = 30
# The token of the document's example.
TOKEN = "9f86d081884c7d659a2feaa0c55ad015"


def test_every_answer_is_in_the_document(quick_service, tmp_path):
    quick_service.password("dockerhub", TOKEN)
    command = [
        *(SCHEMATHESIS, "run", ROOT / "openapi.yaml", "--url", quick_service.url, "--no-color"),
        *("--header", f"Authorization: Bearer {quick_service.right}", "--header", "Accept: application/json"),
        # The same requests in every run.
        *("--generation-deterministic", "--max-examples", "40", "--phases", "examples,coverage,fuzzing"),
        # A schema can't say that a text is JSON or an image.
        *("--checks", "all", "--exclude-checks", "positive_data_acceptance", "--continue-on-failure"),
    ]
    # It writes to its working directory.
    run = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        output, _ = run.communicate(timeout=MAX_SECONDS)
    except subprocess.TimeoutExpired:
        # A busy machine leaves out the last requests.
        run.send_signal(signal.SIGINT)
        output, _ = run.communicate(timeout=MAX_SECONDS)
    assert re.search(r"Operations: +([0-9]+) selected / \1 total", output), output
    assert "FAILURES" not in output, output
    assert "ERRORS" not in output, output
    assert run.returncode in (0, 128 + signal.SIGINT), output
    assert not [line for line in quick_service.lines if line.startswith("Traceback")]
