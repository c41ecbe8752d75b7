"""The order of messages and reports behind a decode hook, through a real pipe. The hook's thread is not part of it: the decoder
here answers when the test lets it."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator

import pytest

from tests.support.rawserver import server_frame
from wsadapter.contract.ipc.record import Record, RecordReader
from wsadapter.contract.ipc.reports import LogLine, Report, parse_report
from wsadapter.worker.hooks.decode_stage import DecodeStage
from wsadapter.worker.hooks.decode_thread import Payloads
from wsadapter.worker.outbox import Outbox
from wsadapter.worker.session.actions import Deliver
from wsadapter.worker.websocket.reader import Reader, ReadResult


class Decoder:
    """Makes upper case of each message, filters "no", and is asked for results as the real decoder is."""

    def __init__(self) -> None:
        self.full = False
        self._queued: deque[Payloads | Report] = deque()
        self._done: deque[Payloads | Report] = deque()

    @property
    def idle(self) -> bool:
        return not self._queued and not self._done

    def put(self, item: Payloads | Report) -> None:
        self._queued.append(item)

    def work(self) -> None:
        self._done += map(self._decoded, self._queued)
        self._queued.clear()

    @staticmethod
    def _decoded(item: Payloads | Report) -> Payloads | Report:
        if isinstance(item, Report):
            return item
        kept = [payload.upper() for payload in item.payloads if payload != b"no"]
        filtered = len(item.payloads) - len(kept)
        return Payloads(item.received_at, item.position, kept, [False] * len(kept), [0] * len(kept), None, filtered)

    def take(self) -> list[Payloads | Report]:
        return [self._done.popleft()] if self._done else []

    def stuck_for(self, now: float) -> float:
        return now - 100.0


class Pipe:
    def __init__(self) -> None:
        self.reading, writing = os.pipe()
        os.set_blocking(self.reading, False)
        os.set_blocking(writing, False)
        self.outbox = Outbox(writing)
        self.writing = writing
        self._records = RecordReader()

    def read(self) -> list[Record]:
        try:
            return list(self._records.feed(os.read(self.reading, 1 << 20)))
        except BlockingIOError:
            return []


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    pipe = Pipe()
    yield pipe
    os.close(pipe.reading)
    os.close(pipe.writing)


def behind(pipe: Pipe, decoder: Decoder) -> DecodeStage:
    return DecodeStage(decoder, pipe.outbox)  # type: ignore[arg-type]


def batch(*texts: bytes) -> ReadResult:
    return Reader(1 << 20).feed(b"".join(server_frame(1, text) for text in texts))


def test_messages_and_reports_keep_their_order(pipe: Pipe) -> None:
    decoder = Decoder()
    stage, messages = behind(pipe, decoder), batch(b"one", b"no", b"two")
    stage.deliver(Deliver(messages, 0, 1, filtered=4), 7, 100)
    stage.report(LogLine("info", "x"))
    stage.deliver(Deliver(messages, 1, 3, frozenset({1})), 8, 100)
    assert stage.flush()
    assert pipe.read() == []
    assert not stage.drained  # the decoder has them
    decoder.work()
    assert stage.flush()
    first, report, second = pipe.read()
    assert (list(first.payloads), first.received_at, first.position, first.filtered) == ([b"ONE"], 7, 105, 4)
    assert parse_report(report.report) == LogLine("info", "x")
    assert (list(second.payloads), second.position) == ([b"TWO"], 100 + len(messages.data))
    assert stage.drained


def test_what_the_hook_filters_is_counted_in_the_next_record(pipe: Pipe) -> None:
    decoder = Decoder()
    stage = behind(pipe, decoder)
    stage.deliver(Deliver(batch(b"no"), 0, 1), 7, 0)
    stage.deliver(Deliver(batch(b"a"), 0, 1), 7, 4)
    decoder.work()
    stage.flush()
    (record,) = pipe.read()
    assert (list(record.payloads), record.filtered) == ([b"A"], 1)


def test_results_wait_in_the_decoder_while_the_pipe_is_full(pipe: Pipe) -> None:
    decoder = Decoder()
    stage = behind(pipe, decoder)
    for text in (b"x" * 300_000, b"last"):
        stage.deliver(Deliver(batch(text), 0, 1), 7, 0)
    decoder.work()
    assert not stage.flush()
    assert stage.full
    assert not decoder.idle
    found: list[Record] = []
    while not stage.drained:
        found += pipe.read()
        stage.flush()
    found += pipe.read()
    assert [bytes(record.payloads[0])[-4:] for record in found] == [b"XXXX", b"LAST"]
    assert not stage.full


def test_a_decoder_that_is_behind_stops_the_reading_only_while_somebody_reads_the_pipe(pipe: Pipe) -> None:
    decoder = Decoder()
    stage = behind(pipe, decoder)
    assert not stage.full
    decoder.full = True
    assert stage.full
    pipe.outbox.close()
    assert not stage.full
    stage.deliver(Deliver(batch(b"a"), 0, 1), 7, 0)
    decoder.work()
    assert stage.flush()
    assert stage.drained
    assert pipe.read() == []


def test_the_time_in_the_hook_is_the_decoder_s(pipe: Pipe) -> None:
    assert behind(pipe, Decoder()).stuck_for(103.0) == 3.0
    assert pipe.outbox.stuck_for(103.0) == 0.0
