"""Signals of the runner. The interpreter's own handler writes their numbers into a pipe; a thread reads them and acts.

So nothing is ever done inside a handler, a main thread that is stuck (in a write to a blocked pipe) does not matter, and a
storm of one signal is one entry: there is at most one reload under way and one waiting.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import threading
from collections.abc import Callable
from time import monotonic
from types import FrameType, TracebackType
from typing import Any, Final, Self

from wsadapter.cli import hang_ups

logger = logging.getLogger("wsadapter.runner")

_LOOK_FOR_TERMINAL: Final = 1000
"""Milliseconds between looks for the controlling terminal, while there is one."""
_STOP: Final = frozenset({signal.SIGTERM, signal.SIGINT})
_SAME_BURST: Final = 0.5
"""Seconds within which stop signals are one: Ctrl-C and a service manager reach a process by several ways at once."""
_ALL: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)


class SignalThread:
    """While it is entered, signals call back, each in a thread that may wait.

    `stop` at the first SIGTERM or SIGINT, or when the controlling terminal has gone; `leave(number)` at the second; `reload` at
    SIGHUP; `dump` at SIGUSR1. Where SIGHUP was ignored from the start (nohup) the end of the terminal changes nothing. For the
    main thread only.
    """

    def __init__(
        self,
        *,
        stop: Callable[[str], None],
        leave: Callable[[int], None],
        reload: Callable[[], None],
        dump: Callable[[], None],
    ) -> None:
        self._stop, self._leave, self._reload, self._dump = stop, leave, reload, dump
        self._stop_asked_at: float | None = None
        self._has_terminal = _has_terminal()
        self._terminal_gone_at: float | None = None
        self._ignores_hang_ups = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
        self._wanted = threading.Event()
        self._ended = False
        self._before: dict[int, Any] = {}
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)
        self._threads = [
            threading.Thread(target=self._run, name="wsadapter-signals", daemon=True),
            threading.Thread(target=self._run_reloads, name="wsadapter-reload", daemon=True),
        ]

    def __enter__(self) -> Self:
        self._wakeup = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        for number in _ALL:
            if signal.getsignal(number) != signal.SIG_IGN or number in (*_STOP, signal.SIGHUP):
                self._before[number] = signal.signal(number, _nothing)
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup)
        self._ended = True
        self._wanted.set()
        os.close(self._write)
        for thread in self._threads:
            thread.join()
        os.close(self._read)

    def _run(self) -> None:
        poller = select.poll()
        poller.register(self._read, select.POLLIN)
        while True:
            if not poller.poll(_LOOK_FOR_TERMINAL if self._has_terminal else None):
                self._look_for_terminal()
            elif received := os.read(self._read, 4096):
                for number in sorted(set(received)):
                    self._act_or_leave(number, _name(number))
            else:
                return

    def _look_for_terminal(self) -> None:
        if self._has_terminal and not _has_terminal():
            self._has_terminal = False
            self._terminal_gone_at = monotonic()

    def _act_or_leave(self, number: int, name: str) -> None:
        """Log an error instead of raising it: this thread must not end, because it acts on the next signal too. A stop that
        fails ends the process anyway."""
        try:
            self._act(number, name)
        except Exception:
            logger.exception("the signal %s could not be handled", name)
            if number in _STOP:
                self._leave(number)

    def _act(self, number: int, name: str) -> None:
        if number in _STOP:
            self._stop_or_leave(number, name)
        elif number == signal.SIGUSR1:
            self._dump()
        elif number == signal.SIGHUP:
            self._hang_up()

    def _hang_up(self) -> None:
        self._look_for_terminal()
        gone_at = self._terminal_gone_at
        match hang_ups.meaning(ignored=self._ignores_hang_ups, gone_for=None if gone_at is None else monotonic() - gone_at):
            case "reload":
                self._wanted.set()
            case "stop":
                self._stop("the terminal was closed")
            case "nothing":
                logger.info("the terminal was closed; the supervisor continues, as with nohup")

    def _stop_or_leave(self, number: int, name: str) -> None:
        if self._stop_asked_at is None:
            self._stop_asked_at = monotonic()
            self._stop(name)
        elif monotonic() - self._stop_asked_at > _SAME_BURST:
            self._leave(number)

    def _run_reloads(self) -> None:
        while self._wanted.wait():
            self._wanted.clear()
            if self._ended:
                return
            self._reload()


def _nothing(_number: int, _frame: FrameType | None) -> None:
    """The wake-up descriptor has it already."""


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _has_terminal() -> bool:
    """Whether there is a controlling terminal, and it has not hung up."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True
