"""`python -m tests.bench.chaos --any`: SIGKILL of any process of a runner with a keeper, and a model that knows every message.

Four exchanges send numbered messages. The runner writes a journal, which one consumer in a process of its own follows and two
sinks carry to a file and to a NATS server. One process after the other is killed: an owner, a TLS holder, the template that
owners are forked from, the supervisor, the consumer, a sink, the NATS server. The next one follows as soon as every endpoint is
ready again, after a random pause. What the consumer and the sinks wrote is compared with what the exchanges sent. A connection
of an owner that was not killed must not close. Replicas are the exception if the supervisor was killed: they are
started again.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

import psutil

from tests.bench.table import machine, percentile, print_columns
from tests.support.brokers import NatsServer
from tests.support.command_line import Running, environment
from wsadapter.contract.errors import ControlError
from wsadapter.control.server import ask
from wsadapter.testing import Exchange

NAME: Final = "any"
WEIGHTS: Final = {"owner": 20, "holder": 10, "template": 10, "supervisor": 22, "consumer": 22, "sink": 11, "nats": 5}
"""Of 100 kills."""
SINKS: Final = ("lines", "stream")
_PATIENCE: Final = 40.0
_PROGRAM: Final = (
    sys.executable,
    "-c",
    "import sys, wsadapter.cli.keeper as k; from wsadapter.supervise import main; k.MOST_DEATHS = 10**9; sys.exit(main())",
)
"""The runner, but the keeper does not give up: so many kills in a minute are its crash loop."""
_SETTINGS: Final = """
[supervisor]
name = "any"
[output]
kind = "none"
[journal]
path = "{folder}/journal"
keeper = true
[[sink]]
name = "lines"
kind = "jsonl"
path = "{folder}/sink.jsonl"
restart = {{ backoff_initial = 0.05, backoff_max = 0.2, intensity = 1000000 }}
[[sink]]
name = "stream"
kind = "nats"
servers = "{nats}"
stream = "any"
restart = {{ backoff_initial = 0.05, backoff_max = 0.2, intensity = 1000000 }}
[defaults]
identity = ["n"]
restart = {{ backoff_initial = 0.05, backoff_max = 0.2, intensity = 1000000 }}
timeouts = {{ close = 1 }}
"""


@dataclass
class Tally:
    """What kills of one kind did."""

    kills: int = 0
    lost: int = 0
    reported: int = 0
    """Of the lost: with a `Gap` or a `Dropped` in their place."""
    twice: int = 0
    disordered: int = 0
    closed: int = 0
    """Connections of owners that were not killed."""
    times: list[float] = field(default_factory=list)
    """ms from the kill to the first message that was sent after it."""
    lost_of: Counter[str] = field(default_factory=Counter)
    """By endpoint."""

    def add(self, other: Tally) -> None:
        """Count the other's losses here."""
        self.lost += other.lost
        self.reported += other.reported
        self.twice += other.twice
        self.disordered += other.disordered

    @property
    def is_clean(self) -> bool:
        """Whether all that must be 0 is."""
        return not (self.lost - self.reported or self.twice or self.disordered or self.closed)


class Reader:
    """What a reader got of one endpoint, against what was sent."""

    def __init__(self) -> None:
        self.tally = Tally()
        self.last = -1
        """Message."""
        self.count = 0
        self._number = 0
        self._numbers: set[int] = set()
        self._gap = False

    def take(self, line: dict[str, Any]) -> None:
        """A line of its file."""
        self._gap = self._gap or line.get("event") in ("gap", "dropped")
        if "number" not in line:
            return
        number, n = line["number"], line["data"]["n"]  # a number is used once in the life of a journal, whatever the run
        self.count += 1
        if number in self._numbers:
            self.tally.twice += 1
            return
        self._numbers.add(number)
        if number < self._number or n <= self.last:
            self.tally.disordered += 1
            return
        missing = n - self.last - 1 if self.last >= 0 else 0
        self.tally.lost += missing
        self.tally.reported += missing if self._gap else 0
        self._number, self.last, self._gap = number, n, False


class Lines:
    """The whole lines of a file that grows."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read = 0

    def __iter__(self) -> Iterator[dict[str, Any]]:
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(self._read)
            text = file.read()
        whole = text[: text.rfind(b"\n") + 1]
        self._read += len(whole)
        yield from map(json.loads, whole.splitlines())


class Lane:
    """One endpoint and its exchange."""

    def __init__(self, name: str, settings: str, rate: float, *, tls: bool) -> None:
        self.name = name
        self.settings = settings
        self.sent = -1
        """The last message."""
        self.reader = Reader()
        self.exchange = Exchange(messages=self._messages, rate=rate, resume="continue", tls=tls)

    def _messages(self) -> Iterator[str]:
        for n in itertools.count():
            self.sent = max(self.sent, n)
            yield f'{{"n":{n}}}'


class Chaos:
    """The runner, its consumer, its sinks and their server, and what is done to them."""

    def __init__(self, folder: Path, *, rate: float, seed: int, lanes: Collection[str]) -> None:
        self.results = {kind: Tally() for kind in WEIGHTS}
        self.dice = random.Random(seed)
        self._folder = folder
        self._stack = ExitStack()
        known = {"ws": ("", False), "wss": ("", True), "held": ("tls.holder = true", True), "replicas": ("replicas = 2", True)}
        self.lanes = [Lane(name, known[name][0], rate, tls=known[name][1]) for name in lanes]
        self._lines = Lines(folder / "consumer.jsonl")
        self._nats = NatsServer(folder / "nats")
        self._running: Running
        self._consumer: subprocess.Popen[bytes]

    def __enter__(self) -> Self:
        try:
            return self._start()
        except BaseException:
            self._stack.close()
            raise

    def _start(self) -> Self:
        self._stack.enter_context(self._nats)
        text = _SETTINGS.format(folder=self._folder, nats=self._nats.url)
        for lane in self.lanes:
            self._stack.enter_context(lane.exchange)
            trust = f'tls.ca_file = "{lane.exchange.ca_file}"' if lane.exchange.ca_file else ""
            text += f'[endpoints.{lane.name}]\nurl = "{lane.exchange.url}"\n{trust}\n{lane.settings}\n'
        config = self._folder / "any.toml"
        config.write_text(text)
        self._running = self._stack.enter_context(Running(self._folder, str(config), program=_PROGRAM))
        self._stack.callback(self._end_runner)
        self._await("the journal", lambda: list((self._folder / "journal").glob("segment-*.db")))
        self._start_consumer()
        self._stack.callback(self._end_consumer)
        self._await("the start", lambda: self._is_ready() and all(lane.reader.count for lane in self.lanes))
        return self

    def __exit__(self, *_error: object) -> None:
        self._stack.close()

    def _end_runner(self) -> None:
        """Asked to stop: a keeper that is killed leaves its supervisor, which goes on."""
        if self._running.process.poll() is None:
            self._running.stop()

    def _end_consumer(self) -> None:
        self._consumer.kill()
        self._consumer.wait()

    def _start_consumer(self) -> None:
        files = (str(self._folder / "journal"), str(self._folder / "consumer.jsonl"))
        command = (sys.executable, "-m", "tests.bench.chaos_consumer", *files)
        self._consumer = subprocess.Popen(command, env=environment(self._folder))

    # -- kills -----------------------------------------------------------------------------------------------------------

    def kinds(self) -> dict[str, int]:
        """What there is to kill, with the weights."""
        held = any(lane.name == "held" for lane in self.lanes)
        return {kind: weight for kind, weight in WEIGHTS.items() if kind != "holder" or held}

    def kill(self, kind: str) -> None:
        """One process, and all that follows from it. An owner instead of a template that was killed and is not needed yet."""
        self._pause(self.dice.uniform(0.0, 0.2))
        if kind == "template" and self._template() is None:
            kind = "owner"
        lane = self.dice.choice([lane for lane in self.lanes if kind != "holder" or lane.name == "held"])
        victim = self._victim(kind, lane)
        before = {each.name: set(each.exchange.open_ids) for each in self.lanes}
        tally = self.results[kind]
        tally.kills += 1
        sent = {each.name: each.sent for each in self.lanes}
        end = self._status()["journal"]["end"] if kind in ("sink", "nats") else 0
        began = time.monotonic()
        os.kill(victim, signal.SIGKILL)
        if kind == "nats":
            self._nats.kill()
            self._nats.start()
        if kind == "consumer":
            self._consumer.wait()
            self._start_consumer()
        hit = [lane] if kind in ("owner", "holder") else self.lanes
        if kind in ("sink", "nats"):
            self._await(f"{kind}: the next message of each sink", lambda: self._sinks_have(end))
        else:
            self._await(f"{kind} of {lane.name}: the next message", lambda: all(e.reader.last > sent[e.name] for e in hit))
        tally.times.append((time.monotonic() - began) * 1000)
        self._await(f"{kind} of {lane.name}: readiness", self._is_ready)
        self._await("more", lambda: all(each.reader.last > sent[each.name] for each in self.lanes))
        for each in self.lanes:
            exempt = (each is lane and kind in ("owner", "holder")) or (each.name == "replicas" and kind == "supervisor")
            if not exempt:
                tally.closed += len(before[each.name] - set(each.exchange.open_ids))
            tally.add(each.reader.tally)
            tally.lost_of[each.name] += each.reader.tally.lost
            each.reader.tally = Tally()

    def _victim(self, kind: str, lane: Lane) -> int:
        if kind == "nats":
            assert self._nats.process is not None
            return self._nats.process.pid
        if kind == "consumer":
            return self._consumer.pid
        if kind == "supervisor":
            return self._supervisor().pid
        if kind == "template":
            template = self._template()
            assert template is not None
            return template
        status = self._status()
        if kind == "sink":
            return int(status["sinks"][self.dice.choice(SINKS)]["pid"])
        found = status["endpoints"][lane.name]
        if kind == "holder":
            return int(found["holder"])
        return int(self.dice.choice(found["members"])["pid"] if "members" in found else found["pid"])

    def _supervisor(self) -> psutil.Process:
        (supervisor,) = psutil.Process(self._running.process.pid).children()
        return supervisor

    def _template(self) -> int | None:
        """None: it was killed, and the supervisor starts another one only when an owner is to be started."""
        for each in self._supervisor().children():
            with suppress(psutil.NoSuchProcess):  # a zombie, too
                if "forkserver" in " ".join(each.cmdline()):
                    return each.pid
        return None

    def _sinks_have(self, end: int) -> bool:
        """Whether each sink has come behind that place of the journal."""
        try:
            sinks = self._status()["sinks"]
        except ControlError:
            return False
        return all((sinks[name]["position"] or 0) > end for name in SINKS)

    # -- watching --------------------------------------------------------------------------------------------------------

    def _status(self) -> dict[str, Any]:
        runtime = str(self._folder / "wsadapter")
        found: dict[str, Any] = ask(NAME, {"command": "status"}, runtime_dir=runtime, timeout=_PATIENCE)["status"]
        return found

    def _is_ready(self) -> bool:
        """Everything is up, in custody, with a spare: a kill now is a single fault."""
        try:
            status = self._status()
        except ControlError:
            return False
        return bool(status["spares"]) and all(status["sinks"][name]["pid"] for name in SINKS) and all(
            self._lane_is_ready(status["endpoints"].get(lane.name), lane) for lane in self.lanes
        )  # fmt: skip

    @staticmethod
    def _lane_is_ready(status: dict[str, Any] | None, lane: Lane) -> bool:
        if status is None or status["state"] != "up" or status["successor"]:
            return False
        if "members" in status:
            return all(member["state"] == "up" and member["aligned"] for member in status["members"])
        return bool(status["in_custody"]) or lane.name == "wss"

    def _pause(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        self._await("the pause", lambda: time.monotonic() > until)

    def _await(self, what: str, done: Callable[[], object]) -> None:
        deadline = time.monotonic() + _PATIENCE
        readers = {lane.name: lane.reader for lane in self.lanes}
        while True:
            for line in self._lines:
                if line.get("endpoint") in readers:
                    readers[line["endpoint"]].take(line)
            if done():
                return
            if time.monotonic() > deadline:
                log = "\n".join(self._running.log[-25:])
                raise RuntimeError(f"{what} did not come within {_PATIENCE:g} s; the last of the log:\n{log}")
            time.sleep(0.01)

    def judge_sinks(self) -> dict[str, Tally]:
        """What each sink wrote, as a whole, with the runner still running."""
        sent = {lane.name: lane.sent for lane in self.lanes}
        self._await("the last messages", lambda: all(lane.reader.last >= sent[lane.name] for lane in self.lanes))
        end = self._status()["journal"]["end"] - 1
        self._await("the sinks' last message", lambda: self._sinks_have(end))
        stream = self._nats.lines("any")
        return {
            "the sink's file": self._judge(Lines(self._folder / "sink.jsonl"), sent),
            "the sink's stream": self._judge((line for name in sent for line in stream[f"any.{name}"]), sent),
        }

    def _judge(self, lines: Iterable[dict[str, Any]], sent: dict[str, int]) -> Tally:
        readers = {lane.name: Reader() for lane in self.lanes}
        for line in lines:
            if line.get("endpoint") in readers:
                readers[line["endpoint"]].take(line)
        total = Tally()
        for name, reader in readers.items():
            reader.tally.lost += max(0, sent[name] - reader.last)
            total.add(reader.tally)
        return total


ALL_LANES: Final = ("ws", "wss", "held", "replicas")


def run(
    folder: Path, *, seed: int, kills: int = 0, seconds: float = 3600.0, rate: float = 200.0,
    lanes: Collection[str] = ALL_LANES, kinds: Collection[str] = (),
) -> tuple[dict[str, Tally], dict[str, Tally]]:  # fmt: skip
    """So many kills at random, or for so long, whichever is over first; or one of each of `kinds`. Returns the tally of each
    kind for the consumer, and those of what the sinks wrote."""
    until = time.monotonic() + seconds
    with Chaos(folder, rate=rate, seed=seed, lanes=lanes) as chaos:
        possible = chaos.kinds()
        drawn = kinds or chaos.dice.choices(list(possible), list(possible.values()), k=kills)
        try:
            for count, kind in enumerate(drawn):
                if time.monotonic() > until:
                    break
                print(f"{count + 1}: {kind}", file=sys.stderr, flush=True)
                chaos.kill(kind)
            return dict(chaos.results), chaos.judge_sinks()
        except BaseException:
            show(chaos.results, {})
            raise


def show(results: dict[str, Tally], sinks: dict[str, Tally]) -> None:
    """As a table."""
    print(f"{machine()}\n")
    head = ("killed", "kills", "lost", "reported", "twice", "out of order", "closed", "next message p50, p99, ms", "lost of")
    rows: list[tuple[str, ...]] = [head]
    for kind, tally in results.items():
        times = f"{percentile(tally.times, 0.5):.0f}, {percentile(tally.times, 0.99):.0f}" if tally.times else ""
        lost_of = ", ".join(f"{name} {lost}" for name, lost in tally.lost_of.items() if lost)
        rows.append((kind, *_counts(tally), str(tally.closed), times, lost_of))
    rows += [(f"({name})", *_counts(tally), "", "", "") for name, tally in sinks.items()]
    print_columns(rows)


def _counts(tally: Tally) -> tuple[str, ...]:
    return tuple(str(each) for each in (tally.kills, tally.lost, tally.reported, tally.twice, tally.disordered))
