"""The file that is written: one SQLite database in WAL mode, one transaction per commit."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from time import time_ns
from typing import Final
from urllib.parse import quote

from wsadapter.config.settings import Sync
from wsadapter.journal import schema
from wsadapter.journal.folder import Segment, sync_folder
from wsadapter.journal.reading import check_format, state_at_end
from wsadapter.journal.rows import Row
from wsadapter.journal.state import Progress, State

_PATIENCE: Final = 5.0
"""Seconds to wait for a lock: only a reader that closes the file last holds one, for a moment."""
_FRESH: Final = ".new"
_EMPTY: Final = 8 * schema.PAGE
"""Bytes of a segment without rows, about."""
_PER_ROW: Final = 96
"""Bytes that a row takes besides its payload, about."""


def create(path: Path, identity: str, state: State) -> None:
    """A new segment behind `state`. It has its name only when it is complete: readers never see half a schema. Raises
    `sqlite3.Error`, `OSError`."""
    fresh = path.with_name(path.name + _FRESH)
    for left_over in (fresh, fresh.with_name(fresh.name + "-wal"), fresh.with_name(fresh.name + "-shm")):
        left_over.unlink(missing_ok=True)
    with closing(sqlite3.connect(fresh, isolation_level=None)) as database:
        database.executescript(schema.CREATE)
        database.execute("BEGIN")
        meta = {
            "journal": identity, "run": state.run, "latest_run": state.run, "bytes": state.bytes, "created": time_ns(),
            "checked": state.seq - 1, "checked_bytes": state.bytes,
            "before_checksum": schema.checksum(_progress_rows(state.endpoints)),
        }  # fmt: skip
        database.executemany(schema.PUT_META, meta.items())
        database.executemany(schema.PUT_BEFORE, _progress_rows(state.endpoints))
        _put_after(database, state.endpoints, state.seq - 1)
        database.execute("COMMIT")
    fresh.replace(path)
    sync_folder(path.parent)


class WritableSegment:
    """Not thread-safe: for the writer's thread."""

    def __init__(self, path: Path, sync: Sync) -> None:
        """Raises `sqlite3.Error`, `NewerJournal`, `JournalError`."""
        self.path = path
        self._database = sqlite3.connect(
            f"file:{quote(str(path.absolute()))}?mode=rw",
            uri=True,
            isolation_level=None,
            check_same_thread=False,
            timeout=_PATIENCE,
        )
        try:
            check_format(self._database, path)
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.execute(f"PRAGMA synchronous = {sync.upper()}")
            self._database.execute(schema.ADD_RECORDS_AFTER)
            self.place = path.stat()
            self.size = max(0, Segment(0, path).size - _EMPTY)
            """Bytes of its rows on disk, about."""
            self.has_rows = self._database.execute("SELECT 1 FROM records LIMIT 1").fetchone() is not None
        except BaseException:
            self._database.close()
            raise

    def read_state(self) -> State:
        """Behind its last row. Raises `sqlite3.Error`, `DamagedRow`."""
        return state_at_end(self._database)

    def commit(self, rows: Sequence[Row], run: str = "", checkpoint: State | None = None) -> None:
        """Add rows, all or none. `run`: the one that begins among them. `checkpoint`: the state behind them, to be stored.
        Raises `sqlite3.Error`."""
        execute = self._database.execute
        execute("BEGIN IMMEDIATE")
        try:
            at = 0
            for size in schema.CHUNKS:
                statement = schema.INSERTS[size]
                while len(rows) - at >= size:
                    execute(statement, [value for row in rows[at : at + size] for value in row])
                    at += size
            if run:
                execute(schema.PUT_META, ("latest_run", run))
            if checkpoint is not None:
                self._store(checkpoint.seq - 1, checkpoint.bytes, checkpoint.endpoints)
            execute("COMMIT")
            self.size += sum(len(row.payload) for row in rows) + _PER_ROW * len(rows)
            self.has_rows = self.has_rows or bool(rows)
        except BaseException:
            if self._database.in_transaction:
                execute("ROLLBACK")
            raise

    def _store(self, seq: int, size: int, endpoints: Mapping[str, Progress]) -> None:
        _put_after(self._database, endpoints, seq)
        self._database.executemany(schema.PUT_META, [("checked", seq), ("checked_bytes", size)])

    def close(self) -> None:
        """Everything is in the one file afterwards, unless somebody reads it at this moment. Raises `sqlite3.Error`."""
        try:
            self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        finally:
            self._database.close()

    def abandon(self) -> None:
        """Close it as it is: it can't be written any more."""
        self._database.close()


def _progress_rows(endpoints: Mapping[str, Progress]) -> list[tuple[object, ...]]:
    return [(name, each.number, each.epoch, each.at, int(each.up)) for name, each in endpoints.items()]


def _put_after(database: sqlite3.Connection, endpoints: Mapping[str, Progress], seq: int) -> None:
    """`seq`: what `meta.checked` is to be."""
    rows = _progress_rows(endpoints)
    records = [(name, each.record, each.events, int(each.messages)) for name, each in endpoints.items()]
    database.executemany(schema.PUT_AFTER, rows)
    database.executemany(schema.PUT_RECORD, records)
    database.execute(schema.PUT_META, ("after_checksum", f"{seq} {schema.checksum(rows, records)}"))
