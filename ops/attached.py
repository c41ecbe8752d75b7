"""The demonstration's consumer in a process of its own: started, killed, started again, and what it has seen."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import IO, Self

_PROGRAM = Path(__file__).with_name("consumer.py")
_LOOK = 0.05
_AGAIN = 0.2
"""Seconds between two starts, where the journal is not there yet."""


class SeenNumbers:
    """The numbers that came out of one process after the other."""

    def __init__(self) -> None:
        self.expected: dict[str, int] = {}
        """By endpoint, the number to come."""
        self.repeated = 0
        """Messages that a kill repeated."""
        self.problems: list[str] = []
        self._is_fresh = False
        """No line of this process has come yet: its first one may be the last one of the process before."""

    def begin(self) -> None:
        """Another process."""
        self._is_fresh = True

    def feed(self, line: str) -> None:
        """One line of the consumer."""
        name, first, last = line.split()
        expected = self.expected.get(name, 1)
        if self._is_fresh and int(last) == expected - 1:
            self.repeated += 1
        elif int(first) != expected:
            self.problems.append(f"the consumer got message {first} of {name} where {expected} was to come")
            self.expected[name] = int(last) + 1
        else:
            self.expected[name] = int(last) + 1
        self._is_fresh = False


class AttachedConsumer:
    """That of one journal. A thread reads what it prints, and starts it again when it has ended."""

    def __init__(self, journal: Path, runtime_dir: Path) -> None:
        self._words = [sys.executable, str(_PROGRAM), str(journal), str(runtime_dir)]
        self._marker = journal / "journal.json"
        self._process: subprocess.Popen[bytes] | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.seen = SeenNumbers()
        self.kills = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._over.set()
        self._signal()
        self._thread.join()

    def kill(self) -> int | None:
        """SIGKILL; the pid, None: it does not run at present."""
        pid = self._signal()
        self.kills += pid is not None
        return pid

    def _signal(self) -> int | None:
        process = self._process
        if process is None or process.poll() is not None:
            return None
        os.kill(process.pid, signal.SIGKILL)
        return process.pid

    def await_numbers(self, expected: Mapping[str, int], timeout: float) -> list[str]:
        """Wait until it has seen everything up to these numbers (exclusive); the endpoints of which it has not."""
        deadline = monotonic() + timeout
        while (behind := self._behind(expected)) and monotonic() < deadline:
            threading.Event().wait(_LOOK)
        return behind

    def _behind(self, expected: Mapping[str, int]) -> list[str]:
        return [name for name, number in expected.items() if self.seen.expected.get(name, 1) < number]

    def _run(self) -> None:
        while not self._over.is_set():
            if not self._marker.exists():
                self._over.wait(_AGAIN)
                continue
            self.seen.begin()
            self._process = subprocess.Popen(
                self._words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, start_new_session=True
            )
            if self._over.is_set():  # asked to end between the two
                self._process.kill()
            assert self._process.stdout is not None
            self._read(self._process.stdout)
            self._process.wait()

    def _read(self, pipe: IO[bytes]) -> None:
        with pipe:
            for line in pipe:
                self.seen.feed(line.decode())
