"""Sinks: positions, batches of the journal, pieces for brokers, what the process is told and reports."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as some

from tests.support.journals import RUN, add, batch, fill, started, up, writing
from tests.support.sinks import Memory, carry, numbers
from wsadapter import Batch, Dropped, JournalError, Reason, Up
from wsadapter.config.settings import SinkSettings
from wsadapter.contract.errors import PositionBeyondEnd
from wsadapter.journal.folder import identify, segments
from wsadapter.sinks.base import KINDS, EndpointPosition, Position, SinkError, SinkRecord, TargetUnavailable
from wsadapter.sinks.carry import reason_of
from wsadapter.sinks.feed import JournalFeed, first_position, resume
from wsadapter.sinks.kinds import make_sink
from wsadapter.sinks.lines import Piece, endpoint_of, pieces, token
from wsadapter.sinks.store import SinkStore
from wsadapter.sinks.task import Report, Task

BOTH = list(range(1, 201))


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """Two endpoints, 200 messages each, in several segments."""
    assert len(fill(tmp_path / "journal", 100)) > 2
    return tmp_path / "journal"


def read_all(path: Path, position: Position, **how: object) -> list[SinkRecord]:
    feed = JournalFeed(path, position, **how)  # type: ignore[arg-type]
    try:
        found: list[SinkRecord] = []
        while (read := feed.read()) is not None:
            found += read.records
        return found
    finally:
        feed.close()


# -- from the journal ----------------------------------------------------------------------------------------------------


def test_a_sink_gets_every_item_once_and_in_order(journal: Path) -> None:
    sink = Memory()
    carry(journal, sink)
    assert numbers(sink.items, "a") == numbers(sink.items, "b") == BOTH
    assert [type(item).__name__ for item in sink.items[:3]] == ["Started", "Up", "Up"]


def test_a_sink_that_fails_goes_on_behind_its_position(journal: Path) -> None:
    sink = Memory()
    sink.fails_after = 1
    with pytest.raises(RuntimeError, match="told to fail"):
        carry(journal, sink)
    assert sink.batches
    assert numbers(sink.items, "a") != BOTH
    carry(journal, sink)
    assert numbers(sink.items, "a") == numbers(sink.items, "b") == BOTH
    assert sink.closed == 2


def test_no_batch_has_records_of_two_segments(journal: Path) -> None:
    sink = Memory()
    carry(journal, sink)
    firsts = [segment.first for segment in segments(journal)]
    assert [read.segment for read in sink.batches] == firsts
    for read, following in zip(sink.batches, firsts[1:], strict=False):
        assert all(read.segment <= record.begin < following for record in read.records)


def test_an_endpoint_that_is_ahead_is_written_behind_its_own_place(journal: Path) -> None:
    records = read_all(journal, first_position(journal, "earliest"))
    cut = [record for record in records if record.endpoint == "a" and isinstance(record.item, Batch)][30]
    position = first_position(journal, "earliest").with_endpoints(
        {"a": EndpointPosition(cut.begin + 1, cut.number - 1, 1, 5, RUN)}
    )
    again = [record.item for record in read_all(journal, position)]
    assert numbers(again, "a") == list(range(cut.number, 201))  # the second message of that record is the first one
    assert numbers(again, "b") == BOTH
    assert [item.endpoint for item in again if isinstance(item, Up)] == ["b"]


def test_only_the_endpoints_that_are_wanted(journal: Path) -> None:
    sink = Memory()
    carry(journal, sink, endpoints=("b",))
    assert (numbers(sink.items, "a"), numbers(sink.items, "b")) == ([], BOTH)
    assert sink.position.seq == 404  # it has passed the others too


def test_a_new_sink_may_begin_at_the_end(journal: Path) -> None:
    sink = Memory()
    carry(journal, sink, start="latest")
    with writing(journal) as writer:
        add(writer, batch("a", [b"x"], 201))
    carry(journal, sink, start="latest")
    assert numbers(sink.items, "a") == [201]


def test_what_retention_removed_is_reported_with_its_exact_numbers(journal: Path) -> None:
    sink = Memory()
    sink.fails_after = 1
    with pytest.raises(RuntimeError):
        carry(journal, sink)
    for segment in segments(journal)[:3]:
        for file in segment.files():
            file.unlink(missing_ok=True)
    carry(journal, sink)
    for name in "ab":
        lost = [item for item in sink.items if isinstance(item, Dropped) and item.endpoint == name]
        assert [item.cause for item in lost] == ["retention"]
        told = [number for item in lost for number in range(item.first or 0, (item.last or 0) + 1)]
        assert sorted(numbers(sink.items, name) + told) == BOTH


def test_a_position_beyond_the_end_is_an_error(journal: Path) -> None:
    position = first_position(journal, "latest")
    with pytest.raises(PositionBeyondEnd, match="the journal ends at 404"):
        resume(journal, replace(position, seq=405))


def test_a_position_of_another_journal_begins_at_the_oldest_item(journal: Path) -> None:
    position = replace(first_position(journal, "latest"), journal="another")
    assert resume(journal, position) == first_position(journal, "earliest")


def test_a_journal_that_lost_its_end_goes_on_where_its_next_run_began(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    with writing(path) as writer:
        writer.state.run = "old"
        add(writer, started("old"), up("a"), batch("a", [b"1"], 1))
        end = first_position(path, "latest")
        writer.state.run = "new"  # as after a power failure, which took the messages 2 to 4 of the old run
        add(writer, started("new"), up("a", 2), batch("a", [b"two"], 2), batch("a", [b"three"], 3))
    ahead = replace(end, seq=end.seq + 3, endpoints={"a": EndpointPosition(end.seq + 3, 4, 1, 4000, "old")})
    assert ahead.run == "old"
    found = read_all(path, resume(path, ahead))
    assert numbers([record.item for record in found], "a") == [2, 3]
    kept = replace(end, endpoints={"a": EndpointPosition(end.seq + 3, 4, 1, 4000, "old")})
    assert numbers([record.item for record in read_all(path, resume(path, kept))], "a") == [2, 3]


def test_a_position_travels_as_json(journal: Path) -> None:
    position = first_position(journal, "latest")
    assert position.journal == identify(journal)
    assert Position.from_json(position.to_json()) == position
    with pytest.raises(ValueError, match="no position of a sink"):
        Position.from_json({"seq": 1})


# -- the store -----------------------------------------------------------------------------------------------------------


def test_a_position_is_kept_and_a_broken_file_is_none(journal: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = SinkStore(journal, "x")
    assert store.load() is None
    store.save(first_position(journal, "latest"))
    assert store.load() == first_position(journal, "latest")
    (journal / "sinks/x.json").write_bytes(b"{")
    assert store.load() is None
    assert "cannot be read" in caplog.text
    store.close()


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="the position of the sink cannot be kept"):
        SinkStore(tmp_path / "nothing", "x")


# -- what a broker is given ----------------------------------------------------------------------------------------------


def record(first: int, payloads: list[bytes], begin: int = 1) -> SinkRecord:
    read = Batch("é.x", payloads, epoch=3, first_number=first, received_at=7, binary=False, streams=None)
    return SinkRecord(read, begin, begin + len(payloads), first + len(payloads) - 1, RUN, 7)


def test_pieces_hold_what_fits_and_say_where_they_end() -> None:
    event = SinkRecord(Up("é.x", 4, 9, None, {}), 6, 7, 5, RUN, 9)
    [one] = pieces([record(1, [b"1", b"2"]), record(3, [b"3", b"4", b"5"], 3), event], 100_000)
    assert (one.begin, one.end, one.first_number, one.messages, one.parts) == (1, 7, 1, 5, 1)
    assert one.body.count(b"\n") == 6
    assert one.position == EndpointPosition(7, 5, 4, 7, RUN)
    assert [piece.messages for piece in pieces([record(1, [b"1"] * 2500)], 1 << 30)] == [625, 625, 625, 625]


def test_a_line_that_is_too_long_goes_in_parts() -> None:
    found = list(pieces([record(1, [b"1", b'"' + b"x" * 1000 + b'"', b"3"])], 400))
    assert [(piece.part, piece.parts) for piece in found] == [(1, 1), (1, 3), (2, 3), (3, 3), (1, 1)]
    assert b"".join(piece.body for piece in found).count(b"\n") == 3
    assert [piece.end for piece in found] == [2, 3, 3, 3, 4]


@given(
    some.lists(some.lists(some.binary(max_size=50), min_size=1, max_size=20), min_size=1, max_size=10), some.integers(50, 300)
)
def test_pieces_lose_nothing_repeat_nothing_and_fit(reads: list[list[bytes]], limit: int) -> None:
    records, number = [], 1
    for payloads in reads:
        records.append(record(number, payloads, number))
        number += len(payloads)
    found = list(pieces(records, limit))
    assert all(len(piece.body) <= limit for piece in found)
    whole = b"".join(piece.body for piece in pieces(records, 1 << 30))
    assert b"".join(piece.body for piece in found) == whole
    assert sum(piece.messages for piece in found if piece.part == piece.parts) == number - 1


@given(some.text(max_size=20), some.sampled_from("%."))
def test_a_token_stands_for_one_endpoint(endpoint: str, escape: str) -> None:
    written = token(endpoint, escape)
    assert endpoint_of(written, escape) == endpoint
    assert written.replace(escape, "").replace("_", "").replace("-", "").isalnum() or written.strip("_-") == ""
    assert written.isascii()


def test_a_piece_of_events_alone_has_no_first_number() -> None:
    piece = Piece(b"", (SinkRecord(Up("a", 4, 9, None, {}), 6, 7, 5, RUN, 9),))
    assert (piece.first_number, piece.messages, piece.position.number) == (None, 0, 5)


# -- the process ---------------------------------------------------------------------------------------------------------


def test_a_task_and_a_report_travel_as_lines() -> None:
    task = Task("/j", SinkSettings(name="n", kind="kafka", endpoints=("a",), options={"x": "secret"}), ["/hooks"])
    assert Task.parse(task.encode()) == task
    report = Report(5, 6, 7)
    assert Report.parse(report.encode()) == report
    ended = Report(reason=Reason(kind="full", text="no space", retry_after=1.0))
    assert Report.parse(ended.encode()) == ended
    assert Report.parse(b"hello") is Report.parse(b"[]") is Report.parse(b'{"seq": 1}') is None


def test_each_error_has_a_kind_that_is_documented() -> None:
    def below(cls: type[SinkError]) -> list[type[SinkError]]:
        return [cls, *(each for sub in cls.__subclasses__() for each in below(sub))]

    assert {cls.kind for cls in below(SinkError)} <= KINDS.keys()
    assert reason_of(TargetUnavailable("x")) == Reason(kind="unavailable", text="x")
    assert reason_of(JournalError("y")) == Reason(kind="journal", text="y")
    assert reason_of(ZeroDivisionError("z")) == Reason(kind="failed", text="ZeroDivisionError: z")


def test_a_class_of_the_users_own_is_found_in_its_folder(tmp_path: Path) -> None:
    (tmp_path / "my_sink_module.py").write_text(
        "class Mine:\n"
        "    def __init__(self, name, options): self.made = name, options\n"
        "    def open(self, position): return position\n"
        "    def write(self, batch): pass\n"
        "    def flush(self): pass\n"
        "    position = property(lambda self: 1 / 0)\n"
        "    def close(self): pass\n"
        "class Half:\n"
        "    def __init__(self, name, options): pass\n"
    )
    settings = SinkSettings(name="n", kind="my_sink_module:Mine", options={"a": "b"})
    sink = make_sink(settings, [str(tmp_path)])
    assert vars(sink)["made"] == ("n", {"a": "b"})
    with pytest.raises(SinkError, match="has no open, write, flush, close"):
        make_sink(replace(settings, kind="my_sink_module:Half"), [str(tmp_path)])
    with pytest.raises(SinkError, match="can't be imported"):
        make_sink(replace(settings, kind="my_sink_module:None_there"), [str(tmp_path)])
