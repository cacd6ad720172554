"""A process dies, or an answer gets lost, at every call that one failing rollout makes to the API server.

Then a new process or another replica goes on. The calls are those of a recorded run: a call that is added to the
product is interrupted here without a change of this test.
"""

import http.client
import itertools
import json
import re
import threading
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

import pytest

from tests import forks
from tests.conftest import ConfiguredService, Sandbox, SimulatedAdmin, deployment, role
from tests.rollout.helpers import CONFIG_MAP, asked, let_a_minute_pass, listed, phases, records, revision_of
from tests.service import Chat, wait_for
from tests.simulation import SimulatedCluster
from tests.simulation.admission import SERVICE_ACCOUNT
from tests.simulation.cluster import Fault

pytestmark = pytest.mark.simulated_only

# What is signalled: it crashes, so that its verdict needs events and a log.
SIGNAL = {"image": "acme/web:broken", "rollback_on_failure": True, "cause": "build 7"}
PROBE = {"httpGet": {"path": "/", "port": 8080}, "initialDelaySeconds": 10}
AT_ONCE = 12
MAX_SECONDS = 60

DIES_BEFORE, DIES_AFTER, IS_LOST = "dies before", "dies after", "loses the answer of"
NEW_PROCESS, REPLICA = "a new process goes on", "the other replica goes on"
READS = ("get", "list", "watch")


class Call(NamedTuple):
    """Name a call of a rollout: the first, second, … of its kind."""

    verb: str
    resource: str
    number: int


NO_CALL = Call("", "", 0)


@dataclass
class Interruption(Fault):
    """Let something happen to one call of the service in a namespace."""

    times: int = 1
    drop: bool = True
    namespace: str = ""
    target: Call = NO_CALL
    seen: int = 0

    def matches(self, request):
        wanted = (SERVICE_ACCOUNT, self.namespace, self.target.verb, self.target.resource)
        if (request.user, request.namespace, request.verb, request.resource) != wanted:
            return False
        self.seen += 1
        return self.seen == self.target.number


class Process(ConfiguredService):
    """Serve one namespace or several in a forked process; each manifest has its namespace's name."""

    namespace = ""

    def __init__(self, world, *namespaces, quiet=False):
        folder = world.folder / f"process-{next(world.numbers)}"
        folder.mkdir()
        super().__init__(folder, **world.settings)
        self.password("default", self.right)
        for namespace in namespaces:
            self.follow(namespace)
        self.pid, self.port = world.forks.start(self.environ, folder / "log", quiet)

    def follow(self, namespace):
        """Configure the deployment of a namespace."""
        manifest = deployment(namespace=namespace)
        # What crashes is never ready before it does.
        manifest["spec"]["template"]["spec"]["containers"][0]["readinessProbe"] = PROBE
        self.configure(namespace, manifest)

    def kill(self):
        """End it as a power cut does."""
        forks.kill(self.pid)


class World:
    """A cluster, a chat and two replicas; what was written is kept."""

    def __init__(self, folder, forks, simulation, chat):
        self.folder, self.forks, self.chat, self.numbers = folder, forks, chat, itertools.count()
        self.admin = SimulatedAdmin(simulation)
        simulation.write_kubeconfig(folder / "kubeconfig")
        (folder / "urls").write_text(f"json://127.0.0.1:{chat.port}/\n")
        self.settings = {"KUBECONFIG": str(folder / "kubeconfig"), "NOTIFY_URLS_FILE": str(folder / "urls")}
        self.settings["SETTLE_SECONDS"] = "0"
        # Everything that ever stood in the ConfigMap of a namespace.
        self.written = defaultdict(list)
        simulation.api.store.listeners.append(self._keep)
        self.replica, self.witness = Process(self, quiet=True), Process(self, quiet=True)

    def _keep(self, resource, old, new):
        if resource == "configmaps" and new:
            self.written[new["metadata"]["namespace"]].append(new["data"])

    def sandbox(self):
        """Give a namespace, in which a first rollout has worked."""
        sandbox = Sandbox(self.admin, f"crash-{next(self.numbers)}")
        self.admin.add_namespace(sandbox.namespace)
        sandbox.allow(role())
        for process in (self.replica, self.witness):
            process.follow(sandbox.namespace)
        assert self.replica.deploy(sandbox.namespace).status == 200
        wait_for(lambda: is_over(sandbox, 1), MAX_SECONDS)
        return sandbox


def is_over(sandbox, rollouts):
    """Whether so many rollouts are recorded, and nothing is left to do about them."""
    found = records(sandbox)
    return len(found) == rollouts and all(each["told"] and each["rollback"] != "pending" for each in found)


def is_settled(process):
    """Whether a process follows nothing; one that has died doesn't tell."""
    with suppress(OSError, http.client.HTTPException):
        return "auto_deployer_rollouts_followed 0.0" in process.get("/metrics").text
    return False


class Run:
    """One failing rollout with all that comes of it, and with what happens to one of its calls."""

    def __init__(self, world, call=NO_CALL, how=IS_LOST, heir=REPLICA):
        self.world, self.call, self.how, self.heir = world, call, how, heir
        self.dies, self.has_happened = how != IS_LOST, threading.Event()

    def __str__(self):
        return f"{self.how} {' '.join(map(str, self.call))}, {self.heir}"

    def play(self):
        """Signal, let it happen, let the heir go on to the end."""
        sandbox = self.sandbox = self.world.sandbox()
        self.process = self.survivor = Process(self.world, sandbox.namespace)
        reads = len(asked(sandbox, "get", "deployments"))
        # At its start it looks for unfinished rollouts.
        wait_for(lambda: len(asked(sandbox, "get", "deployments")) > reads, MAX_SECONDS)
        before = len(sandbox.requests)
        fault = self.interrupt()
        rollout_id = self.signal(self.process)
        wait_for(lambda: not fault.times or self.is_done(), MAX_SECONDS)
        self.was_reached = not fault.times
        if self.was_reached:
            assert self.has_happened.wait(MAX_SECONDS)
            if self.dies:
                self.inherit(rollout_id)
            elif self.heir == REPLICA:
                self.go_on(self.world.replica)
        wait_for(self.is_over, MAX_SECONDS)
        self.requests = sandbox.requests[before:]
        ids = [each["rollout"]["id"] for each in records(sandbox)]
        replicas = (self.survivor, self.world.witness)
        self.answers = {each: [self.ask(replica, each) for replica in replicas] for each in ids}
        if self.survivor is not self.world.replica:
            self.survivor.kill()
        return self

    def interrupt(self):
        """Let it happen once the call is made."""
        late, namespace = self.how != DIES_BEFORE, self.sandbox.namespace
        fault = Interruption(target=self.call, namespace=namespace, late=late, call=self.happen)
        self.sandbox.simulation.faults.append(fault)
        return fault

    def is_over(self):
        """Whether all is recorded and told."""
        return is_over(self.sandbox, 3)

    def is_done(self):
        """Whether all is over, and the process is at rest."""
        return self.is_over() and is_settled(self.process)

    def happen(self):
        if self.dies:
            self.process.kill()
        self.has_happened.set()

    def signal(self, process):
        """Signal; return the rollout id, or None where no answer comes."""
        try:
            return process.deploy(self.sandbox.namespace, **SIGNAL, wait=False).json()["id"]
        except (OSError, http.client.HTTPException):
            return None

    def inherit(self, rollout_id):
        """Go on after the death."""
        namespace = self.sandbox.namespace
        if self.sandbox.get(CONFIG_MAP, "configmaps"):
            let_a_minute_pass(self.sandbox)
        self.survivor = self.world.replica if self.heir == REPLICA else Process(self.world, namespace)
        if rollout_id is None and self.sandbox.get()["metadata"]["generation"] == 1:
            # Nothing has arrived: the sender signals again.
            self.signal(self.survivor)
        if self.heir == REPLICA:
            self.go_on(self.survivor)

    def go_on(self, replica):
        """Ask, as a sender that waits does, until all is done."""
        wait_for(lambda: replica.show(self.sandbox.namespace, wait=1) and self.is_over(), MAX_SECONDS)

    def check(self):
        """Check what it came to."""
        sandbox, found = self.sandbox, records(self.sandbox)
        assert self.was_reached or self.call.verb in (*READS, NO_CALL.verb)
        # One verdict and one record each, and no verdict ever changes.
        assert [each["rollout"]["phase"] for each in found] == ["complete", "failed", "complete"]
        verdicts = {
            (key, rollout["phase"], rollout["message"])
            for data in self.world.written[sandbox.namespace]
            for key, text in data.items()
            if (rollout := json.loads(text)["rollout"])["finished_at"]
        }
        assert len(verdicts) == 3
        # One rollback.
        assert [each["rollback"] for each in found] == ["none", "done", "none"]
        assert [each["rollout"]["rolled_back_to"] for each in found] == [None, 1, 1]
        assert sorted(revision_of(each) for each in sandbox.replica_sets()) == [1, 2, 3]
        assert sandbox.get()["metadata"]["generation"] == 3
        self.check_told()
        self.check_answers()

    def check_told(self):
        messages = [each["message"] for each in self.world.chat.about(self.sandbox.namespace)]
        told = Counter(re.search(r"revision (\d)", each)[0] for each in messages)
        events = Counter(each["reason"] for each in listed(self.sandbox, "events") if is_ours(each))
        assert set(told) == {"revision 1", "revision 2", "revision 3"}
        if not self.dies:
            assert set(told.values()) == {1}
            assert events == {"Deploying": 3, "RolloutComplete": 2, "RolloutFailed": 1}

    def check_answers(self):
        for (rollout_id, answers), status in zip(self.answers.items(), (200, 424, 200), strict=True):
            assert [(each.status, each.json()["id"]) for each in answers] == [(status, rollout_id)] * 2
            assert answers[0].json() == answers[1].json()
            assert phases(answers[0]) == ["complete", "failed", "complete"]

    def ask(self, process, rollout_id):
        return process.show(self.sandbox.namespace, id=rollout_id, wait=20)


def is_ours(event):
    return event["source"].get("component") == "auto-deployer"


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    chat = Chat()
    # A crashed container starts again at once.
    with forks.Forks() as started, SimulatedCluster(speed=50) as simulation:
        yield World(tmp_path_factory.mktemp("world"), started, simulation, chat)
    chat.close()


def calls_of(run):
    """Name the calls that a run made."""
    counted = Counter((each.verb, each.resource) for each in run.requests)
    return {Call(*kind, number) for kind, count in counted.items() for number in range(1, count + 1)}


@pytest.fixture(scope="module")
def calls(world):
    """List what two undisturbed runs both did: how often something is read, depends a little on the time it takes."""
    runs = [Run(world).play() for _ in range(2)]
    for run in runs:
        run.check()
    return sorted(calls_of(runs[0]) & calls_of(runs[1]))


def test_recorded(calls):
    print(calls)


@pytest.fixture(scope="module")
def runs(world, calls):
    heirs = itertools.cycle((NEW_PROCESS, REPLICA))
    every = [Run(world, call, how, next(heirs)) for how in (DIES_BEFORE, DIES_AFTER, IS_LOST) for call in calls]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        played = [(run, pool.submit(run.play)) for run in every]
    return played


def test_everything(runs):
    broken = []
    for run, played in runs:
        try:
            played.result()
            run.check()
        except (AssertionError, TimeoutError, OSError) as error:
            broken.append(f"{run}: {run.sandbox.namespace} {run.process.pid}\n{error!r}")
    print(*broken, sep="\n\n")
    print(len(broken), "of", len(runs))
    assert not broken
