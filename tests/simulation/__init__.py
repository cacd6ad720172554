"""A Kubernetes cluster to test against: its API on loopback, its controllers, and one node."""

from .errors import ApiError
from .server import SimulatedCluster

__all__ = ["ApiError", "SimulatedCluster"]
