"""What the supervisor holds of an owner's connection, so that the connection can outlive the owner."""

from __future__ import annotations

import logging
import os
import socket
from math import isfinite
from typing import Any, Final

from wsadapter.contract.ipc.assignment import Custody
from wsadapter.contract.ipc.commands import Command
from wsadapter.handoff.custody import ConnectionHolder
from wsadapter.handoff.held_connection import Announced, HeldConnection, NotResumable, Resumption
from wsadapter.process.data_pipe import DataPipe

logger = logging.getLogger("wsadapter.supervisor")

_MOST: Final = 1 << 63


class OwnerConnection:
    """The connection of one owner process. All methods under the reactor's lock."""

    def __init__(self, data: DataPipe[Any]) -> None:
        """`data`: the owner's pipe, which has the position in the stream."""
        self._data = data
        self.held: HeldConnection | None = None
        """The duplicate of its socket; None if there is none (yet)."""
        self.holder: ConnectionHolder | None = None
        """The process that holds its TLS. Code that takes the connection from a dead owner also takes the holder, and sets
        None."""
        self.reading: int | None = None
        """The position at which the owner began to parse what its predecessor left unread; None: it has not begun, or has
        finished."""

    @property
    def in_custody(self) -> bool:
        """Whether the connection can outlive the owner."""
        return self.held is not None

    def hold(self, command: Command, descriptor: int | None, *, is_wanted: bool) -> None:
        """A CUSTODY has come, with `descriptor`, which is closed if it is not kept. Raises `ValueError` on nonsense."""
        if descriptor is None:
            logger.debug("the duplicate of an owner's socket did not arrive (too many open files?)")
        elif self.held is not None or not is_wanted:
            os.close(descriptor)
        else:
            self.held = held_connection(command, descriptor)

    def announce(self, command: Command) -> None:
        """An ANNOUNCE has come. Raises `ValueError` on nonsense."""
        if self.held is not None:
            self.held.announce(Announced.from_body(command.ref, command.body))

    def on_reading(self, command: Command) -> None:
        """A READING has come."""
        self.reading = int.from_bytes(command.body, "little") if command.body else None

    def resumption(self, up: dict[str, Any]) -> Resumption:
        """Return the connection for the next owner, after the owner has died and its pipe was drained. The caller has to close
        it. Raises `NotResumable`; then the connection is closed."""
        held, self.held = self.held, None
        if held is None:
            raise NotResumable("")
        records = self._data.records
        try:
            return held.resumption(records.position, records.tail(), up)
        except NotResumable:
            held.close()
            raise

    def end(self) -> None:
        """End the connection, unless `resumption` has returned it."""
        if self.held is not None:
            self.held.close()
            self.held = None

    def release(self) -> None:
        """The owner is dead, and its listener has taken the connection and the TLS holder if it needs them: close the rest."""
        self.end()
        if self.holder is not None:
            self.holder.let_go()
            self.holder = None

    def disown(self) -> None:
        """Another supervisor has the connection: close only the duplicate here."""
        if self.held is not None:
            self.held.sock.close()
            self.held = None
        self.holder = None


def held_connection(command: Command, descriptor: int) -> HeldConnection:
    """Make the held connection of a CUSTODY. It owns `descriptor`. Raises `ValueError` if that is no socket, or the counts are
    invalid; `descriptor` is closed then."""
    try:
        body = command.json()
        received, sent = _count(body["received"]), _count(body["sent"])
        custody = Custody(received=received, sent=sent, allowed_at=_time(body["allowed_at"]))
        return HeldConnection(socket.socket(fileno=descriptor), custody)
    except (ValueError, KeyError, OSError) as error:
        os.close(descriptor)
        raise ValueError(f"an invalid CUSTODY: {error!r:.200}") from error


def _count(value: object) -> int:
    if not isinstance(value, int) or not 0 <= value < _MOST:
        raise ValueError(f"not a count of bytes: {value!r:.100}")
    return value


def _time(value: object) -> float:
    if not isinstance(value, float | int) or not isfinite(value):
        raise ValueError(f"not a time: {value!r:.100}")
    return float(value)
