"""Inspects messages that may be more than data, and turns them into actions at their place between the other messages.

For each message these questions are asked, in this order. Is there a gap in the exchange's numbers before it? Is it the answer
to a request? Is it binary, and therefore data? Is it the peer's [[ready]]? Is it housekeeping? Is it an answer to the login,
to a heartbeat, or to a frame that subscribes? Otherwise the message is data of a stream.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from typing import TYPE_CHECKING

from wsadapter.contract.dialect.streams import Stream
from wsadapter.contract.dialect.text import LONGEST_ANSWER, Text
from wsadapter.contract.ipc.assignment import Assignment
from wsadapter.contract.ipc.record import ANSWER
from wsadapter.contract.ipc.reports import PeerError
from wsadapter.contract.reasons import Reason
from wsadapter.worker.session.actions import Action, Deliver, Disconnect, Notify, Send
from wsadapter.worker.session.ending import Ending
from wsadapter.worker.session.heartbeat import Heartbeat
from wsadapter.worker.session.housekeeping import Housekeeping, HousekeepingMatch
from wsadapter.worker.session.login import LoginStep
from wsadapter.worker.session.read_splitter import ReadSplitter
from wsadapter.worker.session.subscribing import Subscribing
from wsadapter.worker.websocket.frames import TEXT, encode_frame
from wsadapter.worker.websocket.reader import ReadResult

if TYPE_CHECKING:
    from wsadapter.worker.session.identity import Identity
    from wsadapter.worker.session.requests import Requests


class Inspector:
    """The inspection of one connection's messages. Times are monotonic seconds. Not thread-safe."""

    def __init__(self, assignment: Assignment, ending: Ending, heartbeat: Heartbeat, subscribing: Subscribing) -> None:
        self._assignment = assignment
        self._ending = ending
        self._heartbeat = heartbeat
        self._subscribing = subscribing
        self._subscriptions = subscribing.subscriptions
        self._streams = subscribing.streams
        self._housekeeping = Housekeeping(assignment.dialect, subscribing.subscriptions.number)
        self._requests: Requests | None = None
        if assignment.requests:
            self._requests = _requests(assignment, assignment.requests)
        self._identity: Identity | None = None
        self.identify(on=assignment.identify)

    def expect(self, request: str) -> bool:
        """A request of this id is about to be sent; false if its answer could be mistaken for that to a frame that
        subscribes."""
        if self._subscriptions.uses(request):
            return False
        if self._requests is None:
            self._requests = _requests(self._assignment)
        self._requests.expect(request)
        return True

    @property
    def open_requests(self) -> tuple[str, ...]:
        """The ids of the requests whose answers may still come."""
        return () if self._requests is None else self._requests.ids

    def forget(self, requests: Iterable[str]) -> None:
        """Answers to these requests are no longer recognised."""
        if self._requests is not None:
            self._requests.forget(requests)

    def identify(self, *, on: bool) -> None:
        """Messages carry their identities from now on, or no longer."""
        self._identity = _identity(self._assignment) if on else None

    def needs_inspection(self, data: bytes) -> bool:
        """True if a message in `data` may be more than data. False: the messages are delivered as they are."""
        return (
            self._identity is not None
            or self._heartbeat.awaits_reply
            or (self._requests is not None and self._requests.may_match(data))
            or (self._assignment.dialect is not None and self._dialect_needs_inspection(data))
        )

    def _dialect_needs_inspection(self, data: bytes) -> bool:
        return (
            self._streams.has_rules
            or self._subscriptions.waiting
            or self._subscriptions.may_match(data)
            or self._subscribing.readiness.awaits_ready
            or self._subscribing.login.awaits_answer
            or self._housekeeping.may_match(data)
            or self._streams.may_count(data)
        )

    def messages(self, read: ReadResult, now: float) -> Iterable[Action]:
        """The actions that the messages of a read lead to, with their delivery."""
        if read.joined or self.needs_inspection(read.data):
            return urgent_first(self._inspected(read, now))
        return (Deliver(read, 0, read.count),)

    def _inspected(self, read: ReadResult, now: float) -> Iterator[Action]:
        """Skips messages that are not data or not wanted, and yields the actions that they cause at their place. An answer to a
        request is delivered with the messages, marked as `ANSWER`: so the owner's death can't separate the answer from its
        report.

        Data are handled here, and a chain of recognisers is not asked about them unless the read may contain something else:
        each recogniser would cost a call per message."""
        binary = set(read.binary)
        active: set[Stream] = set()
        joined, data = bool(read.joined), read.data
        housekeeping = joined or self._housekeeping.may_match(data)
        answers = joined or self._subscriptions.may_match(data)
        gaps = joined or self._streams.may_count(data)
        awaiting_data = self._subscriptions.awaiting_data
        watchful = self._watchful
        splitter = ReadSplitter(read, streams=self._streams.has_rules, identities=self._identity is not None)
        count = read.count
        for at in range(count):
            text = Text(read.payload(at))
            gap = self._streams.gap(text) if gaps and at not in binary else None
            if gap is not None:
                yield from splitter.emit_up_to(at)
                yield Notify(gap)
            answer = self._requests.recognise(text) if self._requests is not None else None
            if answer is not None:
                yield from splitter.emit_up_to(at)
                yield Notify(answer)
                splitter.mark(at, ANSWER)
                continue
            if self._identity is not None and splitter.identities is not None:
                splitter.identities[at] = self._identity.of(text)
            if at in binary:
                continue
            if watchful or housekeeping:
                is_handled = yield from self._protocol_message(text, at, splitter, active, now, housekeeping=housekeeping)
                if is_handled:
                    watchful = self._watchful
                    continue
            if answers and (yield from self._subscription_answer(text, at, splitter, now)):
                continue
            stream = self._streams.of(text)
            if stream is None:
                continue
            if awaiting_data and (asked := list(self._subscriptions.on_data(stream.name, now))):
                yield from splitter.emit_up_to(at)
                yield from self._subscribing.steps(asked, now)
            if not stream.wanted:
                splitter.skip(at, filtered=True)
                continue
            active.add(stream)
            if not stream.index and (report := self._streams.named(stream)) is not None:
                yield Notify(report)
            splitter.mark(at, stream.index)
        self._streams.on_messages(active, now)
        yield from splitter.emit_up_to(count)

    def _protocol_message(
        self, text: Text, at: int, splitter: ReadSplitter, active: set[Stream], now: float, *, housekeeping: bool
    ) -> Generator[Action, None, bool]:
        """What a message leads to that is the peer's [[ready]], housekeeping, or an answer to the login or to a heartbeat.
        Returns whether the message is one of these. `active` gets the stream that the message shows to be active.
        `housekeeping`: the read may contain housekeeping."""
        watchful = self._watchful
        if watchful and (actions := self._ready_or_refused(text, now)) is not None:
            splitter.skip(at)
            yield from actions
            return True
        found = self._housekeeping.match_rule(text) if housekeeping else None
        if found is not None:
            yield from self._handle(found, now)
            if found.heartbeat and (stream := self._streams.of(text)) is not None:
                yield from self._subscribing.steps(self._subscriptions.on_data(stream.name, now), now)
                active.add(stream)
            if not self._assignment.endpoint.deliver_heartbeats:
                splitter.skip(at)
            return True
        if watchful and (steps := self._awaited_answer(text, now)) is not None:
            splitter.skip(at)
            if steps:
                yield from splitter.emit_up_to(at + 1)
                yield from self._subscribing.login_steps(steps, now)
            return True
        return False

    def _subscription_answer(self, text: Text, at: int, splitter: ReadSplitter, now: float) -> Generator[Action, None, bool]:
        """What a message leads to that answers a frame that subscribes. Returns whether it does and is not data too."""
        answered = self._subscriptions.recognise(text, now)
        if answered is None:
            return False
        steps, is_data = answered
        if not is_data:
            splitter.skip(at)
        if steps:
            yield from splitter.emit_up_to(at if is_data else at + 1)
            yield from self._subscribing.steps(steps, now)
        return not is_data

    @property
    def _watchful(self) -> bool:
        """True if a message may be the peer's [[ready]], or an answer to the login or to a heartbeat."""
        return self._subscribing.readiness.awaits_ready or self._subscribing.login.awaits_answer or self._heartbeat.awaits_reply

    def _ready_or_refused(self, text: Text, now: float) -> Iterable[Action] | None:
        """What to do if a message is the peer's [[ready]], or a refusal instead; None: it is neither."""
        opening = self._subscribing.readiness
        if not opening.awaits_ready:
            return None
        if opening.is_ready_message(text):
            return self._subscribing.peer_is_ready(now)
        refusal = self._subscriptions.refusal(text)
        # The peer refused the connection instead of sending [[ready]].
        return self._ending.refused(Reason(kind="not_ready", text=refusal)) if refusal else None

    def _awaited_answer(self, text: Text, now: float) -> list[LoginStep] | None:
        """What an answer to the login leads to; empty: the message answers a heartbeat; None: it is neither."""
        login = self._subscribing.login
        steps = login.recognise(text, now) if login.awaits_answer else None
        if steps is not None:
            return steps
        return [] if self._is_heartbeat(text.payload, now) else None

    def _is_heartbeat(self, payload: bytes, now: float) -> bool:
        if not self._heartbeat.awaits_reply or len(payload) >= LONGEST_ANSWER:
            return False
        return self._heartbeat.answer(payload, now) and not self._assignment.endpoint.deliver_heartbeats

    def _handle(self, found: HousekeepingMatch, now: float) -> Iterator[Action]:
        """Does what a housekeeping message demands."""
        if found.heartbeat:
            self._heartbeat.peer_beat(now)
        if found.reply is not None and self._ending.open:
            yield Send(encode_frame(TEXT, found.reply), urgent=True)
        if found.notice is not None and found.reconnects:
            yield from self._subscribing.demand_reconnect(found.notice)
        elif found.notice is not None:
            yield Notify(self._subscribing.without_secrets(PeerError(found.notice)))


def urgent_first(actions: Iterable[Action]) -> list[Action]:
    """The actions with urgent frames first and `Disconnect` last: the peer waits for an answer to its heartbeat, and messages
    that came before the end are delivered before the process ends."""
    actions = list(actions)
    if len(actions) < 2:
        return actions
    urgent: list[Action] = []
    others: list[Action] = []
    ends: list[Action] = []
    for action in actions:
        if isinstance(action, Disconnect):
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
