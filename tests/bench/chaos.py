"""The proof: faults at random over four kinds of endpoint, and a model that knows every message sent.

    python -m tests.bench.chaos [--faults 200] [--seconds 600] [--rate 500] [--seed 1] [--kinds kill,restart]
    python -m tests.bench.chaos --any [--kills 1000] [--seconds 600] [--rate 200] [--seed 1]      # see chaos_any.py

Four exchanges send numbered messages at a rate, to everybody alike; the command line's main job runs on them and writes to a
file. One fault after the other: what it did to its endpoint, and to the others, is read off the file before the next. A number
that is missing counts as lost, and must have a `gap` in its place; one that came before counts as doubled; one that comes late
as out of order. What is lost without a `gap` is silent, and there must be none of it.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

from tests.bench import chaos_any
from tests.bench.table import load_now, machine, percentile, print_columns
from tests.support.command_line import Running
from wsadapter.contract.errors import ControlError
from wsadapter.control.server import ask
from wsadapter.testing import Exchange

NAME: Final = "chaos"
_PATIENCE: Final = 40.0
"""Seconds for anything to come back; the backoff is a fraction of it."""
_AFTER: Final = 20
"""Messages that must have come of each endpoint behind a fault before it counts as over."""
_SETTINGS: Final = """
[defaults]
identity = ["n"]
restart = { backoff_initial = 0.05, backoff_max = 0.2, intensity = 1000000 }
watchdog = { progress = 1 }
timeouts = { close = 1 }
heartbeat = { kind = "ping", interval = 1, timeout = 1 }
"""


@dataclass
class Tally:
    """What faults of one kind did to one endpoint."""

    faults: int = 0
    lost: int = 0
    silent: int = 0
    """Of the lost: without a `gap` in their place."""
    doubled: int = 0
    disordered: int = 0
    gaps: int = 0
    times: list[float] = field(default_factory=list)
    """ms from the fault to the first message behind it; where its connection is not lost by it, the longest pause."""
    pause: float = 0.0
    """Longest so far, ms."""


class Model:
    """What one endpoint delivered, against what was sent to it."""

    def __init__(self) -> None:
        self.tally = Tally()
        """Of the fault that is under way."""
        self.received = self.downs = 0
        self.epoch_of_last = 0
        self._expected: int | None = None
        self._number = 0
        self._seen: set[int] = set()
        self._gap_told = False
        self._seen_at = 0.0

    def take(self, line: dict[str, Any]) -> None:
        """A line of the output."""
        self.downs += line.get("event") == "down"
        if line.get("event") == "gap":
            self.tally.gaps += 1
            self._gap_told = True
        if "number" not in line:
            return
        if line["number"] != self._number + 1:
            raise RuntimeError(f"number {line['number']} after {self._number}")
        self._number += 1
        now = time.monotonic()
        self.tally.pause = max(self.tally.pause, (now - (self._seen_at or now)) * 1000)
        self._seen_at = now
        self._message(line["data"]["n"])
        self.received += 1
        self.epoch_of_last = line["epoch"]

    def _message(self, n: int) -> None:
        if self._expected is None or n == self._expected:
            self._expected = n + 1
        elif n > self._expected:
            self.tally.lost += n - self._expected
            self.tally.silent += 0 if self._gap_told else n - self._expected
            self._expected = n + 1
        elif n in self._seen:
            self.tally.doubled += 1
        else:
            self.tally.disordered += 1
        self._seen.add(n)
        self._gap_told = False


@dataclass
class Lane:
    """One endpoint, its exchange and its model."""

    name: str
    exchange: Exchange
    settings: str
    model: Model = field(default_factory=Model)


class Chaos:
    """The main job on four endpoints, and what is done to it."""

    def __init__(self, folder: Path, *, rate: float, seed: int) -> None:
        self.dice = random.Random(seed)
        self.results: dict[tuple[str, str], Tally] = defaultdict(Tally)
        self._folder = folder
        self._file = folder / "out.jsonl"
        self._read = 0
        self._stack = ExitStack()
        numbered = lambda: (f'{{"n":{n}}}' for n in itertools.count())  # noqa: E731
        live: dict[str, Any] = {"messages": numbered, "rate": rate, "resume": "continue"}
        self.lanes = [
            Lane("ws", Exchange(**live), ""),
            Lane("wss", Exchange(tls=True, **live), ""),
            Lane("held", Exchange(tls=True, **live), "tls.holder = true"),
            Lane("replicas", Exchange(tls=True, **live), "replicas = 2"),
        ]
        self._kinds: dict[str, Callable[[Lane], object]] = {
            "kill": lambda lane: os.kill(self._victim(lane), signal.SIGKILL),
            "terminate": lambda lane: os.kill(self._victim(lane), signal.SIGTERM),
            "freeze": lambda lane: os.kill(self._victim(lane), signal.SIGSTOP),
            "restart": lambda lane: self._ask({"command": "restart", "endpoint": lane.name}),
            "reset": lambda lane: lane.exchange.reset(connection=self._connection(lane)),
            "drop": lambda lane: lane.exchange.drop(connection=self._connection(lane)),
            "close": lambda lane: lane.exchange.close(1001, connection=self._connection(lane)),
            "mute": lambda lane: lane.exchange.mute(connection=self._connection(lane)),
            "kill holder": lambda lane: os.kill(self._status(lane)["holder"], signal.SIGKILL),
            "takeover": self._take_over,
        }
        self._running: Running

    # -- life ------------------------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        for lane in self.lanes:
            self._stack.enter_context(lane.exchange)
        self._write_configuration()
        self._running = self._stack.enter_context(Running(self._folder, str(self._config)))
        self._await("the start", self._all_ready)
        return self

    def __exit__(self, *_error: object) -> None:
        self._running.stop()
        self._stack.close()

    @property
    def _config(self) -> Path:
        return self._folder / f"{NAME}.toml"

    def _write_configuration(self) -> None:
        tables = [f'[output]\npath = "{self._file}"', _SETTINGS]
        for lane in self.lanes:
            trust = f'tls.ca_file = "{lane.exchange.ca_file}"' if lane.exchange.ca_file else ""
            tables.append(f'[endpoints.{lane.name}]\nurl = "{lane.exchange.url}"\n{trust}\n{lane.settings}')
        self._config.write_text("\n".join(tables))

    # -- faults ----------------------------------------------------------------------------------------------------------

    def kinds_for(self, lane: Lane, wanted: set[str]) -> list[str]:
        """What can be done to it."""
        known = [kind for kind in self._kinds if kind != "kill holder" or lane.name == "held"]
        return [kind for kind in known if not wanted or kind in wanted]

    def inflict(self, lane: Lane, kind: str) -> None:
        """One fault, and all it leads to."""
        for each in self.lanes:
            each.model.tally = Tally()
        before, epoch, downs = lane.model.received, lane.model.epoch_of_last, lane.model.downs
        began = time.monotonic()
        self._kinds[kind](lane)
        self._await(f"{kind} of {lane.name}: the next message", lambda: self._is_behind(lane, kind, before, epoch, downs))
        recovered = (time.monotonic() - began) * 1000
        self._await(f"{kind} of {lane.name}: readiness", self._all_ready)
        marks = {each.name: each.model.received + _AFTER for each in self.lanes}
        self._await(f"{kind} of {lane.name}: more", lambda: all(e.model.received >= marks[e.name] for e in self.lanes))
        tally = lane.model.tally
        tally.faults = 1
        tally.times.append(tally.pause if kind == "takeover" or lane.name == "replicas" else recovered)
        for each in self.lanes:
            hit = each is lane or kind == "takeover"  # which concerns all
            self._add(self.results[each.name, kind if hit else "a fault elsewhere"], each.model.tally)

    @staticmethod
    def _add(total: Tally, one: Tally) -> None:
        for name in ("faults", "lost", "silent", "doubled", "disordered", "gaps"):
            setattr(total, name, getattr(total, name) + getattr(one, name))
        total.times += one.times

    def _is_behind(self, lane: Lane, kind: str, before: int, epoch: int, downs: int) -> bool:
        """Whether its stream has gone on behind the fault: with the next epoch, where the fault ends the one that delivers."""
        if kind == "takeover" or lane.name == "replicas":
            return lane.model.received > before and (kind == "takeover" or lane.model.downs > downs)
        return lane.model.epoch_of_last > epoch

    def _take_over(self, _lane: Lane) -> None:
        old = self._running
        self._running = self._stack.enter_context(Running(self._folder, str(self._config), "--takeover"))
        self._await("the takeover", lambda: any("took over from pid" in line for line in list(self._running.log)))
        self._await("the end of the old one", lambda: old.process.poll() is not None)
        if old.wait():
            raise RuntimeError(f"the supervisor that was taken over ended with {old.process.returncode}")

    def _victim(self, lane: Lane) -> int:
        status = self._status(lane)
        pid: int = self.dice.choice(status["members"])["pid"] if "members" in status else status["pid"]
        return pid

    def _connection(self, lane: Lane) -> int:
        return self.dice.choice(lane.exchange.open_ids)

    # -- watching --------------------------------------------------------------------------------------------------------

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        return ask(NAME, request, runtime_dir=str(self._folder / "wsadapter"), timeout=_PATIENCE)

    def _status(self, lane: Lane) -> dict[str, Any]:
        found: dict[str, Any] = self._ask({"command": "status"})["status"]["endpoints"][lane.name]
        return found

    def _all_ready(self) -> bool:
        """Whether every endpoint is as good as it gets: up, in custody, its members aligned, a spare at hand."""
        self._take_lines()
        try:
            status = self._ask({"command": "status"})["status"]
        except ControlError:  # it comes up, or changes hands
            return False
        return bool(status["spares"]) and all(self._is_ready(status["endpoints"].get(lane.name), lane) for lane in self.lanes)

    @staticmethod
    def _is_ready(status: dict[str, Any] | None, lane: Lane) -> bool:
        if status is None or status["state"] != "up" or status["successor"]:
            return False
        if "members" in status:
            return all(member["state"] == "up" and member["aligned"] for member in status["members"])
        return bool(status["in_custody"]) or lane.name == "wss"

    def _await(self, what: str, done: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _PATIENCE
        while True:
            self._take_lines()
            if done():
                return
            if time.monotonic() > deadline:
                log = "\n".join(self._running.log[-15:])
                raise RuntimeError(f"{what} did not come within {_PATIENCE:g} s; the last of the log:\n{log}")
            time.sleep(0.002)

    def _take_lines(self) -> None:
        models = {lane.name: lane.model for lane in self.lanes}
        for line in self._lines():
            if (model := models.get(line.get("endpoint", ""))) is not None:
                model.take(line)

    def _lines(self) -> Iterator[dict[str, Any]]:
        if not self._file.exists():
            return
        with self._file.open("rb") as file:
            file.seek(self._read)
            text = file.read()
        whole = text[: text.rfind(b"\n") + 1]
        self._read += len(whole)
        yield from map(json.loads, whole.splitlines())


def run(folder: Path, *, faults: int, seconds: float, rate: float, seed: int, kinds: set[str]) -> dict[tuple[str, str], Tally]:
    """So many faults, or for so long; whichever is over first."""
    until = time.monotonic() + seconds
    with Chaos(folder, rate=rate, seed=seed) as chaos:
        for count in range(faults):
            if time.monotonic() > until:
                break
            lane = chaos.lanes[count % len(chaos.lanes)]
            kind = chaos.dice.choice(chaos.kinds_for(lane, kinds))
            print(f"{count + 1}: {kind} of {lane.name}", file=sys.stderr, flush=True)
            chaos.inflict(lane, kind)
        return dict(chaos.results)


def show(results: dict[tuple[str, str], Tally]) -> None:
    """As a table."""
    print(f"{machine()}\n")
    head = ("endpoint", "fault", "count", "lost", "silent", "doubled", "out of order", "gaps", "recovery p50, p99, ms")
    rows: list[tuple[str, ...]] = [head]
    for (lane, kind), tally in sorted(results.items()):
        times = f"{percentile(tally.times, 0.5):.0f}, {percentile(tally.times, 0.99):.0f}" if tally.times else ""
        counts = (tally.faults, tally.lost, tally.silent, tally.doubled, tally.disordered, tally.gaps)
        rows.append((lane, kind, *(str(number) for number in counts), times))
    print_columns(rows)


def main() -> int:
    """The command line; 1 where anything was lost in silence, doubled or out of order."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.chaos")
    parser.add_argument("--faults", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=3600.0)
    parser.add_argument("--rate", type=float, default=None, help="messages per second of each exchange")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--kinds", default="", help="only these, with commas")
    parser.add_argument("--any", action="store_true", help="kill any process of a runner with a keeper")
    parser.add_argument("--kills", type=int, default=1000, help="with --any")
    asked = parser.parse_args()
    print(f"seed {asked.seed}, load {load_now():.2f}", file=sys.stderr)
    if asked.any:
        return _kill_any(asked)
    kinds = {kind for kind in asked.kinds.split(",") if kind}
    with tempfile.TemporaryDirectory() as folder:
        results = run(
            Path(folder), faults=asked.faults, seconds=asked.seconds, rate=asked.rate or 500.0, seed=asked.seed, kinds=kinds
        )
    show(results)
    return int(any(tally.silent or tally.doubled or tally.disordered for tally in results.values()))


def _kill_any(asked: argparse.Namespace) -> int:
    with tempfile.TemporaryDirectory() as folder:
        results, sinks = chaos_any.run(
            Path(folder), kills=asked.kills, seconds=asked.seconds, rate=asked.rate or 200.0, seed=asked.seed
        )
    chaos_any.show(results, sinks)
    return int(not all(tally.is_clean for tally in (*results.values(), *sinks.values())))


if __name__ == "__main__":
    sys.exit(main())
