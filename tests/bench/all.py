"""All rows in one table.

    python -m tests.bench.all [--quick]
"""

from __future__ import annotations

import sys

from tests.bench import fairness, kill, latency, memory, scale, startup, throughput
from tests.bench.table import Outcome, show, write

_BENCHMARKS = (throughput, latency, kill, memory, scale, startup, fairness)


def measure(*, quick: bool = False) -> Outcome:
    """One benchmark after the other."""
    whole = Outcome()
    for benchmark in _BENCHMARKS:
        print(f"-- {benchmark.__name__}", file=sys.stderr)
        found = benchmark.measure(quick=quick)
        whole.rows += found.rows
        whole.figures |= found.figures
        whole.load |= found.load
    return whole


if __name__ == "__main__":
    outcome = measure(quick="--quick" in sys.argv[1:])
    show(outcome)
    write(outcome)
