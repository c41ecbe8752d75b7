"""Exactly once: the results and the place in the stream are one transaction of the program's own database.

    python exactly_once.py prices results.db    # the name of the supervisor, or the path of its journal

A kill between the database's commit and the next message leaves both or neither. What comes again after a kill is left out by
its number. A number names one message of an endpoint for ever, because the next supervisor of a journal continues the numbers.
"""

from __future__ import annotations

import sqlite3
import sys

from wsadapter import Message, attach

SCHEMA = """
CREATE TABLE IF NOT EXISTS sums (endpoint TEXT PRIMARY KEY, total REAL NOT NULL, number INTEGER NOT NULL);
"""


def main(journal: str, path: str) -> None:
    """Until it is killed."""
    database = sqlite3.connect(path)
    database.executescript(SCHEMA)
    done = dict(database.execute("SELECT endpoint, number FROM sums"))
    with attach(journal, "exactly-once", start="earliest") as feed:
        for item in feed:
            if not isinstance(item, Message) or item.number <= done.get(item.endpoint, 0):
                continue
            with database:  # one transaction: the result and the place
                database.execute(
                    "INSERT INTO sums VALUES (?, ?, ?) ON CONFLICT (endpoint) DO UPDATE SET "
                    "total = total + excluded.total, number = excluded.number",
                    (item.endpoint, float(item.json()["p"]), item.number),
                )
            done[item.endpoint] = item.number


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(f"usage: {sys.argv[0]} NAME|JOURNAL DATABASE")
    main(*sys.argv[1:])
