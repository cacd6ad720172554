"""Failing rollouts, each in a namespace of its own, with what happens to one of their calls to the API server."""

import http.client
import itertools
import json
import threading
from collections import Counter, defaultdict
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from tests import forks
from tests.conftest import ConfiguredService, Sandbox, SimulatedAdmin, deployment, role
from tests.rollout.helpers import let_a_minute_pass, records
from tests.service import wait_for
from tests.simulation.cluster import Fault

MAX_SECONDS = 60
# A container with this probe isn't ready before it crashes.
PROBE = {"httpGet": {"path": "/", "port": 8080}, "initialDelaySeconds": 10}

DIES_BEFORE, DIES_AFTER = "the process dies before", "the process dies after"
LOST_ONCE, LOST_TWICE = "an answer is lost, once, of", "an answer is lost, twice, of"
NEW_PROCESS, REPLICA = "then a new process goes on", "then another replica goes on"
TOGETHER = "while another replica follows too"


class Call(NamedTuple):
    """Name a call of a rollout: the first, second, … of its kind."""

    verb: str
    resource: str
    number: int


# It crashes, so that its verdict needs events and a log.
SIGNAL = {"image": "acme/web:broken", "rollback_on_failure": True, "cause": "build 7"}
NO_CALL = Call("", "", 0)


@dataclass
class Interruption(Fault):
    """Let something happen to one call of one process, and to the one after it, if more than once."""

    drop: bool = True
    namespace: str = ""
    client: str = ""
    target: Call = NO_CALL
    seen: int = 0

    def matches(self, request):
        """Return whether a request is the one, or comes after it."""
        mine = (self.namespace, self.client, self.target.verb, self.target.resource)
        if not self.times or (request.namespace, request.client, request.verb, request.resource) != mine:
            return False
        self.seen += 1
        return self.seen >= self.target.number


class Process(ConfiguredService):
    """Serve in a forked process; each manifest has the name of its namespace."""

    namespace = ""

    def __init__(self, world, *namespaces, quiet=True):
        self.client = f"process-{next(world.numbers)}"
        folder = world.folder / self.client
        folder.mkdir()
        world.simulation.write_kubeconfig(folder / "kubeconfig", client=self.client)
        settings = {"KUBECONFIG": str(folder / "kubeconfig"), "NOTIFY_URLS_FILE": str(world.urls)}
        super().__init__(folder, **settings, SETTLE_SECONDS="0")
        self.password("default", self.right)
        for namespace in namespaces:
            self.follow(namespace)
        self.pid, self.port = world.forks.start(self.environ, folder / "log", quiet)

    def follow(self, namespace):
        """Configure the deployment of a namespace."""
        manifest = deployment(namespace=namespace)
        manifest["spec"]["template"]["spec"]["containers"][0]["readinessProbe"] = PROBE
        self.configure(namespace, manifest)

    def is_at_rest(self):
        """Whether it follows nothing; one that has died doesn't tell."""
        with suppress(OSError, http.client.HTTPException):
            return "auto_deployer_rollouts_followed 0.0" in self.get("/metrics").text
        return False

    def kill(self):
        """End it as a power cut does."""
        forks.kill(self.pid)


class World:
    """A cluster, a chat, and two replicas that do nothing until they are asked."""

    def __init__(self, folder, started, simulation, chat):
        self.folder, self.forks, self.simulation, self.chat = folder, started, simulation, chat
        self.admin, self.numbers, self.urls = SimulatedAdmin(simulation), itertools.count(1), folder / "urls"
        self.urls.write_text(f"json://127.0.0.1:{chat.port}/\n")
        # What has ever stood in the ConfigMap of a namespace.
        self.written = defaultdict(list)
        simulation.api.store.listeners.append(self._keep)
        self.replica, self.witness = Process(self), Process(self)

    def _keep(self, resource, old, new):
        if resource == "configmaps" and new:
            self.written[new["metadata"]["namespace"]].append(new["data"])

    def sandbox(self):
        """Give a namespace in which a first rollout has worked."""
        sandbox = Sandbox(self.admin, f"crash-{next(self.numbers)}")
        self.admin.add_namespace(sandbox.namespace)
        sandbox.allow(role())
        for replica in (self.replica, self.witness):
            replica.follow(sandbox.namespace)
        assert self.replica.deploy(sandbox.namespace).status == 200
        wait_for(lambda: self.is_over(sandbox, 1), MAX_SECONDS)
        return sandbox

    def is_over(self, sandbox, rollouts):
        """Whether so many rollouts are recorded, and nothing is left to do about them."""
        data = (self.written[sandbox.namespace] or [{}])[-1]
        return len(data) == rollouts and all(map(_is_finished, data.values()))


@lru_cache(maxsize=1000)
def _is_finished(text):
    record = json.loads(text)
    return record["told"] and record["rollback"] != "pending"


class Run:
    """One failing rollout with all that comes of it.

    A subclass may signal in another way: see `signal` and `signal_again`.
    """

    def __init__(self, world, call=NO_CALL, how=LOST_ONCE, heir=NEW_PROCESS):
        self.world, self.call, self.how, self.heir = world, call, how, heir
        self.dies, self.has_happened = how in (DIES_BEFORE, DIES_AFTER), threading.Event()

    def __str__(self):
        return f"{self.how} {' '.join(map(str, self.call))} {self.heir}"

    def play(self):
        """Signal, let it happen, and let all come to its end."""
        sandbox = self.sandbox = self.world.sandbox()
        self.process = self.survivor = Process(self.world, sandbox.namespace)
        fault = self.interruption()
        sandbox.simulation.faults.append(fault)
        rollout_id = self.signal(self.process)
        if self.heir == TOGETHER:
            self.world.replica.show(sandbox.namespace)
        wait_for(lambda: not fault.times or self.is_done(), MAX_SECONDS)
        # How often a process reads depends a little on the time it takes.
        self.was_reached = fault.times < (2 if self.how == LOST_TWICE else 1)
        if self.was_reached:
            assert self.has_happened.wait(MAX_SECONDS)
            self.go_on(rollout_id)
        wait_for(self.is_over, MAX_SECONDS)
        self.calls = self.named_calls()
        with sandbox.simulation.api.store.lock:
            sandbox.simulation.faults.remove(fault)
        self.ask()
        if self.survivor is not self.world.replica:
            self.survivor.kill()
        return self

    def interruption(self):
        """Make what happens to the call."""
        how = {"late": self.how != DIES_BEFORE, "times": 2 if self.how == LOST_TWICE else 1, "call": self.happen}
        return Interruption(namespace=self.sandbox.namespace, client=self.process.client, target=self.call, **how)

    def happen(self):
        if self.dies:
            self.process.kill()
        self.has_happened.set()

    def signal(self, process):
        """Signal; return the rollout id, or None where no good answer comes."""
        try:
            return process.deploy(self.sandbox.namespace, **SIGNAL, wait=False).json().get("id")
        except (OSError, http.client.HTTPException):
            return None

    def go_on(self, rollout_id):
        """Let the heir go on: a new process by itself, a replica when it is asked, as a sender asks that waits."""
        namespace = self.sandbox.namespace
        if self.dies:
            with self.sandbox.simulation.api.store.lock:
                let_a_minute_pass(self.sandbox)
            is_new = self.heir == NEW_PROCESS
            self.survivor = Process(self.world, namespace, quiet=False) if is_new else self.world.replica
        if rollout_id is None:
            self.signal_again()
        if self.heir != NEW_PROCESS:
            wait_for(lambda: self.world.replica.show(namespace, wait=1) and self.is_over(), MAX_SECONDS)

    def signal_again(self):
        """Signal to the survivor what got no answer, unless it has arrived."""
        if self.sandbox.get()["metadata"]["generation"] == 1:
            self.signal(self.survivor)

    def is_over(self):
        """Whether all is recorded and told."""
        return self.world.is_over(self.sandbox, 3)

    def is_done(self):
        """Whether all is over, and the process is at rest."""
        return self.is_over() and self.process.is_at_rest()

    def ask(self):
        """Ask two replicas for each rollout."""
        self.answers = {
            each["rollout"]["id"]: [
                replica.show(self.sandbox.namespace, id=each["rollout"]["id"], wait=20)
                for replica in (self.survivor, self.world.witness)
            ]
            for each in records(self.sandbox)
        }

    def named_calls(self):
        """Name the calls that the process has made so far."""
        made = [each for each in self.sandbox.requests if each.client == self.process.client]
        counted = Counter((each.verb, each.resource) for each in made)
        return {Call(*kind, number) for kind, count in counted.items() for number in range(1, count + 1)}
