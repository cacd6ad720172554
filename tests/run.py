"""Runs the service, beside a simulated cluster or on a real one, until it is told to stop."""

import argparse
import json
import os
import re
import secrets
import shlex
import shutil
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, fields
from pathlib import Path

from settings import Settings
from tests.service import ROOT, Service
from tests.simulation import SimulatedCluster

# Not auto-deployer's own: here it runs beside the cluster, and not in it.
MANIFESTS = [path for path in (ROOT / "k8s" / "deployments").glob("*.yaml") if path.stem != "auto-deployer"]
# What the shell may set. Its KUBECONFIG may be that of another cluster: only --cluster leads to a real one.
VARIABLES = {field.name.upper() for field in fields(Settings)} - {"KUBECONFIG"}
LAST_LINES = 20


@dataclass(frozen=True)
class Deployment:
    """Hold what the lines to paste need of a manifest."""

    name: str
    namespace: str
    repository: str | None


def main() -> str | int:
    """Serve on 127.0.0.1, and print the lines to paste into a second terminal."""
    parser = argparse.ArgumentParser(prog="python -m tests.run", description=main.__doc__)
    parser.add_argument("--cluster", metavar="KUBECONFIG", help="a real cluster, in place of the simulated one")
    parser.add_argument("--port", type=port, default=8080, help="8080 unless told; 0 is any free one")
    options = parser.parse_args()
    if options.cluster and not Path(options.cluster).is_file():
        return f"there is no file {options.cluster}; name the kubeconfig of the cluster to use"
    if problem := port_problem(options.port):
        return problem
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: stop.set())
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="auto-deployer-")))
        environ = configure(folder)
        deployments = read_manifests(ROOT / environ["DEPLOYMENTS_DIR"])
        if not deployments:
            return f"there is no manifest NAME.yaml in {environ['DEPLOYMENTS_DIR']}"
        if options.cluster:
            kubeconfig, api = Path(options.cluster).resolve(), None
        else:
            kubeconfig = folder / "kubeconfig"
            api = stack.enter_context(simulated_cluster(kubeconfig, deployments))
        service = Service(environ | {"KUBECONFIG": str(kubeconfig)}, options.port, folder / "log")
        # Before its start, so that it is ended as well where it starts but doesn't serve.
        stack.push(service)
        try:
            service.start()
        except (ChildProcessError, TimeoutError):
            return report_end(service)
        where = f"the cluster of {options.cluster}" if options.cluster else "a simulated cluster"
        print(f"\nauto-deployer serves on {service.url}, in front of {where}. Ctrl-C ends it.")
        print(f"Its log: {folder / 'log'}")
        print(f"The page, in a browser: {service.url}/ (any user name, and the password of the lines below)")
        print("\nPaste these lines into a second terminal, one after the other.")
        seen = ("What is in the cluster now:", look(kubeconfig, api, deployments[0].namespace))
        for what, line in [*story(service.url, environ, deployments), seen]:
            print(f"\n{what}\n\n{line}", flush=True)
        threading.Thread(target=lambda: (service.process.wait(), stop.set()), daemon=True).start()
        stop.wait()
        return 0 if service.process.poll() is None else report_end(service)


def port(text: str) -> int:
    """Read a port's number."""
    if not re.fullmatch(r"[0-9]{1,5}", text) or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port; choose a number from 1 to 65535")
    return int(text)


def port_problem(number: int) -> str | None:
    """Return why the port can't be used, or None."""
    another = f"choose another port: make run PORT={9090 if number != 9090 else 9091}"
    with socket.socket() as probe:
        # As uWSGI does: connections of an earlier run that are still being closed don't keep the port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", number))
        except PermissionError:
            return f"port {number} of 127.0.0.1 is for root only; {another}"
        except OSError:
            return f"port {number} of 127.0.0.1 is in use; end what listens there, or {another}"
    return None


def configure(folder: Path) -> dict[str, str]:
    """Return the settings that the shell has, completed by directories in the folder where it names none."""
    environ = {name: os.environ[name] for name in VARIABLES & os.environ.keys()}
    if "DEPLOYMENTS_DIR" not in environ:
        environ["DEPLOYMENTS_DIR"] = str(folder / "deployments")
        (folder / "deployments").mkdir()
        for path in MANIFESTS:
            (folder / "deployments" / path.name).symlink_to(path)
    if "PASSWORDS_DIR" not in environ:
        environ["PASSWORDS_DIR"] = str(folder / "passwords")
        (folder / "passwords").mkdir()
        (folder / "passwords" / "default").write_text(f"{secrets.token_urlsafe(24)}\n")
    return environ


def read_manifests(directory: Path) -> list[Deployment]:
    """Find the manifests. What is wrong with one is for the service to say."""
    found = []
    for path in sorted(directory.glob("[!.]*.yaml")):
        text = path.read_text(errors="replace")
        image = re.search(r"(?m)^[ -]+image: *[\"']?([^\s\"'@]+)", text)
        namespace = re.search(r"(?m)^ +namespace: *[\"']?([a-z0-9-]+)", text)
        repository = re.sub(r":[^:/]+$", "", image[1]) if image else None
        found.append(Deployment(path.stem, namespace[1] if namespace else "default", repository))
    # The lines to paste are about the first one, so that is one whose image is known.
    return sorted(found, key=lambda each: each.repository is None)


@contextmanager
def simulated_cluster(kubeconfig: Path, deployments: list[Deployment]) -> Iterator[str]:
    """Simulate a cluster that has the namespaces of these deployments; give the URL of its API."""
    # At a real kubelet's pace, so that what is seen here is what a real cluster shows.
    with SimulatedCluster(speed=1) as cluster:
        for namespace in {each.namespace for each in deployments}:
            if not cluster.get("namespaces", "", namespace):
                item = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
                cluster.create("namespaces", "", item)
        # The admin's, so that kubectl can look around with it.
        cluster.write_kubeconfig(kubeconfig, admin=True)
        yield cluster.url


def password_file(environ: dict[str, str], name: str) -> Path:
    """Return the file whose first line opens the deployment."""
    file = ROOT / environ["PASSWORDS_DIR"] / "default"
    return file if file.exists() else file.with_name(name)


def curl(url: str, file: Path, **body: object) -> str:
    """Return a line that signals. A password that was given is not shown, only read."""
    if "PASSWORDS_DIR" not in os.environ:
        return f"curl -d {shlex.quote(json.dumps({'pw': file.read_text().strip(), **body}))} {url}"
    header = f'"Authorization: Bearer $(head -n 1 {shlex.quote(str(file))})"'
    return f"curl -H {header} -d {shlex.quote(json.dumps(body))} {url}"


def story(url: str, environ: dict[str, str], deployments: list[Deployment]) -> list[tuple[str, str]]:
    """Return what to try, in order: what it shows, and the line to paste."""
    first = deployments[0]
    url += "/deployment" + (f"/{first.name}" if len(deployments) > 1 else "")
    file = password_file(environ, first.name)
    steps = [("A signal deploys, and waits for the verdict:", curl(url, file, wait=True))]
    if first.repository:
        crash = curl(url, file, image=f"{first.repository}:crash", wait=True)
        steps.append(("This version crashes. The answer says why, and has the last lines of its log:", crash))
    if environ.get("ROLLBACK_ON_FAILURE", "").lower() != "true":
        steps.append(("Back to what worked:", curl(f"{url}/rollback", file, wait=True)))
    return steps


def look(kubeconfig: Path, api: str | None, namespace: str) -> str:
    """Return a line that shows what is in the cluster."""
    if api and not shutil.which("kubectl"):
        return f"curl {api}/apis/apps/v1/namespaces/{namespace}/replicasets"
    return f"kubectl --kubeconfig {shlex.quote(str(kubeconfig))} -n {namespace} get deployments,replicasets"


def report_end(service: Service) -> str:
    """End what is left of a service that doesn't serve; return which settings are bad, or else the end of its log."""
    code = service.process.poll()
    # A worker can outlive uWSGI's master, which kept its process group for it.
    with suppress(ProcessLookupError):
        service.kill()
    service.ended(10)
    # The traceback and uWSGI's lines around this sentence tell the reader nothing more.
    if bad := re.search(r"(?m)^ValueError: (bad settings:(?:\n  .+)+)", "\n".join(service.lines)):
        return bad[1]
    how = "doesn't serve" if code is None else f"has ended with {code}"
    return "\n".join([f"the service {how}; the last lines of its log:", "", *service.lines[-LAST_LINES:]])


if __name__ == "__main__":
    sys.exit(main())
