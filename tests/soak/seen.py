"""What has happened to each rollout, as the cluster and the senders saw it, and what is wrong with that."""

import json
import math
import re
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from manifest.annotations import RESTARTED_AT, annotations_of, rolled_back_to
from tests.simulation import SimulatedCluster


@dataclass
class Rollout:
    """Hold what became of one rollout."""

    name: str
    started: float
    is_rollback: bool
    is_answered: bool = False  # Its sender knows that there is one.
    record: dict | None = None  # As it was last written.
    verdicts: set[str] = field(default_factory=set)  # All that were recorded or answered.
    finished: float = math.inf  # When its record said that nothing is left to do.


class Seen:
    """Hold all rollouts by their ids, and when a process died."""

    def __init__(self, cluster: SimulatedCluster) -> None:
        self.rollouts: dict[str, Rollout] = {}
        self.deaths: list[float] = []
        self.asked_rollbacks = Counter()  # By Deployment.
        cluster.api.store.listeners.append(self._notice)

    def _notice(self, resource: str, _: dict | None, new: dict | None) -> None:
        if resource == "deployments" and new:
            rollout_id = annotations_of(new["spec"]["template"])[RESTARTED_AT]
            rollout = Rollout(new["metadata"]["name"], time.monotonic(), rolled_back_to(new) is not None)
            self.rollouts.setdefault(rollout_id, rollout)
        for rollout_id, text in new["data"].items() if resource == "configmaps" and new else ():
            rollout = self.rollouts[rollout_id]
            rollout.record = record = json.loads(text)
            if record["rollout"]["finished_at"]:
                rollout.verdicts.add(record["rollout"]["phase"])
                is_done = record["told"] and record["rollback"] != "pending"
                rollout.finished = min(rollout.finished, time.monotonic() if is_done else math.inf)

    def answered(self, answer: dict) -> dict:
        """Take down an answer, which may be about a rollout; return it."""
        if rollout := self.rollouts.get(answer.get("id")):
            rollout.is_answered = True
            rollout.verdicts |= {answer["phase"]} if answer["finished_at"] else set()
        return answer

    def wrongs(self, messages: list[dict]) -> Iterator[str]:
        """Yield a sentence for each thing that is wrong."""
        # A revision belongs to one rollout of a Deployment.
        received = Counter(re.search(r"revision (\d+) of ([\w-]+)", each["message"]).groups() for each in messages)
        rollbacks = Counter()
        for rollout_id, rollout in list(self.rollouts.items()):
            rollbacks[rollout.name] += rollout.is_rollback
            # A second more, since a message may still be on its way.
            died = any(rollout.started <= each <= rollout.finished + 1 for each in self.deaths)
            found = ["has no record"]
            if rollout.record:
                outcome = rollout.record["rollout"]
                rollbacks[rollout.name] -= outcome["rolled_back_to"] is not None and not rollout.is_rollback
                found = _wrongs_of(rollout, received[str(outcome["revision"]), rollout.name], died)
            elif died or not rollout.is_answered:
                continue  # Its sender knows nothing of it, or a newer one superseded it before it was found.
            yield from (f"{rollout.name}, rollout {rollout_id} {wrong}" for wrong in found)
        for name, count in (rollbacks - self.asked_rollbacks).items():
            yield f"{name} was rolled back {count} times too often"


def _wrongs_of(rollout: Rollout, messages: int, died: bool) -> Iterator[str]:
    outcome = rollout.record["rollout"]
    if rollout.finished == math.inf:
        yield f"isn't finished: rollback {rollout.record['rollback']}, told {rollout.record['told']}"
    if len(rollout.verdicts) != 1:
        yield f"has {len(rollout.verdicts)} verdicts: {', '.join(sorted(rollout.verdicts))}"
    if ("complete" if re.search("crash|missing", outcome["image"]) else "failed") in rollout.verdicts:
        yield f"has the wrong verdict for the image {outcome['image']}: {outcome['message']}"
    wanted = int(outcome["phase"] != "superseded")
    if messages < wanted or (messages > wanted and not (wanted and died)):
        yield f"is {outcome['phase']}; messages about it: {messages}, not {wanted}"
