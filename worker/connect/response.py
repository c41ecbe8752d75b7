"""Parses the head and the body of an HTTP/1 response, as far as a refused handshake needs them. Pure.

The input comes from foreign servers. Whatever they send, the functions return a value or raise `BadResponse`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final

_STATUS_LINE: Final = re.compile(r"HTTP/1\.([01]) ([1-9][0-9]{2})(?: (.*))?", re.DOTALL)
_NUMBER: Final = re.compile(r"[0-9]+(\.[0-9]*)?")
_CHUNK_SIZE: Final = re.compile(rb"[0-9A-Fa-f]{1,8}")
_LONGEST_CHUNK_LINE: Final = 1024
_MOST_DIGITS: Final = 18
"""Digits of a length or a time. More are invalid, and CPython refuses to convert more than 4,300."""
_FIRST_UNIX_TIME: Final = 1e9
_LAST_UNIX_TIME: Final = 1e10
"""The years 2001 and 2286: a number of seconds between these is a time and not a duration, which would be 31 years or more."""
_UNITS: Final = (1.0, 1e3, 1e6, 1e9)
"""Unix times are sent in seconds, milliseconds, microseconds and nanoseconds."""
LONGEST_WAIT: Final = 365 * 86400.0
"""Seconds; a longer `Retry-After` counts as this."""


class BadResponse(Exception):
    """The bytes are not an HTTP response, or a response that can't be used; the text gives the reason. `status`: None if it is
    not known."""

    def __init__(self, text: str, status: int | None = None) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True, slots=True)
class Head:
    """Status line and headers."""

    minor: int
    """HTTP/1.`minor`: 0 or 1."""
    status: int
    phrase: str
    headers: dict[str, str]
    """Names in lower case; the values of a repeated name are joined by ", "."""

    @property
    def is_interim(self) -> bool:
        """True if another response follows (RFC 9110 §15.2)."""
        return 100 <= self.status < 200 and self.status != 101


def parse_head(raw: bytes) -> Head:
    """The parsed head; `raw`: all bytes before the empty line. Raises `BadResponse`."""
    first, *lines = raw.decode("latin-1").split("\r\n")
    found = _STATUS_LINE.fullmatch(first)
    if found is None:
        raise not_http_1_1(first)
    status = int(found[2])
    return Head(int(found[1]), status, (found[3] or "").strip(), _parse_headers(lines, status))


def not_http_1_1(line: str) -> BadResponse:
    """The error for a response with this first line."""
    return BadResponse(f"not an HTTP/1.1 response: {line[:100]!r}")


def _parse_headers(lines: Sequence[str], status: int) -> dict[str, str]:
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip():
            raise BadResponse("a malformed header line", status)
        name, value = name.lower(), value.strip()
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


def parse_body(head: Head, raw: bytes, most: int) -> tuple[bytes, bool]:
    """The first `most` bytes of the content, as far as they are in `raw`, and true if nothing more is needed."""
    if head.status in (204, 304):
        return b"", True
    if head.headers.get("transfer-encoding", "").lower().rpartition(",")[2].strip() == "chunked":
        content, over = _dechunked(raw)
    else:
        length = _length(head.headers.get("content-length", ""))
        content = raw[:length]
        over = length is not None and len(raw) >= length
    return content[:most], over or len(content) >= most


def _length(value: str) -> int | None:
    if not (value.isascii() and value.isdecimal()):
        return None
    digits = value.lstrip("0")
    return int(digits[:_MOST_DIGITS] or "0")


def _dechunked(raw: bytes) -> tuple[bytes, bool]:
    """The content of chunks (RFC 9112 §7.1), and true if it is complete. Bytes that are no chunk end the content; if the first
    bytes are none, they are the content."""
    content = bytearray()
    at = 0
    while (end := raw.find(b"\r\n", at)) >= 0:
        size = raw[at:end].partition(b";")[0].strip()
        if not _CHUNK_SIZE.fullmatch(size):
            return bytes(content) if at else raw, True
        length = int(size, 16)
        if not length:
            return bytes(content), True
        content += raw[end + 2 : end + 2 + length]
        at = end + 2 + length + 2
        if at > len(raw):
            return bytes(content), False
        if raw[at - 2 : at] != b"\r\n":
            return bytes(content), True
    return bytes(content), len(raw) - at > _LONGEST_CHUNK_LINE


def retry_after(value: str, now: float) -> float | None:
    """Seconds to wait, from 0 to `LONGEST_WAIT`, by a `Retry-After` header: seconds or a date (RFC 9110 §10.2.3); exchanges
    also send fractions of seconds and Unix times. None if it is none of these. `now`: the wall clock."""
    value = value.strip()
    if _NUMBER.fullmatch(value):
        return _bounded(_seconds(value, now))
    try:
        when = parsedate_to_datetime(value)
        return _bounded((when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp() - now)
    except (ValueError, TypeError, IndexError, OverflowError):  # the standard library raises any of these if it is no date
        return None


def _seconds(value: str, now: float) -> float:
    digits = value.partition(".")[0].lstrip("0")
    if len(digits) > _MOST_DIGITS + 1:
        return LONGEST_WAIT
    number = float(value)
    for unit in _UNITS:
        if _FIRST_UNIX_TIME <= number / unit < _LAST_UNIX_TIME:
            return number / unit - now
    return number


def _bounded(seconds: float) -> float:
    return min(max(0.0, seconds), LONGEST_WAIT)
