"""A Kubernetes cluster to test against: its API on loopback, its controllers, and one node."""

from .cluster import SimulatedCluster
from .refusals import ApiError

__all__ = ["ApiError", "SimulatedCluster"]
