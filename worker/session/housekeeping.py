"""What a peer says that is no data, by the dialect's rules: [[notice]], [[answer]], [[housekeeping]]. Pure.

Nothing is parsed but what holds the text of a rule.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NamedTuple

import orjson

from wsadapter.contract.dialect.paths import MISSING, look_up, matches
from wsadapter.contract.dialect.templates import fill
from wsadapter.contract.dialect.text import LONGEST_ANSWER, Text

_PATH: Final = "$."


class Found(NamedTuple):
    """A message that is no data."""

    heartbeat: bool = False
    """It shows that the peer is there."""
    reply: bytes | None = None
    """The text to answer with, at once."""
    notice: str | None = None
    """The peer says this to people."""
    reconnects: bool = False
    """With `notice`: it asks us to reconnect."""


class _Rule(NamedTuple):
    needle: bytes
    match: Mapping[str, Any] | None
    """None: the needle is the whole message."""
    found: Found
    frame: str = ""
    text: str | None = None

    def fits(self, text: Text) -> bool:
        if self.match is None:
            return text.payload == self.needle
        return self.needle in text.payload and matches(text.value, self.match)


class Upkeep:
    """The rules of one connection. Not thread-safe."""

    def __init__(
        self, dialect: Mapping[str, Any] | None, number: Callable[[], int], wall: Callable[[], float] = time.time
    ) -> None:
        """`dialect` as in dialects/README.md, already checked. `number` gives the next "$id"."""
        self._rules = list(_rules(dialect or {}))
        self._needles = tuple({rule.needle: None for rule in self._rules})
        self._number = number
        self._wall = wall

    def may_hold(self, data: bytes) -> bool:
        """A cheap test on all that was read at once: whether `judge` has to look at its messages."""
        for needle in self._needles:  # noqa: SIM110 - as a loop it costs half
            if needle in data:
                return True
        return False

    def judge(self, text: Text) -> Found | None:
        """What a text message is; None where it is data. To be called once for each: it counts the answers."""
        if len(text.payload) >= LONGEST_ANSWER:
            return None
        for rule in self._rules:
            if rule.fits(text):
                return self._judged(rule, text)
        return None

    def _judged(self, rule: _Rule, text: Text) -> Found:
        if rule.frame:
            return rule.found._replace(reply=answer(rule.frame, text.value, self._number(), self._wall()))
        if rule.text is not None:
            said = look_up(text.value, rule.text)
            return rule.found._replace(notice=said if isinstance(said, str) and said else text.payload.decode())
        return rule.found


def _rules(dialect: Mapping[str, Any]) -> Iterator[_Rule]:
    """The first that fits counts: what asks for something before what is only left out."""
    for rule in dialect.get("notice", []):
        yield _Rule(*_fits(rule), Found(reconnects=bool(rule.get("reconnect", True))), text=rule.get("text", ""))
    for rule in dialect.get("answer", []):
        said = rule["say"].encode() if "say" in rule else None
        yield _Rule(*_fits(rule), Found(heartbeat=True, reply=said), frame=rule.get("frame", ""))
    for rule in dialect.get("housekeeping", []):
        yield _Rule(*_fits(rule), Found(heartbeat=bool(rule.get("heartbeat"))))


def _fits(rule: Mapping[str, Any]) -> tuple[bytes, Mapping[str, Any] | None]:
    """The needle and the match of a rule."""
    return (rule["is"].encode(), None) if "is" in rule else (rule["contains"].encode(), rule["match"])


def answer(template: str, value: Any, number: int, wall: float) -> bytes:
    """The frame of [[answer]] to a message: "$.path" is what stands there, null where nothing does."""
    ours = orjson.loads(fill(template, (), number, wall))
    return orjson.dumps(_answered(ours, value))


def _answered(template: Any, value: Any) -> Any:
    match template:
        case str() if template.startswith(_PATH):
            found = look_up(value, template.removeprefix(_PATH))
            return None if found is MISSING else found
        case list():
            return [_answered(item, value) for item in template]
        case dict():
            return {key: _answered(item, value) for key, item in template.items()}
        case _:
            return template
