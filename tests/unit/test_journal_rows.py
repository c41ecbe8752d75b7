"""Rows of a journal: what comes out is what went in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsadapter import (
    AnyEvent,
    Batch,
    ClockStep,
    Down,
    Dropped,
    Fatal,
    Gap,
    LateAnswer,
    Notice,
    Reason,
    Rejected,
    Restored,
    Stalled,
    Started,
    Subscribed,
    Up,
)  # fmt: skip
from wsadapter.contract.items import EVENT_NAMES
from wsadapter.journal.rows import DamagedRow, checked, event_row, item_of, message_row

REASON = Reason(kind="handshake_rejected", status=403, body="né\udcff", retry_after=1.5, text="no")
EVENTS: list[AnyEvent] = [
    Started("", 0, 1, "run", "name", "0.1"),
    Up("a", 1, 2, "v1", {"x-ray": "\udcff"}, True, 2, 1),
    Up("a", 1, 2),
    Down("a", 1, 3, REASON),
    Down("a", 1, 3, Reason(kind="stopped"), 1, 0),
    Gap("a", 2, 4, "sequence", 5, None, 7, 9, "trades"),
    Dropped("a", 2, 5, 1, 3, 3, 99, "overflow"),
    Dropped("a", 2, 5, None, None, 1, 9, "decode"),
    Subscribed("a", 2, 6, "trades"),
    Rejected("a", 2, 7, "x", "no such stream"),
    Restored("a", 2, 8, 3, ("x", "y")),
    Stalled("a", 2, 9, None, 12.5),
    Notice("a", 2, 10, "maintenance"),
    LateAnswer("a", 2, 11, "7", b"\xff\x00"),
    ClockStep("", 0, 12, -3.25),
    Fatal("a", 3, 13, REASON),
]


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.kind)
def test_an_event_comes_back_as_it_was(event: AnyEvent) -> None:
    row = event_row(5, event, 3)
    assert (row.seq, row.end, row.record, row.number, row.messages) == (5, 6, 3, None, 0)
    assert item_of(checked(tuple(row))) == event


def test_every_kind_of_event_is_tried() -> None:
    assert {type(event) for event in EVENTS} == set(EVENT_NAMES)


payloads = st.lists(st.binary(max_size=40), min_size=1, max_size=5)


@given(payloads, st.data())
def test_the_messages_of_a_record_come_back_as_they_were(payloads: list[bytes], data: st.DataObject) -> None:
    count = len(payloads)
    binary = data.draw(st.booleans() | st.lists(st.booleans(), min_size=count, max_size=count))
    names = st.sampled_from([None, "t", "é"])
    streams = data.draw(st.none() | st.lists(names, min_size=count, max_size=count))
    row = message_row(9, "a", payloads, epoch=2, record=None, number=4, at=77, binary=binary, streams=streams)
    assert row.end == 9 + count
    batch = item_of(checked(tuple(row)))
    assert isinstance(batch, Batch)
    wanted = Batch("a", payloads, epoch=2, first_number=4, received_at=77, binary=binary, streams=streams)
    assert batch.messages() == wanted.messages()


def test_a_flipped_bit_in_any_column_is_noticed() -> None:
    row = message_row(9, "a", [b"x" * 12_000, b"y"], epoch=2, record=1, number=4, at=77, streams=["t", "u"])
    for column, value in enumerate(row[:-1]):
        changed = list(row)
        changed[column] = (
            value[:-1] + b"z" if isinstance(value, bytes) else f"{value}1" if isinstance(value, str) else value + 1
        )
        with pytest.raises(DamagedRow):
            checked(tuple(changed))


def test_a_row_that_no_version_writes_is_damaged_and_raises_nothing_else() -> None:
    row = event_row(1, EVENTS[1])
    for payload in (b"", b"[]", b'{"event":"zorblax"}', b'{"event":"down"}', b"\xff"):
        with pytest.raises(DamagedRow):
            item_of(row._replace(payload=payload))
