"""A text message that is a JSON array as the messages that are its elements ([payload] split). Pure.

The bytes of each element are delivered as they came, so where an element begins and ends is found without making anything of
it. The elements stay where they are in the bytes of the read: a record tells them as parts of the one frame that brought them.
"""

from __future__ import annotations

import re
from json import JSONDecoder
from typing import Final

from wsadapter.worker.websocket.reader import Batch

MOST_ELEMENTS: Final = 1 << 16
"""An array of more is one message: each element costs more than its bytes."""

# Numbers are looked at for their length alone: to convert them costs more, and fails for those of thousands of digits.
_value_at: Final = JSONDecoder(parse_float=len, parse_int=len).raw_decode
_spaces: Final = re.compile("[ \t\n\r]*").match


def elements(payload: bytes) -> list[tuple[int, int]]:
    """Where the elements of an array begin and end; none where it is empty, has too many, or is no array."""
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


def split(batch: Batch) -> Batch:
    """The read with the elements of each array as messages of their own; the same where there is no array."""
    binary = set(batch.binary)
    arrays = {at: found for at in range(batch.count) if at not in binary and (found := elements(batch.payload(at)))}
    if not arrays:
        return batch
    apart = Batch(batch.data, batch.fresh)
    apart.controls, apart.consumed, apart.unfinished = batch.controls, batch.consumed, batch.unfinished
    apart.violation = batch.violation
    for at in range(batch.count):
        if at in arrays:
            _add_elements(apart, batch, at, arrays[at])
            continue
        if at in binary:
            apart.binary.append(apart.count)
        if at in batch.joined:
            apart.joined[apart.count] = batch.joined[at]
        apart.add(batch.starts[at], batch.ends[at])
    return apart


def _add_elements(apart: Batch, batch: Batch, at: int, found: list[tuple[int, int]]) -> None:
    begin, end = batch.starts[at], batch.ends[at]
    first = apart.count
    for start, stop in found:
        if apart.count > first:
            apart.first_of[apart.count] = first
        if at in batch.joined:
            apart.joined[apart.count] = batch.joined[at][start:stop]
            apart.add(end, end)
        else:
            apart.add(begin + start, begin + stop)
    apart.frame_ends[apart.count - 1] = end
