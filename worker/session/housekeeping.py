"""Messages of a peer that are no data, by the dialect's rules [[notice]], [[answer]] and [[housekeeping]]. Pure.

A message is parsed only if it contains the text of a rule.
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


class HousekeepingMatch(NamedTuple):
    """What a message that is no data demands."""

    heartbeat: bool = False
    """The message shows that the peer is alive."""
    reply: bytes | None = None
    """The reply to send at once; None: no reply."""
    notice: str | None = None
    """A text of the peer for people; None: there is none."""
    reconnects: bool = False
    """With `notice`: the peer asks for a new connection."""


class _Rule(NamedTuple):
    needle: bytes
    match: Mapping[str, Any] | None
    """None: the message must be equal to the needle."""
    found: HousekeepingMatch
    frame: str = ""
    text: str | None = None

    def fits(self, text: Text) -> bool:
        if self.match is None:
            return text.payload == self.needle
        return self.needle in text.payload and matches(text.value, self.match)


class Housekeeping:
    """The rules of one connection. Not thread-safe."""

    def __init__(
        self, dialect: Mapping[str, Any] | None, number: Callable[[], int], wall: Callable[[], float] = time.time
    ) -> None:
        """`dialect` as in dialects/README.md, already checked. `number` returns the next "$id". `wall`: the wall clock."""
        self._rules = list(_rules(dialect or {}))
        self._needles = tuple({rule.needle: None for rule in self._rules})
        self._number = number
        self._wall = wall

    def may_match(self, data: bytes) -> bool:
        """A cheap test on the bytes of a read: false if `match_rule` would match none of its messages."""
        for needle in self._needles:  # noqa: SIM110 - `any` costs twice as much
            if needle in data:
                return True
        return False

    def match_rule(self, text: Text) -> HousekeepingMatch | None:
        """What a text message demands; None: it is data. Call it once for each message, because a reply takes a new "$id"."""
        if len(text.payload) >= LONGEST_ANSWER:
            return None
        for rule in self._rules:
            if rule.fits(text):
                return self._filled_in(rule, text)
        return None

    def _filled_in(self, rule: _Rule, text: Text) -> HousekeepingMatch:
        if rule.frame:
            return rule.found._replace(reply=answer(rule.frame, text.value, self._number(), self._wall()))
        if rule.text is not None:
            said = look_up(text.value, rule.text)
            return rule.found._replace(notice=said if isinstance(said, str) and said else text.payload.decode())
        return rule.found


def _rules(dialect: Mapping[str, Any]) -> Iterator[_Rule]:
    """The rules in the order in which they are tried: rules that demand something come before rules that only skip messages."""
    for rule in dialect.get("notice", []):
        yield _Rule(*_fits(rule), HousekeepingMatch(reconnects=bool(rule.get("reconnect", True))), text=rule.get("text", ""))
    for rule in dialect.get("answer", []):
        said = rule["say"].encode() if "say" in rule else None
        yield _Rule(*_fits(rule), HousekeepingMatch(heartbeat=True, reply=said), frame=rule.get("frame", ""))
    for rule in dialect.get("housekeeping", []):
        yield _Rule(*_fits(rule), HousekeepingMatch(heartbeat=bool(rule.get("heartbeat"))))


def _fits(rule: Mapping[str, Any]) -> tuple[bytes, Mapping[str, Any] | None]:
    """The needle and the match of a rule."""
    return (rule["is"].encode(), None) if "is" in rule else (rule["contains"].encode(), rule["match"])


def answer(template: str, value: Any, number: int, wall: float) -> bytes:
    """The frame of [[answer]] to a message: "$.path" becomes the value at the path, or null if there is none."""
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
