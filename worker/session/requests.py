"""Requests: which message is the answer to one, and whether it says no. Pure.

Nothing is parsed while no answer is waited for, and a message is only where it holds the key of the id with an id that is
waited for. Whether somebody still waits is the supervisor's to know: an answer to what had timed out is recognised like any.
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
"""Behind a key: a string or a whole number."""


class Requests:
    """The requests of one connection that have no answer yet. Not thread-safe."""

    def __init__(self, rules: Rules, ids: Iterable[str] = ()) -> None:
        """`ids`: of those that a predecessor sent on the same connection."""
        self._rules = rules
        self._path = rules.answer_id or rules.id
        self._key = orjson.dumps(self._path.rpartition(".")[2])
        self._candidates = re.compile(re.escape(self._key) + _VALUE)
        self._open = set(ids)

    def expect(self, id: str) -> None:  # noqa: A002 - what it is called everywhere
        """A request of this id is about to be sent."""
        self._open.add(id)

    def forget(self, ids: Iterable[str]) -> None:
        """No answer to these is waited for any more."""
        self._open.difference_update(ids)

    def may_hold(self, data: bytes) -> bool:
        """A cheap test on all that was read at once: whether `recognise` has to look at its messages."""
        return bool(self._open) and self._key in data

    def recognise(self, text: Text) -> AnswerFollows | None:
        """What to report in front of a message that is an answer; None where it is none to a request of ours."""
        if not self._open or not self._may_be_answer(text.payload):
            return None
        found = id_text(look_up(text.value, self._path))
        if found is None or found not in self._open:
            return None
        self._open.discard(found)
        return AnswerFollows(found, self._is_rejection(text))

    def _may_be_answer(self, payload: bytes) -> bool:
        """Whether the key stands in it with an id that is waited for, at whatever place."""
        if self._key not in payload:
            return False
        return any(_read(*found.groups()) in self._open for found in self._candidates.finditer(payload))

    def _is_rejection(self, text: Text) -> bool:
        error = look_up(text.value, self._rules.error)
        return (error is not MISSING and bool(error)) or not matches(text.value, self._rules.success)


def _read(string: bytes | None, number: bytes | None) -> str | None:
    """The text of a JSON string's inside, or of a number."""
    if string is None:
        return None if number is None else number.decode()
    try:
        return str(orjson.loads(b'"' + string + b'"')) if b"\\" in string else string.decode()
    except ValueError:  # no JSON, or no UTF-8: a binary message can hold anything
        return None
