"""What rollouts cost, alone and by the hundreds, and that each of them gets the right verdict."""

import itertools
import json
import re
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import yaml

from tests.bench.bench import Bench
from tests.bench.figure import Figure, counted
from tests.bench.memory import memory, most_memory, processor_seconds
from tests.service import PASSWORD, ROOT, Service, wait_for
from tests.simulation import SimulatedCluster

CONFIGURED, FOLLOWED, SENDERS = 1000, 200, 16
# First all rollouts work; then every fourth one crashes some seconds after each start.
ROUNDS = (["acme/web:1"], ["acme/web:late", "acme/web:2", "acme/web:2", "acme/web:2"])
HEADERS = {"Accept": "application/json", "Authorization": f"Bearer {PASSWORD}"}


def rollouts(bench: Bench) -> Iterator[Figure]:
    """Run a simulated cluster in this process: a real one doesn't know which images crash, and counts no calls."""
    with SimulatedCluster() as cluster, tempfile.TemporaryDirectory(prefix="auto-deployer-bench-") as folder:
        cluster.write_kubeconfig(Path(folder, "kubeconfig"))
        settings = bench.service.environ | {"KUBECONFIG": str(Path(folder, "kubeconfig"))}
        quick = settings | {"SETTLE_SECONDS": "1"}
        with serving(quick, "default", 1) as service, serving(quick, "default", 1) as other:
            yield from _alone(cluster, service, other)
        with serving(settings, "default", CONFIGURED) as service:
            yield from _many(cluster, service)


@contextmanager
def serving(settings: dict[str, str], place: str, count: int) -> Iterator[Service]:
    """Serve so many deployments of a namespace, web-0 and so on."""
    manifest = yaml.safe_load((ROOT / "k8s" / "deployments" / "web.yaml").read_text())
    with tempfile.TemporaryDirectory(prefix="auto-deployer-bench-") as folder:
        for number in range(count):
            labels = {"app": f"web-{number}"}
            manifest["metadata"] |= {"name": f"web-{number}", "namespace": place}
            manifest["spec"] |= {"selector": {"matchLabels": labels}}
            manifest["spec"]["template"]["metadata"] = {"labels": labels}
            Path(folder, f"web-{number}.yaml").write_text(json.dumps(manifest))
        with Service(settings | {"DEPLOYMENTS_DIR": folder}) as service:
            yield service


def _alone(cluster: SimulatedCluster, service: Service, other: Service) -> Iterator[Figure]:
    """Count what one rollout asks of the API server, followed by one replica, by two, and with a failure."""
    for name, image, replicas in (
        ("first", "acme/web:0", [service]),
        ("calls to the API server for a rollout that works", "acme/web:1", [service]),
        ("  that both replicas follow", "acme/web:2", [service, other]),
        ("  that fails and is rolled back, with the rollback", "acme/web:crash", [service]),
    ):
        before = len(cluster.requests)
        _signal(service, 0, image, rollback_on_failure=True)
        with ThreadPoolExecutor(len(replicas)) as pool:
            list(pool.map(lambda each: _phase(each, 0), replicas))
        cluster.wait_for(lambda: not cluster.api.store.watches, 60)
        if name != "first":
            yield Figure(name, len(cluster.requests) - before)


def _many(cluster: SimulatedCluster, service: Service) -> Iterator[Figure]:
    wrong, at_once, seconds = Counter(), [], 0.0

    def roll_out_all() -> None:
        nonlocal seconds
        began = time.perf_counter()
        with ThreadPoolExecutor(SENDERS) as pool:
            for images in ROUNDS:
                list(pool.map(lambda *one: _signal(service, *one), range(FOLLOWED), itertools.cycle(images)))
                at_once.append(followed(service))
                wrong.update(pool.map(lambda *one: _wrong(service, *one), range(FOLLOWED), itertools.cycle(images)))
        seconds = time.perf_counter() - began

    idle, calls, busy = memory(service), len(cluster.requests), processor_seconds(service)
    most = most_memory(service, roll_out_all)
    del wrong[""]
    count = FOLLOWED * len(ROUNDS)
    note = f"({idle:.1f} before)" if idle else ""
    yield Figure(f"{CONFIGURED} deployments, {FOLLOWED} rollouts at once: memory", most, " MiB", 110, note)
    note = counted(wrong) or f"({max(at_once)} followed at once, {count} rollouts in {seconds:.0f} s)"
    yield Figure("  wrong verdicts", wrong.total(), "", 0, note)
    yield Figure("  calls to the API server for a rollout", (len(cluster.requests) - calls) / count)
    yield Figure("  processor time for a rollout", (processor_seconds(service) - busy) / count * 1000, " ms")


def _signal(service: Service, number: int, image: str, **fields: object) -> None:
    answer = service.post(f"/deployment/web-{number}", {"image": image, **fields}, **HEADERS)
    if answer.status != 200:
        raise RuntimeError(f"a right signal was answered {answer.status}: {answer.text}")


def followed(service: Service) -> int:
    """Return how many rollouts a service follows."""
    return round(float(re.search(r"(?m)^auto_deployer_rollouts_followed (\S+)", service.get("/metrics").text)[1]))


def _phase(service: Service, number: int) -> str:
    """Wait for a verdict."""

    def ended() -> str | None:
        answer = service.get(f"/deployment/web-{number}?wait=5", **HEADERS).json()
        return None if answer["phase"] == "progressing" else answer["phase"]

    with suppress(TimeoutError):
        return wait_for(ended, 60)
    return "progressing"


def _wrong(service: Service, number: int, image: str) -> str:
    """Return nothing when a rollout gets the right verdict, or else which one it gets."""
    phase = _phase(service, number)
    return "" if phase == ("failed" if "late" in image else "complete") else f"{image} {phase}"
