"""Messages that may be more than data: told apart, taken out, marked, with what they lead to in its place between the others.

These questions are asked of each message, in this order: Is there a gap in the exchange's numbers in front of it? Is it the
answer to a request? Binary, and so data? The peer's word to begin? Housekeeping? An answer to the login, to a heartbeat, to a
frame that subscribes? Else it is data of a stream.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from wsadapter.contract.dialect.streams import Stream
from wsadapter.contract.dialect.text import LONGEST_ANSWER, Text
from wsadapter.contract.ipc.commands import Assignment
from wsadapter.contract.ipc.record import ANSWER
from wsadapter.contract.ipc.reports import PeerError
from wsadapter.contract.reasons import Reason
from wsadapter.worker.session.actions import Action, Deliver, Leave, Say, Send
from wsadapter.worker.session.batch_splitter import Sieve
from wsadapter.worker.session.ending import Ending
from wsadapter.worker.session.heartbeat import Heartbeat
from wsadapter.worker.session.housekeeping import Found, Upkeep
from wsadapter.worker.session.login import LoginStep
from wsadapter.worker.session.subscribing import Subscribing
from wsadapter.worker.websocket.frames import TEXT, encode_frame
from wsadapter.worker.websocket.reader import Batch

if TYPE_CHECKING:
    from wsadapter.worker.session.identity import Identity
    from wsadapter.worker.session.requests import Requests


class Inspector:
    """Of one connection. Times are monotonic seconds. Not thread-safe."""

    def __init__(self, assignment: Assignment, ending: Ending, heartbeat: Heartbeat, subscribing: Subscribing) -> None:
        self._assignment = assignment
        self._ending = ending
        self._heartbeat = heartbeat
        self._subscribing = subscribing
        self._subscriptions = subscribing.subscriptions
        self._streams = subscribing.streams
        self._upkeep = Upkeep(assignment.dialect, subscribing.subscriptions.number)
        self._requests: Requests | None = None
        if assignment.requests:
            self._requests = _requests(assignment, assignment.requests)
        self._identity: Identity | None = None
        self.identify(on=assignment.identify)

    def expect(self, request: str) -> bool:
        """A request of this id is about to be sent; false if it would be mistaken for a frame that subscribes."""
        if self._subscriptions.uses(request):
            return False
        if self._requests is None:
            self._requests = _requests(self._assignment)
        self._requests.expect(request)
        return True

    def forget(self, requests: Iterable[str]) -> None:
        """Answers to these requests are not looked for any more."""
        if self._requests is not None:
            self._requests.forget(requests)

    def identify(self, *, on: bool) -> None:
        """Whether messages are to carry their identities from now on."""
        self._identity = _identity(self._assignment) if on else None

    def needs(self, data: bytes) -> bool:
        """True if the messages in `data` may have to be taken out, or told apart. False: they are delivered as they are."""
        return (
            self._identity is not None
            or self._heartbeat.listens
            or (self._requests is not None and self._requests.may_hold(data))
            or (self._assignment.dialect is not None and self._dialect_needs(data))
        )

    def _dialect_needs(self, data: bytes) -> bool:
        return (
            self._streams.tells
            or self._subscriptions.waiting
            or self._subscriptions.may_hold(data)
            or self._subscribing.opening.listens
            or self._subscribing.login.waits
            or self._upkeep.may_hold(data)
            or self._streams.may_count(data)
        )

    def messages(self, batch: Batch, now: float) -> Iterable[Action]:
        """What the messages of a read lead to, delivering them included."""
        if batch.joined or self.needs(batch.data):
            return urgent_first(self._inspected(batch, now))
        return (Deliver(batch, 0, batch.count),)

    def _inspected(self, batch: Batch, now: float) -> Iterator[Action]:
        """Takes out what is not data or not wanted, and puts what it leads to in its place between the messages. An answer to a
        request goes with the messages, marked: its bytes and the word that it has come are then one.

        One function, because a chain of recognisers would cost calls for each message of a dialect."""
        binary = set(batch.binary)
        heard: set[Stream] = set()
        joined, data = bool(batch.joined), batch.data
        attend = joined or self._upkeep.may_hold(data)
        answers = joined or self._subscriptions.may_hold(data)
        gaps = joined or self._streams.may_count(data)
        unheard = self._subscriptions.unheard
        watchful = self._watchful
        sieve = Sieve(batch, streams=self._streams.tells, identities=self._identity is not None)
        count = batch.count
        for at in range(count):
            text = Text(batch.payload(at))
            gap = self._streams.gap(text) if gaps and at not in binary else None
            if gap is not None:
                yield from sieve.cut(at)
                yield Say(gap)
            answer = self._requests.recognise(text) if self._requests is not None else None
            if answer is not None:
                yield from sieve.cut(at)
                yield Say(answer)
                sieve.mark(at, ANSWER)
                continue
            if self._identity is not None and sieve.identities is not None:
                sieve.identities[at] = self._identity.of(text)
            if at in binary:
                continue
            if watchful and (said := self._opened(text, now)) is not None:
                sieve.leave_out(at)
                yield from said
                watchful = self._watchful
                continue
            found = self._upkeep.judge(text) if attend else None
            if found is not None:
                yield from self._attend(found, now)
                if found.heartbeat and (stream := self._streams.of(text)) is not None:
                    yield from self._subscribing.steps(self._subscriptions.heard(stream.name, now), now)
                    heard.add(stream)
                if not self._assignment.endpoint.deliver_heartbeats:
                    sieve.leave_out(at)
                continue
            if watchful and (steps := self._awaited(text, now)) is not None:
                sieve.leave_out(at)
                if steps:
                    yield from sieve.cut(at + 1)
                    yield from self._subscribing.login_steps(steps, now)
                watchful = self._watchful
                continue
            answered = self._subscriptions.recognise(text, now) if answers else None
            if answered is not None:
                asked, is_data = answered
                if not is_data:
                    sieve.leave_out(at)
                if asked:
                    yield from sieve.cut(at if is_data else at + 1)
                    yield from self._subscribing.steps(asked, now)
                if not is_data:
                    continue
            stream = self._streams.of(text)
            if stream is None:
                continue
            if unheard and (asked := list(self._subscriptions.heard(stream.name, now))):
                yield from sieve.cut(at)
                yield from self._subscribing.steps(asked, now)
            if not stream.wanted:
                sieve.leave_out(at, filtered=True)
                continue
            heard.add(stream)
            if not stream.index and (report := self._streams.named(stream)) is not None:
                yield Say(report)
            sieve.mark(at, stream.index)
        self._streams.heard(heard, now)
        yield from sieve.cut(count)

    @property
    def _watchful(self) -> bool:
        """True if a message may be the peer's word to begin, or an answer to the login or to a heartbeat."""
        return self._subscribing.opening.listens or self._subscribing.login.waits or self._heartbeat.listens

    def _opened(self, text: Text, now: float) -> Iterable[Action] | None:
        """What to do if a message is the peer's word to begin, or its refusal; None: it is neither."""
        opening = self._subscribing.opening
        if not opening.listens:
            return None
        if opening.is_word(text):
            return self._subscribing.peer_is_ready(now)
        refusal = self._subscriptions.refusal(text)
        # The peer refused the connection instead of saying the dialect's [[ready]].
        return self._ending.refused(Reason(kind="not_ready", text=refusal)) if refusal else None

    def _awaited(self, text: Text, now: float) -> list[LoginStep] | None:
        """What an answer to the login leads to; empty: it is an answer to a heartbeat; None: it is neither."""
        login = self._subscribing.login
        steps = login.recognise(text, now) if login.waits else None
        if steps is not None:
            return steps
        return [] if self._is_heartbeat(text.payload, now) else None

    def _is_heartbeat(self, payload: bytes, now: float) -> bool:
        if not self._heartbeat.listens or len(payload) >= LONGEST_ANSWER:
            return False
        return self._heartbeat.answer(payload, now) and not self._assignment.endpoint.deliver_heartbeats

    def _attend(self, found: Found, now: float) -> Iterator[Action]:
        """Does what a message demands that is no data."""
        if found.heartbeat:
            self._heartbeat.beaten(now)
        if found.reply is not None and self._ending.open:
            yield Send(encode_frame(TEXT, found.reply), urgent=True)
        if found.notice is not None and found.reconnects:
            yield from self._subscribing.demand_reconnect(found.notice)
        elif found.notice is not None:
            yield Say(self._subscribing.without_secrets(PeerError(found.notice)))


def urgent_first(actions: Iterable[Action]) -> list[Action]:
    """What the peer waits for does not wait for the messages that came with it, and the end comes behind them."""
    actions = list(actions)
    if len(actions) < 2:
        return actions
    urgent: list[Action] = []
    others: list[Action] = []
    ends: list[Action] = []
    for action in actions:
        if isinstance(action, Leave):
            ends.append(action)
        else:
            (urgent if isinstance(action, Send) and action.urgent else others).append(action)
    return urgent + others + ends


def _requests(assignment: Assignment, ids: Iterable[str] = ()) -> Requests:
    from wsadapter.worker.session.requests import Requests  # most owners never need it

    return Requests(assignment.endpoint.request, ids)


def _identity(assignment: Assignment) -> Identity | None:
    from wsadapter.worker.session.identity import make_identity  # most owners never need it

    return make_identity(assignment.dialect, assignment.endpoint)
