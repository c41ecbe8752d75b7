"""A tap: a look at what goes into an inbox, bounded by the one who looks.

While there is a tap, it stands in front of the inbox of one endpoint; an endpoint without one pays nothing. It keeps the first
items since it was read last, up to a limit, and counts the others.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from wsadapter.contract.items import Event, Message
from wsadapter.delivery.queued import Backlog, QueuedBatch


class Intake(Protocol):
    """Where an endpoint puts its items."""

    def put_event(self, event: Event, backlog: Backlog | None = None) -> None: ...
    def put(self, queued: QueuedBatch) -> None: ...
    def put_single(self, message: Message, backlog: Backlog) -> bool: ...
    def await_room(self, backlog: Backlog, on_room: Callable[[], None]) -> bool: ...
    def discard(self, backlog: Backlog, cause: str) -> None: ...


class Tap:
    """In front of an inbox, and as it for whoever puts items in. Under the reactor's lock."""

    def __init__(self, inbox: Intake, limit: int) -> None:
        self.inbox = inbox
        self._limit = limit
        self._items: list[Message | Event] = []
        self._skipped = 0

    def read(self, limit: int) -> tuple[list[Message | Event], int]:
        """The items since the last call, and the number of further items. From now on `limit` items are kept."""
        items, skipped = self._items, self._skipped
        self._items, self._skipped, self._limit = [], 0, limit
        return items, skipped

    def put_event(self, event: Event, backlog: Backlog | None = None) -> None:
        """See it, and pass it on."""
        self._keep(event)
        self.inbox.put_event(event, backlog)

    def put(self, queued: QueuedBatch) -> None:
        """See some of its messages, and pass all on."""
        room = min(queued.count, self._limit - len(self._items))
        for position in range(room):
            self._items.append(_message(queued, position))
        self._skipped += queued.count - room
        self.inbox.put(queued)

    def put_single(self, message: Message, backlog: Backlog) -> bool:
        """See it, and pass it on."""
        self._keep(message)
        return self.inbox.put_single(message, backlog)

    def await_room(self, backlog: Backlog, on_room: Callable[[], None]) -> bool:
        """The inbox's."""
        return self.inbox.await_room(backlog, on_room)

    def discard(self, backlog: Backlog, cause: str) -> None:
        """The inbox's."""
        self.inbox.discard(backlog, cause)

    def _keep(self, item: Message | Event) -> None:
        if len(self._items) < self._limit:
            self._items.append(item)
        else:
            self._skipped += 1


def _message(queued: QueuedBatch, position: int) -> Message:
    """One message of a record that has just come, so no message of it was dropped yet."""
    binary, streams = queued.binary, queued.streams
    return Message(
        queued.backlog.name, bytes(queued.payloads[position]), queued.epoch, queued.first + position, queued.received_at,
        None if streams is None else streams[position], binary if isinstance(binary, bool) else binary[position],
    )  # fmt: skip
