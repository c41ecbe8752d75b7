"""What a test exchange sends to one client: compressed, encrypted, at the configured pace, or held back.

    messages ──> [deflate] ──┐
    frames, raw bytes ───────┴─> [TLS] ──> at once, or slowly: what waits is sent piece by piece ──> TCP

While the client is muted nothing is sent. A frame that was cut in the middle is completed when the client is unmuted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from wsadapter.testing.context import ExchangeContext
from wsadapter.testing.deflate import Deflate
from wsadapter.testing.tls import ServerTls

_BACKLOG = 64 * 1024
"""Bytes that may wait for the configured pace before the feed waits."""


class ClientOutput:
    """The sending side of one connection. Used in the exchange's event loop only."""

    def __init__(
        self, transport: asyncio.Transport, tls: ServerTls | None, context: ExchangeContext, changed: Callable[[], None]
    ) -> None:
        """`changed` is called when `is_blocked` or `muted` may have changed."""
        self.deflate: Deflate | None = None
        """Set if the client agreed to permessage-deflate."""
        self.muted = False
        """Whether nothing is sent."""
        self.congested = False
        """Whether the transport's buffer is full."""
        self._transport, self._tls, self._context = transport, tls, context
        self._changed = changed
        self._cut_off = b""
        """The rest of the frame in whose middle the client was muted."""
        self._waiting = bytearray()
        """Bytes that wait for the configured pace."""
        self._timer: asyncio.TimerHandle | None = None

    @property
    def size(self) -> int:
        """Bytes that the client has not taken yet."""
        return self._transport.get_write_buffer_size() + len(self._waiting)

    @property
    def is_blocked(self) -> bool:
        """Whether the feed has to wait before it sends more."""
        return self.muted or self.congested or len(self._waiting) > _BACKLOG

    def put(self, pieces: Sequence[bytes]) -> None:
        """Send encoded frames, also to a client that is muted."""
        if self._tls is None:
            self.write(b"".join(pieces))
        else:
            self.write(self._tls.encrypt([b"".join(pieces)] if self._context.coalesce else pieces))

    def put_messages(self, messages: Sequence[bytes]) -> None:
        """Send encoded messages, compressed if the client agreed to that. Every compressed message must be sent, because the
        messages after it refer to it."""
        self.put(messages if self.deflate is None else [self.deflate.compress(frame) for frame in messages])

    def write(self, data: bytes) -> None:
        """Send bytes without encryption: those of TLS itself, or what `put` has encrypted."""
        if self._context.misbehaviour.bytes_per_second or self._waiting:
            self._waiting += data
            if self._timer is None:
                self._send_some()
            self._changed()
        else:
            self._transport.write(data)

    def flush(self) -> None:
        """Send at once all bytes that wait for the configured pace."""
        if self._waiting:
            self._transport.write(bytes(self._waiting))
            self._waiting.clear()

    def mute(self) -> None:
        """Send nothing from now on; TCP stays up."""
        self.muted = True
        self._changed()

    def mute_within(self, frame: bytes) -> None:
        """Send the first half of a frame, and nothing from then on."""
        cut = max(1, len(frame) // 2)
        self.put([frame[:cut]])
        self._cut_off = frame[cut:]
        self.mute()

    @property
    def is_cut(self) -> bool:
        """Whether the client was muted in the middle of a frame."""
        return bool(self._cut_off)

    def unmute(self, *, complete: bool) -> None:
        """Send again, first the rest of a frame that was cut in the middle; not `complete`: that frame stays cut."""
        self.muted = False
        rest, self._cut_off = self._cut_off if complete else b"", b""
        if rest:
            self.put([rest])
        self._send_some()
        self._changed()

    def change_pace(self) -> None:
        """The configured pace has changed: the waiting bytes are sent at the new pace."""
        self.stop()
        self._send_some()
        self._changed()

    def stop(self) -> None:
        """Discard the waiting bytes."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _send_some(self) -> None:
        """Send as many of the waiting bytes as the pace allows now, and call again for the rest."""
        self._timer = None
        if self.muted or not self._waiting:
            return
        rate = self._context.misbehaviour.bytes_per_second
        tick = max(0.02, 1 / rate) if rate else 0.0
        allowed = round(rate * tick) if rate else len(self._waiting)
        self._transport.write(bytes(self._waiting[:allowed]))
        del self._waiting[:allowed]
        if self._waiting:
            self._timer = asyncio.get_running_loop().call_later(tick, self._send_some)
        self._changed()
