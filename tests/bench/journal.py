"""Rows 16-19: what the journal costs, and how fast it is read.

    python -m tests.bench.journal [--quick] [16 17 18 19]

Each contestant is a process of its own, as in the other benchmarks. The CPU of row 16 is that of the whole supervisor process,
until everything that was received is committed.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic_ns
from typing import Any

from tests.bench.consumers import Meter, await_ups, refuse_loss, say
from tests.bench.generator import SIZE, Generator, Speaker
from tests.bench.table import Figure, Outcome, Row, load_now, show, write
from tests.bench.usage import cpu_seconds
from tests.bench.watchers import Watch
from tests.support.journals import add, batch, started, up, writing

_FLOOD = 150_000
"""Messages of each of four endpoints."""
_RATE = 2_000
_DRIP = 20_000
_ROWS_OF = (1, 20, 100)


def measure(*, quick: bool = False, rows: tuple[str, ...] = ("16", "17", "18", "19")) -> Outcome:
    """The rows that were asked for."""
    outcome = Outcome(load={"journal": load_now()})
    rounds = 2 if quick else 5
    for row, benchmark in {"16": _cost, "17": _latency, "18": _consumers, "19": _replay}.items():
        if row in rows:
            benchmark(outcome, rounds)
    return outcome


# -- row 16 ----------------------------------------------------------------------------------------------------------------


def _cost(outcome: Outcome, rounds: int) -> None:
    for tls in (True, False):
        scheme = "wss://" if tls else "ws://"
        found: dict[str, list[dict[str, float]]] = {"off": [], "on": []}
        with Generator(tls=tls) as generator:
            for _ in range(rounds):
                for name, said in found.items():
                    with _speaker("flood", generator, 4, _FLOOD * 4, journal=name == "on") as contestant:
                        contestant.hear()
                        generator.prepare(_FLOOD)
                        generator.go()
                        said.append(contestant.hear())
                    print(f"{scheme} journal {name}: {said[-1]}", file=sys.stderr)
        _compare(outcome, f"flood, {scheme}", found, "rate")
    _paced_cost(outcome, rounds)


def _compare(outcome: Outcome, load: str, found: dict[str, list[dict[str, float]]], rate: str) -> None:
    values = {name: {key: [each[key] for each in said] for key in said[0]} for name, said in found.items()}
    for name, each in values.items():
        for key, unit in (("rate", "messages/s"), ("cpu", "µs CPU of the supervisor per message"), ("kept", "share journaled")):
            outcome.figures[f"{load}: journal {name}, {unit}"] = Figure.of(each[key])
    on, off = values["on"], values["off"]
    if rate:
        row = "16a" if "wss" in load else "16a'"
        outcome.rows.append(
            Row(
                row,
                f"throughput with the journal over without, {load}",
                Figure.ratio(on[rate], off[rate]),
                "×",
                0.6,
                0.85,
                True,
            )
        )
    row = {"flood, wss://": "16b", "flood, ws://": "16b'"}.get(load, "16c")
    outcome.rows.append(
        Row(row, f"CPU of the supervisor per message, the same, {load}", Figure.ratio(on["cpu"], off["cpu"]), "×", 2.5, 1.6)
    )


def _paced_cost(outcome: Outcome, rounds: int) -> None:
    found: dict[str, list[dict[str, float]]] = {"off": [], "on": []}
    count = _DRIP * 4
    with Generator(tls=False) as generator:
        for _ in range(rounds):
            for name, said in found.items():
                with _speaker("flood", generator, 4, count, journal=name == "on") as contestant:
                    contestant.hear()
                    generator.drip(_DRIP, count)
                    generator.paced()
                    said.append(contestant.hear())
                print(f"{_DRIP}/s, journal {name}: {said[-1]}", file=sys.stderr)
    _compare(outcome, f"{_DRIP:,}/s, ws://", found, "")


def flood(task: dict[str, Any]) -> None:
    """A supervisor that is iterated, with a journal or without."""
    from wsadapter import Endpoint, Journal, Message, Supervisor

    tls = {"ca_file": task["ca_file"]} if task["ca_file"] else {}
    endpoints = [Endpoint(f"e{n}", url=url, tls=tls) for n, url in enumerate(task["urls"])]
    journal = Journal(task["journal"]) if task["journal"] else None
    with Supervisor(endpoints, journal=journal) as feed:
        await_ups(feed, len(endpoints))
        say(ready=True)
        meter, count = Meter(task["count"]), 0
        mark = meter.mark
        began = 0.0
        for item in feed:
            if isinstance(item, Message):
                count += 1
                if count == mark:
                    began = began or time.process_time()
                    if (mark := meter.reach(count)) < 0:
                        break
            else:
                refuse_loss(item)
        kept = 1.0
        if journal is not None:
            while (status := feed.status()["journal"])["waiting"] or status["lag"]:  # type: ignore[typeddict-item]
                time.sleep(0.05)
            kept = 1.0 - status["dropped"] / count
        cpu = (time.process_time() - began) / (count * 0.9) * 1e6
        say(rate=meter.rate, cpu=cpu, kept=kept)


# -- row 17 ----------------------------------------------------------------------------------------------------------------


def _latency(outcome: Outcome, rounds: int) -> None:
    found: dict[str, list[dict[str, float]]] = {"direct": [], "attached": []}
    with Generator(tls=False) as generator:
        for _ in range(rounds):
            for name, said in found.items():
                with _speaker(name, generator, 1, 5_000, journal=name == "attached") as contestant:
                    contestant.hear()
                    generator.pace(_RATE, 5_000)
                    generator.paced()
                    said.append(contestant.hear())
                print(name, said[-1], file=sys.stderr)
    for name, runs in found.items():
        for key in ("p50", "p99"):
            outcome.figures[f"{name} consumer, latency {key}, µs"] = Figure.of([each[key] for each in runs])
    ratio = Figure.ratio([each["p50"] for each in found["attached"]], [each["p50"] for each in found["direct"]])
    outcome.rows.append(Row("17", "attached consumer: p50 at 2,000/s over direct iteration", ratio, "×", 4, 2))


def direct(task: dict[str, Any]) -> None:
    """A consumer that iterates the supervisor."""
    from wsadapter import Endpoint, Supervisor

    with Supervisor([Endpoint("e0", url=task["urls"][0])]) as feed:
        await_ups(feed, 1)
        say(ready=True)
        _watch(feed, task["count"])


def attached(task: dict[str, Any]) -> None:
    """A consumer in a process of its own."""
    from wsadapter import attach

    with _host(task) as _, attach(task["journal"], "bench", start="latest") as feed:
        say(ready=True)
        _watch(feed, task["count"])


def _watch(feed: Any, count: int) -> None:
    from wsadapter import Message

    watch = Watch(count)
    for item in feed:
        if not isinstance(item, Message):
            refuse_loss(item)
        elif watch.take(item.data, monotonic_ns()):
            break
    watch.report()


# -- row 18 ----------------------------------------------------------------------------------------------------------------


def _consumers(outcome: Outcome, rounds: int) -> None:
    found: dict[int, list[float]] = {1: [], 10: []}
    with Generator(tls=False) as generator:
        for _ in range(rounds):
            for readers, said in found.items():
                said.append(_cpu_with(generator, readers))
                print(f"{readers} attached: {said[-1]:.2f} µs", file=sys.stderr)
    for readers, runs in found.items():
        outcome.figures[f"{readers} attached, µs CPU of the supervisor per message"] = Figure.of(runs)
    ratio = Figure.ratio(found[10], found[1])
    outcome.rows.append(Row("18", "ten attached consumers over one: CPU of the supervisor per message", ratio, "×", 1.1, 1.02))


def _cpu_with(generator: Generator, readers: int) -> float:
    """µs of the supervisor per message at 2,000/s, from the first tenth on."""
    count = 6_000
    with tempfile.TemporaryDirectory() as folder:
        task = {"urls": generator.urls(1), "journal": f"{folder}/j"}
        with _host(task) as host:
            attached = [Speaker("tests.bench.journal", "reader", json.dumps(task | {"name": f"c{n}"})) for n in range(readers)]
            try:
                for each in attached:
                    each.hear()
                generator.pace(_RATE, count)
                time.sleep(count / _RATE / 10)
                before, then = cpu_seconds([host.pid]), time.monotonic()
                generator.paced()
                used, took = cpu_seconds([host.pid]) - before, time.monotonic() - then
            finally:
                for each in attached:
                    each.process.kill()
                    each.__exit__(None, None, None)
    return used / (took * _RATE) * 1e6


def reader(task: dict[str, Any]) -> None:
    """A consumer that takes everything."""
    from wsadapter import attach

    with attach(task["journal"], task["name"], start="latest") as feed:
        say(ready=True)
        for _ in feed:
            pass


def host(task: dict[str, Any]) -> None:
    """A supervisor that nobody iterates; it ends with its standard input."""
    from wsadapter import Endpoint, Supervisor

    with Supervisor(
        [Endpoint("e0", url=task["urls"][0])], name=task["host"], journal=task["journal"], journal_only=True
    ) as feed:
        feed.monitor("e0").wait_up(60)
        say(ready=True)
        sys.stdin.read()


@contextmanager
def _host(task: dict[str, Any]) -> Iterator[subprocess.Popen[str]]:
    with Speaker("tests.bench.journal", "host", json.dumps(task | {"host": f"bench-{monotonic_ns()}"})) as speaker:
        speaker.hear()
        yield speaker.process


# -- row 19 ----------------------------------------------------------------------------------------------------------------


def _replay(outcome: Outcome, rounds: int) -> None:
    for rows_of in _ROWS_OF:
        count = 300_000 if rows_of == 1 else 1_000_000
        with tempfile.TemporaryDirectory() as folder:
            _fill(Path(folder) / "j", count, rows_of)
            runs = []
            for _ in range(rounds):
                with Speaker("tests.bench.journal", "replay", json.dumps({"journal": f"{folder}/j"})) as contestant:
                    runs.append(contestant.hear()["rate"])
                print(f"replay, rows of {rows_of}: {runs[-1]:,.0f}/s", file=sys.stderr)
        measure = f"replay of a journal in rows of {rows_of}, messages/s"
        row = "19" if rows_of == 20 else f"19, rows of {rows_of}"
        outcome.rows.append(Row(row, measure, Figure.of(runs), "/s", 800_000, 2_000_000, True))


def _fill(path: Path, count: int, rows_of: int) -> None:
    payload = b"x" * SIZE
    with writing(path, segment_bytes=1 << 28) as writer:
        add(writer, started(), up("a"))
        step = max(rows_of, 4000 // rows_of * rows_of)
        for first in range(1, count + 1, step):
            add(writer, *(batch("a", [payload] * rows_of, number) for number in range(first, first + step, rows_of)))


def replay(task: dict[str, Any]) -> None:
    """Every item of a journal."""
    from wsadapter import Journal, Message

    began, count = time.monotonic(), 0
    for item in Journal(task["journal"]):
        count += type(item) is Message
    say(rate=count / (time.monotonic() - began))


# -- processes -------------------------------------------------------------------------------------------------------------


@contextmanager
def _speaker(role: str, generator: Generator, endpoints: int, count: int, *, journal: bool) -> Iterator[Speaker]:
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/j" if journal else ""
        task = {"urls": generator.urls(endpoints), "ca_file": generator.ca_file, "count": count, "journal": path}
        with Speaker("tests.bench.journal", role, json.dumps(task)) as speaker:
            yield speaker


ROLES: dict[str, Callable[[dict[str, Any]], None]] = {
    "flood": flood, "direct": direct, "attached": attached, "reader": reader, "host": host, "replay": replay,
}  # fmt: skip


def main() -> None:
    """A role, or the benchmark."""
    words = sys.argv[1:]
    if words and words[0] in ROLES:
        ROLES[words[0]](json.loads(words[1]))
        return
    rows = tuple(word for word in words if word.isdecimal()) or ("16", "17", "18", "19")
    outcome = measure(quick="--quick" in words, rows=rows)
    show(outcome)
    write(outcome)


if __name__ == "__main__":
    main()
