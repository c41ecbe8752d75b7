"""The conversation with one client: what it says and what time it is go in, what to do comes out. Pure.

What it does wrong is a `Note`; what exchanges end a connection for ends it.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import count
from typing import Any, Final

import orjson

from wsadapter.contract.endpoint import Subscription
from wsadapter.testing import frames as ws
from wsadapter.testing.dialect.client_view import Outlet
from wsadapter.testing.dialect.delivery import Delivery
from wsadapter.testing.dialect.heartbeats import Beats, Terms
from wsadapter.testing.dialect.login import Login
from wsadapter.testing.dialect.overrides import Orders
from wsadapter.testing.dialect.rules import Expected, Speech
from wsadapter.testing.dialect.steps import Beat, Leave, Note, Ping, Say, Step, Unknown
from wsadapter.testing.dialect.subscriptions import Subscriptions
from wsadapter.testing.dialect.understanding import Meaning
from wsadapter.testing.dialect.window import Window

WELCOME_AFTER: Final = 0.1
"""Seconds until the [[ready]] frame is sent: who does not wait for it shows that."""
POLICY_VIOLATION: Final = 1008
HEARTBEAT_LOST: Final = 4000
_SETTLED: Final = 0.95
"""Of `settle`: the clocks of two processes may run a little apart."""


class Talk:
    """One connection, from the end of the handshake on. Times are monotonic seconds. Not thread-safe."""

    def __init__(
        self, speech: Speech, terms: Terms, orders: Orders, outlet: Outlet, *, channels: Iterator[int], now: float
    ) -> None:
        """`channels` gives numbers that no other stream of the exchange has."""
        self._speech = speech
        self._orders = orders
        self._outlet = outlet
        self._subscriptions = Subscriptions(speech, orders, outlet, channels)
        self._delivery = Delivery(orders)
        self._login = Login(speech, orders, f"challenge-{int(now * 1000)}")
        self._beats = Beats(terms, now)
        self._window = Window(speech.limits.sends, speech.limits.sends_period)
        self._opened_at = now
        self._welcome_at = None if speech.welcome() is None else now + WELCOME_AFTER
        self._asked = count(int(now * 1000))

    # what time it is

    def deadline(self) -> float | None:
        """When to call `tick`; None: not before something happens."""
        if self._welcome_at is not None:
            return self._welcome_at
        times = (self._beats.deadline(), self._delivery.deadline())
        return min((at for at in times if at is not None), default=None)

    def tick(self, now: float) -> Iterator[Step]:
        """Time has passed."""
        if self._welcome_at is not None:
            if now >= self._welcome_at:
                self._welcome_at = None
                refusal = self._orders.welcome_refusal
                yield Say(self._speech.replies.complain(refusal) if refusal else self._speech.welcome())
            return
        yield from self._delivery.tick(now)
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
        for rule, expected in self._speech.answers:
            frame = self._speech.question(rule, next(self._asked))
            self._beats.expect((expected, frame), now)
            yield Say(self._outlet.numbered(frame, composed=True))

    def _heartbeats(self) -> Iterator[Step]:
        for frame in self._speech.heartbeats():
            if (sent := self._outlet.heartbeat(frame, self._subscriptions.channels)) is not None:
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
            if isinstance(answer, tuple) and _answers(answer, text, value):
                self._beats.answered(answer)
                yield Beat("answer")
                return
        yield from self._too_early(now)
        understood = self._speech.understanding.read(text, value)
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
            case Meaning.CHALLENGE:
                yield from self._login.challenge(understood.asked)
            case Meaning.LOGIN:
                yield from self._login.log_in(understood.asked)
            case Meaning.SUBSCRIBE | Meaning.UNSUBSCRIBE:
                size, wrong = len(text.encode()), self._login.refuses(understood)
                yield from self._delivery.frame(partial(self._subscriptions.frame, understood, size, wrong), now)
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

    # what a test has ordered

    def revoke(self, stream: Subscription, text: str) -> Iterator[Step]:
        """A stream that was confirmed ends, with an error; nothing where this client does not have it."""
        return self._subscriptions.revoke(stream, text)


def _answers(question: tuple[Expected, Any], text: str, value: Any) -> bool:
    expected, frame = question
    return expected.fits(text, value, frame)
