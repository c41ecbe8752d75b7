"""The merge of a link's old connection with the new one, in a planned change."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from tests.support import records
from tests.support.records import FIRST
from wsadapter.contract.endpoint import Endpoint
from wsadapter.contract.ipc.record import NO_IDENTITY, Record
from wsadapter.endpoint.held_records import HeldRecords
from wsadapter.endpoint.overlap import LAG
from wsadapter.endpoint.overlap_merge import OverlapMerge

EARLY, READY_AT = 38 * LAG, 40 * LAG


def message(identity: int | None, at: int = EARLY) -> Record:
    return records.message(identity, at)


class Merging:
    """A merge, and the identities of what was accepted."""

    def __init__(self, identity: Any = ("n",)) -> None:
        self.accepted: list[int | None] = []
        self.merge = OverlapMerge(Endpoint("a", url="ws://h.test/", identity=identity), None, self._accept)

    def _accept(self, received: Record, streams: list[str | None] | None) -> None:
        del streams
        self.accepted.append(None if received.identities is None else received.identities[0])

    def change(self, *new: Record, in_order: bool = True) -> bool:
        """The old connection is gone, the new one brought these; whether it continues the stream."""
        held = HeldRecords(1000)
        held.subscriptions_confirmed(1)
        for record in new:
            held.add(record)
        successor = cast("Any", SimpleNamespace(held=held, ready_at=READY_AT))
        found = self.merge.compare(successor, in_order=in_order)
        if found.continues:
            self.merge.join(found, EARLY)
            for record in held.take():
                self.merge.take(record, None)
            self.merge.held_delivered()
        return found.continues


def test_messages_before_identities_were_requested_are_accepted_unchanged() -> None:
    case = Merging()
    case.merge.take(message(None), None)
    assert (case.accepted, case.merge.has_new) == ([None], False)


def test_new_messages_of_the_new_connection_are_delivered_once() -> None:
    case = Merging()
    case.merge.take(message(FIRST), None)
    assert case.change(message(FIRST), message(FIRST + 1, READY_AT))
    case.merge.take(message(FIRST + 2, READY_AT + 1), None)
    assert case.accepted == [FIRST, FIRST + 1, FIRST + 2]
    assert case.merge.has_new


def test_a_connection_that_shares_nothing_with_an_old_one_that_was_not_read_to_its_end_does_not_continue_it() -> None:
    case = Merging()
    case.merge.take(message(FIRST), None)
    assert not case.change(message(FIRST + 5), in_order=False)


def test_without_confirmed_subscriptions_nothing_is_compared() -> None:
    case = Merging()
    successor = cast("Any", SimpleNamespace(held=HeldRecords(1000), ready_at=READY_AT))
    assert not case.merge.compare(successor, in_order=True).continues


def test_equal_bytes_of_two_messages_are_no_overlap() -> None:
    case = Merging("bytes")
    case.merge.take(message(FIRST), None)
    assert not case.change(message(FIRST), in_order=False)
    assert case.change(message(FIRST), message(NO_IDENTITY), in_order=True)
