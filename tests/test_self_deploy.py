"""auto-deployer deploys itself. Its pods are real processes here, behind one address, as behind a Service."""

import threading
import urllib.request

import pytest

from tests.action.runner import Gateway, Runner
from tests.conftest import ConfiguredService, Sandbox, deployment, role
from tests.service import PASSWORD

NAME = "auto-deployer"
MANIFEST = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": NAME}}
ROLLING = {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}


class Kubelet:
    """Start a process for each pod of the service that runs, and end it with the pod."""

    def __init__(self, cluster: Sandbox, start) -> None:
        self.processes: dict[str, ConfiguredService] = {}
        self._cluster, self._start = cluster, start
        self._leaving: dict[str, threading.Thread] = {}
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def port(self) -> int | None:
        """Return the port of the oldest pod that isn't being deleted, as a Service would choose one."""
        serving = [each for name, each in self.processes.items() if name not in self._leaving]
        return serving[0].port if serving else None

    def stop(self) -> None:
        """End all processes."""
        self._stopped.set()
        self._thread.join()
        for thread in self._leaving.values():
            thread.join()
        for each in self.processes.values():
            if each.process.poll() is None:
                each.kill()

    def _run(self) -> None:
        while not self._stopped.wait(0.1):
            pods = self._cluster._admin.list("pods", self._cluster.namespace)
            here = {pod["metadata"]["name"] for pod in pods if "deletionTimestamp" not in pod["metadata"]}
            for pod in pods:
                name, [container] = pod["metadata"]["name"], pod["spec"]["containers"]
                runs = pod["status"].get("phase") == "Running" and "crash" not in container["image"]
                if runs and name in here and name not in self.processes:
                    self.processes[name] = self._start()
            for name in self.processes.keys() - here - self._leaving.keys():
                # It sends SIGTERM, so that requests in flight get their answer.
                self._leaving[name] = threading.Thread(target=self.processes[name].stop)
                self._leaving[name].start()


@pytest.fixture
def kubelet(admin, cluster, tmp_path_factory):
    cluster.allow(role("self-role.yaml"))

    def start() -> ConfiguredService:
        environ = {"KUBECONFIG": str(admin.kubeconfig), "SETTLE_SECONDS": "1", "LOG_TAIL_LINES": "5"}
        service = ConfiguredService(tmp_path_factory.mktemp("pod"), **environ)
        service.reset(cluster.namespace)
        service.configure(NAME, MANIFEST)
        (service.deployments_dir / "web.yaml").unlink()
        service.start()
        return service

    own = deployment(NAME, image="acme/auto-deployer:latest", minReadySeconds=3, strategy=ROLLING)
    cluster.create(own)
    kubelet = Kubelet(cluster, start)
    cluster.wait_for(lambda: cluster.get(NAME)["status"].get("availableReplicas") == 1)
    cluster.wait_for(kubelet.port)
    yield kubelet
    kubelet.stop()


@pytest.fixture
def gateway(kubelet):
    gateway = Gateway(kubelet.port)
    yield gateway
    gateway.close()


def deploy(gateway, image, folder):
    given = {"url": gateway.url, "password": PASSWORD, "image": image, "timeout": "60s", "rollback-on-failure": "true"}
    return Runner(folder).run(given)


def gateway_answers(gateway):
    with urllib.request.urlopen(f"{gateway.url}/healthz") as answer:
        return answer.status == 200


def test_the_new_pod_gives_the_verdict_to_the_client_that_asked_the_old_one(gateway, kubelet, cluster, tmp_path):
    run = deploy(gateway, "acme/auto-deployer:2", tmp_path)
    assert run.exit_code == 0, run.log
    assert run.outputs["phase"] == "complete"
    old, new = kubelet.processes.values()
    cluster.wait_for(lambda: old.process.poll() == 0, 40)
    # The new pod answers the same.
    answer = new.get(
        f"/deployment?id={run.outputs['id']}", Authorization=f"Bearer {PASSWORD}", Accept="application/json"
    )
    assert (answer.status, answer.json()["phase"]) == (200, "complete")
    assert [each["phase"] for each in answer.json()["history"]] == ["complete"]


def test_the_old_version_reports_a_new_one_that_does_not_start_and_rolls_back(gateway, kubelet, cluster, tmp_path):
    run = deploy(gateway, "acme/auto-deployer:crash", tmp_path)
    assert run.exit_code == 1
    assert (run.outputs["phase"], run.outputs["rolled-back-to"]) == ("failed", "1")
    [error] = run.commands("error")
    assert "CrashLoopBackOff, exit code 1" in error
    assert "rolled back to revision 1" in error
    # The old pod says so: no process of the new version has ever run.
    old = next(iter(kubelet.processes.values()))
    assert [line for line in old.log if "failed: revision 2 of auto-deployer" in line["message"]]
    assert gateway_answers(gateway)
    # The target is what the old pod runs: `latest` points to the version that doesn't start by now.
    live = cluster.get(NAME)
    assert live["spec"]["template"]["spec"]["containers"][0]["image"].startswith("acme/auto-deployer@sha256:")


def test_a_check_needs_no_more_rights_than_a_deploy(gateway, kubelet):
    [own] = kubelet.processes.values()
    answer = own.get("/check", Authorization=f"Bearer {PASSWORD}")
    assert (answer.status, answer.text.splitlines()[0]) == (200, "ok: auto-deployer: a deploy would work")
