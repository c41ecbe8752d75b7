"""Frames that are not answered in time, and streams that are confirmed but silent. Pure; the clock is passed in.

    not answered ──> sent again ──> in halves, if the peer answers other frames ──> rejected, and requested again later

If the exchange confirms nothing, no answer in time is a yes.
"""

from __future__ import annotations

from collections.abc import Iterator

from wsadapter.worker.subscription.answer_handler import MOST_TRIES, AnswerHandler, log
from wsadapter.worker.subscription.answers import Rules
from wsadapter.worker.subscription.asking import GRACE, Asking, Step
from wsadapter.worker.subscription.frames import Frames, Life, Question
from wsadapter.worker.subscription.life import Event, State
from wsadapter.worker.subscription.lives import Lives


class Unanswered:
    """The deadlines of one connection's questions. Times are monotonic seconds. Not thread-safe."""

    def __init__(self, rules: Rules, frames: Frames, lives: Lives, asking: Asking, handler: AnswerHandler) -> None:
        self._rules = rules
        self._frames = frames
        self._lives = lives
        self._asking = asking
        self._handler = handler
        self.answered = False
        """The exchange has answered something on this connection."""

    def overdue(self, question: Question, now: float) -> Iterator[Step]:
        """The time for the answer to a frame is over, or a postponed frame is to be sent."""
        if question.postponed:
            if self._frames.replaces and not self._rules.confirm:
                yield from self._assumed_before(now)
            yield from self._asking.send(question, now)
            return
        question.given_up = [unit for unit in question.unanswered if question.again and unit.error]
        refused = question.given_up if question.errors else ()
        for unit in [unit for unit in question.unanswered if unit.life.state is State.LIVE or question.again]:
            if unit in refused:
                continue
            unit.confirmed = unit.confirmed or not unit.error
            # A LIVE stream needs no answer. A stream that was only requested again keeps the state that it had.
            yield from self._handler.conclude(question, unit, now)
        units = list(question.unanswered)
        if question.template == "unsubscribe":
            yield from self._not_left(question, now)
        elif not self._rules.confirm:
            yield from self._assumed(question, now)
        elif len(units) > 1 and (question.errors or (question.tries >= MOST_TRIES and self.answered)):
            yield from self._asking.halve(question, units, now)
        elif units and question.errors:
            yield from self._handler.final(question.errors[0], question, units[0], now)
        elif units and question.tries < MOST_TRIES:
            yield from self._asking.send(question, now)
        elif units:
            text = f"not answered within {self._frames.timeout:g} s, asked {question.tries} times"
            yield from self._handler.unanswered(question, units, text, now)

    def _assumed(self, question: Question, now: float) -> Iterator[Step]:
        """The exchange confirms nothing, and no refusal came in time: the units count as confirmed."""
        for unit in list(question.unanswered):
            unit.confirmed = True
            self._asking.close_unit(question, unit)
            yield from self._lives.apply(unit.life, Event.ASSUME, now)

    def _assumed_before(self, now: float) -> Iterator[Step]:
        """If the exchange confirms nothing, a frame that replaces the set and that was not refused until now was accepted: an
        answer that comes from now on is about the next frame."""
        sent_before = now + self._frames.timeout - GRACE
        for question in [one for one in self._asking.open if not one.postponed and one.deadline <= sent_before]:
            yield from self._assumed(question, now)

    def _not_left(self, question: Question, now: float) -> Iterator[Step]:
        if question.tries < MOST_TRIES and not any(unit.life.wanted_again for unit in question.unanswered):
            yield from self._asking.send(question, now)
            return
        names = ", ".join({unit.life.name: None for unit in question.unanswered})
        yield log(f"unsubscribing was not answered within {self._frames.timeout:g} s: {names}")
        yield from self._handler.unsubscribed(question, now)

    def silent(self, life: Life, now: float) -> Iterator[Step]:
        """No message came since the stream was confirmed: it is requested again; after that, the silence is reported."""
        if not life.asked_again:
            life.asked_again, life.due = True, life.since + self._lives.live_timeout
            if not self._asking.awaits_answer(life):
                yield from self._asking.ask([unit for unit in life.units if not unit.error], now, again=True)
            return
        yield from self._lives.apply(life, Event.SILENCE, now)
