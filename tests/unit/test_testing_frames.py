"""The test exchange's own framing."""

from __future__ import annotations

import struct
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsadapter.testing.frames import ClientFrames, ProtocolViolation, close_code, encode_close, encode_frame


def masked(first: int, payload: bytes, mask: bytes) -> bytes:
    size = len(payload)
    length = (
        bytes([size | 128]) if size < 126 else struct.pack("!BH", 254, size) if size < 65536 else struct.pack("!BQ", 255, size)
    )
    return bytes([first]) + length + mask + bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))


@given(
    payloads=st.lists(st.binary(max_size=300), max_size=8),
    mask=st.binary(min_size=4, max_size=4),
    cuts=st.lists(st.integers(0, 2000), max_size=10),
)
def test_any_split_of_the_bytes_gives_the_same_messages(payloads: list[bytes], mask: bytes, cuts: list[int]) -> None:
    stream = b"".join(masked(0x82, payload, mask) for payload in payloads)
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    frames = ClientFrames()
    seen = [frame for start, end in pairwise(edges) for frame in frames.feed(stream[start:end])]
    assert [frame.payload for frame in seen] == payloads


@pytest.mark.parametrize("size", [0, 125, 126, 65535, 65536])
def test_lengths_are_encoded_as_short_as_they_can_be(size: int) -> None:
    frame = encode_frame(2, b"x" * size)
    assert len(frame) == size + (2 if size < 126 else 4 if size < 65536 else 10)
    assert list(ClientFrames().feed(masked(0x82, b"x" * size, b"abcd"))) == [(2, b"x" * size)]


def test_what_came_before_a_violation_is_still_given() -> None:
    stream = ClientFrames().feed(masked(0x81, b"good", b"abcd") + encode_frame(1, b"bad"))
    assert next(stream) == (1, b"good")
    with pytest.raises(ProtocolViolation, match="masked"):
        next(stream)


@pytest.mark.parametrize(
    ("frames", "code"),
    [
        ([(0x01, b"a"), (0x81, b"b")], 1002),
        ([(0x09, b"a")], 1002),
        ([(0x8B, b"a")], 1002),
        ([(0x85, b"a")], 1002),
        ([(0x01, b"\xc3"), (0x80, b"\x28")], 1007),
        ([(0x88, b"\x03\xe8\xff")], 1007),
    ],
)
def test_violations_have_their_code(frames: list[tuple[int, bytes]], code: int) -> None:
    with pytest.raises(ProtocolViolation) as caught:
        list(ClientFrames().feed(b"".join(masked(first, payload, b"mask") for first, payload in frames)))
    assert caught.value.code == code


def test_a_frame_that_is_too_long_is_refused_before_it_is_read() -> None:
    with pytest.raises(ProtocolViolation, match="bytes") as caught:
        list(ClientFrames().feed(b"\x82" + struct.pack("!BQ", 255, 1 << 40)))
    assert caught.value.code == 1009


def test_a_character_may_be_split_between_fragments() -> None:
    stream = masked(0x01, b"\xc3", b"abcd") + masked(0x80, b"\xbc", b"abcd")
    assert list(ClientFrames().feed(stream)) == [(1, "ü".encode())]


def test_close_codes_go_both_ways() -> None:
    assert encode_close(1001, "bye") == b"\x88\x05\x03\xe9bye"
    assert encode_close(None) == b"\x88\x00"
    assert (close_code(b"\x03\xe9bye"), close_code(b"")) == (1001, 1005)
