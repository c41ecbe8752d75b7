"""Rows 1-4: how much comes through from 4 endpoints, and what it costs the process that consumes it.

python -m tests.bench.throughput [--quick]
"""

from __future__ import annotations

import json
import sys

from tests.bench.generator import Generator, Speaker
from tests.bench.table import Figure, Outcome, Row, load_now, show, write

_ENDPOINTS = 4
_MESSAGES = {"by hand": 15_000, "websockets": 30_000, "aiohttp": 80_000, "bare reader": 400_000}
"""Per endpoint and run; a slow contestant gets fewer, so that all take a second or two."""
_MESSAGES_USUALLY = 150_000
_ROUNDS = {"by hand": 3, "websockets": 3, "aiohttp": 3, "bare reader": 3}
"""Where the ratio is large, or none is made, fewer will do."""
_ROUNDS_USUALLY = 5
_CONTESTANTS = ("bare reader", "wsadapter", "picows", "wsadapter batches()", "aiohttp", "websockets", "by hand")


def measure(*, quick: bool = False) -> Outcome:
    """All contestants in turn, several rounds."""
    outcome = Outcome(load={"throughput": load_now()})
    for tls in (True, False):
        _measure(outcome, tls=tls, quick=quick)
    return outcome


def _measure(outcome: Outcome, *, tls: bool, quick: bool) -> None:
    scheme = "wss://" if tls else "ws://"
    runs: dict[str, list[tuple[float, float]]] = {name: [] for name in _CONTESTANTS}
    with Generator(tls=tls) as generator:
        for name in _turns(2 if quick else _ROUNDS_USUALLY):
            messages = _MESSAGES.get(name, _MESSAGES_USUALLY)
            runs[name].append(run(generator, name, messages // 4 if quick else messages))
            print(f"{scheme} {name}: {runs[name][-1][0]:,.0f}/s, {runs[name][-1][1]:.2f} us", file=sys.stderr)
    rate = {name: [r for r, _ in found] for name, found in runs.items()}
    cpu = {name: [c for _, c in found] for name, found in runs.items()}
    for name in _CONTESTANTS:
        outcome.figures[f"{scheme} {name}, messages/s"] = Figure.of(rate[name])
        outcome.figures[f"{scheme} {name}, µs CPU of the consumer per message"] = Figure.of(cpu[name])
    outcome.rows += _rows(rate, cpu, tls=tls)


def _turns(rounds: int) -> list[str]:
    """Who runs, in this order."""
    return [name for n in range(rounds) for name in _CONTESTANTS if n < _ROUNDS.get(name, rounds)]


def run(generator: Generator, name: str, count: int) -> tuple[float, float]:
    """One contestant, `count` messages per endpoint: messages per second, and µs of the consumer's CPU per message."""
    task = {"urls": generator.urls(_ENDPOINTS), "ca_file": generator.ca_file, "count": count * _ENDPOINTS}
    with Speaker("tests.bench.consumers", name, json.dumps(task)) as contestant:
        contestant.hear()
        generator.prepare(count)
        generator.go()
        said = contestant.hear()
    return said["rate"], said["cpu"]


def _rows(rate: dict[str, list[float]], cpu: dict[str, list[float]], *, tls: bool) -> list[Row]:
    number, load = ("1", "4 endpoints, wss://") if tls else ("2", "4 endpoints, ws://")
    hand, one, most = (10, 0.95, 1.2) if tls else (12, 0.9, 1.3)
    (spent, spend), (spent_by_batches, spend_by_batches) = ((0.4, 0.25), (0.25, 0.15)) if tls else ((0.8, 0.5), (0.4, 0.25))
    mine, peer, quick, slow = "wsadapter", "picows", "wsadapter batches()", "by hand"
    cost = str(int(number) + 2)
    return [
        Row(f"{number}a", f"throughput, {load}, over by-hand", Figure.ratio(rate[mine], rate[slow]), "×", hand, hand, True),
        Row(f"{number}b", f"throughput, {load}, over picows", Figure.ratio(rate[mine], rate[peer]), "×", one, most, True),
        Row(cost, f"consumer's CPU, {load}, over picows'", Figure.ratio(cpu[mine], cpu[peer]), "×", spent, spend),
        Row(
            f"{cost}b",
            f"the same by batches(), {load}",
            Figure.ratio(cpu[quick], cpu[peer]),
            "×",
            spent_by_batches,
            spend_by_batches,
        ),
    ]


if __name__ == "__main__":
    found = measure(quick="--quick" in sys.argv[1:])
    show(found)
    write(found)
