"""Secrets are taken out of texts that exchanges, and exceptions, write: they repeat what they were sent. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

_MOST_SIGNATURES: Final = 256
_LEAST_SECRET: Final = 4
"""Characters; what is shorter hides nothing, and would be found everywhere."""


def masked(text: str, secrets: Iterable[str]) -> str:
    """The text with "***" instead of each secret in it."""
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= _LEAST_SECRET:
            text = text.replace(secret, "***")
    return text


class Secrets:
    """The secrets of one connection: those of the endpoint's login, and the last signatures. Not thread-safe."""

    def __init__(self, values: Iterable[str]) -> None:
        self._values = tuple(values)
        self._signatures: deque[str] = deque(maxlen=_MOST_SIGNATURES)

    def learn(self, frame: Mapping[str, Any], signed: Mapping[str, Any]) -> None:
        """What the hook `sign` added to a frame is secret too."""
        self._signatures.extend(set(_texts(signed)).difference(_texts(frame)))

    def mask(self, text: str) -> str:
        """The text with "***" instead of each secret in it."""
        return masked(text, (*self._values, *self._signatures))


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping | list | tuple):
        for inner in value.values() if isinstance(value, Mapping) else value:
            yield from _texts(inner)
    elif isinstance(value, str):
        yield value
