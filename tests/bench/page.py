"""The figures of the page: how long the overview takes, how large it is, and what memory it costs."""

import gzip
import http.client
import json
import re
import statistics
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from rollout.overview import MAX_AGE_SECONDS
from tests.bench.bench import Bench, timed
from tests.bench.cluster import namespace
from tests.bench.figure import Figure
from tests.bench.memory import memory
from tests.bench.scale import serving
from tests.service import PASSWORD, Service, wait_for

DEPLOYMENTS, ROLLOUTS, LOOKS = 20, 20, 10
PLACE = "auto-deployer-bench-page"
BROWSER = {"Accept": "text/html", "Accept-Encoding": "gzip", "Authorization": f"Bearer {PASSWORD}"}


def overview(bench: Bench) -> Iterator[Figure]:
    """How long GET / takes where nothing is remembered, and what a browser loads for it."""
    settings = bench.service.environ | {"SETTLE_SECONDS": "0"}
    with namespace(bench.raw, PLACE), serving(settings, PLACE, DEPLOYMENTS) as service:
        for number in range(DEPLOYMENTS):
            _roll_out(bench, service, number)
        before, times = memory(service), []
        for _ in range(LOOKS):
            time.sleep(MAX_AGE_SECONDS + 0.1)
            times.append(timed(lambda: _get(service, "/")) * 1000)
        name = f"GET / of {DEPLOYMENTS} deployments with {ROLLOUTS} rollouts each, median of {LOOKS}"
        yield Figure(name, statistics.median(times), " ms", 100, f"(at most {max(times):.0f} ms)")
        yield Figure("  again within two seconds", timed(lambda: _get(service, "/")) * 1000, " ms")
        page = _get(service, "/")
        parts = re.findall(r'(?:href|src)="([^"]*static/[^"]+)"', gzip.decompress(page).decode())
        sizes = [len(page), *(len(_get(service, "/" + part.lstrip("./"))) for part in parts)]
        yield Figure("  what a browser loads", sum(sizes) / 1000, " kB", 60, f"({len(sizes)} files)")
        after = memory(service)
        yield Figure("  memory more", None if after is None else after - before, " MiB")


def _roll_out(bench: Bench, service: Service, number: int) -> None:
    """Roll out once, and write the record as often as a full history has it."""
    answer = service.post(f"/deployment/web-{number}", {"pw": PASSWORD, "wait": True}, Accept="application/json")
    if answer.status not in (200, 202):
        raise RuntimeError(f"a right signal was answered {answer.status}: {answer.text}")
    rollout_id, path = answer.json()["id"], f"/api/v1/namespaces/{PLACE}/configmaps/auto-deployer-web-{number}"

    def text() -> str | None:
        return json.loads(bench.raw.call("GET", path)[1]).get("data", {}).get(rollout_id)

    record, now = wait_for(text), datetime.now(UTC)
    earlier = [(now - timedelta(hours=each)).strftime("%Y%m%dT%H%M%S.%fZ") for each in range(1, ROLLOUTS)]
    data = {each: record.replace(rollout_id, each) for each in earlier}
    status, content = bench.raw.call("PATCH", path, json.dumps({"data": data}).encode())
    if status != 200:
        raise RuntimeError(f"the records were answered {status}: {content.decode()}")


def _get(service: Service, path: str) -> bytes:
    """Return a body as it comes over the wire."""
    connection = http.client.HTTPConnection(service.host, service.port, timeout=40)
    try:
        connection.request("GET", path, None, BROWSER)
        response = connection.getresponse()
        if response.status != 200:
            raise RuntimeError(f"{path} was answered {response.status}")
        return response.read()
    finally:
        connection.close()
