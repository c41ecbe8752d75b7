"""What is awaited before the first frame is sent: the peer's message [[ready]], and the time [connection] settle. Pure; the
clock is passed in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wsadapter.contract.dialect.paths import matches
from wsadapter.contract.dialect.text import LONGEST_ANSWER, Text


class Readiness:
    """The readiness of one connection; `done` from the start if the dialect asks for nothing. Times are monotonic seconds."""

    def __init__(self, dialect: Mapping[str, Any] | None, *, within: float) -> None:
        """`within`: seconds from the handshake to the peer's [[ready]]."""
        dialect = dialect or {}
        self._words = list(dialect.get("ready", []))
        self._settle = float(dialect.get("connection", {}).get("settle", 0.0))
        self._within = within
        self.since = 0.0
        """When the handshake was done."""
        self.done = not self._words and not self._settle
        """Frames may be sent."""
        self.awaits_ready = bool(self._words)
        """The peer's [[ready]] has not come: each message must be passed to `is_ready_message`."""

    def start(self, now: float) -> None:
        """The handshake is done."""
        self.since = now

    def inherit(self, since: float, *, awaits_ready: bool) -> None:
        """A previous owner has waited on this connection since `since`. `awaits_ready`: the peer's [[ready]] had not come."""
        self.since = since
        self.awaits_ready = self.awaits_ready and awaits_ready

    def skip(self) -> None:
        """The connection is a previous owner's, and frames were sent on it."""
        self.done = True
        self.awaits_ready = False

    def is_ready_message(self, text: Text) -> bool:
        """True if a message is the awaited [[ready]], and therefore no data."""
        if not self.awaits_ready or len(text.payload) >= LONGEST_ANSWER or not any(_is(word, text) for word in self._words):
            return False
        self.awaits_ready = False
        return True

    def finish_if_due(self, now: float) -> bool:
        """True, once, if nothing is awaited any more; `done` is then true."""
        if self.done or self.awaits_ready or now < self.since + self._settle:
            return False
        self.done = True
        return True

    def overdue(self, now: float) -> str:
        """The names of the messages that are overdue; empty: none is."""
        if self.done or not self.awaits_ready or now < self.since + self._within:
            return ""
        return f"the dialect's [[ready]] did not come within {self._within:g} s"

    def deadline(self) -> float | None:
        """When to call `finish_if_due` and `overdue` next; None: never."""
        if self.done:
            return None
        return self.since + (self._within if self.awaits_ready else self._settle)


def _is(word: Mapping[str, Any], text: Text) -> bool:
    """True if a message matches a [[ready]] table: `is`, the whole text, or `match`, fields of JSON."""
    return text.payload == word["is"].encode() if "is" in word else matches(text.value, word["match"])
