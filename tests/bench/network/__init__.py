"""Faults of the network: `python -m tests.bench.network`."""
