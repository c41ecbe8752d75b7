"""Whose answer a message is: by the number of a frame, else by the arguments that it echoes, else by the stream that it names,
else by whole words of its text; what names nothing is about the frame that has waited longest. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from wsadapter.contract.dialect.fields import Fields, Said, as_text
from wsadapter.contract.dialect.paths import MISSING, look_up
from wsadapter.contract.dialect.templates import is_meant, number_in, stream_name
from wsadapter.contract.endpoint import Subscription
from wsadapter.worker.subscription.answers import Answer, Rule, Says
from wsadapter.worker.subscription.frames import Frames, Life, Question, Unit, lives_of
from wsadapter.worker.subscription.names import WholeSet, named

Open = tuple[Question, Unit]
"""A unit that is unanswered, and the question it is in."""


@dataclass(slots=True)
class Meant:
    """What an answer is about."""

    units: list[Open] = field(default_factory=list)
    """Those that are unanswered."""
    lives: list[Life] = field(default_factory=list)
    """Streams of no open question that it names."""
    named: bool = False
    """It says itself which units, of those of its frame."""
    alone: bool = False
    """It is about these units alone: the others of the frame are answered by themselves."""
    sure: bool = True
    """False: it may be about another frame."""
    late: bool = False
    """It comes after what it is about was answered, or is about a frame that names no stream."""
    given_up: Question | None = None
    """It is about this frame, which was given up because no answer came."""


def whose(
    answer: Answer, questions: Sequence[Question], frames: Frames, lives: Mapping[str, Life],
    channels: Mapping[str, Subscription],
) -> Meant | None:  # fmt: skip
    """What an answer is about; None: it carries a number that is none of ours."""
    rule, value = answer.rule, answer.value
    number = number_in(look_up(value, rule.id)) if rule.id else None
    question: Question | None = None
    if number is not None:
        if not frames.is_ours(number):
            return None
        question = frames.question(number)
        inherited, yes = frames.is_inherited(number), answer.says is Says.YES
        if question is None and not (inherited and yes):  # such a yes is as good as ours, if it says of which stream
            return Meant(late=inherited or yes)
        if question is not None and not question.unanswered:
            return _late(question, answer)
    pool = _pool(question, questions, rule, answer)
    if question is None and (repeated := _repeated(rule, value)):
        if not (echoed := _echoed(repeated, pool)):
            return _settled(repeated, answer, frames, lives)
        question, pool = echoed[0][0], echoed
    if rule.whole_set:
        return Meant(_in_set(rule.set_in(value), pool), named=True, alone=True)
    if (found := _by_name(rule, value, pool, channels)) is not None:
        if found:
            return Meant(found, named=True, alone=True)
        if question is None:
            return Meant(late=True) if rule.template == "unsubscribe" else Meant(lives=_lives(rule, value, lives, channels))
    if number is not None and question is None:  # a predecessor's frame, and which streams it named is not known
        return Meant(late=True)
    sure = question is not None
    if answer.error:
        whole, partly = named([unit.words for _, unit in pool], answer.error)
        places = whole or partly
        if places:
            question = pool[places[0]][0]
            sure = sure or all(pool[place][0] is question for place in places)
        if whole:
            return Meant([pool[place] for place in whole if pool[place][0] is question], named=True)
        if others := _others(answer.error, pool, lives):
            return Meant(lives=others, late=True)
    if not pool:
        return Meant()
    if question is None and answer.error and answer.says is Says.YES and (before := _asked_before(pool)):
        question, sure = before[0], len(before) == 1
    question = question or _listed(rule, value, pool) or pool[0][0]
    units = [(question, unit) for unit in question.unanswered]
    if frames.answers_parts and not answer.error and question.template == "frame":  # a farewell may be answered once for all
        units = units[:1]
    return Meant(units, sure=sure)


def _listed(rule: Rule, value: Any, pool: Sequence[Open]) -> Question | None:
    """The first question that has a stream of those that the answer lists as taken."""
    listed = rule.taken(value) or ()
    return next((one for one, unit in pool if any(is_meant(unit.stream, other) for other in listed)), None)


def _asked_before(pool: Sequence[Open]) -> list[Question]:
    """The frames that ask for a stream which was asked for on this connection before: only that can be subscribed already. What
    was refused is so only if it is nothing else."""
    asked = [(one, unit) for one, unit in pool if one.template == "frame" and unit.life.asked > 1]
    found = [one for one, unit in asked if not unit.error] or [one for one, _ in asked]
    return list(dict.fromkeys(found))


def _others(error: str, pool: Sequence[Open], lives: Mapping[str, Life]) -> list[Life]:
    """The streams that an error names by their whole names, and that nothing is unanswered of: it comes late, or twice."""
    waiting = {unit.life for _, unit in pool}
    settled = [life for life in lives.values() if life not in waiting]
    whole, _ = named([life.words for life in settled], error)
    return [settled[place] for place in whole]


def _late(question: Question, answer: Answer) -> Meant:
    """An answer to what was answered, or given up, before: a yes counts, for those streams that it lists if it lists any, and a
    refusal of one stream gives the reason."""
    if answer.says is not Says.YES and question.given_up:
        return Meant(late=True, given_up=question)
    taken = answer.rule.taken(answer.value)
    if question.template != "frame" or (answer.says is not Says.YES and len(question.asked) > 1):
        return Meant(late=True)
    asked = [unit for unit in question.asked if taken is None or any(is_meant(unit.stream, one) for one in taken)]
    return Meant(lives=lives_of(asked), late=True, given_up=question if taken is not None else None)


def _pool(question: Question | None, questions: Sequence[Question], rule: Rule, answer: Answer) -> list[Open]:
    """The units that it may be about."""
    some: Iterable[Question] = [question] if question is not None else [one for one in questions if not one.postponed]
    if question is None and not answer.error and rule.template:
        some = [one for one in some if one.template == rule.template]
    return [(one, unit) for one in some for unit in one.unanswered]


def _repeated(rule: Rule, value: Any) -> list[Any]:
    """The arguments of a frame that the answer repeats; empty: none."""
    said = look_up(value, rule.args) if rule.args else MISSING
    if said is MISSING or said is None:
        return []
    return said if isinstance(said, list) else [said]


def _settled(repeated: Sequence[Any], answer: Answer, frames: Frames, lives: Mapping[str, Life]) -> Meant:
    """An answer that repeats the arguments of a frame that is answered, or of none: it comes late, or twice, or is of a stream
    that was confirmed. The arguments of several streams say nothing of one: an error has to name it in its text."""
    if answer.says is not Says.YES and (question := frames.given_up_with(repeated)) is not None:
        return Meant(late=True, given_up=question)
    found = [
        life
        for life in lives.values()
        if any(is_meant(stream, one) for one in repeated for stream in (life.stream, *(unit.stream for unit in life.units)))
    ]
    if not answer.error or len(found) <= 1:
        return Meant(lives=found)
    whole, _ = named([life.words for life in found], answer.error)
    return Meant(lives=[found[place] for place in whole], late=not whole)


def _echoed(repeated: Sequence[Any], pool: Sequence[Open]) -> list[Open]:
    """The units of the frame whose arguments the answer repeats. A list that has more than the frame named is that of another
    frame: a predecessor's, or one that was divided since."""
    found = [(one, unit) for one, unit in pool if any(is_meant(one.form(unit), other) for other in repeated)]
    for question in dict.fromkeys(one for one, _ in found):
        if question.names_all(repeated):
            return [(one, unit) for one, unit in found if one is question]
    return []


def _in_set(whole: WholeSet, pool: Sequence[Open]) -> list[Open]:
    return [(one, unit) for one, unit in pool if whole.has(unit.words) is (one.template == "frame")]


def _by_name(rule: Rule, value: Any, pool: Sequence[Open], channels: Mapping[str, Subscription]) -> list[Open] | None:
    """The units that the rule's `channel`, `stream` or `fields` name; None: the answer names nothing by them."""
    if rule.channel and (bound := channels.get(as_text(look_up(value, rule.channel)))) is not None:
        found = [(one, unit) for one, unit in pool if one.template == "unsubscribe" and unit.life.stream == bound]
        if found:
            return found
    said = look_up(value, rule.stream) if rule.stream else MISSING
    if said is not MISSING:
        if isinstance(said, str | dict):
            name = stream_name(said)
            if found := [(one, unit) for one, unit in pool if unit.life.name == name]:
                return found
        wanted = said if isinstance(said, list) else [said]
        found = [
            (one, unit)
            for one, unit in pool
            if any(is_meant(unit.stream, other) or is_meant(one.form(unit), other) for other in wanted)
        ]
        return found if isinstance(said, list) else _of_one_stream(found)
    if rule.fields is not None and (words := rule.fields.said(value)) is not None:
        return _by_fields(rule.fields, words, pool)
    return None


def _by_fields(fields: Fields, words: Said, pool: Sequence[Open]) -> list[Open]:
    """Those that have the words. An error may leave out some fields of what was asked for: then it is about the first frame
    that has those which it does not."""
    if found := [(one, unit) for one, unit in pool if fields.fits(unit.stream, words)]:
        return found
    partly = [(one, unit) for one, unit in pool if fields.fits(unit.stream, words, partly=True)]
    return [(one, unit) for one, unit in partly if one is partly[0][0]]


def _of_one_stream(found: list[Open]) -> list[Open]:
    """The first stream's: what is named is one."""
    return [(one, unit) for one, unit in found if unit.life is found[0][1].life]


def _lives(rule: Rule, value: Any, lives: Mapping[str, Life], channels: Mapping[str, Subscription]) -> list[Life]:
    """Streams that nothing is unanswered of, and that it names."""
    if rule.channel and (bound := channels.get(as_text(look_up(value, rule.channel)))) is not None:
        life = lives.get(stream_name(bound))
        return [] if life is None else [life]
    said = look_up(value, rule.stream) if rule.stream else MISSING
    if said is not MISSING:
        wanted = said if isinstance(said, list) else [said]
        return [life for life in lives.values() if any(is_meant(life.stream, other) for other in wanted)]
    if rule.fields is not None and (words := rule.fields.said(value)) is not None:
        if found := [life for life in lives.values() if rule.fields.fits(life.stream, words)]:
            return found
        partly = [life for life in lives.values() if rule.fields.fits(life.stream, words, partly=True)]
        return partly if len(partly) == 1 else []
    return []
