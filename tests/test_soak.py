"""`make soak` starts, and tells what is wrong with a rollout."""

import json
import os
import signal
import subprocess
import sys

import pytest

from manifest.annotations import RESTARTED_AT, ROLLED_BACK_TO
from tests.service import ROOT
from tests.simulation import SimulatedCluster
from tests.soak.seen import Seen

COMPLETE = {"revision": 1, "image": "acme/web:1", "phase": "complete", "finished_at": "then", "rolled_back_to": None}
FAILED = COMPLETE | {"phase": "failed", "image": "acme/web:crash", "message": "does not start"}
SUPERSEDED = COMPLETE | {"phase": "superseded"}
MESSAGE = {"message": "ok: revision 1 of web in default"}


@pytest.fixture
def seen():
    """Return what was seen of one rollout, a, that its sender knows of."""
    seen = Seen(SimulatedCluster())
    start(seen, "a")
    return seen


def start(seen, rollout_id, **annotations):
    template = {"metadata": {"annotations": {RESTARTED_AT: rollout_id}}}
    metadata = {"name": "web", "annotations": annotations}
    seen._notice("deployments", None, {"metadata": metadata, "spec": {"template": template}})
    seen.answered({"id": rollout_id, "finished_at": None})


def record(seen, rollout, rollout_id="a", told=True, rollback="none"):
    text = json.dumps({"rollout": rollout, "told": told, "rollback": rollback})
    seen._notice("configmaps", None, {"data": {rollout_id: text}})


@pytest.mark.parametrize(
    "rollout, messages", [(COMPLETE, [MESSAGE]), (FAILED, [MESSAGE]), (SUPERSEDED, [])], ids=lambda each: len(each)
)
def test_nothing_is_wrong_with_one_verdict_record_and_message(seen, rollout, messages):
    record(seen, rollout)
    assert list(seen.wrongs(messages)) == []


@pytest.mark.parametrize(
    "rollout, fields, messages, wrong",
    [
        (COMPLETE | {"finished_at": None}, {}, [], "isn't finished"),
        (FAILED, {"rollback": "pending"}, [MESSAGE], "isn't finished"),
        (COMPLETE, {"told": False}, [MESSAGE], "isn't finished"),
        (COMPLETE, {}, [], "messages about it: 0, not 1"),
        (COMPLETE, {}, [MESSAGE, MESSAGE], "messages about it: 2, not 1"),
        (SUPERSEDED, {}, [MESSAGE], "messages about it: 1, not 0"),
        (FAILED | {"image": "acme/web:1"}, {}, [MESSAGE], "wrong verdict"),
        (COMPLETE | {"image": "acme/web:crash", "message": ""}, {}, [MESSAGE], "wrong verdict"),
    ],
)
def test_what_is_wrong_is_named(seen, rollout, fields, messages, wrong):
    record(seen, rollout, **fields)
    assert wrong in next(seen.wrongs(messages))


def test_two_verdicts_are_wrong(seen):
    record(seen, SUPERSEDED)
    record(seen, COMPLETE)
    assert "2 verdicts: complete, superseded" in next(seen.wrongs([MESSAGE]))


def test_around_a_death_a_message_may_come_twice_and_a_record_may_be_missing(seen):
    assert list(seen.wrongs([])) == ["web, rollout a has no record"]
    seen.deaths.append(seen.rollouts["a"].started)
    assert list(seen.wrongs([])) == []
    record(seen, COMPLETE)
    assert list(seen.wrongs([MESSAGE, MESSAGE])) == []
    assert "messages about it: 0, not 1" in next(seen.wrongs([]))


def test_one_failure_is_rolled_back_once(seen):
    record(seen, FAILED | {"rolled_back_to": 1})
    for revision, rollout_id in ((2, "b"), (3, "c")):
        start(seen, rollout_id, **{ROLLED_BACK_TO: "1"})
        record(seen, SUPERSEDED | {"revision": revision, "rolled_back_to": 1}, rollout_id)
    assert list(seen.wrongs([MESSAGE])) == ["web was rolled back 1 times too often"]
    seen.asked_rollbacks["web"] += 1
    assert list(seen.wrongs([MESSAGE])) == []


def test_it_starts_and_leaves_nothing_behind(tmp_path):
    environ = os.environ | {"TMPDIR": str(tmp_path)}
    command = [sys.executable, "-m", "tests.soak", "--seed", "7"]
    with subprocess.Popen(
        command, cwd=ROOT, env=environ, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as soak:
        assert soak.stdout.readline() == "10 minutes; to repeat it: make soak SEED=7\n"
        soak.send_signal(signal.SIGINT)
        soak.stdout.read()
    assert list(tmp_path.iterdir()) == []
