"""Makes frames that subscribe and unsubscribe, and remembers the request in each of them. Pure; the clock is passed in.

A frame asks for units. A unit is a stream, or one entry of a stream's list if the dialect has `parts` (or `acks_per`), so that
one bad symbol is refused alone. One frame names the entries of one stream together.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Final, Protocol

import orjson

from wsadapter.contract.dialect.paths import look_up
from wsadapter.contract.dialect.templates import (
    BadStream,
    fill,
    fill_in,
    is_same_stream,
    merge,
    needs_login,
    needs_signature,
    stream_name,
)
from wsadapter.contract.endpoint import Subscription
from wsadapter.worker.subscription.answers import Answer
from wsadapter.worker.subscription.life import State
from wsadapter.worker.subscription.names import Words

ACK_TIMEOUT: Final = 10.0
_MOST_NUMBERS: Final = 1 << 14
"""Numbers of frames that are remembered, for answers that come late or twice. More would be a leak on a long connection."""


class Credentials(Protocol):
    """What the endpoint's [login] adds to frames."""

    def fields(self) -> Mapping[str, Any]:
        """The fields that are added to every frame that subscribes, with "$sign" not filled in."""

    def placeholders(self) -> Mapping[str, Any]:
        """The values of the placeholders of [login], except "$sign"; empty: the endpoint has no login."""


class _NoLogin:
    def fields(self) -> Mapping[str, Any]:
        return {}

    placeholders = fields


NO_LOGIN: Final = _NoLogin()


@dataclass(frozen=True, slots=True)
class Unsigned:
    """A frame to be signed and then sent."""

    frame: Mapping[str, Any]
    question: Question
    """What the frame asks."""


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
    """When a first message must have come."""
    asked_again: bool = False
    """It was requested again because no message came."""
    subscribed: bool = False
    """It was reported as subscribed, and not as rejected since then."""
    wanted_again: bool = False
    """While it is LEAVING: it is to be requested again once it is unsubscribed."""
    blamed: bool = False
    """The peer closed a connection because of it, or may have: after a refusal it is not requested again automatically."""
    asked: int = 0
    """How many frames on this connection requested it; one is counted for previous owners."""
    retries: int = 0
    """How often its refused units were requested again."""
    retry_at: float = math.inf
    """When its refused units are requested again."""
    words: Words = field(init=False)

    def __post_init__(self) -> None:
        self.words = Words(self.stream)

    @property
    def refused(self) -> list[Unit]:
        """Its units that were refused."""
        return [unit for unit in self.units if unit.error]


@dataclass(slots=True, eq=False)
class Unit:
    """What an answer may be about: a stream, or one entry of a stream's list."""

    life: Life
    stream: Subscription
    """The stream with only this entry in its list; the stream itself if it is not divided."""
    entry: Any = None
    confirmed: bool = False
    error: str = ""
    """Why it was refused, as reported; empty: it was not refused."""
    reported: bool = False
    """Its refusal was reported by its own name, and is still valid; False: it was reported by the name of the stream."""
    words: Words = field(init=False)

    def __post_init__(self) -> None:
        self.words = self.life.words if self.stream is self.life.stream else Words(self.stream)


@dataclass(slots=True, eq=False)
class Question:
    """A frame that was sent or is to be sent, and the units that it requests."""

    template: str
    """ "frame" or "unsubscribe"."""
    asked: list[Unit]
    """The units that it asked for when it was sent last."""
    unanswered: list[Unit]
    again: bool = False
    """It asks for units that were confirmed or rejected before: a refusal is not reported again."""
    numbers: list[int] = field(default_factory=list)
    tries: int = 0
    pauses: int = 0
    """How often the exchange put it off."""
    sent_at: float = -math.inf
    deadline: float = math.inf
    postponed: bool = False
    """It is to be sent at the deadline; False: its answer is awaited until then."""
    grouped: bool = False
    """It is to be sent when everything before it is answered, because the exchange may close the connection because of it."""
    errors: list[Answer] = field(default_factory=list)
    """Errors that name none of its streams, if each stream is answered separately."""
    given_up: list[Unit] = field(default_factory=list)
    """The units that were unanswered when its time was over; empty again after a late refusal was handled."""
    forms: dict[Life, Subscription] = field(default_factory=dict)
    """Each stream as the frame named it, with the list entries of the asked units."""

    def form(self, unit: Unit) -> Subscription:
        """The stream that the frame named for a unit."""
        return self.forms.get(unit.life, unit.life.stream)

    def names_all(self, repeated: Sequence[Any]) -> bool:
        """True if the frame named each of these."""
        return all(any(is_same_stream(form, other) for form in self.forms.values()) for other in repeated)


def lives_of(units: Iterable[Unit]) -> list[Life]:
    """The streams of these units, each once."""
    return list(dict.fromkeys(unit.life for unit in units))


class _Kind:
    """How some streams are requested: [subscribe], or a table of [[subscribe.kind]]."""

    def __init__(self, settings: Mapping[str, Any], globs: Sequence[str]) -> None:
        self.settings, self._globs = settings, globs

    def fits(self, name: str) -> bool:
        return not self._globs or any(fnmatchcase(name, glob) for glob in self._globs)


class Frames:
    """Makes the frames of one connection, and remembers the question of each number. Not thread-safe."""

    def __init__(
        self, dialect: Mapping[str, Any], *, number: int, wall: Callable[[], float], login: Credentials, pace: float,
        channel_of: Mapping[str, int | str],
    ) -> None:  # fmt: skip
        """See `Subscriptions`. `channel_of`: the channel of a stream, by the stream's name; the caller adds to it."""
        self._dialect = dialect
        self.settings: Mapping[str, Any] = dialect.get("subscribe", {})
        general = {key: value for key, value in self.settings.items() if key != "kind"}
        kinds = [_Kind({**general, **kind}, kind["streams"]) for kind in self.settings.get("kind", [])]
        self._kinds = [*kinds, _Kind(general, ())]
        self.answers_parts = bool(self.settings.get("acks_per"))
        """Each entry of a stream's list is answered separately."""
        self.replaces = bool(self.settings.get("replaces"))
        self.timeout = float(self.settings.get("ack_timeout", ACK_TIMEOUT))
        self._number, self._wall, self._login, self._pace = number, wall, login, pace
        self._channel_of = channel_of
        self.sent_at = -math.inf
        """When the last frame is sent, by the pace, if no other frame delays it."""
        self._questions: dict[int, Question | None] = {}
        """The question of each number, also if it is answered; None: a frame that names no stream."""
        self._inherited = number
        """Numbers up to this one belong to frames of previous owners."""
        self._lent: set[int] = set()
        """Numbers of previous owners that a request of the user carries now."""

    # numbers

    def number(self) -> int:
        """The next "$id", for a frame that names no stream."""
        self._number += 1
        self._remember(None)
        return self._number

    def _remember(self, question: Question | None) -> None:
        self._questions[self._number] = question
        if len(self._questions) > _MOST_NUMBERS:
            del self._questions[next(iter(self._questions))]

    def is_ours(self, number: int) -> bool:
        """True if a frame of this owner, or of a previous owner of the connection, carried the number."""
        return number in self._questions or self.is_inherited(number)

    def is_inherited(self, number: int) -> bool:
        """True if a previous owner's frame carried the number."""
        return 0 < number <= self._inherited and number not in self._lent

    def question(self, number: int) -> Question | None:
        """The question of the frame that carried this number; None: the frame named no stream, or was not of this owner."""
        return self._questions.get(number)

    def given_up_with(self, repeated: Sequence[Any]) -> Question | None:
        """The last question that was given up and whose frame named all of these."""
        for question in reversed(self._questions.values()):
            if question is not None and question.given_up and question.names_all(repeated):
                return question
        return None

    def forget(self, number: int) -> None:
        """A request of the user carries this number from now on."""
        self._questions.pop(number, None)
        if number <= self._inherited:
            self._lent.add(number)

    def forget_predecessors(self) -> None:
        """Answers to frames of previous owners can't come any more."""
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
        """The path of the list whose entries are units; empty: there is none."""
        settings = self._settings_of(life.name)
        return str(settings.get("parts") or settings.get("acks_per", ""))

    def _form(self, units: Sequence[Unit]) -> Subscription:
        """The stream with only the entries of these units."""
        life = units[0].life
        if len(units) == len(life.units):
            return life.stream
        return _with_entries(life.stream, self._path_of(life), [unit.entry for unit in units])

    # frames

    def _settings_of(self, name: str) -> Mapping[str, Any]:
        """How a stream is requested."""
        return next(kind.settings for kind in self._kinds if kind.fits(name))

    def can_unsubscribe(self, name: str) -> bool:
        """True if the dialect has a frame that unsubscribes the stream."""
        return self.replaces or bool(self._settings_of(name).get("unsubscribe"))

    def knows_channel(self, life: Life) -> bool:
        """True if the frame that unsubscribes the stream can be made: its channel is known, or the frame does not contain
        it."""
        template = self._settings_of(life.name).get("unsubscribe", "")
        return life.name in self._channel_of or "$channel" not in template

    def to_leave(self, life: Life) -> list[Unit]:
        """The units that a frame which unsubscribes the stream names: those that were not refused; one if a channel stands for
        all units."""
        units = [unit for unit in life.units if not unit.error] or life.units
        template = self._settings_of(life.name).get("unsubscribe", "")
        return units[:1] if "$channel" in template else units

    def split(self, template: str, units: Sequence[Unit]) -> Iterator[list[Unit]]:
        """The units in groups, one per frame: as many as one frame may name (`per_frame`) and contain (`max_frame`)."""
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
        except BadStream:  # it is reported when the stream is requested
            return 0

    def encode(self, question: Question, now: float, others: Sequence[Unit] = ()) -> bytes | Unsigned:
        """The question's frame, to be sent now. `others`: further units that it must name. Raises `BadStream`."""
        lives: dict[Life, list[Unit]] = {}
        leaving = self.replaces and question.template == "unsubscribe"
        for unit in (*(() if leaving else question.unanswered), *others):
            lives.setdefault(unit.life, []).append(unit)
        question.forms = {life: self._form(units) for life, units in lives.items()}
        first = next(iter(lives)).name
        settings = self._settings_of(first)
        template = settings["frame" if self.replaces else question.template]
        private, words = needs_login(template, self._dialect), self._login.placeholders()
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
        return Unsigned(content, question) if (fields or private) and needs_signature(content) else orjson.dumps(content)


def _with_entries(stream: Any, path: str, entries: list[Any]) -> dict[str, Any]:
    """The table with these entries in its list."""
    step, _, rest = path.partition(".")
    return {**stream, step: _with_entries(stream[step], rest, entries) if rest else entries}


def make_life(stream: Subscription, frames: Frames) -> Life:
    """A new subscription, divided into its units."""
    life = Life(stream, stream_name(stream))
    frames.divide(life)
    return life
