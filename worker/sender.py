"""Outgoing frames, in order, without blocking. An urgent one overtakes those that wait, never half of one."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import inf
from typing import Final, Literal

from wsadapter.worker.channel import Channel
from wsadapter.worker.frames import CLOSE

_MOST_URGENT: Final = 64
_OPCODE: Final = 0x0F

Fate = Literal["not_sent", "unknown"]


@dataclass(slots=True)
class _Outgoing:
    frame: bytes | Callable[[], bytes]
    """Made when it is to be sent, where those behind it will refer to it: till then it may be withdrawn."""
    ref: int
    until: float = inf
    """Monotonic seconds after which it must not be begun."""
    bound: bool = False
    """Those behind it will refer to it: it has to be sent."""


Announce = Callable[[int, int, bytes], bool]
"""Told ref, position and bytes of a frame before the first of them is sent; false: not now, ask again."""


class Sender:
    """The way out of one connection. Times are monotonic seconds. Not thread-safe."""

    def __init__(self, channel: Channel, *, pace: float = 0.0, position: int = 0) -> None:
        """`pace`: seconds between two frames. Urgent ones don't wait for it, but count. `position`: where the stream is."""
        self._channel = channel
        self._pace = pace
        self.position = position
        """How many bytes the kernel was given."""
        self.announce: Announce | None = None
        self.held = False
        """Only urgent frames may be begun."""
        self._closed = False
        """A close frame was begun: no frame may follow it (RFC 6455 §5.5.1)."""
        self._allowed_at = 0.0
        self._unheard = False
        """The next frame waits for its announcement to be taken, not for its time."""
        self._urgent: deque[_Outgoing] = deque()
        self._waiting: deque[_Outgoing] = deque()
        self._overdue: list[int] = []
        self._current: _Outgoing | None = None
        self._rest = memoryview(b"")
        self._since: float | None = None
        self.broken = ""
        """Why nothing can be sent any more; empty: it can."""

    def put(
        self, frame: bytes | Callable[[], bytes], *, ref: int = 0, urgent: bool = False, until: float = inf
    ) -> None:
        """Queues a frame, or what makes one when its turn comes; it is not begun after `until`. With a `ref` its fate is told
        by `flush`, `withdraw`, `overdue` or `abandon`.

        A peer that sends pings without end and reads nothing gets answers to the newest ones (RFC 6455 §5.5.3).
        """
        outgoing = _Outgoing(frame, ref, until)
        if not urgent:
            self._waiting.append(outgoing)
            return
        if len(self._urgent) >= _MOST_URGENT:
            self._urgent.popleft()
        self._urgent.append(outgoing)

    def withdraw(self, ref: int) -> bool:
        """Takes a frame back; false where that can't be: it is begun, or is not there."""
        for outgoing in self._waiting:
            if outgoing.ref == ref and not outgoing.bound:
                self._waiting.remove(outgoing)
                return True
        return False

    def overdue(self) -> list[int]:
        """Refs of the frames that `flush` met too late to begin them; each is told once."""
        refs, self._overdue = self._overdue, []
        return refs

    def complete(self, rest: bytes, ref: int, now: float) -> None:
        """Sends the rest of a frame first: a predecessor died in the middle of it."""
        if rest:
            self._current = _Outgoing(rest, ref)
            self._rest = memoryview(rest)
            self._since = now

    @property
    def waits(self) -> bool:
        """Whether frames wait that are not begun."""
        return bool(self._urgent or self._waiting) and not self.broken and not self._closed

    @property
    def blocked(self) -> bool:
        """Whether the kernel has not taken all of a frame: flush again when the socket is writable."""
        return bool(self._rest) and not self.broken

    @property
    def idle(self) -> bool:
        """Whether nothing waits for its turn, or can't be sent any more."""
        if self.broken or self._rest:
            return bool(self.broken)
        return self._closed or not (self._urgent or (self._waiting and not self.held))

    @property
    def stuck_since(self) -> float | None:
        """Since when the current frame waits for the kernel, or nothing can be sent; None: neither."""
        return self._since

    def paced_until(self) -> float | None:
        """When the next frame may be sent; None: none waits for that."""
        if not self._waiting or self._rest or self._unheard or self.broken or self.held or self._closed:
            return None
        return self._allowed_at

    def flush(self, now: float) -> Iterator[int]:
        """Sends as much as the kernel takes. Yields the ref of each frame that it now has all bytes of, before the next one is
        announced: of the frames before the last announced, the supervisor knows only what it was told."""
        try:
            while not self.broken and (self._rest or self._next(now)):
                size = self._channel.send(self._rest)
                self._rest = self._rest[size:]
                self.position += size
                if self._rest:
                    break
                self._since = None
                done, self._current = self._current, None
                if done is not None and done.ref:
                    yield done.ref
        except OSError as error:
            # Not the end yet: the peer's last words may still be unread. Reading finds it out.
            self.broken = error.strerror or str(error)
            self._since = now

    def _next(self, now: float) -> bool:
        """Puts the next frame, or what TLS itself has to say, into `_rest`."""
        queue = self._urgent or (self._waiting if now >= self._allowed_at and not self.held else None)
        if self._closed:
            queue = None
        if queue and queue[0].until <= now:
            self._drop_overdue(queue, now)
        frame = _made(queue[0]) if queue else b""
        self._unheard = bool(queue and self.announce is not None and not self.announce(queue[0].ref, self.position, frame))
        if self._unheard:
            return False
        self._current = queue.popleft() if queue else None
        if self._current is not None:
            self._allowed_at = max(self._allowed_at, now) + self._pace
            self._closed = frame[0] & _OPCODE == CLOSE
        self._rest = memoryview(self._channel.seal(frame))
        self._since = now if self._rest else None
        return bool(self._rest)

    def _drop_overdue(self, queue: deque[_Outgoing], now: float) -> None:
        while queue and queue[0].until <= now and not queue[0].bound:
            self._overdue.append(queue.popleft().ref)

    def abandon(self) -> list[tuple[int, Fate]]:
        """Gives up all that is not sent; the refs of it and what became of them."""
        fates: list[tuple[int, Fate]] = []
        if self._current is not None:
            fates.append((self._current.ref, "unknown"))
        fates += [(outgoing.ref, "not_sent") for outgoing in (*self._urgent, *self._waiting)]
        self._current, self._rest = None, memoryview(b"")
        self._urgent.clear()
        self._waiting.clear()
        return [(ref, fate) for ref, fate in fates if ref]


def _made(outgoing: _Outgoing) -> bytes:
    """Its frame; always the same object, by which whoever is told of it knows it again."""
    if not isinstance(outgoing.frame, bytes):
        outgoing.frame = outgoing.frame()
        outgoing.bound = True
    return outgoing.frame
