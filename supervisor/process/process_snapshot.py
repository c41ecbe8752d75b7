"""An owner process on its way from one supervisor to another: its state as one value, and its descriptors beside that.

    snapshot_of(process) ──> ProcessSnapshot, descriptors ─── any way between processes ───> receive ──> a frozen OwnerProcess

Whoever receives a process goes on where the other supervisor was: with the beginnings of a record, of a command and of a log
line, with commands that were not sent, and with the duplicate of the connection. Nothing is read before `thaw`.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection

from wsadapter.contract.ipc.command_socket import Unfinished
from wsadapter.contract.ipc.record import ReaderSnapshot, RecordReader
from wsadapter.handoff.held_connection import HeldConnection, HeldSnapshot
from wsadapter.loop.reactor import Reactor
from wsadapter.process.launcher import AdoptedProcess
from wsadapter.process.lifecycle import ProcessState
from wsadapter.process.owner_process import OwnerListener, OwnerProcess, ProcessLimits


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessSnapshot:
    """Of a process that serves. Its descriptors are, in this order: data pipe, control socket, log pipe, pidfd, and those that
    the fields name."""

    pid: int
    records: ReaderSnapshot
    unread: bytes
    """The beginning of a command, whose rest has not come."""
    unsent: bytes
    """Commands that the control socket has not taken."""
    log: bytes
    """The beginning of a line that is not finished."""
    held: HeldSnapshot | None
    """None: there is no duplicate of its connection. Else the duplicate is the next descriptor."""
    has_descriptor: bool
    """The next descriptor came over the control socket, before its command."""
    has_rejoin: bool
    """The next descriptor is our end of the rejoin socket of the process."""
    has_lifeline: bool
    """The last descriptor is the lifeline of the process, see `LaunchedProcess.lifeline`."""


def can_go(process: OwnerProcess) -> bool:
    """Whether it serves, lives, and can be watched by whoever is not its parent. A dead process serves until its exit status is
    known."""
    return process.state is ProcessState.SERVING and process.exit.pidfd is not None and not process.exit.has_ended


def snapshot_of(process: OwnerProcess) -> tuple[ProcessSnapshot, list[int]]:
    """Of a frozen process, with its descriptors, which stay open here."""
    assert process.exit.pidfd is not None
    assert process.exit.pid is not None
    control, held, lifeline = process.control.sock, process.connection.held, process.exit.lifeline
    unfinished = control.unfinished
    fds = [process.data.fileno(), control.fileno(), process.log.fileno(), process.exit.pidfd]
    if held is not None:
        fds.append(held.sock.fileno())
    rejoin = None if process.control.rejoin is None else process.control.rejoin.fileno()
    fds += [fd for fd in (unfinished.descriptor, rejoin, lifeline) if fd is not None]
    snapshot = ProcessSnapshot(
        pid=process.exit.pid,
        records=process.data.records.snapshot(),
        unread=unfinished.unread,
        unsent=unfinished.unsent,
        log=process.log.rest,
        held=None if held is None else held.snapshot(),
        has_descriptor=unfinished.descriptor is not None,
        has_rejoin=rejoin is not None,
        has_lifeline=lifeline is not None,
    )
    return snapshot, fds


def receive(
    reactor: Reactor, listener: OwnerListener, limits: ProcessLimits, snapshot: ProcessSnapshot, fds: Iterator[int]
) -> OwnerProcess:
    """The process of another supervisor, frozen. It takes its own descriptors from `fds`."""
    process = OwnerProcess(reactor, listener, limits)
    process.data.open(Connection(next(fds), writable=False), RecordReader.from_snapshot(snapshot.records))
    control = socket.socket(fileno=next(fds))
    process.log.open(Connection(next(fds), writable=False), snapshot.log)
    pidfd = next(fds)
    if snapshot.held is not None:
        process.connection.held = HeldConnection.from_snapshot(socket.socket(fileno=next(fds)), snapshot.held)
    descriptor = next(fds) if snapshot.has_descriptor else None
    process.control.open(control, Unfinished(snapshot.unread, snapshot.unsent, descriptor))
    if snapshot.has_rejoin:
        process.control.rejoin = socket.socket(fileno=next(fds))
    lifeline = next(fds) if snapshot.has_lifeline else None
    process.exit.open(AdoptedProcess(pidfd, lifeline), snapshot.pid, pidfd)
    process.adopt()
    return process
