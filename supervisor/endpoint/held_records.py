"""What a successor received and reported before its link adopted it. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from wsadapter.contract.ipc import record
from wsadapter.contract.ipc.record import Record
from wsadapter.endpoint.overlap import Shown


class HeldRecords:
    """The records of the new connection, in order, and the identities in them."""

    def __init__(self, limit: int) -> None:
        """`limit`: bytes above which no more records are to be held."""
        self._limit = limit
        self._records: list[Record] = []
        self._bytes = 0
        self._streams: list[str | None] = [None]
        """The names of the streams, by the index that the successor gave them."""
        self.messages = 0
        self.subscribed_at: int | None = None
        """Wall clock in ns since when the successor's subscriptions are confirmed, so that it has all that came since; None:
        they are not."""
        self._subscribed_from = 0
        """The place of the first record that came since."""

    @property
    def is_full(self) -> bool:
        """Whether more is held than may be."""
        return self._bytes > self._limit

    def add(self, received: Record) -> None:
        """Hold a record."""
        self._records.append(received)
        self._bytes += received.size
        if received.kind != record.REPORT:
            self.messages += received.count

    def name_stream(self, name: str) -> None:
        """The successor gave a stream its next index."""
        self._streams.append(name)

    def subscriptions_confirmed(self, at: int) -> None:
        """All that comes from here on came after the subscriptions were confirmed. `at`: wall-clock ns."""
        self.subscribed_at, self._subscribed_from = at, len(self._records)

    def shown(self) -> Iterator[Shown]:
        """The messages, but for snapshots."""
        for at, received in enumerate(self._records):
            subscribed = self.subscribed_at is not None and at >= self._subscribed_from
            for place, identity in enumerate(received.identities or ()):
                number = 0 if received.streams is None else received.streams[place]
                if identity != record.SNAPSHOT and number < len(self._streams):
                    yield Shown(self._streams[number], identity, received.received_at, subscribed)

    def take(self) -> list[Record]:
        """Return all records, and hold none."""
        records, self._records = self._records, []
        return records
