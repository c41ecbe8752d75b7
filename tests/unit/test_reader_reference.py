"""The reader against a decoder written from the RFCs: any stream, any split, right and wrong: same messages, same errors."""

from __future__ import annotations

import zlib
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.examples import examples
from tests.support.rawserver import server_frame
from tests.support.reference_reader import Decoded, decode
from wsadapter.worker.websocket.deflate import Agreement, Inflater
from wsadapter.worker.websocket.frames import BINARY, CLOSE, PING, PONG, RSV1, TEXT
from wsadapter.worker.websocket.reader import Reader, ReadResult

SMALL, LARGE = 300, 1 << 20

controls = st.builds(server_frame, st.sampled_from([PING, PONG]), st.binary(max_size=125))
wrong_frames = st.sampled_from(
    [
        b"\x81\x81\x00\x00\x00\x00a",  # masked
        b"\x82\xff" + bytes(12),
        b"\xa1\x00",  # RSV2
        b"\x91\x00",  # RSV3
        b"\xc9\x00",  # RSV1 on a ping
        b"\xc0\x00",  # RSV1 on a continuation
        b"\x83\x00",  # reserved opcodes
        b"\x8b\x00",
        b"\x09\x00",  # a fragmented ping
        b"\x89\x7e\x00\x7e" + bytes(126),  # an oversize one
        b"\x80\x00",  # a continuation of nothing
        b"\x82\x7f\x80" + bytes(7),  # the highest bit of the length
        b"\x82\x7f" + (1 << 40).to_bytes(8, "big"),
        b"\x81\x7e\x01\x2d" + b"x" * 301,  # more than SMALL
        b"\x81\x02\xc3\x28",  # not UTF-8
        b"\x01\x01\xc3\x89\x00\x80\x01\x28",
        b"\xc1\x04\xff\xff\xff\xff",  # not deflated
        b"\xc1\x00",  # nothing that was deflated
        b"\x88\x00",  # close frames
        b"\x88\x05\x03\xe8bye\x81\x01a",
    ]
)


class Encoder:
    """A server's side of permessage-deflate, with everything that RFC 7692 §7.2.3 allows."""

    def __init__(self, *, takeover: bool, bits: int) -> None:
        self._takeover, self._bits = takeover, bits
        self._stream = self._new()

    def _new(self) -> zlib._Compress:
        return zlib.compressobj(6, zlib.DEFLATED, -self._bits)

    def compress(self, payload: bytes, *, way: str) -> bytes:
        if not self._takeover:
            self._stream = self._new()
        if way == "final block":  # §7.2.3.4; what follows can't refer to it
            deflated = self._stream.compress(payload) + self._stream.flush(zlib.Z_FINISH) + b"\x00"
            self._stream = self._new()
            return deflated
        half = len(payload) // 2 if way == "two blocks" else 0
        deflated = self._stream.compress(payload[:half])
        if half:
            deflated += self._stream.flush(zlib.Z_BLOCK)
        deflated += self._stream.compress(payload[half:])
        return (deflated + self._stream.flush(zlib.Z_SYNC_FLUSH)).removesuffix(b"\x00\x00\xff\xff")


@st.composite
def streams(draw: st.DrawFn, *, deflate: bool, takeover: bool, wrong: bool) -> bytes:
    """Messages in fragments, compressed or not, with control frames between; and, if `wrong`, with something amiss."""
    encoder = Encoder(takeover=takeover, bits=draw(st.sampled_from([9, 15])))
    stream = b""
    for _ in range(draw(st.integers(0, 6))):
        opcode = draw(st.sampled_from([TEXT, BINARY]))
        payload = draw(st.text(max_size=40)).encode() if opcode == TEXT else draw(st.binary(max_size=40))
        payload *= draw(st.sampled_from([1, 1, 3, 8]))
        first = opcode
        if deflate and draw(st.booleans()):
            payload = encoder.compress(payload, way=draw(st.sampled_from(["one block", "two blocks", "final block"])))
            first |= RSV1
        cuts = sorted(draw(st.lists(st.integers(0, len(payload)), max_size=3)))
        parts = [payload[begin:end] for begin, end in pairwise([0, *cuts, len(payload)])]
        for number, part in enumerate(parts):
            stream += server_frame(first if number == 0 else 0, part, fin=number == len(parts) - 1)
            stream += b"".join(draw(st.lists(controls, max_size=1)))
            if wrong and draw(st.integers(0, 7)) == 0:
                stream += draw(wrong_frames)
    if wrong and stream and draw(st.booleans()):
        at = draw(st.integers(0, len(stream) - 1))
        stream = stream[:at] + bytes([stream[at] ^ draw(st.sampled_from([1, 0x40, 0x80, 0xFF]))]) + stream[at + 1 :]
    return stream


def splits(draw: st.DrawFn, stream: bytes) -> list[bytes]:
    """The stream in pieces; now and then byte by byte."""
    if draw(st.integers(0, 4)) == 0:
        return [stream[i : i + 1] for i in range(len(stream))]
    cuts = sorted(draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    return [stream[begin:end] for begin, end in pairwise([0, *cuts, len(stream)])]


def reader(max_message: int, *, deflate: bool, takeover: bool) -> Reader:
    agreement = Agreement(server_no_context_takeover=not takeover)
    return Reader(max_message, Inflater(agreement) if deflate else None)


def add(seen: Decoded, batch: ReadResult) -> None:
    binary = set(batch.binary)
    seen.messages += [(BINARY if i in binary else TEXT, batch.payload(i)) for i in range(batch.count)]
    seen.controls += batch.controls
    seen.failure = batch.violation.code if batch.violation else None


PARAMETERS = pytest.mark.parametrize(("deflate", "takeover"), [(False, False), (True, False), (True, True)])


@pytest.mark.slow
@PARAMETERS
@pytest.mark.parametrize("max_message", [SMALL, LARGE])
@pytest.mark.parametrize("wrong", [False, True])
@settings(max_examples=examples(60))
@given(data=st.data())
def test_the_reader_sees_what_the_rfc_says(
    data: st.DataObject, deflate: bool, takeover: bool, max_message: int, wrong: bool
) -> None:
    stream = data.draw(streams(deflate=deflate, takeover=takeover, wrong=wrong))
    expected = decode(stream, max_message=max_message, deflate=deflate, takeover=takeover)
    target = reader(max_message, deflate=deflate, takeover=takeover)
    seen = Decoded()
    for chunk in data.draw(st.composite(splits)(stream)):
        add(seen, target.feed(chunk))
        if seen.failure:
            break
    assert seen == expected


@pytest.mark.slow
@pytest.mark.parametrize("deflate", [False, True])
@settings(max_examples=examples(200))
@given(data=st.data())
def test_a_new_reader_goes_on_with_what_is_unfinished(data: st.DataObject, deflate: bool) -> None:
    """At any read, whatever the stream: what a process that dies hands to the next one. Without context takeover."""
    stream = data.draw(streams(deflate=deflate, takeover=False, wrong=True))
    chunks = data.draw(st.composite(splits)(stream))
    expected = decode(stream, max_message=LARGE, deflate=deflate, takeover=False)
    target, seen = reader(LARGE, deflate=deflate, takeover=False), Decoded()
    change_at = data.draw(st.integers(0, len(chunks)))
    fed = rest = b""
    for chunk in chunks[:change_at]:
        batch = target.feed(chunk)
        fed += chunk
        add(seen, batch)
        assert batch.data[batch.fresh :] == chunk
        assert fed.endswith(batch.data)
        left = len(batch.data) - batch.unfinished
        assert 0 <= left <= len(fed)
        rest = fed[len(fed) - left :]
        if seen.failure:
            break
    after = Decoded()
    target = reader(LARGE, deflate=deflate, takeover=False)
    for chunk in [rest, *chunks[change_at:]]:
        add(after, target.feed(chunk))
        if after.failure:
            break
    assert seen.messages + after.messages == expected.messages
    assert after.failure == expected.failure


@settings(max_examples=examples(150))
@given(st.binary(max_size=60), st.data())
def test_noise_is_judged_as_the_rfc_says(stream: bytes, data: st.DataObject) -> None:
    target, seen = reader(LARGE, deflate=True, takeover=True), Decoded()
    for chunk in data.draw(st.composite(splits)(stream)):
        add(seen, target.feed(chunk))
        if seen.failure:
            break
    assert seen == decode(stream, max_message=LARGE, deflate=True)


def test_nothing_is_left_unfinished_behind_a_complete_message() -> None:
    batch = Reader(LARGE).feed(server_frame(TEXT, b"a") + server_frame(PING, b""))
    assert batch.unfinished == batch.consumed == len(batch.data)


def test_a_close_frame_is_unfinished() -> None:
    target = Reader(LARGE)
    batch = target.feed(server_frame(TEXT, b"a") + server_frame(CLOSE, b""))
    assert batch.unfinished == 3
    assert batch.consumed == len(batch.data) == 5
    assert target.feed(b"later").unfinished == -2
