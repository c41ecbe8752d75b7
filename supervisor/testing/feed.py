"""The data of a test exchange: their source, their times, and the clients that get them. Runs in the exchange's event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, count, islice, repeat
from typing import Any, Literal, NamedTuple, Protocol

from wsadapter.contract.errors import WrongType
from wsadapter.testing.frames import BINARY, TEXT, encode_frame, encode_message
from wsadapter.testing.recording import Recorded, Recording
from wsadapter.testing.script import Frame

Rate = float | Literal["real"] | None
"""Messages per second; "real": at the recording's own pace; None or 0: as fast as the clients take it."""
Messages = Sequence[Frame] | Recording | Callable[[], Iterable[Frame]]

_BATCH_BYTES = 256 * 1024
_BATCH_LIMIT = 4096
_SMALLEST_STEP = 0.001


class Timed(NamedTuple):
    """A message, ready to be sent."""

    due: float
    """Seconds after the start of the feed."""
    frame: bytes


class Listener(Protocol):
    """Gets the messages: a connection."""

    @property
    def ready(self) -> asyncio.Event:
        """Set while more can be taken."""

    def send_messages(self, frames: list[bytes]) -> None:
        """Send the messages, or lose them if the client is muted."""


class MessageSource:
    """The messages of a feed. Every call of `open` begins with the first one.

    Raises `WrongType` for a single message, `ValueError` for impossible settings: "real" pace without stamps, a negative rate,
    an endless loop of nothing.
    """

    def __init__(self, messages: Messages, *, rate: Rate, loop: bool) -> None:
        if isinstance(messages, str | bytes | bytearray):
            raise WrongType("messages: expected a list of messages, got one; write [...] around it")
        if rate == "real" and not isinstance(messages, Recording):
            raise ValueError('rate="real" needs a recording: only that has stamps')
        if not callable(messages) and loop and not messages:
            raise ValueError("loop=True needs at least one message")
        given: Any = rate
        if given not in (None, "real") and (isinstance(given, str) or not given >= 0):
            raise ValueError(f'rate is "real", None or messages per second, not {rate!r}')
        self._rate = rate
        self.paced = bool(rate)
        self._step = 1 / rate if rate and rate != "real" else 0.0
        self._loop = loop
        self._messages = messages
        self._real = rate == "real"
        self._timed = [] if callable(messages) else self._time(messages)

    def open(self) -> Iterator[Timed]:
        """All messages from the start."""
        if callable(self._messages):
            return self._generate(self._messages)
        if not self._loop:
            return iter(self._timed)
        return self._repeat() if self.paced else chain.from_iterable(repeat(self._timed))

    @property
    def listed(self) -> Sequence[Frame] | Recording:
        """The messages, if they are known beforehand; empty if a function makes them."""
        return () if callable(self._messages) else self._messages

    def part(self, keep: Callable[[Frame | Recorded], bool]) -> MessageSource:
        """A source with only the messages for which `keep` returns true, at the same rate; "real" pace begins with the first of
        them. Messages that a function makes are all kept."""
        messages = self._messages
        if callable(messages):
            return self
        kept = [message for message in messages if keep(message)]
        if isinstance(messages, Recording):
            recorded = [message for message in kept if isinstance(message, Recorded)]
            return MessageSource(Recording(messages.name, recorded), rate=self._rate, loop=self._loop and bool(kept))
        return MessageSource([m for m in kept if not isinstance(m, Recorded)], rate=self._rate, loop=self._loop and bool(kept))

    def _time(self, messages: Sequence[Frame] | Recording) -> list[Timed]:
        """Encoded once, so that many connections at full speed cost no more."""
        if isinstance(messages, Recording):
            began = messages[0].offset if messages else 0.0
            return [
                Timed(m.offset - began if self._real else number * self._step, _encode(m)) for number, m in enumerate(messages)
            ]
        return [Timed(number * self._step, _encode(message)) for number, message in enumerate(messages)]

    def _generate(self, make: Callable[[], Iterable[Frame]]) -> Iterator[Timed]:
        number = 0
        while True:
            before = number
            for message in make():
                yield Timed(number * self._step, _encode(message))
                number += 1
            if not self._loop or number == before:
                return

    def _repeat(self) -> Iterator[Timed]:
        last = self._timed[-1].due
        length = last + (max(last / len(self._timed), _SMALLEST_STEP) if self._real else self._step)
        for round_number in count():
            began = round_number * length
            for due, frame in self._timed:
                yield Timed(began + due, frame)


def _encode(message: Frame | Recorded) -> bytes:
    if isinstance(message, Recorded):
        return encode_frame(BINARY if message.binary else TEXT, message.payload)
    return encode_message(message)


class FeedPump:
    """Sends a source's messages when they are due.

    With `live` there is one pump for all connections, and the clock runs even without clients: messages that no client gets are
    lost, as on a real exchange. Otherwise each connection has its own pump, and due messages wait for the connection.
    """

    def __init__(
        self, source: MessageSource, listeners: Callable[[], Sequence[Listener]], running: asyncio.Event, *, live: bool
    ) -> None:
        self._messages = source.open()
        self._paced = source.paced
        self._listeners = listeners
        self._running = running
        self._waits = not (live and source.paced)
        self._next: Timed | None = None
        self._batch = 1
        self.joined = asyncio.Event()
        """Set when a listener was added."""

    async def run(self) -> None:
        """Until the messages are used up."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        while True:
            began += await self._while_paused(loop)
            if self._waits:
                await self._until_all_ready()
            if (message := self.peek()) is None:
                return
            if self._paced and (wait := began + message.due - loop.time()) > 0:
                await asyncio.sleep(wait)
                continue  # it may have been paused, or the message taken, meanwhile
            self._deliver(self._take_due(loop.time() - began) if self._paced else self._take_batch())
            await asyncio.sleep(0)

    def peek(self) -> Timed | None:
        """The message to be sent next; None at the end."""
        if self._next is None:
            self._next = next(self._messages, None)
        return self._next

    def take(self) -> Timed | None:
        """The same, and it will not be sent."""
        message, self._next = self.peek(), None
        return message

    async def _while_paused(self, loop: asyncio.AbstractEventLoop) -> float:
        since = loop.time()
        if self._running.is_set():
            return 0.0
        await self._running.wait()
        return loop.time() - since

    async def _until_all_ready(self) -> None:
        while True:
            listeners = self._listeners()
            waiting = [listener for listener in listeners if not listener.ready.is_set()]
            if listeners and not waiting:
                return
            if waiting:
                await waiting[0].ready.wait()
            else:
                self.joined.clear()
                await self.joined.wait()

    def _take_due(self, elapsed: float) -> list[bytes]:
        frames: list[bytes] = []
        size = 0
        while size < _BATCH_BYTES and (message := self.peek()) is not None and message.due <= elapsed:
            self._next = None
            frames.append(message.frame)
            size += len(message.frame)
        return frames

    def _take_batch(self) -> list[bytes]:
        """About 256 KiB, judged by the batch before: looking at each message would cost more than sending it."""
        first = self.take()
        if first is None:
            return []
        frames = [first.frame, *(message.frame for message in islice(self._messages, self._batch - 1))]
        self._batch = max(1, min(_BATCH_LIMIT, _BATCH_BYTES * len(frames) // sum(map(len, frames))))
        return frames

    def _deliver(self, frames: list[bytes]) -> None:
        if frames:
            for listener in self._listeners():
                listener.send_messages(frames)


def flood_frames(size: int) -> Iterator[bytes]:
    """Made-up messages of about `size` bytes, numbered, without end."""
    filler = "x" * max(0, size - 30)
    for number in count(1):
        yield encode_message(f'{{"flood":{number},"filler":"{filler}"}}')
