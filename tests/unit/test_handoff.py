"""The lossless handoff as pure logic: whatever the bytes, the reads and the instants of death, every message arrives once."""

from __future__ import annotations

import os
import socket
import struct
import time
from dataclasses import dataclass, field
from itertools import accumulate
from math import inf, nan
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.rawserver import server_frame
from wsadapter.contract.ipc.assignment import Custody
from wsadapter.contract.ipc.commands import CUSTODY, AnnounceCommand, Command
from wsadapter.contract.ipc.record import CONTINUES, CorruptRecord, RecordReader, encode
from wsadapter.contract.ipc.tcp_info import CLOSE_WAIT, ESTABLISHED, Counters
from wsadapter.handoff.held_connection import Announced, HeldConnection, NotResumable, Resumption
from wsadapter.process.owner_connection import held_connection
from wsadapter.worker import outbox
from wsadapter.worker.outbox import Outbox
from wsadapter.worker.session.actions import Deliver
from wsadapter.worker.session.json_array import split
from wsadapter.worker.session.read_splitter import ReadSplitter
from wsadapter.worker.websocket.byte_stream import PlainByteStream
from wsadapter.worker.websocket.reader import Reader, ReadResult
from wsadapter.worker.websocket.sender import Sender

LIMIT = 1 << 20


class Pipe(Outbox):
    """An outbox whose records can be looked at, and cut off anywhere."""

    def __init__(self) -> None:
        super().__init__(-1)
        self.written = bytearray()

    def _write(self, *parts: bytes | memoryview) -> None:
        self.written += b"".join(parts)


@dataclass
class World:
    """A kernel's socket buffer with all that the peer sends, and the supervisor's view."""

    stream: bytes
    taken: int = 0
    position: int = 0
    tail: bytes = b""
    delivered: list[bytes] = field(default_factory=list)
    splits: bool = False
    """Whether each element of an array is a message."""

    def live(self, reads: list[int], parts: list[int], death: int) -> bool:
        """One owner's life: so many bytes a read, records of so many messages; it dies after `death` bytes of its pipe.
        Whether it came to the end of the stream."""
        pipe, reader = Pipe(), Reader(LIMIT)
        pipe.report_every_byte(self.position, len(self.tail))
        hand_over(pipe, self._apart(reader.feed(self.tail)), self.position - len(self.tail), parts)
        begun = self.taken + (self.position - self.taken)
        seen = begun
        for size in reads:
            if len(pipe.written) >= death:
                break
            self.taken = seen  # discarded: all of it was written
            chunk = self.stream[seen : seen + size]
            seen += len(chunk)
            batch = self._apart(reader.feed(chunk))
            hand_over(pipe, batch, seen - len(batch.data), parts)
        self.bury(bytes(pipe.written[:death]))
        return self.position == len(self.stream)

    def _apart(self, batch: ReadResult) -> ReadResult:
        return split(batch) if self.splits else batch

    def bury(self, written: bytes) -> None:
        records = RecordReader(position=self.position, tail=self.tail)
        for record in records.feed(written):
            self.delivered += record.payloads
        self.position, self.tail = records.position, records.tail()
        assert self.position >= self.taken, "bytes left the kernel that are in no record"
        assert self.stream[: self.position].endswith(self.tail)


def hand_over(pipe: Pipe, batch: ReadResult, position: int, parts: list[int]) -> None:
    """As an owner does: in records of some messages each, those that begin with an "s" left out, then the rest of the read."""
    splitter = ReadSplitter(batch, streams=False, identities=False)
    pieces: list[Deliver] = []
    ends = set(accumulate(parts))
    for at in range(batch.count):
        if at in ends:
            pieces += splitter.emit_up_to(at)
        if batch.payload(at).startswith((b"s", b'"s')):
            splitter.skip(at)
    for piece in [*pieces, *splitter.emit_up_to(batch.count)]:
        pipe.messages(batch, 1, position, piece.first, piece.last, piece.skipped)
    pipe.cover_rest(batch, 1, position)


ARRAYS = {
    b'[1,"s2",[3]]': [b"1", b"[3]"], b' [ {"a": 1.50} ,"s"]\n': [b'{"a": 1.50}'], b'["skipped"]': [], b"[]": [b"[]"],
    b"[0,": [b"[0,"],
    b'["' + b"z" * 300 + b'","s",9]': [b'"' + b"z" * 300 + b'"', b"9"],
}  # fmt: skip


@st.composite
def streams(draw: st.DrawFn) -> tuple[bytes, list[bytes]]:
    """Bytes of a peer, and the messages in them, of which arrays in texts are several."""
    data, messages = b"", []
    for _ in range(draw(st.integers(0, 12))):
        payload = draw(st.sampled_from([b"", b"a", b"skipped", b"longer message", b"x" * 200, b"y" * 700, *ARRAYS]))
        opcode = draw(st.sampled_from([1, 2]))
        cuts = sorted(draw(st.lists(st.integers(0, len(payload)), max_size=3)))
        pieces = [payload[a:b] for a, b in zip([0, *cuts], [*cuts, len(payload)], strict=True)]
        for at, piece in enumerate(pieces):
            data += server_frame(opcode if at == 0 else 0, piece, fin=at == len(pieces) - 1)
            data += draw(st.sampled_from([b"", b"", b"", server_frame(9, b"ping")]))
        if opcode == 1 and payload in ARRAYS:
            messages += ARRAYS[payload]
        elif not payload.startswith(b"s"):
            messages.append(payload)
    return data, messages


lives = st.lists(
    st.tuples(
        st.lists(st.integers(1, 400), min_size=1, max_size=30),
        st.lists(st.integers(1, 3), max_size=3),
        st.integers(0, 4000),
    ),
    max_size=8,
)


@given(streams(), lives, st.sampled_from([0, 5, 64 * 1024]))
def test_owners_that_die_anywhere_lose_and_repeat_nothing(
    sent: tuple[bytes, list[bytes]], all_lives: list[tuple[list[int], list[int], int]], repeated: int
) -> None:
    data, messages = sent
    world = World(data, splits=True)
    with patch.object(outbox, "_REPEATED", repeated):
        for reads, parts, death in all_lives:
            if world.live(reads, parts, death):
                break
        world.live([100_000], [], 1 << 30)
        world.live([100_000], [], 1 << 30)
    assert world.delivered == messages


def test_a_message_of_many_reads_goes_through_the_pipe_once() -> None:
    frame = server_frame(2, b"z" * 3_000_000)
    pipe, reader = Pipe(), Reader(1 << 22)
    pipe.report_every_byte(0, 0)
    for at in range(0, len(frame), 100_000):
        batch = reader.feed(frame[at : at + 100_000])
        hand_over(pipe, batch, min(at + 100_000, len(frame)) - len(batch.data), [])
    assert len(pipe.written) < 3_010_000
    (message,) = [payload for record in RecordReader().feed(bytes(pipe.written)) for payload in record.payloads]
    assert message == b"z" * 3_000_000


def test_a_record_can_continue_only_what_is_kept() -> None:
    with pytest.raises(CorruptRecord, match="contradict"):
        list(RecordReader().feed(encode(b"abc", kind=1, sequence=1, received_at=0, tail=4, continues=True)))
    with pytest.raises(CorruptRecord, match="outside"):
        body = encode(b"abc", kind=1, sequence=1, received_at=0, layout="0x4s", count=1, continues=True)
        list(RecordReader(tail=b"").feed(body))
    assert CONTINUES


def test_a_tail_is_bounded_by_the_limit() -> None:
    reader = RecordReader(limit=1000)
    with pytest.raises(CorruptRecord, match="contradict"):
        for sequence in range(1, 10):
            record = encode(b"x" * 200, kind=1, sequence=sequence, received_at=0, tail=200 * sequence, continues=True)
            assert len(list(reader.feed(record))) == 1


# -- the decision ---------------------------------------------------------------------------------------------------------

FRAME = b"\x81\x83maskabc"
PONG = b"\x8a\x80mask"
CLOSE = b"\x88\x82maskxx"


class NoSocket:
    def close(self) -> None:
        """There is none."""


@pytest.fixture
def held() -> HeldConnection:
    """The owner's streams began at 1000 received and 500 sent bytes of the connection."""
    return HeldConnection(NoSocket(), Custody(received=1000, sent=500))  # type: ignore[arg-type]


def plan(held: HeldConnection, kernel: Counters, position: int = 200, tail: bytes = b"tail") -> Resumption:
    return held._planned(kernel, position, tail, {"peer": "p"})


def test_what_is_in_pipe_and_kernel_is_skipped(held: HeldConnection) -> None:
    found = plan(held, Counters(ESTABLISHED, read=1150, unread=80, written=500))
    assert (found.resume.skip, found.resume.position, found.body, found.resume.unread) == (50, 200, b"tail", 30)


@pytest.mark.parametrize("taken", [1201, 1119])
def test_counts_that_contradict_each_other_are_not_trusted(held: HeldConnection, taken: int) -> None:
    with pytest.raises(NotResumable, match="bytes"):
        plan(held, Counters(ESTABLISHED, read=taken, unread=80, written=500))


@pytest.mark.parametrize("state", [2, 4, 5, 7, 9, 10, 11])
def test_a_dead_connection_is_not_handed_on(held: HeldConnection, state: int) -> None:
    with pytest.raises(NotResumable, match="closed"):
        plan(held, Counters(state, read=1200, unread=0, written=500))


def test_what_the_peer_sent_before_its_end_is_still_delivered(held: HeldConnection) -> None:
    assert plan(held, Counters(CLOSE_WAIT, read=1200, unread=5, written=500)).resume.skip == 0
    with pytest.raises(NotResumable, match="closed"):
        plan(held, Counters(CLOSE_WAIT, read=1200, unread=0, written=500))


@pytest.mark.parametrize(
    ("given", "rest", "ref", "sent"),
    [(510, b"", 0, 0), (511, FRAME[1:], 7, 0), (510 + len(FRAME) - 1, FRAME[-1:], 7, 0), (510 + len(FRAME), b"", 0, 7)],
)
def test_an_announced_frame_is_completed_exactly(held: HeldConnection, given: int, rest: bytes, ref: int, sent: int) -> None:
    held.announce(Announced.from_body(7, AnnounceCommand(10, 5.5).head() + FRAME))
    found = plan(held, Counters(ESTABLISHED, read=1200, unread=0, written=given))
    assert (found.body, found.resume.rest, found.resume.ref, found.sent) == (rest + b"tail", len(rest), ref, sent)
    assert found.resume.sent == given - 500


def test_the_next_owner_knows_when_the_pace_allows_the_next_frame() -> None:
    held = HeldConnection(NoSocket(), Custody(received=1000, sent=500, allowed_at=3.5))  # type: ignore[arg-type]
    kernel = Counters(ESTABLISHED, read=1200, unread=0, written=510)
    assert plan(held, kernel).resume.allowed_at == 3.5
    held.announce(Announced.from_body(7, AnnounceCommand(10, 5.5).head() + FRAME))
    assert plan(held, kernel).resume.allowed_at == 5.5


@pytest.mark.parametrize("body", [b"", bytes(15), AnnounceCommand(0, inf).head(), AnnounceCommand(0, nan).head()])
def test_an_announcement_that_makes_no_sense_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError, match="not a"):
        Announced.from_body(1, body)


def test_a_connection_that_was_being_closed_is_not_handed_on(held: HeldConnection) -> None:
    held.announce(Announced.from_body(0, AnnounceCommand(0, 0.0).head() + CLOSE))
    with pytest.raises(NotResumable, match="close"):
        plan(held, Counters(ESTABLISHED, read=1200, unread=0, written=500))


def test_an_owner_that_counted_what_was_never_sent_is_not_trusted(held: HeldConnection) -> None:
    with pytest.raises(NotResumable, match="counted"):
        plan(held, Counters(ESTABLISHED, read=1200, unread=0, written=499))


# -- an owner that may say anything --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{}", b'{"received":0}', b'{"received":-1,"sent":0}', b'{"received":0,"sent":9223372036854775808}',
     b'{"received":0,"sent":1e300}', b'{"received":"1","sent":0}', b'{"received":null,"sent":0}',
     b'{"received":0,"sent":0}', b'{"received":0,"sent":0,"allowed_at":null}'],
)  # fmt: skip
def test_a_custody_that_makes_no_sense_is_refused_and_its_socket_closed(body: bytes) -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        with pytest.raises(ValueError, match="invalid"):
            held_connection(Command(CUSTODY, 0, body), ours.detach())
        assert theirs.recv(1) == b""


def test_what_is_no_socket_is_not_taken_into_custody() -> None:
    reading, writing = os.pipe()
    with pytest.raises(ValueError, match="invalid"):
        held_connection(Command(CUSTODY, 0, b'{"received":0,"sent":0}'), writing)
    assert os.read(reading, 1) == b""  # it was closed
    os.close(reading)


def test_an_owner_can_not_make_the_supervisor_wait_for_the_peer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        theirs, _ = listener.accept()
    with theirs:
        ours.setblocking(False)
        with pytest.raises(BlockingIOError):
            while True:
                ours.send(bytes(65536))
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 5))
        began = time.monotonic()
        HeldConnection(ours, Custody(received=0, sent=0)).close()
        assert time.monotonic() - began < 2.5


# -- what is sent --------------------------------------------------------------------------------------------------------


class Wire(PlainByteStream):
    """Takes everything, and notes it."""

    def __init__(self, told: list[object]) -> None:
        self._told = told

    def send(self, sealed: memoryview) -> int:
        self._told.append(bytes(sealed))
        return len(sealed)


def test_that_a_frame_is_out_is_told_before_the_next_one_is_announced() -> None:
    told: list[object] = []
    sender = Sender(Wire(told))
    sender.announce = lambda ref, _position, _frame, _allowed_at: told.append(("announced", ref)) or True
    for ref, frame in ((1, b"one"), (2, b"two")):
        sender.put(frame, ref=ref)
    for ref in sender.flush(0.0):
        told.append(("taken", ref))
    assert told == [("announced", 1), b"one", ("taken", 1), ("announced", 2), b"two", ("taken", 2)]


def test_a_frame_whose_announcement_waits_has_no_time_at_which_to_try_again() -> None:
    told: list[object] = []
    sender, hears = Sender(Wire(told)), False
    sender.announce = lambda *_: hears
    sender.put(b"one")
    assert list(sender.flush(5.0)) == []
    assert sender.has_waiting
    assert sender.paced_until() is None
    hears = True
    assert list(sender.flush(6.0)) == []
    assert told == [b"one"]
