"""A message that its owners die of, one after the other: it is cut out of the stream, so that the connection can go on.

What the dead owners left unread begins with it: the tail that came through their pipes, and what is in the kernel behind that.
Only frame headers are looked at (RFC 6455 §5.2). Where its end has not come yet, it can't be cut out.
"""

from __future__ import annotations

import socket
from dataclasses import replace
from typing import Final

from wsadapter.custody import Resumption

_FIN: Final = 0x80
_CONTROL: Final = 0x08
_MASKED: Final = 0x80
_SHORT: Final = 126
_LONG: Final = 127


def message_end(data: bytes) -> int | None:
    """Where the first message in `data` ends, control frames within it included; None where it does not, or is no message."""
    at = 0
    while at + 2 <= len(data):
        first, second = data[at], data[at + 1]
        size, at = second & 0x7F, at + 2
        if size >= _SHORT:
            width = 2 if size == _SHORT else 8
            size, at = int.from_bytes(data[at : at + width]), at + width
        at += size
        if second & _MASKED or at > len(data):
            return None
        if first & _FIN and not first & _CONTROL:
            return at
    return None


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
    behind = replace(resume, position=resume.position + taken, skip=resume.skip + taken)
    body = resumption.body[: resume.rest]
    unread = len(held) > behind.skip
    return replace(resumption, resume=behind, body=body, tail=b"", unread=unread), data[:end]
