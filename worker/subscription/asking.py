"""The frames that are unanswered, and the sending of them. Pure; the clock is passed in."""

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
from wsadapter.worker.subscription.lives import HAD, Lives


@dataclass(frozen=True, slots=True)
class Asked:
    """A text to send, and what to report once it is out."""

    text: bytes
    report: Report


Step = bytes | Asked | Unsigned | Report
"""A text to send, or something to report; in this order."""

_GROUPS: Final = 8
"""So that one bad stream of a thousand is alone in its group on the fourth connection."""
GRACE: Final = 2.0
"""Seconds for the other streams of a frame of which one was refused, where each is answered by itself."""
_BETWEEN_RETRIES: Final = 0.2
"""Seconds at least from one frame that is asked again after a pause to the next: all at once would be refused again."""


class Asking:
    """The open questions of one connection, the one that waits longest first. Not thread-safe."""

    def __init__(self, frames: Frames, lives: Lives, *, reports_sent: bool) -> None:
        """`reports_sent`: each frame comes with what to report once it is out."""
        self._frames, self._lives, self._reports_sent = frames, lives, reports_sent
        self.replaces = frames.replaces
        """Whether each frame names all streams of the connection."""
        self.open: list[Question] = []
        self._unanswered: dict[str, int] = {}
        """How many units of a stream are in open questions, by its name."""
        self._retry_at = -math.inf
        """When the last of the frames that were refused for the moment is asked again."""
        self._half_at = -math.inf
        """When the last half of a set that is replaced is asked for."""
        self.refuse: Callable[[Question, Unit, str, float], Iterator[Step]]
        """What to do with a stream that no frame can name: the question, the unit, why, now."""

    def waits_for(self, life: Life) -> bool:
        """Whether something about it is unanswered."""
        return life.name in self._unanswered

    def ask(self, units: Sequence[Unit], now: float, *, again: bool = False) -> Iterator[Step]:
        """Asks for these. `again`: they were answered before, so that a refusal is no news."""
        if not units:
            return
        for some in self._frames.split("frame", units):
            yield from self.send(self.question("frame", some, again=again), now)

    def ask_raw(self, streams: Iterable[Subscription]) -> Iterator[Step]:
        """Where streams are frames of their own."""
        for stream in streams:
            frame = raw_frame(stream)
            yield Asked(frame, SubscriptionsSent((stream_name(stream),), gone=False)) if self._reports_sent else frame

    def ask_apart(self, lives: Sequence[Life], now: float) -> None:
        """Asks for these in at most `_GROUPS` groups, each when the one before is answered or may be taken for granted."""
        due = max(now, self._frames.sent_at) + GRACE if self.open else now
        size = -(-len(lives) // _GROUPS) or 1
        for at in range(0, len(lives), size):
            for units in self._frames.split("frame", [unit for life in lives[at : at + size] for unit in life.units]):
                question = self.question("frame", units)
                question.postponed, question.apart, question.deadline = True, True, due
            due += GRACE

    def hasten(self, now: float) -> None:
        """Everything before the next group may be answered: its turn is now."""
        apart = [question for question in self.open if question.postponed and question.apart]
        if apart and all(question.postponed for question in self.open):
            first = min(question.deadline for question in apart)
            for question in apart if first > now else ():
                question.deadline = now + (question.deadline - first)

    def sent_within(self, seconds: float, now: float) -> list[Life]:
        """The streams that nothing was said of since they were asked for, at most so many seconds ago."""
        recent = [
            question
            for question in self.open
            if question.template == "frame" and not question.postponed and 0 <= now - question.sent_at <= seconds
        ]
        lives = lives_of(unit for question in recent for unit in question.unanswered)
        return [life for life in lives if life.state not in HAD]

    def question(self, template: str, units: Iterable[Unit], *, again: bool = False, tries: int = 0) -> Question:
        question = Question(template, [], list(units), again, tries=tries)
        self.open.append(question)
        for unit in question.unanswered:
            self._unanswered[unit.life.name] = self._unanswered.get(unit.life.name, 0) + 1
        return question

    def send(self, question: Question, now: float) -> Iterator[Step]:
        self.open.remove(question)
        self.open.append(question)  # an answer that names nothing is about the one that waits longest
        try:
            frame = self._frames.encode(question, now, self.others(question.unanswered) if self.replaces else ())
            report = self.once_out(question)
            yield Asked(frame, report) if isinstance(frame, bytes) and report is not None else frame
        except BadStream as error:
            for unit in list(question.unanswered):
                yield from self.refuse(question, unit, str(error), now)
            return
        for life in lives_of(question.unanswered) if question.template == "frame" else ():
            life.asked += 1
            self._lives.move(life, Event.ASK)

    def once_out(self, question: Question) -> SubscriptionsSent | None:
        """What to report when the question's frame is out; None: nothing."""
        if not self._reports_sent:
            return None
        names = dict.fromkeys(unit.life.name for unit in question.unanswered)
        return SubscriptionsSent(tuple(names), gone=question.template == "unsubscribe")

    def others(self, units: Sequence[Unit]) -> list[Unit]:
        """What a frame that replaces the whole set has to name besides these."""
        postponed = {unit for question in self.open if question.postponed for unit in question.unanswered}
        postponed.update(units)
        return [
            unit
            for life in self._lives.all.values()
            if life.state in HAD or life.state is State.REQUESTED
            for unit in life.units
            if not unit.error and unit not in postponed
        ]

    def later(self, question: Question, units: Sequence[Unit], pause: float, now: float) -> None:
        """The same, in a frame of its own after a pause."""
        due = max(now + pause, self._retry_at + _BETWEEN_RETRIES)
        self._retry_at = due
        for unit in units:
            self.settle(question, unit)
        later = self.question(question.template, units, again=question.again, tries=question.tries)
        later.postponed, later.deadline, later.pauses = True, due, question.pauses + 1

    def halve(self, question: Question, units: Sequence[Unit], now: float) -> Iterator[Step]:
        """Asks for these in two frames: one of them is at fault."""
        half = len(units) // 2
        yield from self.divide(question, units[:half], units[half:], now)

    def divide(self, question: Question, first: Sequence[Unit], second: Sequence[Unit], now: float) -> Iterator[Step]:
        """Asks for these in a frame of their own each."""
        for unit in (*first, *second):
            self.settle(question, unit)
        one, other = (self.question(question.template, some, again=question.again) for some in (first, second))
        if self.replaces:  # the first frame is not to name those of the second, and has to be answered before
            self._half_at = max(now, self._half_at) + GRACE
            other.postponed, other.deadline = True, self._half_at
        yield from self.send(one, now)
        if not other.postponed:
            yield from self.send(other, now)

    def settle(self, question: Question, unit: Unit) -> None:
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
            self.open.remove(question)

    def drop(self, life: Life) -> list[Unit]:
        """No answer about it is waited for any more; its units that were unanswered."""
        dropped = [(question, unit) for question in self.open for unit in question.unanswered if unit.life is life]
        for question, unit in dropped:
            self.settle(question, unit)
        return [unit for _, unit in dropped]

    def uses(self, number: str) -> bool:
        """Whether an open question's frame carries this number."""
        return any(number == str(own) for question in self.open for own in question.numbers)

    def deadline(self) -> float:
        """When something is due next; infinite: nothing is."""
        return min((question.deadline for question in self.open), default=math.inf)

    def due(self, now: float) -> list[Question]:
        """Those whose time is up, or come."""
        return [question for question in self.open if now >= question.deadline]

    def postpone(self, pause: float) -> None:
        """For so long nothing was read, and with it perhaps what is waited for."""
        for question in self.open:
            question.deadline += pause
