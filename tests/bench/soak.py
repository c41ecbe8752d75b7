"""The soak: hours of mixed dialects and faults at random; every message is accounted for, memory and handles are recorded.

    python -m tests.bench.soak --hours 2 [--folder FOLDER] [--load 1.0] [--fault-every 4] [--seed 1]
    python -m tests.bench.soak --verdict FOLDER [--svg ops/soak.svg]      what a soak shows so far: verdict and picture

Ten exchanges (`wsadapter.testing`) send numbered messages at paces of real feeds, to the command line's main job. FOLDER gets
`samples.csv` (a row every 10 s), `faults.csv`, `runner.log` and at the end `result.json`. What counts as wrong is in
`tests.bench.accounts`; an endpoint from which nothing comes for a minute is stuck, which is wrong too.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Self

import orjson
import psutil

from tests.bench.accounts import KEY, Backlog, summed
from tests.bench.soak_picture import draw, judge, read_samples
from tests.bench.table import load_now, machine, percentile
from tests.bench.usage import Memory, cpu_seconds, memory_of
from tests.support.command_line import MODULE, environment
from wsadapter.cli.demo import FEEDS
from wsadapter.contract.errors import ControlError
from wsadapter.control.server import ask
from wsadapter.testing import Exchange
from wsadapter.testing.recording import load_recording

NAME: Final = "soak"
_SAMPLE_EVERY: Final = 10.0
_STUCK_AFTER: Final = 60.0
_PATIENCE: Final = 60.0
_BURST: Final = 1000
"""Messages at once, as in the worst 100 ms of a real feed."""
_LARGE_EVERY: Final = 20_000
_LARGE: Final = 1_000_000
_SETTINGS: Final = """
[defaults]
gap_check = false # the recordings start over, and the numbers in them; so does what identifies a message
identity = ["soak.0", "soak.1"]
restart = { backoff_initial = "50ms", backoff_max = "1s", intensity = 1000000 }
watchdog = { progress = "2s" }
timeouts = { close = "1s" }
heartbeat = { interval = "2s", timeout = "3s" }
"""
_STREAM_OF: Final[dict[str, Callable[[Any], Any]]] = {
    "binance": lambda message: message.get("stream"),
    "coinbase": lambda message: message.get("product_id") if message["type"] in ("snapshot", "l2update") else None,
    "bybit": lambda message: message.get("topic"),
    "okx": lambda message: (
        message["arg"]["instId"] if "data" in message and message["arg"]["channel"] == "books-l2-tbt" else None
    ),
    "htx": lambda message: message.get("ch"),
}


class Marks:
    """Marks for messages: the number in the series, and when the message is due."""

    def __init__(self) -> None:
        self.issued: Counter[str] = Counter()
        """How many messages of each series were made; the last may not have been sent."""

    def mark(self, series: str, due_ns: int) -> bytes:
        number = self.issued[series]
        self.issued[series] += 1
        return b'"%b":["%b",%d,%d]' % (KEY.encode(), series.encode(), number, due_ns)

    def paced(self, messages: Iterator[tuple[str, bytes]], rate: float) -> Iterator[bytes]:
        """Messages (series, JSON object) with their marks. An exchange asks for each before it is due, by the same clock."""
        began = time.time_ns()
        for number, (series, message) in enumerate(messages):
            mark = self.mark(series, began + int(number / rate * 1e9))
            yield b"{" + mark + (b"," if message != b"{}" else b"") + message[1:]


def plain(seed: int) -> Iterator[tuple[str, bytes]]:
    """Made-up messages, of the sizes of real ones: most of 200 bytes, a hundredth of 3 KB, now and then a book of 1 MB."""
    dice = random.Random(seed)
    pads = [b'{"pad":"%b"}' % (b"x" * size) for size in (100, 150, 150, 150, 200, 300)]
    long, large = b'{"pad":"%b"}' % (b"y" * 3000), b'{"pad":"%b"}' % (b"z" * _LARGE)
    for number in itertools.count(1):
        yield "plain", large if number % _LARGE_EVERY == 0 else long if dice.random() < 0.01 else dice.choice(pads)


def recorded(name: str) -> Iterator[tuple[str, bytes]]:
    """The messages of a recording that belong to a subscribed stream, again and again."""
    subscribed = str(FEEDS[name].subscribe)
    found: list[tuple[str, bytes]] = []
    for message in load_recording(FEEDS[name].recording):
        payload = gzip.decompress(message.payload) if message.binary else message.payload
        stream = _STREAM_OF[name](json.loads(payload))
        if stream is not None and f"'{stream}'" in subscribed:
            found.append((stream, payload.strip()))
    return itertools.cycle(found)


class Lane:
    """One endpoint with its exchange."""

    def __init__(
        self, name: str, rate: float, settings: str = "", *, feed: str = "", tls: bool = False, **exchange: Any
    ) -> None:
        """`feed`: one of `FEEDS`; empty: made-up messages."""
        self.name = name
        self.rate = rate
        self.marks = Marks()
        self.settings = settings
        self.variant = 0
        """Counts changes of its settings."""
        self.backlog = Backlog(name)
        self.stuck_since = 0.0
        """When the last message came before nothing came for too long."""
        self.dialect = FEEDS[feed].dialect if feed else ""
        self.feed = feed
        self.exchange = Exchange(
            messages=self._messages, rate=rate, resume="continue", tls=tls, dialect=self.dialect, **exchange
        )

    def _messages(self) -> Iterator[str | bytes]:
        source = recorded(self.feed) if self.feed else plain(len(self.name))
        for message in self.marks.paced(source, self.rate):
            yield gzip.compress(message, 1) if self.feed == "htx" else message.decode()

    def burst(self, count: int) -> None:
        """So many messages at once, of a series of their own."""
        for _ in range(count):
            self.exchange.send("{" + self.marks.mark("burst", time.time_ns()).decode() + "}")

    def table(self) -> str:
        """Its part of the configuration."""
        lines = [f"[endpoints.{self.name}]", f'url = "{self.exchange.url}"', self.settings]
        if self.exchange.ca_file:
            lines.append(f'tls.ca_file = "{self.exchange.ca_file}"')
        if self.feed:
            streams = ", ".join(_toml(stream) for stream in FEEDS[self.feed].subscribe)
            lines += [f'dialect = "{self.dialect}"', f"subscribe = [{streams}]"]
        if self.variant:
            lines.append(f"max_message = {16 * 1024 * 1024 + self.variant % 2}")
        return "\n".join(lines)


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items()) + "}"
    return json.dumps(value)


def lanes(load: float) -> list[Lane]:
    """The ten, and one that comes and goes. `load` multiplies all rates: 1.0 is 1,000 messages a second."""
    return [
        Lane("ws", 300 * load),
        Lane("wss", 150 * load, tls=True),
        Lane("held", 100 * load, "tls.holder = true", tls=True),
        Lane("replicas", 50 * load, "replicas = 2", tls=True),
        Lane("deflate", 50 * load, 'compression = "no_context_takeover"', deflate=True),
        Lane("binance", 100 * load, feed="binance"),
        Lane("coinbase", 50 * load, feed="coinbase", tls=True),
        Lane("bybit", 50 * load, "tls.holder = true", feed="bybit", tls=True),
        Lane("okx", 50 * load, feed="okx", tls=True),
        Lane("htx", 50 * load, feed="htx"),
        Lane("guest", 50 * load),
    ]


class Runner:
    """`python -m wsadapter.supervise`: its output goes into the accounts, its log into a file."""

    def __init__(self, folder: Path, config: Path, accounts: dict[str, Backlog], program: Sequence[str]) -> None:
        self._folder = folder
        self._accounts = accounts
        self.lock = threading.Lock()
        """Holds off the output while the accounts are looked at."""
        with (folder / "runner.log").open("wb") as log:
            self.process = subprocess.Popen(
                [*program, str(config)], env=environment(folder), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log
            )
        self._reader = threading.Thread(target=self._read, name="output", daemon=True)
        self._reader.start()
        self.fault: BaseException | None = None

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as output:
            for text in output:
                try:
                    line = orjson.loads(text)
                    backlog = self._accounts.get(line.get("endpoint", ""))
                    if backlog is not None:
                        with self.lock:
                            backlog.take(line, now=time.monotonic(), wall_ns=time.time_ns())
                except (ValueError, LookupError, TypeError) as error:  # raised by the main thread
                    self.fault = self.fault or RuntimeError(f"{type(error).__name__}: {error}: {text[:300]!r}")

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        return ask(NAME, request, runtime_dir=str(self._folder / "wsadapter"), timeout=10.0)

    def status(self) -> dict[str, Any]:
        """Empty where it does not answer in time."""
        try:
            found: dict[str, Any] = self.ask({"command": "status"})["status"]
        except ControlError:
            return {}
        return found

    def stop(self) -> int:
        """Its exit code; the output was read to the end."""
        self.process.terminate()
        code = self.process.wait(_PATIENCE)
        self._reader.join(_PATIENCE)
        return code


@dataclass
class Sample:
    """A row of `samples.csv`. Memory in MB, latencies in ms, since the row before."""

    seconds: float
    received: int
    covered: int
    silent: int
    doubled: int
    repeated: int
    misnumbered: int
    faults: int
    downs: int
    rss: float
    """Of the supervisor; so with the next five."""
    pss: float
    private: float
    fds: int
    threads: int
    cpu: float
    """Seconds since the start."""
    template_private: float
    """Of the fork server."""
    owners: int
    """Owners, spares and TLS holders."""
    owners_pss: float
    """Their sum; so with the next."""
    owners_private: float
    owners_fds: int
    """Most of any of them; so with the next."""
    owners_threads: int
    p50: float
    p99: float
    worst: float
    files: int
    """In the runtime folder."""
    load: float


_COLUMNS: Final = tuple(Sample.__dataclass_fields__)


@dataclass
class Chaos:
    """Faults at random."""

    dice: random.Random
    all_lanes: list[Lane]
    runner: Runner
    write_config: Callable[[], None]
    present: set[str]
    """The lanes that the configuration holds."""
    done: Counter[str] = field(default_factory=Counter)

    def inflict(self) -> tuple[str, str]:
        """One fault; gives its kind and its lane. What finds nothing to act on is left out."""
        lane = self.dice.choice([lane for lane in self.all_lanes if lane.name in self.present])
        kind = self.dice.choice(list(_FAULTS))
        with suppress(LookupError, ProcessLookupError, ControlError):
            _FAULTS[kind](self, lane)
            self.done[kind] += 1
            return kind, lane.name
        return f"{kind} (nothing there)", lane.name

    def connection(self, lane: Lane) -> int:
        return self.dice.choice(lane.exchange.open_ids)

    def signal(self, lane: Lane, number: int) -> None:
        status = self.runner.status()["endpoints"][lane.name]
        members = [member["pid"] for member in status.get("members", [])] or [status["pid"]]
        os.kill(self._living(self.dice.choice(members)), number)

    def kill_holder(self, lane: Lane) -> None:
        os.kill(self._living(self.runner.status()["endpoints"][lane.name]["holder"]), signal.SIGKILL)

    def kill_unassigned(self, _lane: Lane) -> None:
        """A spare, or the fork server."""
        status = self.runner.status()
        family = family_of(self.runner.process.pid, status)
        os.kill(self._living(self.dice.choice([*family.spares, family.template])), signal.SIGKILL)

    @staticmethod
    def _living(pid: int | None) -> int:
        if not pid:
            raise LookupError("no process")
        return pid

    def restart(self, lane: Lane) -> None:
        self.runner.ask({"command": "restart", "endpoint": lane.name})

    def reload(self, lane: Lane) -> None:
        lane.variant += 1
        self.change()

    def come_and_go(self, _lane: Lane) -> None:
        """The guest is added, or removed."""
        self.present ^= {"guest"}
        self.change()

    def change(self) -> None:
        self.write_config()
        os.kill(self.runner.process.pid, signal.SIGHUP)

    def refuse(self, lane: Lane) -> None:
        connection = self.connection(lane)
        lane.exchange.refuse(503, times=2)
        lane.exchange.drop(connection=connection)

    def half_open(self, lane: Lane) -> None:
        """The next handshakes get no answer, for a moment."""
        connection = self.connection(lane)
        lane.exchange.half_handshake()
        lane.exchange.drop(connection=connection)
        timer = threading.Timer(2.0, lane.exchange.half_handshake, (False,))
        timer.daemon = True
        timer.start()

    def violate(self, lane: Lane) -> None:
        lane.exchange.raw(b"\xff\xff\xff\xff", connection=self.connection(lane))


_FAULTS: Final[dict[str, Callable[[Chaos, Lane], object]]] = {
    "kill": lambda chaos, lane: chaos.signal(lane, signal.SIGKILL),
    "terminate": lambda chaos, lane: chaos.signal(lane, signal.SIGTERM),
    "freeze": lambda chaos, lane: chaos.signal(lane, signal.SIGSTOP),
    "restart": Chaos.restart,
    "drop": lambda chaos, lane: lane.exchange.drop(connection=chaos.connection(lane)),
    "reset": lambda chaos, lane: lane.exchange.reset(connection=chaos.connection(lane)),
    "close": lambda chaos, lane: lane.exchange.close(1012, "restart", connection=chaos.connection(lane)),
    "mute": lambda chaos, lane: lane.exchange.mute(connection=chaos.connection(lane)),
    "mute in a frame": lambda chaos, lane: lane.exchange.mute_mid_frame(connection=chaos.connection(lane)),
    "refuse": Chaos.refuse,
    "half a handshake": Chaos.half_open,
    "violate": Chaos.violate,
    "kill holder": Chaos.kill_holder,
    "kill spare or template": Chaos.kill_unassigned,
    "reload": Chaos.reload,
    "add or remove": Chaos.come_and_go,
    "burst": lambda _chaos, lane: lane.burst(_BURST) if not lane.feed else None,
}


@dataclass(frozen=True)
class Family:
    """The processes of a supervisor."""

    template: int | None
    """The fork server."""
    owners: list[int]
    """Of endpoints, and TLS holders."""
    spares: list[int]


def family_of(pid: int, status: dict[str, Any]) -> Family:
    """By what the status says, and /proc. Raises `psutil.Error` where the supervisor is gone."""
    children = {child.pid: child for child in psutil.Process(pid).children(recursive=True)}
    known: set[int] = set()
    for endpoint in status.get("endpoints", {}).values():
        members = endpoint.get("members", [])
        known |= {found for found in (endpoint["pid"], endpoint["holder"], *(m["pid"] for m in members)) if found}
    parents = Counter(child.ppid() for child in children.values() if child.is_running())
    template = next((parent for parent, _ in parents.most_common() if parent in children and parent not in known), None)
    rest = [child for child in children if child not in known and child != template]
    # Not only its children: the owners of a fork server that was killed live on.
    return Family(template, sorted(filter(psutil.pid_exists, known)), rest)


class Soak:
    """All of it."""

    def __init__(self, folder: Path, *, load: float, seed: int, program: Sequence[str] = MODULE) -> None:
        self._folder = folder
        self._lanes = lanes(load)
        self._stack = ExitStack()
        self._config = folder / f"{NAME}.toml"
        self._present = {lane.name for lane in self._lanes}
        self._noted: set[str] = set()
        self._dice = random.Random(seed)
        self._program = program
        self._wrong: list[str] = []
        self._began = time.monotonic()
        self._runner: Runner
        self._chaos: Chaos

    def __enter__(self) -> Self:
        for lane in self._lanes:
            self._stack.enter_context(lane.exchange)
        self._write_config()
        accounts = {lane.name: lane.backlog for lane in self._lanes}
        self._runner = Runner(self._folder, self._config, accounts, self._program)
        self._chaos = Chaos(self._dice, self._lanes, self._runner, self._write_config, self._present)
        self._await("the start", self._all_up)
        return self

    def __exit__(self, *_error: object) -> None:
        if self._runner.process.poll() is None:
            self._runner.process.kill()
        self._stack.close()

    def _write_config(self) -> None:
        tables = [lane.table() for lane in self._lanes if lane.name in self._present]
        text = "\n\n".join(['[output]\npath = "-"', _SETTINGS, *tables])
        fresh = self._config.with_suffix(".new")
        fresh.write_text(text + "\n")
        fresh.rename(self._config)
        for lane in self._lanes:
            if lane.name not in self._present:
                lane.backlog.forget()

    def run(self, seconds: float, fault_every: float) -> None:
        """Faults and samples until the time is over."""
        end = self._began + seconds
        next_sample = next_fault = self._began
        with (self._folder / "samples.csv").open("w") as samples, (self._folder / "faults.csv").open("w") as faults:
            sheet = csv.writer(samples)
            sheet.writerow(_COLUMNS)
            while (now := time.monotonic()) < end and self._runner.process.poll() is None:
                if now >= next_fault:
                    print(f"{now - self._began:.1f},{','.join(self._chaos.inflict())}", file=faults, flush=True)
                    next_fault = now + self._dice.expovariate(1 / fault_every)
                if now >= next_sample:
                    sheet.writerow(_rounded(asdict(self._sample())).values())
                    samples.flush()
                    self._note_wrong(now)
                    next_sample = now + _SAMPLE_EVERY
                    self._look_for_stuck(now)
                time.sleep(max(0.0, min(next_fault, next_sample) - time.monotonic()))

    def finish(self) -> dict[str, Any]:
        """Wait until everything is up again, let the last messages arrive, stop; the result."""
        if self._runner.process.poll() is not None:
            self._wrong.append(f"the supervisor ended with {self._runner.process.returncode}")
        else:
            self._await("the end", self._all_up)
            time.sleep(5.0)  # streams are subscribed again
            for lane in self._lanes:
                lane.exchange.pause()
            self._await("the last messages", self._all_arrived)
        code = self._runner.stop()
        if code:
            self._wrong.append(f"exit code {code}")
        total = summed(lane.backlog for lane in self._lanes)
        result = {
            "machine": machine(),
            "at": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
            "seconds": round(time.monotonic() - self._began),
            "faults": dict(self._chaos.done),
            "total": asdict(total),
            "lanes": {lane.name: asdict(lane.backlog.totals) for lane in self._lanes},
            "wrong": [*self._wrong, *(text for lane in self._lanes for text in lane.backlog.texts)],
            "violations": [text for lane in self._lanes for text in lane.exchange.violations][:50],
        }
        (self._folder / "result.json").write_text(json.dumps(result, indent=1) + "\n")
        return result

    def _sample(self) -> Sample:
        pid = self._runner.process.pid
        total = summed(lane.backlog for lane in self._lanes)
        with self._runner.lock:
            delays = [delay for lane in self._lanes for delay in lane.backlog.latencies]
            for lane in self._lanes:
                lane.backlog.latencies.clear()
        family = family_of(pid, self._runner.status())
        memory = memory_now(pid)
        owners = [*family.owners, *family.spares]
        weights = [memory_now(owner) for owner in owners]
        handles = [handles_of(owner) for owner in owners]
        fds, threads = handles_of(pid)
        return Sample(
            seconds=time.monotonic() - self._began,
            received=total.received, covered=total.covered, silent=total.silent, doubled=total.doubled,
            repeated=total.repeated, misnumbered=total.misnumbered,
            faults=self._chaos.done.total(), downs=total.downs,
            rss=memory.rss, pss=memory.pss, private=memory.private, fds=fds, threads=threads, cpu=cpu_seconds([pid]),
            template_private=memory_now(family.template).private if family.template else 0.0,
            owners=len(owners),
            owners_pss=sum(weight.pss for weight in weights), owners_private=sum(weight.private for weight in weights),
            owners_fds=max((fds for fds, _ in handles), default=0),
            owners_threads=max((threads for _, threads in handles), default=0),
            p50=percentile(delays, 0.5) if delays else 0.0, p99=percentile(delays, 0.99) if delays else 0.0,
            worst=max(delays, default=0.0),
            files=sum(1 for path in (self._folder / "wsadapter").rglob("*") if not path.is_dir()),
            load=load_now(),
        )  # fmt: skip

    def _look_for_stuck(self, now: float) -> None:
        if self._runner.fault is not None:
            raise self._runner.fault
        for lane in self._lanes:
            last = lane.backlog.last_at
            if now - last > _STUCK_AFTER and last not in (0.0, lane.stuck_since) and lane.name in self._present - {"guest"}:
                lane.stuck_since = last  # once for each time
                self._wrong.append(f"{lane.name}: nothing for {now - last:.0f} s, at {now - self._began:.0f} s")

    def _note_wrong(self, now: float) -> None:
        """While it runs; `result.json` has all of it."""
        texts = [*self._wrong, *(text for lane in self._lanes for text in lane.backlog.texts)]
        fresh = [text for text in texts if text not in self._noted]
        if fresh:
            with (self._folder / "wrong.log").open("a") as file:
                file.writelines(f"{now - self._began:.0f}: {text}\n" for text in fresh)
            self._noted.update(fresh)

    def _all_up(self) -> bool:
        endpoints = self._runner.status().get("endpoints", {})
        return self._present <= set(endpoints) and all(endpoint["state"] == "up" for endpoint in endpoints.values())

    def _all_arrived(self) -> bool:
        """The exchange may hold one message back, which is not due yet."""
        with self._runner.lock:
            return all(
                lane.backlog.reached(series) >= count - 2
                for lane in self._lanes
                if lane.name in self._present
                for series, count in lane.marks.issued.items()
                if series != "burst"
            )

    def _await(self, what: str, done: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _PATIENCE
        while not done():
            if time.monotonic() > deadline or self._runner.process.poll() is not None:
                self._wrong.append(f"{what} did not come within {_PATIENCE:g} s")
                return
            time.sleep(0.1)


def memory_now(pid: int) -> Memory:
    """0 of a process that is gone."""
    with suppress(OSError):
        return memory_of(pid)
    return Memory()


def handles_of(pid: int) -> tuple[int, int]:
    """Descriptors and threads; 0 of a process that is gone."""
    with suppress(OSError):
        return len(list(Path(f"/proc/{pid}/fd").iterdir())), len(list(Path(f"/proc/{pid}/task").iterdir()))
    return 0, 0


def _rounded(row: dict[str, Any]) -> dict[str, Any]:
    return {name: round(value, 3) if isinstance(value, float) else value for name, value in row.items()}


def verdict(folder: Path, svg: Path | None) -> int:
    """Print what a soak shows so far; 1 where something is wrong."""
    samples = read_samples(folder / "samples.csv")
    finished = folder / "result.json"
    result: dict[str, Any] = json.loads(finished.read_text("utf-8")) if finished.exists() else {}
    lines, good = judge(samples, result)
    print("\n".join(lines))
    if svg is not None:
        svg.write_text(draw(samples, result.get("machine", machine())), encoding="utf-8")
    return 0 if good else 1


def main() -> int:
    """The command line; 1 where something was lost in silence, came twice, got stuck, or grew."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.soak")
    parser.add_argument("--hours", type=float, default=2.0)
    parser.add_argument("--folder", type=Path, help="for samples and log; default: a new one, which stays")
    parser.add_argument("--load", type=float, default=1.0, help="1: about 1,000 messages per second in all")
    parser.add_argument("--fault-every", type=float, default=4.0, help="seconds, on the average")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--verdict", type=Path, metavar="FOLDER", help="only judge what is there")
    parser.add_argument("--svg", type=Path, help="draw the picture there")
    asked = parser.parse_args()
    if asked.verdict:
        return verdict(asked.verdict, asked.svg)
    folder: Path = asked.folder or Path(tempfile.mkdtemp(prefix="wsadapter-soak-"))
    folder.mkdir(parents=True, exist_ok=True)
    print(f"seed {asked.seed}, load {load_now():.2f}, {folder}", flush=True)
    with Soak(folder, load=asked.load, seed=asked.seed) as soak:
        soak.run(asked.hours * 3600, asked.fault_every)
        soak.finish()
    return verdict(folder, asked.svg)


if __name__ == "__main__":
    sys.exit(main())
