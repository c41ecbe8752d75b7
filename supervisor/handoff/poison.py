"""A message that its owners die of, one after the other: it is cut out of the stream, so that the connection can go on.

An owner that is killed for another reason looks the same from outside. So an owner that goes on with a connection says where it
begins to parse what its predecessor left unread, and when that is over, and only a death between the two counts. After the
first one the next owner parses message by message: the place where it dies is then the beginning of the message.

What the dead owners left unread begins with it: the tail that came through their pipes, and what is in the kernel behind that.
Where its end has not come yet, it can't be cut out.
"""

from __future__ import annotations

import socket
from dataclasses import replace
from typing import Final

from wsadapter.contract.framing import message_end
from wsadapter.handoff.held_connection import Resumption

FRUITLESS: Final = 3
"""So many owners may die while they parse what stands at the same place of a stream, before it is cut out."""


class Suspicion:
    """Whether owners die of what stands at one place of a stream."""

    def __init__(self) -> None:
        self._place = -1
        self._deaths = 0

    def died(self, place: int, reading: int | None) -> bool:
        """An owner died, and the stream goes on at `place`; `reading` is where it had begun to parse what it was left, None
        where it had not, or was through with that. Whether too many died so."""
        if place != self._place:
            self._place, self._deaths = place, 0
        if reading == place:
            self._deaths += 1
        return self._deaths >= FRUITLESS

    def holds(self, place: int) -> bool:
        """Whether an owner died so at this place."""
        return place == self._place and self._deaths > 0


def cut_out(resumption: Resumption) -> tuple[Resumption, bytes] | None:
    """The connection behind the first message that nobody has read, and that message, frames and all. None where it can't be
    cut out."""
    resume, tail = resumption.resume, resumption.tail
    try:
        held = resumption.held.sock.recv(resumption.waiting, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except OSError:  # nothing is there, or it broke
        return None
    data = tail + held[resume.skip :]
    end = message_end(data)
    if end is None or end < len(tail):
        return None
    taken = end - len(tail)
    skip = resume.skip + taken
    behind = replace(resume, position=resume.position + taken, skip=skip, unread=len(held) - skip, careful=False)
    body = resumption.body[: resume.rest]
    return replace(resumption, resume=behind, body=body, tail=b""), data[:end]
