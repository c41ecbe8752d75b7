"""All rows in one table.

    python -m tests.bench.all [--quick] [NAME ...]

Names: throughput, latency, kill, memory, scale, startup, fairness, quiet; none means all.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Collection

from tests.bench import fairness, kill, latency, memory, quiet, scale, startup, throughput
from tests.bench.table import Outcome, show, write

_BENCHMARKS = (throughput, latency, kill, memory, scale, startup, fairness, quiet)


def measure(names: Collection[str] = (), *, quick: bool = False) -> Outcome:
    """One benchmark after the other; `names` choose some."""
    whole = Outcome()
    for benchmark in _BENCHMARKS:
        name = benchmark.__name__.rpartition(".")[2]
        if names and name not in names:
            continue
        begun = time.monotonic()
        found = benchmark.measure(quick=quick)
        print(f"-- {name}: {time.monotonic() - begun:.0f} s", file=sys.stderr)
        whole.rows += found.rows
        whole.figures |= found.figures
        whole.load |= found.load
    return whole


if __name__ == "__main__":
    arguments = sys.argv[1:]
    outcome = measure([argument for argument in arguments if argument != "--quick"], quick="--quick" in arguments)
    show(outcome)
    write(outcome)
