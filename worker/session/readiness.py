"""What must be before anything is sent: the peer's word ([[ready]]), and some time ([connection] settle). Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wsadapter.contract.dialect.paths import matches
from wsadapter.contract.dialect.text import LONGEST_ANSWER, Text


class Opening:
    """The beginning of one connection, or nothing of it where the dialect asks for nothing. Times are monotonic seconds."""

    def __init__(self, dialect: Mapping[str, Any] | None, *, within: float) -> None:
        """`within`: seconds from the handshake to the peer's word."""
        dialect = dialect or {}
        self._words = list(dialect.get("ready", []))
        self._settle = float(dialect.get("connection", {}).get("settle", 0.0))
        self._within = within
        self.since = 0.0
        """When the handshake was done."""
        self.over = not self._words and not self._settle
        """Whether frames may be sent."""
        self.listens = bool(self._words)
        """Whether the peer's word is still waited for: messages must be shown to `is_word`."""

    def start(self, now: float) -> None:
        """The handshake is done."""
        self.since = now

    def inherit(self, since: float, *, listens: bool) -> None:
        """A predecessor waited on this connection, from `since` on; `listens`: for the peer's word too."""
        self.since = since
        self.listens = self.listens and listens

    def skip(self) -> None:
        """The connection is an old one."""
        self.over = True
        self.listens = False

    def is_word(self, text: Text) -> bool:
        """Whether a message is the one that is waited for, and so no data."""
        if not self.listens or len(text.payload) >= LONGEST_ANSWER or not any(_is(word, text) for word in self._words):
            return False
        self.listens = False
        return True

    def ends(self, now: float) -> bool:
        """Whether it is over now, told once."""
        if self.over or self.listens or now < self.since + self._settle:
            return False
        self.over = True
        return True

    def overdue(self, now: float) -> str:
        """What is missing; empty: nothing, or not yet."""
        if self.over or not self.listens or now < self.since + self._within:
            return ""
        return f"the dialect's [[ready]] did not come within {self._within:g} s"

    def deadline(self) -> float | None:
        """When to call `ends` and `overdue` next; None: never."""
        if self.over:
            return None
        return self.since + (self._within if self.listens else self._settle)


def _is(word: Mapping[str, Any], text: Text) -> bool:
    """Whether a message is what a [[ready]] says: the text itself, or JSON that matches."""
    return text.payload == word["is"].encode() if "is" in word else matches(text.value, word["match"])
