"""Outgoing frames, in order, without blocking. An urgent one overtakes those that wait, never half of one.

    waiting ──its turn──> made, slice by slice ──> announced ──taken──> sent, slice by slice ──> done
       └──────withdrawn, or too late: not sent────────┘

Only the first frame of a queue is ever beyond "waiting". No call of `flush` makes more than one slice of a frame, nor gives the
kernel more than `AT_ONCE` bytes: the owner's loop reads and answers in between.
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
"""Bytes that one `flush` gives the kernel at most."""
_SEALED: Final = 256 * 1024
"""Bytes that are sealed, which may mean encrypted, at a time."""
_MOST_URGENT: Final = 64
_OPCODE: Final = 0x0F

Fate = Literal["not_sent", "unknown"]
Frame = bytes | bytearray


class Maker(Protocol):
    """Makes a frame when its turn comes."""

    def step(self) -> Frame | None:
        """One slice of the work; the frame if that was the last one."""

    def drop(self) -> None:
        """The frame is not sent, though `step` may have been called."""


@dataclass(slots=True)
class _Outgoing:
    frame: Frame | None
    """None: not made yet."""
    maker: Maker | None
    ref: int
    until: float = inf
    """Monotonic seconds after which it must not be begun."""
    once: bool = False
    """No other process would send it."""

    def made(self) -> Frame | None:
        """The frame, always the same object, by which whoever it is announced to recognises it; None: there is more to make."""
        if self.frame is None and self.maker is not None:
            self.frame = self.maker.step()
        return self.frame


@dataclass(slots=True)
class _Current:
    """What is being sent: a frame, or bytes of TLS's own."""

    outgoing: _Outgoing | None = None
    """None: none, or TLS's own."""
    unsealed: memoryview = field(default_factory=lambda: memoryview(b""))
    """The rest of the frame."""
    rest: memoryview = field(default_factory=lambda: memoryview(b""))
    """What of it is sealed."""

    @property
    def begun(self) -> bool:
        """True if the kernel has not taken all of it."""
        return bool(self.rest or self.unsealed)


Announce = Callable[[int, int, Frame, float], bool]
"""Called with the ref, the position and the bytes of a frame before the first of them is sent, and with the time from which on
the pace allows the next frame; false: not now, ask again."""


class Sender:
    """The way out of one connection. Times are monotonic seconds. Not thread-safe."""

    def __init__(self, byte_stream: ByteStream, *, pace: float = 0.0, position: int = 0, allowed_at: float = 0.0) -> None:
        """`pace`: seconds between two frames. Urgent ones don't wait for it, but count. `position`: where the stream is.
        `allowed_at`: when a predecessor on the same connection could have sent its next frame."""
        self._byte_stream = byte_stream
        self._pace = pace
        self.position = position
        """How many bytes the kernel was given."""
        self.announce: Announce | None = None
        self.urgent_only = False
        """Only urgent frames may be begun."""
        self._closed = False
        """A close frame was begun: no frame may follow it (RFC 6455 §5.5.1)."""
        self.wants_flush = False
        """`flush` stopped to leave time for others, and waits for nothing: call it again soon."""
        self.allowed_at = allowed_at
        """From when on the pace allows the next frame."""
        self._announced: _Outgoing | None = None
        """What `announce` was told of and did not take yet. It is the next one, for to announce another before it would be to
        announce it again, and never to send it where others come fast enough."""
        self._urgent: deque[_Outgoing] = deque()
        self._waiting: deque[_Outgoing] = deque()
        self._overdue: list[int] = []
        self._current = _Current()
        self._since: float | None = None
        self.broken = ""
        """Why nothing can be sent any more; empty: it can."""

    def put(self, frame: Frame | Maker, *, ref: int = 0, urgent: bool = False, until: float = inf, once: bool = False) -> None:
        """Queues a frame, or what makes one when its turn comes; it is not begun after `until`. With a `ref` its fate is told
        by `flush`, `withdraw`, `overdue` or `abandon`. `once`: a successor on the connection would not send it again, see
        `can_hand_off`.

        A peer that sends pings without end and reads nothing gets answers to the newest ones (RFC 6455 §5.5.3).
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
        """Takes a frame back; false where that can't be: it is begun, or is not there."""
        for outgoing in self._waiting:
            if outgoing.ref == ref:
                self._waiting.remove(outgoing)
                self._dropped(outgoing)
                return True
        return False

    def overdue(self) -> list[int]:
        """Refs of the frames that `flush` met too late to begin them; each is told once."""
        refs, self._overdue = self._overdue, []
        return refs

    def complete(self, rest: bytes, ref: int, now: float) -> None:
        """Sends the rest of a frame first: a predecessor died in the middle of it."""
        if rest:
            self._current = _Current(_Outgoing(rest, None, ref), memoryview(rest))
            self._since = now

    @property
    def has_waiting(self) -> bool:
        """Whether frames wait that are not begun."""
        return bool(self._urgent or self._waiting) and not self.broken and not self._closed

    @property
    def blocked(self) -> bool:
        """Whether the kernel has not taken all of a frame: flush again when the socket is writable."""
        return self._current.begun and not self.broken

    @property
    def idle(self) -> bool:
        """Whether nothing waits for its turn, or can't be sent any more."""
        if self.broken or self._current.begun:
            return bool(self.broken)
        return self._closed or not (self._urgent or (self._waiting and not self.urgent_only))

    @property
    def can_hand_off(self) -> bool:
        """Whether another process could go on with the connection: no frame is begun or announced, none waits that only this
        process would send, and frames may follow."""
        if self.broken or self._closed or self._current.begun or self._announced is not None or self._urgent:
            return False
        return not any(outgoing.once for outgoing in self._waiting)

    @property
    def stuck_since(self) -> float | None:
        """Since when the current frame waits for the kernel, or nothing can be sent; None: neither."""
        return self._since

    def paced_until(self) -> float | None:
        """When the next frame may be sent; None: none waits for that."""
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
        """Sends as much as the kernel takes, up to `AT_ONCE`. Yields the ref of each frame that it now has all bytes of, before
        the next one is announced: of the frames before the last announced, the supervisor knows only what it was told."""
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
            # Not the end yet: the peer's last words may still be unread. Reading finds it out.
            self.broken = error.strerror or str(error)
            self._since = now

    def _seal(self) -> bool:
        """Seals more of the current frame; false if there is no more of it."""
        current = self._current
        if not current.unsealed:
            return False
        current.rest = memoryview(self._byte_stream.seal(current.unsealed[:_SEALED]))
        current.unsealed = current.unsealed[_SEALED:]
        return True

    def _next(self, now: float) -> bool:
        """Begins the next frame, or what TLS itself has to send; false if there is nothing to send now."""
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
        """Whose first frame is the next one; None: none may be begun now."""
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
        """Gives up all that is not sent; the refs of it and what became of them."""
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
