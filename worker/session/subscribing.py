"""The requests to the peer and what its answers lead to: readiness, the login, the subscriptions.

    up ──> [[ready]], settle ──> the user's frames, login ──> subscriptions   (readiness.py, login.py, worker/subscription/)

This module decides nothing about messages. It turns the steps of the login and of the subscriptions into actions, in their
order.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import orjson

from wsadapter.contract.dialect.templates import fill, stream_name
from wsadapter.contract.endpoint import Subscription
from wsadapter.contract.ipc.assignment import Assignment
from wsadapter.contract.ipc.reports import (
    ConnectionOpening,
    LoginDone,
    LogLine,
    PeerError,
    PeerNotice,
    Report,
    SubscriptionConfirmed,
    SubscriptionRejected,
)
from wsadapter.contract.reasons import Reason
from wsadapter.worker.session.actions import Action, Notify, Renew, Send, Sign
from wsadapter.worker.session.ending import Ending
from wsadapter.worker.session.heartbeat import Heartbeat
from wsadapter.worker.session.login import LoggedIn, Login, LoginFailed, LoginStep, ToRenew, ToSend, ToSign
from wsadapter.worker.session.readiness import Readiness
from wsadapter.worker.session.stream_watch import StreamWatch
from wsadapter.worker.subscription.asking import Asked, Step
from wsadapter.worker.subscription.frames import Question, Unsigned
from wsadapter.worker.subscription.subscriptions import Subscriptions, without, without_blame
from wsadapter.worker.websocket.frames import TEXT, encode_frame

_NUMBERS: Final = 1 << 16
"""More frames than one owner sends: the "$id" of each owner of a connection starts above those of the owners before."""


class Subscribing:
    """Of one connection. Times are monotonic seconds. Not thread-safe."""

    def __init__(self, assignment: Assignment, ending: Ending, heartbeat: Heartbeat) -> None:
        self._assignment = assignment
        self._ending = ending
        self._heartbeat = heartbeat
        number = _NUMBERS * (assignment.epoch - 1) if assignment.resume is not None else 0
        self.login = Login(
            assignment.dialect, assignment.endpoint, number=lambda: self.subscriptions.number(),
            challenge=assignment.challenge,
        )  # fmt: skip
        self.subscriptions = Subscriptions(
            assignment.dialect, number=number, channels=assignment.channels, login=self.login,
            pace=assignment.endpoint.limits.pace, live_timeout=assignment.endpoint.watchdog.live_timeout,
            reports_sent=assignment.custody,
        )  # fmt: skip
        self.streams = StreamWatch(assignment, self.subscriptions.channels)
        self.readiness = Readiness(assignment.dialect, within=assignment.endpoint.timeouts.handshake)
        self._unsigned: deque[tuple[Question | None, Mapping[str, Any]]] = deque()
        """Each frame that is at the hook `sign`, with its question; None: it is the login's frame."""
        self._wanted: Sequence[Subscription] = assignment.wanted
        """The subscriptions to request once frames may be sent."""
        self._blamed: Mapping[str, str] = assignment.blamed
        """The subscriptions to request last, or not at all: see `Assignment.blamed`."""
        self._sends_on_up = bool(assignment.endpoint.send_on_up or (assignment.dialect or {}).get("on_up"))
        self._noticed = False
        """It was reported that this connection is to be replaced."""

    @property
    def not_ready(self) -> bool:
        """True if only urgent frames may be sent yet."""
        return not self.readiness.done or self.login.pending

    @property
    def can_hand_off(self) -> bool:
        """True if the next owner of the connection would be able to continue with the frames that were sent. False while frames
        are due that only this owner has: those of on_up, and the login."""
        return not self.login.pending and (self.readiness.done or not self._sends_on_up)

    @property
    def awaits_signature(self) -> bool:
        """True if a frame is at the hook `sign`, and so not queued yet."""
        return bool(self._unsigned)

    # --- the beginning

    def inherit(self, now: float) -> Iterator[Action]:
        """The connection is a previous owner's: what that owner has requested is not requested again."""
        assignment = self._assignment
        self.readiness.skip()
        self._wanted = without(self._wanted, assignment.confirmed)
        self.subscriptions.inherit(
            assignment.confirmed, live=assignment.live, rejected=assignment.rejected, blamed=self._blamed,
            retry_at=assignment.retry_at, now=now,
        )  # fmt: skip
        self.streams.expect([stream_name(stream) for stream in assignment.confirmed], now)
        since = assignment.login_at
        yield from self.login_steps(self.login.start(now, now if since is None else since), now)

    def wait_for_peer(self, now: float) -> list[Action]:
        """Frames may not be sent yet: the peer's [[ready]] or the time to settle is awaited, perhaps since a previous owner."""
        if self._assignment.opening is not None:
            since, listens = self._assignment.opening
            self.readiness.inherit(since, awaits_ready=listens)
            return []
        self.readiness.start(now)
        return self._opening_changed()

    def _opening_changed(self) -> list[Action]:
        """Reports how far the readiness is, so that the next owner continues there."""
        opening = self.readiness
        report = ConnectionOpening(opening.since, opening.awaits_ready, opening.done)
        return [Notify(report)] if self._assignment.custody else []

    def begin(self, now: float) -> list[Action]:
        """Frames may be sent from now on."""
        self._heartbeat.start(now)
        rules = (self._assignment.dialect or {}).get("on_up", [])
        texts = [fill(rule["frame"], (), self.subscriptions.number(), time.time()) for rule in rules]
        texts += [text.encode() for text in self._assignment.endpoint.send_on_up]
        frames: list[Action] = [Send(encode_frame(TEXT, text), urgent=self.not_ready, once=True) for text in texts]
        return frames + list(self.login_steps(self.login.start(now), now))

    def peer_is_ready(self, now: float) -> list[Action]:
        """The peer's [[ready]] has come: begins if no time to settle is left."""
        begins = self.readiness.finish_if_due(now) and self._ending.open
        return [*self._opening_changed(), *(self.begin(now) if begins else ())]

    def begin_if_due(self, now: float) -> list[Action]:
        """Time has passed: begins once the time to settle is over."""
        return [*self._opening_changed(), *self.begin(now)] if self.readiness.finish_if_due(now) else []

    # --- the login

    def login_steps(self, steps: Iterable[LoginStep], now: float) -> Iterator[Action]:
        """What the login leads to."""
        for step in steps if self._ending.open else ():  # a connection that is being closed needs no login
            match step:
                case ToSign(frame):
                    self._unsigned.append((None, frame))
                    yield Sign(frame)
                case ToSend(frame):
                    yield Send(encode_frame(TEXT, orjson.dumps(frame)), urgent=True)
                case ToRenew():
                    yield Renew()
                case LoggedIn(at, first):
                    if self.login.used:
                        yield Notify(LoginDone(at, self.login.challenge))
                    if first and (self._wanted or self._assignment.resume is None or self._assignment.opening is not None):
                        retry_at = self._assignment.retry_at
                        yield from self.steps(self.subscriptions.restore(self._wanted, now, self._blamed, retry_at), now)
                case LoginFailed(text, first=True):
                    yield from self._not_logged_in(text)
                case LoginFailed(text):  # pragma: no branch - there is no other step (mypy)
                    yield from self.demand_reconnect(f"the login could not be renewed: {text}")

    def _not_logged_in(self, text: str) -> list[Action]:
        return self._ending.refused(Reason(kind="login_failed", text=text))

    def demand_reconnect(self, text: str) -> Iterator[Action]:
        """Reports that the connection is to be replaced; once per connection."""
        if not self._noticed:
            self._noticed = True
            yield Notify(PeerNotice(text))

    def signed(self, frame: Mapping[str, Any], now: float) -> list[Action]:
        """The hook `sign` has completed a frame: that of the first `Sign` that has no result yet."""
        question, unsigned = self._unsigned.popleft()
        self.login.secrets.learn(unsigned, frame)
        if question is None:
            return list(self.login_steps(self.login.signed(frame, now), now))
        if not self._ending.open:
            return []
        return [Send(encode_frame(TEXT, orjson.dumps(frame)), then=self.subscriptions.when_sent(question))]

    def not_signed(self, text: str, now: float, *, passing: bool = False) -> list[Action]:
        """The hook `sign` raised instead. `passing`: the cause may pass, so a frame that subscribes is signed again later."""
        question, _ = self._unsigned.popleft()
        if question is None:
            return list(self.login_steps([self.login.failed(text)], now))
        if not self._ending.open:
            return []
        if passing:
            return list(self.steps(self.subscriptions.not_signed(question, self.login.secrets.mask(text), now), now))
        return self._not_logged_in(text)

    def renewed(self, text: str, now: float) -> list[Action]:
        """The hook `renew` has returned; if `text` is not empty, it raised."""
        return list(self.login_steps([self.login.failed(text)] if text else self.login.renewed(now), now))

    # --- subscriptions

    def steps(self, steps: Iterable[Step], now: float) -> Iterator[Action]:
        """The actions of subscription steps: frames, frames to sign, and reports."""
        for step in steps:
            if isinstance(step, Unsigned):
                self._unsigned.append((step.question, step.frame))
                yield Sign(step.frame)
            elif isinstance(step, Report):
                if isinstance(step, SubscriptionConfirmed):
                    self.streams.expect([step.stream], now)
                yield Notify(self.without_secrets(step) if self.login.used else step)
            elif isinstance(step, Asked):
                yield Send(encode_frame(TEXT, step.text), then=step.report)
            else:
                yield Send(encode_frame(TEXT, step))

    def without_secrets(self, report: Report) -> Report:
        """The report with secrets of the login masked, if it quotes the peer: a peer may repeat a frame that it has
        received."""
        match report:
            case SubscriptionRejected():
                return replace(report, error=self.login.secrets.mask(report.error))
            case PeerError() | LogLine():
                return replace(report, text=self.login.secrets.mask(report.text))
        return report

    def subscribe(self, streams: list[Subscription], now: float) -> list[Action]:
        """More streams are wanted."""
        self.streams.add(streams)
        if self.not_ready:
            self._wanted = (*without(self._wanted, streams), *streams)
            self._blamed = without_blame(self._blamed, streams)
            return []
        return list(self.steps(self.subscriptions.subscribe(streams, now), now)) if self._ending.open else []

    def unsubscribe(self, streams: list[Subscription], now: float) -> list[Action]:
        """Fewer streams are wanted."""
        self.streams.remove(streams)
        if self.not_ready:
            self._wanted = without(self._wanted, streams)
            return []
        return list(self.steps(self.subscriptions.unsubscribe(streams, now), now)) if self._ending.open else []

    def resubscribe(self, streams: list[Subscription], now: float) -> list[Action]:
        """Subscribes these streams again, for a fresh snapshot if the peer sends one to a new subscriber."""
        if self.not_ready or not self._ending.open:  # they are not requested yet: the first request brings the snapshot
            return []
        return list(self.steps(self.subscriptions.resubscribe(streams, now), now))

    def check_stalls(self, now: float) -> list[Action]:
        """Reports streams that are silent for longer than their own pace explains, and subscribes them again."""
        if not self.streams.is_due(now):
            return []
        reports, again = self.streams.stalled(now)
        actions: list[Action] = [Notify(report) for report in reports]
        if again:
            actions += self.steps(self.subscriptions.resubscribe(again, now), now)
        if (learned := self.streams.learned()) is not None:
            actions.append(Notify(learned))
        return actions

    def closed(self, now: float) -> list[Action]:
        """The peer closed the connection without a reason: reports the subscriptions that may be the cause."""
        return [Notify(report) for report in self.subscriptions.closed(now)]
