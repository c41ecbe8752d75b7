"""What is read again of a dead supervisor's owner: every item that the journal does not have, and no other."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.support.records import consume, read
from wsadapter.contract.endpoint import Buffer
from wsadapter.contract.ipc.record import BATCH, field
from wsadapter.contract.items import Batch, Gap
from wsadapter.delivery.inbox import Inbox
from wsadapter.endpoint.numbered_stream import NumberedStream
from wsadapter.endpoint.subscriptions import Numbers
from wsadapter.journal.rows import event_row, message_row
from wsadapter.journal.state import State
from wsadapter.takeover.replay import NewItems

EPOCH = 3
Records = list[tuple[int, int]]
"""Of each record of an owner: how many events it makes, and how many messages it has. The events come first."""


def put(stream: NumberedStream, record: int, events: int, messages: int) -> None:
    """What an owner's record puts into the stream."""
    stream.backlog.record = record
    for place in range(events):
        stream.put(Gap("a", EPOCH, record, f"event {place}", None, None))
    if messages:
        payloads = [f"{record}.{place}".encode() for place in range(messages)]
        layout = "".join(field(0, len(payload)) for payload in payloads)
        got = read(b"".join(payloads), kind=BATCH, received_at=record, layout=layout, count=messages)
        stream.accept(got, None, EPOCH)


def taken(inbox: Inbox) -> list[Any]:
    return [(i.first_number, list(i)) if isinstance(i, Batch) else i for i in consume(inbox, as_batches=True)]


def state_behind(items: list[tuple[int, Any]]) -> State:
    """Of a journal with these items, each with the number of its record."""
    state = State()
    for record, item in items:
        if isinstance(item, tuple):
            number, payloads = item
            state.advance(message_row(state.seq, "a", payloads, epoch=EPOCH, record=record, number=number, at=1))
        else:
            state.advance(event_row(state.seq, item, record))
    return state


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3)), min_size=1, max_size=8), st.data())
def test_with_any_mark_and_any_commit_behind_it_exactly_the_rest_is_put_in_again(records: Records, data: st.DataObject) -> None:
    inbox, items = Inbox(), list[tuple[int, Any]]()
    stream, numbers = NumberedStream("a", Buffer(), Numbers(epoch=EPOCH), inbox), [Numbers(epoch=EPOCH)]
    for record, (events, messages) in enumerate(records, 1):
        put(stream, record, events, messages)
        items += [(record, item) for item in taken(inbox)]
        numbers.append(replace(stream.numbers))
    mark = data.draw(st.integers(0, len(records)), "the last record before the mark")
    before = sum(record <= mark for record, _ in items)
    committed = data.draw(st.integers(max(before, 1), max(len(items), 1)), "items in the journal")
    progress = state_behind(items[:committed]).endpoints.get("a")
    if progress is None:
        return  # nothing is known of the endpoint: nobody goes on
    stream = NumberedStream("a", Buffer(), numbers[mark], inbox)
    new = NewItems(stream, progress)
    stream.inbox = new
    for record, (events, messages) in enumerate(records[mark:], mark + 1):
        new.begin(record)
        put(stream, record, events, messages)
    new.end()
    assert taken(inbox) == [item for _, item in items[committed:]]


def test_numbers_of_messages_that_the_user_inserted_are_not_used_again() -> None:
    inbox = Inbox()
    stream = NumberedStream("a", Buffer(), Numbers(epoch=EPOCH), inbox)
    state = state_behind([(1, (1, [b"1.0"])), (1, (2, [b"inserted"])), (2, (3, [b"2.0"]))])
    new = NewItems(stream, state.endpoints["a"])
    stream.inbox = new
    for record in (1, 2, 3):
        new.begin(record)
        put(stream, record, 0, 1)
    assert taken(inbox) == [(4, [b"3.0"])]
