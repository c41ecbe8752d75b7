"""Where a reader begins: at the beginning, at the end, at a time, behind a number of each endpoint."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal

from wsadapter.contract.errors import PositionBeyondEnd, WrongType
from wsadapter.journal import folder as folders
from wsadapter.journal.reading import UnreadableSegment, opened, state_at, state_at_end, state_before
from wsadapter.journal.state import NOTHING, State

Start = Literal["earliest", "latest"] | datetime | float | Mapping[str, int]
"""Where to begin. A number: Unix time in seconds. A mapping: per endpoint the number of the last message that was processed."""
_LAST_SECOND: Final = (1 << 63) // 10**9 - 1
"""The journal has times as nanoseconds in 64 bits: the year 2262."""
_WHERE: Final = '"earliest", "latest", a datetime, a Unix time in seconds, or a mapping from endpoint to number'


def find(path: Path, start: Start) -> State:
    """The place, with what lies before it. Raises `PositionBeyondEnd`, `WrongType`, `JournalError`."""
    match start:
        case "earliest":
            return earliest(path)
        case "latest":
            return latest(path)
        case datetime():
            return at_time(path, _nanoseconds(_seconds(start)))
        case bool():
            pass
        case int() | float() if start == start:  # not nan
            return at_time(path, _nanoseconds(start))
        case Mapping():
            return behind(path, start)
    raise WrongType(f"start: expected {_WHERE}; got {start!r}")


def _seconds(at: datetime) -> float:
    try:
        return at.timestamp()
    except (OverflowError, ValueError):  # without a time zone, at the edge of the calendar
        return at.replace(tzinfo=UTC).timestamp()


def _nanoseconds(seconds: float) -> int:
    return int(max(-_LAST_SECOND, min(seconds, _LAST_SECOND)) * 1e9)


def earliest(path: Path) -> State:
    """The beginning; of an empty journal, place 1. If the oldest segments are damaged, the place is in front of them, so that a
    reader reports what was in them."""
    found = folders.segments(path)
    damaged: list[folders.Segment] = []
    for segment in found:
        try:
            state = _before(segment, found)
        except UnreadableSegment:
            if segment is found[-1]:
                raise
            damaged.append(segment)
        except FileNotFoundError:  # the retention was faster
            continue
        else:
            if not damaged:
                return state
            first = damaged[0].first  # 1: the numbers of everything in front of `segment` were in the damaged ones
            return State("", first, 0, {} if first == 1 else state.endpoints)
    return State()


def latest(path: Path) -> State:
    """The end, as it is now."""
    found = folders.segments(path)
    if not found:
        return State()
    with opened(found[-1].path, is_last=True) as database:
        return state_at_end(database)


def at_time(path: Path, at: int) -> State:
    """The first item that was received, or happened, at `at` (wall-clock ns) or later; the end if there is none yet."""
    found = folders.segments(path)
    for index, segment in enumerate(found):
        try:
            with opened(segment.path, is_last=index == len(found) - 1) as database:
                (seq,) = database.execute("SELECT min(seq) FROM records WHERE at >= ?", (at,)).fetchone()
                if seq is not None:
                    return state_at(database, segment.first, seq)
        except FileNotFoundError:
            continue
        except UnreadableSegment:
            if segment is found[-1]:
                raise
    return latest(path)


def behind(path: Path, numbers: Mapping[str, int]) -> State:
    """The first place at which one of these endpoints has a message behind its number. What of another one lies behind it was
    processed before, and is left out by its number: see `State.endpoints`. Raises `PositionBeyondEnd`, `WrongType`."""
    for name, number in numbers.items():
        if type(name) is not str or type(number) is not int or number < 0:
            raise WrongType(f"start: expected a mapping from endpoint to number, got {name!r}: {number!r}")
    end = latest(path)
    for name, number in numbers.items():
        if number > end.endpoints.get(name, NOTHING).number:
            at = end.endpoints.get(name, NOTHING).number
            raise PositionBeyondEnd(
                f"{path}: {name} has come to message {at} in this journal; there is no message {number} yet"
            )
    if all(number == end.endpoints.get(name, NOTHING).number for name, number in numbers.items()):
        return end
    place = _first_behind(path, numbers)
    for name, number in numbers.items():
        known = place.endpoints.get(name, NOTHING)
        place.endpoints[name] = known._replace(number=number)
    return place


def _first_behind(path: Path, numbers: Mapping[str, int]) -> State:
    found = folders.segments(path)
    for index in range(len(found) - 1, -1, -1):
        with opened(found[index].path, is_last=index == len(found) - 1) as database:
            before = state_before(database, found[index].first)
            if index and any(number < before.endpoints.get(name, NOTHING).number for name, number in numbers.items()):
                continue
            query = "SELECT min(seq) FROM records WHERE endpoint = ? AND count > 0 AND number + count > ?"
            places = [database.execute(query, (name, number + 1)).fetchone()[0] for name, number in numbers.items()]
            seq = min((place for place in places if place is not None), default=found[index].first)
            return state_at(database, found[index].first, seq)
    return State()


def _before(segment: folders.Segment, found: list[folders.Segment]) -> State:
    with opened(segment.path, is_last=segment is found[-1]) as database:
        return state_before(database, segment.first)
