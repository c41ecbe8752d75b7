"""A message that kills owner after owner is cut out of the stream, so that the connection can continue.

An owner that is killed for another reason looks the same from outside. So an owner that continues with a connection reports the
position at which it begins to parse what its predecessor left unread, and when it has finished; only a death between the two
reports counts. After the first one, the next owner parses message by message, so it dies at the beginning of the message.

The bytes that the dead owners left unread begin with the message: the tail that came through their pipes, and behind it what is
in the kernel. If the end of the message has not come yet, it can't be cut out.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass, replace
from typing import Final

from wsadapter.contract.framing import message_end
from wsadapter.handoff.held_connection import Resumption

FRUITLESS: Final = 3
"""The number of owners that must die while they parse the message at one position before the message is cut out."""


@dataclass(slots=True)
class Suspicion:
    """Counts the owners that die at one position of a stream. A takeover transfers it unchanged."""

    place: int = -1
    deaths: int = 0
    """Deaths of owners that were parsing the message at `place`."""

    def died(self, place: int, reading: int | None) -> bool:
        """An owner died, and the stream continues at `place`. `reading`: the position at which the owner had begun to parse
        what its predecessor left unread; None: it had not begun, or had finished. Returns whether too many died in this way."""
        if place != self.place:
            self.place, self.deaths = place, 0
        if reading == place:
            self.deaths += 1
        return self.deaths >= FRUITLESS

    def holds(self, place: int) -> bool:
        """Whether an owner died in this way at this position."""
        return place == self.place and self.deaths > 0


def cut_out(resumption: Resumption) -> tuple[Resumption, bytes] | None:
    """The connection without its first unread message, and the frames of that message. None if it can't be cut out."""
    resume, tail = resumption.resume, resumption.tail
    try:
        held = resumption.held.sock.recv(resumption.waiting, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except OSError:  # the kernel has nothing, or the connection broke
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
