"""The verdict on a frame that subscribes: which streams are accepted, refused, or subscribed already. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from wsadapter.contract.endpoint import Subscription
from wsadapter.testing.dialect.answers import Answers
from wsadapter.testing.dialect.dialect_rules import DialectRules
from wsadapter.testing.dialect.overrides import Overrides, StreamRefusal, name_of
from wsadapter.testing.dialect.understanding import Understood


class Unit(NamedTuple):
    """The part of a frame that gets an answer of its own."""

    stream: Subscription
    """As the frame names it."""
    unit: Subscription


class RefusedUnit(NamedTuple):
    """A unit that is refused."""

    unit: Subscription
    culprit: Subscription
    """The part of the unit that is refused."""
    refusal: StreamRefusal


@dataclass(slots=True)
class FrameVerdict:
    """The verdict on one frame."""

    taken: list[Unit] = field(default_factory=list)
    refused: list[RefusedUnit] = field(default_factory=list)
    repeated: list[Subscription] = field(default_factory=list)
    """Streams that are subscribed already and refused because of that."""
    ignored: list[Subscription] = field(default_factory=list)
    whole: bool = False
    """One answer refuses all of the frame."""
    unanswered: bool = False
    """The frame is not answered, and none of its streams is accepted."""


def units_of(frame: Understood, replies: Answers) -> list[Unit]:
    """What a frame names, each once."""
    streams = {name_of(stream): stream for stream in frame.streams}.values()
    return [Unit(stream, unit) for stream in streams for unit in replies.units(stream)]


def judge(frame: Understood, dialect_rules: DialectRules, overrides: Overrides, current: Collection[str]) -> FrameVerdict:
    """`current`: the parts that the client has, by name."""
    verdict = _sorted(frame, dialect_rules, overrides, current)
    replies = dialect_rules.replies
    verdict.unanswered = bool(verdict.ignored) and not replies.each_confirmed
    forced = any(refused.refusal.whole for refused in verdict.refused)
    if replies.lists_accepted and verdict.taken and not forced:
        verdict.refused = []  # they are missing from the list, and that is all
    verdict.whole = bool(verdict.refused) and (forced or not replies.each_refused)
    if verdict.whole:
        verdict.taken, verdict.repeated = [], []
    elif verdict.repeated and not replies.each_repeated:
        verdict.taken = []
    return verdict


def _sorted(frame: Understood, dialect_rules: DialectRules, overrides: Overrides, current: Collection[str]) -> FrameVerdict:
    verdict = FrameVerdict()
    for unit in units_of(frame, dialect_rules.replies):
        parts = {name_of(part): part for part in dialect_rules.parts(unit.unit)}
        bad = next((name for name in parts if name in overrides.rejected), None)
        if bad is not None:
            verdict.refused.append(RefusedUnit(unit.unit, parts[bad], overrides.rejected[bad]))
        elif not overrides.ignored.isdisjoint(parts):
            verdict.ignored.append(unit.unit)
        elif _tells_repeats(dialect_rules, overrides) and all(name in current for name in parts):
            verdict.repeated.append(unit.unit)
        else:
            verdict.taken.append(unit)
    return verdict


def _tells_repeats(dialect_rules: DialectRules, overrides: Overrides) -> bool:
    if dialect_rules.settings.get("replaces"):
        return False
    return dialect_rules.replies.has_already if overrides.answering.repeats is None else overrides.answering.repeats


def refusals(frame: Understood, verdict: FrameVerdict, replies: Answers) -> Iterator[Any]:
    """The frames that refuse streams, and those about streams that are subscribed already."""
    several = len(units_of(frame, replies)) > 1
    for unit, culprit, refusal in verdict.refused[: 1 if verdict.whole else None]:
        named = refusal.named
        if named is None:
            named = replies.must_name(alone=several and not verdict.whole)
        shown = None if refusal.named is False else unit
        yield from replies.refuse(frame, shown, refusal.text, culprit if named else None)
    for unit in verdict.repeated[: None if replies.each_repeated else 1]:
        yield from replies.repeated(frame, unit if replies.each_repeated else None, unit)
