"""Runs a simulated cluster until a signal ends it."""

import argparse
import signal
import threading

from . import SimulatedCluster


def main() -> None:
    """Serve, and print the URL on a line of its own."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=main.__doc__)
    parser.add_argument("--port", type=int, default=0, help="0: any free one")
    parser.add_argument("--kubeconfig", metavar="FILE", help="write a kubeconfig here")
    parser.add_argument("--speed", type=float, default=5, help="of the back-offs; 1: a real kubelet's")
    options = parser.parse_args()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with SimulatedCluster(port=options.port, speed=options.speed) as cluster:
        if options.kubeconfig:
            cluster.write_kubeconfig(options.kubeconfig)
        print(cluster.url, flush=True)
        stop.wait()


if __name__ == "__main__":
    main()
