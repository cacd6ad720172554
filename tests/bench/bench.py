"""What is measured: the service, and the same done without it. All that is imported of the product stands here."""

import json
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import yaml

import deployment_spec
from cluster.api import Cluster
from deployment_spec import Signal
from manifest import files
from manifest.annotations import RESTARTED_AT
from manifest.pod_template import new_rollout_id
from tests.bench import memory
from tests.bench.cluster import NAMESPACE, Raw
from tests.service import PASSWORD, ROOT, Service, wait_for

NAME = "web"


class Bench:
    """Hold what is measured: a cluster, a manifest in a namespace of its own, and the service in front of it."""

    def __init__(self, kubeconfig: str, folder: Path, is_real: bool = False) -> None:
        self.is_real = is_real
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
        rollout_id = new_rollout_id()
        build = partial(deployment_spec.build, self.manifest, Signal(), rollout_id)
        self.cluster.apply(NAMESPACE, NAME, rollout_id, build)

    def live(self) -> dict:
        """Return the Deployment."""
        return json.loads(self.raw.call("GET", self.path)[1])

    def live_id(self) -> str:
        """Return the rollout id that the Deployment has."""
        return self.live()["spec"]["template"]["metadata"]["annotations"][RESTARTED_AT]

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

    def processes(self) -> set[int]:
        """Return the ids of the service's processes."""
        return memory.processes(self.service)

    def memory(self) -> float | None:
        """Return MiB, each shared page counted once; None where the kernel doesn't tell."""
        return memory.memory(self.service)


def timed(do: Callable[[], object]) -> float:
    """Return how long it takes, in seconds."""
    began = time.perf_counter()
    do()
    return time.perf_counter() - began
