"""Records through a real pipe, also one that is full."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.rawserver import server_frame
from wsadapter.contract.ipc.record import BATCH, REPORT, Record, RecordReader
from wsadapter.contract.ipc.reports import LogLine, parse_report
from wsadapter.worker.outbox import Outbox
from wsadapter.worker.websocket.reader import Reader


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    os.set_blocking(writing, False)
    yield reading, writing
    os.close(reading)
    os.close(writing)


def read(fd: int, records: RecordReader) -> list[Record]:
    """The records that are in the pipe now."""
    try:
        return list(records.feed(os.read(fd, 1 << 20)))
    except BlockingIOError:
        return []


FRAGMENTS = server_frame(1, b"th", fin=False) + server_frame(0, b"ree")
STREAM = server_frame(1, b"one") + server_frame(2, b"\xff") + FRAGMENTS + b"\x81"


def test_a_read_becomes_one_record_with_its_bytes_as_they_came(pipe: tuple[int, int]) -> None:
    outbox = Outbox(pipe[1])
    batch = Reader(1000).feed(server_frame(1, b"one") + server_frame(1, b"two") + b"\x81")
    outbox.messages(batch, 77, 1000, 0, 2)
    (record,) = read(pipe[0], RecordReader())
    assert (record.kind, record.sequence, record.received_at, record.position) == (BATCH, 1, 77, 1010)
    assert list(record.payloads) == [b"one", b"two"]
    assert record.size == len(batch.data) - 1
    assert record.binary is False


def test_parts_of_a_read_make_records_of_their_own_around_reports(pipe: tuple[int, int]) -> None:
    outbox = Outbox(pipe[1])
    batch = Reader(1000).feed(STREAM)
    outbox.messages(batch, 0, 0, 0, 1)
    outbox.report(LogLine("info", ""))
    outbox.filtered(5)
    outbox.messages(batch, 0, 0, 1, 3)
    first, report, second = read(pipe[0], RecordReader())
    assert list(first.payloads) == [b"one"]
    assert first.position == 5
    assert report.kind == REPORT
    assert list(second.payloads) == [b"\xff", b"three"]
    assert (second.binary, second.filtered, second.position) == ([True, False], 5, len(STREAM) - 1)


def test_skipped_messages_are_left_out_and_nothing_is_written_for_nothing(pipe: tuple[int, int]) -> None:
    outbox = Outbox(pipe[1])
    batch = Reader(1000).feed(STREAM)
    outbox.messages(batch, 0, 0, 0, 3, {0, 1, 2})
    outbox.messages(batch, 0, 0, 0, 3, {1})
    (record,) = read(pipe[0], RecordReader())
    assert list(record.payloads) == [b"one", b"three"]
    assert record.sequence == 1


def test_what_a_full_pipe_does_not_take_waits_in_order(pipe: tuple[int, int]) -> None:
    outbox = Outbox(pipe[1])
    large = b"x" * 500_000
    outbox.messages(Reader(1 << 20).feed(server_frame(2, large)), 0, 0, 0, 1)
    outbox.report(LogLine("info", "1"))
    outbox.payloads([b"a", b"", b"bc"], [False, True, False], 0, 0)
    assert outbox.backlog
    records, reader = [], RecordReader()
    while outbox.backlog:
        outbox.flush()
        records += read(pipe[0], reader)
    batch, report, payloads = records
    assert list(batch.payloads) == [large]
    assert parse_report(report.report) == LogLine("info", "1")
    assert list(payloads.payloads) == [b"a", b"", b"bc"]
    assert payloads.binary == [False, True, False]
    assert reader.torn == 0


def test_everything_is_discarded_once_the_supervisor_has_closed_the_pipe() -> None:
    reading, writing = os.pipe()
    outbox = Outbox(writing)
    os.close(reading)
    assert not outbox.closed
    outbox.report(LogLine("info", ""))
    assert outbox.closed
    os.close(writing)
    outbox.report(LogLine("info", ""))  # nothing is written to the descriptor any more: that would raise EBADF
    assert outbox.drained


def test_a_supervisor_that_closes_a_full_pipe_leaves_no_backlog() -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    outbox = Outbox(writing)
    outbox.payloads([bytes(500_000)], [True], 0, 0)
    assert outbox.backlog
    assert outbox.full
    os.close(reading)
    assert outbox.flush()
    assert outbox.closed
    assert outbox.drained
    assert not outbox.full
    os.close(writing)


def test_a_record_of_what_was_removed_stands_where_the_last_payloads_ended(pipe: tuple[int, int]) -> None:
    outbox, records = Outbox(pipe[1]), RecordReader()
    outbox.payloads([b"a"], [False], 1, 500)
    outbox.filtered(3)
    outbox.report_filtered()
    assert [(record.position, record.filtered) for record in read(pipe[0], records)] == [(500, 0), (500, 3)]


def test_what_is_corked_goes_up_at_once_and_in_order_through_a_full_pipe(pipe: tuple[int, int]) -> None:
    outbox, records = Outbox(pipe[1]), RecordReader()
    batch = Reader(1000).feed(STREAM)
    os.write(pipe[1], bytes(65536 - 10))  # so much else waits that no record fits
    outbox.cork()
    for _ in range(600):  # together more pieces than one `writev` takes
        outbox.report(LogLine("info", ""))
        outbox.messages(batch, 0, 0, 0, batch.count)
    assert outbox.backlog
    outbox.uncork()
    assert outbox.backlog
    assert os.read(pipe[0], 65536 - 10) == bytes(65536 - 10)
    found = []
    while outbox.backlog:
        outbox.flush()
        found += read(pipe[0], records)
    assert [record.sequence for record in found] == list(range(1, 1201))
    outbox.report(LogLine("info", ""))  # nothing is held back any more
    assert [record.sequence for record in read(pipe[0], records)] == [1201]


def test_what_is_corked_twice_goes_up_when_it_was_uncorked_twice(pipe: tuple[int, int]) -> None:
    outbox, records = Outbox(pipe[1]), RecordReader()
    outbox.cork()
    outbox.cork()
    outbox.report(LogLine("info", ""))
    outbox.uncork()
    assert read(pipe[0], records) == []
    outbox.uncork()
    assert len(read(pipe[0], records)) == 1


def test_a_closed_pipe_is_noticed_when_the_outbox_is_uncorked() -> None:
    reading, writing = os.pipe()
    outbox = Outbox(writing)
    outbox.cork()
    os.close(reading)
    outbox.report(LogLine("info", ""))
    assert not outbox.closed
    outbox.uncork()
    assert outbox.closed
    os.close(writing)


def written(chunks: list[bytes], *, all_told: bool, short: bool) -> bytes:
    """What the pipe gets of these reads, by the short way where there is one, or never by it."""
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 1 << 20)
    outbox, reader, position = Outbox(writing), Reader(1 << 20), 0
    if all_told:
        outbox.report_every_byte(0, 0)
    outbox.filtered(3)
    try:
        for chunk in chunks:
            size = reader.single_text(chunk) if short else -1
            if size >= 0:
                outbox.single_text(chunk, size, 7, position)
            else:
                batch = reader.feed(chunk)
                before = position + len(chunk) - len(batch.data)
                if batch.count:
                    outbox.messages(batch, 7, before, 0, batch.count)
                outbox.cover_rest(batch, 7, before)
                if batch.violation is not None:
                    break
            position += len(chunk)
        os.close(writing)
        writing = -1
        with os.fdopen(reading, "rb", closefd=False) as pipe:
            return pipe.read()
    finally:
        for fd in (reading, writing):
            if fd >= 0:
                os.close(fd)


texts = st.one_of(
    st.text("ab\u20ac", max_size=130).map(str.encode), st.sampled_from([0, 1, 125, 126, 127, 4000, 65535, 65536]).map(bytes)
)
frames = st.one_of(
    st.builds(server_frame, st.just(1), texts),
    st.builds(server_frame, st.just(1), st.just(b"\xff no text")),
    st.builds(server_frame, st.sampled_from([2, 9, 8]), st.binary(max_size=20)),
    st.sampled_from([FRAGMENTS, server_frame(1, b"th", fin=False), b"\x81\x7e\x00\x01a", b"\xc1\x01a", b"\x81\x81aaaaa"]),
)


@given(st.lists(frames, min_size=1, max_size=8), st.data(), st.booleans())
def test_a_single_text_goes_a_shorter_way_to_the_same_bytes(each: list[bytes], data: st.DataObject, all_told: bool) -> None:
    chunks = list(each)
    for _ in range(data.draw(st.integers(0, 3))):  # some reads are not what one frame is
        at = data.draw(st.integers(0, len(chunks) - 1))
        cut = data.draw(st.integers(0, len(chunks[at])))
        chunks[at : at + 2] = [chunks[at][:cut], chunks[at][cut:] + b"".join(chunks[at + 1 : at + 2])]
    chunks = [chunk for chunk in chunks if chunk]
    assert written(chunks, all_told=all_told, short=True) == written(chunks, all_told=all_told, short=False)


def test_the_shorter_way_is_taken() -> None:
    reader = Reader(1 << 20)
    assert [reader.single_text(server_frame(1, bytes(size))) for size in (2, 125, 126, 4000)] == [2, 125, 126, 4000]
    assert reader.single_text(server_frame(2, b"binary")) == -1
