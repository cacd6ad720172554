"""Measures the service under uWSGI against a cluster, simulated or real, and prints each figure beside its target."""

import argparse
import itertools
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from threading import Barrier

import yaml
from kubernetes import client, config
from kubernetes.client.rest import RESTClientObject

import deployment_spec
from cluster.api import Cluster
from deployment_spec import Signal
from manifest import files
from manifest.pod_template import new_rollout_id
from tests.service import PASSWORD, ROOT, Service, wait_for

NAMESPACE = "auto-deployer-bench"
NAME = "web"
STARTS, SIGNALS, AT_ONCE, IDLE = 5, 500, 100, 64
ROUNDS, WARM_UP, PAUSE = 200, 20, 0.05
FLOODERS, FLOOD_SECONDS, FLOOD_MOST = 8, 8, 20_000
MIB = 1024


@dataclass(frozen=True)
class Figure:
    """Hold one line of the table; without a target it only informs."""

    name: str
    value: float | None
    unit: str = ""
    at_most: float | None = None
    note: str = ""

    def cells(self) -> tuple[str, ...]:
        """Return the line, cell by cell."""
        if self.value is None:
            return self.name, "not measured", "", self.note
        target = "" if self.at_most is None else f"≤ {_short(self.at_most)}{self.unit}"
        verdict = "" if self.at_most is None else "ok" if self.value <= self.at_most else "MISSED"
        return self.name, f"{_short(self.value)}{self.unit}", target, " ".join(filter(None, [verdict, self.note]))


class Raw:
    """Talk to the API server with the client's credentials and TLS settings, and nothing else of the client."""

    def __init__(self, kubeconfig: str) -> None:
        settings = client.Configuration()
        config.load_kube_config(kubeconfig, client_configuration=settings)
        # Its urllib3 pool alone: certificates are set up as in the service, and connections are kept alive.
        self._pool, self._host = RESTClientObject(settings).pool_manager, settings.host
        self._headers = {"Accept": "application/json"}
        if bearer := settings.auth_settings().get("BearerToken"):
            self._headers["Authorization"] = bearer["value"]

    def call(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        """Make one call; return its status and body."""
        kind = "application/strategic-merge-patch+json" if method == "PATCH" else "application/json"
        headers = self._headers | ({"Content-Type": kind} if body else {})
        answer = self._pool.request(method, self._host + path, body=body, headers=headers, timeout=30, retries=False)
        return answer.status, answer.data


class Bench:
    """Hold what is measured: a cluster, a manifest in a namespace of its own, and the service in front of it."""

    def __init__(self, kubeconfig: str, folder: Path) -> None:
        manifest = yaml.safe_load((ROOT / "k8s" / "deployments" / "web.yaml").read_text())
        manifest["metadata"] |= {"name": NAME, "namespace": NAMESPACE}
        deployments, passwords = folder / "deployments", folder / "passwords"
        deployments.mkdir()
        passwords.mkdir()
        (deployments / f"{NAME}.yaml").write_text(yaml.safe_dump(manifest))
        (passwords / "default").write_text(PASSWORD)
        self.raw, self.cluster = Raw(kubeconfig), Cluster(kubeconfig)
        self.manifest = files.load(deployments, NAME)
        self.service = Service(
            {"DEPLOYMENTS_DIR": str(deployments), "PASSWORDS_DIR": str(passwords), "KUBECONFIG": kubeconfig}
        )
        self.path = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/{NAME}"

    def signal(self) -> str:
        """Signal over HTTP as a sender does, on a connection of its own; return the rollout's id."""
        answer = self.service.post("/deployment", {"pw": PASSWORD}, Accept="application/json")
        if answer.status != 200:
            raise RuntimeError(f"a right signal was answered {answer.status}: {answer.text}")
        return answer.json()["id"]

    def apply(self) -> None:
        """Do what a signal does, without HTTP and Flask in front."""
        build = partial(deployment_spec.build, self.manifest, Signal(), new_rollout_id())
        self.cluster.apply(NAMESPACE, NAME, build)

    def live(self) -> dict:
        """Return the Deployment."""
        return json.loads(self.raw.call("GET", self.path)[1])

    def read_and_patch(self, live: dict) -> float:
        """Make the two calls that no way to do it can save; return how long they took."""
        # Made before the clock starts, and without a call: raw is the calls, and not what makes their body.
        patch = deployment_spec.build(self.manifest, Signal(), new_rollout_id(), live)
        body, query = json.dumps(patch).encode(), "?fieldManager=auto-deployer&fieldValidation=Strict"
        began = time.perf_counter()
        answers = self.raw.call("GET", self.path), self.raw.call("PATCH", self.path + query, body)
        took = time.perf_counter() - began
        for status, content in answers:
            if status != 200:
                raise RuntimeError(f"the API server answered {status}: {content.decode()}")
        return took

    def calm(self) -> None:
        """Wait until the cluster has done what it was told: its controllers want the same cores."""

        def done() -> bool:
            live = self.live()
            status, generation = live.get("status", {}), live["metadata"]["generation"]
            pods = {status.get(each) for each in ("replicas", "updatedReplicas", "availableReplicas")}
            return status.get("observedGeneration") == generation and pods == {live["spec"]["replicas"]}

        # Never calm is worth a figure too.
        with suppress(TimeoutError):
            wait_for(done, 60)
        time.sleep(0.5)


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
    yield Figure("memory after start (PSS of all processes)", _memory(bench), " MiB", 65)


def signals(bench: Bench) -> Iterator[Figure]:
    """A signal, the bare client and raw HTTP, by turns, so that all three meet the same cluster."""
    bench.signal()  # The first one creates it.
    bench.calm()
    live = bench.live()
    ways = {
        "signal": lambda: _timed(bench.signal),
        "client": lambda: _timed(bench.apply),
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
    yield Figure("bare client over raw", medians["client"] / medians["raw"], note=_ms(medians["client"]))
    yield Figure("signal over raw", medians["signal"] / medians["raw"], "", 1.8, _ms(medians["signal"]))


def memory_after_signals(bench: Bench) -> Iterator[Figure]:
    """What it takes after many signals, and whether it still grows."""
    half, after = 0.0, 0.0
    for number in range(1, SIGNALS + 1):
        bench.signal()
        if number == SIGNALS // 2:
            half = _memory(bench) or 0
    after = _memory(bench)
    yield Figure(f"memory after {SIGNALS} signals", after, " MiB", 65)
    # Below a MiB it is what the allocator keeps back.
    yield Figure("  of that, grown in their second half", None if after is None else after - half, " MiB", 1)


def flood(bench: Bench) -> Iterator[Figure]:
    """Whether right signals are served while somebody tries passwords as fast as it goes."""
    bench.calm()
    calm = [_timed(bench.signal) for _ in range(100)]
    bench.calm()
    # In another process, or the two would measure each other.
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        pool.submit(int).result()
        flooding = pool.submit(_flood, bench.service.port)
        right = []
        while not flooding.done():
            right.append(_timed(bench.signal))
        answers, seconds = flooding.result()
    wrong = answers.pop("403", 0)
    yield Figure("answers to wrong passwords, a second", wrong / seconds, note=_counts(answers))
    yield Figure("right signal meanwhile, 99th percentile", _percentile(right) * 1000, " ms", note=f"of {len(right)}")
    yield Figure("  without the flood", _percentile(calm) * 1000, " ms", note=f"of {len(calm)}")


def burst(bench: Bench) -> Iterator[Figure]:
    """Whether all of many signals at the same moment are answered, and leave one whole Deployment."""
    together, processes = Barrier(AT_ONCE), _tree(bench)

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
    yield Figure(f"{AT_ONCE} signals at once: answers other than 200", AT_ONCE - statuses["200"], "", 0, _ms(took))
    if statuses["200"] < AT_ONCE:
        yield Figure("  these", None, note=_counts(statuses))
    annotations = bench.live()["spec"]["template"]["metadata"]["annotations"]
    ours = annotations[deployment_spec.RESTARTED_AT] in {each for _, each in answers}
    lost = processes - _tree(bench)
    yield Figure("  stamps in the Deployment that nobody was told, and workers lost", (not ours) + len(lost), "", 0)


def idle(bench: Bench) -> Iterator[Figure]:
    """Whether connections that send nothing keep a signal waiting."""
    bench.calm()
    with ExitStack() as held:
        for _ in range(IDLE):
            held.enter_context(bench.service.connect())
        time.sleep(0.5)
        yield Figure(f"a signal while {IDLE} connections are held open", _timed(bench.signal) * 1000, " ms", 1000)


def memory_after_all(bench: Bench) -> Iterator[Figure]:
    """What it takes when the worst is over."""
    yield Figure("memory after all this", _memory(bench), " MiB")


# A new figure is a function here. The first measures starts and runs without the service, the others with it.
BEFORE = (start,)
WHILE_SERVING = (memory_after_start, signals, memory_after_signals, flood, burst, idle, memory_after_all)


def _flood(port: int) -> tuple[Counter, float]:
    body = b'{"pw": "not the password, but as long"}'
    request = b"POST /deployment HTTP/1.1\r\nHost: bench\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    service = Service({}, port)
    began = time.perf_counter()

    def one(_: int) -> Counter:
        answers = Counter()
        for _ in range(FLOOD_MOST // FLOODERS):
            if time.perf_counter() - began > FLOOD_SECONDS:
                break
            try:
                answers[service.raw(request)[9:12].decode() or "nothing"] += 1
            except OSError as error:
                answers[type(error).__name__] += 1
        return answers

    with ThreadPoolExecutor(FLOODERS) as pool:
        return sum(pool.map(one, range(FLOODERS)), Counter()), time.perf_counter() - began


def _timed(do: Callable[[], object]) -> float:
    began = time.perf_counter()
    do()
    return time.perf_counter() - began


def _percentile(times: list[float]) -> float:
    return statistics.quantiles(times, n=100, method="inclusive")[98]


def _tree(bench: Bench) -> set[int]:
    # The service has a process group of its own, which its workers share.
    group, found = bench.service.process.pid, set()
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(ProcessLookupError):
            if os.getpgid(int(folder.name)) == group:
                found.add(int(folder.name))
    return found


def _memory(bench: Bench) -> float | None:
    """Return MiB, each shared page counted once; None where the kernel doesn't tell."""
    total = 0
    for process in _tree(bench):
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
        total += next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / MIB if total else None


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 100 or value == int(value) else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _ms(seconds: float) -> str:
    return f"({seconds * 1000:.1f} ms)"


def _counts(answers: Counter) -> str:
    return ", ".join(f"{status}: {count}" for status, count in sorted(answers.items()))


@contextmanager
def _simulated_cluster(folder: Path) -> Iterator[str]:
    # In a process of its own, as an API server is: in this one it would wait for whatever measures here.
    kubeconfig = folder / "kubeconfig"
    command = [sys.executable, "-m", "tests.simulation", "--kubeconfig", str(kubeconfig)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        if not process.stdout.readline():
            raise RuntimeError("the simulated cluster doesn't start")
        yield str(kubeconfig)
    finally:
        process.terminate()
        process.wait(10)
        process.stdout.close()


@contextmanager
def _namespace(raw: Raw) -> Iterator[None]:
    path = f"/api/v1/namespaces/{NAMESPACE}"
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
    status, answer = raw.call("POST", "/api/v1/namespaces", json.dumps(body).encode())
    if status == 409:
        sys.exit(f"there is a namespace {NAMESPACE}; take it away with: kubectl delete namespace {NAMESPACE}")
    if status != 201:
        sys.exit(f"namespace {NAMESPACE} can't be made: {answer.decode()}")
    try:
        yield
    finally:
        raw.call("DELETE", path)
        # Or the next run would find it still on its way out.
        with suppress(TimeoutError):
            wait_for(lambda: raw.call("GET", path)[0] == 404, 60)


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--cluster", metavar="KUBECONFIG", help="a real cluster; without it, the simulated one")
    options = parser.parse_args()
    # So that the namespace and the service go away then, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended before all was measured"))
    # As for the service that is measured: neither a pod's own cluster nor a proxy is meant.
    for variable in [each for each in os.environ if each.startswith("KUBERNETES_") or each.lower().endswith("_proxy")]:
        del os.environ[variable]
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="auto-deployer-bench-")))
        if options.cluster:
            kubeconfig = str(Path(options.cluster).resolve())
        else:
            kubeconfig = stack.enter_context(_simulated_cluster(folder))
        bench = Bench(kubeconfig, folder)
        stack.enter_context(_namespace(bench.raw))
        # Ended in the middle of its start, too.
        stack.push(bench.service)
        _, version = bench.raw.call("GET", "/version")
        kind = "real" if options.cluster else "simulated"
        print(f"{kind} cluster, Kubernetes {json.loads(version)['gitVersion']}, {os.cpu_count()} cores\n")
        _print("figure", "measured", "target", "")
        for measure in BEFORE:
            _print_all(measure(bench))
        with bench.service:
            for measure in WHILE_SERVING:
                _print_all(measure(bench))


def _print_all(figures: Iterator[Figure]) -> None:
    for figure in figures:
        _print(*figure.cells())


def _print(name: str, measured: str, target: str, note: str) -> None:
    print(f"{name:<68}{measured:>12}  {target:>10}  {note}".rstrip(), flush=True)


if __name__ == "__main__":
    main()
