"""The conversation with one client: the client's frames and the time go in, and the steps to be carried out come out. Pure.

What the client does wrong is a `Violation`. If real exchanges end a connection for it, a `Disconnect` follows.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import count
from typing import Any, Final

import orjson

from wsadapter.contract.endpoint import Subscription
from wsadapter.testing import frames as ws
from wsadapter.testing.dialect.client_view import ClientView
from wsadapter.testing.dialect.delivery import Delivery
from wsadapter.testing.dialect.dialect_rules import DialectRules, Expected
from wsadapter.testing.dialect.heartbeats import Heartbeats, Terms
from wsadapter.testing.dialect.login import LoginCheck
from wsadapter.testing.dialect.overrides import Overrides
from wsadapter.testing.dialect.steps import Disconnect, HeartbeatSeen, Ping, SendFrame, Step, Unknown, Violation
from wsadapter.testing.dialect.subscriptions import ClientSubscriptions
from wsadapter.testing.dialect.understanding import Meaning
from wsadapter.testing.dialect.window import Window

WELCOME_AFTER: Final = 0.1
"""Seconds until the [[ready]] frame is sent: a client that does not wait for the frame is noticed."""
POLICY_VIOLATION: Final = 1008
HEARTBEAT_LOST: Final = 4000
_SETTLED: Final = 0.95
"""The part of `settle` that a client must wait: the clocks of two processes may differ a little."""


class Conversation:
    """One connection, from the end of the handshake on. Times are monotonic seconds. Not thread-safe."""

    def __init__(
        self,
        dialect_rules: DialectRules,
        terms: Terms,
        overrides: Overrides,
        view: ClientView,
        *,
        channels: Iterator[int],
        now: float,
    ) -> None:
        """`channels` gives numbers that no other stream of the exchange has."""
        self._dialect_rules = dialect_rules
        self._overrides = overrides
        self._view = view
        self._subscriptions = ClientSubscriptions(dialect_rules, overrides, view, channels)
        self._delivery = Delivery(overrides)
        self._login = LoginCheck(dialect_rules, overrides, f"challenge-{int(now * 1000)}")
        self._heartbeat_times = Heartbeats(terms, now)
        self._window = Window(dialect_rules.limits.sends, dialect_rules.limits.sends_period)
        self._opened_at = now
        self._welcome_at = None if dialect_rules.welcome() is None else now + WELCOME_AFTER
        self._asked = count(int(now * 1000))

    # time

    def deadline(self) -> float | None:
        """When to call `tick`; None: not before something happens."""
        if self._welcome_at is not None:
            return self._welcome_at
        times = (self._heartbeat_times.deadline(), self._delivery.deadline())
        return min((at for at in times if at is not None), default=None)

    def tick(self, now: float) -> Iterator[Step]:
        """Time has passed."""
        if self._welcome_at is not None:
            if now >= self._welcome_at:
                self._welcome_at = None
                refusal = self._overrides.welcome_refusal
                yield SendFrame(self._dialect_rules.replies.complain(refusal) if refusal else self._dialect_rules.welcome())
            return
        yield from self._delivery.tick(now)
        for due in self._heartbeat_times.due(now):
            match due:
                case "question":
                    yield from self._question(now)
                case "beat":
                    yield from self._heartbeats()
                case "ping":
                    payload = b"%d" % next(self._asked)
                    self._heartbeat_times.expect(payload, now)
                    yield Ping(payload)
        if text := self._heartbeat_times.overdue(now):
            yield Violation(text)
            yield Disconnect(HEARTBEAT_LOST if self._heartbeat_times.unanswered(now) else None, "heartbeat")

    def _question(self, now: float) -> Iterator[Step]:
        for rule, expected in self._dialect_rules.answers:
            frame = self._dialect_rules.question(rule, next(self._asked))
            self._heartbeat_times.expect((expected, frame), now)
            yield SendFrame(self._view.numbered(frame, composed=True))

    def _heartbeats(self) -> Iterator[Step]:
        for frame in self._dialect_rules.heartbeats():
            if (sent := self._view.heartbeat(frame, self._subscriptions.channels)) is not None:
                yield SendFrame(sent)

    def sent(self, now: float) -> None:
        """Something was sent to the client."""
        self._heartbeat_times.said(now)

    # what the client sends

    def control(self, opcode: int, payload: bytes, now: float) -> Iterator[Step]:
        """A control frame."""
        if opcode == ws.PONG and payload in self._pings():
            self._heartbeat_times.answered(next(ping for ping in self._pings() if ping == payload))
            yield HeartbeatSeen("pong")
        elif opcode == ws.PING:
            yield from self._too_early(now)
            if self._dialect_rules.heartbeat.kind == "ping":
                self._heartbeat_times.heard(now)
                yield HeartbeatSeen("heartbeat")

    def _pings(self) -> list[bytes]:
        return [answer for answer in self._heartbeat_times.expected if isinstance(answer, bytes)]

    def message(self, text: str, now: float) -> Iterator[Step]:
        """A text message."""
        try:
            value = orjson.loads(text)
        except orjson.JSONDecodeError:
            value = None
        for answer in self._heartbeat_times.expected:
            if isinstance(answer, tuple) and _answers(answer, text, value):
                self._heartbeat_times.answered(answer)
                yield HeartbeatSeen("answer")
                return
        yield from self._too_early(now)
        understood = self._dialect_rules.understanding.read(text, value)
        if understood.meaning is Meaning.HEARTBEAT:
            self._heartbeat_times.heard(now)
            yield HeartbeatSeen("heartbeat")
            yield from self._reply()
            return
        if self._window.exceeded(now):
            limits = self._dialect_rules.limits
            yield Violation(f"more than {limits.sends} frames in {limits.sends_period:g} s")
            yield Disconnect(POLICY_VIOLATION, "Too many requests")
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
            yield Violation("something was sent before the exchange's [[ready]]")
        elif (waited := now - self._opened_at) < self._dialect_rules.settle * _SETTLED:
            yield Violation(
                f"something was sent {waited:.2f} s after the handshake, settle is {self._dialect_rules.settle:g} s"
            )

    def _reply(self) -> Iterator[Step]:
        heartbeat = self._dialect_rules.heartbeat
        if heartbeat.reply and heartbeat.kind == "text":
            yield SendFrame(heartbeat.reply)
        elif heartbeat.reply:
            replies = orjson.loads(heartbeat.reply)
            yield SendFrame(self._view.numbered(replies[0] if isinstance(replies, list) else replies, composed=True))

    # what a test asks for

    def revoke(self, stream: Subscription, text: str) -> Iterator[Step]:
        """End a stream that was confirmed, with an error; nothing if this client has not subscribed the stream."""
        return self._subscriptions.revoke(stream, text)


def _answers(question: tuple[Expected, Any], text: str, value: Any) -> bool:
    expected, frame = question
    return expected.fits(text, value, frame)
