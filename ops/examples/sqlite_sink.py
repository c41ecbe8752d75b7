"""A sink of your own: one SQLite database, with the position in the same transaction as the rows.

[[sink]]
name = "table"
kind = "sqlite_sink:SqliteSink"       # this file lies beside the configuration, or on sys.path
options = { database = "/var/lib/prices/table.db" }
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping

from wsadapter import Batch, Position, SinkBatch


class SqliteSink:
    """Exactly once, because data and position are committed together."""

    def __init__(self, name: str, options: Mapping[str, str]) -> None:
        self.database = sqlite3.connect(options["database"], isolation_level=None, check_same_thread=False)
        self.database.execute("CREATE TABLE IF NOT EXISTS rows (endpoint TEXT, number INTEGER, data BLOB)")
        self.database.execute("CREATE TABLE IF NOT EXISTS positions (sink TEXT PRIMARY KEY, position TEXT)")
        self.name = name
        self._position: Position | None = None

    def open(self, position: Position) -> Position:
        found = self.database.execute("SELECT position FROM positions WHERE sink = ?", (self.name,)).fetchone()
        self._position = position if found is None else Position.from_json(json.loads(found[0]))
        return self._position

    def write(self, batch: SinkBatch) -> None:
        self.database.execute("BEGIN")
        for record in batch.records:
            if isinstance(record.item, Batch):
                rows = [(message.endpoint, message.number, message.data) for message in record.item.messages()]
                self.database.executemany("INSERT INTO rows VALUES (?, ?, ?)", rows)
        stored = json.dumps(batch.after.to_json())
        self.database.execute("INSERT OR REPLACE INTO positions VALUES (?, ?)", (self.name, stored))
        self.database.execute("COMMIT")
        self._position = batch.after

    def flush(self) -> None:
        pass

    @property
    def position(self) -> Position:
        assert self._position is not None
        return self._position

    def close(self) -> None:
        self.database.close()
