"""The subscriptions of one connection: what to request, what an answer is about, what to report. Pure; the clock is passed in.

    wanted ──> Life (life.TABLE) ──> Question ──frame──> exchange
                 ^                                   │
                 └──── yes, no, later ───────────────┴── answers.Rules.match_rule <── message

An answer may come late, twice, never, or may be about something else. Therefore a frame is sent again if it is not answered, a
refused frame is sent again without the units that were refused, a rejected stream is requested again at growing intervals, and
a late yes counts. An answer proves nothing about data: a confirmed stream that delivers nothing is requested again and then
reported.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

from wsadapter.contract.dialect.templates import as_number, stream_name
from wsadapter.contract.dialect.text import Text
from wsadapter.contract.endpoint import Subscription
from wsadapter.contract.ipc.reports import (
    ClosedOverSubscriptions,
    SubscriptionConfirmed,
    SubscriptionRejected,
    SubscriptionRequested,
    SubscriptionsRestored,
    SubscriptionsSent,
)
from wsadapter.worker.subscription.answer_handler import MOST_TRIES, AnswerHandler, log
from wsadapter.worker.subscription.answers import Rules, Says
from wsadapter.worker.subscription.asking import Asking, Step
from wsadapter.worker.subscription.attribution import find_target
from wsadapter.worker.subscription.frames import NO_LOGIN, Credentials, Frames, Life, Question, Unit, make_life
from wsadapter.worker.subscription.life import Event, State
from wsadapter.worker.subscription.lives import SUBSCRIBED, Lives
from wsadapter.worker.subscription.unanswered import Unanswered

_TO_LEAVE: Final = 5.0
"""Seconds for the answer to an `unsubscribe` if the stream is to be subscribed again afterwards."""
_SOON: Final = 5.0
"""Seconds from a frame to a close that may be because of the frame."""
_UNTIL_SIGNED: Final = 1.0
"""Seconds until a frame that could not be signed is made again; doubled each time."""


def without(streams: Iterable[Subscription], gone: Iterable[Subscription]) -> tuple[Subscription, ...]:
    """The streams that are not among `gone`, in time linear in both: there may be ten thousands."""
    names = set(map(stream_name, gone))
    return tuple(stream for stream in streams if stream_name(stream) not in names)


def without_blame(blamed: Mapping[str, str], streams: Iterable[Subscription]) -> dict[str, str]:
    """`Assignment.blamed` without these streams, because the user has requested them again."""
    names = set(map(stream_name, streams))
    return {name: error for name, error in blamed.items() if name not in names}


class _Restoring:
    """The subscriptions that were requested at the beginning of the connection, until all are answered."""

    def __init__(self, lives: Iterable[Life]) -> None:
        self.names = dict.fromkeys(life.name for life in lives)
        """The names of the streams that are not known to be answered, in order."""
        self._ok = 0
        self._failed: list[str] = []

    def finished(self, lives: Lives, asking: Asking) -> SubscriptionsRestored | None:
        """The report, once everything is answered; None: something is unanswered."""
        while self.names:  # answers mostly come in the order of the frames, so the first unanswered name ends the search
            name = next(iter(self.names))
            life = lives.all.get(name)
            if life is not None and asking.awaits_answer(life):
                return None
            del self.names[name]
            if life is not None:
                self._ok += any(unit.confirmed for unit in life.units)
                self._failed += [stream_name(unit.stream) for unit in life.refused]
        return SubscriptionsRestored(self._ok, tuple(self._failed))


class Subscriptions:
    """The subscriptions of one connection. Not thread-safe."""

    def __init__(
        self,
        dialect: Mapping[str, Any] | None,
        *,
        number: int = 0,
        wall: Callable[[], float] = time.time,
        channels: Mapping[str, Subscription] = MappingProxyType({}),
        login: Credentials = NO_LOGIN,
        pace: float = 0.0,
        live_timeout: float = 0.0,
        reports_sent: bool = False,
    ) -> None:
        """`dialect` as in dialects/README.md, already checked; None: each stream is a separate frame. `number`: at least
        every number of the frames of previous owners of the connection, because answers to these may still come. `wall`: the
        wall clock. `channels`: the channels that the peer assigned to previous owners. `login`: what it adds to frames.
        `pace`: seconds from one frame to the next, so that the time for an answer begins when the frame is sent.
        `live_timeout`: seconds from a yes to the first message; 0: no limit. `reports_sent`: if the exchange confirms nothing,
        each frame comes with the report to write when the kernel has it."""
        dialect = dialect or {}
        self.channels: dict[str, Subscription] = dict(channels)
        """The subscription of each channel on this connection, by the channel as text, as acks assigned them."""
        channel_of: dict[str, int | str] = {
            stream_name(stream): channel if (known := as_number(channel)) is None else known
            for channel, stream in channels.items()
        }
        self._rules = Rules(dialect)
        self._frames = Frames(dialect, number=number, wall=wall, login=login, pace=pace, channel_of=channel_of)
        self._lives = Lives(self._frames, live_timeout=live_timeout if "stream" in dialect else 0.0)
        self.awaiting_data: Mapping[str, object] = self._lives.awaited
        """The streams whose first message must be passed to `on_data`, by name: always the same object, with changing
        content."""
        reports_sent = reports_sent and not (self._frames.settings and self._rules.confirm)
        self._asking = Asking(self._frames, self._lives, reports_sent=reports_sent)
        each = self._rules.answer_each or self._frames.answers_parts
        self._handler = AnswerHandler(
            self._rules, self._asking, self._lives, each=each, channels=self.channels, channel_of=channel_of
        )
        self._unanswered = Unanswered(self._rules, self._frames, self._lives, self._asking, self._handler)
        self._restoring: _Restoring | None = None
        self._unwanted: dict[str, Life] = {}
        """Streams to unsubscribe once their answers have assigned their channels, without which the frame can't be made."""
        self._inherited_until = math.inf
        """Until when answers to frames of previous owners may come."""

    # --- requests

    def inherit(
        self,
        confirmed: Iterable[Subscription],
        *,
        live: Iterable[str] = (),
        rejected: Mapping[str, str] = MappingProxyType({}),
        blamed: Collection[str] = (),
        retry_at: Mapping[str, float] = MappingProxyType({}),
        now: float = 0.0,
    ) -> None:
        """The subscriptions that previous owners requested on this connection, see `Lives.inherit`. What was unanswered is
        requested again. The answers to the old frames are no data, and add nothing to the answers to the new frames."""
        self._inherited_until = now + MOST_TRIES * self._frames.timeout
        confirms = self._rules.confirm
        self._lives.inherit(confirmed, frozenset(live), rejected, blamed, retry_at, now, confirms=confirms)

    def restore(
        self,
        wanted: Sequence[Subscription],
        now: float,
        blamed: Mapping[str, str] = MappingProxyType({}),
        retry_at: Mapping[str, float] = MappingProxyType({}),
    ) -> Iterator[Step]:
        """Requests everything that is wanted, after an `up`; "restored" follows when everything is answered. `blamed`: the
        subscriptions because of which the peer closed an earlier connection, name = error; "": it may have been another one.
        Those with an error are not requested before `retry_at`; the others in small groups, after everything else."""
        if not self._frames.settings:
            yield from self._asking.ask_raw(wanted)
            yield SubscriptionsRestored(len(wanted), ())
            return
        lives = [self._lives.add(stream) for stream in wanted]
        self._restoring = _Restoring(lives)
        for life in lives:
            life.blamed, life.asked = life.name in blamed, int(self._inherited_until < math.inf)
        yield from self._asking.ask([unit for life in lives if not life.blamed for unit in life.units], now)
        yield from self._handler.refused_before({life: blamed[life.name] for life in lives if blamed.get(life.name)}, now)
        self._lives.retry_at(retry_at)
        own = {life.name: life for life in lives}
        self._asking.ask_in_groups([own[name] for name, error in blamed.items() if not error and name in own], now)
        yield from self._restored()

    def subscribe(self, streams: Sequence[Subscription], now: float) -> Iterator[Step]:
        """Requests more streams, and rejected ones again."""
        if not self._frames.settings:
            yield from self._asking.ask_raw(streams)
            return
        units: list[Unit] = []
        for stream in streams:
            life = self._lives.all.get(stream_name(stream))
            if life is None:
                units += self._lives.add(stream).units
            elif life.state is State.LEAVING:
                life.wanted_again = True
            elif self._unwanted.pop(life.name, None) is None and not self._asking.awaits_answer(life):
                units += life.refused
                for unit in life.refused:
                    unit.error = ""
                life.retries, life.retry_at = 0, math.inf
        yield from self._asking.ask(units, now)

    def unsubscribe(self, streams: Sequence[Subscription], now: float) -> Iterator[Step]:
        """Unsubscribes streams. If the dialect has no frame for that, this is logged."""
        lives = [self._lives.all.get(stream_name(stream)) or make_life(stream, self._frames) for stream in streams]
        without_frame = [life for life in lives if not self._frames.settings or not self._frames.can_unsubscribe(life.name)]
        if without_frame:
            names = ", ".join(life.name for life in without_frame)
            yield log(f"the dialect has no frame that unsubscribes; the peer continues to send: {names}")
        leaving: list[Life] = []
        for life in lives:
            if life not in without_frame and life.state is State.REQUESTED and not self._frames.knows_channel(life):
                self._unwanted[life.name] = life
                self._forget(life)
                continue
            never_asked = life.state is State.WANTED and self._asking.awaits_answer(life)
            self._stop_waiting(life)
            if life in without_frame or never_asked or life.state in (State.REJECTED, State.RETRYING):
                self._lives.drop(life)
            else:
                leaving.append(life)
        yield from self._leave(leaving, now)
        yield from self._restored()

    def resubscribe(self, streams: Sequence[Subscription], now: float) -> Iterator[Step]:
        """Subscribes streams again, so that the exchange begins anew, with a snapshot if it sends one. If the dialect has a
        frame that unsubscribes, that frame is sent first, and the subscription follows its answer."""
        if not self._frames.settings:
            yield from self._asking.ask_raw(streams)
            return
        leaving: list[Life] = []
        units: list[Unit] = []
        for stream in streams:
            life = self._lives.all.get(stream_name(stream))
            if life is None or life.state is State.LEAVING:
                continue
            if life.state in SUBSCRIBED and self._frames.can_unsubscribe(life.name) and not self._frames.replaces:
                self._stop_waiting(life)
                life.wanted_again = True
                leaving.append(life)
            elif not self._asking.awaits_answer(life):
                units += life.units
        yield from self._leave(leaving, now)
        yield from self._asking.ask(units, now, again=True)

    def when_sent(self, question: Question) -> SubscriptionsSent | None:
        """The report to write when the kernel has the signed frame of this question; None: there is none."""
        return self._asking.when_sent(question)

    def _stop_waiting(self, life: Life) -> None:
        """No answer about the subscription is awaited any more, and it has no deadline."""
        self._asking.drop(life)
        self._forget(life)

    def _leave_unwanted(self, steps: Iterable[Step], now: float) -> Iterator[Step]:
        """The steps without reports about unwanted streams. Unwanted streams that are answered now are unsubscribed."""
        if not self._unwanted:
            yield from steps
            return
        for step in steps:
            about = step.of or step.stream if isinstance(step, SubscriptionConfirmed | SubscriptionRejected) else ""
            if about not in self._unwanted:
                yield step
        for life in [life for life in self._unwanted.values() if not self._asking.awaits_answer(life)]:
            del self._unwanted[life.name]
            if life.state in SUBSCRIBED:
                self._stop_waiting(life)
                yield from self._leave([life], now)
            else:
                self._lives.drop(life)

    def _forget(self, life: Life) -> None:
        self._lives.forget_times(life)
        if self._restoring is not None:
            self._restoring.names.pop(life.name, None)

    def _leave(self, lives: Sequence[Life], now: float) -> Iterator[Step]:
        for life in lives:
            self._lives.all[life.name] = life
            self._lives.move(life, Event.LEAVE)
            if life.wanted_again:
                life.subscribed = False
                yield SubscriptionRequested(life.name)
        if self._frames.replaces and not self._asking.others(()):
            for life in lives:
                yield log(f"the last stream can't be unsubscribed; the peer continues to send: {life.name}")
                self._lives.drop(life)
            return
        units = [unit for life in lives for unit in self._frames.to_leave(life)]
        for some in self._frames.split("unsubscribe", units):
            question = self._asking.question("unsubscribe", some)
            yield from self._asking.send(question, now)
            if any(unit.life.wanted_again for unit in some):
                question.deadline = min(question.deadline, now + _TO_LEAVE)
            if not self._rules.confirm:
                yield from self._handler.unsubscribed(question, now)

    @property
    def waiting(self) -> bool:
        """True if something is unanswered."""
        return bool(self._asking.open)

    def may_match(self, data: bytes) -> bool:
        """A cheap test on the bytes of a read: true if they may contain an answer, also if none is awaited."""
        return self._rules.may_match(data)

    def uses(self, number: str) -> bool:
        """True if an unanswered frame carries this number. If not, answers with it belong to a request of the user from now
        on."""
        if self._asking.uses(number):
            return True
        if (ours := as_number(number)) is not None:
            self._frames.forget(ours)
        return False

    def number(self) -> int:
        """The next "$id", for any frame: no other frame may carry the number of a frame that subscribes."""
        return self._frames.number()

    def deadline(self) -> float | None:
        """When to call `tick` next; None: not before a request."""
        soonest = min(self._asking.deadline(), self._lives.deadline())
        return soonest if soonest < math.inf else None

    def postpone(self, pause: float) -> None:
        """Nothing was read for `pause` seconds, so messages and answers may be among the unread bytes."""
        self._asking.postpone(pause)
        self._lives.postpone(pause)
        self._inherited_until += pause

    def tick(self, now: float) -> Iterator[Step]:
        """Time has passed: requests unanswered units again, and gives them up after the second try."""
        yield from self._leave_unwanted(self._tick(now), now)

    def _tick(self, now: float) -> Iterator[Step]:
        for question in self._asking.due(now):
            yield from self._unanswered.overdue(question, now)
        for life in self._lives.due(now):
            if now >= life.due:
                yield from self._unanswered.silent(life, now)
            if now >= life.retry_at:
                self._lives.plan_retry(life, now)
                yield from self._asking.ask(life.refused, now, again=True)
                break  # one stream per tick: many at once would be refused for the rate
        yield from self._restored()

    def on_data(self, name: str, now: float) -> Iterator[Step]:
        """A message of this stream came."""
        life = self._lives.awaited.get(name)
        if life is None or name in self._unwanted:
            return
        if not self._rules.confirm:
            for unit in self._asking.drop(life):
                unit.confirmed = True
        yield from self._lives.apply(life, Event.DATA, now)
        if len(life.units) == 1 and life.refused:  # it delivers although it was refused
            life.units[0].error, life.units[0].confirmed = "", True
            self._lives.plan_retry(life, now, from_first=True)
        yield from self._restored()

    def recognise(self, text: Text, now: float) -> tuple[list[Step], bool] | None:
        """What an answer leads to, and whether it is to be delivered too; None: the message is no answer to our frames."""
        answer = self._rules.match_rule(text)
        if answer is None:
            return None
        if now >= self._inherited_until:
            self._frames.forget_predecessors()
        target = find_target(answer, self._asking.open, self._frames, self._lives.all, self.channels)
        if target is None:
            return None
        self._unanswered.answered = True
        steps = list(self._leave_unwanted(self._handler.handle(answer, target, now), now))
        self._asking.advance_groups(now)
        return [*steps, *self._restored()], answer.rule.has_data(answer.value)

    def not_signed(self, question: Question, error: str, now: float) -> list[Step]:
        """A frame could not be signed, and the cause may pass: a new frame is made after a pause."""
        units = list(question.unanswered)
        steps = list(self._handler.postpone(question, units, error, _UNTIL_SIGNED, now)) if units else []
        return [*steps, *self._restored()]

    def closed(self, now: float) -> Iterator[ClosedOverSubscriptions]:
        """The peer closed the connection without a reason: reports the subscriptions that may be the cause, if the exchange
        confirms subscriptions and closes without a reason."""
        if not self._rules.confirm or self._rules.closes:
            return
        lives = self._asking.sent_within(_SOON, now)
        if lives:
            alone = len(lives) == 1 and any(life.state in SUBSCRIBED for life in self._lives.all.values())
            names = [life.name for life in lives]
            yield ClosedOverSubscriptions(tuple(names), alone, _SOON)

    def refusal(self, text: Text) -> str:
        """The text of an error, whatever it is about; empty: the message is no error."""
        answer = self._rules.match_rule(text)
        return "" if answer is None or answer.says is Says.YES else answer.error

    def _restored(self) -> Iterator[Step]:
        """Reports, once, that everything that was requested at the beginning is answered."""
        report = None if self._restoring is None else self._restoring.finished(self._lives, self._asking)
        if report is not None:
            self._restoring = None
            yield report
