"""A text message that is parsed at most once."""

from __future__ import annotations

from typing import Any, Final

import orjson

UNKNOWN: Final = object()
LONGEST_ANSWER: Final = 16 * 1024
"""Bytes. A longer message always counts as data, and is not parsed for anything else."""


class Text:
    """The payload of one text message. Not thread-safe."""

    __slots__ = ("_parsed", "_value", "payload", "stream")

    def __init__(self, payload: bytes) -> None:
        self.payload = payload
        self.stream: Any = UNKNOWN
        """The stream of the message; None: it has none; `UNKNOWN`: it was not searched yet."""
        self._parsed = False
        self._value: Any = None

    @property
    def value(self) -> Any:
        """The parsed JSON; None if the text is no JSON."""
        if not self._parsed:
            self._parsed = True
            try:
                self._value = orjson.loads(self.payload)
            except orjson.JSONDecodeError:
                self._value = None
        return self._value
