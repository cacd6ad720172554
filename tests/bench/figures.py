"""The figures of a service that has no more to do than usual: its start, its memory, and how long a signal takes."""

import itertools
import statistics
import time
from collections.abc import Iterator

from tests.bench.bench import Bench, timed
from tests.bench.figure import Figure, in_ms

STARTS, SIGNALS = 5, 3000
ROUNDS, WARM_UP, PAUSE = 200, 20, 0.05


def start(bench: Bench) -> Iterator[Figure]:
    """From exec to the first 200 on /healthz."""
    times = []
    for _ in range(STARTS):
        began = time.perf_counter()
        with bench.service:
            times.append(time.perf_counter() - began)
    yield Figure(f"exec to the first 200 on /healthz, median of {STARTS}", statistics.median(times), " s", 1.5)


def memory_after_start(bench: Bench) -> Iterator[Figure]:
    """What it takes before the first signal."""
    yield Figure("memory after start (PSS of all processes)", bench.memory(), " MiB", 62)


def signals(bench: Bench) -> Iterator[Figure]:
    """A signal, the bare client and raw HTTP, by turns, so that all three meet the same cluster."""
    bench.signal()  # The first one creates it.
    bench.calm()
    live = bench.live()
    ways = {
        "signal": lambda: timed(bench.signal),
        "client": lambda: timed(bench.apply),
        "raw": lambda: bench.read_and_patch(live),
    }
    times: dict[str, list[float]] = {way: [] for way in ways}
    orders = itertools.cycle(itertools.permutations(ways))
    for turn, order in zip(range(-WARM_UP, ROUNDS), orders, strict=False):
        for way in order:
            # So that none pays for what the controllers do after the one before.
            time.sleep(PAUSE)
            took = ways[way]()
            if turn >= 0:
                times[way].append(took)
    medians = {way: statistics.median(each) for way, each in times.items()}
    yield Figure(f"raw read + patch, median of {ROUNDS}", medians["raw"] * 1000, " ms")
    yield Figure("bare client over raw", medians["client"] / medians["raw"], note=in_ms(medians["client"]))
    # The simulated cluster answers in a third of the time, which makes more of the rest.
    most = 1.8 if bench.is_real else None
    yield Figure("signal over raw", medians["signal"] / medians["raw"], "", most, in_ms(medians["signal"]))


def memory_after_signals(bench: Bench) -> Iterator[Figure]:
    """What it takes after many signals, and whether it still grows."""
    half, after = 0.0, 0.0
    for number in range(1, SIGNALS + 1):
        bench.signal()
        if number == SIGNALS // 2:
            half = bench.memory() or 0
    after = bench.memory()
    yield Figure(f"memory after {SIGNALS} signals", after, " MiB", 80)
    # Below a MiB it is what the allocator keeps back.
    yield Figure("  of that, grown in their second half", None if after is None else after - half, " MiB", 1)


def memory_after_all(bench: Bench) -> Iterator[Figure]:
    """What it takes when the worst is over."""
    yield Figure("memory after all this", bench.memory(), " MiB")
