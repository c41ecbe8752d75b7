"""Frames that ask for streams, or for less of them, and what is still unanswered of each. Pure; the clock is passed in.

A frame asks for units: a unit is a stream, or one entry of a stream's list where the dialect has `parts` (or `acks_per`): one
bad symbol is then refused by itself. One frame names the entries of one stream together.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Final, Protocol

import orjson

from wsadapter.contract.dialect.paths import look_up
from wsadapter.contract.dialect.templates import BadStream, fill, fill_in, is_meant, is_signed, merge, needs_login, stream_name
from wsadapter.contract.endpoint import Subscription
from wsadapter.worker.subscription.answers import Answer
from wsadapter.worker.subscription.life import State
from wsadapter.worker.subscription.names import Words

ACK_TIMEOUT: Final = 10.0
_MOST_NUMBERS: Final = 1 << 14
"""Numbers of frames that are remembered, for answers that come late or twice."""


class Credentials(Protocol):
    """What the endpoint's [login] adds to frames."""

    def fields(self) -> Mapping[str, Any]:
        """What every frame that subscribes has besides, "$sign" not filled in."""

    def words(self) -> Mapping[str, Any]:
        """What the placeholders of [login] but "$sign" stand for; empty: the endpoint has no login."""


class _NoLogin:
    def fields(self) -> Mapping[str, Any]:
        return {}

    words = fields


NO_LOGIN: Final = _NoLogin()


@dataclass(frozen=True, slots=True)
class Unsigned:
    """A frame to be signed, and then sent."""

    frame: Mapping[str, Any]
    question: Question
    """What it asks."""


@dataclass(slots=True, eq=False)
class Life:
    """One subscription on this connection."""

    stream: Subscription
    name: str
    units: list[Unit] = field(default_factory=list)
    state: State = State.WANTED
    since: float = 0.0
    """When it was confirmed."""
    due: float = math.inf
    """Until when a first message must have come."""
    asked_again: bool = False
    """It was asked for once more because nothing came."""
    subscribed: bool = False
    """It was reported as subscribed, and not as rejected since."""
    wanted_again: bool = False
    """While it is LEAVING: it is to be asked for when it has left."""
    blamed: bool = False
    """The peer closed a connection because of it, or may have: it is not asked for again by itself once it was refused."""
    asked: int = 0
    """How many frames on this connection asked for it, one of a predecessor's among them if there may have been one."""
    retries: int = 0
    """Since it was refused."""
    retry_at: float = math.inf
    """When its refused units are asked for again."""
    words: Words = field(init=False)

    def __post_init__(self) -> None:
        self.words = Words(self.stream)

    @property
    def refused(self) -> list[Unit]:
        """Its units that were refused."""
        return [unit for unit in self.units if unit.error]


@dataclass(slots=True, eq=False)
class Unit:
    """What an answer may be about: a stream, or one entry of its list."""

    life: Life
    stream: Subscription
    """The stream with only this entry in its list; the stream itself where it is not divided."""
    entry: Any = None
    confirmed: bool = False
    error: str = ""
    """Why it was refused, as reported; empty: it was not."""
    told: bool = False
    """Its refusal was reported by its own name, and nothing else of it since; else by the stream's."""
    words: Words = field(init=False)

    def __post_init__(self) -> None:
        self.words = self.life.words if self.stream is self.life.stream else Words(self.stream)


@dataclass(slots=True, eq=False)
class Question:
    """A frame that was sent, or is to be sent again."""

    template: str
    """ "frame" or "unsubscribe"."""
    asked: list[Unit]
    """All that it asked for when it was sent last."""
    unanswered: list[Unit]
    again: bool = False
    """It asks for what was confirmed before, or was rejected before: a refusal is no news."""
    numbers: list[int] = field(default_factory=list)
    tries: int = 0
    pauses: int = 0
    """How often the exchange said "later"."""
    sent_at: float = -math.inf
    deadline: float = math.inf
    postponed: bool = False
    """To be sent at the deadline; else its answer is waited for."""
    apart: bool = False
    """To be sent when everything before it is answered: the exchange may close the connection because of it."""
    errors: list[Answer] = field(default_factory=list)
    """Those that name none of its streams, where each is answered by itself."""
    given_up: list[Unit] = field(default_factory=list)
    """Those that nothing was said of when its time was over; empty again when a late refusal was acted on."""
    forms: dict[Life, Subscription] = field(default_factory=dict)
    """Each stream as the frame named it."""

    def form(self, unit: Unit) -> Subscription:
        """The stream that the frame named for a unit."""
        return self.forms.get(unit.life, unit.life.stream)

    def names_all(self, repeated: Sequence[Any]) -> bool:
        """Whether its frame named each of these."""
        return all(any(is_meant(form, other) for form in self.forms.values()) for other in repeated)


def lives_of(units: Iterable[Unit]) -> list[Life]:
    """The streams of these units, each once."""
    return list(dict.fromkeys(unit.life for unit in units))


class _Kind:
    """How some streams are asked for: [subscribe], or a table of [[subscribe.kind]]."""

    def __init__(self, settings: Mapping[str, Any], globs: Sequence[str]) -> None:
        self.settings, self._globs = settings, globs

    def fits(self, name: str) -> bool:
        return not self._globs or any(fnmatchcase(name, glob) for glob in self._globs)


class Frames:
    """Makes the frames of one connection, and remembers which number belongs to which. Not thread-safe."""

    def __init__(
        self, dialect: Mapping[str, Any], *, number: int, wall: Callable[[], float], login: Credentials, pace: float,
        channel_of: Mapping[str, int | str],
    ) -> None:  # fmt: skip
        """See `Subscriptions`. `channel_of`: what the exchange calls a stream, by the stream's name; it grows."""
        self._dialect = dialect
        self.settings: Mapping[str, Any] = dialect.get("subscribe", {})
        general = {key: value for key, value in self.settings.items() if key != "kind"}
        kinds = [_Kind({**general, **kind}, kind["streams"]) for kind in self.settings.get("kind", [])]
        self._kinds = [*kinds, _Kind(general, ())]
        self.answers_parts = bool(self.settings.get("acks_per"))
        """Whether each entry of a stream's list is answered by itself."""
        self.replaces = bool(self.settings.get("replaces"))
        self.timeout = float(self.settings.get("ack_timeout", ACK_TIMEOUT))
        self._number, self._wall, self._login, self._pace = number, wall, login, pace
        self._channel_of = channel_of
        self.sent_at = -math.inf
        """When the last frame is sent, if nothing else is."""
        self._questions: dict[int, Question | None] = {}
        """By the numbers of their frames, also of those that were answered; None: a frame that names no stream."""
        self._inherited = number
        """Up to this number frames were predecessors'."""
        self._lent: set[int] = set()
        """Numbers of predecessors that somebody else uses since."""

    # numbers

    def number(self) -> int:
        """The next "$id", of whatever frame."""
        self._number += 1
        self._remember(None)
        return self._number

    def _remember(self, question: Question | None) -> None:
        self._questions[self._number] = question
        if len(self._questions) > _MOST_NUMBERS:
            del self._questions[next(iter(self._questions))]

    def is_ours(self, number: int) -> bool:
        """Whether a frame of ours, or of a predecessor on the same connection, carried it."""
        return number in self._questions or self.is_inherited(number)

    def is_inherited(self, number: int) -> bool:
        """Whether a predecessor's frame carried it."""
        return 0 < number <= self._inherited and number not in self._lent

    def question(self, number: int) -> Question | None:
        """The frame that carried this number; None where it named no stream, was a predecessor's, or none of ours."""
        return self._questions.get(number)

    def given_up_with(self, repeated: Sequence[Any]) -> Question | None:
        """The last frame that was given up and that named all of these."""
        for question in reversed(self._questions.values()):
            if question is not None and question.given_up and question.names_all(repeated):
                return question
        return None

    def forget(self, number: int) -> None:
        """Somebody else uses this number from now on."""
        self._questions.pop(number, None)
        if number <= self._inherited:
            self._lent.add(number)

    def forget_predecessors(self) -> None:
        """Their frames are answered by now."""
        self._inherited = 0
        self._lent.clear()

    # units

    def divide(self, life: Life) -> None:
        """Makes the units of a stream."""
        path = self._path_of(life)
        entries = look_up(life.stream, path) if path else None
        if not isinstance(entries, list) or not entries:
            life.units = [Unit(life, life.stream)]
            return
        life.units = [Unit(life, _with_entries(life.stream, path, [entry]), entry) for entry in entries]

    def _path_of(self, life: Life) -> str:
        """Of the list whose entries may be asked for by themselves; empty: there is none."""
        settings = self._settings_of(life.name)
        return str(settings.get("parts") or settings.get("acks_per", ""))

    def _form(self, units: Sequence[Unit]) -> Subscription:
        """One stream with the entries of these units."""
        life = units[0].life
        if len(units) == len(life.units):
            return life.stream
        return _with_entries(life.stream, self._path_of(life), [unit.entry for unit in units])

    # frames

    def _settings_of(self, name: str) -> Mapping[str, Any]:
        """How a stream is asked for."""
        return next(kind.settings for kind in self._kinds if kind.fits(name))

    def can_unsubscribe(self, name: str) -> bool:
        """Whether there is a frame for it."""
        return self.replaces or bool(self._settings_of(name).get("unsubscribe"))

    def knows_channel(self, life: Life) -> bool:
        """Whether the frame that unsubscribes it can be made: what the exchange calls the stream is known, or of no account."""
        template = self._settings_of(life.name).get("unsubscribe", "")
        return life.name in self._channel_of or "$channel" not in template

    def to_leave(self, life: Life) -> list[Unit]:
        """The units that a frame which unsubscribes it names: what was refused is not there, a channel stands for them all."""
        units = [unit for unit in life.units if not unit.error] or life.units
        template = self._settings_of(life.name).get("unsubscribe", "")
        return units[:1] if "$channel" in template else units

    def split(self, template: str, units: Sequence[Unit]) -> Iterator[list[Unit]]:
        """As many as one frame may name, and hold."""
        if self.replaces:
            yield from [list(units)] if units else []
            return
        kinds: dict[int, tuple[Mapping[str, Any], dict[Life, list[Unit]]]] = {}
        for unit in units:
            settings = self._settings_of(unit.life.name)
            _, lives = kinds.setdefault(id(settings), (settings, {}))
            lives.setdefault(unit.life, []).append(unit)
        for settings, lives in kinds.values():
            size, most = int(settings.get("per_frame", 1)), settings.get("max_frame", 0)
            groups = list(lives.values())
            for at in range(0, len(groups), size):
                todo = [groups[at : at + size]]
                while todo:
                    some = todo.pop()
                    if most and len(some) > 1 and self._length(settings[template], some) > most:
                        todo += [some[len(some) // 2 :], some[: len(some) // 2]]
                    else:
                        yield [unit for group in some for unit in group]

    def _length(self, template: str, groups: Sequence[Sequence[Unit]]) -> int:
        try:
            return len(fill(template, [self._form(group) for group in groups], self._number + 1, self._wall(), 0))
        except BadStream:  # it is reported when it is asked for
            return 0

    def encode(self, question: Question, now: float, others: Sequence[Unit] = ()) -> bytes | Unsigned:
        """The question's frame, to be sent now. `others`: what it has to name besides. Raises `BadStream`."""
        lives: dict[Life, list[Unit]] = {}
        leaving = self.replaces and question.template == "unsubscribe"
        for unit in (*(() if leaving else question.unanswered), *others):
            lives.setdefault(unit.life, []).append(unit)
        question.forms = {life: self._form(units) for life, units in lives.items()}
        first = next(iter(lives)).name
        settings = self._settings_of(first)
        template = settings["frame" if self.replaces else question.template]
        private, words = needs_login(template, self._dialect), self._login.words()
        if private and not words:
            raise BadStream("needs a login, and the endpoint has no [login]")
        words = {**words, "$channel": self._channel_of.get(first)}
        self._number += 1
        content = fill_in(template, list(question.forms.values()), self._number, self._wall(), words)
        if fields := self._login.fields():
            content = merge(content, fields)
        self._remember(question)
        question.numbers.append(self._number)
        question.asked = list(question.unanswered)
        question.errors.clear()
        question.tries += 1
        question.postponed = False
        self.sent_at = max(now, self.sent_at + self._pace)
        question.sent_at = self.sent_at
        question.deadline = self.sent_at + self.timeout
        return Unsigned(content, question) if (fields or private) and is_signed(content) else orjson.dumps(content)


def _with_entries(stream: Any, path: str, entries: list[Any]) -> dict[str, Any]:
    """The table with these entries in its list."""
    step, _, rest = path.partition(".")
    return {**stream, step: _with_entries(stream[step], rest, entries) if rest else entries}


def make_life(stream: Subscription, frames: Frames) -> Life:
    """A subscription that is wanted."""
    life = Life(stream, stream_name(stream))
    frames.divide(life)
    return life
