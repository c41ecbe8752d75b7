"""The conversation with one client: what it says and what time it is go in, what to do comes out. Pure.

What it does wrong is a `Note`; what exchanges end a connection for ends it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, Final

import orjson

from wsadapter.contract.endpoint import Subscription
from wsadapter.testing import frames as ws
from wsadapter.testing.dialect.beats import Beats, Terms
from wsadapter.testing.dialect.inverse import Asked, Template
from wsadapter.testing.dialect.orders import Orders, name_of
from wsadapter.testing.dialect.outlet import Outlet
from wsadapter.testing.dialect.speech import Meaning, Speech
from wsadapter.testing.dialect.window import Window

WELCOME_AFTER: Final = 0.1
"""Seconds until the [[ready]] frame is sent: who does not wait for it shows that."""
POLICY_VIOLATION: Final = 1008
HEARTBEAT_LOST: Final = 4000
_SETTLED: Final = 0.95
"""Of `settle`: the clocks of two processes may run a little apart."""
_NO_LOGIN: Final = "log in first"


@dataclass(frozen=True, slots=True)
class Say:
    """Send a frame, JSON or a text as it is. `answer`: it may be held back."""

    frame: Any
    answer: bool = False


@dataclass(frozen=True, slots=True)
class Ping:
    """Send a protocol ping."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class Leave:
    """End the connection; without a code, that of TCP alone."""

    code: int | None
    reason: str


@dataclass(frozen=True, slots=True)
class Note:
    """The client did something wrong."""

    text: str


@dataclass(frozen=True, slots=True)
class Beat:
    """The client showed that it is there: by a "heartbeat" of its own, an "answer" or a "pong"."""

    kind: str


@dataclass(frozen=True, slots=True)
class Open:
    """A stream's data begin."""

    stream: str


@dataclass(frozen=True, slots=True)
class Shut:
    """A stream's data end."""

    stream: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """The dialect does not know this frame."""

    text: str


Step = Say | Ping | Leave | Note | Beat | Open | Shut | Unknown


class Talk:
    """One connection, from the end of the handshake on. Times are monotonic seconds. Not thread-safe."""

    def __init__(
        self, speech: Speech, terms: Terms, orders: Orders, outlet: Outlet, *, channels: Iterator[int], now: float
    ) -> None:
        """`channels` gives numbers that no other stream of the exchange has."""
        self._speech = speech
        self._orders = orders
        self._outlet = outlet
        self._numbers = channels
        self._channels: dict[str, int] = {}
        """What a stream, or a part of one, is called on this connection."""
        self._beats = Beats(terms, now)
        self._window = Window(speech.limits.sends, speech.limits.sends_period)
        self._opened_at = now
        self._welcome_at = None if speech.welcome() is None else now + WELCOME_AFTER
        self._asked = count(int(now * 1000))
        self._logged_in = False

    # what time it is

    def deadline(self) -> float | None:
        """When to call `tick`; None: not before something happens."""
        return self._beats.deadline() if self._welcome_at is None else self._welcome_at

    def tick(self, now: float) -> Iterator[Step]:
        """Time has passed."""
        if self._welcome_at is not None:
            if now >= self._welcome_at:
                self._welcome_at = None
                yield Say(self._speech.welcome())
            return
        for due in self._beats.due(now):
            match due:
                case "question":
                    yield from self._question(now)
                case "beat":
                    yield from self._heartbeats()
                case "ping":
                    payload = b"%d" % next(self._asked)
                    self._beats.expect(payload, now)
                    yield Ping(payload)
        if text := self._beats.overdue(now):
            yield Note(text)
            yield Leave(HEARTBEAT_LOST if self._beats.unanswered(now) else None, "heartbeat")

    def _question(self, now: float) -> Iterator[Step]:
        for rule, template in self._speech.answers:
            frame = self._speech.question(rule, next(self._asked))
            self._beats.expect((template, frame), now)
            yield Say(self._outlet.numbered(frame, composed=True))

    def _heartbeats(self) -> Iterator[Step]:
        for frame in self._speech.heartbeats():
            if (sent := self._outlet.heartbeat(frame, self._channels)) is not None:
                yield Say(sent)

    def sent(self, now: float) -> None:
        """Something went to the client."""
        self._beats.said(now)

    # what the client says

    def control(self, opcode: int, payload: bytes, now: float) -> Iterator[Step]:
        """A control frame."""
        if opcode == ws.PONG and payload in self._pings():
            self._beats.answered(next(ping for ping in self._pings() if ping == payload))
            yield Beat("pong")
        elif opcode == ws.PING:
            yield from self._too_early(now)
            if self._speech.heartbeat.kind == "ping":
                self._beats.heard(now)
                yield Beat("heartbeat")

    def _pings(self) -> list[bytes]:
        return [answer for answer in self._beats.expected if isinstance(answer, bytes)]

    def message(self, text: str, now: float) -> Iterator[Step]:
        """A text message."""
        try:
            value = orjson.loads(text)
        except orjson.JSONDecodeError:
            value = None
        for answer in self._beats.expected:
            if isinstance(answer, tuple) and _answers(answer, value):
                self._beats.answered(answer)
                yield Beat("answer")
                return
        yield from self._too_early(now)
        understood = self._speech.understand(text, value)
        if understood.meaning is Meaning.HEARTBEAT:
            self._beats.heard(now)
            yield Beat("heartbeat")
            yield from self._reply()
            return
        if self._window.exceeded(now):
            limits = self._speech.limits
            yield Note(f"more than {limits.sends} frames in {limits.sends_period:g} s")
            yield Leave(POLICY_VIOLATION, "Too many requests")
            return
        match understood.meaning:
            case Meaning.LOGIN:
                yield from self._login(understood.asked)
            case Meaning.SUBSCRIBE:
                signed = understood.signed or self._logged_in
                yield from self._subscribe(understood.asked, len(text.encode()), signed=signed)
            case Meaning.UNSUBSCRIBE:
                yield from self._unsubscribe(understood.asked)
            case Meaning.UNKNOWN:
                yield Unknown(text)

    def _too_early(self, now: float) -> Iterator[Step]:
        if self._welcome_at is not None:
            yield Note("something was sent before the exchange's [[ready]]")
        elif (waited := now - self._opened_at) < self._speech.settle * _SETTLED:
            yield Note(f"something was sent {waited:.2f} s after the handshake, settle is {self._speech.settle:g} s")

    def _reply(self) -> Iterator[Step]:
        heartbeat = self._speech.heartbeat
        if heartbeat.reply and heartbeat.kind == "text":
            yield Say(heartbeat.reply)
        elif heartbeat.reply:
            replies = orjson.loads(heartbeat.reply)
            yield Say(self._outlet.numbered(replies[0] if isinstance(replies, list) else replies, composed=True))

    def _login(self, asked: Asked) -> Iterator[Step]:
        self._logged_in = not self._orders.login_refusal
        answer = self._speech.logged_in(asked, self._orders.login_refusal)
        if answer is not None:
            yield Say(answer, answer=True)

    # subscriptions

    def _subscribe(self, asked: Asked, size: int, *, signed: bool) -> Iterator[Step]:
        streams = {name_of(stream): stream for stream in asked.streams or []}
        if wrong := self._wrong(streams, size, signed=signed):
            yield Note(wrong)
            yield from self._refuse(asked, {name: (stream, wrong) for name, stream in streams.items()})
            return
        orders = self._orders
        refused = {name: (stream, orders.rejected[name]) for name, stream in streams.items() if name in orders.rejected}
        taken = {name: stream for name, stream in streams.items() if name not in refused and name not in orders.ignored}
        if not self._speech.answers_each and len(refused) + len(taken) < len(streams):
            return  # one is to be ignored, and only the frame as a whole can be
        if refused and self._speech.lists_accepted and taken:
            refused = {}  # they are missing from the list, and that is all
        elif refused and not self._speech.refuses_each:
            text = next(iter(refused.values()))[1]
            refused, taken = {name: (stream, text) for name, stream in streams.items()}, {}
        yield from self._refuse(asked, refused)
        yield from self._take(asked, taken)

    def _wrong(self, streams: Mapping[str, Subscription], size: int, *, signed: bool) -> str:
        settings = self._speech.settings
        per_frame, longest = settings.get("per_frame", 1), settings.get("max_frame", 0)
        most = settings.get("per_connection", 0)
        if len(streams) > per_frame:
            return f"{len(streams)} streams in one frame, {per_frame} are allowed"
        if longest and size > longest:
            return f"a frame of {size} bytes, {longest} are allowed"
        if most and len(self._outlet.current.keys() | streams.keys()) > most:
            return f"more than {most} streams on one connection"
        if self._orders.login_required and not signed:
            return _NO_LOGIN
        return ""

    def _refuse(self, asked: Asked, refused: Mapping[str, tuple[Subscription, str]]) -> Iterator[Step]:
        if refused:
            yield from self._answers(self._speech.refusals(asked, refused))

    def _take(self, asked: Asked, taken: Mapping[str, Subscription]) -> Iterator[Step]:
        if not taken:
            return
        fresh = [name for name in taken if name not in self._outlet.current]
        for stream in taken.values():
            self._call(stream)
            self._outlet.open(stream, self._channels)
        current = list(self._outlet.current.values())
        yield from self._answers(self._speech.acknowledgements(asked, list(taken.values()), current, self._channels))
        for name in fresh:
            yield Open(name)

    def _call(self, stream: Subscription) -> None:
        """Gives a stream, or each part of it, its channel, where the dialect has such."""
        if self._speech.gives_channels:
            for part in self._speech.entries(stream):
                if name_of(part) not in self._channels:
                    self._channels[name_of(part)] = next(self._numbers)

    def _unsubscribe(self, asked: Asked) -> Iterator[Step]:
        left = self._left(asked)
        if not left:
            yield Note(f"unsubscribes the channel {asked.channel!r}, which it does not have")
            return
        for stream in left:
            self._outlet.shut(name_of(stream))
            yield Shut(name_of(stream))
        yield from self._answers(self._speech.farewells(asked, left, list(self._outlet.current.values()), self._channels))
        for stream in left:
            for part in self._speech.entries(stream):
                self._channels.pop(name_of(part), None)

    def _left(self, asked: Asked) -> Sequence[Subscription]:
        if asked.streams is not None:
            return asked.streams
        names = [name for name, channel in self._channels.items() if channel == asked.channel]
        current = self._outlet.current.values()
        return [stream for stream in current if any(name_of(part) in names for part in self._speech.entries(stream))]

    def _answers(self, frames: Iterator[Any]) -> Iterator[Step]:
        return (Say(self._outlet.numbered(frame, composed=True), answer=True) for frame in frames)


def _answers(question: tuple[Template, Any], value: Any) -> bool:
    template, frame = question
    return template.read(value, frame) is not None
