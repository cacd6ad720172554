"""Measures the service under uWSGI against a cluster, simulated or real, and prints each figure beside its target."""
