"""What the keeper holds of each process, so that the process outlives its supervisor.

    supervisor                                                   keeper (cli/keeper.py)
    before ASSIGN: deposit ──header, descriptors (SCM_RIGHTS)──> holds them
    the process is gone    ──header──────────────────────────-─> closes them
    killed                                                       gives all of them to the next supervisor, which it forks

A header and its descriptors are one datagram (SOCK_SEQPACKET), so the keeper has all of a deposit, or nothing. The keeper reads
what the supervisor sent before it died, and understands nothing of it but the pid.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from wsadapter.contract.endpoint import Endpoint
from wsadapter.journal.marks import MarkFile
from wsadapter.loop.reactor import Reactor
from wsadapter.process.read_log import ReadLog

if TYPE_CHECKING:
    from wsadapter.process.owner_process import OwnerProcess

logger = logging.getLogger("wsadapter.supervisor")

_LONGEST: Final = 1 << 12
_MOST_DESCRIPTORS: Final = 16
MARK_EVERY: Final = 1 << 19
"""Bytes of an owner's pipe from one mark to the next: what the next supervisor reads again, besides what the journal has not
committed."""
_BEYOND_THE_BUFFER: Final = 1 << 24
"""Bytes that the read log may have, besides two times `buffer.max_bytes`: what is in the pipe and was not confirmed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deposit:
    """The header. The descriptors: data pipe, log pipe, pidfd, rejoin socket, read log, marks, and the lifeline if there is
    one."""

    pid: int
    name: str = ""
    """Of its endpoint."""
    buffer: int = 0
    """`buffer.max_bytes` of its endpoint."""
    lifeline: bool = False
    gone: bool = False
    """The process has ended: there are no descriptors, and those of its deposit are to be closed."""


class DepositBox:
    """The keeper's end: what it holds, by the pid of the process."""

    def __init__(self) -> None:
        self.held: dict[int, tuple[Deposit, list[int]]] = {}

    def receive(self, sock: socket.socket) -> bool:
        """Read one datagram. False: the supervisor is gone, and everything was read. Raises `OSError`."""
        body, fds, _, _ = socket.recv_fds(sock, _LONGEST, _MOST_DESCRIPTORS)
        if not body:
            return False
        deposit = msgspec.json.decode(body, type=Deposit)
        _close(self.held.pop(deposit.pid, (deposit, []))[1])
        if deposit.gone:
            _close(fds)
        elif len(fds) == 6 + deposit.lifeline:
            self.held[deposit.pid] = deposit, fds
        else:  # too many open files
            _close(fds)
        return True

    def close(self) -> None:
        """Close everything: processes that no supervisor has any more end."""
        for _, fds in self.held.values():
            _close(fds)
        self.held.clear()


class KeptHost(Protocol):
    """What `Kept` needs of whoever keeps it."""

    def mark(self, kept: Kept, /) -> None:
        """A mark of the owner is due."""
        ...

    def withdraw(self, pid: int, /) -> None:
        """The keeper is to close what it holds of this process."""
        ...


class Kept:
    """What the keeper has of one process, at the supervisor's end. Under the reactor's lock."""

    def __init__(self, host: KeptHost, process: OwnerProcess, deposit: Deposit, log: ReadLog, marks: MarkFile) -> None:
        self.process = process
        self.name = deposit.name
        self.log = log
        self.marks = marks
        self.due = 0
        """The end of the log from which on a mark is due. At first: as soon as its connection is up."""
        self._pid = deposit.pid
        self._most = 2 * deposit.buffer + _BEYOND_THE_BUFFER
        self._host: KeptHost | None = host

    def mark(self) -> bool:
        """Make a mark, if one can be made now. Returns false if the log has become too long: then the process is kept no
        more, and the caller must read the pipe in the other way."""
        if self._host is None:
            return False
        self._host.mark(self)
        if self.log.size <= self._most:
            return True
        text = (
            "%s: the journal does not keep up, and too much was read since it did: if the supervisor dies, this connection ends"
        )
        logger.warning(text, self.name)
        self.close()
        return False

    def give_up(self, error: OSError) -> None:
        """The log takes no more: no memory, or a limit of the size of files. The bytes are still in the pipe."""
        text = "%s: what is read cannot be kept for another supervisor (%s): if the supervisor dies, this connection ends"
        logger.warning(text, self.name, error)
        self.close()

    def postpone(self) -> None:
        """The next mark is due when the log has grown."""
        self.due = self.log.end + MARK_EVERY

    def close(self) -> None:
        """The process has ended, or is another supervisor's."""
        host, self._host = self._host, None
        if host is not None:
            host.withdraw(self._pid)
            self.log.close()
            self.marks.close()


class KeeperLine:
    """The supervisor's end of the socket to its keeper. All methods under the reactor's lock."""

    def __init__(self, reactor: Reactor, sock: socket.socket, mark: Callable[[Kept], None]) -> None:
        """`mark` is called with what a mark is due of."""
        self._reactor = reactor
        self._sock = sock
        self.mark = mark
        self.is_alive = True
        """Whether the keeper is, so that something takes deposits."""
        sock.setblocking(False)

    def watch(self) -> None:
        """Notice the end of the keeper."""
        self._reactor.dispatcher.register(self._sock.fileno(), self._on_end)

    def deposit(self, process: OwnerProcess, endpoint: Endpoint) -> Kept | None:
        """Deposit a process that is about to serve this endpoint. None: it can't outlive this supervisor."""
        data, log, rejoin, pid, pidfd = process.data, process.log, process.control.rejoin, process.pid, process.exit.pidfd
        if not self.is_alive or rejoin is None or pid is None or pidfd is None or endpoint.replicas > 1:
            return None
        deposit = Deposit(
            pid=pid, name=endpoint.name, buffer=endpoint.buffer.max_bytes, lifeline=process.exit.lifeline is not None
        )
        lifeline = [] if process.exit.lifeline is None else [process.exit.lifeline]
        read, marks = ReadLog(), MarkFile()
        read.put(data.records.snapshot().unfinished)  # of a process that came from another supervisor
        fds = [data.fileno(), log.fileno(), pidfd, rejoin.fileno(), read.fileno(), marks.fileno(), *lifeline]
        try:
            socket.send_fds(self._sock, [msgspec.json.encode(deposit)], fds)
        except OSError as error:  # stopped for long, or dead
            logger.warning(
                "%s: the keeper takes nothing (%s): if the supervisor dies, this connection ends", endpoint.name, error
            )
            read.close()
            marks.close()
            return None
        return Kept(self, process, deposit, read, marks)

    def withdraw(self, pid: int) -> None:
        """The keeper is to close what it holds of this process."""
        if self.is_alive:
            with suppress(OSError):  # it is dead, or the next deposit of that pid replaces this one
                self._sock.send(msgspec.json.encode(Deposit(pid=pid, gone=True)))

    def close(self) -> None:
        """The supervisor ends."""
        self.is_alive = False
        self._reactor.dispatcher.unregister(self._sock.fileno())
        self._sock.close()

    def _on_end(self, _events: int) -> None:
        self.is_alive = False
        self._reactor.dispatcher.unregister(self._sock.fileno())
        logger.error("the keeper has died: if this supervisor dies too, nothing starts another one, and all connections end")


def _close(fds: list[int]) -> None:
    for fd in fds:
        os.close(fd)
