"""Fixtures for a cluster that makes the service's calls fail."""

import pytest


@pytest.fixture
def faulty(cluster):
    """Make requests of the test's own namespace fail."""

    def fail(times=1000, method="", **how):
        return cluster.simulation.fail(times, method, f"/namespaces/{cluster.namespace}/deployments", **how)

    return fail
