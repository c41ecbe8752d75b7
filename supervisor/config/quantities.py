"""Durations and sizes as a person writes them: `2`, `"500ms"`, `"23h"`, `"64MiB"`. Pure."""

from __future__ import annotations

import math
import re
from fractions import Fraction
from typing import Final

DURATION: Final = 'a duration (seconds, or text such as "500ms", "2s", "1.5m", "23h", "2d")'
SIZE: Final = 'a size (bytes, or text such as "4k", "10MB", "64MiB")'

_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES: Final = {
    "": 1, "b": 1,
    "k": 1024, "kib": 1024, "m": 1024**2, "mib": 1024**2, "g": 1024**3, "gib": 1024**3,
    "kb": 1000, "mb": 1000**2, "gb": 1000**3,
}  # fmt: skip
_NUMBER_AND_UNIT: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)")
_LARGEST: Final = 1 << 62


def duration(value: object) -> float:
    """`value` in seconds. Raises `ValueError` if it is not a duration, or negative, or not finite."""
    if isinstance(value, str):
        number, unit = _split(value)
        if unit not in _SECONDS:
            raise ValueError(value)
        return _finite(float(number) * _SECONDS[unit])
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(value)  # noqa: TRY004  one error for all that is no duration
    return _finite(value)


def size(value: object) -> int:
    """`value` in bytes. `k` and `KiB` are 1,024, `kB` is 1,000. Raises `ValueError` if it is not a size."""
    if isinstance(value, str):
        number, unit = _split(value)
        if unit.lower() not in _BYTES:
            raise ValueError(value)
        exact = Fraction(number) * _BYTES[unit.lower()]
        if exact.denominator != 1:
            raise ValueError(value)
        return _storable(exact.numerator)
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(value)  # noqa: TRY004
    return _storable(value)


def _split(text: str) -> tuple[str, str]:
    found = _NUMBER_AND_UNIT.fullmatch(text.strip())
    if found is None:
        raise ValueError(text)
    return found[1], found[2]


def _finite(seconds: float) -> float:
    if abs(seconds) > _LARGEST or math.isnan(seconds) or seconds < 0:  # an int may be too large for a float
        raise ValueError(seconds)
    return float(seconds)


def _storable(count: int) -> int:
    if not 0 <= count <= _LARGEST:
        raise ValueError(count)
    return count


def show_duration(seconds: float) -> str:
    """As a person writes it: `90.0` is "90s", `0.5` is "500ms"; 0 is "0"."""
    if seconds == 0:
        return "0"
    for unit in ("d", "h", "m"):
        if seconds >= 2 * _SECONDS[unit] and (seconds / _SECONDS[unit]).is_integer():
            return f"{seconds / _SECONDS[unit]:.0f}{unit}"
    return f"{seconds * 1000:g}ms" if seconds < 1 else f"{seconds:.10g}s"


def show_size(count: int) -> str:
    """As a person writes it: `67108864` is "64MiB"."""
    for unit, factor in (("GiB", 1024**3), ("MiB", 1024**2), ("KiB", 1024)):
        if count >= factor and count % factor == 0:
            return f"{count // factor}{unit}"
    return str(count)
