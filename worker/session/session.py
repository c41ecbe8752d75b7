"""The connection's state machine: what happened goes in, what to do comes out. No socket, no clock.

    OPEN --- stop(code) ----------------> CLOSING --- peer's close, deadline, end of stream ---> ENDED
      |                                                                                            ^
      +---- violation soon after messages --> VIOLATED --- deadline, stop, send overdue -----------+
      |                                                                                            |
      +---- peer's close, violation, end of stream, heartbeat missed, silence, send overdue -------+

    state      | reads | the user's messages | requests, subscriptions, heartbeats | watches
    OPEN       | yes   | sent                | sent                                | heartbeats, silence, streams, the login
    CLOSING    | yes   | refused             | none                                | its deadline
    VIOLATED   | no    | sent                | none                                | its deadline
    ENDED      | no    | refused             | none                                | nothing

VIOLATED is for the consumer: it may answer the messages that came before the violation. Its end is a deadline, not the
consumer's next call: the owner does not know of these calls, and an answer that was sent does not mean that it was the last.

Every method returns actions in the order in which they must be carried out. After a `Leave` there are none any more.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, Final

import orjson

from wsadapter.contract.dialect.streams import Stream, Streams
from wsadapter.contract.dialect.templates import fill, stream_name
from wsadapter.contract.dialect.text import LONGEST_ANSWER, UNKNOWN, Text
from wsadapter.contract.endpoint import Subscription
from wsadapter.contract.ipc.commands import Assignment
from wsadapter.contract.ipc.record import ANSWER
from wsadapter.contract.ipc.reports import (
    ConnectionOpening,
    ConnectionUp,
    GapFound,
    HeartbeatSent,
    LoginDone,
    LogLine,
    PacesLearned,
    PeerError,
    PeerNotice,
    Report,
    StreamStalled,
    SubscriptionConfirmed,
    SubscriptionRejected,
)
from wsadapter.contract.reasons import Reason
from wsadapter.worker.session.actions import Action, Deliver, Leave, Renew, Say, Send, Sign, StopReading
from wsadapter.worker.session.batch_splitter import Sieve
from wsadapter.worker.session.heartbeat import Heartbeat
from wsadapter.worker.session.housekeeping import Found, Upkeep
from wsadapter.worker.session.login import LoggedIn, Login, LoginStep, Refused, ToRenew, ToSend, ToSign
from wsadapter.worker.session.readiness import Opening
from wsadapter.worker.session.stalls import Paces, Stall
from wsadapter.worker.subscription.asking import Asked, Step
from wsadapter.worker.subscription.frames import Question, Unsigned
from wsadapter.worker.subscription.subscriptions import Subscriptions, forgiven, without
from wsadapter.worker.websocket.frames import (
    ABNORMAL,
    CLOSE,
    PING,
    PONG,
    TEXT,
    BadClosePayload,
    decode_close,
    encode_close,
    encode_frame,
)
from wsadapter.worker.websocket.reader import Batch, Control, Violation

if TYPE_CHECKING:
    from wsadapter.worker.session.identity import Identity
    from wsadapter.worker.session.requests import Requests
    from wsadapter.worker.session.sequence import Gaps


_NUMBERS: Final = 1 << 16
"""More frames than one owner asks with."""
_NO_BLAME: Final = frozenset({1001, 1012, 1013})
"""Codes of the peer's close that are about the peer: it goes away, restarts, is overloaded."""
_ANSWERABLE: Final = 0.2
"""Seconds from the last message to the close frame after a violation. A consumer answers within milliseconds; the next owner
waits so much longer, and a peer that gets no close frame may give up after a second."""


class _State(Enum):
    OPEN = auto()
    CLOSING = auto()
    VIOLATED = auto()
    ENDED = auto()


class Session:
    """One connection, from the end of the handshake on. Times are monotonic seconds. Not thread-safe."""

    def __init__(self, assignment: Assignment, *, salt: int) -> None:
        """`salt` (32 bits, random) goes into the payloads of pings."""
        self._assignment = assignment
        self._endpoint = assignment.endpoint
        self._state = _State.OPEN
        self.heartbeat = Heartbeat(assignment.endpoint.heartbeat, salt=salt)
        number = _NUMBERS * (assignment.epoch - 1) if assignment.resume is not None else 0
        self._login = Login(
            assignment.dialect, assignment.endpoint, number=lambda: self._subscriptions.number(),
            challenge=assignment.challenge,
        )  # fmt: skip
        self._subscriptions = Subscriptions(
            assignment.dialect, number=number, channels=assignment.channels, login=self._login,
            pace=assignment.endpoint.limits.pace, live_timeout=assignment.endpoint.watchdog.live_timeout,
            reports_sent=assignment.custody,
        )  # fmt: skip
        self._unsigned: deque[tuple[Question | None, Mapping[str, Any]]] = deque()
        """Each frame that is at the hook `sign`, and what it asks; None: it is the login's."""
        self._opening = Opening(assignment.dialect, within=assignment.endpoint.timeouts.handshake)
        self._wanted: Sequence[Subscription] = assignment.wanted
        """What to ask for at the beginning."""
        self._blamed: Mapping[str, str] = assignment.blamed
        """What of that not, or last: see `Assignment.blamed`."""
        self._upkeep = Upkeep(assignment.dialect, self._subscriptions.number)
        self._noticed = False
        self._streams = _streams(assignment, self._subscriptions.channels)
        stalled = assignment.endpoint.watchdog.stalled
        self._paces = Paces(stalled, assignment.paces) if stalled and self._streams is not None else None
        self._gaps = _gaps(assignment)
        self._requests: Requests | None = None
        if assignment.requests:
            self._requests = _requests(assignment, assignment.requests)
        self._identity: Identity | None = None
        self.identify(on=assignment.identify)
        self._last_received = 0.0
        self._last_message = -_ANSWERABLE
        self._paused = False
        self._paused_at = 0.0
        self._closing_reason: Reason | None = None
        self._violation: Violation | None = None
        """What the peer did, in the state VIOLATED."""
        self._closing_deadline = 0.0

    @property
    def open(self) -> bool:
        """Whether frames may be sent."""
        return self._state is _State.OPEN

    @property
    def answerable(self) -> bool:
        """Whether the user's messages may be sent."""
        return self._state in (_State.OPEN, _State.VIOLATED)

    @property
    def holds(self) -> bool:
        """Whether nothing but urgent frames may be sent yet."""
        return not self._opening.over or self._login.due

    @property
    def _sends_on_up(self) -> bool:
        return bool(self._endpoint.send_on_up or (self._assignment.dialect or {}).get("on_up"))

    @property
    def can_be_left(self) -> bool:
        """Whether a next owner of the connection would know what was sent: not while frames of which nobody else knows are due,
        those of on_up and the login."""
        return not self._login.due and (self._opening.over or not self._sends_on_up)

    @property
    def signs(self) -> bool:
        """Whether a frame is at the hook `sign`, and so not on its way yet."""
        return bool(self._unsigned)

    @property
    def ended(self) -> bool:
        """A `Leave` was given."""
        return self._state is _State.ENDED

    def start(self, up: ConnectionUp, now: float) -> list[Action]:
        """The handshake is done; `up` is the report of it."""
        self._last_received = now
        actions: list[Action] = [Say(up)]
        if self._assignment.resume is not None and self._assignment.opening is None:
            self._opening.skip()
            self.heartbeat.start(now)
            self.heartbeat.inherit(now, self._assignment.heartbeat_at)
            self._inherit(now)
            since = self._assignment.login_at
            return actions + list(self._login_steps(self._login.start(now, now if since is None else since), now))
        if self._opening.over:
            return actions + self._begin(now)
        if self._assignment.opening is not None:
            since, listens = self._assignment.opening
            self._opening.inherit(since, listens=listens)
            return actions
        self._opening.start(now)
        return actions + self._opening_changed()

    def _opening_changed(self) -> list[Action]:
        """A next owner goes on where this one is."""
        opening = self._opening
        report = ConnectionOpening(opening.since, opening.listens, opening.over)
        return [Say(report)] if self._assignment.custody else []

    def _inherit(self, now: float) -> None:
        """The connection is an old one: what was asked on it stays asked."""
        assignment = self._assignment
        self._wanted = without(self._wanted, assignment.confirmed)
        self._subscriptions.inherit(
            assignment.confirmed, live=assignment.live, rejected=assignment.rejected, blamed=self._blamed,
            retry_at=assignment.retry_at, now=now,
        )  # fmt: skip
        self._expect([stream_name(stream) for stream in assignment.confirmed], now)

    def _expect(self, names: Iterable[str], now: float) -> None:
        """These streams are confirmed: those whose pace is known must keep it."""
        if self._paces is not None and self._streams is not None:
            found = [self._streams.named(name) for name in names]
            self._paces.expect([stream for stream in found if stream is not None], now)

    def _begin(self, now: float) -> list[Action]:
        """Frames may be sent from now on."""
        self.heartbeat.start(now)
        rules = (self._assignment.dialect or {}).get("on_up", [])
        texts = [fill(rule["frame"], (), self._subscriptions.number(), time.time()) for rule in rules]
        texts += [text.encode() for text in self._endpoint.send_on_up]
        frames: list[Action] = [Send(encode_frame(TEXT, text), urgent=self.holds, once=True) for text in texts]
        return frames + list(self._login_steps(self._login.start(now), now))

    def _login_steps(self, steps: Iterable[LoginStep], now: float) -> Iterator[Action]:
        for step in steps if self.open else ():  # whatever the answer: it is being closed
            match step:
                case ToSign(frame):
                    self._unsigned.append((None, frame))
                    yield Sign(frame)
                case ToSend(frame):
                    yield Send(encode_frame(TEXT, orjson.dumps(frame)), urgent=True)
                case ToRenew():
                    yield Renew()
                case LoggedIn(at, first):
                    if self._login.used:
                        yield Say(LoginDone(at, self._login.challenge))
                    if first and (self._wanted or self._assignment.resume is None or self._assignment.opening is not None):
                        retry_at = self._assignment.retry_at
                        yield from self._asking(self._subscriptions.restore(self._wanted, now, self._blamed, retry_at), now)
                case Refused(text, first=True):
                    yield from self._not_logged_in(text)
                case Refused(text):
                    yield from self._asked_to_reconnect(f"the login could not be renewed: {text}")

    def _not_ready(self, text: str) -> list[Action]:
        """The peer refused the connection instead of saying the dialect's [[ready]]."""
        close: list[Action] = [Send(encode_close(1000), urgent=True)]
        return close + self._leave(Reason(kind="not_ready", text=text), flush=True, linger=True)

    def _not_logged_in(self, text: str) -> list[Action]:
        close: list[Action] = [Send(encode_close(1000), urgent=True)]
        return close + self._leave(Reason(kind="login_failed", text=text), flush=True, linger=True)

    def signed(self, frame: Mapping[str, Any], now: float) -> list[Action]:
        """The hook `sign` has filled this in: the frame of the first `Sign` that has got no answer yet."""
        question, unsigned = self._unsigned.popleft()
        self._login.learn(unsigned, frame)
        if question is None:
            return list(self._login_steps(self._login.signed(frame, now), now))
        if not self.open:
            return []
        return [Send(encode_frame(TEXT, orjson.dumps(frame)), then=self._subscriptions.once_out(question))]

    def not_signed(self, text: str, now: float, *, passing: bool = False) -> list[Action]:
        """It raised, instead. `passing`: a frame that subscribes may be signed later."""
        question, _ = self._unsigned.popleft()
        if question is None:
            return list(self._login_steps([self._login.failed(text)], now))
        if not self.open:
            return []
        if passing:
            return list(self._asking(self._subscriptions.not_signed(question, self._login.without_secrets(text), now), now))
        return self._not_logged_in(text)

    def renewed(self, text: str, now: float) -> list[Action]:
        """The hook `renew` has returned, or, with a `text`, raised."""
        return list(self._login_steps([self._login.failed(text)] if text else self._login.renewed(now), now))

    def _asking(self, steps: Iterable[Step], now: float) -> Iterator[Action]:
        """Frames that subscribe, each with what the login adds to it, and what is reported of them."""
        for step in steps:
            if isinstance(step, Unsigned):
                self._unsigned.append((step.question, step.frame))
                yield Sign(step.frame)
            elif isinstance(step, Report):
                if isinstance(step, SubscriptionConfirmed):
                    self._expect([step.stream], now)
                yield Say(self._without_secrets(step) if self._login.used else step)
            elif isinstance(step, Asked):
                yield Send(encode_frame(TEXT, step.text), then=step.report)
            else:
                yield Send(encode_frame(TEXT, step))

    def _without_secrets(self, report: Report) -> Report:
        """The report without what the login sent, if it quotes the peer."""
        match report:
            case SubscriptionRejected():
                return replace(report, error=self._login.without_secrets(report.error))
            case PeerError() | LogLine():
                return replace(report, text=self._login.without_secrets(report.text))
        return report

    def subscribe(self, streams: list[Subscription], now: float) -> list[Action]:
        """More streams are wanted."""
        if self._streams is not None:
            self._streams.know(streams)
        if self._paces is not None:
            self._paces.want(map(stream_name, streams))
        if self.holds:
            self._wanted = (*without(self._wanted, streams), *streams)
            self._blamed = forgiven(self._blamed, streams)
            return []
        return list(self._asking(self._subscriptions.subscribe(streams, now), now)) if self.open else []

    def unsubscribe(self, streams: list[Subscription], now: float) -> list[Action]:
        """Fewer streams are wanted."""
        if self._paces is not None:
            self._paces.unwant(map(stream_name, streams))
        if self.holds:
            self._wanted = without(self._wanted, streams)
            return []
        return list(self._asking(self._subscriptions.unsubscribe(streams, now), now)) if self.open else []

    def resubscribe(self, streams: list[Subscription], now: float) -> list[Action]:
        """These streams are wanted from their beginning: a fresh snapshot, where the peer sends one to a new subscriber."""
        if self.holds or not self.open:  # they are not asked for yet, and will be
            return []
        return list(self._asking(self._subscriptions.resubscribe(streams, now), now))

    def expect(self, request: str) -> bool:
        """A request of this id is about to be sent; false where it would be mistaken for a frame that subscribes."""
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

    def passes(self, batch: Batch, now: float) -> bool:
        """Takes note of a read that is nothing but messages to be handed on as they are. False: it is for `received`."""
        if batch.controls or batch.joined or batch.violation is not None or self.looks_into(batch.data):
            return False
        self.passed(now)
        return True

    def passed(self, now: float) -> None:
        """Messages were handed on as they are."""
        self._last_received = self._last_message = self.heartbeat.heard_at = now
        self.heartbeat.any_message(now)

    def looks_into(self, data: bytes) -> bool:
        """Whether messages may have to be taken out, or told apart."""
        return (
            self._identity is not None
            or self.heartbeat.listens
            or (self._requests is not None and self._requests.may_hold(data))
            or (self._assignment.dialect is not None and self._dialect_looks_into(data))
        )

    def _dialect_looks_into(self, data: bytes) -> bool:
        return (
            self._streams is not None
            or self._subscriptions.waiting
            or self._subscriptions.may_hold(data)
            or self._opening.listens
            or self._login.waits
            or self._upkeep.may_hold(data)
            or (self._gaps is not None and self._gaps.may_count(data))
        )

    def received(self, batch: Batch, now: float) -> list[Action]:
        """A read was parsed."""
        self._last_received = self.heartbeat.heard_at = now
        actions: list[Action] = []
        closes = None
        for control in batch.controls:
            if control.opcode == PING and self.open:
                self.heartbeat.beaten(now)
                actions.append(Send(encode_frame(PONG, control.payload), urgent=True))
            elif control.opcode == PONG:
                self.heartbeat.pong(control.payload, now)
            elif control.opcode == CLOSE:
                closes = control
        if batch.count:
            self._last_message = now
            self.heartbeat.any_message(now)
            actions += self._messages(batch, now)
        if self.ended:  # by one of these
            return actions
        if batch.violation is not None:
            return actions + self._violated(batch.violation, now)
        if closes is not None:
            return actions + self._closed(closes, now)
        return actions

    def _messages(self, batch: Batch, now: float) -> Iterable[Action]:
        if batch.joined or self.looks_into(batch.data):
            return _urgent_first(self._inspected(batch, now))
        return (Deliver(batch, 0, batch.count),)

    def _inspected(self, batch: Batch, now: float) -> Iterator[Action]:
        """Takes out what is not data or not wanted, and puts what it leads to in its place between the messages. An answer to a
        request goes with the messages, marked: its bytes and the word that it has come are then one."""
        binary = set(batch.binary)
        heard: set[Stream] = set()
        attend = bool(batch.joined) or self._upkeep.may_hold(batch.data)
        answers = bool(batch.joined) or self._subscriptions.may_hold(batch.data)
        gaps = self._gaps is not None and (bool(batch.joined) or self._gaps.may_count(batch.data))
        unheard = self._subscriptions.unheard
        watchful = self._watchful
        sieve = Sieve(batch, streams=self._streams is not None, identities=self._identity is not None)
        count = batch.count
        for at in range(count):
            text = Text(batch.payload(at))
            gap = self._gap(text) if gaps and at not in binary else None
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
            if watchful and self._opening.listens and (said := self._opened(text, now)) is not None:
                sieve.leave_out(at)
                yield from said
                watchful = self._watchful
                continue
            found = self._upkeep.judge(text) if attend else None
            if found is not None:
                yield from self._attend(found, now)
                if found.heartbeat and (stream := self._stream_of(text)) is not None:
                    yield from self._asking(self._subscriptions.heard(stream.name, now), now)
                    heard.add(stream)
                if not self._endpoint.deliver_heartbeats:
                    sieve.leave_out(at)
                continue
            login = self._login.recognise(text, now) if watchful and self._login.waits else None
            if login is not None:
                sieve.leave_out(at)
                yield from sieve.cut(at + 1)
                yield from self._login_steps(login, now)
                watchful = self._watchful
                continue
            if watchful and self._is_heartbeat(text.payload, now):
                sieve.leave_out(at)
                watchful = self._watchful
                continue
            answered = self._subscriptions.recognise(text, now) if answers else None
            if answered is not None:
                steps, is_data = answered
                if not is_data:
                    sieve.leave_out(at)
                if steps:
                    yield from sieve.cut(at if is_data else at + 1)
                    yield from self._asking(steps, now)
                if not is_data:
                    continue
            stream = self._stream_of(text)
            if stream is None:
                continue
            if unheard and (steps := list(self._subscriptions.heard(stream.name, now))):
                yield from sieve.cut(at)
                yield from self._asking(steps, now)
            if not stream.wanted:
                sieve.leave_out(at, filtered=True)
                continue
            heard.add(stream)
            if not stream.index:
                yield from self._announced(stream)
            sieve.mark(at, stream.index)
        if self._paces is not None:
            self._paces.heard(heard, now)
        yield from sieve.cut(count)

    @property
    def _watchful(self) -> bool:
        """Whether a message may be the peer's word to begin, or an answer to the login or to a heartbeat."""
        return self._opening.listens or self._login.waits or self.heartbeat.listens

    def _opened(self, text: Text, now: float) -> Iterable[Action] | None:
        """What to do where a message is the peer's word to begin, or its refusal; None: it is neither."""
        if self._opening.is_word(text):
            begins = self._opening.ends(now) and self.open
            return [*self._opening_changed(), *(self._begin(now) if begins else ())]
        refusal = self._subscriptions.refusal(text)
        return self._not_ready(refusal) if refusal else None

    def _stream_of(self, text: Text) -> Stream | None:
        """The stream that a message belongs to, looked for once."""
        if text.stream is UNKNOWN:
            text.stream = self._streams.find(text.value, text.payload) if self._streams is not None else None
        stream: Stream | None = text.stream
        return stream

    def _gap(self, text: Text) -> GapFound | None:
        """What to report in front of a message whose number does not follow."""
        if self._gaps is None:
            return None
        found = self._gaps.check(text, self._stream_name)
        if found is None:
            return None
        if not found.whole and (stream := self._stream_of(text)) is not None and not stream.wanted:
            return None
        name = None if found.whole else self._stream_name(text)
        return GapFound("sequence", name, found.expected, found.got)

    def _stream_name(self, text: Text) -> str | None:
        stream = self._stream_of(text)
        return None if stream is None else stream.name

    def _attend(self, found: Found, now: float) -> Iterator[Action]:
        """Does what a message asks for that is no data."""
        if found.heartbeat:
            self.heartbeat.beaten(now)
        if found.reply is not None and self.open:
            yield Send(encode_frame(TEXT, found.reply), urgent=True)
        if found.notice is not None and found.reconnects:
            yield from self._asked_to_reconnect(found.notice)
        elif found.notice is not None:
            yield Say(self._without_secrets(PeerError(found.notice)))

    def _asked_to_reconnect(self, text: str) -> Iterator[Action]:
        """Once for each connection."""
        if not self._noticed:
            self._noticed = True
            yield Say(PeerNotice(text))

    def _announced(self, stream: Stream) -> Iterator[Action]:
        report = self._streams.announce(stream) if self._streams is not None else None
        if report is not None:
            yield Say(report)

    def _is_heartbeat(self, payload: bytes, now: float) -> bool:
        if not self.heartbeat.listens or len(payload) >= LONGEST_ANSWER:
            return False
        return self.heartbeat.answer(payload, now) and not self._endpoint.deliver_heartbeats

    def _closed(self, control: Control, now: float) -> list[Action]:
        try:
            code, text = decode_close(control.payload)
        except BadClosePayload as bad:
            return self._fail(Violation(bad.code, str(bad)))
        if self._state is _State.CLOSING and self._closing_reason is not None:
            return self._leave(self._closing_reason)
        reply: Action = Send(encode_close(code), urgent=True)
        over = [] if code in _NO_BLAME else self._closed_over(now)
        return [reply, *over, *self._leave(Reason(kind="closed_by_peer", code=code, text=text), flush=True)]

    def _closed_over(self, now: float) -> list[Action]:
        """What the peer may have closed the connection because of."""
        return [Say(report) for report in self._subscriptions.closed(now)] if self._state is _State.OPEN else []

    def _violated(self, violation: Violation, now: float) -> list[Action]:
        """Messages that were received just before may be answered first."""
        answerable_until = self._last_message + _ANSWERABLE
        if self._state is not _State.OPEN or now >= answerable_until:
            return self._fail(violation)
        self._state = _State.VIOLATED
        self._violation = violation
        self._closing_deadline = answerable_until
        return [StopReading()]

    def _fail(self, violation: Violation) -> list[Action]:
        """Fails the connection (RFC 6455 §7.1.7)."""
        close: list[Action] = []
        if self._state is not _State.CLOSING:
            close.append(Send(encode_close(violation.code, violation.text), urgent=True))
        return close + self._leave(_reason_of(violation), flush=True, linger=True)

    def lost(self, text: str, now: float) -> list[Action]:
        """The connection ended or broke without a close frame."""
        known = self._known_reason()
        over = [] if known else self._closed_over(now)
        return over + self._leave(known or Reason(kind="closed_by_peer", code=ABNORMAL, text=text))

    def overdue(self, text: str) -> list[Action]:
        """A send was not finished in time."""
        return self._leave(self._known_reason() or Reason(kind="send_failed", text=text))

    def _known_reason(self) -> Reason | None:
        """Why the connection ends, however it ends now; None: it has not to end."""
        return self._closing_reason if self._violation is None else _reason_of(self._violation)

    def stop(self, code: int, kind: str, now: float, *, within: float, text: str = "") -> list[Action]:
        """Close as asked, within so many seconds; data are delivered until the peer's close."""
        if self._state is _State.VIOLATED and self._violation is not None:
            return self._fail(self._violation)
        if self._state is not _State.OPEN:
            self._closing_deadline = min(self._closing_deadline, now + within)
            return []
        self._state = _State.CLOSING
        self._closing_reason = Reason(kind=kind, code=code, text=text)
        self._closing_deadline = now + within
        return [Send(encode_close(code), urgent=self.holds)]

    def pause(self, now: float) -> None:
        """Reading stops for a while, for the supervisor is behind: what is not read can't be missed."""
        self._paused, self._paused_at = True, now
        self.heartbeat.pause()
        if self._paces is not None:
            self._paces.pause()

    def resume(self, now: float) -> None:
        """Reading goes on."""
        self._paused = False
        self._last_received = now
        self.heartbeat.resume(now)
        self._login.postpone(now - self._paused_at)
        self._subscriptions.postpone(now - self._paused_at)
        if self._paces is not None:
            self._paces.resume(now)

    def tick(self, now: float) -> list[Action]:
        """Time has passed; to be called not later than `deadline`."""
        if self._state is _State.CLOSING and self._closing_reason is not None:
            return self._leave(self._closing_reason) if now >= self._closing_deadline else []
        if self._state is _State.VIOLATED and self._violation is not None:
            return self._fail(self._violation) if now >= self._closing_deadline else []
        if self._state is _State.ENDED:
            return []
        if text := self._opening.overdue(now):
            return self._leave(Reason(kind="not_ready", text=text))
        if text := self.heartbeat.missed(now):
            return self._leave(Reason(kind="heartbeat_missed", text=text))
        silence = self._endpoint.watchdog.silence
        if silence and not self._paused and now >= self._last_received + silence:
            return self._leave(Reason(kind="silence", text=f"nothing received for {silence:g} s"))
        actions = [*self._opening_changed(), *self._begin(now)] if self._opening.ends(now) else []
        if not (self._paused and self._login.waits):
            actions += self._login_steps(self._login.tick(now), now)
        if self.ended:
            return actions
        beat = self.heartbeat.due(now)
        if beat is not None:
            actions.append(Send(beat, urgent=True))
            if self._assignment.custody:  # sent first: what is not on the wire must not count for the next owner
                actions.append(Say(HeartbeatSent(now)))
        if not self._paused:
            actions += self._asking(self._subscriptions.tick(now), now)
        return actions if self._paces is None else actions + self._judged(self._paces, now)

    def _judged(self, paces: Paces, now: float) -> list[Action]:
        """What the streams' own paces say of them."""
        if not paces.is_due(now):
            return []
        actions = self._stalled(list(paces.tick(now)), now)
        if learned := paces.learned():
            actions.append(Say(PacesLearned(learned)))
        return actions

    def _stalled(self, stalls: Sequence[Stall], now: float) -> list[Action]:
        """What is silent is told and subscribed anew; where that was no help the supervisor makes a new connection."""
        actions: list[Action] = []
        again: list[Subscription] = []
        for stall in stalls:
            actions.append(Say(StreamStalled(stall.stream.name, stall.silence, stall.hopeless)))
            if not stall.hopeless and self._streams is not None:
                again.append(self._streams.subscription(stall.stream))
        if again:
            actions += self._asking(self._subscriptions.resubscribe(again, now), now)
        return actions

    def deadline(self) -> float | None:
        """When to call `tick`; None: not before something happens."""
        if self._state in (_State.CLOSING, _State.VIOLATED):
            return self._closing_deadline
        if self._state is _State.ENDED:
            return None
        times = [self.heartbeat.deadline(), self._opening.deadline()]
        if not self._paused:
            times.append(self._subscriptions.deadline())
        if not (self._paused and self._login.waits):
            times.append(self._login.deadline())
        if self._paces is not None:
            times.append(self._paces.deadline())
        if self._endpoint.watchdog.silence and not self._paused:
            times.append(self._last_received + self._endpoint.watchdog.silence)
        return min((t for t in times if t is not None), default=None)

    def _leave(self, reason: Reason, *, flush: bool = False, linger: bool = False) -> list[Action]:
        if self._state is _State.ENDED:
            return []
        self._state = _State.ENDED
        return [Leave(reason, flush, linger)]


def _reason_of(violation: Violation) -> Reason:
    return Reason(kind="protocol_error", code=violation.code, text=violation.text)


def _streams(assignment: Assignment, channels: Mapping[str, Subscription]) -> Streams | None:
    """None where the dialect can't tell streams: then messages are not looked into."""
    rules = (assignment.dialect or {}).get("stream")
    if rules is None:
        return None
    streams = Streams(rules, assignment.endpoint.filter, channels)
    streams.know(assignment.wanted)
    return streams


def _gaps(assignment: Assignment) -> Gaps | None:
    """None where the exchange's messages have no numbers that follow each other, or nobody wants them checked."""
    rules = (assignment.dialect or {}).get("gap")
    if not rules or not assignment.endpoint.gap_check:
        return None
    from wsadapter.worker.session.sequence import Gaps  # most owners never need it

    return Gaps(rules)


def _requests(assignment: Assignment, ids: Iterable[str] = ()) -> Requests:
    from wsadapter.worker.session.requests import Requests  # most owners never need it

    return Requests(assignment.endpoint.request, ids)


def _identity(assignment: Assignment) -> Identity | None:
    from wsadapter.worker.session.identity import make_identity  # most owners never need it

    return make_identity(assignment.dialect, assignment.endpoint)


def _urgent_first(actions: Iterable[Action]) -> list[Action]:
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


