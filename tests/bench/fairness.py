"""Row 14: does an endpoint at 100 messages a second suffer from another that floods?

python -m tests.bench.fairness [--quick]
"""

from __future__ import annotations

import json
import os
import sys

from tests.bench.generator import Generator, Speaker
from tests.bench.table import Figure, Outcome, Row, load_now, show, write

_RATE = 100
_MANY_CORES = 6


def measure(*, quick: bool = False) -> Outcome:
    """The quiet endpoint alone, and beside the flood, in turn."""
    outcome = Outcome(load={"fairness": load_now()})
    alone, beside = [], []
    with Generator(tls=False) as quiet, Generator(tls=False) as loud:
        for _ in range(2 if quick else 4):
            alone.append(_run(quiet, None, 300 if quick else 800))
            beside.append(_run(quiet, loud, 300 if quick else 800))
            print(alone[-1], beside[-1], file=sys.stderr)
    for name, found in (("alone", alone), ("beside a flood", beside)):
        for key in ("p50", "p99"):
            outcome.figures[f"quiet endpoint {name}, latency {key}, µs"] = Figure.of(said[key] for said in found)
        outcome.figures[f"quiet endpoint {name}: load reached, messages/s"] = Figure.of(said["reached"] for said in found)
    ratio = Figure.ratio([said["p99"] for said in beside], [said["p99"] for said in alone])
    must = 3.0 if len(os.sched_getaffinity(0)) >= _MANY_CORES else 4.0
    outcome.rows.append(Row("14", "quiet endpoint's p99 beside a flood, over its p99 alone", ratio, "×", must, 2.0))
    return outcome


def _run(quiet: Generator, loud: Generator | None, count: int) -> dict[str, float]:
    urls = quiet.urls(1) + (loud.urls(1) if loud else [])
    with Speaker("tests.bench.watchers", "wsadapter", json.dumps({"urls": urls, "ca_file": "", "count": count})) as contestant:
        contestant.hear()
        if loud:
            loud.flood()
        quiet.pace(_RATE, count)
        reached = quiet.paced()
        said = contestant.hear()
        if loud:
            loud.calm()
        return {**said, "reached": reached.rate}


if __name__ == "__main__":
    found = measure(quick="--quick" in sys.argv[1:])
    show(found)
    write(found)
