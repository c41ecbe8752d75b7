"""What a successor received and reported before its link adopted it."""

from __future__ import annotations

from tests.support.records import FIRST, message, read
from wsadapter.contract.ipc.record import REPORT, SNAPSHOT, Record
from wsadapter.endpoint.held_records import HeldRecords
from wsadapter.endpoint.overlap import Shown


def report() -> Record:
    return read(b"{}", kind=REPORT, received_at=1)


def test_records_are_taken_once_and_in_their_order() -> None:
    held, records = HeldRecords(1000), [message(FIRST, 1), report(), message(FIRST + 1, 2)]
    for each in records:
        held.add(each)
    assert held.messages == 2, "a report is none"
    assert held.take() == records
    assert held.take() == []


def test_messages_before_the_confirmation_are_weaker_evidence_than_messages_after_it() -> None:
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


def test_held_records_are_full_above_the_limit_of_bytes() -> None:
    one = message(FIRST, 1)
    held = HeldRecords(one.size)
    held.add(one)
    assert not held.is_full
    held.add(one)
    assert held.is_full
