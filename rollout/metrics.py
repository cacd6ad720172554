"""Counts, for Prometheus."""

from functools import partial

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    disable_created_metrics,
    generate_latest,
)

from rollout.model import Rollout
from version import KUBERNETES_CLIENT, PYTHON, VERSION


class Metrics:
    """Hold the counters of one process; `deployment` is always the name of a configured one."""

    def __init__(self) -> None:
        disable_created_metrics()  # They would double the series, only to say when each began.
        self._registry = CollectorRegistry()
        counter, of = partial(Counter, registry=self._registry), ["deployment"]
        signals = "Signals by deployment and status of the answer"
        self.signals = counter("auto_deployer_signals", signals, [*of, "status"])
        self.rollouts = counter("auto_deployer_rollouts", "Rollouts that have ended, by phase", [*of, "phase"])
        self.rollbacks = counter("auto_deployer_rollbacks", "Rollbacks, both automatic and requested", of)
        duration, seconds = "Time from the signal to the verdict", (5, 10, 15, 20, 30, 45, 60, 120, 300, 600, 1200)
        name = "auto_deployer_rollout_duration_seconds"
        self.durations = Histogram(name, duration, of, buckets=seconds, registry=self._registry)
        followed = "Rollouts being followed at the moment"
        build = Info("auto_deployer_build", "Which version runs, and on what", registry=self._registry)
        build.info({"version": VERSION, "python": PYTHON, "kubernetes_client": KUBERNETES_CLIENT})
        self.followed = Gauge("auto_deployer_rollouts_followed", followed, registry=self._registry)

    def count(self, deployment: str, rollout: Rollout) -> None:
        """Count a rollout that has ended."""
        self.rollouts.labels(deployment, rollout.phase.value).inc()
        self.durations.labels(deployment).observe((rollout.finished_at - rollout.started_at).total_seconds())

    def text(self) -> bytes:
        """Return all of it in Prometheus' text format."""
        return generate_latest(self._registry)
