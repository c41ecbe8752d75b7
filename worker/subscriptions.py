"""Subscriptions: which frames ask for them, which frames answer, and what to report. Pure; the clock is passed in.

Every frame of a dialect is answered or asked once more; a stream that is still unanswered then is reported as rejected. An
answer is no proof of data: where the dialect says how long the first message may take, a stream without one is asked for anew,
once, and then reported as stalled. Nothing is parsed unless something is unanswered.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

import orjson

from wsadapter.contract.commands import Report
from wsadapter.contract.dialect.fields import Fields, as_text
from wsadapter.contract.dialect.paths import MISSING, look_up, matches
from wsadapter.contract.dialect.templates import (
    BadStream,
    fill,
    fill_in,
    is_meant,
    is_signed,
    merge,
    number_in,
    raw_frame,
    stream_name,
)
from wsadapter.contract.dialect.text import LONGEST_ANSWER, Text
from wsadapter.contract.endpoint import Subscription


@dataclass(frozen=True, slots=True)
class Unsigned:
    """A frame to be signed, and then sent."""

    frame: Mapping[str, Any]


Step = bytes | Unsigned | Report
"""A text to send, or something to report; in this order."""

_ACK_TIMEOUT: Final = 10.0
_MOST_TRIES: Final = 2


@dataclass(slots=True)
class _Asked:
    """One stream within a frame."""

    stream: Subscription
    answers: int
    """How many answers are still to come."""
    error: str = ""


@dataclass(slots=True)
class _Frame:
    """A frame that was sent and is not answered for all its streams."""

    template: str
    asked: list[_Asked]
    restoring: bool
    numbers: set[int] = field(default_factory=set)
    tries: int = 0
    deadline: float = 0.0

    @property
    def open(self) -> list[_Asked]:
        return [asked for asked in self.asked if asked.answers]


@dataclass(slots=True)
class _Unborn:
    """A stream that was confirmed, and its first message has not come."""

    stream: Subscription
    since: float = 0.0
    deadline: float = 0.0
    """0: it was confirmed in this very moment."""
    again: bool = False
    """It was asked for once more."""


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
    ) -> None:
        """`dialect` as in dialects/README.md, already checked; None: streams are frames of their own. `number`: above all that
        predecessors on the same connection gave their frames, for answers to those may still come. `wall`: the wall clock.
        `channels`: what the peer had said to the predecessors, see there. `login`: fields of every frame besides
        its template's. `pace`: seconds from one frame to the next, so that the time for an answer begins when its frame's turn
        has come."""
        self._login = login
        self._pace = pace
        self._sent_at = -math.inf
        """When the last frame is sent, if nothing else is."""
        self.channels: dict[str, Subscription] = dict(channels)
        """What stands for a stream on this connection, as text, by what acks said."""
        self._channel_of: dict[str, int | str] = {
            stream_name(stream): int(channel) if channel.isdecimal() else channel for channel, stream in channels.items()
        }
        self._fields: dict[int, Fields] = {}
        self._unborn: dict[str, _Unborn] = {}
        """Streams that were confirmed and have shown nothing yet."""
        self._wall = wall
        self._dialect = dialect or {}
        self._settings: Mapping[str, Any] = self._dialect.get("subscribe", {})
        self._number = number
        self._frames: list[_Frame] = []
        self._restoring = False
        self._ok = 0
        self._failed: list[str] = []

    def restore(self, wanted: Sequence[Subscription], now: float) -> Iterator[Step]:
        """After an `up`: asks for all that is wanted. "restored" follows when all is answered."""
        if not self._settings:
            yield from (raw_frame(stream) for stream in wanted)
            yield _restored(len(wanted), [])
            return
        self._restoring = True
        yield from self._ask("frame", wanted, now, restoring=True)
        yield from self._finish_restoring()

    def subscribe(self, streams: Sequence[Subscription], now: float) -> Iterator[Step]:
        """Asks for more."""
        if self._settings:
            yield from self._ask("frame", streams, now)
        else:
            yield from (raw_frame(stream) for stream in streams)

    def unsubscribe(self, streams: Sequence[Subscription], now: float) -> Iterator[Step]:
        """Asks for less. Where there is no frame for it, that is logged."""
        if self._settings.get("unsubscribe"):
            yield from self._ask("unsubscribe", streams, now)
        else:
            names = ", ".join(stream_name(stream) for stream in streams)
            yield _log(f"there is no frame that unsubscribes; the peer goes on sending: {names}")

    @property
    def waiting(self) -> bool:
        """Whether something is unanswered."""
        return bool(self._frames)

    def uses(self, number: str) -> bool:
        """Whether an unanswered frame carries this number."""
        return any(number == str(own) for frame in self._frames for own in frame.numbers)

    def number(self) -> int:
        """The next "$id", of whatever frame: none may be mistaken for that of a frame that subscribes."""
        self._number += 1
        return self._number

    def deadline(self) -> float | None:
        """When to call `tick` next; None: not before something is asked."""
        times = [frame.deadline for frame in self._frames]
        times += [unborn.deadline for unborn in self._unborn.values() if unborn.deadline]
        return min(times, default=None)

    def postpone(self, pause: float) -> None:
        """For so long nothing was read, and with it perhaps what is waited for."""
        for frame in self._frames:
            frame.deadline += pause
        for unborn in self._unborn.values():
            unborn.deadline += pause if unborn.deadline else 0.0

    def tick(self, now: float) -> Iterator[Step]:
        """Asks once more for what was not answered in time, then gives it up."""
        for frame in [frame for frame in self._frames if now >= frame.deadline]:
            if frame.tries < _MOST_TRIES:
                yield self._send(frame, now)
                continue
            text = f"not answered within {self._timeout:g} s, asked {frame.tries} times"
            for asked in frame.open:
                yield from self._answered(frame, asked, text, final=True)
        for name, unborn in list(self._unborn.items()):
            if unborn.deadline and now >= unborn.deadline:
                yield from self._still_unborn(name, unborn, now)
        yield from self._finish_restoring()

    def _still_unborn(self, name: str, unborn: _Unborn, now: float) -> Iterator[Step]:
        """It is asked for once more, then told."""
        if unborn.again:
            del self._unborn[name]
            yield Report(event="stalled", fields={"stream": name, "silence": now - unborn.since, "hopeless": False})
            return
        unborn.again, unborn.deadline = True, now + self._live_timeout
        yield from self._ask("frame", [unborn.stream], now)

    @property
    def watches(self) -> bool:
        """Whether a first message is waited for."""
        return bool(self._unborn)

    def alive(self, names: Iterable[str]) -> None:
        """Something of these streams came."""
        for name in names:
            self._unborn.pop(name, None)

    def confirmed_at(self, now: float) -> None:
        """Streams that were confirmed just now must show something within the dialect's `live_timeout`."""
        for unborn in self._unborn.values():
            if not unborn.deadline:
                unborn.since, unborn.deadline = now, now + self._live_timeout

    def recognise(self, text: Text) -> list[Step] | None:
        """What an answer leads to; None where the message is not an answer to something of ours."""
        if not self._frames or len(text.payload) >= LONGEST_ANSWER:
            return None
        for rule in self._dialect.get("error", []):
            if matches(text.value, rule["match"]):
                return self._recognised(rule, text.value, self._error_text(rule, text))
        for rule in self._dialect.get("ack", []):
            if matches(text.value, rule["match"]):
                return self._recognised(rule, text.value, "")
        return None

    def _error_text(self, rule: Mapping[str, Any], text: Text) -> str:
        said = look_up(text.value, rule.get("text", ""))
        return said if isinstance(said, str) and said else text.payload.decode()

    def _recognised(self, rule: Mapping[str, Any], value: Any, error: str) -> list[Step] | None:
        meant = self._meant(rule, value, error)
        if meant is None:
            return None
        frame, streams = meant
        steps: list[Step] = []
        if not error and "accepted" in rule:
            steps += self._partly(frame, streams, look_up(value, rule["accepted"]))
        else:
            for asked in streams:
                if not error and frame.template == "frame":
                    steps += self._bound(asked.stream, look_up(value, rule.get("channel", "")))
                steps += self._answered(frame, asked, error)
        return [*steps, *self._finish_restoring()]

    def _partly(self, frame: _Frame, streams: Sequence[_Asked], accepted: Any) -> Iterator[Step]:
        """The answer names those of a frame's streams that were taken."""
        taken = accepted if isinstance(accepted, list) else []
        for asked in streams:
            yes = any(is_meant(asked.stream, named) for named in taken)
            yield from self._answered(frame, asked, "" if yes else "it is not among those that were accepted", final=not yes)

    def _bound(self, stream: Subscription, channel: Any) -> Iterator[Step]:
        """From now on the channel stands for the stream."""
        if not isinstance(channel, int | str) or isinstance(channel, bool):
            return
        name, text = stream_name(stream), as_text(channel)
        self.channels[text] = stream
        self._channel_of[name] = channel
        yield Report(event="channel", fields={"stream": stream, "channel": text})

    def _meant(self, rule: Mapping[str, Any], value: Any, error: str) -> tuple[_Frame, list[_Asked]] | None:
        """Which streams an answer is about; None: none of ours."""
        number = number_in(look_up(value, rule.get("id", "")))
        if number is not None:
            return next(((frame, frame.open) for frame in self._frames if number in frame.numbers), None)
        if "whole_set" in rule:
            words = frozenset(_words(look_up(value, rule["whole_set"]), keys=True))
            return self._first(lambda stream: words.issuperset(_words(stream)))
        if (stream := self.channels.get(as_text(look_up(value, rule.get("channel", ""))))) is not None:
            unsubscribed = self._first(lambda other: other == stream, 1, template="unsubscribe")
            if unsubscribed is not None:
                return unsubscribed
        named = look_up(value, rule.get("stream", ""))
        if named is not MISSING:
            return self._first(lambda stream: is_meant(stream, named), 1)
        if "fields" in rule and (said := self._fields_of(rule).said(value)) is not None:
            return self._first(lambda stream: self._fields_of(rule).fits(stream, said))
        mentioned = self._first(lambda stream: _mentioned(stream, error)) if error else None
        return mentioned or (self._frames[0], self._frames[0].open)

    def _fields_of(self, rule: Mapping[str, Any]) -> Fields:
        known = self._fields.get(id(rule))
        if known is None:
            known = self._fields[id(rule)] = Fields(rule["fields"])
        return known

    def _first(self, fits: Any, most: int | None = None, *, template: str = "") -> tuple[_Frame, list[_Asked]] | None:
        for frame in self._frames:
            if template and frame.template != template:
                continue
            streams = [asked for asked in frame.open if fits(asked.stream)]
            if streams:
                return frame, streams[:most]
        return None

    def _answered(self, frame: _Frame, asked: _Asked, error: str, *, final: bool = False) -> Iterator[Step]:
        asked.answers = 0 if final else asked.answers - 1
        asked.error = asked.error or error
        if not asked.answers:
            yield from self._settled(frame, asked)
        if not frame.open:
            self._frames.remove(frame)

    def _settled(self, frame: _Frame, asked: _Asked) -> Iterator[Step]:
        name = stream_name(asked.stream)
        if frame.template == "unsubscribe":
            self._unborn.pop(name, None)
            if asked.error:
                yield _log(f"unsubscribing {name} was refused: {asked.error}")
            return
        if frame.restoring:
            self._ok += not asked.error
            self._failed += [name] if asked.error else []
        if asked.error:
            self._unborn.pop(name, None)
            yield Report(event="rejected", fields={"stream": name, "error": asked.error})
        else:
            if self._live_timeout and name not in self._unborn:
                self._unborn[name] = _Unborn(asked.stream)
            yield Report(event="subscribed", fields={"stream": name})

    def _finish_restoring(self) -> Iterator[Step]:
        if self._restoring and not any(frame.restoring for frame in self._frames):
            self._restoring = False
            yield _restored(self._ok, self._failed)

    @property
    def _timeout(self) -> float:
        return float(self._settings.get("ack_timeout", _ACK_TIMEOUT))

    @property
    def _live_timeout(self) -> float:
        """0: no first message is waited for."""
        return float(self._settings.get("live_timeout", 0.0)) if "stream" in self._dialect else 0.0

    def _ask(
        self, template: str, streams: Sequence[Subscription], now: float, *, restoring: bool = False
    ) -> Iterator[Step]:
        for some in self._split(template, streams):
            asked = [_Asked(stream, self._answers_to(stream)) for stream in some]
            frame = _Frame(template, asked, restoring)
            self._frames.append(frame)
            try:
                yield self._send(frame, now)
            except BadStream as error:
                for one in asked:
                    yield from self._answered(frame, one, str(error), final=True)

    def _split(self, template: str, streams: Sequence[Subscription]) -> Iterator[Sequence[Subscription]]:
        """As many as one frame may name, and hold."""
        size, most = int(self._settings.get("per_frame", 1)), self._settings.get("max_frame", 0)
        for at in range(0, len(streams), size):
            todo = [streams[at : at + size]]
            while todo:
                some = todo.pop()
                if most and len(some) > 1 and self._length(template, some) > most:
                    todo += [some[len(some) // 2 :], some[: len(some) // 2]]
                else:
                    yield some

    def _length(self, template: str, streams: Sequence[Subscription]) -> int:
        try:
            return len(fill(self._settings[template], streams, self._number + 1, self._wall(), 0))
        except BadStream:  # it is told when it is asked for
            return 0

    def _send(self, frame: _Frame, now: float) -> bytes | Unsigned:
        streams = [asked.stream for asked in frame.open]
        words = {"$channel": self._channel_of.get(stream_name(streams[0]))}
        content = fill_in(self._settings[frame.template], streams, self.number(), self._wall(), words)
        if fields := self._login():
            content = merge(content, fields)
        frame.numbers.add(self._number)
        frame.tries += 1
        self._sent_at = max(now, self._sent_at + self._pace)
        frame.deadline = self._sent_at + self._timeout
        return Unsigned(content) if fields and is_signed(content) else orjson.dumps(content)

    def _answers_to(self, stream: Subscription) -> int:
        entries = look_up(stream, self._settings.get("acks_per", ""))
        return max(1, len(entries)) if isinstance(entries, list) else 1


def _mentioned(stream: Subscription, text: str) -> bool:
    words = list(_words(stream))
    return bool(words) and all(word in text for word in words)


def _words(value: Any, *, keys: bool = False) -> Iterator[str]:
    """All scalars in it; with `keys` those of tables too, for an answer may have channels as keys."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if keys:
                yield key
            yield from _words(inner, keys=keys)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _words(inner, keys=keys)
    elif value is not MISSING:
        yield as_text(value)


def _restored(ok: int, failed: Sequence[str]) -> Report:
    return Report(event="restored", fields={"ok": ok, "failed": list(failed)})


def _log(text: str) -> Report:
    return Report(event="log", fields={"level": "warning", "text": text})
