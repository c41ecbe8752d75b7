"""Two decode hooks: owners whose wall clock jumps an hour at a message, and the same clock for this process."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

_HOUR = 3600.0
_time, _time_ns = time.time, time.time_ns


def jump(hours: float) -> None:
    """From here on the wall clock of this process is so far off; 0: it is right again. The monotonic clock is not touched."""
    time.time = lambda: _time() + hours * _HOUR
    time.time_ns = lambda: _time_ns() + int(hours * _HOUR * 1e9)


def obey(data: bytes, *, binary: bool, stream: str | None) -> bytes:
    """A decode hook: "jump N" moves the owner's clock by N hours."""
    word, _, hours = data.decode().partition(" ")
    if word == "jump":
        jump(float(hours))
    return data


@contextmanager
def jumped(hours: float) -> Iterator[None]:
    """The clock of this process is off within the block."""
    jump(hours)
    try:
        yield
    finally:
        time.time, time.time_ns = _time, _time_ns
