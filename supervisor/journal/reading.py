"""Reads one segment, without writing to it. What can't be read raises `sqlite3.Error` or `DamagedRow`; the reader of the whole
journal decides what that means."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import wraps
from pathlib import Path
from typing import Any, Final, ParamSpec, TypeVar
from urllib.parse import quote

from wsadapter.contract.errors import JournalError, NewerJournal
from wsadapter.journal import schema
from wsadapter.journal.rows import DamagedRow, checked
from wsadapter.journal.state import NOTHING, Progress, State

DAMAGE: Final = (sqlite3.DatabaseError, DamagedRow)
_PATIENCE: Final = 5.0
_FURTHEST: Final = 1 << 62
P = ParamSpec("P")
T = TypeVar("T")


class UnreadableSegment(JournalError):
    """A segment that is damaged where it had to be read."""

    def __init__(self, path: Path, error: Exception) -> None:
        super().__init__(f"{path}: this segment is damaged: {error}")


def _checks_values(read: Callable[P, T]) -> Callable[P, T]:
    """A damaged byte may also change the type of a value, or which rows there are, or the text of SQLite's error, which then
    raises `UnicodeDecodeError`: that is `DamagedRow` too."""

    @wraps(read)
    def checking(*args: P.args, **named: P.kwargs) -> T:
        try:
            return read(*args, **named)
        except DamagedRow:
            raise
        except (LookupError, TypeError, ValueError) as error:
            raise DamagedRow(f"its tables have a value that no version writes ({error!r})") from error

    return checking


@contextmanager
def opened(path: Path, *, is_last: bool) -> Iterator[sqlite3.Connection]:
    """As `open_segment`, for a part of it that is needed. Raises `FileNotFoundError`, `NewerJournal`, `UnreadableSegment`."""
    try:
        with closing(open_segment(path, is_last=is_last)) as database:
            yield database
    except DAMAGE as error:
        raise UnreadableSegment(path, error) from error


def open_segment(path: Path, *, is_last: bool) -> sqlite3.Connection:
    """For reading. `is_last`: it may be written meanwhile. Raises `FileNotFoundError`, `sqlite3.Error`, `NewerJournal`."""
    wal = path.with_name(path.name + "-wal")
    path.stat()  # SQLite's own error does not name a missing file as the cause
    modes = ["mode=ro"] if is_last or wal.exists() else []
    has_wal = wal.exists() and wal.stat().st_size > 0
    if not has_wal:
        modes.append("mode=ro&immutable=1")  # nobody writes it, and in a folder that can't be written there is no other way
    for mode in modes:
        database = sqlite3.connect(
            f"file:{quote(str(path.absolute()))}?{mode}",
            uri=True,
            isolation_level=None,
            check_same_thread=False,
            timeout=_PATIENCE,
        )
        try:
            check_format(database, path)
        except sqlite3.OperationalError as error:
            database.close()
            if mode == modes[-1] and has_wal:
                text = f"to read {wal.name}, SQLite must write beside it: copy the journal to a folder where it may"
                raise sqlite3.OperationalError(f"{error}; {text}") from error
            if mode == modes[-1]:
                raise
        except BaseException:
            database.close()
            raise
        else:
            return database
    raise AssertionError("one of the modes was tried")


@_checks_values
def check_format(database: sqlite3.Connection, path: Path) -> None:
    """Raises `NewerJournal`, and `sqlite3.Error` for what is no segment, or not any more."""
    (application,) = database.execute("PRAGMA application_id").fetchone()
    (version,) = database.execute("PRAGMA user_version").fetchone()
    if application != schema.APPLICATION:
        raise sqlite3.DatabaseError(f"{path}: this is no segment of a journal")
    if version > schema.FORMAT:
        raise NewerJournal(str(path), version, schema.FORMAT)


@_checks_values
def read_rows(database: sqlite3.Connection, seq: int, limit: int) -> list[tuple[Any, ...]]:
    """The rows from the place `seq` on, at most `limit`, as they are: see `rows.checked`. Raises `sqlite3.Error`."""
    return database.execute(schema.SELECT, (seq, limit)).fetchall()


@_checks_values
def row_with(database: sqlite3.Connection, seq: int) -> int:
    """`seq` of the row that has the item at that place; `seq` itself if no row before it can have it. Raises
    `sqlite3.Error`."""
    (found,) = database.execute(schema.CONTAINING, (seq,)).fetchone()
    if found is None or found == seq:
        return seq
    (row,) = read_rows(database, found, 1)
    return int(found) if row[5] > seq - found else seq


@_checks_values
def lost_end(database: sqlite3.Connection, seq: int) -> State | None:
    """The state at the end, if the segment once had rows from the place `seq` on and has none now. Raises `sqlite3.Error`,
    `DamagedRow`."""
    if _checked_place(database) < seq:
        return None
    database.execute("BEGIN")  # rows may have been added since they were read
    try:
        is_lost = _checked_place(database) >= seq and not read_rows(database, seq, 1)
        return _state_at_end(database) if is_lost else None
    finally:
        if database.in_transaction:
            database.execute("ROLLBACK")


def _checked_place(database: sqlite3.Connection) -> int:
    """Of the last item up to which the tables of endpoints are."""
    found = database.execute("SELECT value FROM meta WHERE key = 'checked'").fetchone()
    return found[0] if found is not None and type(found[0]) is int else 0


def next_readable(database: sqlite3.Connection, seq: int) -> int | None:
    """The place of the first row behind `seq` that can be read; None if there is none. `seq` is the place of one that can't.

    A damaged page hides the rows on it, so the search goes on in steps that double, and then back by halves.
    """
    step, found = 1, None
    while step < _FURTHEST:
        try:
            found = _probe(database, seq + step)
            break
        except DAMAGE:
            step *= 2
    if found is None:
        return None
    bad, good = seq + step // 2, seq + step
    while good - bad > 1:
        middle = (good + bad) // 2
        try:
            found, good = _probe(database, middle) or found, middle
        except DAMAGE:
            bad = middle
    return found


def _probe(database: sqlite3.Connection, seq: int) -> int | None:
    for values in read_rows(database, seq, 1):
        row = checked(values)
        if row.seq < seq:
            raise DamagedRow(f"row {row.seq} is not at its place")
        return row.seq
    return None


@_checks_values
def meta_of(database: sqlite3.Connection) -> dict[str, Any]:
    """The table `meta`. Raises `sqlite3.Error`."""
    return dict(database.execute("SELECT key, value FROM meta").fetchall())


@_checks_values
def state_before(database: sqlite3.Connection, first: int) -> State:
    """In front of the first row of the segment, which begins at `first`. Raises `sqlite3.Error`."""
    meta = meta_of(database)
    rows = database.execute(schema.BEFORE).fetchall()
    _compare(meta.get("before_checksum"), rows)
    return State(str(meta["run"]), first, int(meta["bytes"]), _endpoints(rows))


@_checks_values
def state_at(database: sqlite3.Connection, first: int, seq: int) -> State:
    """In front of the item at `seq`, in the segment that begins at `first`. Raises `sqlite3.Error`."""
    state = state_before(database, first)
    begin = row_with(database, seq)
    query = "SELECT endpoint, max(number + count - 1), max(epoch), max(at) FROM records WHERE seq < ? AND count > 0 GROUP BY 1"
    for name, number, epoch, at in database.execute(query, (begin,)):
        state.endpoints[name] = Progress(number, epoch, at, up=False)
    (size,) = database.execute("SELECT total(length(payload)) FROM records WHERE seq < ?", (begin,)).fetchone()
    state.bytes += int(size)
    if begin < seq:
        ((_, name, epoch, _, number, _, at, *_),) = read_rows(database, begin, 1)
        before = state.endpoints.get(name, NOTHING)
        state.endpoints[name] = before._replace(number=number + seq - begin - 1, epoch=epoch, at=at)
    state.seq = seq
    state.run = _run_at(database, state.run, seq)
    return state


def _run_at(database: sqlite3.Connection, run: str, seq: int) -> str:
    query = "SELECT json_extract(CAST(payload AS TEXT), '$.run') FROM records WHERE count = 0 AND endpoint = '' AND seq < ?"
    for (found,) in database.execute(f"{query} ORDER BY seq", (seq,)):
        run = found or run
    return run


@_checks_values
def state_at_end(database: sqlite3.Connection) -> State:
    """Behind its last row. Raises `sqlite3.Error`, `DamagedRow`."""
    database.execute("BEGIN")  # the tables and the checksum as of one commit: the segment may be written meanwhile
    try:
        return _state_at_end(database)
    finally:
        if database.in_transaction:
            database.execute("ROLLBACK")


def _state_at_end(database: sqlite3.Connection) -> State:
    meta = meta_of(database)
    rows = database.execute(schema.AFTER).fetchall()
    state = State(str(meta["latest_run"]), int(meta["checked"]) + 1, int(meta["checked_bytes"]), _endpoints(rows))
    if database.execute(schema.HAS_RECORDS).fetchone():  # an earlier version has not written them
        records = database.execute(schema.RECORDS).fetchall()
        checked_at, _, checksum = str(meta.get("after_checksum", "")).partition(" ")
        if checked_at == str(meta["checked"]):  # else an earlier version has written this segment since
            _compare(int(checksum), rows, records)
        for name, record, events, messages in records:
            if (found := state.endpoints.get(name)) is not None:
                state.endpoints[name] = found._replace(record=record, events=events, messages=bool(messages))
    for values in database.execute(schema.SELECT, (state.seq, -1)):
        state.advance(checked(values))
    return state


def _compare(checksum: int | None, *rows: list[tuple[Any, ...]]) -> None:
    """None: an earlier version has written none."""
    if checksum is not None and checksum != schema.checksum(*rows):
        raise DamagedRow("the checksum of its tables of endpoints is wrong")


def _endpoints(rows: list[tuple[Any, ...]]) -> dict[str, Progress]:
    found = {}
    for name, number, epoch, at, up in rows:
        if type(name) is not str or type(number) is not int or type(epoch) is not int or type(at) not in (int, type(None)):
            raise DamagedRow("its table of endpoints has a value that no version writes")
        found[name] = Progress(number, epoch, at, bool(up))
    return found


def newest_at(path: Path) -> int:
    """Wall-clock ns of the last item of a complete segment; of one that can't be read, when the file was written last."""
    try:
        database = open_segment(path, is_last=False)
        try:
            found = database.execute(schema.NEWEST).fetchone()
        finally:
            database.close()
    except (sqlite3.Error, DamagedRow, NewerJournal):
        found = None
    return found[2] if found is not None and type(found[2]) is int else path.stat().st_mtime_ns
