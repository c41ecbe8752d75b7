"""The frame reader against a slow and simple one, over any split of any stream; and its limits."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.examples import examples
from tests.support.rawserver import server_frame
from wsadapter.worker.websocket.frames import (
    BINARY,
    CLOSE,
    PING,
    PONG,
    TEXT,
    BadClosePayload,
    apply_mask,
    decode_close,
    encode_close,
    encode_frame,
)
from wsadapter.worker.websocket.reader import Reader

Seen = list[tuple[str, bytes]]


def read(chunks: list[bytes], *, max_message: int = 1 << 20) -> tuple[Seen, int | None, int]:
    """All messages, the violation's code, and how many bytes were consumed."""
    reader = Reader(max_message)
    seen: Seen = []
    consumed = 0
    for chunk in chunks:
        batch = reader.feed(chunk)
        binary = set(batch.binary)
        seen += [("b" if i in binary else "t", batch.payload(i)) for i in range(batch.count)]
        consumed += batch.consumed
        if batch.violation:
            return seen, batch.violation.code, consumed
    return seen, None, consumed


def reference(stream: bytes) -> Seen:
    """The plainest decoder there is, for valid streams."""
    seen: Seen = []
    opened, parts = 0, b""
    while stream:
        first, size = stream[0], stream[1]
        at = {126: 4, 127: 10}.get(size, 2)
        size = int.from_bytes(stream[2:at], "big") if at > 2 else size
        payload, stream = stream[at : at + size], stream[at + size :]
        if first & 0x0F >= CLOSE:
            continue
        opened, parts = opened or first & 0x0F, parts + payload
        if first & 0x80:
            seen.append(("b" if opened == BINARY else "t", parts))
            opened, parts = 0, b""
    return seen


controls = st.builds(server_frame, st.sampled_from([PING, PONG]), st.binary(max_size=125))


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    """One message in one or more fragments, cut anywhere, with control frames between."""
    opcode = draw(st.sampled_from([TEXT, BINARY]))
    payload = draw(st.text(max_size=80)).encode() if opcode == TEXT else draw(st.binary(max_size=80))
    payload *= draw(st.sampled_from([1, 1, 3, 900]))
    cuts = sorted(draw(st.lists(st.integers(0, len(payload)), max_size=4)))
    parts = [payload[a:b] for a, b in zip([0, *cuts], [*cuts, len(payload)], strict=True)]
    stream = b""
    for i, part in enumerate(parts):
        stream += server_frame(opcode if i == 0 else 0, part, fin=i == len(parts) - 1)
        stream += b"".join(draw(st.lists(controls, max_size=2)))
    return stream


@pytest.mark.slow
@settings(max_examples=examples(300))
@given(st.lists(messages(), max_size=6).map(b"".join), st.data())
def test_any_split_of_any_stream_gives_the_same_messages(stream: bytes, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    chunks = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    seen, violation, consumed = read(chunks)
    assert violation is None
    assert seen == reference(stream)
    assert consumed == len(stream)


def test_byte_by_byte_is_the_same() -> None:
    stream = server_frame(TEXT, b"a" * 70_000) + server_frame(PING, b"p")
    stream += server_frame(BINARY, b"") + server_frame(TEXT, b"b" * 200)
    seen, violation, _ = read([stream[i : i + 1] for i in range(len(stream))])
    assert (seen, violation) == (reference(stream), None)


@settings(deadline=None)
@given(st.binary(max_size=60), st.integers(1, 9))
def test_no_input_raises(stream: bytes, step: int) -> None:
    whole = read([stream])
    parts = read([stream[i : i + step] for i in range(0, len(stream), step)])
    assert whole[:2] == parts[:2]


def test_text_that_is_not_utf8_is_refused_at_the_fragment_that_breaks_it() -> None:
    good, bad = server_frame(TEXT, b"caf\xc3", fin=False), server_frame(0, b"\x28", fin=False)
    assert read([good, bad])[1] == 1007
    assert read([server_frame(TEXT, b"caf\xc3", fin=False), server_frame(0, b"", fin=True)])[1] == 1007
    assert read([server_frame(TEXT, b"\xed\xa0\x80")])[1] == 1007
    assert read([server_frame(BINARY, b"\xff")])[1] is None


EMPTY = server_frame(0, b"", fin=False)


@pytest.mark.parametrize("fragment", [EMPTY, EMPTY * 30 + server_frame(PONG, b"x" * 125), server_frame(PING, b"")])
def test_a_message_of_endless_fragments_without_a_payload_is_refused(fragment: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its bytes are kept until it is complete, and `max_message` says nothing of them."""
    monkeypatch.setattr("wsadapter.worker.websocket.reader._MOST_OVERHEAD", 100_000)  # as 4 MiB, and sooner
    reader, row = Reader(64 << 20), fragment * (10_000 // len(fragment))
    batch = reader.feed(server_frame(TEXT, b"a", fin=False))
    fed = 0
    while batch.violation is None:
        assert fed <= 100_000
        assert batch.count == 0
        batch = reader.feed(row)
        fed += len(row)
    assert fed >= 100_000
    assert batch.violation.code == 1009
    assert "a message of 1 bytes in fragments with 1000" in batch.violation.text


@pytest.mark.slow
@pytest.mark.parametrize(("fragment", "times"), [(b"", 300_000), (b"x", 300_000), (b"x" * 64, 1 << 16)])
def test_small_fragments_make_a_message_as_long_as_there_are_not_millions_of_them(fragment: bytes, times: int) -> None:
    reader, row = Reader(64 << 20), server_frame(0, fragment, fin=False) * 1000
    reader.feed(server_frame(TEXT, b"a", fin=False))
    for _ in range(times // 1000):
        assert reader.feed(row).violation is None
    batch = reader.feed(server_frame(0, b"b"))
    assert batch.violation is None
    assert batch.payload(0) == b"a" + fragment * (times // 1000 * 1000) + b"b"


def test_what_one_message_had_of_headers_is_not_held_against_the_next_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wsadapter.worker.websocket.reader._MOST_OVERHEAD", 100_000)
    reader, row = Reader(1000), EMPTY * 1000
    for _ in range(4):
        reader.feed(server_frame(TEXT, b"a", fin=False))
        for _ in range(25):
            assert reader.feed(row).violation is None
        assert reader.feed(server_frame(0, b"b") + row[:0]).violation is None
        assert reader.feed(server_frame(PING, b"x" * 100) * 1000).violation is None


def test_too_long_a_message_is_refused_on_its_header_and_over_its_fragments() -> None:
    assert read([b"\x82\x7f" + (1 << 40).to_bytes(8, "big")])[1] == 1009
    half = b"x" * 600
    assert read([server_frame(TEXT, half, fin=False), server_frame(0, half)], max_message=1000)[1] == 1009
    assert read([server_frame(TEXT, half, fin=False), server_frame(0, half[:400])], max_message=1000)[1] is None


def test_a_length_with_the_highest_bit_is_a_protocol_error() -> None:
    assert read([b"\x82\x7f\x80" + bytes(7)])[1] == 1002


def test_nothing_behind_a_close_frame_is_read() -> None:
    seen, violation, _ = read([server_frame(TEXT, b"a") + server_frame(CLOSE, b"") + b"\xff\xff", server_frame(TEXT, b"b")])
    assert (seen, violation) == ([("t", b"a")], None)


@pytest.mark.slow
@pytest.mark.parametrize("pieces", [1, 100_000])
def test_a_large_message_is_read_in_linear_time(pieces: int) -> None:
    size = 32 * 1024 * 1024 // pieces
    part = b"x" * size
    frames = [server_frame(TEXT if i == 0 else 0, part, fin=i == pieces - 1) for i in range(pieces)]
    stream = b"".join(frames)
    chunks = [stream[i : i + 65536] for i in range(0, len(stream), 65536)]
    begun = time.process_time()
    seen, violation, _ = read(chunks, max_message=64 * 1024 * 1024)
    assert time.process_time() - begun < 3  # quadratic copying takes minutes
    assert violation is None
    assert [len(payload) for _, payload in seen] == [size * pieces]


@given(st.binary(max_size=70_000), st.binary(min_size=4, max_size=4))
@settings(max_examples=examples(50))
def test_masking_twice_is_nothing_and_a_frame_holds_its_payload(payload: bytes, key: bytes) -> None:
    assert apply_mask(payload, key) == bytes(byte ^ key[i % 4] for i, byte in enumerate(payload))
    assert encode_frame(BINARY, payload, key=key).endswith(key + apply_mask(payload, key))


def test_a_close_reason_is_cut_between_characters() -> None:
    frame = encode_close(1002, "ü" * 100)
    payload = apply_mask(frame[6:], frame[2:6])
    assert decode_close(payload) == (1002, "ü" * 61)


@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535])
def test_a_close_code_that_no_peer_may_send_stays_with_what_was_said(code: int) -> None:
    with pytest.raises(BadClosePayload) as bad:
        decode_close(code.to_bytes(2, "big") + "maintenance für 5 min\xff".encode() + b"\xff")
    assert bad.value.code == 1002
    assert str(bad.value) == f"a close frame with the code {code}: maintenance für 5 min\xff\N{REPLACEMENT CHARACTER}"
    with pytest.raises(BadClosePayload, match=f"^a close frame with the code {code}$"):
        decode_close(code.to_bytes(2, "big"))


def test_a_close_reason_that_is_not_utf_8_stays_as_far_as_it_can_be_read() -> None:
    with pytest.raises(BadClosePayload) as bad:
        decode_close(b"\x03\xe8too fast \xff")
    assert bad.value.code == 1007
    text = "a close frame with the code 1000 whose reason is not UTF-8: too fast \N{REPLACEMENT CHARACTER}"
    assert str(bad.value) == text


def test_a_close_frame_may_be_empty_and_has_no_payload_of_one_byte() -> None:
    for code in (1005, 1006):  # they only exist in reports (RFC 6455 §7.4.1)
        assert encode_close(code, "text")[:2] == b"\x88\x80"
    assert decode_close(b"") == (1005, "")
    with pytest.raises(BadClosePayload, match="1 byte"):
        decode_close(b"\x03")
