"""Subscriptions: which frames ask for them, which frames answer, and what to report. Pure; the clock is passed in.

Every frame of a dialect is answered or asked once more; a stream that is still unanswered then is reported as rejected.
Nothing is parsed unless something is unanswered.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from wsadapter.contract.commands import Report
from wsadapter.contract.endpoint import Subscription
from wsadapter.worker.paths import MISSING, look_up, matches
from wsadapter.worker.templates import BadStream, fill, is_meant, number_in, raw_frame, stream_name
from wsadapter.worker.text import Text

Step = bytes | Report
"""A text to send, or something to report; in this order."""

LONGEST_ANSWER: Final = 16 * 1024
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


class Subscriptions:
    """The subscriptions of one connection. Not thread-safe."""

    def __init__(
        self, dialect: Mapping[str, Any] | None, *, number: int = 0, wall: Callable[[], float] = time.time
    ) -> None:
        """`dialect` as in dialects/README.md, already checked; None: streams are frames of their own. `number`: above all that
        predecessors on the same connection gave their frames, for answers to those may still come. `wall`: the wall clock."""
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
        return min((frame.deadline for frame in self._frames), default=None)

    def tick(self, now: float) -> Iterator[Step]:
        """Asks once more for what was not answered in time, then gives it up."""
        for frame in [frame for frame in self._frames if now >= frame.deadline]:
            if frame.tries < _MOST_TRIES:
                yield self._send(frame, now)
                continue
            text = f"not answered within {self._timeout:g} s, asked {frame.tries} times"
            for asked in frame.open:
                yield from self._answered(frame, asked, text, final=True)
        yield from self._finish_restoring()

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
        for asked in streams:
            steps += self._answered(frame, asked, error)
        return [*steps, *self._finish_restoring()]

    def _meant(self, rule: Mapping[str, Any], value: Any, error: str) -> tuple[_Frame, list[_Asked]] | None:
        """Which streams an answer is about; None: none of ours."""
        number = number_in(look_up(value, rule.get("id", "")))
        if number is not None:
            return next(((frame, frame.open) for frame in self._frames if number in frame.numbers), None)
        named = look_up(value, rule.get("stream", ""))
        if named is not MISSING:
            return self._first(lambda stream: is_meant(stream, named), 1)
        mentioned = self._first(lambda stream: _mentioned(stream, error)) if error else None
        return mentioned or (self._frames[0], self._frames[0].open)

    def _first(self, fits: Any, most: int | None = None) -> tuple[_Frame, list[_Asked]] | None:
        for frame in self._frames:
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
            if asked.error:
                yield _log(f"unsubscribing {name} was refused: {asked.error}")
            return
        if frame.restoring:
            self._ok += not asked.error
            self._failed += [name] if asked.error else []
        if asked.error:
            yield Report(event="rejected", fields={"stream": name, "error": asked.error})
        else:
            yield Report(event="subscribed", fields={"stream": name})

    def _finish_restoring(self) -> Iterator[Step]:
        if self._restoring and not any(frame.restoring for frame in self._frames):
            self._restoring = False
            yield _restored(self._ok, self._failed)

    @property
    def _timeout(self) -> float:
        return float(self._settings.get("ack_timeout", _ACK_TIMEOUT))

    def _ask(
        self, template: str, streams: Sequence[Subscription], now: float, *, restoring: bool = False
    ) -> Iterator[Step]:
        size = int(self._settings.get("per_frame", 1))
        for at in range(0, len(streams), size):
            asked = [_Asked(stream, self._answers_to(stream)) for stream in streams[at : at + size]]
            frame = _Frame(template, asked, restoring)
            self._frames.append(frame)
            try:
                yield self._send(frame, now)
            except BadStream as error:
                for one in asked:
                    yield from self._answered(frame, one, str(error), final=True)

    def _send(self, frame: _Frame, now: float) -> bytes:
        text = fill(self._settings[frame.template], [asked.stream for asked in frame.open], self.number(), self._wall())
        frame.numbers.add(self._number)
        frame.tries += 1
        frame.deadline = now + self._timeout
        return text

    def _answers_to(self, stream: Subscription) -> int:
        entries = look_up(stream, self._settings.get("acks_per", ""))
        return max(1, len(entries)) if isinstance(entries, list) else 1


def _mentioned(stream: Subscription, text: str) -> bool:
    values = [stream] if isinstance(stream, str) else list(stream.values())
    return bool(values) and all(str(value) in text for value in values)


def _restored(ok: int, failed: Sequence[str]) -> Report:
    return Report(event="restored", fields={"ok": ok, "failed": list(failed)})


def _log(text: str) -> Report:
    return Report(event="log", fields={"level": "warning", "text": text})
