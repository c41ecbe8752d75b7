"""The subscriptions of one connection: what to ask, whose answer a message is, what to report. Pure; the clock is passed in.

    wanted ──> Life (subscription_life.TABLE) ──> Question ──frame──> exchange
                 ^                                   │
                 └──── yes, no, later ───────────────┴── answers.Rules.judge <── message

An answer may come late, twice, never, or about something else. So a frame is sent once more if it is not answered, a refused
frame is sent again without what was refused, a rejected stream is asked for again slowly, and a late yes counts. An answer
proves nothing about data: a confirmed stream that delivers nothing is asked for anew and then reported.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Any, Final

from wsadapter.contract.commands import Report
from wsadapter.contract.dialect.fields import as_text
from wsadapter.contract.dialect.paths import look_up
from wsadapter.contract.dialect.templates import BadStream, is_meant, raw_frame, stream_name
from wsadapter.contract.dialect.text import Text
from wsadapter.contract.endpoint import Subscription
from wsadapter.worker.answers import Answer, Rules, Says, named
from wsadapter.worker.attribution import Meant, whose
from wsadapter.worker.questions import Frames, Life, Question, Unit, Unsigned, make_life
from wsadapter.worker.subscription_life import Action, Event, State, step

Step = bytes | Unsigned | Report
"""A text to send, or something to report; in this order."""

_MOST_TRIES: Final = 2
_MOST_PAUSES: Final = 6
"""So often "later" is taken for later: with the pause doubled each time, a minute and more."""
_BETWEEN_RETRIES: Final = 0.2
"""Seconds at least from one frame that is asked again after a pause to the next: all at once would be refused again."""
_GRACE: Final = 2.0
"""Seconds for the other streams of a frame of which one was refused, where each is answered by itself."""
_FIRST_RETRY: Final = 60.0
_LAST_RETRY: Final = 3600.0
"""Seconds until a rejected stream is asked for again: the pause doubles from the first to the last."""
_TO_LEAVE: Final = 5.0
"""Seconds for the answer to an `unsubscribe` that makes room for a fresh subscription."""
_HEARS: Final = frozenset({State.REQUESTED, State.RETRYING, State.CONFIRMED, State.SILENT, State.REJECTED})
"""Where a message of the stream makes a difference."""
_HAD: Final = frozenset({State.CONFIRMED, State.LIVE, State.SILENT})
"""What the exchange has subscribed."""


def without(streams: Iterable[Subscription], gone: Iterable[Subscription]) -> tuple[Subscription, ...]:
    """Those that are not among `gone`; there may be ten thousands of both."""
    names = set(map(stream_name, gone))
    return tuple(stream for stream in streams if stream_name(stream) not in names)


class Subscriptions:
    """The subscriptions of one connection. Not thread-safe."""

    def __init__(
        self,
        dialect: Mapping[str, Any] | None,
        *,
        number: int = 0,
        wall: Callable[[], float] = time.time,
        channels: Mapping[str, Subscription] = MappingProxyType({}),
        login: Callable[[], Mapping[str, Any]] = dict,
        pace: float = 0.0,
        live_timeout: float = 0.0,
    ) -> None:
        """`dialect` as in dialects/README.md, already checked; None: streams are frames of their own. `number`: above all that
        predecessors on the same connection gave their frames, for answers to those may still come. `wall`: the wall clock.
        `channels`: what the peer had said to the predecessors, see there. `login`: fields of every frame besides
        its template's. `pace`: seconds from one frame to the next, so that the time for an answer begins when its frame's turn
        has come. `live_timeout`: seconds from a yes to the first message; 0: none is waited for."""
        dialect = dialect or {}
        self.channels: dict[str, Subscription] = dict(channels)
        """What stands for a stream on this connection, as text, by what acks said."""
        self._channel_of: dict[str, int | str] = {
            stream_name(stream): int(channel) if channel.isdecimal() else channel for channel, stream in channels.items()
        }
        self._frames = Frames(dialect, number=number, wall=wall, login=login, pace=pace, channel_of=self._channel_of)
        self._rules = Rules(dialect)
        self._live_timeout = live_timeout if "stream" in dialect else 0.0
        self._quiet: Sequence[str] = self._frames.settings.get("quiet", ())
        self._lives: dict[str, Life] = {}
        self._awaited: dict[str, Life] = {}
        """Those to which a message makes a difference."""
        self._timed: dict[str, Life] = {}
        """Those with something due."""
        self._open: list[Question] = []
        self._unanswered: dict[str, int] = {}
        """How many units of a stream are in open questions, by its name."""
        self._answered = False
        """Whether the exchange has answered anything."""
        self._retry_at = -math.inf
        """When the last of the frames that were refused for the moment is asked again."""
        self._half_at = -math.inf
        """When the last of the halves that wait for another one is asked."""
        self._restoring: set[str] | None = None
        self._failed: list[str] = []
        self._ok = 0

    # --- what is wanted

    def inherit(
        self,
        confirmed: Iterable[Subscription],
        *,
        live: Iterable[str] = (),
        rejected: Mapping[str, str] = MappingProxyType({}),
        now: float = 0.0,
    ) -> None:
        """What predecessors had asked on this connection. `confirmed`: with those that were rejected; `live`: the names of
        those that have delivered; `rejected`: name = error."""
        names = frozenset(live)
        for stream in confirmed:
            life = self._add(stream)
            for unit in life.units:
                unit.error = rejected.get(stream_name(unit.stream), "") or rejected.get(life.name, "")
                unit.confirmed = not unit.error
            if all(unit.error for unit in life.units):
                self._enter(life, State.REJECTED, now)
            else:
                life.subscribed = True
                self._enter(life, State.LIVE if life.name in names else State.CONFIRMED, now)
            self._plan_retry(life, now)

    def restore(self, wanted: Sequence[Subscription], now: float) -> Iterator[Step]:
        """After an `up`: asks for all that is wanted. "restored" follows when all is answered."""
        if not self._frames.settings:
            yield from (raw_frame(stream) for stream in wanted)
            yield _restored(len(wanted), [])
            return
        lives = [self._add(stream) for stream in wanted]
        self._restoring = {life.name for life in lives}
        yield from self._ask([unit for life in lives for unit in life.units], now)
        yield from self._finish_restoring()

    def subscribe(self, streams: Sequence[Subscription], now: float) -> Iterator[Step]:
        """Asks for more, and again for what was rejected."""
        if not self._frames.settings:
            yield from (raw_frame(stream) for stream in streams)
            return
        units: list[Unit] = []
        for stream in streams:
            life = self._lives.get(stream_name(stream))
            if life is None:
                units += self._add(stream).units
            elif life.state is State.LEAVING:
                life.wanted_again = True
            elif not self._unanswered.get(life.name):
                units += life.refused
                for unit in life.refused:
                    unit.error = ""
                life.retries, life.retry_at = 0, math.inf
        yield from self._ask(units, now)

    def unsubscribe(self, streams: Sequence[Subscription], now: float) -> Iterator[Step]:
        """Asks for less. Where there is no frame for it, that is logged."""
        lives = [self._lives.get(stream_name(stream)) or make_life(stream, self._frames) for stream in streams]
        without_frame = [life for life in lives if not self._frames.settings or not self._frames.can_unsubscribe(life.name)]
        if without_frame:
            names = ", ".join(life.name for life in without_frame)
            yield _log(f"there is no frame that unsubscribes; the peer goes on sending: {names}")
        for life in lives:
            self._let_go(life)
            if life in without_frame or life.state in (State.REJECTED, State.RETRYING):
                self._drop(life)
        yield from self._leave([life for life in lives if life.state is not State.GONE], now)
        yield from self._finish_restoring()

    def resubscribe(self, streams: Sequence[Subscription], now: float) -> Iterator[Step]:
        """Asks anew for what is subscribed, so that the exchange begins it afresh (with a snapshot, where it sends one). Where
        there is a frame that unsubscribes, it goes first, and the subscription follows its answer."""
        if not self._frames.settings:
            yield from (raw_frame(stream) for stream in streams)
            return
        leaving: list[Life] = []
        units: list[Unit] = []
        for stream in streams:
            life = self._lives.get(stream_name(stream))
            if life is None or life.state is State.LEAVING:
                continue
            if life.state in _HAD and self._frames.can_unsubscribe(life.name) and not self._frames.replaces:
                self._let_go(life)
                life.wanted_again = True
                leaving.append(life)
            elif not self._unanswered.get(life.name):
                units += life.units
        yield from self._leave(leaving, now)
        yield from self._ask(units, now, again=True)

    def _add(self, stream: Subscription) -> Life:
        life = make_life(stream, self._frames)
        return self._lives.setdefault(life.name, life)

    def _let_go(self, life: Life) -> None:
        """No answer about it is waited for any more, and nothing is due."""
        for question in list(self._open):
            for unit in [unit for unit in question.unanswered if unit.life is life]:
                self._settle(question, unit)
        if self._restoring is not None:
            self._restoring.discard(life.name)
        life.due = life.retry_at = math.inf
        self._keep_time(life)

    def _leave(self, lives: Sequence[Life], now: float) -> Iterator[Step]:
        for life in lives:
            self._lives[life.name] = life
            self._apply_state(life, Event.LEAVE)
            if life.wanted_again:
                life.subscribed = False
                yield Report(event="requested", fields={"stream": life.name})
        if self._frames.replaces and not self._others(()):
            for life in lives:
                yield _log(f"the last stream can't be unsubscribed; the peer goes on sending: {life.name}")
                self._drop(life)
            return
        units = [unit for life in lives for unit in self._frames.to_leave(life)]
        for some in self._frames.split("unsubscribe", units):
            question = self._question("unsubscribe", some)
            yield from self._send(question, now)
            if any(unit.life.wanted_again for unit in some):
                question.deadline = min(question.deadline, now + _TO_LEAVE)
            if not self._rules.confirm:
                yield from self._left(question, now)

    # --- frames

    def _ask(self, units: Sequence[Unit], now: float, *, again: bool = False) -> Iterator[Step]:
        """Asks for these. `again`: they were answered before, so that a refusal is no news."""
        if not units:
            return
        for some in self._frames.split("frame", units):
            yield from self._send(self._question("frame", some, again=again), now)

    def _question(self, template: str, units: Iterable[Unit], *, again: bool = False, tries: int = 0) -> Question:
        question = Question(template, [], list(units), again, tries=tries)
        self._open.append(question)
        for unit in question.unanswered:
            self._unanswered[unit.life.name] = self._unanswered.get(unit.life.name, 0) + 1
        return question

    def _send(self, question: Question, now: float) -> Iterator[Step]:
        self._open.remove(question)
        self._open.append(question)  # an answer that names nothing is about the one that waits longest
        try:
            yield self._frames.encode(question, now, self._others(question.unanswered) if self._frames.replaces else ())
        except BadStream as error:
            for unit in list(question.unanswered):
                yield from self._no(question, unit, str(error), now)
            return
        for life in {id(unit.life): unit.life for unit in question.unanswered}.values():
            self._apply_state(life, Event.ASK)

    def _others(self, units: Sequence[Unit]) -> list[Unit]:
        """What a frame that replaces the whole set has to name besides these."""
        postponed = {id(unit) for question in self._open if question.postponed for unit in question.unanswered}
        postponed.update(map(id, units))
        return [
            unit
            for life in self._lives.values()
            if life.state in _HAD or life.state is State.REQUESTED
            for unit in life.units
            if not unit.error and id(unit) not in postponed
        ]

    def _again_later(self, question: Question, units: Sequence[Unit], pause: float, now: float) -> None:
        """The same, in a frame of its own after a pause."""
        due = max(now + pause, self._retry_at + _BETWEEN_RETRIES)
        self._retry_at = due
        for unit in units:
            self._settle(question, unit)
        later = self._question(question.template, units, again=question.again, tries=question.tries)
        later.postponed, later.deadline, later.pauses = True, due, question.pauses + 1

    def _halve(self, question: Question, units: Sequence[Unit], now: float) -> Iterator[Step]:
        """Asks for these in two frames: one of them is at fault."""
        for unit in units:
            self._settle(question, unit)
        halves = (units[: len(units) // 2], units[len(units) // 2 :])
        first, second = (self._question(question.template, half, again=question.again) for half in halves)
        if self._frames.replaces:  # the frame of the first half is not to name the second, and has to be answered before
            self._half_at = max(now, self._half_at) + _GRACE
            second.postponed, second.deadline = True, self._half_at
        yield from self._send(first, now)
        if not second.postponed:
            yield from self._send(second, now)

    def _assumed(self, now: float) -> Iterator[Step]:
        """Where nothing confirms, a frame that replaces the set and that was not refused till now was taken: what comes from
        now on is about the next one."""
        sent_before = now + self._frames.timeout - _GRACE
        for question in [one for one in self._open if not one.postponed and one.deadline <= sent_before]:
            for unit in list(question.unanswered):
                unit.confirmed = True
                self._settle(question, unit)
                yield from self._apply(unit.life, Event.ASSUME, now)

    # --- numbers and deadlines

    @property
    def waiting(self) -> bool:
        """Whether something is unanswered."""
        return bool(self._open)

    @property
    def watches(self) -> bool:
        """Whether `heard` must be told which streams deliver."""
        return bool(self._awaited)

    def may_hold(self, data: bytes) -> bool:
        """A cheap test on all that was read at once: whether it may hold an answer, also where none is waited for."""
        return self._rules.may_hold(data)

    def uses(self, number: str) -> bool:
        """Whether an unanswered frame carries this number. Where it does not, answers to it are somebody else's from now on."""
        if any(number == str(own) for question in self._open for own in question.numbers):
            return True
        if number.isdecimal():
            self._frames.forget(int(number))
        return False

    def number(self) -> int:
        """The next "$id", of whatever frame: none may be mistaken for that of a frame that subscribes."""
        return self._frames.number()

    def deadline(self) -> float | None:
        """When to call `tick` next; None: not before something is asked."""
        times = [question.deadline for question in self._open]
        times += [min(life.due, life.retry_at) for life in self._timed.values()]
        soonest = min(times, default=math.inf)
        return soonest if soonest < math.inf else None

    def postpone(self, pause: float) -> None:
        """For so long nothing was read, and with it perhaps what is waited for."""
        for question in self._open:
            question.deadline += pause
        for life in self._timed.values():
            life.due += pause
            life.retry_at += pause

    def tick(self, now: float) -> Iterator[Step]:
        """Asks once more for what was not answered in time, then gives it up."""
        for question in [question for question in self._open if now >= question.deadline]:
            yield from self._overdue(question, now)
        for life in [life for life in self._timed.values() if now >= min(life.due, life.retry_at)]:
            if now >= life.due:
                yield from self._silent(life, now)
            if now >= life.retry_at:
                self._plan_retry(life, now)
                yield from self._ask(life.refused, now, again=True)
                break  # one at a time: there may be many
        yield from self._finish_restoring()

    def _overdue(self, question: Question, now: float) -> Iterator[Step]:
        if question.postponed:
            if self._frames.replaces and not self._rules.confirm:
                yield from self._assumed(now)
            yield from self._send(question, now)
            return
        for unit in [unit for unit in question.unanswered if unit.life.state is State.LIVE or question.again]:
            unit.confirmed = unit.confirmed or not unit.error
            self._settle(question, unit)  # it delivers, or it is as it was
        units = list(question.unanswered)
        if question.template == "unsubscribe":
            yield from self._not_left(question, now)
        elif not self._rules.confirm:
            for unit in units:
                unit.confirmed = True
                self._settle(question, unit)
                yield from self._apply(unit.life, Event.ASSUME, now)
        elif len(units) > 1 and (question.errors or (question.tries >= _MOST_TRIES and self._answered)):
            yield from self._halve(question, units, now)
        elif units and question.errors:
            yield from self._no(question, units[0], question.errors[0], now)
        elif units and question.tries < _MOST_TRIES:
            yield from self._send(question, now)
        else:
            for unit in units:
                text = f"not answered within {self._frames.timeout:g} s, asked {question.tries} times"
                yield from self._no(question, unit, text, now)

    def _not_left(self, question: Question, now: float) -> Iterator[Step]:
        if question.tries < _MOST_TRIES and not any(unit.life.wanted_again for unit in question.unanswered):
            yield from self._send(question, now)
            return
        names = ", ".join({unit.life.name: None for unit in question.unanswered})
        yield _log(f"unsubscribing was not answered within {self._frames.timeout:g} s: {names}")
        yield from self._left(question, now)

    def _silent(self, life: Life, now: float) -> Iterator[Step]:
        """Nothing came since it was confirmed: it is asked for once more, then that is reported."""
        if not life.asked_again:
            life.asked_again, life.due = True, life.since + self._live_timeout
            if not self._unanswered.get(life.name):
                yield from self._ask([unit for unit in life.units if not unit.error], now, again=True)
            return
        yield from self._apply(life, Event.SILENCE, now)

    # --- what comes

    def heard(self, name: str, now: float) -> Iterator[Step]:
        """A message of this stream came."""
        life = self._awaited.get(name)
        if life is None:
            return
        if not self._rules.confirm:
            for question in list(self._open):
                for unit in [unit for unit in question.unanswered if unit.life is life]:
                    unit.confirmed = True
                    self._settle(question, unit)
        yield from self._apply(life, Event.DATA, now)
        if len(life.units) == 1 and life.refused:  # it delivers all the same
            life.units[0].error, life.units[0].confirmed = "", True
            self._plan_retry(life, now, afresh=True)
        yield from self._finish_restoring()

    def recognise(self, text: Text, now: float) -> tuple[list[Step], bool] | None:
        """What an answer leads to, and whether it is to be delivered too; None where the message is no answer of ours."""
        answer = self._rules.judge(text)
        if answer is None:
            return None
        meant = whose(answer, self._open, self._frames, self._lives, self.channels, one_each=self._frames.answers_parts)
        if meant is None:
            return None
        self._answered = True
        steps = list(self._act(answer, meant, now))
        return [*steps, *self._finish_restoring()], answer.rule.has_data(answer.value)

    def refusal(self, text: Text) -> str:
        """The text of an error, whatever it is about; empty where the message is none."""
        answer = self._rules.judge(text)
        return "" if answer is None or answer.says is Says.YES else answer.error

    def _act(self, answer: Answer, meant: Meant, now: float) -> Iterator[Step]:
        if not meant.units:
            if answer.says is Says.YES:
                yield from self._yes_to(meant.lives, now)
            elif not meant.late:
                yield from self._told(answer.error, meant.lives, now)
            elif answer.says is Says.NO:
                yield from self._explained(answer.error, meant.lives)
        elif answer.says is Says.LATER:
            yield from self._later(answer, meant, now)
        elif answer.rule.confirms:
            yield from self._yes(answer, meant, now)
        else:
            yield from self._refused(answer, meant, now)

    def _told(self, error: str, lives: Sequence[Life], now: float) -> Iterator[Step]:
        """An error where nothing is unanswered: of what was confirmed, or of nothing of ours."""
        had = [life for life in lives if life.state in _HAD]
        if not had:
            if not lives:
                yield Report(event="peer_error", fields={"text": error})
            return
        newest = max(had, key=lambda life: life.since)
        for unit in newest.units:
            unit.error, unit.confirmed = error, False
        yield _rejected(newest.name, error)
        yield from self._apply(newest, Event.REVOKED, now)

    def _explained(self, error: str, lives: Sequence[Life]) -> Iterator[Step]:
        """A refusal that comes when it is not waited for any more: the reason why a stream was given up, or what the exchange
        says of one that it had confirmed."""
        for life in lives:
            if life.state is State.REJECTED and len(life.units) == 1 and life.units[0].error != error:
                life.units[0].error = error
                yield _rejected(life.name, error)
        if lives and all(life.state in _HAD for life in lives):
            yield Report(event="peer_error", fields={"text": error})

    def _yes_to(self, lives: Sequence[Life], now: float) -> Iterator[Step]:
        """A yes that comes late, to streams that were given up or are to be asked for again."""
        for life in lives:
            if life.state is State.LEAVING or (life.state in _HAD and not life.refused):
                continue
            self._let_go(life)
            for unit in life.units:
                unit.error, unit.confirmed = "", True
            yield from self._apply(life, Event.YES, now)
            self._plan_retry(life, now, afresh=True)

    def _yes(self, answer: Answer, meant: Meant, now: float) -> Iterator[Step]:
        taken = look_up(answer.value, answer.rule.accepted) if answer.rule.accepted else None
        for question, unit in meant.units:
            if question.template == "unsubscribe":
                yield from self._left(question, now, [unit])
            elif isinstance(taken, list) and not any(is_meant(unit.stream, one) for one in taken):
                yield from self._no(question, unit, "it is not among those that were accepted", now)
            else:
                yield from self._bound(unit.life, look_up(answer.value, answer.rule.channel))
                yield from self._confirmed(question, unit, now)

    def _confirmed(self, question: Question, unit: Unit, now: float) -> Iterator[Step]:
        was_refused, unit.error, unit.confirmed = unit.error, "", True
        if was_refused and unit.life.state in _HAD and len(unit.life.units) > 1:
            yield Report(event="subscribed", fields={"stream": stream_name(unit.stream), "of": unit.life.name})
        yield from self._concluded(question, unit, now)

    def _no(self, question: Question, unit: Unit, error: str, now: float, *, sure: bool = True) -> Iterator[Step]:
        """A refusal that is final for now. `sure`: it is about this unit, and not perhaps about another frame."""
        if question.template == "unsubscribe":
            yield _log(f"unsubscribing {unit.life.name} was refused: {error}")
            yield from self._left(question, now, [unit])
            return
        delivers = unit.life.state is State.LIVE and len(unit.life.units) == 1
        if not (question.again and unit.confirmed) and not (delivers and not sure):
            if unit.error != error:
                yield _rejected(stream_name(unit.stream), error, unit.life.name)
            unit.error, unit.confirmed = error, False
            if delivers:
                yield from self._apply(unit.life, Event.REVOKED, now)
        yield from self._concluded(question, unit, now)

    def _concluded(self, question: Question, unit: Unit, now: float) -> Iterator[Step]:
        """One unit is answered; with the last one the stream is."""
        self._settle(question, unit)
        life = unit.life
        if self._unanswered.get(life.name):
            return
        has = life.state is State.LIVE or any(unit.confirmed for unit in life.units)
        yield from self._apply(life, Event.YES if has else Event.NO, now)
        if not question.again or not life.refused:
            self._plan_retry(life, now, afresh=True)

    def _later(self, answer: Answer, meant: Meant, now: float) -> Iterator[Step]:
        """Asked again after a pause; of units of one question, together."""
        questions = {id(question): question for question, _ in meant.units}
        for question in questions.values():
            units = [unit for other, unit in meant.units if other is question]
            if question.pauses >= _MOST_PAUSES:
                for unit in units:
                    yield from self._no(question, unit, answer.error, now)
                continue
            for life in {id(unit.life): unit.life for unit in units}.values():
                self._apply_state(life, Event.LATER)
            self._again_later(question, units, answer.rule.pause * 2**question.pauses, now)

    def _refused(self, answer: Answer, meant: Meant, now: float) -> Iterator[Step]:
        """A frame, or some of its streams, got an error: a no, or "already", which is a yes."""
        question = meant.units[0][0]
        everything = list(question.unanswered)
        if not meant.named or (len(meant.units) == len(everything) > 1 and not meant.alone):
            yield from self._at_fault(answer, question, everything, sure=meant.sure, now=now)
            return
        for other, unit in meant.units:
            yield from self._final(answer, other, unit, now)
        if question.unanswered and not (meant.alone and self._each):
            yield from self._rest(question, now)

    @property
    def _each(self) -> bool:
        """Whether each stream of a frame is answered by itself."""
        return self._rules.answer_each or self._frames.answers_parts

    def _final(self, answer: Answer, question: Question, unit: Unit, now: float, *, sure: bool = True) -> Iterator[Step]:
        """An error is about this unit, and no other."""
        if answer.says is Says.NO:
            yield from self._no(question, unit, answer.error, now, sure=sure)
        elif question.template == "unsubscribe":
            yield from self._left(question, now, [unit])
        else:
            yield from self._confirmed(question, unit, now)

    def _rest(self, question: Question, now: float) -> Iterator[Step]:
        """The streams of a frame that was refused because of another one: where each is answered by itself, the answers come;
        elsewhere the exchange took none of them."""
        if self._each:
            question.deadline = min(question.deadline, now + _GRACE)
        else:
            question.tries = 0
            yield from self._send(question, now)

    def _at_fault(self, answer: Answer, question: Question, units: list[Unit], *, sure: bool, now: float) -> Iterator[Step]:
        """An error that does not name the streams it is about by their whole names."""
        _, partly = named([unit.stream for unit in units], answer.error)
        suspects = [units[place] for place in partly]
        if len(units) == 1:
            if not sure and question.tries < _MOST_TRIES and len(self._open) > 1:
                yield from self._send(question, now)  # it may be about another frame: this one gets the last place
            else:
                yield from self._final(answer, question, units[0], now, sure=sure)
        elif suspects:
            for unit in suspects:
                self._settle(question, unit)
            yield from self._send(self._question(question.template, suspects, again=question.again), now)
            yield from self._rest(question, now)
        elif self._each:
            question.errors.append(answer.error)
            question.deadline = min(question.deadline, now + _GRACE)
            if len(question.errors) == len(units):
                for unit in units:
                    yield from self._final(answer, question, unit, now)
        else:
            yield from self._halve(question, units, now)

    def _left(self, question: Question, now: float, units: Sequence[Unit] | None = None) -> Iterator[Step]:
        """These are unsubscribed, as far as can be known."""
        for unit in list(question.unanswered if units is None else units):
            self._settle(question, unit)
            life = unit.life
            if life.state is not State.LEAVING or self._unanswered.get(life.name):
                continue
            if life.wanted_again:
                life.wanted_again = life.asked_again = False
                for one in life.units:
                    one.confirmed, one.error = False, ""
                self._apply_state(life, Event.AGAIN)
                yield from self._ask(life.units, now)
            else:
                self._apply_state(life, Event.LEFT)
                self._drop(life)

    def _bound(self, life: Life, channel: Any) -> Iterator[Step]:
        """From now on the channel stands for the stream."""
        if not isinstance(channel, int | str) or isinstance(channel, bool):
            return
        text = as_text(channel)
        self.channels[text] = life.stream
        self._channel_of[life.name] = channel
        yield Report(event="channel", fields={"stream": life.stream, "channel": text})

    # --- the table

    def _settle(self, question: Question, unit: Unit) -> None:
        """Nothing is waited for about this unit."""
        if unit not in question.unanswered:
            return
        question.unanswered.remove(unit)
        left = self._unanswered[unit.life.name] - 1
        if left:
            self._unanswered[unit.life.name] = left
        else:
            del self._unanswered[unit.life.name]
        if not question.unanswered:
            self._open.remove(question)

    def _apply(self, life: Life, event: Event, now: float) -> Iterator[Step]:
        action = self._apply_state(life, event, now)
        if action in (Action.CONFIRM, Action.LIVE):
            if not life.subscribed:
                life.subscribed = True
                yield Report(event="subscribed", fields={"stream": life.name})
        elif action is Action.REJECT:
            life.subscribed = False
        elif action is Action.STALL:
            fields = {"stream": life.name, "silence": now - life.since, "hopeless": False}
            yield Report(event="stalled", fields=fields)

    def _apply_state(self, life: Life, event: Event, now: float = 0.0) -> Action:
        state, action = step(life.state, event)
        if state is not life.state:
            self._enter(life, state, now)
        return action

    def _enter(self, life: Life, state: State, now: float) -> None:
        life.state = state
        life.due = math.inf
        if state is State.CONFIRMED:
            life.since = now
            life.asked_again = False
            if self._live_timeout and not any(fnmatchcase(life.name, glob) for glob in self._quiet):
                life.due = now + self._live_timeout / 2
        if state in _HEARS:
            self._awaited[life.name] = life
        else:
            self._awaited.pop(life.name, None)
        self._keep_time(life)

    def _keep_time(self, life: Life) -> None:
        if min(life.due, life.retry_at) < math.inf:
            self._timed[life.name] = life
        else:
            self._timed.pop(life.name, None)

    def _plan_retry(self, life: Life, now: float, *, afresh: bool = False) -> None:
        """What was refused is asked for again, ever more slowly."""
        if afresh:
            life.retries = 0
        if life.refused and life.state is not State.LEAVING:
            life.retry_at = now + min(_FIRST_RETRY * 2**life.retries, _LAST_RETRY)
            life.retries = min(life.retries + 1, 16)
        else:
            life.retry_at, life.retries = math.inf, 0
        self._keep_time(life)

    def _drop(self, life: Life) -> None:
        life.state = State.GONE
        self._lives.pop(life.name, None)
        self._awaited.pop(life.name, None)
        self._timed.pop(life.name, None)

    def _finish_restoring(self) -> Iterator[Step]:
        if self._restoring is None:
            return
        for name in [name for name in self._restoring if not self._unanswered.get(name)]:
            self._restoring.discard(name)
            life = self._lives.get(name)
            if life is not None:
                self._ok += any(unit.confirmed for unit in life.units)
                self._failed += [stream_name(unit.stream) for unit in life.refused]
        if not self._restoring:
            self._restoring = None
            yield _restored(self._ok, self._failed)


def _rejected(name: str, error: str, of: str = "") -> Report:
    fields = {"stream": name, "error": error}
    return Report(event="rejected", fields=fields | {"of": of} if of and of != name else fields)


def _restored(ok: int, failed: Sequence[str]) -> Report:
    return Report(event="restored", fields={"ok": ok, "failed": list(failed)})


def _log(text: str) -> Report:
    return Report(event="log", fields={"level": "warning", "text": text})
