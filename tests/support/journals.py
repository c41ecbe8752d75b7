"""Journals for tests: written row by row, without a supervisor, and damaged on purpose."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from wsadapter import Down, Item, Message, Reason, Started, Up
from wsadapter.config.settings import JournalSettings
from wsadapter.journal.folder import Segment, segments
from wsadapter.journal.journal import Journal
from wsadapter.journal.rows import Row, event_row, message_row
from wsadapter.journal.writer import JournalWriter

RUN = "0123456789abcdef"


def settings(path: Path, **changes: Any) -> JournalSettings:
    """Of a journal with small segments."""
    return replace(JournalSettings(path=str(path), segment_bytes=64 * 1024, retain_bytes=0, retain=0.0), **changes)


@contextmanager
def writing(path: Path, **changes: Any) -> Iterator[JournalWriter]:
    """An open journal."""
    writer = JournalWriter(settings(path, **changes))
    try:
        yield writer
    finally:
        writer.close()


def add(writer: JournalWriter, *items: Any) -> None:
    """Append in one commit; messages as `batch` makes them."""
    rows: list[Row] = []
    seq = writer.state.seq
    for item in items:
        row = event_row(seq, item) if not isinstance(item, tuple) else message_row(seq, *item[:2], **item[2])
        rows.append(row)
        seq = row.end
    writer.append(rows)
    writer.maintain()


def batch(endpoint: str, payloads: Sequence[bytes], number: int, **more: Any) -> Any:
    """Messages of one record, for `add`."""
    return endpoint, payloads, {"epoch": 1, "record": number, "number": number, "at": number * 1000, **more}


def started(run: str = RUN) -> Started:
    return Started("", 0, 1, run, "test", "0")


def up(endpoint: str, epoch: int = 1) -> Up:
    return Up(endpoint, epoch, 2, None, {"server": "x"})


def down(endpoint: str, epoch: int = 1) -> Down:
    return Down(endpoint, epoch, 3, Reason(kind="closed_by_peer", code=1006, text="é"))


def fill(path: Path, records: int, *, endpoints: Sequence[str] = ("a", "b"), size: int = 1000, **changes: Any) -> list[Segment]:
    """A journal with records of two messages for each endpoint, in turns; its segments."""
    with writing(path, **changes) as writer:
        add(writer, started(), *(up(name) for name in endpoints))
        for record in range(records):
            for name in endpoints:
                number = 2 * record + 1
                add(writer, batch(name, [b"%s%d" % (name.encode(), n) + b"." * size for n in (number, number + 1)], number))
    return segments(path)


def items(path: Path, **how: Any) -> list[Item]:
    """All that the journal yields."""
    return list(Journal(path).read(**how))


def numbers(found: Iterable[Item], endpoint: str) -> list[int]:
    """Of its messages."""
    return [item.number for item in found if isinstance(item, Message) and item.endpoint == endpoint]


def execute(segment: Segment, statement: str, *values: Any) -> list[Any]:
    """Something done to a segment from outside."""
    with closing(sqlite3.connect(segment.path, isolation_level=None)) as database:
        return database.execute(statement, values).fetchall()
