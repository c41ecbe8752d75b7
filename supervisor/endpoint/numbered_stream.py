"""The one numbered stream of an endpoint, by whichever of its connections a message came."""

from __future__ import annotations

from time import monotonic, time_ns
from weakref import WeakSet

from wsadapter.contract import items
from wsadapter.contract.endpoint import Buffer
from wsadapter.contract.ipc.record import Record
from wsadapter.delivery.queued import Backlog, queue_batch, queue_single
from wsadapter.delivery.tap import Intake
from wsadapter.endpoint.monitor import Watcher
from wsadapter.endpoint.subscriptions import Numbers
from wsadapter.endpoint.tally import Tally


class NumberedStream:
    """What the consumer gets of one endpoint, in order, and who watches it. All methods under the reactor's lock."""

    def __init__(self, name: str, buffer: Buffer, numbers: Numbers, inbox: Intake) -> None:
        self.numbers = numbers
        self.backlog = Backlog(name, buffer)
        self.inbox = inbox
        """Where the endpoint's items go; another one is set when the items are redirected, or looked at."""
        self.tally = Tally()
        self.monitors: WeakSet[Watcher] = WeakSet()

    def put(self, event: items.Event) -> None:
        """Put an event behind all that was received."""
        self.tally.note(event, monotonic())
        self.inbox.put_event(event, self.backlog)

    def accept(self, received: Record, streams: list[str | None] | None, epoch: int) -> None:
        """Number these messages, and put them into the stream."""
        first = self.numbers.accept(received.count, received.received_at)
        self.inbox.put(queue_batch(received, self.backlog, epoch=epoch, first=first, streams=streams))

    def insert(self, data: bytes, epoch: int, *, binary: bool) -> int:
        """Put the user's own record into the stream, in order. Returns its number."""
        at = time_ns()
        number = self.numbers.accept(1, at)
        self.inbox.put(queue_single(data, self.backlog, epoch=epoch, number=number, received_at=at, binary=binary))
        return number

    def notify(self, event: items.Up | items.Down) -> None:
        """Notify the monitors."""
        for monitor in self.monitors:
            monitor.notify(event)
