"""What `tls.holder` costs: latency at 2,000 messages/s, CPU of owner and holder per message, memory; with and without, in turn.

python -m tests.bench.holder [--quick]
"""

from __future__ import annotations

import sys
import time
from typing import Any

from tests.bench.consumers import Task, await_ups, refuse_loss, supervisor
from tests.bench.generator import Generator
from tests.bench.load import STAMP
from tests.bench.table import Figure, Outcome, load_now, percentile, show
from tests.bench.usage import cpu_seconds, pss
from wsadapter import Message

_RATE = 2000
_WAYS = {"without": False, "with": True}


def measure(*, quick: bool = False) -> Outcome:
    """Both ways in turn, several rounds."""
    outcome = Outcome(load={"holder": load_now()})
    count, rounds = (3000, 2) if quick else (10_000, 5)
    found: dict[str, list[dict[str, float]]] = {way: [] for way in _WAYS}
    with Generator(tls=True) as generator:
        for _ in range(rounds):
            for way, holder in _WAYS.items():
                found[way].append(_run(generator, count, holder=holder))
    for way, runs in found.items():
        for what in runs[0]:
            outcome.figures[f"wss:// {way} tls.holder: {what}"] = Figure.of([run[what] for run in runs])
    return outcome


def _run(generator: Generator, count: int, *, holder: bool) -> dict[str, float]:
    ages: list[int] = []
    with supervisor(Task(generator.urls(1), generator.ca_file, count), holder=holder) as feed:
        await_ups(feed, 1)
        pids = _processes(feed)
        generator.pace(_RATE, count)
        before = cpu_seconds(pids)
        while len(ages) < count:
            item = feed.get(30)
            if isinstance(item, Message):
                ages.append(time.monotonic_ns() - int(item.data[:STAMP]))
            else:
                refuse_loss(item)
        used = cpu_seconds(pids) - before
        memory = sum(map(pss, pids))
        generator.paced()
    warm = [age / 1000 for age in ages[count // 10 :]]
    return {
        "latency p50, µs": percentile(warm, 0.5),
        "latency p99, µs": percentile(warm, 0.99),
        "CPU of owner and holder per message, µs": used / count * 1e6,
        "memory of owner and holder (PSS), MB": memory,
    }


def _processes(feed: Any) -> list[int]:
    endpoint = feed.status()["endpoints"]["e0"]
    return [pid for pid in (endpoint["pid"], endpoint["holder"]) if pid is not None]


if __name__ == "__main__":
    show(measure(quick="--quick" in sys.argv[1:]))
