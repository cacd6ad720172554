"""The figures of a service under load: a flood of wrong passwords, many signals at once, idle connections."""

import statistics
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack
from multiprocessing import get_context
from threading import Barrier

from tests.bench.bench import Bench, timed
from tests.bench.figure import Figure, counted, percentile
from tests.service import PASSWORD, Service

AT_ONCE, IDLE = 100, 64
FLOODERS, FLOOD_SECONDS, TURNS = 8, 4, 3


def flood(bench: Bench) -> Iterator[Figure]:
    """Whether right signals are served while another client tries passwords as fast as it can."""
    bench.calm()
    calm = [timed(bench.signal) for _ in range(100)]
    bench.calm()
    # In another process, or the two would measure each other.
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        rates: dict[str, list[float]] = {"ours": [], "bare": []}
        with Service({}, module="tests.bench.bare:app") as bare:
            for _ in range(TURNS):
                for name, service in (("ours", bench.service), ("bare", bare)):
                    answers, seconds = pool.submit(_flood, service.port).result()
                    rates[name].append(answers.pop("403", 0) / seconds)
        flooding = pool.submit(_flood, bench.service.port)
        right = []
        while not flooding.done():
            right.append(timed(bench.signal))
        answers, _ = flooding.result()
        answers.pop("403", 0)
    ours, plain = (statistics.median(each) for each in rates.values())
    yield Figure(
        "answers to wrong passwords over those of a bare view", ours / plain, note=f"({ours:.0f}/s)", at_least=0.75
    )
    note = f"of {len(right)} {counted(answers)}".rstrip()
    yield Figure("right signal during a flood of them, 99th percentile", percentile(right) * 1000, " ms", 100, note)
    yield Figure("  without the flood", percentile(calm) * 1000, " ms", note=f"of {len(calm)}")


def burst(bench: Bench) -> Iterator[Figure]:
    """Whether all of many signals at the same moment are answered, and leave one whole Deployment."""
    together, processes = Barrier(AT_ONCE), bench.processes()

    def one(_: int) -> tuple[str, str]:
        together.wait()
        try:
            answer = bench.service.post("/deployment", {"pw": PASSWORD}, Accept="application/json")
        except OSError as error:
            return type(error).__name__, ""
        return str(answer.status), answer.json().get("id", "")

    bench.calm()
    began = time.perf_counter()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        answers = list(pool.map(one, range(AT_ONCE)))
    took = time.perf_counter() - began
    statuses = Counter(status for status, _ in answers)
    yield Figure(f"{AT_ONCE} signals at once: answers other than 200", AT_ONCE - statuses["200"], "", 0)
    yield Figure("  until the last answer", took, " s", 5)
    if statuses["200"] < AT_ONCE:
        yield Figure("  these", None, note=counted(statuses))
    ours = bench.live_id() in {each for _, each in answers}
    lost = processes - bench.processes()
    yield Figure("  rollout ids in the Deployment that no answer had, and workers lost", (not ours) + len(lost), "", 0)


def idle(bench: Bench) -> Iterator[Figure]:
    """Whether connections that send nothing keep a signal waiting."""
    bench.calm()
    with ExitStack() as held:
        for _ in range(IDLE):
            held.enter_context(bench.service.connect())
        time.sleep(0.5)
        yield Figure(f"a signal while {IDLE} connections are held open", timed(bench.signal) * 1000, " ms", 1000)


def _flood(port: int) -> tuple[Counter, float]:
    body = b'{"pw": "not the password, but as long"}'
    request = b"POST /deployment HTTP/1.1\r\nHost: bench\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    service = Service({}, port)
    began = time.perf_counter()

    def one(_: int) -> Counter:
        answers = Counter()
        while time.perf_counter() - began < FLOOD_SECONDS:
            try:
                answers[service.raw(request)[9:12].decode() or "nothing"] += 1
            except OSError as error:
                answers[type(error).__name__] += 1
        return answers

    with ThreadPoolExecutor(FLOODERS) as pool:
        return sum(pool.map(one, range(FLOODERS)), Counter()), time.perf_counter() - began
