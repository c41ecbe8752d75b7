"""`Journal`: what a supervisor is to write, or what one has written, to be read without a supervisor."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any, Final, Self, cast

from wsadapter.config import check_journal
from wsadapter.config.schema import JOURNAL, Mismatch, convert
from wsadapter.config.settings import JournalSettings, Sync
from wsadapter.contract.errors import ConfigError, Problem, WrongType
from wsadapter.contract.items import AnyEvent, Batch, Item
from wsadapter.contract.public import Public
from wsadapter.journal import folder as folders
from wsadapter.journal import places
from wsadapter.journal.places import Start
from wsadapter.journal.reader import Entry, Reader, without_filtered

GROUP_MARK: Final = "#"
"""Between the name of a group and the number of its shard."""


class Journal(Public):
    """A journal on disk. `Supervisor(journal=Journal(path, retain="7d"))` writes it, iterating it reads it:

        for item in Journal("/var/lib/prices"):      # Message, Gap, Up ...: what the supervisor's own iterator gave
            ...

    Iterating ends at the end of what is there; a journal that is being written can be read at the same time. Each iteration is
    one of its own. To follow a running supervisor: `attach`.
    """

    PUBLIC = frozenset({"batches", "of_settings", "path", "read", "settings"})

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        retain: float | str = 86400.0,
        retain_bytes: int | str = 10 * 1024**3,
        segment_bytes: int | str = 256 * 1024**2,
        commit: float | str = 0.02,
        sync: Sync = "normal",
    ) -> None:
        """What the settings mean: `[journal]` in the reference. They are for writing. Raises `ConfigError`, `WrongType`."""
        if not isinstance(path, str | os.PathLike):
            raise WrongType(f"Journal: expected a path, got {path!r}")
        given: dict[str, Any] = {
            "path": os.fspath(path), "retain": retain, "retain_bytes": retain_bytes, "segment_bytes": segment_bytes,
            "commit": commit, "sync": sync,
        }  # fmt: skip
        problems: list[Problem] = []
        for key, value in given.items():
            try:
                given[key] = convert(JOURNAL[key], value)
            except Mismatch as mismatch:
                problems += [Problem(f"journal.{key}{place}", message) for place, message in mismatch.found]
        if not problems:
            self.settings = JournalSettings(**given)
            problems = check_journal(self.settings)
        if problems:
            raise ConfigError(problems)
        self.path = Path(self.settings.path)
        """Its folder."""

    @classmethod
    def of_settings(cls, settings: JournalSettings) -> Self:
        """From checked settings."""
        journal = cls(settings.path)
        journal.settings = replace(settings)
        return journal

    def __repr__(self) -> str:
        return f"<Journal {str(self.path)!r}>"

    def __iter__(self) -> Iterator[Item]:
        """Every message and event, in order, from the oldest. Raises `NotAJournal`, `NewerJournal`, `JournalError`."""
        return self.read()

    def batches(self) -> Iterator[Batch | AnyEvent]:
        """The fast path: the messages of each read as one `Batch`, and the events between them."""
        return (entry.item for entry in self.entries())

    def read(
        self,
        start: Start = "earliest",
        end: Start | None = None,
        *,
        endpoints: Collection[str] = (),
        streams: Collection[str] = (),
    ) -> Iterator[Item]:
        """The items from `start` up to `end`, of these endpoints and streams (all by default). `end`: None is the
        end of what is there while it is read; else as `start`, and excluded. Raises as `__iter__`, and `PositionBeyondEnd`."""
        entries = self.entries(start, end, endpoints=endpoints, streams=streams)
        return cast("Iterator[Item]", chain.from_iterable(map(_items, entries)))

    def entries(
        self,
        start: Start = "earliest",
        end: Start | None = None,
        *,
        endpoints: Collection[str] = (),
        streams: Collection[str] = (),
    ) -> Iterator[Entry]:
        """For the package itself: as `read`, with the places of the items in the stream."""
        folders.identify(self.path)
        place = places.find(self.path, start)
        last = None if end is None else places.find(self.path, end).seq
        return self._entries(place, last, choice(endpoints, streams), start)

    def _entries(self, place: Any, last: int | None, chosen: Choice | None, start: Start) -> Iterator[Entry]:
        reader = Reader(self.path, place)
        known = dict(start) if isinstance(start, dict) else {}
        try:
            while entries := reader.read():
                for entry in entries:
                    if last is not None and entry.end > last:
                        if entry.begin >= last or not isinstance(entry.item, Batch):
                            return
                        yield from _chosen(_cut(entry, last), chosen, known)
                        return
                    yield from _chosen(entry, chosen, known)
        finally:
            reader.close()


class Choice:
    """Which endpoints and streams are wanted. The name of a group includes all its shards."""

    def __init__(self, endpoints: Collection[str], streams: Collection[str]) -> None:
        self._endpoints = frozenset(endpoints)
        self.streams = frozenset(streams) if streams else None

    def wants(self, endpoint: str) -> bool:
        return not self._endpoints or endpoint in self._endpoints or endpoint.partition(GROUP_MARK)[0] in self._endpoints


def choice(endpoints: Collection[str], streams: Collection[str]) -> Choice | None:
    """None: everything. Raises `WrongType`."""
    for name, given in (("endpoints", endpoints), ("streams", streams)):
        if isinstance(given, str) or not all(isinstance(each, str) for each in given):
            raise WrongType(f"{name}: expected a list of names, got {given!r}")
    return Choice(endpoints, streams) if endpoints or streams else None


def _chosen(entry: Entry, chosen: Choice | None, known: dict[str, int]) -> list[Entry]:
    if known and (rest := behind(entry, known)) is None:
        return []
    if known:
        entry = cast("Entry", rest)
    return [entry] if chosen is None else without_filtered(entry, chosen.wants, chosen.streams)


def behind(entry: Entry, known: dict[str, int]) -> Entry | None:
    """What of an entry is behind the numbers of the messages that were processed before; None: nothing."""
    batch = entry.item
    if not isinstance(batch, Batch) or batch.endpoint not in known:
        return entry
    over = known[batch.endpoint] - batch.first_number + 1
    if over <= 0:
        return entry
    return None if over >= len(batch) else entry._replace(item=batch.part(over), begin=entry.begin + over)


def _cut(entry: Entry, last: int) -> Entry:
    batch = cast("Batch", entry.item)
    kept = last - entry.begin
    binary = batch.binary if isinstance(batch.binary, bool) else batch.binary[:kept]
    cut = Batch(
        batch.endpoint, batch[:kept], epoch=batch.epoch, first_number=batch.first_number, received_at=batch.received_at,
        binary=binary, streams=batch.streams and batch.streams[:kept],
    )  # fmt: skip
    return entry._replace(item=cut, end=last)


def _items(entry: Entry) -> Iterator[Item]:
    item = entry.item
    if not isinstance(item, Batch):
        return iter((item,))
    return iter(item.messages()) if len(item) == 1 else item.around(iter(item))


def as_journal(journal: Journal | str | os.PathLike[str]) -> Journal:
    """A journal; from a path: one with the default settings. Raises `WrongType`, `ConfigError`."""
    return journal if isinstance(journal, Journal) else Journal(journal)
