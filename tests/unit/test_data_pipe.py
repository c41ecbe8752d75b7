"""The pipe of an owner's records: order, limits, what a dead process has left, and what is no record."""

from __future__ import annotations

import gc
import multiprocessing
import os
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

from wsadapter.contract.endpoint import Endpoint
from wsadapter.contract.ipc.record import BATCH, REPORT, Record, RecordReader, SingleMessage, encode, encode_single_head, field
from wsadapter.contract.reasons import Reason
from wsadapter.loop.reactor import Reactor
from wsadapter.process.data_pipe import DataPipe


class Owner:
    """A process, and its listener: what it was given, in order."""

    def __init__(self, reactor: Reactor) -> None:
        self.came: list[Any] = []
        self.aborted: list[Reason] = []
        ours, self.theirs = multiprocessing.Pipe(duplex=False)
        self.pipe: DataPipe[Owner] = DataPipe(reactor, self, self, self.aborted.append, 0)
        self.pipe.open(ours)
        self.pipe.watch()

    def on_record(self, process: Owner, received: Record) -> None:
        assert process is self
        self.came.append(received.report if received.kind == REPORT else list(received.payloads))

    def on_single(self, process: Owner, single: SingleMessage) -> None:
        assert process is self
        self.came.append(bytes(single[0]))

    def write(self, data: bytes) -> None:
        assert os.write(self.theirs.fileno(), data) == len(data)


@pytest.fixture
def owner(reactor: Reactor) -> Iterator[Owner]:
    owner = Owner(reactor)
    yield owner
    owner.pipe.close()
    owner.theirs.close()


def single(sequence: int, text: bytes) -> bytes:
    head = encode_single_head(sequence=sequence, received_at=1, position=10, size=len(text), frame=len(text) + 2, filtered=0)
    return head + b"\x81" + bytes([len(text)]) + text


def report(sequence: int, body: bytes) -> bytes:
    return encode(body, kind=REPORT, sequence=sequence, received_at=1)


def pair(sequence: int) -> bytes:
    return encode(b"abcd", kind=BATCH, sequence=sequence, received_at=1, layout=field(0, 2) * 2, count=2)


def test_records_come_in_their_order_and_one_that_is_one_message_by_its_short_way(owner: Owner) -> None:
    for record in (single(1, b"first"), single(2, b"other"), report(3, b"{}") + pair(4)):
        owner.write(record)
        assert owner.pipe.read() == len(record)
    assert owner.came == [[b"first"], b"other", b"{}", [b"ab", b"cd"]]  # the first of its size shows how the others look
    assert owner.pipe.read() == 0


def test_a_record_that_was_not_finished_is_counted_and_dropped(owner: Owner) -> None:
    owner.write(report(1, b"{}") + pair(2)[:-1])
    owner.theirs.close()
    owner.pipe.drain()
    assert owner.came == [b"{}"]
    assert owner.pipe.torn == len(pair(2)) - 1


def test_invalid_bytes_end_the_reading_and_the_owner(owner: Owner, reactor: Reactor) -> None:
    owner.write(b"\xff" * 200)
    owner.pipe.read()
    assert [reason.kind for reason in owner.aborted] == ["corrupt"]
    assert not reactor.dispatcher.is_registered(owner.pipe.fileno())


def test_a_message_that_does_not_fit_into_memory_ends_only_its_owner(
    owner: Owner, reactor: Reactor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(size: int) -> None:
        raise MemoryError

    before = owner.pipe.records
    monkeypatch.setattr(before, "single", fail)
    owner.write(b"x" * 100)
    owner.pipe.read()
    assert not reactor.dispatcher.is_registered(owner.pipe.fileno())
    (reason,) = owner.aborted
    assert reason.kind == "overflow"
    assert "no memory" in reason.text
    assert owner.pipe.records is not before  # what it had of the message is free


def test_a_record_longer_than_the_endpoint_allows_is_corrupt(owner: Owner) -> None:
    owner.pipe.expect(Endpoint("a", url="ws://localhost", max_message=1024))
    head = bytearray(report(1, b"{}"))
    limit = owner.pipe.records.limit
    assert 2 * 1024 < limit < 1 << 30
    owner.pipe.continue_at(100, b"tail")
    assert (owner.pipe.records.limit, owner.pipe.records.position, owner.pipe.records.tail()) == (limit, 100, b"tail")
    owner.write(bytes(head))
    owner.pipe.read()
    assert owner.came == [b"{}"]


def test_nothing_is_read_while_it_is_paused_but_what_a_dead_process_left(owner: Owner, reactor: Reactor) -> None:
    owner.pipe.pause()
    owner.write(report(1, b"1"))
    reactor.try_turn()
    assert owner.came == []
    owner.pipe.resume()
    reactor.try_turn()
    assert owner.came == [b"1"]
    owner.pipe.pause()
    owner.write(report(2, b"2"))
    owner.theirs.close()
    owner.pipe.drain()
    assert owner.came == [b"1", b"2"]


def test_one_that_was_paused_is_paused_when_it_is_watched_again(owner: Owner, reactor: Reactor) -> None:
    owner.pipe.pause()
    owner.pipe.unwatch()
    owner.pipe.watch()
    owner.write(report(1, b"1"))
    reactor.try_turn()
    assert owner.came == []


def test_another_reader_goes_on_in_the_middle_of_a_record(owner: Owner, reactor: Reactor) -> None:
    record = pair(1)
    owner.write(record[:20])
    owner.pipe.read()
    snapshot = owner.pipe.records.snapshot()
    successor = Owner(reactor)
    successor.pipe.records = RecordReader.from_snapshot(snapshot)
    successor.write(record[20:])
    successor.pipe.read()
    assert successor.came == [[b"ab", b"cd"]]
    successor.pipe.close()
    successor.theirs.close()


def test_a_closed_pipe_refers_to_no_callback(reactor: Reactor) -> None:
    """Its buffer may be large: it must be free without the garbage collector."""
    owner = Owner(reactor)
    owner.pipe.close()
    owner.pipe.close()
    owner.theirs.close()
    found = weakref.ref(owner)
    gc.disable()
    try:
        del owner
        assert found() is None
    finally:
        gc.enable()
