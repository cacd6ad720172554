"""What the service counts for Prometheus."""

import platform
import re
import tomllib

import kubernetes
import pytest

from tests.conftest import deployment
from tests.service import ROOT, wait_for


@pytest.fixture
def service(services, cluster):
    """Serve without settling time, for these tests alone, so that it counts nothing else."""
    service = services("metrics", SETTLE_SECONDS="0")
    service.reset(cluster.namespace)
    return service


def metrics(service):
    """Return the value of each series."""
    answer = service.get("/metrics")
    assert (answer.status, answer.headers.get_content_type()) == (200, "text/plain")
    lines = [line for line in answer.text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


def growth(service, act):
    """Return by how much each series has grown after something was done, and all that followed from it."""
    before = metrics(service)
    act()
    wait_for(lambda: metrics(service)["auto_deployer_rollouts_followed"] == 0)
    after = metrics(service)
    return {name: after[name] - before.get(name, 0) for name in after if after[name] != before.get(name, 0)}


def test_rollouts_are_counted_by_deployment_and_phase(service):
    def act():
        assert service.deploy("web").status == 200
        assert service.deploy("web", image="acme/web:missing", rollback_on_failure=True).status == 424
        assert service.show("web", wait=True).status == 200
        service.deploy("web", image="acme/web:unready", wait=False)
        assert service.deploy("web", image="acme/web:2").status == 200

    grown = growth(service, act)
    rollouts = {name: value for name, value in grown.items() if name.startswith("auto_deployer_rollouts_total")}
    assert rollouts == {
        'auto_deployer_rollouts_total{deployment="web",phase="complete"}': 3,
        'auto_deployer_rollouts_total{deployment="web",phase="failed"}': 1,
        'auto_deployer_rollouts_total{deployment="web",phase="superseded"}': 1,
    }
    assert grown['auto_deployer_signals_total{deployment="web",status="200"}'] == 3
    assert grown['auto_deployer_signals_total{deployment="web",status="424"}'] == 1
    assert grown['auto_deployer_rollbacks_total{deployment="web"}'] == 1
    assert grown['auto_deployer_rollout_duration_seconds_count{deployment="web"}'] >= 4
    assert 0 < grown['auto_deployer_rollout_duration_seconds_sum{deployment="web"}'] < 60


def test_which_version_runs(service):
    [(name, value)] = [each for each in metrics(service).items() if each[0].startswith("auto_deployer_build_info")]
    assert value == 1
    assert dict(re.findall(r'(\w+)="([^"]*)"', name)) == {
        "version": tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"],
        "python": platform.python_version(),
        "kubernetes_client": kubernetes.__version__,
    }


def test_a_manual_rollback_is_counted(service):
    def act():
        service.deploy()
        service.deploy(image="acme/web:2")
        assert service.roll_back().status == 200

    assert growth(service, act)['auto_deployer_rollbacks_total{deployment="web"}'] == 1


def test_how_many_are_followed(service):
    service.configure("api", deployment("api", "acme/web:unready"))
    service.configure("web", deployment("web", "acme/web:unready"))
    service.deploy("api", wait=False)
    service.deploy("web", wait=False)
    wait_for(lambda: metrics(service)["auto_deployer_rollouts_followed"] == 2)
    for name in ("api", "web"):
        service.configure(name, deployment(name))
        assert service.deploy(name).status == 200
    wait_for(lambda: metrics(service)["auto_deployer_rollouts_followed"] == 0)


def test_a_rollout_that_clients_wait_for_counts_once(service):
    service.configure("web", deployment("web", "acme/web:unready"))
    service.deploy(wait=0.1)
    service.show(wait=0.1)
    wait_for(lambda: metrics(service)["auto_deployer_rollouts_followed"] >= 1)
    assert metrics(service)["auto_deployer_rollouts_followed"] == 1
    service.configure("web", deployment("web"))
    service.deploy()


STRANGE = [
    "evil",
    "web2",
    "evil/rollback",
    "a" * 200,
    "..%2f..%2fpasswd",
    "%22%7D%0Aevil",
    "evil%20x",
    "default",
    "rollback/rollback",
]


def test_unknown_names_never_become_a_label(service):
    for path in STRANGE:
        service.deploy(path, wait=False)
        service.post(f"/deployment/{path}", {"pw": "wrong-wrong-wrong-wrong"})
        service.post(f"/deployment/{path}", "no JSON at all")
        service.show(path)
        service.post(f"/{path}", {})
    service.ask("BREW", "/deployment/evil")
    text = service.get("/metrics").text
    assert set(re.findall(r'deployment="([^"]*)"', text)) <= {"", "web", "api"}
    assert all(re.fullmatch("[2-5][0-9][0-9]", each) for each in re.findall(r'status="([^"]*)"', text))
    assert "evil" not in text


def test_a_wrong_password_is_counted_without_a_name(service):
    grown = growth(service, lambda: service.post("/deployment/web", {"pw": "wrong-wrong-wrong-wrong"}))
    assert grown == {'auto_deployer_signals_total{deployment="",status="403"}': 1}


def test_nothing_secret_is_in_the_metrics(service):
    service.deploy(cause="cause-of-the-day")
    text = service.get("/metrics").text
    assert service.right not in text
    assert "cause-of-the-day" not in text
    assert "acme/web" not in text


def test_a_rollback_that_is_refused_is_not_counted(service, cluster):
    service.deploy("web", image="acme/web:1")
    service.deploy("web", image="acme/web:2")
    cluster.patch({"spec": {"paused": True}})
    grown = growth(service, lambda: service.roll_back("web"))
    assert not any(name.startswith("auto_deployer_rollbacks") for name in grown)
