"""Rows 5 and 6: how old a message is when the consumer has it, at 2,000 a second on one connection, ws://.

python -m tests.bench.latency [--quick]
"""

from __future__ import annotations

import json
import sys

from tests.bench.generator import Generator, Speaker
from tests.bench.table import Figure, Outcome, Row, load_now, show, write

_RATE = 2000
_CONTESTANTS = ("relay", "floor", "wsadapter", "websockets", "picows")


def measure(*, quick: bool = False) -> Outcome:
    """All contestants in turn, several rounds."""
    outcome = Outcome(load={"latency": load_now()})
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in _CONTESTANTS}
    with Generator(tls=False) as generator:
        for _ in range(2 if quick else 5):
            for name in _CONTESTANTS:
                runs[name].append(run(generator, name, 3000 if quick else 5000))
                print(name, runs[name][-1], file=sys.stderr)
    p50 = {name: [found["p50"] for found in said] for name, said in runs.items()}
    p99 = {name: [found["p99"] for found in said] for name, said in runs.items()}
    for name in _CONTESTANTS:
        outcome.figures[f"ws:// {name}, latency p50, µs"] = Figure.of(p50[name])
        outcome.figures[f"ws:// {name}, latency p99, µs"] = Figure.of(p99[name])
    reached = [found["reached"] for said in runs.values() for found in said]
    outcome.figures["ws:// latency: load reached, messages/s"] = Figure.of(reached)
    mine, bare, peer = "wsadapter", "relay", "websockets"
    outcome.rows += [
        Row("5a", "latency p50, 2,000/s, ws://, over a bare relay's", Figure.ratio(p50[mine], p50[bare]), "×", 1.6, 1.3),
        Row("5b", "the same, over websockets'", Figure.ratio(p50[mine], p50[peer]), "×", 0.85, 0.85),
        Row("6", "latency p99, over a bare relay's", Figure.ratio(p99[mine], p99[bare]), "×", 2.0, 1.3),
    ]
    return outcome


def run(generator: Generator, name: str, count: int) -> dict[str, float]:
    """One contestant: its percentiles in µs, and the rate that was reached."""
    task = {"urls": generator.urls(1), "ca_file": "", "count": count}
    with Speaker("tests.bench.watchers", name, json.dumps(task)) as contestant:
        contestant.hear()
        generator.pace(_RATE, count)
        reached = generator.paced()
        return {**contestant.hear(), "reached": reached.rate}


if __name__ == "__main__":
    found = measure(quick="--quick" in sys.argv[1:])
    show(found)
    write(found)
