"""Servers and proxies that others wrote: `python -m tests.bench.peers`."""
