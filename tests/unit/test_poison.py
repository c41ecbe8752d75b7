"""Where a message ends, by its frames' headers alone; and whether owners die of one."""

from __future__ import annotations

import socket

from hypothesis import given
from hypothesis import strategies as st

from wsadapter.contract.framing import message_end
from wsadapter.handoff.poison import FRUITLESS, Suspicion
from wsadapter.testing.frames import encode_frame
from wsadapter.worker.websocket.byte_stream import PlainByteStream
from wsadapter.worker.websocket.connection import Connection, Established

payloads = st.one_of(st.binary(max_size=200), st.integers(125, 127).map(bytes), st.just(bytes(70_000)))


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    """One in fragments, with control frames between them."""
    parts = draw(st.lists(payloads, min_size=1, max_size=4))
    frames = []
    for place, part in enumerate(parts):
        frames.append(encode_frame(1 if not place else 0, part, fin=place == len(parts) - 1))
        if place < len(parts) - 1 and draw(st.booleans()):
            frames.append(encode_frame(draw(st.sampled_from([9, 10])), draw(st.binary(max_size=20))))
    return b"".join(frames)


@given(messages(), st.binary(max_size=30), st.data())
def test_a_message_ends_with_its_last_fragment(message: bytes, behind: bytes, data: st.DataObject) -> None:
    assert message_end(message + behind) == len(message)
    assert message_end(message[: data.draw(st.integers(0, len(message) - 1))]) is None


def test_what_a_client_would_send_is_no_message_of_a_server() -> None:
    assert message_end(bytes([0x81, 0x81, 1, 2, 3, 4, 5])) is None


def test_only_deaths_while_reading_at_the_same_place_make_a_poison() -> None:
    suspicion = Suspicion()
    assert not any(suspicion.died(100, None) for _ in range(10))
    assert not any(suspicion.died(100, 40) for _ in range(10))  # it had begun elsewhere, and came this far
    assert not suspicion.holds(100)
    assert [suspicion.died(100, 100) for _ in range(FRUITLESS)] == [False, False, True]


def test_an_owner_that_was_killed_in_between_makes_a_place_neither_more_nor_less_suspicious() -> None:
    suspicion = Suspicion()
    assert [suspicion.died(100, reading) for reading in (100, None, 100, None, 100)] == [False, False, False, False, True]


def test_a_stream_that_went_on_is_suspicious_no_more() -> None:
    suspicion = Suspicion()
    suspicion.died(100, 100)
    suspicion.died(100, 100)
    assert suspicion.holds(100)
    assert not suspicion.holds(101)
    assert not suspicion.died(101, 101)
    assert [suspicion.died(100, 100) for _ in range(FRUITLESS)] == [False, False, True]


@given(st.lists(messages(), min_size=1, max_size=5), st.data())
def test_a_careful_owner_reads_no_further_than_to_the_end_of_a_message(stream: list[bytes], data: st.DataObject) -> None:
    begun = stream[0][: data.draw(st.integers(0, len(stream[0]) - 1))]
    peer, sock = socket.socketpair()
    with peer, sock:
        sock.setblocking(False)
        connection = Connection(Established(PlainByteStream(sock), None, {}, "", begun), max_message=1 << 20, pace=0.0)
        connection.leave_in_kernel()
        peer.sendall(b"".join(stream)[len(begun) :][:60_000])
        left = 60_000
        for whole in stream:
            chunk = connection.receive_inherited(left, begun)
            expected = whole[len(begun) :]
            assert chunk == expected[:left]
            left -= len(chunk)
            if len(chunk) < len(expected) or not left:
                return
            connection.byte_stream.discard()
            begun = b""
        assert connection.received == len(b"".join(stream))
        peer.sendall(b"12345")
        assert connection.byte_stream.receive() == b"12345"  # what comes after it is read as usual
