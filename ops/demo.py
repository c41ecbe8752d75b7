"""The demonstration: `sh ops/demo [--duration SECONDS]`.

Five local exchanges speak the dialects of real ones and replay recordings of them over wss://, at the recorded pace.
`python -m wsadapter.supervise` keeps a connection to each and writes a journal. Every few seconds something goes wrong: owners
are killed, the supervisor, connections, a consumer. Everything in the journal is checked: the numbers against each other, the
bytes against what the exchanges sent. The consumer, a separate process, is attached to the journal and must have seen every
number at the end. Exit codes: 0 all was well, 1 something was not, 2 wrong arguments.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from time import monotonic
from types import FrameType, TracebackType
from typing import IO, Any, Self
from urllib.parse import urlsplit

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parent))  # PYTHONSAFEPATH leaves it out
for _stream in range(3):  # closed by whoever started us: what is opened next would become standard output
    try:
        os.fstat(_stream)
    except OSError:
        os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free
sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)

from attached import AttachedConsumer
from continuity import Continuity
from faults import FAULTS, schedule
from screen import Screen, open_screen

from wsadapter import Message, attach
from wsadapter.cli.demo import FEEDS, LocalExchanges
from wsadapter.cli.keeper import can_keep
from wsadapter.contract.dialect.templates import stream_name
from wsadapter.contract.errors import WsAdapterError
from wsadapter.control.server import ControlError, ask
from wsadapter.outputs.lines import event_line, message_line
from wsadapter.testing import load_recording

CONFIGURATION = Path(__file__).with_name("demo.toml")
FIRST_FAULT = 3.0
FAULT_INTERVAL = 3.0
CALM = 6.0
"""Seconds without a new fault before the end, so that every endpoint can recover."""
COME_BACK = 20.0
"""Seconds after the end that an endpoint may take to be up again."""
TICK = 0.25
MARKER = "journal.json"
"""A folder with it is a journal."""
PAGE = re.compile(r"status page: (http://\S+)")
"""What the exporter logs."""
ALL_HEARD = 12.0
"""Seconds after which each of the recordings has sent a message, at its real pace."""
CAUGHT_UP = 20.0
"""Seconds after the end that the consumer may take to have seen everything."""
_STOP = 30.0


STREAM_OF: Mapping[str, Callable[[Any], Any]] = {
    "binance": lambda message: message.get("stream"),
    "coinbase": lambda message: (
        {"channels": ["level2_batch"], "product_ids": [message.get("product_id")]}
        if message["type"] in ("snapshot", "l2update")
        else None
    ),
    "bybit": lambda message: message.get("topic"),
    "okx": lambda message: message["arg"] if "data" in message else None,
    "htx": lambda message: message.get("ch"),
}
"""The stream of a message, by exchange: determined without the dialects, so that the check does not depend on them."""


def sent_by(name: str) -> dict[str, list[bytes]]:
    """What an exchange sends for each stream that is subscribed there, as it is delivered: inflated."""
    sent: dict[str, list[bytes]] = {stream_name(stream): [] for stream in FEEDS[name].subscribe}
    for recorded in load_recording(FEEDS[name].recording):
        payload = gzip.decompress(recorded.payload) if recorded.binary else recorded.payload
        stream = STREAM_OF[name](json.loads(payload))
        if stream is not None and stream_name(stream) in sent:
            sent[stream_name(stream)].append(payload)
    return sent


class Runner:
    """`python -m wsadapter.supervise`, its journal checked and its log lines kept, each by a thread."""

    def __init__(self, exchanges: LocalExchanges, folder: Path) -> None:
        self.name = f"demo-{os.getpid()}"
        self.folder = folder
        self.judge = Continuity({name: sent_by(name) for name in FEEDS})
        self.lines: deque[str] = deque()
        """Log lines nobody has taken yet."""
        self.runtime_dir = folder / "run"
        self.journal = self.runtime_dir / "journal"
        self.page = ""
        """Where a browser can watch; "" until that is known."""
        self.kills = 0
        """Of the supervisor."""
        self._ended = threading.Event()
        """Nothing more is written into the journal."""
        self._environment = {
            **os.environ,
            "DEMO_NAME": self.name,
            "DEMO_RUNTIME": str(self.runtime_dir),
            "DEMO_CA": str(exchanges.ca_file),
            "DEMO_PORT_PAGE": str(_free_port()),
            **{f"DEMO_PORT_{feed.upper()}": str(urlsplit(url).port) for feed, url in exchanges.urls.items()},
        }

    def __enter__(self) -> Self:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "wsadapter.supervise", str(CONFIGURATION)],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for us alone; we stop it in our own time
        )
        assert self.process.stderr is not None
        self._readers = [
            threading.Thread(target=self._judge_journal, daemon=True),
            threading.Thread(target=self._keep_log, args=(self.process.stderr,), daemon=True),
        ]
        for reader in self._readers:
            reader.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.process.poll() is None:
            self.stop()

    def status(self) -> dict[str, Any]:
        """Through the control socket. Raises `ControlError`."""
        answer = ask(self.name, {"command": "status"}, runtime_dir=str(self.folder / "run"), timeout=5.0)
        status: dict[str, Any] = answer["status"]
        return status

    def kill_supervisor(self) -> int | None:
        """SIGKILL; its pid. None: there is none at present. The process that was started is its keeper, and has one child."""
        for supervisor in psutil.Process(self.process.pid).children():
            supervisor.kill()
            self.kills += 1
            return supervisor.pid
        return None

    def stop(self) -> int:
        """Ask it to, with SIGTERM. Returns its exit code, after everything in its journal was checked."""
        self.process.terminate()
        try:
            code = self.process.wait(_STOP)
        except subprocess.TimeoutExpired:
            for process in [*psutil.Process(self.process.pid).children(recursive=True), self.process]:
                process.kill()
            code = self.process.wait()
        self._ended.set()
        for reader in self._readers:
            reader.join()
        return code

    def _judge_journal(self) -> None:
        """Until the end of the journal, after the runner has ended."""
        while not (self.journal / MARKER).exists():
            if self._ended.wait(TICK):
                return
        with attach(self.journal, "judge", start="earliest", runtime_dir=self.runtime_dir) as feed:
            while True:
                is_last = self._ended.is_set()
                try:
                    item = feed.get(TICK)
                except TimeoutError:
                    if is_last:
                        return
                    continue
                self.judge.feed(message_line(item) if isinstance(item, Message) else event_line(item))

    def _keep_log(self, pipe: IO[bytes]) -> None:
        for line in pipe:
            self.lines.append(line.decode(errors="replace").rstrip())
            if found := PAGE.search(self.lines[-1]):
                self.page = found[1]
        pipe.close()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


class Demonstration:
    """The course of the demonstration."""

    def __init__(
        self,
        runner: Runner,
        exchanges: LocalExchanges,
        consumer: AttachedConsumer,
        screen: Screen,
        duration: float | None,
        interrupted: threading.Event,
    ) -> None:
        self._runner = runner
        self._consumer = consumer
        self._exchanges = exchanges
        self._screen = screen
        self._duration = duration
        self._began = monotonic()
        self._faults = schedule(FAULTS if can_keep() else [f for f in FAULTS if f.target != "supervisor"], list(FEEDS))
        self._next_fault = self._began + FIRST_FAULT
        self._counts: deque[tuple[float, dict[str, int]]] = deque(maxlen=8)
        self.struck = 0
        self.last_line = ""
        self._interrupted = interrupted
        self.lasted = 0.0
        """Seconds, once it has run."""
        self.endpoints: dict[str, dict[str, Any]] = {}

    def run(self) -> None:
        """Until the time is over, or Ctrl-C."""
        while not self._is_over() and self._runner.process.poll() is None:
            self._look()
            if monotonic() >= self._next_fault and not self._is_calm():
                self._strike()
            self._interrupted.wait(TICK)
        self.lasted = monotonic() - self._began

    def settle(self) -> list[str]:
        """Wait until all endpoints are up again; those that are not."""
        deadline = monotonic() + COME_BACK
        while (missing := self._not_up()) and monotonic() < deadline and self._runner.process.poll() is None:
            self._look()
            threading.Event().wait(TICK)
        return missing

    def _is_over(self) -> bool:
        return self._interrupted.is_set() or (self._duration is not None and monotonic() >= self._began + self._duration)

    def _is_calm(self) -> bool:
        return self._duration is not None and monotonic() >= self._began + self._duration - CALM

    def _not_up(self) -> list[str]:
        return [feed for feed in FEEDS if self.endpoints.get(feed, {}).get("state") != "up"]

    def _strike(self) -> None:
        self._next_fault = monotonic() + FAULT_INTERVAL
        fault, name = next(self._faults)
        self.struck += 1
        match fault.target:
            case "supervisor":
                story = fault.of_process(self._runner.kill_supervisor())
            case "consumer":
                story = fault.of_process(self._consumer.kill())
            case "endpoint":
                story = fault.strike(name, self.endpoints.get(name, {}).get("pid"), self._exchanges)
        self._screen.note(f">>> {story}")

    def show_log(self) -> None:
        """What the runner has logged since it was last looked at."""
        while self._runner.lines:
            self.last_line = self._runner.lines.popleft()
            self._screen.note(self.last_line)

    def _look(self) -> None:
        self.show_log()
        try:
            status = self._runner.status()
        except ControlError:
            return  # not there yet, or not any more, which `run` sees
        self.endpoints = status["endpoints"]
        self._counts.append((monotonic(), {name: endpoint["messages"] for name, endpoint in self.endpoints.items()}))
        for name, endpoint in self.endpoints.items():
            endpoint["rate"] = self._rate(name)
        self._screen.update(self._title(status), self.endpoints)

    def _rate(self, name: str) -> float | None:
        (before, old), (now, new) = self._counts[0], self._counts[-1]
        return (new[name] - old[name]) / (now - before) if now > before else None

    def _title(self, status: Mapping[str, Any]) -> str:
        left = f", {max(0.0, self._began + self._duration - monotonic()):.0f} s left" if self._duration is not None else ""
        wrong = len(self._runner.judge.problems)
        where = f"; in a browser: {self._runner.page}" if self._runner.page else ""
        who = f"wsadapter {status['version']}, pid {status['pid']}"
        return f"{who}: {self.struck} faults so far, {wrong} problems{left}{where}; Ctrl-C ends it"


def summarise(runner: Runner, faults: int) -> None:
    """The summary, endpoint by endpoint."""
    print(f"\n{faults} faults; every message in the journal was compared with what the exchange sent\n")
    print(f"{'ENDPOINT':12}{'MESSAGES':>10}{'RESTARTS':>10}{'GAPS':>6}{'DROPPED':>9}{'MISSING NUMBERS':>17}")
    for name, tally in runner.judge.tallies.items():
        restarts = max(0, tally.ups - 1)  # the status counts from the last start of the supervisor
        print(f"{name:12}{tally.messages:>10,}{restarts:>10}{tally.gaps:>6}{tally.dropped:>9}{tally.missing:>17}")


def demonstrate(duration: float | None) -> int:
    """From the first process to the last; the exit code."""
    interrupted = threading.Event()
    with (
        _interruptible(interrupted),
        tempfile.TemporaryDirectory(prefix="wsadapter-demo-") as folder,
        LocalExchanges(Path(folder)) as exchanges,
        Runner(exchanges, Path(folder)) as runner,
        AttachedConsumer(runner.journal, runner.runtime_dir) as consumer,
        closing(open_screen()) as screen,
    ):
        demonstration = Demonstration(runner, exchanges, consumer, screen, duration, interrupted)
        demonstration.run()
        away = demonstration.settle()
        code = runner.stop()
        demonstration.show_log()
        behind = consumer.await_numbers({n: tally.expected for n, tally in runner.judge.tallies.items()}, CAUGHT_UP)
        away = [*(f"{name} did not come back" for name in away), *(f"the consumer has not all of {name}" for name in behind)]
        return _verdict(runner, demonstration, consumer, away, code)


def _verdict(runner: Runner, demonstration: Demonstration, consumer: AttachedConsumer, problems: list[str], code: int) -> int:
    summarise(runner, demonstration.struck)
    wrong, repeated = len(consumer.seen.problems), consumer.seen.repeated
    print(
        f"\nthe supervisor was killed {_times(runner.kills)}\n"
        f"the consumer that is attached to the journal was killed {_times(consumer.kills)}: {wrong} numbers missing or "
        f"out of order, {repeated} messages repeated, at most one for each kill"
    )
    problems = [*runner.judge.problems, *consumer.seen.problems, *problems]
    if demonstration.lasted >= ALL_HEARD:
        problems += [f"{name} delivered nothing" for name, tally in runner.judge.tallies.items() if not tally.messages]
    if code != 0:
        problems.append(f"the runner ended with exit code {code}: {demonstration.last_line}")
    verdict = [f"PROBLEM: {problem}" for problem in problems] or ["no number is missing, and every loss has its gap"]
    print("\n".join(["", *verdict]))
    return 1 if problems else 0


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


@contextmanager
def _interruptible(interrupted: threading.Event) -> Iterator[None]:
    """Ctrl-C and SIGTERM end it in order; a second one at once."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        if interrupted.is_set():
            raise KeyboardInterrupt
        interrupted.set()

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds < float("inf"):
        raise ValueError(text)
    return seconds


def main() -> int:
    """Runs the command line; gives the exit code."""
    parser = argparse.ArgumentParser(
        prog="sh ops/demo",
        description="Watch feeds survive whatever happens to them.",
        epilog="sh ops/demo --cluster shows three hosts of a cluster, of which one is killed.",
    )
    parser.add_argument("--duration", type=_seconds, metavar="SECONDS", help="end by itself; default: at Ctrl-C")
    options = parser.parse_args()
    try:
        return demonstrate(options.duration)
    except WsAdapterError as error:
        print(f"ops/demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
