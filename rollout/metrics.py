"""Counts, for Prometheus."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest

from rollout.model import Rollout


class Metrics:
    """Hold the counters of one process; `deployment` is always the name of a configured one."""

    def __init__(self) -> None:
        disable_created_metrics()  # A second series for each, with nothing but its birthday.
        self._registry = CollectorRegistry()
        self.signals = Counter(
            "auto_deployer_signals",
            "Signals by deployment and status of the answer",
            ["deployment", "status"],
            registry=self._registry,
        )
        self.rollouts = Counter(
            "auto_deployer_rollouts",
            "Rollouts that have ended, by deployment and phase",
            ["deployment", "phase"],
            registry=self._registry,
        )
        self.durations = Histogram(
            "auto_deployer_rollout_duration_seconds",
            "Time from the signal to the verdict",
            ["deployment"],
            buckets=(5, 10, 15, 20, 30, 45, 60, 120, 300, 600, 1200),
            registry=self._registry,
        )
        self.rollbacks = Counter(
            "auto_deployer_rollbacks", "Rollbacks, asked for or not", ["deployment"], registry=self._registry
        )
        self.followed = Gauge(
            "auto_deployer_rollouts_followed", "Rollouts being followed at the moment", registry=self._registry
        )

    def count(self, deployment: str, rollout: Rollout) -> None:
        """Count a rollout that has ended."""
        self.rollouts.labels(deployment, rollout.phase.value).inc()
        self.durations.labels(deployment).observe((rollout.finished_at - rollout.started_at).total_seconds())

    def text(self) -> bytes:
        """Return all of it in Prometheus' text format."""
        return generate_latest(self._registry)
