"""Row 9: what an idle owner weighs among 50, wss://.

python -m tests.bench.memory [--quick]
"""

from __future__ import annotations

import sys

from tests.bench.endpoints import Cluster
from tests.bench.generator import Generator
from tests.bench.table import Figure, Outcome, Row, load_now, show, write
from tests.bench.usage import memory_of

_OWNERS = 50


def measure(*, quick: bool = False) -> Outcome:
    """The proportional share of each owner."""
    del quick
    outcome = Outcome(load={"memory": load_now()})
    with Generator(tls=True) as generator, Cluster(generator, _OWNERS) as cluster:
        owners = Figure.of(memory_of(pid).pss for pid in cluster.owners)
        outcome.figures["supervisor of 50, PSS, MB"] = Figure.of([memory_of(cluster.pid).pss])
    outcome.figures["idle owner, PSS, MB"] = owners
    outcome.rows.append(Row("9", "memory per idle owner (PSS), 50 owners, wss://", owners, "MB", 6, 4.5))
    return outcome


if __name__ == "__main__":
    found = measure(quick="--quick" in sys.argv[1:])
    show(found)
    write(found)
