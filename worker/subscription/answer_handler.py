"""What an answer leads to: a yes, a no or a later, for which streams. Pure; the clock is passed in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from wsadapter.contract.dialect.fields import as_text
from wsadapter.contract.dialect.paths import look_up
from wsadapter.contract.dialect.templates import is_same_stream, stream_name
from wsadapter.contract.endpoint import Subscription
from wsadapter.contract.ipc.reports import ChannelAssigned, LogLine, PeerError, SubscriptionConfirmed, SubscriptionRejected
from wsadapter.worker.subscription.answers import Answer, Rules, Says
from wsadapter.worker.subscription.asking import GRACE, Asking, Step
from wsadapter.worker.subscription.attribution import Target
from wsadapter.worker.subscription.frames import Life, Question, Unit, lives_of
from wsadapter.worker.subscription.life import Event, State
from wsadapter.worker.subscription.lives import SUBSCRIBED, Lives, blame
from wsadapter.worker.subscription.names import named

MOST_TRIES: Final = 2
_MOST_PAUSES: Final = 6
"""How often a "later" leads to another attempt; the pause doubles each time, so all attempts take more than a minute."""

_NOT_AMONG: Final = "it is not among those that were accepted"


class AnswerHandler:
    """Handles the answers of one connection. Not thread-safe."""

    def __init__(
        self, rules: Rules, asking: Asking, lives: Lives, *, each: bool, channels: dict[str, Subscription],
        channel_of: dict[str, int | str],
    ) -> None:  # fmt: skip
        """`each`: each stream of a frame is answered separately. `channels`, `channel_of`: the subscription of a channel, and
        the channel of a stream; this class adds to both."""
        self._rules, self._asking, self._lives, self._each = rules, asking, lives, each
        self._channels, self._channel_of = channels, channel_of
        asking.refuse = self.refuse

    def handle(self, answer: Answer, target: Target, now: float) -> Iterator[Step]:
        """What an answer about `target` leads to."""
        if not target.units:
            if answer.says is Says.YES:
                yield from self._yes_to(answer, target.lives, now)
                if target.given_up is not None:
                    missing = lives_of(unit for unit in target.given_up.given_up if self._is_missing(unit))
                    yield from self._explained(_NOT_AMONG, missing)
            elif target.given_up is not None:
                yield from self._reopened(answer, target.given_up, now)
            elif not target.late:
                yield from self._unrequested_error(answer, target.lives, now)
            elif answer.says is Says.NO:
                yield from self._explained(answer.error, target.lives)
        elif answer.says is Says.LATER:
            yield from self._later(answer, target, now)
        elif answer.rule.confirms:
            yield from self._yes(answer, target, now)
        else:
            yield from self._refused(answer, target, now)

    def _unrequested_error(self, answer: Answer, lives: Sequence[Life], now: float) -> Iterator[Step]:
        """An error that answers no open question: about confirmed streams, about streams that were given up, or about nothing
        of ours."""
        error = answer.error
        had = [life for life in lives if life.state in SUBSCRIBED]
        if not had:
            if not lives:
                yield PeerError(error)
            elif answer.says is Says.NO:
                yield from self._explained(error, lives)
            return
        newest = max(had, key=lambda life: life.since)
        for unit in newest.units:
            unit.error, unit.confirmed, unit.reported = error, False, False
        yield rejected(newest.name, error)
        yield from self._lives.apply(newest, Event.REVOKED, now)

    def _explained(self, error: str, lives: Sequence[Life]) -> Iterator[Step]:
        """A refusal that comes after its question was closed: the reason why a stream was given up, or an error about a stream
        that was confirmed."""
        for life in lives:
            if life.state is State.REJECTED and len(life.units) == 1 and life.units[0].error != error:
                life.units[0].error = error
                yield rejected(life.name, error)
        if lives and all(life.state in SUBSCRIBED for life in lives):
            yield PeerError(error)

    def _reopened(self, answer: Answer, question: Question, now: float) -> Iterator[Step]:
        """A refusal of a frame that was given up: the units that are not refused are requested again at once, not at the next
        retry."""
        units = [unit for unit in question.given_up if self._is_missing(unit)]
        question.given_up = []
        if not units:
            return
        again = self._asking.question(question.template, units, again=True)
        again.asked, again.forms, again.deadline = units, question.forms, now + GRACE
        if answer.says is Says.LATER:
            yield from self.postpone(again, units, answer.error, answer.rule.pause, now)
            return
        whole, _ = named([unit.words for unit in units], answer.error)
        refused = [units[place] for place in whole] or units
        yield from self._refused(answer, Target([(again, unit) for unit in refused], named=bool(whole)), now)

    def _is_missing(self, unit: Unit) -> bool:
        """True if the unit was refused or given up, and no question about its stream is open."""
        gone = unit.life.state in (State.LEAVING, State.GONE)
        return bool(unit.error) and not gone and not self._asking.awaits_answer(unit.life)

    def _yes_to(self, answer: Answer, lives: Sequence[Life], now: float) -> Iterator[Step]:
        """A late yes, to streams that were given up or are to be requested again."""
        if len(lives) == 1:
            yield from self._bound(lives[0], look_up(answer.value, answer.rule.paths.channel))
        for life in lives:
            if life.state is State.LEAVING or (life.state in SUBSCRIBED and not life.refused):
                continue
            self._asking.drop(life)
            self._lives.forget_times(life)
            for unit in life.units:
                yield from self._accepted(unit)
            yield from self._lives.apply(life, Event.YES, now)
            self._lives.plan_retry(life, now, from_first=True)

    def _yes(self, answer: Answer, target: Target, now: float) -> Iterator[Step]:
        taken = answer.rule.accepted_streams(answer.value)
        for question, unit in target.units:
            if question.template == "unsubscribe":
                yield from self.unsubscribed(question, now, [unit])
            elif taken is not None and not any(is_same_stream(unit.stream, one) for one in taken):
                yield from self.refuse(question, unit, _NOT_AMONG, now)
            else:
                yield from self._bound(unit.life, look_up(answer.value, answer.rule.paths.channel))
                yield from self._confirmed(question, unit, now)

    def _confirmed(self, question: Question, unit: Unit, now: float) -> Iterator[Step]:
        yield from self._accepted(unit)
        yield from self.conclude(question, unit, now)

    def _accepted(self, unit: Unit) -> Iterator[Step]:
        """The unit is subscribed. If its refusal was reported by its own name, the yes is reported too."""
        was_reported, unit.error, unit.confirmed, unit.reported = unit.reported, "", True, False
        if was_reported and len(unit.life.units) > 1:
            yield SubscriptionConfirmed(stream_name(unit.stream), unit.life.name)

    def refuse(self, question: Question, unit: Unit, error: str, now: float, *, sure: bool = True) -> Iterator[Step]:
        """A refusal. `sure`: it is about this unit; False: it may be about another frame."""
        if question.template == "unsubscribe":
            yield log(f"unsubscribing {unit.life.name} was refused: {error}")
            yield from self.unsubscribed(question, now, [unit])
            return
        one = len(unit.life.units) == 1
        delivers = one and unit.life.state is State.LIVE
        assumed = one and not self._rules.confirm and unit.life.state in (State.CONFIRMED, State.SILENT)
        if assumed or (not (question.again and unit.confirmed) and not (delivers and not sure)):
            if unit.error != error:
                yield self._rejected(unit, error)
            unit.error, unit.confirmed = error, False
            if delivers or assumed:
                yield from self._lives.apply(unit.life, Event.REVOKED, now)
        yield from self.conclude(question, unit, now)

    def unanswered(self, question: Question, units: Sequence[Unit], error: str, now: float) -> Iterator[Step]:
        """No answer came about these units. If all parts of a stream are unanswered, the stream is reported by its own name."""
        question.given_up = list(units)
        for life in lives_of(units):
            own = [unit for unit in units if unit.life is life]
            if len(own) == len(life.units) > 1 and any(unit.error != error for unit in own):
                yield rejected(life.name, error)
                for unit in own:
                    unit.error, unit.reported = error, False
            for unit in own:
                yield from self.refuse(question, unit, error, now)

    def _rejected(self, unit: Unit, error: str) -> SubscriptionRejected:
        unit.reported = True
        return rejected(stream_name(unit.stream), error, unit.life.name)

    def conclude(self, question: Question, unit: Unit, now: float) -> Iterator[Step]:
        """One unit is answered; with its last unit the stream is answered."""
        self._asking.close_unit(question, unit)
        life = unit.life
        if self._asking.awaits_answer(life):
            return
        if life.blamed and not self._rules.closes:  # the peer answered and did not close: the stream is not the cause
            life.blamed = False
            yield blame({life.name: None})
        has = life.state is State.LIVE or any(unit.confirmed for unit in life.units)
        yield from self._lives.apply(life, Event.YES if has else Event.NO, now)
        if has:  # the whole stream was reported as refused; now only some parts are, so they are reported by their names
            yield from [self._rejected(unit, unit.error) for unit in life.refused if not unit.reported]
        if not question.again or not life.refused:
            self._lives.plan_retry(life, now, from_first=True)

    def _later(self, answer: Answer, target: Target, now: float) -> Iterator[Step]:
        """The units are requested again after a pause; the units of one question together."""
        for question in dict.fromkeys(question for question, _ in target.units):
            units = [unit for other, unit in target.units if other is question]
            yield from self.postpone(question, units, answer.error, answer.rule.pause, now)

    def postpone(self, question: Question, units: Sequence[Unit], error: str, pause: float, now: float) -> Iterator[Step]:
        """Requests these units again after a pause that doubles each time; after `_MOST_PAUSES` times they are refused."""
        if question.pauses >= _MOST_PAUSES:
            for unit in units:
                yield from self.refuse(question, unit, error, now)
            return
        for life in lives_of(units):
            self._lives.move(life, Event.LATER)
        self._asking.ask_later(question, units, pause * 2**question.pauses, now)

    def _refused(self, answer: Answer, target: Target, now: float) -> Iterator[Step]:
        """An error about a frame or some of its streams: a no, or "already subscribed", which is a yes."""
        question = target.units[0][0]
        everything = list(question.unanswered)
        if answer.rule.closes and answer.says is Says.NO and question.template == "frame":
            yield from self._blamed(answer, target, now)
            return
        if not target.named or (len(target.units) == len(everything) > 1 and not target.alone):
            yield from self._at_fault(answer, question, everything, sure=target.sure, now=now)
            return
        for other, unit in target.units:
            yield from self.final(answer, other, unit, now)
        if question.unanswered and not (target.alone and self._each):
            yield from self._rest(question, now)

    def refused_before(self, lives: Mapping[Life, str], now: float) -> Iterator[Step]:
        """Reports streams that were refused on an earlier connection with these errors, and that are not requested yet."""
        for life, error in lives.items():
            for unit in life.units:
                unit.error = error
            yield from self._lives.apply(life, Event.NO, now)
            yield rejected(life.name, error)

    def _blamed(self, answer: Answer, target: Target, now: float) -> Iterator[Step]:
        """The peer closes the connection because of one of these streams, so the search continues on the next connection."""
        _, partly = named([unit.words for _, unit in target.units], answer.error)
        suspects = [target.units[place] for place in partly] if not target.named and partly else target.units
        lives = {unit.life.name: unit.life for _, unit in suspects}
        for life in lives.values():
            life.blamed = True
        if target.named or len(lives) == 1:
            yield blame(dict.fromkeys(lives, answer.error))
            for question, unit in suspects:
                yield from self.refuse(question, unit, answer.error, now)
        else:
            yield blame(dict.fromkeys(lives, ""))
            yield log(f"one of these is refused; the next connection will find out which: {', '.join(lives)}: {answer.error}")

    def final(self, answer: Answer, question: Question, unit: Unit, now: float, *, sure: bool = True) -> Iterator[Step]:
        """An error is about this unit and no other."""
        if answer.says is Says.NO:
            yield from self.refuse(question, unit, answer.error, now, sure=sure)
        elif question.template == "unsubscribe":
            yield from self.unsubscribed(question, now, [unit])
        else:
            yield from self._confirmed(question, unit, now)

    def _rest(self, question: Question, now: float) -> Iterator[Step]:
        """The other streams of a frame that was refused because of one stream: if each stream is answered separately, their
        answers come; otherwise the exchange accepted none of them, and they are requested again."""
        if self._each:
            question.deadline = min(question.deadline, now + GRACE)
        else:
            question.tries = 0
            yield from self._asking.send(question, now)

    def _at_fault(self, answer: Answer, question: Question, units: list[Unit], *, sure: bool, now: float) -> Iterator[Step]:
        """An error that does not name its streams by their whole names: finds the stream by asking in smaller frames."""
        _, partly = named([unit.words for unit in units], answer.error)
        suspects = [units[place] for place in partly]
        if len(units) == 1:
            if not sure and question.tries < MOST_TRIES and len(self._asking.open) > 1:
                # The error may be about another frame. Sent again, this question is last, so the same error would now go to the
                # other frame.
                yield from self._asking.send(question, now)
            else:
                yield from self.final(answer, question, units[0], now, sure=sure)
        elif suspects and self._asking.replaces:  # every frame names all streams: one with a suspect would be refused again
            yield from self._asking.divide(question, [unit for unit in units if unit not in suspects], suspects, now)
        elif suspects:
            for unit in suspects:
                self._asking.close_unit(question, unit)
            yield from self._asking.send(self._asking.question(question.template, suspects, again=question.again), now)
            yield from self._rest(question, now)
        elif self._each:
            question.errors.append(answer)
            question.deadline = min(question.deadline, now + GRACE)
            if len(question.errors) < len(units):
                return
            if len({one.says for one in question.errors}) > 1:  # some are subscribed already, and no error says which
                yield from self._asking.halve(question, units, now)
                return
            for unit in units:
                yield from self.final(answer, question, unit, now)
        else:
            yield from self._asking.halve(question, units, now)

    def unsubscribed(self, question: Question, now: float, units: Sequence[Unit] | None = None) -> Iterator[Step]:
        """These units are unsubscribed, or their frame was not answered in time."""
        for unit in list(question.unanswered if units is None else units):
            self._asking.close_unit(question, unit)
            life = unit.life
            if life.state is not State.LEAVING or self._asking.awaits_answer(life):
                continue
            if life.wanted_again:
                life.wanted_again = life.asked_again = False
                for one in life.units:
                    one.confirmed, one.error = False, ""
                self._lives.move(life, Event.AGAIN)
                yield from self._asking.ask(life.units, now)
            else:
                self._lives.move(life, Event.LEFT)
                self._lives.drop(life)

    def _bound(self, life: Life, channel: Any) -> Iterator[Step]:
        """The peer assigned a channel to the stream."""
        if not isinstance(channel, int | str) or isinstance(channel, bool):
            return
        text = as_text(channel)
        if self._channels.get(text) == life.stream:
            return
        self._channels[text] = life.stream
        self._channel_of[life.name] = channel
        yield ChannelAssigned(life.stream, text)


def rejected(name: str, error: str, of: str = "") -> SubscriptionRejected:
    """The report that a stream, or a part of the stream `of`, is refused."""
    return SubscriptionRejected(name, error, of if of != name else "")


def log(text: str) -> LogLine:
    """A warning for the supervisor's log."""
    return LogLine("warning", text)
