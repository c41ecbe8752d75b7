"""One owner process on its way to another supervisor: what of it travels, and how it is made of that again.

What travels is all that `OwnerChild` knows: the ends of its pipes and sockets, what of them was read and is not complete, what
is not written yet, and the duplicate of its connection with the counts that go with it.
"""

from __future__ import annotations

import os
import socket
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator
from dataclasses import asdict
from multiprocessing.connection import Connection
from typing import Any

from wsadapter.contract.endpoint import Endpoint
from wsadapter.contract.ipc.commands import Custody
from wsadapter.contract.ipc.record import RecordReader
from wsadapter.handoff.held_connection import Announced, HeldConnection
from wsadapter.loop.reactor import Reactor
from wsadapter.process.launcher import AdoptedProcess, Launcher, Started
from wsadapter.process.lifecycle import State
from wsadapter.process.owner_process import Listener, OwnerChild


def can_go(child: OwnerChild) -> bool:
    """Whether it serves, lives, and can be watched by whoever is not its parent. One that is dead serves until its exit status
    is known."""
    watched = child._started is not None and child._started.pidfd is not None
    return child.state is State.SERVING and watched and not child.has_ended


def give_owner(child: OwnerChild) -> tuple[dict[str, Any], list[int]]:
    """What travels of a frozen owner, and its descriptors, which stay open here."""
    started, control, held = child._started, child._control, child._held
    assert started is not None
    assert started.pidfd is not None
    assert control is not None
    fds = [started.data.fileno(), control.fileno(), started.log.fileno(), started.pidfd]
    custody = None
    if held is not None:
        fds.append(held.sock.fileno())
        custody = {"counts": asdict(held._custody), "announced": _announced(held._announced)}
    if child._handed_fd is not None:
        fds.append(child._handed_fd)
    lifeline = started.process.lifeline
    if lifeline is not None:
        fds.append(lifeline)
    return {
        "pid": started.pid,
        "records": child._records.to_plain(),
        "commands": _text(child._commands._pending),
        "outgoing": _text(child._outgoing),
        "log": _text(child._log_rest),
        "custody": custody,
        "handed": child._handed_fd is not None,
        "lifeline": lifeline is not None,
        "fds": len(fds),
    }, fds


def take_owner(
    reactor: Reactor, listener: Listener, endpoint: Endpoint, plain: dict[str, Any], fds: Iterator[int],
    renounced: Callable[[Launcher], None],
) -> OwnerChild:  # fmt: skip
    """The owner that was given; it is to be thawed when the other supervisor has let go of it."""
    mine = [next(fds) for _ in range(plain["fds"])]
    data, control, log, pidfd = mine[:4]
    child = OwnerChild(
        reactor, None, listener, timeouts=endpoint.timeouts, watchdog=endpoint.watchdog, pipe_bytes=0, renounced=renounced
    )
    process = AdoptedProcess(pidfd, mine.pop() if plain["lifeline"] else None)
    child._started = Started(
        process,
        plain["pid"],
        pidfd,
        process.sentinel,
        Connection(data, writable=False),
        socket.socket(fileno=control),
        Connection(log, writable=False),
    )
    child.state = State.SERVING
    child._was_ready = True
    child._control = child._started.control
    child._data_fd = data
    child._records = RecordReader.from_plain(plain["records"])
    child._commands._pending += b64decode(plain["commands"])
    child._outgoing += b64decode(plain["outgoing"])
    child._log_rest = b64decode(plain["log"])
    if plain["custody"] is not None:
        child._held = HeldConnection(socket.socket(fileno=mine[4]), Custody(**plain["custody"]["counts"]))
        if (announced := plain["custody"]["announced"]) is not None:
            frame = b64decode(announced["frame"])
            child._held.announce(Announced(announced["ref"], announced["position"], frame, announced["allowed_at"]))
    if plain["handed"]:
        child._handed_fd = mine[-1]
    for fd in (data, control, log):
        os.set_blocking(fd, False)
    return child


def _announced(announced: Announced | None) -> dict[str, Any] | None:
    if announced is None:
        return None
    frame = _text(announced.frame)
    return {"ref": announced.ref, "position": announced.position, "frame": frame, "allowed_at": announced.allowed_at}


def _text(data: bytes | bytearray) -> str:
    return b64encode(data).decode()
