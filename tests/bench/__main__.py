"""Measures, prints a table, and ends with 1 where a target is missed."""

import argparse
import json
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from tests.bench import figures, foreign, load, page, scale
from tests.bench.bench import Bench
from tests.bench.cluster import namespace, simulated_cluster
from tests.bench.figure import Figure, judge

# A new figure is a function here. The first ones measure services that they start themselves.
BEFORE = (figures.start, page.overview, foreign.pods, scale.rollouts)
WHILE_SERVING = (
    figures.memory_after_start,
    figures.signals,
    figures.memory_after_signals,
    load.flood,
    load.burst,
    load.idle,
    figures.memory_after_all,
)


def main() -> str | int:
    """Measure, and print a table; return which targets are missed."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--cluster", metavar="KUBECONFIG", help="a real cluster; without it, the simulated one")
    options = parser.parse_args()
    # So that the namespace and the service go away then, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended before all was measured"))
    # A shell lets the programs that it starts in the background ignore it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # As for the service that is measured: neither a pod's own cluster nor a proxy is meant.
    for variable in [each for each in os.environ if each.startswith("KUBERNETES_") or each.lower().endswith("_proxy")]:
        del os.environ[variable]
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="auto-deployer-bench-")))
        # What is made in there goes away with it, also where making it is interrupted.
        tempfile.tempdir = str(folder)
        if options.cluster:
            kubeconfig = str(Path(options.cluster).resolve())
        else:
            kubeconfig = stack.enter_context(simulated_cluster(folder))
        bench = Bench(kubeconfig, folder, is_real=bool(options.cluster))
        stack.enter_context(namespace(bench.raw))
        # Ended in the middle of its start, too.
        stack.push(bench.service)
        _, version = bench.raw.call("GET", "/version")
        kind = "real" if bench.is_real else "simulated"
        print(f"{kind} cluster, Kubernetes {json.loads(version)['gitVersion']}, {os.cpu_count()} cores\n")
        _print("figure", "measured", "target", "")
        measured = []
        for figure in _measure(bench):
            _print(*figure.cells())
            measured.append(figure)
    return judge(measured)


def _measure(bench: Bench) -> Iterator[Figure]:
    for measure in BEFORE:
        yield from measure(bench)
    with bench.service:
        for measure in WHILE_SERVING:
            yield from measure(bench)


def _print(name: str, measured: str, target: str, note: str) -> None:
    print(f"{name:<68}{measured:>12}  {target:>10}  {note}".rstrip(), flush=True)


if __name__ == "__main__":
    sys.exit(main())
