"""What one link puts into the stream of its endpoint: messages, events, and what is counted and logged of them."""

from __future__ import annotations

from dataclasses import dataclass
from time import monotonic, time_ns
from typing import Any, Final, Protocol

from wsadapter.contract import items
from wsadapter.contract.ipc.record import Record
from wsadapter.contract.reasons import Reason
from wsadapter.endpoint.backpressure import Waiting
from wsadapter.endpoint.epoch import Counters
from wsadapter.endpoint.log import EndpointLog
from wsadapter.endpoint.numbered_stream import NumberedStream

_RECEIVING: Final = 2.0
"""Seconds without a message after which a connection does not count as receiving."""


class OutputGroup(Protocol):
    """The objects that the outputs of all links of one endpoint share."""

    is_replicated: bool
    """Whether an endpoint has several links at the same time, each of which may show what another one showed."""

    def deliver(self, output: LinkOutput, received: Record, streams: list[str | None] | None) -> None:
        """Accept from this link what no other link has delivered."""
        ...

    def is_news(self, output: LinkOutput, event: items.Event) -> bool:
        """Whether an event of this link is to be put into the stream, because no other link has reported the same."""
        ...

    def standing(self, output: LinkOutput, *, closing: bool = False) -> tuple[int | None, int | None]:
        """For `Up` and `Down`: the number of the link, and how many links are live, without this one if it is `closing`."""
        ...

    def link_up(self, output: LinkOutput) -> bool:
        """The connection of this link is new. Returns whether the link continues the stream without a loss, because others
        delivered meanwhile."""
        ...

    def overflowed(self, queue: Waiting | None = None) -> None:
        """More waits than may: for the consumer, or in another queue."""
        ...


@dataclass(frozen=True, slots=True)
class OutputSnapshot:
    """For another supervisor."""

    counters: Counters
    restored_at: float | None


class LinkOutput:
    """The output of one link, over all its owners. All methods under the reactor's lock."""

    def __init__(self, number: int, stream: NumberedStream, group: OutputGroup) -> None:
        """`number`: of the link among the links of its endpoint, from 1."""
        self.number = number
        self.stream = stream
        self.group = group
        self.backlog = stream.backlog
        self.log = EndpointLog(stream.backlog.name)
        self.counters = Counters()
        self.epoch = stream.numbers.epoch
        """Of the owner, or of the last one; 0 before the first."""
        self.restored_at: float | None = None
        """Monotonic seconds since when all subscriptions of the connection are answered; None: they are not."""

    @property
    def name(self) -> str:
        """The endpoint's."""
        return self.backlog.name

    @property
    def is_receiving(self) -> bool:
        """Whether the connection has delivered something lately."""
        heard = self.counters.last_heard
        return heard is not None and monotonic() - heard < _RECEIVING

    def snapshot(self) -> OutputSnapshot:
        """For another supervisor."""
        return OutputSnapshot(self.counters, self.restored_at)

    def restore(self, snapshot: OutputSnapshot) -> None:
        """Continue from the state of another supervisor. There must be no owner yet."""
        self.counters, self.restored_at = snapshot.counters, snapshot.restored_at

    def accept(self, received: Record, streams: list[str | None] | None) -> None:
        """Number these messages, and put them into the stream."""
        self.counters.messages += received.count
        self.backlog.record = received.sequence  # of a record that was held back, not of the one that is being read
        self.stream.accept(received, streams, self.epoch)

    def put(self, event: items.Event) -> None:
        """Put an event into the stream."""
        if isinstance(event, items.Restored):
            self.restored_at = monotonic()
        if self.group.is_news(self, event):
            self.stream.put(event)

    def gap(self, cause: str, last_received_at: int | None, resumed_at: int | None, **more: Any) -> None:
        """Put an event that reports that messages are, or may be, missing."""
        self.counters.gaps += 1
        self.put(items.Gap(self.name, self.epoch, time_ns(), cause, last_received_at, resumed_at, **more))

    def down(self, reason: Reason) -> None:
        """The epoch has ended."""
        self.counters.last_lost_at = self.stream.numbers.last_received_at
        down = items.Down(self.name, self.epoch, time_ns(), reason, *self.group.standing(self, closing=True))
        self.put(down)
        if not down.live:  # with replicas only the end of the last connection is a Down for monitors
            self.stream.notify(down)
