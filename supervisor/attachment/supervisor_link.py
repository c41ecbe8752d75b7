"""Commands to the supervisor that writes a journal, with the outcomes that `Supervisor` has.

There may be no supervisor: before it starts, after it stopped, until the next one has taken the journal. Then commands end as
they do on a connection that is down.
"""

from __future__ import annotations

import os
from base64 import b64encode
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from wsadapter.contract.errors import NoAnswer, NotConnected, NotRunning, NotSent, OutcomeUnknown, SendFailed, WsAdapterError
from wsadapter.control.failures import rebuilt
from wsadapter.control.server import CommandRefused, ask
from wsadapter.journal.folder import writer_of

_ANSWER: Final = 60.0
"""Seconds for the answer to a command without a timeout."""


class SupervisorLink:
    """The control socket for one consumer. Commands may be sent from any thread."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def command(self, command: str, more: Mapping[str, Any], timeout: float | None = None) -> dict[str, Any]:
        """The supervisor's answer. Raises the errors of the `Supervisor` method of that name. If no supervisor runs: the error
        for "nothing was sent"; if the supervisor ended meanwhile: the error for "the outcome is not known"."""
        writer = writer_of(self._folder)
        endpoint = str(more.get("endpoint", ""))
        if not writer.name:
            raise nobody(command, f"{self._folder}: the supervisor of this journal has no name, so it takes no commands")
        patience = _ANSWER if timeout is None else timeout
        try:
            return ask(writer.name, {"command": command, **more}, runtime_dir=writer.runtime_dir, timeout=patience)
        except NotRunning as error:
            raise nobody(command, f"{endpoint or command}: {error}; nothing was sent") from None
        except CommandRefused as error:
            raise rebuilt(str(error), error.answer) from None
        except NoAnswer as error:
            raise _unknown(command, endpoint, str(error), timed_out="in time" in str(error)) from None


def nobody(command: str, text: str) -> WsAdapterError:
    """No supervisor is there that could take the command."""
    return NotSent(text) if command == "request" else NotConnected(text)


def _unknown(command: str, endpoint: str, text: str, *, timed_out: bool) -> Exception:
    if command == "request":
        return OutcomeUnknown(endpoint, "?", text, timed_out=timed_out)
    return TimeoutError(text) if timed_out else SendFailed(f"{endpoint}: {text}")


def outgoing(payload: bytes, *, binary: bool) -> Mapping[str, str]:
    """A message as a command carries it."""
    return {"base64": b64encode(payload).decode()} if binary else {"text": payload.decode()}


def folder_of(name_or_path: str | os.PathLike[str], runtime_dir: str) -> Path:
    """The folder of the journal: the path itself, or the journal of the running supervisor of that name. Raises `NotRunning`,
    `ControlError`."""
    if not isinstance(name_or_path, str) or os.sep in name_or_path or Path(name_or_path).is_dir():
        return Path(name_or_path)
    try:
        return Path(ask(name_or_path, {"command": "journal"}, runtime_dir=runtime_dir)["journal"])
    except NotRunning as error:
        text = f"{error}, and there is no folder of that name; start the supervisor, or give the path of its journal"
        raise NotRunning(text) from None
