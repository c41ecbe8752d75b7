"""Sinks in the process of the test, and what they have written."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from wsadapter import Batch, Message
from wsadapter.config.settings import SinkSettings
from wsadapter.journal.journal import Journal
from wsadapter.sinks.base import Position, Sink, SinkBatch
from wsadapter.sinks.carry import Carrier, Ending
from wsadapter.sinks.store import SinkStore
from wsadapter.sinks.task import Report


class Memory:
    """A sink that keeps everything in memory, and can be told to fail."""

    def __init__(self) -> None:
        self.batches: list[SinkBatch] = []
        self.at: Position | None = None
        self.fails_after: int | None = None
        self.closed = 0

    def open(self, position: Position) -> Position:
        self.at = self.at or position
        return self.at

    def write(self, batch: SinkBatch) -> None:
        if self.fails_after is not None and len(self.batches) >= self.fails_after:
            self.fails_after = None
            raise RuntimeError("told to fail")
        self.batches.append(batch)
        self.at = batch.after

    def flush(self) -> None:
        pass

    @property
    def position(self) -> Position:
        assert self.at is not None
        return self.at

    def close(self) -> None:
        self.closed += 1

    @property
    def items(self) -> list[Any]:
        return [record.item for batch in self.batches for record in batch.records]


def carry(journal: Path, sink: Sink, name: str = "test", **settings: Any) -> list[Report]:
    """One life of a sink: from its position to the end of the journal; what it reported."""
    reports: list[Report] = []
    ending = Ending()
    ending.set()
    store = SinkStore(journal, name)
    try:
        Carrier(journal, SinkSettings(name=name, **settings), sink, store, reports.append).run(ending)
    finally:
        sink.close()
        store.close()
        ending.close()
    return reports


def messages_of(journal: Path) -> list[tuple[str, int, bytes]]:
    """Every message of a journal."""
    return [(item.endpoint, item.number, item.data) for item in Journal(journal).read() if isinstance(item, Message)]


def numbers(items: Iterable[Any], endpoint: str) -> list[int]:
    """Of the messages of batches."""
    found = [item for item in items if isinstance(item, Batch) and item.endpoint == endpoint]
    return [number for batch in found for number in range(batch.first_number, batch.first_number + len(batch))]


def lines(files: Sequence[Path]) -> list[dict[str, Any]]:
    """Of JSON lines files; each ends with a whole line."""
    found: list[dict[str, Any]] = []
    for file in files:
        content = file.read_bytes()
        assert content.endswith(b"\n"), file
        found += map(json.loads, content.splitlines())
    return found


def line_numbers(found: Iterable[dict[str, Any]], endpoint: str) -> list[int]:
    return [line["number"] for line in found if line.get("endpoint") == endpoint and "number" in line]
