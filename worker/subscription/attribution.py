"""Finds the frame and the units that an answer is about. Pure.

An answer is attributed by the number of a frame, otherwise by the arguments that it echoes, otherwise by the stream that it
names, otherwise by whole words of its text. An answer that names nothing is about the frame that has waited longest.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from wsadapter.contract.dialect.fields import Fields, FieldWords, as_text
from wsadapter.contract.dialect.paths import MISSING, look_up
from wsadapter.contract.dialect.templates import is_same_stream, number_in, stream_name
from wsadapter.contract.endpoint import Subscription
from wsadapter.worker.subscription.answers import Answer, Rule, Says
from wsadapter.worker.subscription.frames import Frames, Life, Question, Unit, lives_of
from wsadapter.worker.subscription.names import WholeSet, named

Open = tuple[Question, Unit]
"""An unanswered unit and its question."""


@dataclass(slots=True)
class Target:
    """What an answer is about."""

    units: list[Open] = field(default_factory=list)
    """The unanswered units that the answer is about."""
    lives: list[Life] = field(default_factory=list)
    """The streams that the answer names and that are in no open question."""
    named: bool = False
    """The answer itself names the units of its frame."""
    alone: bool = False
    """The answer is about these units only: the other units of the frame are answered separately."""
    sure: bool = True
    """False: the answer may be about another frame."""
    late: bool = False
    """What the answer is about was answered before, or the answer is about a frame that names no stream."""
    given_up: Question | None = None
    """The answer is about this frame, which was given up because no answer came in time."""


def find_target(
    answer: Answer, questions: Sequence[Question], frames: Frames, lives: Mapping[str, Life],
    channels: Mapping[str, Subscription],
) -> Target | None:  # fmt: skip
    """What an answer is about; None: it carries a number that none of our frames carried."""
    rule, value = answer.rule, answer.value
    number = number_in(look_up(value, rule.paths.id)) if rule.paths.id else None
    question: Question | None = None
    if number is not None:
        if not frames.is_ours(number):
            return None
        question = frames.question(number)
        if (target := _by_number(question, answer, inherited=frames.is_inherited(number))) is not None:
            return target
    pool = _pool(question, questions, rule, answer)
    if question is None and (repeated := _repeated(rule, value)):
        if not (echoed := _echoed(repeated, pool)):
            return _answered_before(repeated, answer, frames, lives)
        question, pool = echoed[0][0], echoed
    if rule.paths.whole_set:
        return Target(_in_set(rule.whole_set_in(value), pool), named=True, alone=True)
    if (found := _by_name(rule, value, pool, channels)) is not None:
        if found:
            return Target(found, named=True, alone=True)
        if question is None:
            return Target(late=True) if rule.template == "unsubscribe" else Target(lives=_lives(rule, value, lives, channels))
    if number is not None and question is None:  # a previous owner's frame: the streams that it named are not known
        return Target(late=True)
    return _by_text_or_turn(answer, question, pool, frames, lives)


def _by_number(question: Question | None, answer: Answer, *, inherited: bool) -> Target | None:
    """What an answer with the number of a frame is about, if the number alone decides that. `question`: of the frame, if it is
    known; `inherited`: the number is a previous owner's."""
    yes = answer.says is Says.YES
    if question is None and not (inherited and yes):  # a yes to a previous owner's frame counts if it names its stream
        return Target(late=inherited or yes)
    if question is not None and not question.unanswered:
        return _late(question, answer)
    return None


def _by_text_or_turn(
    answer: Answer, question: Question | None, pool: Sequence[Open], frames: Frames, lives: Mapping[str, Life]
) -> Target:
    """What an answer is about that names no stream by a rule: the streams in the text of its error, or else its frame, or else
    the frame that has waited longest. `question`: its frame, if that is known."""
    rule, value, sure = answer.rule, answer.value, question is not None
    if answer.error:
        whole, partly = named([unit.words for _, unit in pool], answer.error)
        places = whole or partly
        if places:
            question = pool[places[0]][0]
            sure = sure or all(pool[place][0] is question for place in places)
        if whole:
            return Target([pool[place] for place in whole if pool[place][0] is question], named=True)
        if others := _others(answer.error, pool, lives):
            return Target(lives=others, late=True)
    if not pool:
        return Target()
    if question is None and answer.error and answer.says is Says.YES and (before := _asked_before(pool)):
        question, sure = before[0], len(before) == 1
    question = question or _listed(rule, value, pool) or pool[0][0]
    units = [(question, unit) for unit in question.unanswered]
    if frames.answers_parts and not answer.error and question.template == "frame":
        # Each part is answered separately. A frame that unsubscribes may be answered once for all parts.
        units = units[:1]
    return Target(units, sure=sure)


def _listed(rule: Rule, value: Any, pool: Sequence[Open]) -> Question | None:
    """The first question with a stream that the answer lists as accepted."""
    listed = rule.accepted_streams(value) or ()
    return next((one for one, unit in pool if any(is_same_stream(unit.stream, other) for other in listed)), None)


def _asked_before(pool: Sequence[Open]) -> list[Question]:
    """The frames that request a stream which was requested on this connection before: only such a stream can be subscribed
    already. A stream that was refused counts only if there is no other."""
    asked = [(one, unit) for one, unit in pool if one.template == "frame" and unit.life.asked > 1]
    found = [one for one, unit in asked if not unit.error] or [one for one, _ in asked]
    return list(dict.fromkeys(found))


def _others(error: str, pool: Sequence[Open], lives: Mapping[str, Life]) -> list[Life]:
    """The streams without an open question that an error names by their whole names: the error comes late, or twice."""
    waiting = {unit.life for _, unit in pool}
    others = [life for life in lives.values() if life not in waiting]
    whole, _ = named([life.words for life in others], error)
    return [others[place] for place in whole]


def _late(question: Question, answer: Answer) -> Target:
    """An answer to a frame that was answered or given up before. A yes counts, for the streams that it lists if there is a
    list. A refusal of a frame with one stream gives the reason."""
    if answer.says is not Says.YES and question.given_up:
        return Target(late=True, given_up=question)
    taken = answer.rule.accepted_streams(answer.value)
    if question.template != "frame" or (answer.says is not Says.YES and len(question.asked) > 1):
        return Target(late=True)
    asked = [unit for unit in question.asked if taken is None or any(is_same_stream(unit.stream, one) for one in taken)]
    return Target(lives=lives_of(asked), late=True, given_up=question if taken is not None else None)


def _pool(question: Question | None, questions: Sequence[Question], rule: Rule, answer: Answer) -> list[Open]:
    """The units that the answer may be about."""
    some: Iterable[Question] = [question] if question is not None else [one for one in questions if not one.postponed]
    if question is None and not answer.error and rule.template:
        some = [one for one in some if one.template == rule.template]
    return [(one, unit) for one in some for unit in one.unanswered]


def _repeated(rule: Rule, value: Any) -> list[Any]:
    """The arguments of a frame that the answer repeats; empty: it repeats none."""
    said = look_up(value, rule.paths.args) if rule.paths.args else MISSING
    if said is MISSING or said is None:
        return []
    return said if isinstance(said, list) else [said]


def _answered_before(repeated: Sequence[Any], answer: Answer, frames: Frames, lives: Mapping[str, Life]) -> Target:
    """An answer that repeats the arguments of no open question: it comes late, or twice, or revokes a confirmed stream. If the
    arguments name several streams, an error must name its stream in its text."""
    if answer.says is not Says.YES and (question := frames.given_up_with(repeated)) is not None:
        return Target(late=True, given_up=question)
    found = [
        life
        for life in lives.values()
        if any(
            is_same_stream(stream, one) for one in repeated for stream in (life.stream, *(unit.stream for unit in life.units))
        )
    ]
    if not answer.error or len(found) <= 1:
        return Target(lives=found)
    whole, _ = named([life.words for life in found], answer.error)
    return Target(lives=[found[place] for place in whole], late=not whole)


def _echoed(repeated: Sequence[Any], pool: Sequence[Open]) -> list[Open]:
    """The units of the frame whose arguments the answer repeats. A list with more than the frame named belongs to another
    frame: a previous owner's, or one that was divided since."""
    found = [(one, unit) for one, unit in pool if any(is_same_stream(one.form(unit), other) for other in repeated)]
    for question in dict.fromkeys(one for one, _ in found):
        if question.names_all(repeated):
            return [(one, unit) for one, unit in found if one is question]
    return []


def _in_set(whole: WholeSet, pool: Sequence[Open]) -> list[Open]:
    return [(one, unit) for one, unit in pool if whole.has(unit.words) is (one.template == "frame")]


def _by_name(rule: Rule, value: Any, pool: Sequence[Open], channels: Mapping[str, Subscription]) -> list[Open] | None:
    """The units that the answer names by the rule's `channel`, `stream` or `fields`; None: it names nothing by these."""
    if rule.paths.channel and (bound := channels.get(as_text(look_up(value, rule.paths.channel)))) is not None:
        found = [(one, unit) for one, unit in pool if one.template == "unsubscribe" and unit.life.stream == bound]
        if found:
            return found
    said = look_up(value, rule.paths.stream) if rule.paths.stream else MISSING
    if said is not MISSING:
        if isinstance(said, str | dict):
            name = stream_name(said)
            if found := [(one, unit) for one, unit in pool if unit.life.name == name]:
                return found
        wanted = said if isinstance(said, list) else [said]
        found = [
            (one, unit)
            for one, unit in pool
            if any(is_same_stream(unit.stream, other) or is_same_stream(one.form(unit), other) for other in wanted)
        ]
        return found if isinstance(said, list) else _of_one_stream(found)
    if rule.fields is not None and (words := rule.fields.words_in(value)) is not None:
        return _by_fields(rule.fields, words, pool)
    return None


def _by_fields(fields: Fields, words: FieldWords, pool: Sequence[Open]) -> list[Open]:
    """The units that have the words. An error may leave out some fields of the request: then it is about the first frame whose
    units have the other fields."""
    if found := [(one, unit) for one, unit in pool if fields.fits(unit.stream, words)]:
        return found
    partly = [(one, unit) for one, unit in pool if fields.fits(unit.stream, words, partly=True)]
    return [(one, unit) for one, unit in partly if one is partly[0][0]]


def _of_one_stream(found: list[Open]) -> list[Open]:
    """The units of the first stream only, because the answer names one stream."""
    return [(one, unit) for one, unit in found if unit.life is found[0][1].life]


def _lives(rule: Rule, value: Any, lives: Mapping[str, Life], channels: Mapping[str, Subscription]) -> list[Life]:
    """The streams that the answer names and that have no open question."""
    if rule.paths.channel and (bound := channels.get(as_text(look_up(value, rule.paths.channel)))) is not None:
        life = lives.get(stream_name(bound))
        return [] if life is None else [life]
    said = look_up(value, rule.paths.stream) if rule.paths.stream else MISSING
    if said is not MISSING:
        wanted = said if isinstance(said, list) else [said]
        return [life for life in lives.values() if any(is_same_stream(life.stream, other) for other in wanted)]
    if rule.fields is not None and (words := rule.fields.words_in(value)) is not None:
        if found := [life for life in lives.values() if rule.fields.fits(life.stream, words)]:
            return found
        partly = [life for life in lives.values() if rule.fields.fits(life.stream, words, partly=True)]
        return partly if len(partly) == 1 else []
    return []
