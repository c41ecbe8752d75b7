"""`wsadapter replay PATH`: the items of a journal as the JSON lines of the runner's output."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from datetime import UTC, datetime
from time import monotonic, sleep

from wsadapter.contract.errors import JournalError, UnknownEndpoint, UsageError
from wsadapter.contract.items import Batch
from wsadapter.journal import folder as folders
from wsadapter.journal import places
from wsadapter.journal.journal import GROUP_MARK, Journal
from wsadapter.journal.places import Start
from wsadapter.journal.reader import Entry
from wsadapter.journal.reading import UnreadableSegment, newest_at
from wsadapter.outputs.base import OutputFailed
from wsadapter.outputs.jsonl import JsonLines


def moment(text: str) -> Start:
    """A place in a journal. Raises `UsageError`."""
    if text in ("earliest", "latest"):
        return "earliest" if text == "earliest" else "latest"
    try:
        seconds = float(text)
    except ValueError:
        try:
            return datetime.fromisoformat(text)
        except ValueError:
            raise UsageError(f"{text!r} is no time: a Unix time in seconds, or such as 2026-11-30T21:50:00+00:00") from None
    if not math.isfinite(seconds):
        raise UsageError(f"{text!r} is no time: it must be finite")
    return seconds


def speed(text: str) -> float:
    """How many times faster than it was received; infinite for "max". Raises `UsageError`."""
    if text in ("real", "max"):
        return 1.0 if text == "real" else math.inf
    try:
        times = float(text)
    except ValueError:
        times = math.nan
    if not 0 < times < math.inf:
        raise UsageError(f'{text!r} is no rate: "real", "max", or a number above 0')
    return times


def replay(
    path: str, *, begin: Start, end: Start | None, speed: float, endpoints: Collection[str], streams: Collection[str]
) -> None:
    """Print the items. Raises `JournalError`, also if there is none; `UnknownEndpoint`; `BrokenPipeError` if nobody reads
    them."""
    output = JsonLines()
    journal = Journal(path)
    entries = journal.entries(begin, end, endpoints=endpoints, streams=streams)
    _check_endpoints(journal, endpoints)
    is_empty, has_messages = True, False
    try:
        try:
            for entry in entries if speed == math.inf else _paced(entries, speed, output):
                item = entry.item
                is_empty = False
                if isinstance(item, Batch):
                    has_messages = True
                    output.write_batch(item)
                else:
                    output.write_event(item)
        finally:
            output.close()  # also what was read in front of an error
    except OutputFailed as error:
        if isinstance(error.__cause__, BrokenPipeError):
            raise BrokenPipeError from error
        raise
    if is_empty:
        raise JournalError(f"{path}: nothing is printed: {_extent(journal)}")
    if streams and not has_messages:
        raise JournalError(f"{path}: no message of {' or '.join(map(repr, streams))} is there")


def _check_endpoints(journal: Journal, endpoints: Collection[str]) -> None:
    if not endpoints:
        return
    try:
        known = places.latest(journal.path).endpoints
    except UnreadableSegment:  # the names are not known; the reader reports the damage
        return
    groups = {name.partition(GROUP_MARK)[0] for name in known}
    for name in endpoints:
        if name not in known and name not in groups:
            raise UnknownEndpoint(name, sorted(known))


def _extent(journal: Journal) -> str:
    """From when to when the journal has items."""
    first = next(journal.entries(), None)
    if first is None:
        return "the journal has no items yet"
    times = first.at, newest_at(folders.segments(journal.path)[-1].path)
    begin, end = (datetime.fromtimestamp(at / 1e9, UTC).isoformat(timespec="seconds") for at in times)
    return f"the items of this journal are of {begin} to {end}"


def _paced(entries: Iterator[Entry], speed: float, output: JsonLines) -> Iterator[Entry]:
    """Each entry when its time has come, counted from the first."""
    first: int | None = None
    begun = monotonic()
    for entry in entries:
        if first is None:
            first = entry.at
        wait = begun + (entry.at - first) / 1e9 / speed - monotonic()
        if wait > 0:
            output.flush()
            sleep(wait)
        yield entry
