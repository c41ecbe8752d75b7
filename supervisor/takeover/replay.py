"""What is read again of a dead supervisor's owner: which of its items the journal has. Pure."""

from __future__ import annotations

from collections.abc import Callable

from wsadapter.contract.items import Event, Message
from wsadapter.delivery.queued import Backlog, QueuedBatch
from wsadapter.delivery.tap import Intake
from wsadapter.endpoint.numbered_stream import NumberedStream
from wsadapter.journal.state import Progress


class NewItems:
    """In the place of a stream's inbox, while records are read again: it passes on what the journal does not have.

    Records before `progress.record` are in the journal with all their items. Of that record itself as many events are there as
    `progress.events` says, then its messages if `progress.messages`: they were put into the journal's queue in this order.
    """

    def __init__(self, stream: NumberedStream, progress: Progress) -> None:
        self._stream = stream
        self._inbox: Intake = stream.inbox
        self._progress = progress
        self._last = -1 if progress.record is None else progress.record
        self._events = progress.events
        self._record = 0
        self._is_behind = False

    def begin(self, record: int) -> None:
        """The items of this record follow."""
        self._record = record
        if record > self._last:
            self.end()

    def end(self) -> None:
        """From here on everything is new. The numbers go on behind the last one in the journal, where `insert` may have put
        messages of the user's own, which are in no record."""
        if not self._is_behind:
            self._is_behind = True
            numbers = self._stream.numbers
            numbers.last_number = max(numbers.last_number, self._progress.number)

    def put_event(self, event: Event, backlog: Backlog | None = None) -> None:
        if self._is_behind:
            self._inbox.put_event(event, backlog)
        elif self._record == self._last:
            self._events -= 1
            if self._events < 0:
                self._inbox.put_event(event, backlog)

    def put(self, queued: QueuedBatch) -> None:
        if self._is_behind or (self._record == self._last and not self._progress.messages):
            self._inbox.put(queued)

    def put_single(self, message: Message, backlog: Backlog) -> bool:
        return self._inbox.put_single(message, backlog)

    def await_room(self, backlog: Backlog, on_room: Callable[[], None]) -> bool:
        return self._inbox.await_room(backlog, on_room)

    def discard(self, backlog: Backlog, cause: str) -> None:
        self._inbox.discard(backlog, cause)
