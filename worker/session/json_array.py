"""Splits a text message that is a JSON array into one message per element ([payload] split). Pure.

The bytes of each element are delivered as they came, so only the begin and the end of each element are searched, without
building a value of the element. The elements stay in their places in the bytes of the read, and belong together to the frame
that brought them.
"""

from __future__ import annotations

import re
from json import JSONDecoder
from typing import Final

from wsadapter.worker.websocket.reader import ReadResult

MOST_ELEMENTS: Final = 1 << 16
"""A longer array stays one message, because each element costs more memory than its bytes."""

# Numbers are not converted: that costs more, and CPython refuses to convert thousands of digits.
_value_at: Final = JSONDecoder(parse_float=len, parse_int=len).raw_decode
_spaces: Final = re.compile("[ \t\n\r]*").match


def elements(payload: bytes) -> list[tuple[int, int]]:
    """Begin and end of each element of an array; empty if the array is empty or too long, or the text is no array."""
    text = payload.decode("latin-1")  # one character for each byte
    at = _behind_spaces(text, 0)
    if text[at : at + 1] != "[":
        return []
    found: list[tuple[int, int]] = []
    at = _behind_spaces(text, at + 1)
    try:
        while len(found) < MOST_ELEMENTS:
            _, end = _value_at(text, at)
            found.append((at, end))
            at = _behind_spaces(text, end)
            if text[at] == "]":
                return found if _behind_spaces(text, at + 1) == len(text) else []
            if text[at] != ",":
                return []
            at = _behind_spaces(text, at + 1)
    except (ValueError, IndexError, RecursionError):  # not JSON, not complete, or nested too deeply
        pass
    return []


def _behind_spaces(text: str, at: int) -> int:
    found = _spaces(text, at)
    return at if found is None else found.end()


def split(read: ReadResult) -> ReadResult:
    """The read with each element of an array as a separate message; the same read if it has no array."""
    binary = set(read.binary)
    arrays = {at: found for at in range(read.count) if at not in binary and (found := elements(read.payload(at)))}
    if not arrays:
        return read
    apart = ReadResult(read.data, read.fresh)
    apart.controls, apart.consumed, apart.unfinished = read.controls, read.consumed, read.unfinished
    apart.violation = read.violation
    for at in range(read.count):
        if at in arrays:
            _add_elements(apart, read, at, arrays[at])
            continue
        if at in binary:
            apart.binary.append(apart.count)
        if at in read.joined:
            apart.joined[apart.count] = read.joined[at]
        apart.add(read.starts[at], read.ends[at])
    return apart


def _add_elements(apart: ReadResult, read: ReadResult, at: int, found: list[tuple[int, int]]) -> None:
    begin, end = read.starts[at], read.ends[at]
    first = apart.count
    for start, stop in found:
        if apart.count > first:
            apart.first_of[apart.count] = first
        if at in read.joined:
            apart.joined[apart.count] = read.joined[at][start:stop]
            apart.add(end, end)
        else:
            apart.add(begin + start, begin + stop)
    apart.frame_ends[apart.count - 1] = end
