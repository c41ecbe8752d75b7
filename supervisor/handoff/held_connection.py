"""The supervisor's duplicate of an owner's socket, with which the next owner continues the connection without a loss.

The duplicate keeps the connection open: the peer sees neither FIN nor RST. The owner discards bytes from the socket only after
they are in its pipe, so every byte is in one of the two. The kernel's counters, read when nobody reads the socket any more,
show how many bytes are in both. A frame is announced before it is sent, so the counters also show how much of it was sent.

    owner's CUSTODY ──> held ── owner dead, connection alive ──> Resumption ── HANDOFF ──> held, by its successor
                          └──── owner left, peer closed, too late ──> closed

What an owner still had to send when it died, and what the next owner does about it. The connection is in custody when the first
two rows have been sent; if there are none of these, from the handshake on. The report "opening" says whether the dialect's
[[ready]] and `settle` are over; if they are not, the next owner waits for the rest.

    in the queues of the dead owner      | known by                         | the next owner
    frames of on_up and `send_on_up`     | -                                | sends none
    challenge, login                     | report "login"                   | logs in by `renew_after` only
    subscriptions, where acks are        | no answer is known               | asks for them
    subscriptions, where nothing is acked| no report "asked"                | asks for them
    changes of subscriptions             | no TAKEN                         | is sent them (subscription_sender.py)
    the user's messages and requests     | neither ANNOUNCE, BEGUN nor TAKEN| sends none: `NotConnected`, `NotSent`
    a frame that is half out             | ANNOUNCE and the kernel's counter| sends its rest
    pongs and [[answer]]                 | -                                | answers the pings that it reads itself
    heartbeats                           | report "heartbeat"               | sends the next one when it is due
    a close frame                        | ANNOUNCE                         | there is none: the connection ends

A subscription that was sent and not answered is requested twice. A ping is answered twice if its answer was sent and its bytes
were not in the pipe yet: an owner sends an answer before it records what it read, so that no ping stays without an answer. The
pace (`limits.sends`) is kept: CUSTODY and ANNOUNCE contain the time at which the next frame may be sent.
"""

from __future__ import annotations

import os
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final
from weakref import WeakSet

from wsadapter.contract.ipc.assignment import Custody, Resume
from wsadapter.contract.ipc.commands import AnnounceCommand
from wsadapter.contract.ipc.tcp_info import CLOSE_WAIT, ESTABLISHED, Counters, counters

_CLOSE_OPCODE: Final = 0x8
_NO_LINGER: Final = struct.pack("ii", 0, 0)


class NotResumable(Exception):
    """No owner can continue with the connection without a loss; the text gives the reason."""


@dataclass(frozen=True, slots=True)
class Announced:
    """The last frame that an owner was about to send."""

    ref: int
    position: int
    """Of its first byte in the owners' stream."""
    frame: bytes
    allowed_at: float = 0.0
    """When the pace of the connection allows the next frame, in monotonic seconds."""

    @classmethod
    def from_body(cls, ref: int, body: bytes) -> Announced:
        """From an ANNOUNCE. Raises `ValueError`."""
        announced = AnnounceCommand.decode(body)
        return cls(ref, announced.position, announced.frame, announced.allowed_at)

    @property
    def closes(self) -> bool:
        """Whether it is a close frame."""
        return bool(self.frame) and self.frame[0] & 0x0F == _CLOSE_OPCODE


@dataclass(frozen=True, slots=True)
class Resumption:
    """What the next owner gets."""

    held: HeldConnection
    resume: Resume
    body: bytes
    """The body of HANDOFF."""
    tail: bytes
    """The bytes of an unfinished message, at the end of `body`."""
    sent: int
    """The ref of the frame that is known to be sent by now; 0: there is none."""
    waiting: int
    """Bytes that the kernel holds."""


@dataclass(frozen=True, slots=True)
class HeldSnapshot:
    """What goes with a connection in custody to another supervisor, besides its socket."""

    custody: Custody
    announced: Announced | None


class HeldConnection:
    """A connection in custody. Used under the reactor's lock."""

    def __init__(self, sock: socket.socket, custody: Custody, announced: Announced | None = None) -> None:
        """`announced`: the last frame that the owner was about to send, None if it has announced none."""
        self.sock = sock
        self._custody = custody
        self._announced = announced
        _alive.add(self)

    def snapshot(self) -> HeldSnapshot:
        """For another supervisor."""
        return HeldSnapshot(self._custody, self._announced)

    @classmethod
    def from_snapshot(cls, sock: socket.socket, snapshot: HeldSnapshot) -> HeldConnection:
        """The connection that another supervisor held."""
        return cls(sock, snapshot.custody, snapshot.announced)

    def announce(self, announced: Announced) -> None:
        """A frame is about to be sent; all frames before it were sent."""
        self._announced = announced

    def resumption(self, position: int, tail: bytes, up: dict[str, Any]) -> Resumption:
        """How the next owner continues. The owner must be dead, and its pipe and control socket read to their end.

        `position` and `tail` are those of the last record. Raises `NotResumable`.
        """
        kernel = counters(self.sock)
        if kernel is None:
            raise NotResumable("the kernel does not report the positions of its streams")
        return self._planned(kernel, position, tail, up)

    def _planned(self, kernel: Counters, position: int, tail: bytes, up: dict[str, Any]) -> Resumption:
        custody, announced = self._custody, self._announced
        if kernel.state != ESTABLISHED and not (kernel.state == CLOSE_WAIT and kernel.unread):
            raise NotResumable("the connection is closed, or being closed")
        if announced is not None and announced.closes:
            raise NotResumable("the owner was about to close it")
        skip = custody.received + position - kernel.read
        if not 0 <= skip <= kernel.unread:
            raise NotResumable(f"{-skip} bytes were read from the socket that never came through the pipe")
        sent = kernel.written - custody.sent
        if sent < 0:
            raise NotResumable("the owner counted more bytes than the kernel was given")
        rest, done, ref = b"", 0, 0
        if announced is not None:
            out = sent - announced.position
            if 0 < out < len(announced.frame):
                rest, ref = announced.frame[out:], announced.ref
            elif out >= len(announced.frame):
                done = announced.ref
        resume = Resume(
            custody=custody, position=position, skip=skip, sent=sent, rest=len(rest), ref=ref, up=up,
            unread=kernel.unread - skip, allowed_at=custody.allowed_at if announced is None else announced.allowed_at,
        )  # fmt: skip
        return Resumption(self, resume, rest + tail, tail, done, kernel.unread)

    def close(self) -> None:
        """End the connection, also for other processes that hold it: while a duplicate is open, the peer would see nothing."""
        with suppress(OSError):  # the peer, or the owner, was faster
            # `close` would wait for the peer if an owner has set SO_LINGER (socket(7)), and the reactor must not wait.
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
            self.sock.shutdown(socket.SHUT_RDWR)
        self.sock.close()


_alive: WeakSet[HeldConnection] = WeakSet()


def _let_go_after_fork() -> None:
    for held in list(_alive):
        held.sock.close()  # only the fork's duplicate: the connection belongs to the parent


os.register_at_fork(after_in_child=_let_go_after_fork)
