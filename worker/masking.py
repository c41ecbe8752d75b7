"""Masks secrets in texts of exchanges and of exceptions, which may repeat what they were sent. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

_MOST_SIGNATURES: Final = 256
_LEAST_SECRET: Final = 4
"""Characters. A shorter text is no secret, and would be found everywhere."""


def masked(text: str, secrets: Iterable[str]) -> str:
    """The text with "***" in place of each secret."""
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= _LEAST_SECRET:
            text = text.replace(secret, "***")
    return text


class Secrets:
    """The secrets of one connection: the values of the endpoint's login, and the last signatures. Not thread-safe."""

    def __init__(self, values: Iterable[str]) -> None:
        self._values = tuple(values)
        self._signatures: deque[str] = deque(maxlen=_MOST_SIGNATURES)

    def learn(self, frame: Mapping[str, Any], signed: Mapping[str, Any]) -> None:
        """The texts that the hook `sign` has added to a frame are secrets too."""
        self._signatures.extend(set(_texts(signed)).difference(_texts(frame)))

    def mask(self, text: str) -> str:
        """The text with "***" in place of each secret."""
        return masked(text, (*self._values, *self._signatures))


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping | list | tuple):
        for inner in value.values() if isinstance(value, Mapping) else value:
            yield from _texts(inner)
    elif isinstance(value, str):
        yield value
