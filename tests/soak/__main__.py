"""Sends signals to two replicas while processes die and the API server goes away; then counts what came of them."""

import argparse
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from math import inf
from pathlib import Path
from random import Random

from tests.bench.memory import own_memory
from tests.bench.scale import HEADERS, followed, serving
from tests.service import PASSWORD, Chat, Service, wait_for
from tests.simulation import SimulatedCluster
from tests.soak.seen import Seen

NAMES = [f"web-{number}" for number in range(8)]
IMAGES = [*["acme/web:{}"] * 6, "acme/web:slow-{}", *["acme/web:crash-{}"] * 2, "acme/web:missing-{}"]
MAX_GROWTH_MIB = 8


class Soak:
    """Hold two replicas, the cluster and the chat, and what was done to them."""

    def __init__(self, replicas: list[Service], cluster: SimulatedCluster, chat: Chat, seconds: float, seed: int):
        self.replicas, self.cluster, self.chat, self.seconds, self.seed = replicas, cluster, chat, seconds, seed
        self.seen, self.done, self.memory = Seen(cluster), Counter(), list[float]()
        self._began, self._over = time.monotonic(), threading.Event()

    def run(self) -> None:
        """Let all happen at once; then heal the cluster, and wait until nothing is left to do."""
        with ThreadPoolExecutor() as pool:
            try:
                for part in list(map(pool.submit, (self.send_signals, self.kill_processes, self.break_cluster))):
                    part.result()
            finally:
                self._over.set()
        self.cluster.faults.clear()
        self.chat.refusals = 0
        with suppress(TimeoutError):
            wait_for(self._is_quiet, 180)  # The claim of a dead process on a message lasts a minute.

    def send_signals(self) -> None:
        """Deploy and roll back at either replica; other senders wait for the verdicts."""
        rng = Random(f"{self.seed} signals")
        with ThreadPoolExecutor(32) as pool:
            while self._pause(rng, 0.1, 1.5):
                name, replica, other = rng.choice(NAMES), *rng.choices(self.replicas, k=2)
                image, may_go_back = rng.choice(IMAGES).format(self.done["signals"]), rng.random() < 0.5
                path, fields = name, {"image": image, "rollback_on_failure": may_go_back}
                if is_rollback := rng.random() < 0.12:
                    path, fields = f"{name}/rollback", {}
                self.done["rollbacks" if is_rollback else "signals"] += 1
                self.seen.asked_rollbacks[name] += is_rollback
                answer = self._ask(replica, path, fields)
                if "id" in answer:
                    pool.submit(self._ask, other, f"{name}?wait=20&id={answer['id']}")

    def kill_processes(self) -> None:
        """End a replica without a warning, or in order, and start it again; the first one only in the first fifth."""
        rng, spared = Random(f"{self.seed} processes"), self.seconds / 5
        while self._pause(rng, 5, 20):
            age = time.monotonic() - self._began
            if not self.memory and age > spared + min(60, self.seconds / 10):
                self.memory += map(own_memory, self.replicas)
            replica = rng.choice(self.replicas) if age < spared else self.replicas[1]
            how = rng.choice(["kills", "kills", "restarts"])
            self.done[how] += 1
            self.seen.deaths.append(time.monotonic())
            replica.kill() if how == "kills" else replica.stop()
            self.seen.deaths.append(time.monotonic())
            time.sleep(rng.uniform(0, 3))
            replica.start()

    def break_cluster(self) -> None:
        """Let the API server go away, fail, hang up or forget; let the chat refuse."""
        rng, cluster = Random(f"{self.seed} cluster"), self.cluster
        faults = {
            "times away": lambda: (cluster.stop_serving(), time.sleep(rng.uniform(0.5, 6)), cluster.serve_again()),
            "errors": lambda: cluster.fail(rng.randint(1, 5), status=rng.choice([429, 500, 503])),
            "lost answers": lambda: cluster.fail(rng.randint(1, 3), drop=True),
            "cut watches": cluster.cut_watches,
            "expiries": cluster.expire_history,
            "refused messages": lambda: setattr(self.chat, "refusals", 1),
        }
        while self._pause(rng, 1, 8):
            how = rng.choice(list(faults))
            self.done[how] += 1
            faults[how]()

    def wrongs(self) -> list[str]:
        """Return a sentence for each thing that is wrong."""
        found = list(self.seen.wrongs(self.chat.messages))
        for name in NAMES:
            recorded = (self.cluster.get("configmaps", "default", f"auto-deployer-{name}") or {}).get("data", {})
            for query in ("", *(f"?id={each}" for each in sorted(recorded))):
                one, other = (each.get(f"/deployment/{name}{query}", **HEADERS) for each in self.replicas)
                if (one.status, one.json()) != (other.status, other.json()):
                    found.append(f"the replicas don't agree on {name}{query}:\n    {one.text}\n    {other.text}")
        found += [f"a watch of {each.resource} is still open" for each in self.cluster.api.store.watches]
        before, now = next(iter(self.memory), inf), list(map(own_memory, self.replicas))
        self.memory += now
        if max(now) > before + MAX_GROWTH_MIB:
            found.append(f"a replica takes {max(now):.1f} MiB; the first one took {before:.1f} MiB after a minute")
        return found

    def _pause(self, rng: Random, least: float, most: float) -> bool:
        """Wait; return whether there is time left."""
        return not self._over.wait(rng.uniform(least, most)) and time.monotonic() < self._began + self.seconds

    def _ask(self, replica: Service, path: str, fields: dict | None = None) -> dict:
        """Send a request; return the rollout or the error that it is answered, or nothing by a dead replica."""
        with suppress(OSError):
            answer = replica.ask("GET" if fields is None else "POST", f"/deployment/{path}", fields, HEADERS)
            return self.seen.answered(answer.json())
        return {}

    def _is_quiet(self) -> bool:
        time.sleep(1)
        for replica in self.replicas:
            for name in NAMES:  # This finds a rollout whose sender got no answer.
                self._ask(replica, name)
        unfinished = any(each.record and each.finished == inf for each in list(self.seen.rollouts.values()))
        return not unfinished and not any(map(followed, self.replicas))


def main() -> str | int:
    """Run, print a summary, and return what is wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 10**6, help="that of a run to repeat")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended before the end"))
    # A shell lets the programs that it starts in the background ignore it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="auto-deployer-soak-")))
        print(f"{options.minutes:g} minutes; to repeat it: make soak SEED={options.seed}", flush=True)
        cluster, chat = stack.enter_context(SimulatedCluster()), stack.enter_context(closing(Chat()))
        (folder / "default").write_text(PASSWORD)
        (folder / "urls").write_text(f"json://127.0.0.1:{chat.port}/\n")
        cluster.write_kubeconfig(folder / "kubeconfig")
        settings = {"PASSWORDS_DIR": folder, "NOTIFY_URLS_FILE": folder / "urls", "KUBECONFIG": folder / "kubeconfig"}
        settings["SETTLE_SECONDS"] = "1"
        replicas = [stack.enter_context(serving(settings, "default", len(NAMES))) for _ in range(2)]
        soak = Soak(replicas, cluster, chat, options.minutes * 60, options.seed)
        soak.run()
        wrongs = soak.wrongs()
    verdicts = Counter(next(iter(each.verdicts), "without a verdict") for each in soak.seen.rollouts.values())
    for counts in (soak.done, verdicts, {"messages": len(chat.messages)}):
        print(", ".join(f"{count} {what}" for what, count in counts.items()))
    print("both replicas after a minute, and at the end:", ", ".join(f"{each:.1f} MiB" for each in soak.memory))
    return "\n".join(["wrong:", *(f"  {each}" for each in wrongs)]) if wrongs else 0


if __name__ == "__main__":
    sys.exit(main())
