"""Rows 25 and 26: many connections with little on each, ws:// and wss://, as most feeds are.

    python -m tests.bench.quiet [--quick]

Every message is sent on its own, to one connection after the other, and stamped. CPU is that of all processes of a contestant;
an age is from the moment before the message was given to the kernel to the moment when the consumer has it as `bytes`.
"""

from __future__ import annotations

import json
import sys

from tests.bench.generator import Generator, Speaker
from tests.bench.table import Figure, Outcome, Row, load_now, show, write
from tests.bench.usage import cpu_seconds, tree_of

_LOADS = ((200, 50), (50, 100))
"""Connections, and messages a second on each."""
_SECONDS = 4
_CONTESTANTS = ("wsadapter", "picows", "websockets")


def measure(*, quick: bool = False) -> Outcome:
    """All contestants in turn, several rounds."""
    outcome = Outcome(load={"quiet": load_now()})
    for tls in (True, False):
        for connections, rate in _LOADS:
            _measure(outcome, connections, rate, tls=tls, rounds=1 if quick else 3)
    return outcome


def _measure(outcome: Outcome, connections: int, rate: int, *, tls: bool, rounds: int) -> None:
    load = f"{'wss' if tls else 'ws'}://, {connections} × {rate}/s"
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in _CONTESTANTS}
    with Generator(tls=tls) as generator:
        for _ in range(rounds):
            for name in _CONTESTANTS:
                runs[name].append(run(generator, name, connections, rate))
                print(load, name, runs[name][-1], file=sys.stderr)
    found = {name: {key: [each[key] for each in said] for key in said[0]} for name, said in runs.items()}
    for name, values in found.items():
        outcome.figures[f"{load}: {name}, CPU of all processes per message, µs"] = Figure.of(values["cpu"])
        outcome.figures[f"{load}: {name}, p50, µs"] = Figure.of(values["p50"])
        outcome.figures[f"{load}: {name}, p99, µs"] = Figure.of(values["p99"])
        outcome.figures[f"{load}: {name}, load reached, messages/s"] = Figure.of(values["reached"])
    mine, peer = found["wsadapter"], found["picows"]
    row = ("a" if tls else "b") + ("" if connections == _LOADS[0][0] else "'")
    outcome.rows += [
        Row(f"25{row}", f"CPU of all processes per message, {load}, over picows'", Figure.ratio(mine["cpu"], peer["cpu"]),
            "×", 6, 3),
        Row(f"26{row}", f"p99, {load}, over picows'", Figure.ratio(mine["p99"], peer["p99"]), "×", 3, 1.5),
    ]  # fmt: skip


def run(generator: Generator, name: str, connections: int, rate: int) -> dict[str, float]:
    """One contestant: µs of CPU per message, percentiles in µs, and the rate that was reached."""
    count = connections * rate * _SECONDS
    task = {"urls": generator.urls(connections), "ca_file": generator.ca_file, "count": count, "watched": connections}
    with Speaker("tests.bench.watchers", name, json.dumps(task)) as contestant:
        contestant.hear()
        processes = tree_of(contestant.process.pid)
        used = cpu_seconds(processes)
        generator.pace(connections * rate, count)
        reached = generator.paced()
        said = contestant.hear()
        used = cpu_seconds(processes) - used
    return {**said, "cpu": used / count * 1e6, "reached": reached.rate}


if __name__ == "__main__":
    found = measure(quick="--quick" in sys.argv[1:])
    show(found)
    write(found)
