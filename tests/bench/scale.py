"""Rows 10-12: what many endpoints cost. 200 on loopback, wss://, against one server process.

    python -m tests.bench.scale [--quick]

The connect budget is lifted: it is by default for loopback addresses. 20,000 messages a second that each wake up an owner are
more than two cores carry: the table says which load was reached, and what it cost generator, owners and supervisor.
"""

from __future__ import annotations

import sys
import time

from tests.bench.endpoints import Cluster
from tests.bench.generator import Generator
from tests.bench.table import Figure, Outcome, Row, load_now, show, write
from tests.bench.usage import cpu_seconds, tree_of

_ENDPOINTS = 200
_RATE = 20_000
_HEARTBEAT = 20
"""Seconds between an idle owner's pings: idling is watched for as long."""


def measure(*, quick: bool = False) -> Outcome:
    """One endpoint alone, and 200, in turn."""
    outcome = Outcome(load={"scale": load_now()})
    seconds = 2 if quick else 4
    runs: dict[str, list[float]] = {name: [] for name in _FIGURES}
    with Generator(tls=True) as generator:
        for _ in range(1 if quick else 3):
            with Cluster(generator, 1) as cluster:
                _cost(runs, "alone", generator, cluster, seconds, "/0")
            with Cluster(generator, _ENDPOINTS) as cluster:
                runs["start"].append(cluster.seconds)
                runs["idle"].append(_idle(cluster, _HEARTBEAT))
                _cost(runs, "beside idle", generator, cluster, seconds, "/0")
                _cost(runs, "spread", generator, cluster, seconds)
            print({name: values[-1] for name, values in runs.items()}, file=sys.stderr)
    for name, text in _FIGURES.items():
        outcome.figures[text] = Figure.of(runs[name])
    outcome.rows += [
        Row("10", "supervisor's CPU per message: 199 idle + 1, over 1 alone", Figure.ratio(runs["beside idle"], runs["alone"]),
            "×", 1.15, 1.02),
        Row("10b", "the same: 200 × 100/s, over 1 × 20,000/s", Figure.ratio(runs["spread"], runs["alone"]), "×", 4, 2),
        Row("11", "200 idle endpoints with heartbeats: the whole tree's CPU", Figure.of(runs["idle"]), "% of a core", 3, 1),
        Row("12", "200 endpoints, wss://, from start to all Up", Figure.of(runs["start"]), "s", 5, 1.5),
    ]  # fmt: skip
    return outcome


_FIGURES = {
    "alone": "supervisor's CPU per message, 1 × 20,000/s, µs",
    "beside idle": "the same, 199 idle beside it, µs",
    "spread": "the same, 200 × 100/s, µs",
    "alone, owners": "owners' CPU per message, 1 × 20,000/s, µs",
    "beside idle, owners": "owners' CPU per message, 199 idle beside it, µs",
    "spread, owners": "owners' CPU per message, 200 × 100/s, µs",
    "alone, reached": "load reached, 1 × 20,000/s, messages/s",
    "beside idle, reached": "load reached, 199 idle beside it, messages/s",
    "spread, reached": "load reached, 200 × 100/s, messages/s",
    "alone, generator": "load generator's CPU per message, 1 × 20,000/s, µs",
    "beside idle, generator": "load generator's CPU per message, 199 idle beside it, µs",
    "spread, generator": "load generator's CPU per message, 200 × 100/s, µs",
    "idle": "CPU of the tree of 200 idle endpoints, % of a core",
    "start": "200 endpoints from start to all Up, s",
}


def _cost(runs: dict[str, list[float]], name: str, generator: Generator, cluster: Cluster, seconds: float, *paths: str) -> None:
    """µs of the supervisor's CPU per message, under 20,000 a second in all, each sent on its own."""
    generator.drip(_RATE, int(_RATE * seconds), *paths)
    received, used, theirs = cluster.received(), cpu_seconds([cluster.pid]), cpu_seconds(cluster.owners)
    reached = generator.paced()
    used, theirs = cpu_seconds([cluster.pid]) - used, cpu_seconds(cluster.owners) - theirs
    received = cluster.received() - received
    runs[name].append(used / received * 1e6)
    runs[f"{name}, owners"].append(theirs / received * 1e6)
    runs[f"{name}, reached"].append(reached.rate)
    runs[f"{name}, generator"].append(reached.cpu)


def _idle(cluster: Cluster, seconds: float) -> float:
    """Percent of a core that supervisor, owners, spare and fork server use together."""
    tree = tree_of(cluster.pid)
    used, begun = cpu_seconds(tree), time.monotonic()
    time.sleep(seconds)
    return (cpu_seconds(tree) - used) / (time.monotonic() - begun) * 100


if __name__ == "__main__":
    found = measure(quick="--quick" in sys.argv[1:])
    show(found)
    write(found)
