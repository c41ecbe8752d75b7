"""A text message, parsed at most once, whoever looks into it."""

from __future__ import annotations

from typing import Any, Final

import orjson

UNKNOWN: Final = object()
LONGEST_ANSWER: Final = 16 * 1024
"""A longer message is data, whatever is in it: it is not looked into for anything else."""


class Text:
    """The payload of one text message. Not thread-safe."""

    __slots__ = ("_parsed", "_value", "payload", "stream")

    def __init__(self, payload: bytes) -> None:
        self.payload = payload
        self.stream: Any = UNKNOWN
        """The stream it belongs to, None for none; `UNKNOWN` until somebody has looked."""
        self._parsed = False
        self._value: Any = None

    @property
    def value(self) -> Any:
        """As JSON; None where it is none."""
        if not self._parsed:
            self._parsed = True
            try:
                self._value = orjson.loads(self.payload)
            except orjson.JSONDecodeError:
                self._value = None
        return self._value
