"""What messages cost, without a clock: system calls, Python calls and allocations, with bounds.

A regression that only a benchmark would show, such as a record or a function call per message, fails here. The bounds leave
room for what varies; what they are there for is a hundred times beyond them.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
import sys
import threading
import tracemalloc
from collections import Counter, deque
from collections.abc import Callable
from itertools import repeat
from pathlib import Path
from types import FrameType

import pytest

from tests.support.feeds import DEADLINE, collect
from wsadapter import Batch, Message, Supervisor, Up
from wsadapter.contract.endpoint import Buffer, Endpoint, Heartbeat
from wsadapter.contract.ipc.assignment import Assignment, Custody, Resume
from wsadapter.contract.ipc.commands import ASSIGN, HANDOFF, encode_command
from wsadapter.contract.ipc.record import BATCH, REPORT, RecordReader, encode, encode_single_head, field
from wsadapter.contract.ipc.reports import parse_report
from wsadapter.delivery.inbox import Backlog, Inbox, queue_batch
from wsadapter.testing import Exchange
from wsadapter.testing.frames import TEXT, encode_frame
from wsadapter.worker.loop.wakeup import Wakeup
from wsadapter.worker.outbox import Outbox
from wsadapter.worker.owner.loop import Owner
from wsadapter.worker.websocket.reader import Reader

pytestmark = pytest.mark.version

COUNT = 10_000
SIZE = 200
FRAME = encode_frame(TEXT, b"x" * SIZE)
HEADER = len(FRAME) - SIZE


def calls(work: Callable[[], object]) -> Counter[str]:
    """How many Python functions ("call") and C functions ("c_call") it calls."""
    found: Counter[str] = Counter()

    def note(_frame: FrameType, event: str, _argument: object) -> None:
        found[event] += 1

    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(None)
    return found


def record(sequence: int, count: int) -> bytes:
    """What an owner writes for `count` messages."""
    layout = field(HEADER, SIZE) * count
    return encode(FRAME * count, kind=BATCH, sequence=sequence, received_at=1, layout=layout, count=count)


class Parent:
    """The way of a record through the parent."""

    def __init__(self) -> None:
        self._records, self._inbox = RecordReader(), Inbox()
        self._backlog = Backlog("a", Buffer())

    def take(self, data: bytes) -> list[object]:
        for received in self._records.feed(data):
            self._inbox.put(queue_batch(received, self._backlog, epoch=1, first=1, streams=None))
        self._inbox.take(as_batches=False)
        return list(self._inbox.current)

    def pass_on(self, data: bytes) -> int:
        """As a consumer that keeps nothing; the number of the last message."""
        for received in self._records.feed(data):
            self._inbox.put(queue_batch(received, self._backlog, epoch=1, first=1, streams=None))
        self._inbox.take(as_batches=False)
        (last,) = deque(self._inbox.current, maxlen=1)
        return int(last.number)


@pytest.fixture
def pipe() -> tuple[int, int]:  # type: ignore[misc]
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    yield reading, writing
    os.close(reading)
    os.close(writing)


def io_calls(pid: int) -> Counter[str]:
    """read(2) and write(2) and their kin, so far. `recv` and `send` are not among them."""
    lines = Path(f"/proc/{pid}/io").read_text("utf-8").splitlines()
    return Counter({name: int(value) for name, _, value in (line.partition(": ") for line in lines)})


@pytest.mark.native
@pytest.mark.parametrize("tls", [False, True], ids=["ws", "wss"])
def test_what_has_piled_up_comes_in_few_records_and_few_system_calls(tls: bool) -> None:
    messages = ["x" * SIZE] * COUNT
    with Exchange(messages=messages, tls=tls) as ex, Supervisor([ex.endpoint("a")]) as feed:
        ex.pause()
        collect(feed, lambda item: isinstance(item, Up))
        owner = feed.status()["endpoints"]["a"]["pid"]
        os.kill(owner, signal.SIGSTOP)
        ex.resume()
        ex.wait_for(lambda: sum(ex.sent.values()) == COUNT, DEADLINE)
        before = {pid: io_calls(pid) for pid in (os.getpid(), owner)}
        os.kill(owner, signal.SIGCONT)
        batches, received = 0, 0
        for batch in feed.batches():
            if isinstance(batch, Batch):
                batches, received = batches + 1, received + len(batch)
            if received == COUNT:
                break
        spent = {pid: io_calls(pid) - before[pid] for pid in before}
    assert batches <= COUNT / 50
    assert spent[owner]["syscw"] <= COUNT / 20  # one writev per record
    assert spent[os.getpid()]["syscr"] <= COUNT / 20  # the reads of the pipe


def test_the_parent_calls_no_function_per_message() -> None:
    parent = Parent()
    one, many = record(1, 1), record(2, COUNT)
    few = calls(lambda: parent.pass_on(one))
    lot = calls(lambda: parent.pass_on(many))
    assert few["call"] <= 25
    assert few["c_call"] <= 35
    assert lot["call"] <= few["call"] + 16
    assert lot["c_call"] <= few["c_call"] + 32  # messages are made by iterators written in C


def test_a_single_message_has_a_short_way_through_the_parent() -> None:
    reader, inbox, backlog = RecordReader(), Inbox(), Backlog("a", Buffer())
    inbox.messages.accepting = True
    data = FRAME[-SIZE:]
    first, head = (
        encode_single_head(sequence=n, received_at=1, position=n * len(FRAME), size=SIZE, frame=len(FRAME), filtered=0)
        for n in (1, 2)
    )
    list(reader.feed(first + FRAME))
    came = len(head) + len(FRAME)
    reader.room[:came] = head + FRAME

    def take() -> None:
        single = reader.single(came)
        assert single is not None
        assert inbox.put_single(Message("a", single.data, 1, 1, single.received_at), backlog)

    spent = calls(take)
    assert [item.data for item in inbox.current] == [data]
    assert spent["call"] <= 10
    assert spent["c_call"] <= 16


def test_a_single_message_has_a_short_way_through_the_owner(pipe: tuple[int, int]) -> None:
    reader, outbox = Reader(1 << 20), Outbox(pipe[1])
    spent = calls(lambda: outbox.single_text(FRAME, reader.single_text(FRAME), 1, 0))
    assert spent["call"] <= 6
    assert spent["c_call"] <= 22
    assert os.read(pipe[0], 1 << 16).endswith(FRAME)


class SingleMessages:
    """An owner's whole loop in this process, on a connection that outlived another owner, and its supervisor and exchange: each
    message is sent when the record of the one before it has come."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._pipe, self._owner_pipe = os.pipe()
        self._control, self._owner_control = socket.socketpair()
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self._connection = socket.create_connection(listener.getsockname())
            self._exchange, _ = listener.accept()
        os.set_blocking(self._owner_pipe, False)
        self._owner_control.setblocking(False)
        self._wakeup = Wakeup()
        self._feeder = threading.Thread(target=self._feed)

    def calls(self) -> int:
        """How many Python functions the owner calls in its whole life."""
        resume = Resume(
            custody=Custody(received=0, sent=0), position=0, skip=0, sent=0, rest=0, ref=0,
            up={"headers": {}, "subprotocol": None, "peer": "127.0.0.1:1"},
        )  # fmt: skip
        endpoint = Endpoint("a", url="ws://127.0.0.1:1", heartbeat=Heartbeat(kind="none"))
        assignment = Assignment(endpoint=endpoint, epoch=2, url=endpoint.url, custody=True, resume=resume)
        socket.send_fds(self._control, [encode_command(HANDOFF)], [self._connection.fileno()])
        self._connection.close()
        self._control.sendall(encode_command(ASSIGN, 0, assignment.to_body()))
        owner = Owner(self._owner_pipe, self._owner_control, self._wakeup)
        self._feeder.start()
        try:
            return calls(owner.run)["call"]
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)  # the owner's alarm
            self._feeder.join()
            for sock in (self._control, self._owner_control, self._exchange):
                sock.close()
            for fd in (self._pipe, self._owner_pipe, self._wakeup.fd, self._wakeup._write_end):
                os.close(fd)

    def _feed(self) -> None:
        records = RecordReader()
        received = sent = 0
        while received < self._count:
            for record in records.feed(os.read(self._pipe, 1 << 16)):
                received += len(record.payloads)
                if record.kind == REPORT and parse_report(record.report).event == "up":
                    sent = 1
                    self._exchange.sendall(FRAME)
            if sent and received == sent < self._count:
                sent += 1
                self._exchange.sendall(FRAME)
        self._control.shutdown(socket.SHUT_RDWR)  # the owner ends
        self._exchange.shutdown(socket.SHUT_RDWR)


def test_a_single_message_takes_thirteen_calls_in_the_whole_loop_of_an_owner() -> None:
    SingleMessages(1).calls()  # what is imported, and what dataclasses find out, at the first use
    few, lot = (SingleMessages(count).calls() for count in (10, 510))
    assert (lot - few) / 500 < 13.5  # a loop that waits long looks around in between


def test_messages_that_are_not_kept_need_no_garbage_collection() -> None:
    parent = Parent()
    parent.pass_on(record(1, 1))
    data = record(2, COUNT)
    before = [generation["collections"] for generation in gc.get_stats()]
    assert parent.pass_on(data) == COUNT
    assert sum(generation["collections"] for generation in gc.get_stats()) <= sum(before) + 1


def test_the_owner_calls_no_python_function_per_message(pipe: tuple[int, int]) -> None:
    reader, outbox = Reader(1 << 20), Outbox(pipe[1])

    def work(count: int) -> Callable[[], object]:
        chunk = FRAME * count
        return lambda: outbox.messages(batch := reader.feed(chunk), 1, 0, 0, batch.count)

    few, lot = calls(work(1)), calls(work(COUNT))
    assert few["call"] <= 30
    assert lot["call"] <= few["call"] + 5
    assert lot["c_call"] <= few["c_call"] + 4 * COUNT


def test_a_message_is_a_tuple_a_payload_and_a_number() -> None:
    parent = Parent()
    parent.take(record(1, 1))
    data = record(2, COUNT)
    before = sys.getallocatedblocks()
    held = parent.take(data)
    blocks = sys.getallocatedblocks() - before
    assert len(held) == COUNT
    assert isinstance(held[0], Message)
    assert blocks <= 3.2 * COUNT


def test_the_parent_needs_no_more_memory_than_the_messages_their_record_and_its_buffer() -> None:
    parent = Parent()
    parent.take(record(1, 1))
    data = record(2, COUNT)
    tracemalloc.start()
    try:
        held = parent.take(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    mine = sum(sys.getsizeof(message) + sys.getsizeof(message.data) + 32 for message in held if isinstance(message, Message))
    assert peak <= 1.8 * mine


def test_records_that_come_one_by_one_leave_nothing_behind() -> None:
    parent = Parent()
    records = [record(n + 1, 1) for n in range(300)]
    for data in records[:100]:
        parent.take(data)
    before = sys.getallocatedblocks()
    for data in records[100:]:
        parent.take(data)
    assert sys.getallocatedblocks() - before < 50


def test_a_message_in_pieces_is_not_copied_for_each_of_them() -> None:
    """The bytes held at most are those of the message and of one read, not of each prefix of it."""
    reader, piece = Reader(64 << 20), 1 << 16
    frame = encode_frame(TEXT, b"x" * (8 << 20))
    tracemalloc.start()
    try:
        batches = [reader.feed(frame[at : at + piece]) for at in range(0, len(frame), piece)]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert sum(batch.count for batch in batches) == 1
    assert peak <= 4 * len(frame)


def test_empty_messages_cost_no_more_than_others(pipe: tuple[int, int]) -> None:
    reader, outbox = Reader(1 << 20), Outbox(pipe[1])
    chunk = b"".join(repeat(encode_frame(TEXT, b""), COUNT))
    spent = calls(lambda: outbox.messages(batch := reader.feed(chunk), 1, 0, 0, batch.count))
    assert spent["call"] <= 40
