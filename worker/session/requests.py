"""Recognises the answers to requests, and whether they are rejections. Pure.

No message is parsed while no request is open. A message is parsed only if it contains the key of the id followed by an open id.
Only the supervisor has the list of waiting callers: an answer to a request that has timed out is recognised like any other.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

import orjson

from wsadapter.contract.dialect.paths import MISSING, look_up, matches
from wsadapter.contract.dialect.text import Text
from wsadapter.contract.endpoint import Request as Rules
from wsadapter.contract.ipc.commands import id_text
from wsadapter.contract.ipc.reports import AnswerFollows

_VALUE: Final = rb'\s*:\s*(?:"((?:[^"\\]|\\.)*)"|(-?\d+))'
"""After a key: a string or an integer."""


class Requests:
    """The requests of one connection that have no answer yet. Not thread-safe."""

    def __init__(self, rules: Rules, ids: Iterable[str] = ()) -> None:
        """`ids`: the ids of open requests that a previous owner sent on the same connection."""
        self._rules = rules
        self._path = rules.answer_id or rules.id
        self._key = orjson.dumps(self._path.rpartition(".")[2])
        self._candidates = re.compile(re.escape(self._key) + _VALUE)
        self._open = set(ids)

    @property
    def ids(self) -> tuple[str, ...]:
        """Of the requests that have no answer yet."""
        return tuple(sorted(self._open))

    def expect(self, id: str) -> None:  # noqa: A002 - its name in the settings
        """A request of this id is about to be sent."""
        self._open.add(id)

    def forget(self, ids: Iterable[str]) -> None:
        """Answers to these requests are no longer recognised."""
        self._open.difference_update(ids)

    def may_match(self, data: bytes) -> bool:
        """A cheap test on the bytes of a read: false if `recognise` would find nothing in its messages."""
        return bool(self._open) and self._key in data

    def recognise(self, text: Text) -> AnswerFollows | None:
        """The report to write in front of a message that is the answer to an open request; None: the message is not one."""
        if not self._open or not self._may_be_answer(text.payload):
            return None
        found = id_text(look_up(text.value, self._path))
        if found is None or found not in self._open:
            return None
        self._open.discard(found)
        return AnswerFollows(found, self._is_rejection(text))

    def _may_be_answer(self, payload: bytes) -> bool:
        """True if the payload contains the key followed by an open id, at any depth."""
        if self._key not in payload:
            return False
        return any(_read(*found.groups()) in self._open for found in self._candidates.finditer(payload))

    def _is_rejection(self, text: Text) -> bool:
        error = look_up(text.value, self._rules.error)
        return (error is not MISSING and bool(error)) or not matches(text.value, self._rules.success)


def _read(string: bytes | None, number: bytes | None) -> str | None:
    """The id as text: `string` is the inside of a JSON string, `number` an integer."""
    if string is None:
        return None if number is None else number.decode()
    try:
        return str(orjson.loads(b'"' + string + b'"')) if b"\\" in string else string.decode()
    except ValueError:  # not JSON or not UTF-8: a binary message can contain any bytes
        return None
