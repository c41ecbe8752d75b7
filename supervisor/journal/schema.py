"""The schema of a segment, format 1: a SQLite database that `sqlite3`, DuckDB and pandas read without wsadapter.

`records` has one row for each record of an owner (the messages of one read), and one for each event. `seq` is the place of the
row's first item in the whole stream: each message and each event takes one place, so the row behind it has
`seq + max(count, 1)`. `messages` and `events` are views with one row per item.

`endpoints_before` says how far each endpoint had come before the segment's first record: that is how a reader counts what is
missing in front of the segment. `endpoints_after` says the same as of `meta.checked`, so that a new supervisor reads only the
records behind that place to know the last one of each endpoint. `records_after` has, of the same place, the last record of each
endpoint's owner that a row is of, how many events are rows of it, and whether its messages are: a supervisor that follows a
killed one (takeover/keeping.py) goes on behind it. `meta.before_checksum` and `meta.after_checksum` are those of these tables
(`checksum`), the second one behind the `checked` for which it holds. An earlier version writes none.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final
from zlib import crc32

FORMAT: Final = 1
"""Of the folder and of each segment. A reader refuses a higher one."""
APPLICATION: Final = 0x77734A31
"""`PRAGMA application_id` of a segment: "wsJ1"."""
PAGE: Final = 16384

_RECORDS_AFTER: Final = """CREATE TABLE IF NOT EXISTS records_after (
    name TEXT PRIMARY KEY, record INTEGER, events INTEGER NOT NULL, messages INTEGER NOT NULL
) WITHOUT ROWID"""
ADD_RECORDS_AFTER: Final = _RECORDS_AFTER
"""For a segment that an earlier version has begun."""

CREATE: Final = f"""
PRAGMA page_size = {PAGE};
PRAGMA journal_mode = WAL;
PRAGMA application_id = {APPLICATION};
PRAGMA user_version = {FORMAT};
BEGIN;
CREATE TABLE meta (
    key TEXT PRIMARY KEY,  -- journal: its id. run: of the first record. latest_run. bytes: payload bytes before this segment.
    value                  -- created: wall-clock ns. checked: see endpoints_after. before_checksum, after_checksum: above.
) WITHOUT ROWID;
CREATE TABLE records (
    seq INTEGER PRIMARY KEY,   -- place of the first item in the stream
    endpoint TEXT NOT NULL,    -- '': an event that concerns the whole supervisor
    epoch INTEGER NOT NULL,
    record INTEGER,            -- number of the record in the pipe of its owner
    number INTEGER,            -- of the first message; NULL: the row is an event
    count INTEGER NOT NULL,    -- of messages; 0: the row is an event
    at INTEGER NOT NULL,       -- wall-clock ns: when it was received, or happened
    layout TEXT,               -- JSON: [start, size] of each message in the payload; NULL: the payload is one message
    streams TEXT,              -- JSON: the stream of each message, or one string for all; NULL: not known
    binary,                    -- 0, 1, or JSON: of each message, whether it came as a binary message
    payload BLOB NOT NULL,     -- the messages, or the event as JSON
    crc INTEGER NOT NULL       -- CRC32 of all of this
);
CREATE TABLE endpoints_before (
    name TEXT PRIMARY KEY, number INTEGER NOT NULL, epoch INTEGER NOT NULL, at INTEGER, up INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE endpoints_after (
    name TEXT PRIMARY KEY, number INTEGER NOT NULL, epoch INTEGER NOT NULL, at INTEGER, up INTEGER NOT NULL
) WITHOUT ROWID;
{_RECORDS_AFTER};
CREATE VIEW messages AS
    SELECT seq, endpoint, epoch, number, at AS received_at, json_extract(streams, '$') AS stream,
           binary = 1 AS binary, CASE WHEN binary = 1 THEN payload ELSE CAST(payload AS TEXT) END AS data
    FROM records WHERE count = 1
    UNION ALL
    SELECT r.seq + m.key, endpoint, epoch, number + m.key, r.at,
           CASE json_type(streams) WHEN 'array' THEN json_extract(streams, '$[' || m.key || ']')
                                   ELSE json_extract(streams, '$') END,
           CASE WHEN typeof(binary) = 'text' THEN json_extract(binary, '$[' || m.key || ']') ELSE binary END,
           CASE WHEN CASE WHEN typeof(binary) = 'text' THEN json_extract(binary, '$[' || m.key || ']') ELSE binary END
                THEN substr(payload, json_extract(m.value, '$[0]') + 1, json_extract(m.value, '$[1]'))
                ELSE CAST(substr(payload, json_extract(m.value, '$[0]') + 1, json_extract(m.value, '$[1]')) AS TEXT) END
    FROM records AS r, json_each(r.layout) AS m WHERE count > 1;
CREATE VIEW events AS
    SELECT seq, endpoint, epoch, at, json_extract(CAST(payload AS TEXT), '$.event') AS event, CAST(payload AS TEXT) AS json
    FROM records WHERE count = 0;
COMMIT;
"""  # noqa: S608 - constants

COLUMNS: Final = "seq, endpoint, epoch, record, number, count, at, layout, streams, binary, payload, crc"
_PLACES: Final = f"({', '.join('?' * len(COLUMNS.split(',')))})"
CHUNKS: Final = (256, 32, 4, 1)
"""Rows of one INSERT. SQLite releases the GIL for each statement and acquires it again afterwards, which takes up to
5 ms beside a busy thread. So one statement inserts many rows."""


def checksum(*rows: Iterable[tuple[Any, ...]]) -> int:
    """Of the rows of tables, whatever their order."""
    return crc32(repr([sorted(each) for each in rows]).encode("utf-8", "surrogatepass"))


def insert(rows: int) -> str:
    """The statement that inserts that many rows."""
    return f"INSERT INTO records ({COLUMNS}) VALUES {', '.join([_PLACES] * rows)}"  # noqa: S608 - constants


INSERTS: Final = {rows: insert(rows) for rows in CHUNKS}
SELECT: Final = f"SELECT {COLUMNS} FROM records WHERE seq >= ? ORDER BY seq LIMIT ?"  # noqa: S608 - constants
CONTAINING: Final = "SELECT max(seq) FROM records WHERE seq <= ?"
"""The row with an item at that place."""
NEWEST: Final = "SELECT seq, count, at FROM records ORDER BY seq DESC LIMIT 1"
PUT_META: Final = "INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)"
PUT_BEFORE: Final = "INSERT OR REPLACE INTO endpoints_before (name, number, epoch, at, up) VALUES (?, ?, ?, ?, ?)"
PUT_AFTER: Final = "INSERT OR REPLACE INTO endpoints_after (name, number, epoch, at, up) VALUES (?, ?, ?, ?, ?)"
PUT_RECORD: Final = "INSERT OR REPLACE INTO records_after (name, record, events, messages) VALUES (?, ?, ?, ?)"
HAS_RECORDS: Final = "SELECT 1 FROM sqlite_master WHERE name = 'records_after'"
RECORDS: Final = "SELECT name, record, events, messages FROM records_after"
BEFORE: Final = "SELECT name, number, epoch, at, up FROM endpoints_before"
AFTER: Final = "SELECT name, number, epoch, at, up FROM endpoints_after"
