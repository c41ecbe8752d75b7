"""Messages of the cluster's stream, and what a consumer is given of them."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from wsadapter.cluster.reading import End, Entry, Place, Reading, StreamMessage
from wsadapter.contract.items import Batch, Dropped, Gap, Up
from wsadapter.outputs.lines import batch_lines, event_line

UP = event_line(Up("a", 1, 1))


def lines(first: int, length: int, *, endpoint: str = "a", at: int = 0) -> bytes:
    return batch_lines(
        Batch(endpoint, [b"%d" % n for n in range(length)], epoch=1, first_number=first, received_at=at or first)
    )


def message(sequence: int, body: bytes, *, endpoint: str = "a", **headers: int) -> StreamMessage:
    return StreamMessage(sequence, endpoint, {f"Wsadapter-{name}": str(value) for name, value in headers.items()}, body)


def shown(entries: Sequence[Entry]) -> list[object]:
    """Of a batch its numbers, of an event its class, of a `Dropped` what is missing and why."""
    found: list[object] = []
    for entry in entries:
        match entry.item:
            case Batch() as batch:
                found.append((batch.first_number, batch.first_number + len(batch) - 1))
            case Dropped(first=first, last=last, cause=cause):
                found.append((cause, first, last))
            case event:
                found.append(type(event))
    return found


def test_a_stream_without_a_hole_is_given_as_it_is() -> None:
    reading = Reading(Place(1))
    assert shown(reading.take(message(1, b""))) == []  # a claim
    assert shown(reading.take(message(2, UP + lines(1, 3)))) == [Up, (1, 3)]
    assert shown(reading.take(message(4, lines(4, 2)))) == [(4, 5)]


def test_numbers_that_do_not_follow_are_reported() -> None:
    reading = Reading(Place(1))
    assert shown(reading.take(message(1, lines(1, 3)))) == [(1, 3)]
    assert shown(reading.take(message(2, lines(6, 1) + lines(9, 1)))) == [("journal", 4, 5), (6, 6), ("journal", 7, 8), (9, 9)]
    dropped = event_line(Dropped("a", 1, 1, 10, 12, 3, 3, "overflow"))
    assert shown(reading.take(message(3, dropped + lines(13, 1)))) == [("overflow", 10, 12), (13, 13)]
    assert shown(reading.take(message(4, lines(1, 2) + lines(3, 1)))) == [Gap, (1, 2), (3, 3)]  # purged, and begun anew


def test_what_the_stream_has_removed_is_reported_as_such() -> None:
    reading = Reading(Place(5, {"a": End(5, 0, 30), "b": End(4, 1, 7)}))
    assert reading.begin_at(9) == 9
    assert shown(reading.take(message(9, lines(41, 2)))) == [("retention", 31, 40), (41, 42)]
    assert shown(reading.take(message(10, lines(45, 1)))) == [("journal", 43, 44), (45, 45)]
    assert shown(reading.take(message(11, lines(8, 1, endpoint="b"), endpoint="b"))) == [(8, 8)]


def test_each_place_within_a_message_goes_on_there() -> None:
    body = UP + lines(1, 2) + lines(3, 3) + UP
    whole = [Up, 1, 2, 3, 4, 5, Up]
    for done in range(len(whole) + 1):
        reading = Reading(Place(3, {"a": End(3, done, max(0, min(done - 1, 5)))}))
        given = [
            each
            for entry in reading.take(message(3, body))
            for each in (
                range(entry.item.first_number, entry.item.first_number + len(entry.item))
                if isinstance(entry.item, Batch)
                else [type(entry.item)]
            )
        ]
        assert given == whole[done:]


def test_the_end_of_an_entry_is_where_the_next_consumer_goes_on() -> None:
    body = UP + lines(1, 2) + lines(3, 3)
    first = Reading(Place(3)).take(message(3, body))
    for index, entry in enumerate(first):
        reading = Reading(Place(entry.begin, {"a": entry.done(entry.length)}))
        assert shown(reading.take(message(3, body))) == shown(first[index + 1 :])
    part = Reading(Place(3, {"a": first[2].done(2)}))
    assert shown(part.take(message(3, body))) == [(5, 5)]


def test_a_line_in_parts_is_given_when_it_is_whole() -> None:
    line = lines(7, 1)
    parts = [message(n + 1, line[n * 10 : n * 10 + 10 if n < 2 else None], Part=n + 1, Parts=3, Number=7) for n in range(3)]
    reading = Reading(Place(1, {"a": End(1, 0, 6)}))
    assert reading.take(parts[0]) == reading.take(parts[1]) == []
    other = reading.take(message(9, lines(1, 1, endpoint="b"), endpoint="b"))
    assert [entry.begin for entry in other] == [1]  # whoever goes on behind it has to read the parts
    entries = reading.take(parts[2])
    assert shown(entries) == [(7, 7)]
    assert entries[0].begin == 1
    again = Reading(Place(1, {"a": entries[0].done(1)}))
    assert [again.take(part) for part in parts] == [[], [], []]


def test_parts_that_another_writer_replaces_are_forgotten() -> None:
    line = lines(7, 1)
    reading = Reading(Place(1, {"a": End(1, 0, 6)}))
    assert reading.take(message(1, line[:10], Part=1, Parts=2)) == []
    assert shown(reading.take(message(2, UP))) == [Up]  # the claim of the next holder
    assert reading.take(message(3, line[10:], Part=2, Parts=2)) == []
    assert reading.take(message(4, line[:10], Part=1, Parts=2)) == []
    assert reading.take(message(5, line[:10], Part=1, Parts=2)) == []  # the next process of the same holder begins again
    assert shown(reading.take(message(6, line[10:], Part=2, Parts=2))) == [(7, 7)]


def test_behind_numbers_that_were_processed() -> None:
    reading = Reading(Place(1, {"a": End(0, 0, 4), "b": End(0, 0, 2)}))
    assert shown(reading.take(message(1, lines(1, 1, endpoint="c"), endpoint="c"))) == []
    assert shown(reading.take(message(2, UP + lines(1, 3)))) == []
    assert shown(reading.take(message(3, lines(1, 2, endpoint="b"), endpoint="b"))) == []
    assert shown(reading.take(message(4, lines(4, 3)))) == [(5, 6)]
    assert shown(reading.take(message(5, lines(2, 1, endpoint="c"), endpoint="c"))) == [(2, 2)]
    assert shown(reading.take(message(6, lines(4, 1, endpoint="b"), endpoint="b"))) == [("journal", 3, 3), (4, 4)]


@pytest.mark.parametrize("since", [1, 3, 4])
def test_from_a_time_on(since: int) -> None:
    reading = Reading(Place(1), since)
    body = lines(1, 2, at=1) + lines(3, 1, at=3) + lines(4, 1, at=4) + lines(5, 1, at=2)
    everything = {1: [(1, 2), (3, 3), (4, 4), (5, 5)], 3: [(3, 3), (4, 4), (5, 5)], 4: [(4, 4), (5, 5)]}
    assert shown(reading.take(message(1, body))) == everything[since]
