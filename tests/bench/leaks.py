"""What stays behind: descriptors, threads, processes, files and memory, over many restarts, kills, reloads, adds and removes.

    python -m tests.bench.leaks [--rounds 1000] [--operations restart,kill,reload,add] [--start-method forkserver]

A supervisor with one ws:// and one wss:// endpoint, whose exchanges are other processes, does one operation after the other,
each so many times. What it has is counted after a tenth of the rounds, and at the end; the two must be the same. Its objects
may grow by 200, and its memory by 2 %, and 1 MB for what the allocator rounds up to.
The suite runs a short form without the memory (tests/process/test_leaks.py). Exit code: 0, or 1 where something stayed behind.
"""

from __future__ import annotations

import argparse
import gc
import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Final

import psutil

from tests.support.waiting import wait_until
from wsadapter import Endpoint, Supervisor, capabilities
from wsadapter.config import Settings, parse

PATIENCE: Final = 60.0
_NAMES: Final = ("plain", "sealed")
_GROWTH: Final = 1.02
_ROUNDING: Final = 1 << 20
_MORE_OBJECTS: Final = 200
_QUIET: Final = 1.0


@dataclass(frozen=True)
class Inventory:
    """What a supervisor's process has."""

    descriptors: int
    threads: int
    processes: int
    """Children, theirs, and zombies among them."""
    files: int
    """In its runtime folder and its folder for temporary files."""


@dataclass(frozen=True)
class Address:
    """Of an exchange, which is another process: what it remembers of each connection is not the supervisor's memory."""

    url: str
    ca_file: str | None


@contextmanager
def exchange(*options: str) -> Iterator[Address]:
    """Runs one."""
    command = [sys.executable, "-m", "wsadapter.testing", "serve", "--until-eof", *options]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            ready = json.loads(process.stdout.readline())
            yield Address(ready["url"], ready.get("ca_file"))
        finally:
            process.stdin.close()


@dataclass(frozen=True)
class Memory:
    """Of a supervisor's process."""

    resident: int
    """Bytes."""
    objects: int
    """Those that the collector knows: containers and instances."""


class Subject:
    """A running supervisor, whose items somebody reads, and what can be done with it."""

    def __init__(self, feed: Supervisor, exchanges: dict[str, Address], folder: Path) -> None:
        self.feed = feed
        self._exchanges = exchanges
        self._folder = folder
        self._turn = 0
        self.operations: dict[str, Callable[[], None]] = {
            "restart": self._restart, "kill": self._kill, "reload": self._reload, "add": self._add_and_remove,
        }  # fmt: skip

    def inventory(self) -> Inventory:
        """When it has come to rest. A descriptor or a process more in passing is no leak: the least of what is seen counts,
        until nothing less has been seen for a second."""
        self._await_rest()
        gc.collect()
        least = self._count()
        quiet_since = time.monotonic()
        while time.monotonic() < quiet_since + _QUIET:
            time.sleep(0.05)
            seen = Inventory(*map(min, zip(astuple(least), astuple(self._count()), strict=True)))
            if seen != least:
                least, quiet_since = seen, time.monotonic()
        return least

    def memory(self) -> Memory:
        """After what nobody refers to is collected."""
        gc.collect()
        return Memory(int(psutil.Process().memory_info().rss), len(gc.get_objects()))

    def _count(self) -> Inventory:
        me = psutil.Process()
        files = sum(len(names) for _, _, names in os.walk(self._folder))
        return Inventory(me.num_fds(), threading.active_count(), len(me.children(recursive=True)), files)

    def _await_rest(self) -> None:
        def rests() -> bool:
            status = self.feed.status()
            held = capabilities.custody()
            endpoints = status["endpoints"]
            return (
                set(endpoints) == set(_NAMES)
                and all(endpoint["state"] == "up" for endpoint in endpoints.values())
                and status["spares"] == 1
                and endpoints["plain"]["in_custody"] is held
            )

        wait_until(rests, PATIENCE, lambda: f"it does not come to rest: {self.feed.status()}")

    def _name(self) -> str:
        self._turn += 1
        return _NAMES[self._turn % len(_NAMES)]

    def _restart(self) -> None:
        self.feed.restart(self._name(), timeout=PATIENCE)

    def _kill(self) -> None:
        name = self._name()
        wait_until(lambda: self.feed.status()["endpoints"][name]["state"] == "up", PATIENCE)
        before = self.feed.status()["endpoints"][name]
        assert before["pid"] is not None
        os.kill(before["pid"], signal.SIGKILL)
        wait_until(lambda: self._is_replaced(name, before["pid"]), PATIENCE)

    def _is_replaced(self, name: str, pid: int) -> bool:
        now = self.feed.status()["endpoints"][name]
        return now["state"] == "up" and now["pid"] not in (pid, None)

    def _reload(self) -> None:
        self._turn += 1
        before = self._epochs()
        self.feed.reload(settings(self._exchanges, progress=10 + self._turn % 2))
        wait_until(lambda: all(now > before[name] for name, now in self._epochs().items()), PATIENCE, "nothing was replaced")

    def _epochs(self) -> dict[str, int]:
        """Of the endpoints that are up; 0 for one that is not."""
        endpoints = self.feed.status()["endpoints"].items()
        return {name: endpoint["epoch"] if endpoint["state"] == "up" else 0 for name, endpoint in endpoints}

    def _add_and_remove(self) -> None:
        self.feed.add(Endpoint("guest", url=self._exchanges["plain"].url))
        wait_until(lambda: self.feed.status()["endpoints"]["guest"]["state"] == "up", PATIENCE)
        self.feed.remove("guest", timeout=PATIENCE)


def settings(exchanges: dict[str, Address], *, progress: int) -> Settings:
    """A configuration of both endpoints; another `progress` is another setting of both."""
    tables = [
        f"[endpoints.{name}]\nurl = {json.dumps(address.url)}\ntls = {{ ca_file = {json.dumps(address.ca_file or '')} }}\n"
        for name, address in exchanges.items()
    ]
    defaults = (
        f'[supervisor]\nname = "leaks-{os.getpid()}"\nspares = 1\n'
        f"[defaults]\nwatchdog = {{ progress = {progress} }}\n"
        "restart = { backoff_initial = 0.02, backoff_max = 0.1, intensity = 1000000 }\nlimits = { connects = 0 }\n"
    )
    return parse(defaults + "".join(tables))


@contextmanager
def subject(folder: Path, start_method: str) -> Iterator[Subject]:
    """Such a supervisor; its temporary files are in `folder`, and it has no runtime folder."""
    with ExitStack() as stack:
        exchanges = {"plain": stack.enter_context(exchange()), "sealed": stack.enter_context(exchange("--tls"))}
        before = tempfile.tempdir
        tempfile.tempdir = str(folder)
        try:
            feed = Supervisor(settings(exchanges, progress=10).endpoints, start_method=start_method)  # type: ignore[arg-type]
            with feed:
                reader = threading.Thread(target=lambda: deque(feed, maxlen=0), name="reader")
                reader.start()
                yield Subject(feed, exchanges, folder)
                feed.stop()
                reader.join(PATIENCE)
        finally:
            tempfile.tempdir = before


@dataclass(frozen=True)
class Outcome:
    """Of one operation."""

    operation: str
    rounds: int
    before: Inventory
    after: Inventory
    memory: tuple[Memory, Memory]
    seconds: float

    @property
    def leaks(self) -> bool:
        """Whether something but memory stayed behind."""
        return any(after > before for before, after in zip(astuple(self.before), astuple(self.after), strict=True))

    @property
    def grows(self) -> bool:
        """Whether its memory did, or the number of its objects."""
        first, last = self.memory
        return last.resident > first.resident * _GROWTH + _ROUNDING or last.objects > first.objects + _MORE_OBJECTS


def measure(tested: Subject, operation: str, rounds: int) -> Outcome:
    """Does it `rounds` times, after a tenth as many (one at least) that do not count."""
    act = tested.operations[operation]
    for _ in range(max(1, rounds // 10)):
        act()
    before, memory = tested.inventory(), tested.memory()
    began = time.monotonic()
    for _ in range(rounds):
        act()
    seconds = time.monotonic() - began
    return Outcome(operation, rounds, before, tested.inventory(), (memory, tested.memory()), seconds)


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.leaks", description="What stays behind of many restarts.")
    parser.add_argument("--rounds", type=int, default=1000, help="of each operation")
    parser.add_argument("--operations", default="restart,kill,reload,add", help="separated by commas")
    parser.add_argument("--start-method", default="forkserver")
    asked = parser.parse_args()
    logging.disable()  # two lines for each round
    wrong = 0
    with tempfile.TemporaryDirectory(prefix="wsadapter-leaks-") as folder, subject(Path(folder), asked.start_method) as tested:
        for operation in asked.operations.split(","):
            outcome = measure(tested, operation, asked.rounds)
            wrong += outcome.leaks or outcome.grows
            first, last = outcome.memory
            said = "LEAKS" if outcome.leaks else "GROWS" if outcome.grows else "ok"
            print(
                f"{operation:8} {outcome.rounds:,} times in {outcome.seconds:.1f} s: {said}; MB: {first.resident / 1e6:.1f} to "
                f"{last.resident / 1e6:.1f}; objects: {first.objects:,} to {last.objects:,}"
            )
            print(f"    before {outcome.before}\n    after  {outcome.after}", flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
