"""Signals and trouble for ten minutes, on two replicas: at its end each rollout has one verdict, record and message."""
