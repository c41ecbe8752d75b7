"""Commands to the current owner of a link that the owner replies to, and the callback for each reply.

    send ──> BEGUN ──> TAKEN
      └──> NOT_SENT, UNKNOWN

A reply names its command by the ref. When the owner is dead no reply follows, so all of them are forgotten; whoever sent a
command is notified of the owner's death and draws the conclusion.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from enum import Enum, auto
from typing import Any

from wsadapter.contract.errors import NotConnected
from wsadapter.contract.ipc import commands
from wsadapter.contract.ipc.commands import Command
from wsadapter.process.owner_process import OwnerProcess


class Reply(Enum):
    """What an owner replies to a command."""

    BEGUN = auto()
    """Its first byte is about to be sent."""
    TAKEN = auto()
    """The kernel has the whole message."""
    NOT_SENT = auto()
    """The owner could not send the message; no byte was sent."""
    UNKNOWN = auto()
    """The owner could not send the message; a part may have been sent."""


OnReply = Callable[[Reply, str], None]
"""Called with each reply; with NOT_SENT and UNKNOWN also with the reason."""

_ENDS = (Reply.TAKEN, Reply.NOT_SENT, Reply.UNKNOWN)
"""No other reply follows these."""


def parse_reply(command: Command) -> tuple[Reply, str] | None:
    """The reply that a command of an owner is; None: it is none. Raises `ValueError`."""
    match command.kind:
        case commands.BEGUN | commands.ANNOUNCE:
            return Reply.BEGUN, ""
        case commands.TAKEN:
            return Reply.TAKEN, ""
        case commands.REFUSED:
            body = command.json()
            fate = Reply.NOT_SENT if body.get("fate") == "not_sent" else Reply.UNKNOWN
            return fate, str(body.get("text", "refused"))
    return None


class OwnerCommands:
    """The commands of one link, over all its owners. All methods under the reactor's lock."""

    def __init__(self) -> None:
        self.last_ref = 0
        """Refs are unique over all owners of the link: an owner may confirm a frame that its predecessor had begun to send."""
        self._process: OwnerProcess | None = None
        self._awaited: dict[int, OnReply] = {}

    @property
    def is_frozen(self) -> bool:
        """Whether a takeover is under way."""
        return self._process is not None and self._process.is_frozen

    def send_to(self, process: OwnerProcess) -> None:
        """Commands go to this owner from now on."""
        self._process = process

    def pause(self) -> None:
        """The owner has commands of another supervisor, whose refs are not known yet: send none until `send_to`."""
        self._process = None

    def owner_gone(self) -> None:
        """The owner is dead: it sends no reply any more."""
        self._process = None
        self._awaited.clear()

    def send(self, kind: int, body: bytes | dict[str, Any], on_reply: OnReply) -> int:
        """Send a command; returns its ref. Raises `NotConnected`."""
        if self._process is None:
            raise NotConnected("there is no owner")
        ref = self.next_ref()
        self._process.send(kind, ref, body)
        self._awaited[ref] = on_reply
        return ref

    def next_ref(self) -> int:
        """A ref that no command has."""
        self.last_ref += 1
        return self.last_ref

    def notify(self, kind: int, ref: int, body: dict[str, Any]) -> None:
        """Send a command that has no reply, if there is an owner that accepts commands. `ref`: of the command that this one is
        about; 0: it is about none."""
        if self._process is not None:
            with suppress(NotConnected):  # the owner is leaving, and acts on nothing more
                self._process.send(kind, ref, body)

    def expect(self, ref: int, on_reply: OnReply) -> None:
        """Await replies to a command that an owner before this one, or another supervisor, was sent."""
        self._awaited[ref] = on_reply

    def forget(self, ref: int) -> None:
        """Ignore further replies to this command."""
        self._awaited.pop(ref, None)

    def on_command(self, command: Command) -> None:
        """Handle a reply of the owner. Replies to forgotten commands, and other commands, are ignored. Raises `ValueError`."""
        parsed = parse_reply(command)
        if parsed is None or command.ref not in self._awaited:
            return
        reply, text = parsed
        on_reply = self._awaited.pop(command.ref) if reply in _ENDS else self._awaited[command.ref]
        on_reply(reply, text)
