"""The measures of `ops/docs/PERFORMANCE.md`, each a module to run: `python -m tests.bench.throughput`. No part of the suite."""
