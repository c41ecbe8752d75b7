"""Sends frames that subscribe and unsubscribe, and keeps those that are unanswered. Pure; the clock is passed in."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from wsadapter.contract.dialect.templates import BadStream, raw_frame, stream_name
from wsadapter.contract.endpoint import Subscription
from wsadapter.contract.ipc.reports import Report, SubscriptionsSent
from wsadapter.worker.subscription.frames import Frames, Life, Question, Unit, Unsigned, lives_of
from wsadapter.worker.subscription.life import Event, State
from wsadapter.worker.subscription.lives import SUBSCRIBED, Lives


@dataclass(frozen=True, slots=True)
class Asked:
    """A text to send, and the report to write when the kernel has it."""

    text: bytes
    report: Report


Step = bytes | Asked | Unsigned | Report
"""A text to send, a frame to sign and send, or a report."""

_GROUPS: Final = 8
"""With 8 groups, one bad stream of a thousand is alone in its group on the fourth connection."""
GRACE: Final = 2.0
"""Seconds for the answers to the other streams of a frame after one of them was refused, if each is answered separately."""
_BETWEEN_RETRIES: Final = 0.2
"""Least seconds between two frames that are sent again after a pause: all at once would be refused again."""


class Asking:
    """The open questions of one connection, the one that has waited longest first. Not thread-safe."""

    def __init__(self, frames: Frames, lives: Lives, *, reports_sent: bool) -> None:
        """`reports_sent`: each frame comes with the report to write when the kernel has it."""
        self._frames, self._lives, self._reports_sent = frames, lives, reports_sent
        self.replaces = frames.replaces
        """Each frame names all streams of the connection."""
        self.open: list[Question] = []
        self._unanswered: dict[str, int] = {}
        """How many units of a stream are in open questions, by the name of the stream."""
        self._retry_at = -math.inf
        """When the last deferred frame is sent again."""
        self._half_at = -math.inf
        """When the last half of a set that is replaced is sent."""
        self.refuse: Callable[[Question, Unit, str, float], Iterator[Step]]
        """Called with a stream that no frame can name: the question, the unit, the cause, now. `AnswerHandler` sets it."""

    def awaits_answer(self, life: Life) -> bool:
        """True if a unit of the subscription is in an open question."""
        return life.name in self._unanswered

    def ask(self, units: Sequence[Unit], now: float, *, again: bool = False) -> Iterator[Step]:
        """Requests these units. `again`: they were answered before, so a refusal is not reported again."""
        if not units:
            return
        for some in self._frames.split("frame", units):
            yield from self.send(self.question("frame", some, again=again), now)

    def ask_raw(self, streams: Iterable[Subscription]) -> Iterator[Step]:
        """Sends each stream as a separate frame; for endpoints without a dialect."""
        for stream in streams:
            frame = raw_frame(stream)
            yield Asked(frame, SubscriptionsSent((stream_name(stream),), gone=False)) if self._reports_sent else frame

    def ask_in_groups(self, lives: Sequence[Life], now: float) -> None:
        """Requests these in at most `_GROUPS` groups, each when the group before is answered or its time is over."""
        due = max(now, self._frames.sent_at) + GRACE if self.open else now
        size = -(-len(lives) // _GROUPS) or 1
        for at in range(0, len(lives), size):
            for units in self._frames.split("frame", [unit for life in lives[at : at + size] for unit in life.units]):
                question = self.question("frame", units)
                question.postponed, question.grouped, question.deadline = True, True, due
            due += GRACE

    def advance_groups(self, now: float) -> None:
        """Sends the next group at once if everything before it is answered."""
        apart = [question for question in self.open if question.postponed and question.grouped]
        if apart and all(question.postponed for question in self.open):
            first = min(question.deadline for question in apart)
            for question in apart if first > now else ():
                question.deadline = now + (question.deadline - first)

    def sent_within(self, seconds: float, now: float) -> list[Life]:
        """The unanswered streams that were requested at most `seconds` ago."""
        recent = [
            question
            for question in self.open
            if question.template == "frame" and not question.postponed and 0 <= now - question.sent_at <= seconds
        ]
        lives = lives_of(unit for question in recent for unit in question.unanswered)
        return [life for life in lives if life.state not in SUBSCRIBED]

    def question(self, template: str, units: Iterable[Unit], *, again: bool = False, tries: int = 0) -> Question:
        """A new open question about these units."""
        question = Question(template, [], list(units), again, tries=tries)
        self.open.append(question)
        for unit in question.unanswered:
            self._unanswered[unit.life.name] = self._unanswered.get(unit.life.name, 0) + 1
        return question

    def send(self, question: Question, now: float) -> Iterator[Step]:
        """Sends the frame of an open question, perhaps again."""
        self.open.remove(question)
        self.open.append(question)  # last, because an answer that names nothing is about the question that has waited longest
        try:
            frame = self._frames.encode(question, now, self.others(question.unanswered) if self.replaces else ())
            report = self.when_sent(question)
            yield Asked(frame, report) if isinstance(frame, bytes) and report is not None else frame
        except BadStream as error:
            for unit in list(question.unanswered):
                yield from self.refuse(question, unit, str(error), now)
            return
        for life in lives_of(question.unanswered) if question.template == "frame" else ():
            life.asked += 1
            self._lives.move(life, Event.ASK)

    def when_sent(self, question: Question) -> SubscriptionsSent | None:
        """The report to write when the kernel has the question's frame; None: there is none."""
        if not self._reports_sent:
            return None
        names = dict.fromkeys(unit.life.name for unit in question.unanswered)
        return SubscriptionsSent(tuple(names), gone=question.template == "unsubscribe")

    def others(self, units: Sequence[Unit]) -> list[Unit]:
        """The units that a frame which replaces the whole set must name in addition to `units`."""
        postponed = {unit for question in self.open if question.postponed for unit in question.unanswered}
        postponed.update(units)
        return [
            unit
            for life in self._lives.all.values()
            if life.state in SUBSCRIBED or life.state is State.REQUESTED
            for unit in life.units
            if not unit.error and unit not in postponed
        ]

    def ask_later(self, question: Question, units: Sequence[Unit], pause: float, now: float) -> None:
        """Requests these units again, in a frame of their own, after a pause."""
        due = max(now + pause, self._retry_at + _BETWEEN_RETRIES)
        self._retry_at = due
        for unit in units:
            self.close_unit(question, unit)
        later = self.question(question.template, units, again=question.again, tries=question.tries)
        later.postponed, later.deadline, later.pauses = True, due, question.pauses + 1

    def halve(self, question: Question, units: Sequence[Unit], now: float) -> Iterator[Step]:
        """Requests these units in two frames, to find the one that was refused."""
        half = len(units) // 2
        yield from self.divide(question, units[:half], units[half:], now)

    def divide(self, question: Question, first: Sequence[Unit], second: Sequence[Unit], now: float) -> Iterator[Step]:
        """Requests the two groups in a frame each."""
        for unit in (*first, *second):
            self.close_unit(question, unit)
        one, other = (self.question(question.template, some, again=question.again) for some in (first, second))
        if self.replaces:  # the first frame must not name the second group, so it must be answered before the second is sent
            self._half_at = max(now, self._half_at) + GRACE
            other.postponed, other.deadline = True, self._half_at
        yield from self.send(one, now)
        if not other.postponed:
            yield from self.send(other, now)

    def close_unit(self, question: Question, unit: Unit) -> None:
        """The unit is answered, or no longer asked about; a question without unanswered units is closed."""
        if unit not in question.unanswered:
            return
        question.unanswered.remove(unit)
        left = self._unanswered[unit.life.name] - 1
        if left:
            self._unanswered[unit.life.name] = left
        else:
            del self._unanswered[unit.life.name]
        if not question.unanswered:
            self.open.remove(question)

    def drop(self, life: Life) -> list[Unit]:
        """No answer about the subscription is awaited any more; returns its units that were unanswered."""
        dropped = [(question, unit) for question in self.open for unit in question.unanswered if unit.life is life]
        for question, unit in dropped:
            self.close_unit(question, unit)
        return [unit for _, unit in dropped]

    def uses(self, number: str) -> bool:
        """True if the frame of an open question carries this number."""
        return any(number == str(own) for question in self.open for own in question.numbers)

    def deadline(self) -> float:
        """When a question is due next; infinite: there is none."""
        return min((question.deadline for question in self.open), default=math.inf)

    def due(self, now: float) -> list[Question]:
        """The questions whose time for an answer is over, or that are to be sent now."""
        return [question for question in self.open if now >= question.deadline]

    def postpone(self, pause: float) -> None:
        """Nothing was read for `pause` seconds, so answers may be among the unread bytes."""
        for question in self.open:
            question.deadline += pause
