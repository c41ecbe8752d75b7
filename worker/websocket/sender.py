"""Sends frames in order, without blocking. An urgent frame overtakes the frames that wait, but never a frame that is half sent.

    waiting ──its turn──> made, slice by slice ──> announced ──taken──> sent, slice by slice ──> done
       └──────withdrawn, or too late: not sent────────┘

Only the first frame of a queue is ever beyond "waiting". No call of `flush` makes more than one slice of a frame, or passes
more than `AT_ONCE` bytes to the kernel, so that the owner's loop reads and answers in between.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from math import inf
from typing import Final, Literal, Protocol

from wsadapter.worker.websocket.byte_stream import ByteStream
from wsadapter.worker.websocket.frames import CLOSE

AT_ONCE: Final = 1 << 20
"""The most bytes that one `flush` passes to the kernel."""
_SEALED: Final = 256 * 1024
"""Bytes that are sealed (with TLS: encrypted) at a time."""
_MOST_URGENT: Final = 64
_OPCODE: Final = 0x0F

Fate = Literal["not_sent", "unknown"]
Frame = bytes | bytearray


class Maker(Protocol):
    """Makes a frame when its turn comes."""

    def step(self) -> Frame | None:
        """Does one slice of the work; returns the frame if that was the last slice."""

    def drop(self) -> None:
        """The frame is not sent; `step` may have been called."""


@dataclass(slots=True)
class _Outgoing:
    frame: Frame | None
    """None: it is not made yet."""
    maker: Maker | None
    ref: int
    until: float = inf
    """Monotonic seconds after which it must not be begun."""
    once: bool = False
    """The next owner of the connection would not send it."""

    def made(self) -> Frame | None:
        """The frame; None: it is not completely made. Always the same object, by which `announce` recognises the frame."""
        if self.frame is None and self.maker is not None:
            self.frame = self.maker.step()
        return self.frame


@dataclass(slots=True)
class _Current:
    """The bytes that are being sent: a frame, or bytes of TLS itself."""

    outgoing: _Outgoing | None = None
    """The frame; None: nothing, or bytes of TLS itself."""
    unsealed: memoryview = field(default_factory=lambda: memoryview(b""))
    """The part of the frame that is not sealed yet."""
    rest: memoryview = field(default_factory=lambda: memoryview(b""))
    """The sealed part that the kernel has not taken."""

    @property
    def begun(self) -> bool:
        """True if the kernel has not accepted all its bytes."""
        return bool(self.rest or self.unsealed)


Announce = Callable[[int, int, Frame, float], bool]
"""Called before the first byte of a frame is sent: the ref, the stream position, the frame, and the time from which the pace
allows the next frame. False: the frame must not be sent yet, ask again."""


class Sender:
    """Sends the frames of one connection. Times are monotonic seconds. Not thread-safe."""

    def __init__(self, byte_stream: ByteStream, *, pace: float = 0.0, position: int = 0, allowed_at: float = 0.0) -> None:
        """`pace`: seconds between two frames; urgent frames do not wait for it, but count. `position`: bytes of the stream that
        were sent before. `allowed_at`: when a previous owner of the connection could have sent its next frame."""
        self._byte_stream = byte_stream
        self._pace = pace
        self.position = position
        """How many bytes of the stream the kernel has taken."""
        self.announce: Announce | None = None
        self.urgent_only = False
        """Only urgent frames may be begun."""
        self._closed = False
        """A close frame was begun: no frame may follow it (RFC 6455 §5.5.1)."""
        self.wants_flush = False
        """`flush` stopped to leave time for other work, and waits for nothing: call it again soon."""
        self.allowed_at = allowed_at
        """From when on the pace allows the next frame."""
        self._announced: _Outgoing | None = None
        """The frame for which `announce` has returned false. No other frame overtakes it, not even an urgent one: it would
        have to be announced again, and if urgent frames came fast enough, it would never be sent."""
        self._urgent: deque[_Outgoing] = deque()
        self._waiting: deque[_Outgoing] = deque()
        self._overdue: list[int] = []
        self._current = _Current()
        self._since: float | None = None
        self.broken = ""
        """Why nothing can be sent any more; empty: frames can be sent."""

    def put(self, frame: Frame | Maker, *, ref: int = 0, urgent: bool = False, until: float = inf, once: bool = False) -> None:
        """Queues a frame, or the maker of a frame, which is not begun after `until`. If `ref` is not 0, `flush`, `withdraw`,
        `overdue` or `abandon` reports what became of the frame. `once`: the next owner of the connection would not send it, see
        `can_hand_off`.

        If a peer sends pings without end and reads nothing, only the newest are answered (RFC 6455 §5.5.3): the queue is
        bounded.
        """
        if isinstance(frame, (bytes, bytearray)):
            outgoing = _Outgoing(frame, None, ref, until, once)
        else:
            outgoing = _Outgoing(None, frame, ref, until, once)
        if not urgent:
            self._waiting.append(outgoing)
            return
        if len(self._urgent) >= _MOST_URGENT:
            del self._urgent[1 if self._urgent[0] is self._announced else 0]
        self._urgent.append(outgoing)

    def withdraw(self, ref: int) -> bool:
        """Removes a frame from the queue; false if it is begun, or is not in the queue."""
        for outgoing in self._waiting:
            if outgoing.ref == ref:
                self._waiting.remove(outgoing)
                self._dropped(outgoing)
                return True
        return False

    def overdue(self) -> list[int]:
        """Refs of the frames whose `until` had passed when their turn came; each is returned once."""
        refs, self._overdue = self._overdue, []
        return refs

    def complete(self, rest: bytes, ref: int, now: float) -> None:
        """Sends the rest of a frame before everything else: the previous owner died in the middle of it."""
        if rest:
            self._current = _Current(_Outgoing(rest, None, ref), memoryview(rest))
            self._since = now

    @property
    def has_waiting(self) -> bool:
        """True if frames wait that are not begun."""
        return bool(self._urgent or self._waiting) and not self.broken and not self._closed

    @property
    def blocked(self) -> bool:
        """True if the kernel has not taken all of a frame: call `flush` when the socket is writable."""
        return self._current.begun and not self.broken

    @property
    def idle(self) -> bool:
        """True if no frame waits that may be sent now, or nothing can be sent any more."""
        if self.broken or self._current.begun:
            return bool(self.broken)
        return self._closed or not (self._urgent or (self._waiting and not self.urgent_only))

    @property
    def can_hand_off(self) -> bool:
        """True if another process could continue the connection: no frame is begun or announced, no frame waits that only this
        process would send, and frames may follow."""
        if self.broken or self._closed or self._current.begun or self._announced is not None or self._urgent:
            return False
        return not any(outgoing.once for outgoing in self._waiting)

    @property
    def stuck_since(self) -> float | None:
        """Since when the current frame waits for the kernel, or since when nothing can be sent; None: neither."""
        return self._since

    def paced_until(self) -> float | None:
        """When the pace allows the next frame; None: no frame waits for the pace."""
        if (
            not self._waiting
            or self._current.begun
            or self._announced is not None
            or self.broken
            or self.urgent_only
            or self._closed
        ):
            return None
        return self.allowed_at

    def flush(self, now: float) -> Iterator[int]:
        """Sends as much as the kernel takes, up to `AT_ONCE` bytes. Yields the ref of each frame that the kernel now has,
        before the next frame is announced: if the owner dies, the supervisor can reconstruct only the last announced frame, so
        it must be notified of the outcome of all earlier frames."""
        left, current = AT_ONCE, self._current
        self.wants_flush = False
        try:
            while not self.broken and (current.rest or self._seal() or self._next(now)):
                if not left:
                    self.wants_flush = True
                    break
                offered = current.rest[:left]
                size = self._byte_stream.send(offered)
                current.rest = current.rest[size:]
                self.position += size
                left -= size
                if size < len(offered):
                    break
                if not current.begun:
                    self._since = None
                    done, current.outgoing = current.outgoing, None
                    if done is not None and done.ref:
                        yield done.ref
        except OSError as error:
            # Not the end of the connection yet: the peer's last messages may still be unread. Reading will detect the end.
            self.broken = error.strerror or str(error)
            self._since = now

    def _seal(self) -> bool:
        """Seals more of the current frame; false if all of it is sealed."""
        current = self._current
        if not current.unsealed:
            return False
        current.rest = memoryview(self._byte_stream.seal(current.unsealed[:_SEALED]))
        current.unsealed = current.unsealed[_SEALED:]
        return True

    def _next(self, now: float) -> bool:
        """Begins the next frame, or bytes that TLS itself wants to send; false if there is nothing to send now."""
        queue = self._queue(now)
        if queue and queue[0].until <= now:
            self._drop_overdue(queue, now)
        if not queue:
            self._current.rest = memoryview(self._byte_stream.seal(b""))
            self._since = now if self._current.rest else None
            return bool(self._current.rest)
        frame = queue[0].made()
        if frame is None:
            self.wants_flush = True
            return False
        allowed_at = max(self.allowed_at, now) + self._pace
        if self.announce is not None and not self.announce(queue[0].ref, self.position, frame, allowed_at):
            self._announced = queue[0]
            return False
        self._announced = None
        self._current.outgoing = queue.popleft()
        self.allowed_at = allowed_at
        self._closed = frame[0] & _OPCODE == CLOSE
        self._current.unsealed = memoryview(frame)
        self._since = now
        return self._seal()

    def _queue(self, now: float) -> deque[_Outgoing] | None:
        """The queue whose first frame is next; None: no frame may be begun now."""
        if self._closed:
            return None
        if self._announced is not None:
            return self._urgent if self._urgent and self._urgent[0] is self._announced else self._waiting
        return self._urgent or (self._waiting if now >= self.allowed_at and not self.urgent_only else None)

    def _drop_overdue(self, queue: deque[_Outgoing], now: float) -> None:
        while queue and queue[0].until <= now:
            outgoing = queue.popleft()
            self._dropped(outgoing)
            self._overdue.append(outgoing.ref)

    def _dropped(self, outgoing: _Outgoing) -> None:
        if outgoing is self._announced:
            self._announced = None
        if outgoing.maker is not None:
            outgoing.maker.drop()

    def abandon(self) -> list[tuple[int, Fate]]:
        """Drops everything that is not sent; returns the refs and what became of each frame."""
        fates: list[tuple[int, Fate]] = []
        if self._current.outgoing is not None:
            fates.append((self._current.outgoing.ref, "unknown"))
        fates += [(outgoing.ref, "not_sent") for outgoing in (*self._urgent, *self._waiting)]
        self.wants_flush = False
        self._announced = None
        self._current = _Current()
        self._urgent.clear()
        self._waiting.clear()
        return [(ref, fate) for ref, fate in fates if ref]
