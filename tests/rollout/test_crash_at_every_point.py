"""A process dies, or an answer gets lost, at every call that one failing rollout makes to the API server.

The rollout comes with its record, its rollback, its Events and its messages. The calls are those of a recorded run: a
call that is added to the product is interrupted here without a change of this test.
"""

import http.client
import itertools
import json
import re
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache

import pytest

from tests import forks
from tests.rollout.helpers import listed, phases, records, revision_of
from tests.rollout.interruptions import (
    DIES_AFTER,
    DIES_BEFORE,
    LOST_ONCE,
    LOST_TWICE,
    NEW_PROCESS,
    NO_CALL,
    REPLICA,
    SIGNAL,
    TOGETHER,
    Run,
    World,
)
from tests.service import Chat
from tests.simulation import SimulatedCluster

pytestmark = pytest.mark.simulated_only

AT_ONCE = 12
KEY = "Idempotency-Key"
WAYS = (DIES_BEFORE, DIES_AFTER, LOST_ONCE, LOST_TWICE)
HEIRS = (NEW_PROCESS, REPLICA, TOGETHER)
READS = ("get", "list", "watch")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Give a cluster whose node restarts a crashed container at once."""
    chat = Chat()
    with forks.Forks() as started, SimulatedCluster(speed=50) as simulation:
        yield World(tmp_path_factory.mktemp("world"), started, simulation, chat)
    chat.close()


class KeyedRun(Run):
    """A rollout whose signal has a key. After a death the sender sends it again, whether it got an answer or not."""

    def signal(self, process):
        namespace = self.sandbox.namespace
        with suppress(OSError, http.client.HTTPException):
            headers = {"Accept": "application/json", KEY: f"7-1-{namespace}"}
            answer = process.ask("POST", f"/deployment/{namespace}", {"pw": process.right, **SIGNAL}, headers)
            return answer.json().get("id")
        return None

    def go_on(self, rollout_id):
        self.first_id = rollout_id
        super().go_on(None if self.dies else rollout_id)

    def signal_again(self):
        again = self.signal(self.survivor)
        assert again is not None
        assert again == (self.first_id or again)


@pytest.fixture(scope="module")
def calls_of(world):
    """Return a function that lists the calls that two undisturbed runs of a kind have made both."""

    @cache
    def recorded(kind):
        runs = [kind(world).play() for _ in range(2)]
        for run in runs:
            check(run)
        return sorted(runs[0].calls & runs[1].calls)

    return recorded


def check(run):
    """Check that there is one verdict, one record and one rollback, and that it was told."""
    found = records(run.sandbox)
    assert [each["rollout"]["phase"] for each in found] == ["complete", "failed", "complete"]
    stood = {item for data in run.world.written[run.sandbox.namespace] for item in data.items()}
    rollouts = [json.loads(text)["rollout"] for _, text in stood]
    verdicts = {(each["id"], each["phase"], each["message"]) for each in rollouts if each["finished_at"]}
    assert len(verdicts) == 3
    assert [each["rollback"] for each in found] == ["none", "done", "none"]
    assert [each["rollout"]["rolled_back_to"] for each in found] == [None, 1, 1]
    assert sorted(revision_of(each) for each in run.sandbox.replica_sets()) == [1, 2, 3]
    assert run.sandbox.get()["metadata"]["generation"] == 3
    check_told(run)
    check_answers(run)
    assert run.was_reached or run.heir == TOGETHER or run.call.verb in (*READS, NO_CALL.verb)


def check_told(run):
    """Check that each rollout has its message, and where nothing died, no message and no Event came twice."""
    messages = [each["message"] for each in run.world.chat.about(run.sandbox.namespace)]
    told = Counter(re.search(r"revision (\d)", each)[1] for each in messages)
    assert set(told) == {"1", "2", "3"}
    if not run.dies:
        assert set(told.values()) == {1}
        sources = [(each["reason"], each["source"].get("component")) for each in listed(run.sandbox, "events")]
        events = Counter(reason for reason, component in sources if component == "auto-deployer")
        assert events == {"Deploying": 3, "RolloutComplete": 2, "RolloutFailed": 1}


def check_answers(run):
    """Check that two replicas say the same of each rollout."""
    # Where a minute was made to pass, a replica that has seen the end remembers when it really was.
    aside = {"finished_at"} if run.dies and run.heir == TOGETHER else set()
    for (rollout_id, answers), status in zip(run.answers.items(), (200, 424, 200), strict=True):
        assert [(each.status, each.json()["id"]) for each in answers] == [(status, rollout_id)] * 2
        one, other = ({key: value for key, value in each.json().items() if key not in aside} for each in answers)
        assert one == other
        assert phases(answers[0]) == ["complete", "failed", "complete"]


@pytest.mark.parametrize("kind", [Run, KeyedRun])
def test_the_recorded_run_has_every_kind_of_call(calls_of, kind):
    kinds = Counter((call.verb, call.resource) for call in calls_of(kind))
    assert kinds.keys() >= {
        (verb, kind) for verb in ("list", "watch") for kind in ("deployments", "replicasets", "pods")
    }
    assert kinds.keys() >= {("list", "events"), ("get", "pods/log"), ("get", "configmaps"), ("get", "deployments")}
    # The signal and the rollback; of each of the two, when it starts and how it ends.
    assert kinds["patch", "deployments"] >= 2
    assert min(kinds["create", "events"], kinds["patch", "configmaps"]) >= 4


# The same code meets a lost answer, with a key and without one.
@pytest.mark.parametrize(
    ("kind", "how"), [*((Run, how) for how in WAYS), (KeyedRun, DIES_BEFORE), (KeyedRun, DIES_AFTER)]
)
def test_at_every_point(world, calls_of, kind, how):
    # Each call meets each heir.
    heirs = itertools.islice(itertools.cycle(HEIRS), WAYS.index(how), None)
    runs = [kind(world, call, how, heir) for call, heir in zip(calls_of(kind), heirs, strict=False)]
    broken = []
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for run, played in [(run, pool.submit(run.play)) for run in runs]:
            try:
                played.result()
                check(run)
            except (AssertionError, TimeoutError, OSError, http.client.HTTPException) as error:
                broken.append(f"{run}: {error!r}")
    assert not broken, "\n\n".join(broken)
