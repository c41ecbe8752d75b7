"""Numbers and epochs in the cluster's stream: by position, whatever the journals of the hosts count."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from wsadapter.cluster.message import Tenure, Writer, headers_of, read_headers
from wsadapter.cluster.numbering import Numbering, Offsets, Point, last_down
from wsadapter.contract.items import Batch, Down, Dropped, Gap, Up
from wsadapter.contract.reasons import Reason
from wsadapter.sinks.base import SinkRecord
from wsadapter.sinks.lines import pieces

STOPPED = Reason(kind="stopped")


def records(*items: Any, begin: int = 1, number: int = 0) -> list[SinkRecord]:
    """As a journal has them, from a place on; `number`: of the endpoint's last message before."""
    found: list[SinkRecord] = []
    for item in items:
        size = len(item) if isinstance(item, Batch) else 1
        if isinstance(item, Batch):
            number = item.first_number + len(item) - 1
        elif isinstance(item, Dropped) and item.last is not None:
            number = item.last
        found.append(SinkRecord(item, begin, begin + size, number, "run", 1000 + begin))
        begin += size
    return found


def batch(number: int, count: int, epoch: int) -> Batch:
    return Batch("a", [b"%d" % each for each in range(number, number + count)], epoch=epoch, first_number=number, received_at=7)


def shown(found: Sequence[SinkRecord]) -> list[tuple[str, int, int]]:
    """Kind, epoch, and the number of the endpoint's last message behind it."""
    return [(getattr(each.item, "kind", "messages"), each.item.epoch, each.number) for each in found]


def test_the_first_host_numbers_from_one_whatever_its_journal_counts() -> None:
    numbering = Numbering(Point().claimed(50))
    found = numbering.translate(records(Up("a", 8, 1), batch(901, 2, 8), Down("a", 8, 2, STOPPED), begin=50, number=900))
    assert shown(found) == [("up", 1, 0), ("messages", 1, 2), ("down", 1, 2)]
    assert isinstance(found[1].item, Batch)
    assert (found[1].item.first_number, list(found[1].item)) == (1, [b"901", b"902"])
    assert numbering.point == Point(2, 1, is_up=False, at=1051, end=54, offsets=Offsets(-900, -7))


def test_another_host_goes_on_behind_the_last_message_with_one_gap() -> None:
    numbering = Numbering(Point(500, 3, is_up=True, at=77, end=9000, offsets=Offsets(5, 5)).claimed(10))
    found = numbering.translate(records(Up("a", 1, 5), batch(1, 3, 1), begin=10))
    assert shown(found) == [("up", 4, 500), ("gap", 4, 500), ("messages", 4, 503)]
    gap = found[1].item
    assert isinstance(gap, Gap)
    assert (gap.cause, gap.last_received_at, gap.resumed_at) == ("host_lost", 77, 5)


def test_the_gap_of_the_journal_itself_does_not_come_twice() -> None:
    numbering = Numbering(Point(500, 3, at=77).claimed(10))
    found = numbering.translate(
        records(Up("a", 6, 5), Gap("a", 6, 5, "reconnected", 1, 5), batch(31, 1, 6), begin=10, number=30)
    )
    assert shown(found) == [("up", 4, 500), ("gap", 4, 500), ("messages", 4, 501)]
    later = numbering.translate(
        records(Down("a", 6, 9, STOPPED), Up("a", 7, 9), Gap("a", 7, 9, "reconnected", 1, 9), begin=13, number=31)
    )
    assert shown(later) == [("down", 4, 501), ("up", 5, 501), ("gap", 5, 501)]
    assert isinstance(later[2].item, Gap)
    assert later[2].item.cause == "reconnected"


def test_what_is_from_before_the_term_is_left_out() -> None:
    numbering = Numbering(Point(500, 3).claimed(10))
    old = records(batch(1, 3, 1), Down("a", 1, 2, STOPPED), begin=5)
    late = records(batch(4, 2, 1), Down("a", 1, 3, STOPPED), begin=10, number=3)
    assert numbering.translate([*old, *late]) == []
    assert shown(numbering.translate(records(Up("a", 2, 4), batch(6, 1, 2), begin=13, number=5))) == [
        ("up", 4, 500), ("gap", 4, 500), ("messages", 4, 501),
    ]  # fmt: skip


def test_what_is_there_is_not_written_again() -> None:
    numbering = Numbering(Point(503, 4, is_up=True, end=14, offsets=Offsets(500, 3)))
    found = numbering.translate(records(Up("a", 1, 5), batch(1, 5, 1), begin=10))
    assert shown(found) == [("messages", 4, 505)]
    assert isinstance(found[0].item, Batch)
    assert (found[0].item.first_number, list(found[0].item), found[0].begin) == (504, [b"4", b"5"], 14)


def test_dropped_messages_keep_their_place_in_the_numbers() -> None:
    numbering = Numbering(Point(503, 4, is_up=True, end=10, offsets=Offsets(500, 3)))
    found = numbering.translate(
        records(Dropped("a", 1, 1, 4, 9, 6, 60, "overflow"), Dropped("a", 1, 1, None, None, 1, 1, "decode"), begin=10, number=3)
    )
    assert shown(found) == [("dropped", 4, 509), ("dropped", 4, 509)]
    assert isinstance(found[0].item, Dropped)
    assert (found[0].item.first, found[0].item.last) == (504, 509)


def test_an_epoch_that_is_open_is_ended_once() -> None:
    down = last_down("a", Point(5, 3, is_up=True), "x")
    assert down is not None
    assert (down.epoch, down.reason.kind) == (3, "host_lost")
    assert last_down("a", Point(5, 3, is_up=False), "x") is None


ME = Writer("x", "process", "journal")
LEASE = Tenure(6, "mine")


def test_headers_say_where_the_stream_is() -> None:
    point = Point(503, 4, is_up=True, at=77, end=14, offsets=Offsets(-500, 3))
    read = read_headers(9, headers_of("a", ME, LEASE, point), "mine")
    assert read.point == point
    assert (read.tail.sequence, read.tail.term, read.tail.number, read.tail.writer) == (9, 6, 503, "process")


def test_places_and_offsets_of_another_lease_mean_nothing() -> None:
    point = Point(503, 4, is_up=True, at=77, end=14, offsets=Offsets(-500, 3))
    assert read_headers(9, headers_of("a", ME, LEASE, point), "another").point.offsets is None


def test_a_line_that_is_there_in_part_does_not_count() -> None:
    point = Point(504, 4, is_up=True, end=15, offsets=Offsets(500, 3))
    long = Batch("a", [b'"' + b"x" * 3000 + b'"'], epoch=4, first_number=504, received_at=7)
    parts = list(pieces([SinkRecord(long, 14, 15, 504, "run", 7)], 1000))
    assert len(parts) > 2
    for piece in parts:
        read = read_headers(9, headers_of("a", ME, LEASE, point, piece), "mine")
        whole = piece is parts[-1]
        assert (read.point.number, read.point.end) == ((504, 15) if whole else (503, 14))
