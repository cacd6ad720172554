"""Runs the service, beside a simulated cluster or on a real one, until it is told to stop."""

import argparse
import secrets
import shutil
import signal
import socket
import sys
import tempfile
import threading
from contextlib import ExitStack
from pathlib import Path

from tests.service import ROOT, Service
from tests.simulation import SimulatedCluster

PORT = 8080
# Not auto-deployer's own: here it runs beside the cluster, and not in it.
MANIFESTS = [path for path in (ROOT / "k8s" / "deployments").glob("*.yaml") if path.stem != "auto-deployer"]
NAMESPACE = "default"


def main() -> str | int:
    """Serve on 127.0.0.1:8080, and print the commands to try."""
    parser = argparse.ArgumentParser(prog="python -m tests.run", description=main.__doc__)
    parser.add_argument("--cluster", metavar="KUBECONFIG", help="a real cluster, in place of the simulated one")
    options = parser.parse_args()
    if options.cluster and not Path(options.cluster).is_file():
        return f"there is no file {options.cluster}; name the kubeconfig of the cluster to use"
    if in_use():
        return f"port {PORT} of 127.0.0.1 is in use; end what listens there (perhaps another `make run`), and try again"
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: stop.set())
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="auto-deployer-")))
        if options.cluster:
            kubeconfig, look = Path(options.cluster).resolve(), None
        else:
            kubeconfig = folder / "kubeconfig"
            cluster = stack.enter_context(SimulatedCluster())
            # The admin's, so that kubectl can look around with it.
            cluster.write_kubeconfig(kubeconfig, admin=True)
            look = f"curl {cluster.url}/apis/apps/v1/namespaces/{NAMESPACE}/replicasets"
        if look is None or shutil.which("kubectl"):
            look = f"kubectl --kubeconfig {kubeconfig} -n {NAMESPACE} get deployments,replicasets"
        password = secrets.token_urlsafe(24)
        for name in ("passwords", "deployments"):
            (folder / name).mkdir()
        for path in MANIFESTS:
            (folder / "deployments" / path.name).symlink_to(path)
        (folder / "passwords" / "default").write_text(f"{password}\n")
        environ = {
            "KUBECONFIG": str(kubeconfig),
            "PASSWORDS_DIR": str(folder / "passwords"),
            "DEPLOYMENTS_DIR": str(folder / "deployments"),
        }
        service = stack.enter_context(Service(environ, PORT, echo=True))
        where = f"{'the cluster of ' + options.cluster if options.cluster else 'a simulated cluster'}"
        print(
            f"\nauto-deployer serves on {service.url}, in front of {where}. Ctrl-C ends it.\n"
            f"\nSignal (do it twice, for a second ReplicaSet):\n\n"
            f"""curl -d '{{"pw": "{password}"}}' {service.url}/deployment{only_name()}\n"""
            f"\nSee the Deployment:\n\n{look}\n",
            flush=True,
        )
        ended = threading.Thread(target=lambda: (service.process.wait(), stop.set()), daemon=True)
        ended.start()
        stop.wait()
        if service.process.poll() is not None:
            return f"the service has ended with {service.process.returncode}; its log tells why"
    return 0


def in_use() -> bool:
    """Return whether somebody else listens on the port."""
    with socket.socket() as probe:
        # As uWSGI does: connections of an earlier run that are still being closed are in nobody's way.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", PORT))
        except OSError:
            return True
    return False


def only_name() -> str:
    """Return what the signal's path must name: nothing where there is only one deployment."""
    names = sorted(path.stem for path in MANIFESTS)
    return f"/{names[0]}" if len(names) > 1 else ""


if __name__ == "__main__":
    sys.exit(main())
