"""The way to the supervisor that writes a journal: wake-ups, and commands with the outcomes that `Supervisor` has.

There may be no supervisor: before it starts, after it stopped, until the next one has taken the journal. Then nothing wakes the
consumer, so it looks by itself now and then, and commands end as they do on a connection that is down.
"""

from __future__ import annotations

import os
import select
import socket
from base64 import b64encode
from collections.abc import Mapping
from pathlib import Path
from time import monotonic
from typing import Any, Final

from wsadapter.contract.errors import NotConnected, NotSent, OutcomeUnknown, SendFailed, WsAdapterError
from wsadapter.control.failures import rebuilt
from wsadapter.control.instance import connect
from wsadapter.control.server import CommandRefused, NoAnswer, NotRunning, ask
from wsadapter.journal.folder import writer_of

_LOOK: Final = 0.5
"""Seconds that a consumer sleeps at most: its name may be taken over, or the supervisor may be another one."""
_LOOK_ALONE: Final = 0.05
"""The same while no supervisor can wake it."""
_AGAIN: Final = 0.2
"""Seconds between two tries to reach a supervisor."""
_ANSWER: Final = 60.0
"""Seconds for the answer to a command that has no timeout of its own."""


class SupervisorLink:
    """That of one consumer. Commands may be sent from any thread; the rest is the consumer's."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.waker: socket.socket | None = None
        """Readable when something was committed; None: no supervisor is there."""
        self._next_try = 0.0

    # -- wake-ups --------------------------------------------------------------------------------------------------------

    def connect(self) -> bool:
        """Have the supervisor wake us, if there is one. Returns whether this is new: something may have been committed since
        the consumer has looked."""
        if self.waker is not None or monotonic() < self._next_try:
            return False
        self._next_try = monotonic() + _AGAIN
        writer = writer_of(self._folder)
        if not writer.name:
            return False
        try:
            waker = connect(writer.name, writer.runtime_dir)
            if waker is None:
                return False
            waker.sendall(b'{"command": "wake"}\n')
        except OSError:
            return False
        waker.setblocking(False)
        self.waker = waker
        return True

    @property
    def patience(self) -> float:
        """Seconds to sleep at most."""
        return _LOOK_ALONE if self.waker is None else _LOOK

    def sleep(self, seconds: float) -> None:
        """Until something may be there, or the time is over."""
        self.connect()
        patience = max(0.0, min(seconds, self.patience))
        poller = select.poll()
        if self.waker is not None:
            poller.register(self.waker, select.POLLIN)
        poller.poll(patience * 1000)
        self.woken()

    def woken(self) -> None:
        """Take the bytes that woke us; at their end the supervisor is gone."""
        if self.waker is None:
            return
        try:
            while chunk := self.waker.recv(4096):
                if len(chunk) < 4096:
                    return
        except BlockingIOError:
            return
        except OSError:
            pass
        self.close()

    def close(self) -> None:
        """Have nobody wake us."""
        if self.waker is not None:
            self.waker.close()
            self.waker = None

    # -- commands --------------------------------------------------------------------------------------------------------

    def command(self, command: str, more: Mapping[str, Any], timeout: float | None = None) -> dict[str, Any]:
        """Its answer. Raises what the call of the same name of `Supervisor` raises, and if no supervisor is there, what says
        that nothing was sent; if it is gone meanwhile, what says that the outcome is not known."""
        writer = writer_of(self._folder)
        endpoint = str(more.get("endpoint", ""))
        if not writer.name:
            raise _nobody(command, f"{self._folder}: the supervisor of this journal has no name, so it takes no commands")
        patience = _ANSWER if timeout is None else timeout
        try:
            return ask(writer.name, {"command": command, **more}, runtime_dir=writer.runtime_dir, timeout=patience)
        except NotRunning as error:
            raise _nobody(command, f"{endpoint or command}: {error}; nothing was sent") from None
        except CommandRefused as error:
            raise rebuilt(str(error), error.answer) from None
        except NoAnswer as error:
            raise _unknown(command, endpoint, str(error), timed_out="in time" in str(error)) from None


def _nobody(command: str, text: str) -> WsAdapterError:
    return NotSent(text) if command == "request" else NotConnected(text)


def _unknown(command: str, endpoint: str, text: str, *, timed_out: bool) -> Exception:
    if command == "request":
        return OutcomeUnknown(endpoint, "?", text, timed_out=timed_out)
    return TimeoutError(text) if timed_out else SendFailed(f"{endpoint}: {text}")


def outgoing(payload: bytes, *, binary: bool) -> Mapping[str, str]:
    """A message as a command carries it."""
    return {"base64": b64encode(payload).decode()} if binary else {"text": payload.decode()}


def folder_of(name_or_path: str | os.PathLike[str], runtime_dir: str) -> Path:
    """The folder of the journal: the path itself, or what the running supervisor of that name writes. Raises `NotRunning`,
    `ControlError`."""
    if not isinstance(name_or_path, str) or os.sep in name_or_path or Path(name_or_path).is_dir():
        return Path(name_or_path)
    return Path(ask(name_or_path, {"command": "journal"}, runtime_dir=runtime_dir)["journal"])
