"""Whether a new connection continues the old one, by the messages that both brought."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from wsadapter.contract.ipc.record import NO_IDENTITY
from wsadapter.endpoint.overlap import LAG, Overlap, Shown, overlap

SUBSCRIBED = 10 * LAG
LEFT = 20 * LAG
AT_ONCE, EARLY, LATE = SUBSCRIBED - 1, SUBSCRIBED + 2 * LAG, LEFT - 1
"""Before the subscriptions were confirmed; long enough before the old connection was left; too late for it to bring."""
BROKEN = Overlap(continues=False)


def found(old: dict[str | None, list[int]], *shown: tuple[str | None, int, int], in_order: bool = True) -> Overlap:
    """`shown`: stream, identity and time."""

    def delivered(stream: str | None) -> Sequence[int]:
        return old.get(stream, [])

    messages = [Shown(stream, identity, at, at >= SUBSCRIBED) for stream, identity, at in shown]
    compared = overlap(delivered, messages, subscribed_at=SUBSCRIBED, left_at=LEFT if in_order else None)
    assert not compared.continues or compared.due == (LEFT if in_order else EARLY) - LAG
    return compared._replace(due=0)


def interrupted(*streams: str, apart: Sequence[str] = ()) -> Overlap:
    return Overlap(True, frozenset(streams), frozenset(apart))


@pytest.mark.parametrize("in_order", [True, False])
def test_a_message_of_both_connections_proves_that_nothing_is_missing(in_order: bool) -> None:
    assert found({None: [1, 2]}, (None, 2, EARLY), (None, 3, LATE), in_order=in_order) == interrupted()


def test_recent_messages_that_came_before_the_first_shared_one_are_older() -> None:
    shown = [(None, identity, AT_ONCE) for identity in (1, 2, 3)]
    assert found({None: [3, 4, 5]}, *shown, (None, 4, EARLY)) == interrupted()


@pytest.mark.parametrize(("in_order", "expected"), [(True, interrupted()), (False, BROKEN)])
def test_recent_messages_alone_prove_nothing_if_the_old_connection_was_not_read_to_its_end(
    in_order: bool, expected: Overlap
) -> None:
    """They were sent to the old connection before: it may have been unread since."""
    assert found({None: [3, 4]}, (None, 3, AT_ONCE), (None, 4, AT_ONCE), in_order=in_order) == expected


@pytest.mark.parametrize(("in_order", "expected"), [(True, interrupted()), (False, BROKEN)])
def test_a_new_connection_without_messages_continues_an_old_one_that_was_read_to_its_end(
    in_order: bool, expected: Overlap
) -> None:
    assert found({None: [1]}, in_order=in_order) == expected


def test_a_message_that_the_old_connection_should_have_delivered_is_a_gap() -> None:
    assert found({None: [1, 2]}, (None, 4, EARLY)) == BROKEN
    assert found({None: [1, 2]}, (None, 2, AT_ONCE), (None, 3, EARLY)) == BROKEN
    assert found({"a": [1, 2], "b": [7]}, ("a", 2, EARLY), ("b", 7, AT_ONCE), ("b", 8, EARLY)) == interrupted("b")


def test_a_message_that_the_old_connection_had_no_time_to_deliver_is_new() -> None:
    assert found({None: [1, 2]}, (None, 4, LATE)) == Overlap(True, frozenset(), frozenset({None}))
    assert found({"a": [1, 2]}, ("a", 2, EARLY), ("b", 8, LATE)) == interrupted(apart="b")


def test_time_is_counted_to_the_last_shared_message_if_the_old_connection_was_not_read_to_its_end() -> None:
    shown = [("a", 2, EARLY), ("b", 8, EARLY - LAG), ("c", 9, EARLY - LAG - 1)]
    assert found({"a": [1, 2]}, *shown, in_order=False) == interrupted("c", apart="b")


@pytest.mark.parametrize("in_order", [True, False])
def test_a_stream_that_was_silent_and_whose_recent_messages_are_repeated_is_interrupted(in_order: bool) -> None:
    shown = [("a", 2, EARLY), ("b", 5, AT_ONCE), ("b", 6, AT_ONCE)]
    assert found({"a": [1, 2]}, *shown, in_order=in_order) == interrupted("b")


def test_if_all_streams_were_silent_all_are_interrupted() -> None:
    assert found({}, ("a", 5, AT_ONCE), ("b", 6, AT_ONCE)) == BROKEN


@pytest.mark.parametrize("in_order", [True, False])
def test_a_stream_whose_messages_have_no_identity_is_interrupted(in_order: bool) -> None:
    shown = [("a", 2, EARLY), ("b", NO_IDENTITY, LATE), (None, NO_IDENTITY, EARLY)]
    assert found({"a": [1, 2]}, *shown, in_order=in_order) == interrupted("b")


def test_an_interrupted_stream_does_not_interrupt_the_others() -> None:
    assert found({"a": [1]}, ("b", NO_IDENTITY, EARLY))._replace(due=0) == interrupted("b")


def test_recent_messages_in_another_order_are_reported_as_a_gap() -> None:
    assert found({"a": [1, 2], "b": [5, 6, 7]}, ("a", 2, EARLY), ("b", 7, AT_ONCE), ("b", 6, AT_ONCE)) == interrupted("b")


def test_a_peer_that_repeats_the_last_of_the_recent_messages_is_in_order() -> None:
    assert found({None: [1, 2, 3]}, (None, 2, AT_ONCE), (None, 3, AT_ONCE), (None, 3, EARLY)) == interrupted()


def test_a_repeated_identity_is_searched_at_its_next_place() -> None:
    assert found({None: [1, 2, 1, 3]}, (None, 1, EARLY), (None, 2, EARLY), (None, 1, EARLY), (None, 3, EARLY)) == interrupted()
    assert found({None: [1, 2, 1, 3]}, (None, 1, EARLY), (None, 3, EARLY)) == interrupted()
