"""Sinks in the process of the test, and the records that they have written."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

from tests.support.feeds import DEADLINE
from tests.support.journals import add, batch, started, up, writing
from tests.support.waiting import wait_until
from wsadapter import Batch, Message
from wsadapter.config.settings import SinkSettings
from wsadapter.journal.journal import Journal
from wsadapter.sinks.base import Position, Sink, SinkBatch
from wsadapter.sinks.carry import Carrier, Ending
from wsadapter.sinks.store import SinkStore
from wsadapter.sinks.supervision import JournalEnd, SinkProcess
from wsadapter.sinks.task import Report

END = JournalEnd(0, 0, 0)


class Memory:
    """A sink that keeps all records in memory, and can be made to fail."""

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
    """One life of a sink, from its position to the end of the journal; returns its reports."""
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


@contextmanager
def growing(journal: Path) -> Iterator[list[int]]:
    """A journal that grows; how many messages each of its endpoints a and b has, when it has ended."""
    over, written = threading.Event(), [0]

    def write() -> None:
        with writing(journal, segment_bytes=1 << 20) as writer:
            add(writer, started(), up("a"), up("b"))
            while not over.wait(0.002):
                number = written[0] + 1
                payloads = [b'{"n":%d,"x":"%s"}' % (n, b"." * 300) for n in range(number, number + 10)]
                add(writer, *(batch(name, payloads, number) for name in "ab"))
                written[0] += 10

    load = threading.Thread(target=write)
    load.start()
    try:
        wait_until(lambda: written[0], DEADLINE)
        yield written
    finally:
        over.set()
        load.join()


def killed(process: SinkProcess, times: int, stored: Callable[[], object]) -> None:
    """SIGKILL at moments that differ, each after the process has carried something."""
    dice = Random(86)
    for _ in range(times):
        before = stored()
        wait_until(lambda: stored() != before, DEADLINE, lambda: str(process.status(END)))  # noqa: B023
        threading.Event().wait(dice.random() * 0.2)
        pid = process.status(END)["pid"]
        if pid is not None:
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: process.status(END)["pid"] != pid, DEADLINE)  # noqa: B023
