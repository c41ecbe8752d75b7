"""permessage-deflate: what a server may answer, what its messages may hold, what we send. No socket."""

from __future__ import annotations

import tracemalloc
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.examples import examples
from tests.support.rawserver import server_frame
from wsadapter.worker.websocket.deflate import Agreement, BadAnswer, BadDeflate, Deflater, Inflater, TooLong, parse_answer
from wsadapter.worker.websocket.frame_maker import FrameMaker
from wsadapter.worker.websocket.frames import BINARY, RSV1, TEXT, apply_mask
from wsadapter.worker.websocket.reader import Reader

pytestmark = pytest.mark.version

LIMIT = 1 << 20
PLAIN = Agreement()
FORGETFUL = Agreement(server_no_context_takeover=True, client_no_context_takeover=True)
HELLO = bytes.fromhex("f248cdc9c90700")  # the examples of RFC 7692 §7.2.3


def deflated(payload: bytes, stream: zlib._Compress | None = None) -> bytes:
    stream = stream or zlib.compressobj(9, zlib.DEFLATED, -15)
    return (stream.compress(payload) + stream.flush(zlib.Z_SYNC_FLUSH)).removesuffix(b"\0\0\xff\xff")


def made(deflater: Deflater, opcode: int, payload: bytes) -> bytes:
    """The frame that a message is sent as."""
    maker = FrameMaker(opcode, payload, deflater if deflater.pays(payload) else None)
    while (frame := maker.step()) is None:
        pass
    return bytes(frame)


def compressed_frame(payload: bytes, opcode: int = TEXT, *, fin: bool = True) -> bytes:
    return server_frame(opcode | RSV1, payload, fin=fin)


def inflating(max_message: int = LIMIT, agreement: Agreement = PLAIN) -> Reader:
    return Reader(max_message, Inflater(agreement))


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("permessage-deflate", PLAIN),
        ("Permessage-Deflate ; Server_No_Context_Takeover", Agreement(server_no_context_takeover=True)),
        ("permessage-deflate;client_no_context_takeover;server_no_context_takeover", FORGETFUL),
        ("permessage-deflate; client_max_window_bits=8; server_max_window_bits=15", Agreement(client_max_window_bits=8)),
        ('permessage-deflate; server_max_window_bits="10"', Agreement(server_max_window_bits=10)),
    ],
)
def test_an_answer_is_what_was_agreed(answer: str, expected: Agreement) -> None:
    assert parse_answer(answer) == expected


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ("", "not offered"),
        ("permessage-bzip2", "not offered: permessage-bzip2"),
        ("x-webkit-deflate-frame", "not offered"),
        ("permessage-deflate, permessage-deflate", "something behind it"),
        ("permessage-deflate; client_max_window_bits", "client_max_window_bits="),
        ("permessage-deflate; server_max_window_bits", "server_max_window_bits="),
        ("permessage-deflate; server_max_window_bits=7", "not 8 to 15"),
        ("permessage-deflate; server_max_window_bits=16", "not 8 to 15"),
        ("permessage-deflate; server_max_window_bits=08", "not 8 to 15"),
        ("permessage-deflate; client_max_window_bits=+9", "not 8 to 15"),
        ("permessage-deflate; client_max_window_bits=٩", "behind it"),
        ("permessage-deflate; server_no_context_takeover=1", "no value"),
        ("permessage-deflate; server_no_context_takeover=", "behind it"),
        ("permessage-deflate; server_no_context_takeover; server_no_context_takeover", "twice"),
        ("permessage-deflate; mux", "unknown parameter mux"),
        ("permessage-deflate;", "behind it"),
        ("permessage-deflate server_no_context_takeover", "behind it"),
    ],
)
def test_an_answer_that_is_not_exactly_right_is_none(answer: str, why: str) -> None:
    with pytest.raises(BadAnswer, match=why.replace("+", r"\+")):
        parse_answer(answer)


@pytest.mark.parametrize(
    "payload",
    [
        HELLO,
        bytes.fromhex("000500faff48656c6c6f00"),  # a block without compression
        bytes.fromhex("f348cdc9c9070000"),  # BFINAL set
        bytes.fromhex("f248050000 00ffff cac9c90700"),  # two blocks
    ],
)
def test_the_examples_of_the_rfc_mean_hello(payload: bytes) -> None:
    reader = inflating()
    for _ in range(3):
        assert reader.feed(compressed_frame(payload)).payload(0) == b"Hello"


def test_a_message_may_refer_to_the_one_before_it_unless_that_was_excluded() -> None:
    stream = compressed_frame(HELLO) + compressed_frame(bytes.fromhex("f200110000"))
    batch = inflating().feed(stream)
    assert [batch.payload(i) for i in range(batch.count)] == [b"Hello", b"Hello"]
    batch = inflating(agreement=FORGETFUL).feed(stream)
    assert batch.count == 1
    assert batch.violation is not None
    assert batch.violation.code == 1007
    assert "too far back" in batch.violation.text


def test_an_empty_message_is_one_octet_of_zero() -> None:
    batch = inflating().feed(compressed_frame(b"\0") + compressed_frame(b"", fin=False) + server_frame(0, b""))
    assert [batch.payload(i) for i in range(batch.count)] == [b"", b""]


def test_a_compressed_text_is_refused_at_the_fragment_that_is_not_utf8() -> None:
    payload = deflated(b"caf\xc3(" + b"a" * 1000)
    reader = inflating()
    batch = reader.feed(compressed_frame(payload[:-2], fin=False))
    assert batch.violation is not None
    assert batch.violation.code == 1007
    assert inflating().feed(compressed_frame(payload, BINARY)).violation is None


@pytest.mark.parametrize("cuts", [1, 7])
def test_the_limit_counts_what_comes_out(cuts: int) -> None:
    for size, fits in ((LIMIT, True), (LIMIT + 1, False)):
        payload = deflated(b"a" * size)
        step = len(payload) // cuts + 1
        parts = [payload[i : i + step] for i in range(0, len(payload), step)]
        reader = inflating()
        for number, part in enumerate(parts):
            opcode = TEXT | RSV1 if number == 0 else 0
            batch = reader.feed(server_frame(opcode, part, fin=number == len(parts) - 1))
        assert (batch.violation is None) is fits
        if batch.violation is not None:
            assert batch.violation == (1009, f"a compressed message of more than {LIMIT} bytes")


def test_the_limit_holds_for_what_is_on_the_wire_too() -> None:
    """Blocks that hold nothing make no message longer."""
    batch = inflating(1000).feed(compressed_frame(b"\0\0\0\xff\xff" * 300))
    assert batch.violation is not None
    assert batch.violation.code == 1009


@pytest.mark.slow
def test_a_bomb_is_given_up_before_it_takes_memory() -> None:
    bomb = deflated(bytes(256 * LIMIT))
    assert len(bomb) < LIMIT
    inflater = Inflater(PLAIN)
    tracemalloc.start()
    try:
        with pytest.raises(TooLong):
            inflater.inflate(bomb, final=True, limit=LIMIT)
        assert tracemalloc.get_traced_memory()[1] < 4 * LIMIT
    finally:
        tracemalloc.stop()


def test_many_streams_in_one_message_are_read_in_linear_time() -> None:
    final_blocks = b"\x03\x00" * 20_000
    assert Inflater(PLAIN).inflate(final_blocks + HELLO, final=True, limit=LIMIT) == b"Hello"
    with pytest.raises(TooLong):
        Inflater(PLAIN).inflate(bytes.fromhex("f348cdc9c90700") * 1000, final=True, limit=4999)


def test_what_is_not_deflated_is_said_to_be_so() -> None:
    with pytest.raises(BadDeflate, match="invalid block type"):
        Inflater(PLAIN).inflate(b"\xff\xff\xff", final=True, limit=LIMIT)


@settings(max_examples=examples(60))
@given(st.lists(st.binary(max_size=300).map(lambda b: b * 3), max_size=5), st.integers(8, 15), st.booleans())
def test_what_we_send_can_be_inflated_with_the_window_that_was_agreed(
    payloads: list[bytes], bits: int, forgetful: bool
) -> None:
    deflater = Deflater(Agreement(client_max_window_bits=bits, client_no_context_takeover=forgetful))
    inflater = zlib.decompressobj(-bits)
    for payload in payloads:
        frame = made(deflater, BINARY, payload)
        at = {126: 4, 127: 10}.get(frame[1] & 0x7F, 2)
        received = apply_mask(frame[at + 4 :], frame[at : at + 4])
        if not frame[0] & RSV1:
            assert received == payload
            continue
        assert bits > 8  # zlib would use 9
        if forgetful:
            inflater = zlib.decompressobj(-bits)
        assert inflater.decompress(received + b"\0\0\xff\xff") == payload


@settings(max_examples=examples(60))
@given(st.lists(st.lists(st.binary(max_size=300).map(lambda b: b * 3), max_size=4), max_size=4), st.integers(9, 15))
def test_a_next_owners_messages_are_understood_by_a_server_that_remembers_those_of_the_one_before(
    owners: list[list[bytes]], bits: int
) -> None:
    """Each owner begins with a new compressor, and one inflater reads them all."""
    inflater = zlib.decompressobj(-bits)
    for payloads in owners:
        deflater = Deflater(Agreement(server_no_context_takeover=True, client_max_window_bits=bits))
        for payload in payloads:
            frame = made(deflater, BINARY, payload)
            at = {126: 4, 127: 10}.get(frame[1] & 0x7F, 2)
            received = apply_mask(frame[at + 4 :], frame[at : at + 4])
            assert (inflater.decompress(received + b"\0\0\xff\xff") if frame[0] & RSV1 else received) == payload


def test_a_short_message_is_sent_as_it_is_and_a_repeated_one_as_a_reference() -> None:
    deflater = Deflater(PLAIN)
    assert made(deflater, TEXT, b'{"op":"ping"}')[0] == 0x81
    payload = bytes(range(256))
    first, second = (made(deflater, BINARY, payload) for _ in range(2))
    assert first[0] == second[0] == 0xC2
    assert len(second) < 20 < len(first)
    again = Deflater(FORGETFUL)
    assert len(made(again, BINARY, payload)) == len(made(again, BINARY, payload))
