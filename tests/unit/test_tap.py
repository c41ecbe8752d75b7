"""A tap sees a bounded part of what goes into an inbox, and passes all of it on."""

from __future__ import annotations

from wsadapter.contract import items
from wsadapter.contract.endpoint import Buffer
from wsadapter.delivery.inbox import Inbox
from wsadapter.delivery.queued import Backlog, queue_single
from wsadapter.delivery.tap import Tap

BACKLOG = Backlog("a", Buffer())


def put(tap: Tap, *numbers: int) -> None:
    for number in numbers:
        data = b'{"n":%d}' % number
        tap.put(queue_single(data, BACKLOG, epoch=1, number=number, received_at=7, binary=False))


def numbers_of(found: list[items.Message | items.Event]) -> list[int]:
    return [item.number for item in found if isinstance(item, items.Message)]


def test_the_first_are_kept_up_to_the_limit_and_the_others_counted() -> None:
    inbox = Inbox()
    tap = Tap(inbox, 3)
    put(tap, 1, 2)
    tap.put_event(items.Subscribed("a", 1, 0, "x"))
    put(tap, 3, 4)
    found, skipped = tap.read(2)
    assert numbers_of(found) == [1, 2]
    assert isinstance(found[2], items.Subscribed)
    assert skipped == 2
    put(tap, 5, 6, 7)
    found, skipped = tap.read(2)
    assert (numbers_of(found), skipped) == ([5, 6], 1)
    assert tap.read(2) == ([], 0)


def test_everything_reaches_the_inbox_in_order() -> None:
    inbox = Inbox()
    tap = Tap(inbox, 1)
    put(tap, 1, 2)
    message = items.Message("a", b"x", 1, 3, 7, None, True)
    assert tap.put_single(message, BACKLOG) is False  # nobody waits for it
    seen: list[int] = []
    while inbox.refill(as_batches=False):
        seen += numbers_of(list(inbox.cursor.items))
    assert seen == [1, 2, 3]


def test_a_message_is_what_the_consumer_gets() -> None:
    tap = Tap(Inbox(), 5)
    put(tap, 9)
    assert tap.read(5)[0] == [items.Message("a", b'{"n":9}', 1, 9, 7, None, False)]
