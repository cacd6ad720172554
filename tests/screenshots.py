"""Writes the pictures of the page in docs/images/: `make screenshots`."""

import json
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.browser import MISSING, chromium, open_page, running_browser
from tests.conftest import ConfiguredService, Sandbox, SimulatedAdmin, deployment, role
from tests.service import ROOT
from tests.simulation import SimulatedCluster

FOLDER = ROOT / "docs" / "images"
# Of each deployment: the tags that were signalled, the newest last.
STORIES = {
    "web": ["1.8.0", "1.8.1", "1.9.0-crash", "1.8.1", "1.9.0", "2.0.0", "2.1.0-crash"],
    "api": ["4.1", "4.2", "4.2.1", "4.3-oom", "4.2.1"],
    "mail": ["12", "13"],
}
CAUSES = {"2.1.0-crash": "Read the database's address from the environment", "4.2.1": "Fix the rounding of prices"}
# The name and path of each picture's page, and how high a wide window it needs.
VIEWS = (("overview", "/", 800), ("rollout", "/deployment/web", 1120))
PHONE_PIXELS = 844


def main() -> str | None:
    """Play some rollouts on the simulated cluster, and take the pictures."""
    if not chromium():
        return MISSING
    FOLDER.mkdir(parents=True, exist_ok=True)
    with SimulatedCluster() as simulation, tempfile.TemporaryDirectory() as folder:
        simulation.write_kubeconfig(Path(folder) / "kubeconfig")
        admin = SimulatedAdmin(simulation)
        admin.add_namespace("shop")
        shop = Sandbox(admin, "shop")
        shop.allow(role())
        environ = {"KUBECONFIG": str(Path(folder) / "kubeconfig"), "SETTLE_SECONDS": "1"}
        with ConfiguredService(Path(folder), **environ) as service, running_browser() as browser:
            play(service, shop)
            for name, path, high in VIEWS:
                for width, height in ((1280, high), (390, PHONE_PIXELS)):
                    size = {"width": width, "height": height}
                    for scheme in ("light", "dark"):
                        page = open_page(browser, service.url, viewport=size, color_scheme=scheme)
                        page.goto(path)
                        page.locator("svg.strip").first.wait_for()
                        page.screenshot(path=FOLDER / f"{name}-{width}-{scheme}.png")
                        page.context.close()
    return None


def play(service: ConfiguredService, shop: Sandbox) -> None:
    """Bring some deployments to where the pictures show them."""
    service.reset("shop")
    for name, tags in STORIES.items():
        service.configure(name, deployment(name, f"acme/{name}:latest", replicas=3))
        for tag in tags:
            service.deploy(name, image=f"acme/{name}:{tag}", cause=CAUSES.get(tag, f"Release {tag}"))
        age(shop, name, len(tags))
    service.configure("worker", deployment("worker", "acme/worker:slow", replicas=3))
    service.configure("search", deployment("search", "acme/search:1"))
    shop.patch({"metadata": {"annotations": {"auto-deployer/locked": "the migration runs until 18:00"}}}, "mail")
    service.signal("worker", image="acme/worker:7-slow", cause="Release 7")


def age(shop: Sandbox, name: str, hours: int) -> None:
    """Let the rollouts of a deployment be some hours old, and those of a workflow."""
    records = shop.get(f"auto-deployer-{name}", "configmaps")["data"]
    aged = {}
    for place, key in enumerate(sorted(records, reverse=True)):
        record = json.loads(records[key])
        rollout, back = record["rollout"], timedelta(minutes=4 + 97 * place * hours)
        for field, longer in (("started_at", timedelta(seconds=11 + 7 * (place % 3))), ("finished_at", timedelta())):
            rollout[field] = (datetime.now(UTC) - back - longer).isoformat()
        rollout |= {"by": f"octocat, acme/{name}@{3 + place}f2c1ab", "link": "https://github.com/acme/web/actions"}
        aged[key] = json.dumps(record)
    shop.patch({"data": aged}, f"auto-deployer-{name}", "configmaps")


if __name__ == "__main__":
    sys.exit(main())
