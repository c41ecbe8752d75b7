"""One owner process on its way to another supervisor: what of it travels, and how it is made of that again.

What travels is all that `OwnerProcess` knows: the ends of its pipes and sockets, what of them was read and is not complete,
what is not written yet, and the duplicate of its connection with the counts that go with it.
"""

from __future__ import annotations

import socket
from base64 import b64decode, b64encode
from collections.abc import Iterator
from dataclasses import asdict
from multiprocessing.connection import Connection
from typing import Any

from wsadapter.contract.endpoint import Endpoint
from wsadapter.contract.ipc.assignment import Custody
from wsadapter.contract.ipc.command_socket import Unfinished
from wsadapter.contract.ipc.record import RecordReader
from wsadapter.handoff.held_connection import Announced, HeldConnection
from wsadapter.loop.reactor import Reactor
from wsadapter.process.launcher import AdoptedProcess
from wsadapter.process.lifecycle import State
from wsadapter.process.owner_process import Limits, OwnerListener, OwnerProcess


def can_go(child: OwnerProcess) -> bool:
    """Whether it serves, lives, and can be watched by whoever is not its parent. One that is dead serves until its exit status
    is known."""
    return child.state is State.SERVING and child.exit.pidfd is not None and not child.exit.has_ended


def give_owner(child: OwnerProcess) -> tuple[dict[str, Any], list[int]]:
    """What travels of a frozen owner, and its descriptors, which stay open here."""
    assert child.exit.pidfd is not None
    control, held = child.control.sock, child.connection.held
    fds = [child.data.fileno(), control.fileno(), child.log.fileno(), child.exit.pidfd]
    custody = None
    if held is not None:
        fds.append(held.sock.fileno())
        announced = held._announced
        plain = None if announced is None else asdict(announced) | {"frame": _text(announced.frame)}
        custody = {"counts": asdict(held._custody), "announced": plain}
    unfinished, lifeline = control.unfinished, child.exit.lifeline
    fds += [fd for fd in (unfinished.descriptor, lifeline) if fd is not None]
    return {
        "pid": child.pid,
        "records": child.data.records.to_plain(),
        "commands": _text(unfinished.unread),
        "outgoing": _text(unfinished.unsent),
        "log": _text(child.log.rest),
        "custody": custody,
        "handed": unfinished.descriptor is not None,
        "lifeline": lifeline is not None,
        "fds": len(fds),
    }, fds


def take_owner(
    reactor: Reactor, listener: OwnerListener, endpoint: Endpoint, plain: dict[str, Any], fds: Iterator[int]
) -> OwnerProcess:
    """The owner that was given; it is to be thawed when the other supervisor has let go of it."""
    mine = [next(fds) for _ in range(plain["fds"])]
    data, control, log, pidfd = mine[:4]
    lifeline = mine.pop() if plain["lifeline"] else None
    descriptor = mine.pop() if plain["handed"] else None
    child = OwnerProcess(reactor, listener, Limits(endpoint.timeouts, endpoint.watchdog))
    child.data.open(Connection(data, writable=False), RecordReader.from_plain(plain["records"]))
    unfinished = Unfinished(b64decode(plain["commands"]), b64decode(plain["outgoing"]), descriptor)
    child.control.open(socket.socket(fileno=control), unfinished)
    child.log.open(Connection(log, writable=False), b64decode(plain["log"]))
    child.exit.open(AdoptedProcess(pidfd, lifeline), plain["pid"], pidfd)
    if plain["custody"] is not None:
        held = HeldConnection(socket.socket(fileno=mine[4]), Custody(**plain["custody"]["counts"]))
        if (announced := plain["custody"]["announced"]) is not None:
            held.announce(Announced(**announced | {"frame": b64decode(announced["frame"])}))
        child.connection.held = held
    child.adopt()
    return child


def _text(data: bytes | bytearray) -> str:
    return b64encode(data).decode()
