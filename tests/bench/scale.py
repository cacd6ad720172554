"""The figures of a large cluster: thousands of other people's pods, a thousand deployments, hundreds of rollouts."""

import itertools
import json
import re
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import yaml

from tests.bench.bench import Bench
from tests.bench.cluster import namespace
from tests.bench.figure import Figure, counted
from tests.bench.memory import memory
from tests.service import PASSWORD, ROOT, Service, wait_for

FOREIGN_PODS, FOREIGN_ROLLOUTS = 5000, 5
CONFIGURED, FOLLOWED = 1000, 200
SENDERS = 16
HEADERS = {"Accept": "application/json", "Authorization": f"Bearer {PASSWORD}"}


def foreign_pods(bench: Bench) -> Iterator[Figure]:
    """Whether other people's pods in the namespace take memory while a rollout is followed."""
    place = "auto-deployer-bench-foreign"
    with namespace(bench.raw, place), _serving(bench, place, 1, SETTLE_SECONDS="0") as service:
        without = _most(service, lambda: _roll_out(service))
        with ThreadPoolExecutor(SENDERS) as pool:
            list(pool.map(lambda number: _make_pod(bench, place, number), range(FOREIGN_PODS)))
        among = _most(service, lambda: _roll_out(service))
    more = None if among is None else among - without
    note = f"({without:.1f} and {among:.1f} MiB)" if among else ""
    yield Figure(f"memory more among {FOREIGN_PODS} foreign pods", more, " MiB", 5, note)


def many(bench: Bench) -> Iterator[Figure]:
    """Whether many rollouts at once, of more deployments yet, all get the right verdict, and what they take."""
    place = "auto-deployer-bench-scale"
    if not bench.is_simulated:
        yield Figure(f"{FOLLOWED} rollouts at once", None, note="only where images crash by their names")
        return
    with namespace(bench.raw, place), _serving(bench, place, CONFIGURED) as service:
        wrong, followed, seconds = Counter(), [], 0.0

        def roll_out_all() -> None:
            nonlocal seconds
            began = time.perf_counter()
            with ThreadPoolExecutor(SENDERS) as pool:
                # First all that work, and then every fourth one crashes after a while.
                for images in (["acme/web:1"], ["acme/web:late", "acme/web:2", "acme/web:2", "acme/web:2"]):
                    _signal_all(service, pool, images, followed)
                    wrong.update(_verdicts(service, pool, images))
            seconds = time.perf_counter() - began

        most = _most(service, roll_out_all)
    yield Figure(f"{CONFIGURED} deployments, {FOLLOWED} rollouts at once: memory", most, " MiB", 110)
    note = counted(wrong) or f"({max(followed)} followed at once, both rounds took {seconds:.0f} s)"
    yield Figure("  wrong verdicts", wrong.total(), "", 0, note)


@contextmanager
def _serving(bench: Bench, place: str, count: int, **environ: str) -> Iterator[Service]:
    """Serve so many deployments of a namespace, web-0 and so on, by a process of its own."""
    manifest = yaml.safe_load((ROOT / "k8s" / "deployments" / "web.yaml").read_text())
    with tempfile.TemporaryDirectory(prefix="auto-deployer-bench-") as folder:
        for number in range(count):
            name = f"web-{number}"
            manifest["metadata"] |= {"name": name, "namespace": place}
            labels = {"app": name}
            manifest["spec"] |= {"selector": {"matchLabels": labels}, "replicas": 1}
            manifest["spec"]["template"]["metadata"] = {"labels": labels}
            Path(folder, f"{name}.yaml").write_text(json.dumps(manifest))
        with Service(bench.service.environ | {"DEPLOYMENTS_DIR": folder} | environ) as service:
            yield service


def _most(service: Service, do) -> float | None:
    """Return the most that a service takes, in MiB, while something is done."""
    seen, over = [], threading.Event()

    def look() -> None:
        while not over.wait(0.05):
            seen.append(memory(service))

    looking = threading.Thread(target=look)
    looking.start()
    try:
        do()
    finally:
        over.set()
        looking.join()
    return max(seen) if None not in seen else None


def _roll_out(service: Service) -> None:
    """Let one deployment roll out a few times."""
    for _ in range(FOREIGN_ROLLOUTS):
        answer = service.post("/deployment", {"wait": 20}, **HEADERS)
        if answer.status != 200:
            raise RuntimeError(f"a rollout was answered {answer.status}: {answer.text}")


def _make_pod(bench: Bench, place: str, number: int) -> None:
    """Make a pod that no node has room for, as large as pods are."""
    variables = [{"name": f"VARIABLE_{each}", "value": "x" * 60} for each in range(40)]
    container = {"name": "main", "image": "other/program:1", "env": variables}
    container["resources"] = {"requests": {"cpu": "64"}}
    body = {"metadata": {"name": f"other-{number}", "labels": {"app": "other"}}, "spec": {"containers": [container]}}
    status, answer = bench.raw.call("POST", f"/api/v1/namespaces/{place}/pods", json.dumps(body).encode())
    if status != 201:
        raise RuntimeError(f"a pod was answered {status}: {answer.decode()}")


def _signal_all(service: Service, pool: ThreadPoolExecutor, images: list[str], followed: list[int]) -> None:
    def one(number: int, image: str) -> None:
        answer = service.post(f"/deployment/web-{number}", {"image": image}, **HEADERS)
        if answer.status != 200:
            raise RuntimeError(f"a right signal was answered {answer.status}: {answer.text}")

    list(pool.map(one, range(FOLLOWED), itertools.cycle(images)))
    text = service.get("/metrics").text
    followed.append(round(float(re.search(r"(?m)^auto_deployer_rollouts_followed (\S+)", text)[1])))


def _verdicts(service: Service, pool: ThreadPoolExecutor, images: list[str]) -> Counter:
    """Wait for all verdicts; return how often each wrong one was given."""

    def one(number: int, image: str) -> str:
        def ended() -> str | None:
            phase = service.get(f"/deployment/web-{number}?wait=5", **HEADERS).json()["phase"]
            return None if phase == "progressing" else phase

        phase = "progressing"
        with suppress(TimeoutError):
            phase = wait_for(ended, 60)
        return "" if phase == ("failed" if "late" in image else "complete") else f"{image} {phase}"

    found = Counter(pool.map(one, range(FOLLOWED), itertools.cycle(images)))
    del found[""]
    return found
