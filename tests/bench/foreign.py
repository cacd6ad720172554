"""The figure of a namespace that holds thousands of other people's pods."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from tests.bench.bench import Bench
from tests.bench.cluster import namespace
from tests.bench.figure import Figure
from tests.bench.memory import most_memory
from tests.bench.scale import serving
from tests.service import PASSWORD, Service

PODS, ROLLOUTS, SENDERS = 5000, 5, 16
PLACE = "auto-deployer-bench-foreign"


def pods(bench: Bench) -> Iterator[Figure]:
    """Whether other people's pods take memory while a rollout is followed."""
    settings = bench.service.environ | {"SETTLE_SECONDS": "0"}
    with namespace(bench.raw, PLACE), serving(settings, PLACE, 1) as service:
        without = most_memory(service, lambda: _roll_out(service))
        with ThreadPoolExecutor(SENDERS) as pool:
            list(pool.map(lambda number: _make_pod(bench, number), range(PODS)))
        among = most_memory(service, lambda: _roll_out(service))
    more = None if among is None else among - without
    note = "" if among is None else f"({without:.1f} and {among:.1f} MiB)"
    yield Figure(f"memory more with {PODS} foreign pods", more, " MiB", 5, note)


def _roll_out(service: Service) -> None:
    for _ in range(ROLLOUTS):
        # The verdict doesn't count: a control plane without a node has none.
        answer = service.post("/deployment", {"pw": PASSWORD, "wait": 5})
        if answer.status not in (200, 202):
            raise RuntimeError(f"a right signal was answered {answer.status}: {answer.text}")


def _make_pod(bench: Bench, number: int) -> None:
    """Make a pod as large as pods are, that no node has room for."""
    variables = [{"name": f"VARIABLE_{each}", "value": "x" * 60} for each in range(40)]
    container = {"name": "main", "image": "other/program:1", "env": variables}
    container["resources"] = {"requests": {"cpu": "64"}}
    body = {"metadata": {"name": f"other-{number}", "labels": {"app": "other"}}, "spec": {"containers": [container]}}
    status, answer = bench.raw.call("POST", f"/api/v1/namespaces/{PLACE}/pods", json.dumps(body).encode())
    if status != 201:
        raise RuntimeError(f"a pod was answered {status}: {answer.decode()}")
