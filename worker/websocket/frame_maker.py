"""Makes one masked frame of a large message in slices, so that the owner's loop reads and answers between the slices."""

from __future__ import annotations

import zlib
from typing import Final, Protocol

from wsadapter.worker.websocket.frames import RSV1, apply_mask, frame_head, new_mask

SLICE: Final = 64 * 1024
"""Bytes of the message per slice: a few milliseconds to deflate, a tenth of one to mask."""
_LONGEST_HEAD: Final = 14
_FLUSHED: Final = b"\x00\x00\xff\xff"
"""The end of every compressed message, which is removed before sending (RFC 7692 §7.2.1)."""


class Deflates(Protocol):
    """Provides the stream that deflates a message."""

    def begin(self) -> zlib._Compress:
        """The stream for the next message."""

    def restart(self) -> None:
        """The message that was begun last is not sent, so no other message may refer to it."""


class FrameMaker:
    """One message. Not thread-safe."""

    def __init__(self, opcode: int, payload: bytes, deflater: Deflates | None = None, *, key: bytes | None = None) -> None:
        """`deflater`: compresses the message; None: it is sent uncompressed. `key`: the 4-byte masking key; None: a random
        one."""
        self._opcode = opcode
        self._rest = memoryview(payload)
        self._deflater = deflater
        self._stream: zlib._Compress | None = None
        self._key = new_mask() if key is None else key
        self._frame = bytearray(_LONGEST_HEAD)
        """Room for the head, which contains the length of the frame, and the masked payload as far as it is made."""

    def step(self) -> bytearray | None:
        """Makes the next slice; returns the frame if that was the last slice, otherwise None."""
        if self._deflater is not None and self._stream is None:
            self._stream = self._deflater.begin()
        piece: bytes | memoryview = self._rest[:SLICE]
        self._rest = self._rest[SLICE:]
        if self._stream is not None:
            piece = self._stream.compress(piece)
            if not self._rest:
                piece = (piece + self._stream.flush(zlib.Z_SYNC_FLUSH))[: -len(_FLUSHED)]
        made = (len(self._frame) - _LONGEST_HEAD) % len(self._key)
        self._frame += apply_mask(piece, self._key[made:] + self._key[:made])
        return None if self._rest else self._finished()

    def drop(self) -> None:
        """The frame is not sent. May be called before or after `step`."""
        if self._deflater is not None and self._stream is not None:
            self._deflater.restart()

    def _finished(self) -> bytearray:
        opcode = self._opcode | (RSV1 if self._stream is not None else 0)
        head = frame_head(opcode, len(self._frame) - _LONGEST_HEAD, self._key)
        begin = _LONGEST_HEAD - len(head)
        self._frame[begin:_LONGEST_HEAD] = head
        del self._frame[:begin]
        return self._frame
