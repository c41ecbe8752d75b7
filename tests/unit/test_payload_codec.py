"""Payloads that an exchange compresses itself, by themselves and in the reader."""

from __future__ import annotations

import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.rawserver import server_frame
from wsadapter.testing.recording import load_recording
from wsadapter.worker.websocket.deflate import BadDeflate, TooLong
from wsadapter.worker.websocket.frames import BINARY, PING, TEXT
from wsadapter.worker.websocket.payload_codec import Unpacker
from wsadapter.worker.websocket.reader import Reader, ReadResult

LIMIT = 1 << 20


def packed(compression: str, payload: bytes) -> bytes:
    window = {"gzip": 31, "zlib": 15, "deflate": -15}[compression]
    stream = zlib.compressobj(6, zlib.DEFLATED, window)
    return stream.compress(payload) + stream.flush()


compressions = st.sampled_from(["gzip", "zlib", "deflate"])


@given(compressions, st.binary(max_size=3000))
def test_what_was_packed_comes_out(compression: str, payload: bytes) -> None:
    assert Unpacker(compression).unpack(packed(compression, payload), LIMIT) == payload
    assert Unpacker(compression).unpack(packed(compression, payload), len(payload)) == payload


@given(compressions, st.binary(max_size=300), st.data())
def test_what_is_not_whole_is_refused(compression: str, payload: bytes, data: st.DataObject) -> None:
    whole = packed(compression, payload)
    cut = whole[: data.draw(st.integers(0, len(whole) - 1))]
    with pytest.raises(BadDeflate):
        Unpacker(compression).unpack(cut, LIMIT)
    with pytest.raises(BadDeflate):
        Unpacker(compression).unpack(whole + b"\x00", LIMIT)


@given(st.binary(max_size=300))
def test_anything_else_is_refused_and_nothing_else_is_raised(payload: bytes) -> None:
    for compression in ("gzip", "zlib", "deflate"):
        try:
            Unpacker(compression).unpack(payload, LIMIT)
        except BadDeflate:
            continue
        assert compression == "deflate"  # a few bytes may well be


def test_several_gzip_members_are_one_payload() -> None:
    members = gzip.compress(b"one ") + gzip.compress(b"") + gzip.compress(b"two")
    assert Unpacker("gzip").unpack(members, LIMIT) == b"one two"
    with pytest.raises(TooLong):
        Unpacker("gzip").unpack(members, 6)
    with pytest.raises(BadDeflate):
        Unpacker("gzip").unpack(gzip.compress(b"") * 5000, LIMIT)


def test_one_byte_too_many_is_too_long() -> None:
    with pytest.raises(TooLong):
        Unpacker("gzip").unpack(packed("gzip", b"x" * 1001), 1000)


frames = st.lists(
    st.one_of(
        st.tuples(st.just(TEXT), st.text(max_size=300).map(str.encode)),
        st.tuples(st.just(BINARY), st.binary(max_size=300)),
        st.tuples(st.just(BINARY), st.text(max_size=300).map(str.encode)),
    ),
    max_size=8,
)


@pytest.mark.slow
@given(frames, st.lists(st.integers(0, 1 << 14), max_size=6), st.booleans())
def test_the_reader_gives_them_inflated_however_they_come(
    sent: list[tuple[int, bytes]], cuts: list[int], fragmented: bool
) -> None:
    stream = bytearray()
    for opcode, payload in sent:
        payload = packed("gzip", payload) if opcode == BINARY else payload
        if fragmented:
            middle = len(payload) // 2
            stream += server_frame(opcode, payload[:middle], fin=False) + server_frame(PING, b"")
            stream += server_frame(0, payload[middle:])
        else:
            stream += server_frame(opcode, payload)
    reader = Reader(LIMIT, None, Unpacker("gzip"))
    places = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    batches = [reader.feed(bytes(stream[a:b])) for a, b in zip(places, places[1:], strict=False)]
    found = [message for batch in batches for message in messages(batch)]
    assert found == [(payload, not is_text(payload)) for _, payload in sent]
    assert not any(batch.violation for batch in batches)


def messages(batch: ReadResult) -> list[tuple[bytes, bool]]:
    return [(batch.payload(index), index in batch.binary) for index in range(batch.count)]


def is_text(payload: bytes) -> bool:
    try:
        payload.decode()
    except UnicodeDecodeError:
        return False
    return True


@pytest.mark.parametrize(
    ("payload", "code"), [(b"nonsense", 1007), (packed("gzip", b"x" * 1001), 1009), (packed("gzip", b"x")[:-1], 1007)]
)
def test_what_comes_before_a_bad_one_is_delivered_and_nothing_behind_it(payload: bytes, code: int) -> None:
    good = server_frame(BINARY, packed("gzip", b"good"))
    batch = Reader(1000, None, Unpacker("gzip")).feed(good + server_frame(BINARY, payload) + good)
    assert messages(batch) == [(b"good", False)]
    assert batch.violation is not None
    assert batch.violation.code == code


def test_a_recording_of_packed_payloads_is_text() -> None:
    payloads = load_recording("htx").payloads
    batch = Reader(LIMIT, None, Unpacker("gzip")).feed(b"".join(server_frame(BINARY, payload) for payload in payloads))
    assert batch.count == len(payloads)
    assert not batch.binary
    assert all(batch.payload(index)[:1] == b"{" for index in range(batch.count))
