"""What a successor received and reported before its link adopted it."""

from __future__ import annotations

from typing import Any

from wsadapter.contract.ipc.record import BATCH, REPORT, SNAPSHOT, Record, RecordReader, encode, field
from wsadapter.endpoint.held_records import HeldRecords
from wsadapter.endpoint.overlap import Shown

FIRST = 10
"""Identities begin here: those below have a meaning of their own."""


def message(identity: int | None, at: int, stream: int = 0) -> Record:
    tables: dict[str, Any] = {"identities": None if identity is None else [identity], "streams": [stream] if stream else None}
    (record,) = RecordReader().feed(encode(b"x", kind=BATCH, sequence=1, received_at=at, layout=field(0, 1), count=1, **tables))
    return record


def report() -> Record:
    (record,) = RecordReader().feed(encode(b"{}", kind=REPORT, sequence=1, received_at=1))
    return record


def test_records_are_taken_once_and_in_their_order() -> None:
    held, records = HeldRecords(1000), [message(FIRST, 1), report(), message(FIRST + 1, 2)]
    for each in records:
        held.add(each)
    assert held.messages == 2, "a report is none"
    assert held.take() == records
    assert held.take() == []


def test_what_came_before_the_confirmation_proves_less_than_what_came_after_it() -> None:
    held = HeldRecords(1000)
    held.add(message(FIRST, 1))
    held.subscriptions_confirmed(5)
    held.add(message(FIRST + 1, 6))
    assert list(held.shown()) == [Shown(None, FIRST, 1, False), Shown(None, FIRST + 1, 6, True)]
    assert held.subscribed_at == 5


def test_messages_are_shown_under_the_names_of_their_streams_without_snapshots_and_unidentified_ones() -> None:
    held = HeldRecords(1000)
    held.name_stream("book")
    for each in (message(FIRST, 1, 1), message(SNAPSHOT, 2, 1), message(None, 3), message(FIRST, 4, 2)):
        held.add(each)  # the last one is of a stream that was never named
    assert [shown.stream for shown in held.shown()] == ["book"]


def test_it_is_full_when_more_bytes_are_held_than_may_be() -> None:
    one = message(FIRST, 1)
    held = HeldRecords(one.size)
    held.add(one)
    assert not held.is_full
    held.add(one)
    assert held.is_full
