"""The one numbered stream of an endpoint."""

from __future__ import annotations

from typing import Any

from tests.support.records import consume, read
from wsadapter.contract.endpoint import Buffer
from wsadapter.contract.ipc.record import BATCH, field
from wsadapter.contract.items import Message, Up
from wsadapter.delivery.inbox import Inbox
from wsadapter.endpoint.numbered_stream import NumberedStream
from wsadapter.endpoint.subscriptions import Numbers


class Seen:
    def __init__(self) -> None:
        self.events: list[Any] = []

    def notify(self, event: Any) -> None:
        self.events.append(event)


def test_messages_of_all_connections_and_the_user_s_own_get_one_numbering() -> None:
    inbox = Inbox()
    stream = NumberedStream("a", Buffer(), Numbers(epoch=2, last_number=7), inbox)
    received = read(b"onetwo", kind=BATCH, received_at=5, layout=field(0, 3) * 2, count=2)
    stream.accept(received, None, 2)
    assert stream.insert(b"own", 3, binary=True) == 10
    assert [(item.number, item.epoch, item.data) for item in consume(inbox) if isinstance(item, Message)] == [
        (8, 2, b"one"), (9, 2, b"two"), (10, 3, b"own"),
    ]  # fmt: skip
    assert stream.numbers.last_number == 10


def test_items_go_where_the_endpoint_s_items_go_now() -> None:
    inboxes = [Inbox(), Inbox()]
    stream = NumberedStream("a", Buffer(), Numbers(), inboxes[0])
    stream.put(Up("a", 1, 1))
    stream.inbox = inboxes[1]
    stream.put(Up("a", 2, 2))
    assert [[item.epoch for item in consume(inbox)] for inbox in inboxes] == [[1], [2]]


def test_a_monitor_that_nobody_holds_any_more_is_forgotten() -> None:
    stream = NumberedStream("a", Buffer(), Numbers(), Inbox())
    kept, dropped = Seen(), Seen()
    for monitor in (kept, dropped):
        stream.monitors.add(monitor)
    del monitor, dropped
    event = Up("a", 1, 1)
    stream.notify(event)
    assert kept.events == [event]
    assert len(stream.monitors) == 1
