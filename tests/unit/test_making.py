"""Large messages made into frames: the bytes are right, and no slice of the work is large."""

from __future__ import annotations

import random
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsadapter.worker.websocket.deflate import Agreement, Deflater
from wsadapter.worker.websocket.frame_maker import SLICE, FrameMaker
from wsadapter.worker.websocket.frames import BINARY, RSV1, TEXT, apply_mask, encode_frame

KEY = b"\x01\x80\x7f\xfe"
SIZES = [0, 1, 125, 126, SLICE - 1, SLICE, SLICE + 1, 2 * SLICE + 3, 5 * SLICE]


class Counting:
    """A zlib stream that notes how much it is given at a time."""

    def __init__(self, stream: zlib._Compress) -> None:
        self._stream = stream
        self.sizes: list[int] = []

    def compress(self, data: bytes) -> bytes:
        self.sizes.append(len(data))
        return self._stream.compress(data)

    def flush(self, mode: int) -> bytes:
        return self._stream.flush(mode)


class Watched(Deflater):
    """A deflater whose work is counted."""

    def __init__(self, agreement: Agreement) -> None:
        super().__init__(agreement)
        self.streams: list[Counting] = []

    def begin(self) -> zlib._Compress:
        self.streams.append(Counting(super().begin()))
        return self.streams[-1]  # type: ignore[return-value]


def made(maker: FrameMaker) -> tuple[bytes, int]:
    """The frame, and how many steps it took."""
    steps = 1
    while (frame := maker.step()) is None:
        steps += 1
    return bytes(frame), steps


def noise(size: int) -> bytes:
    """Bytes that deflate can't make smaller, always the same."""
    return random.Random(size).randbytes(size)


@pytest.mark.parametrize("size", SIZES)
def test_a_frame_made_in_slices_is_the_same_as_one_made_at_once(size: int) -> None:
    payload = noise(size)
    frame, steps = made(FrameMaker(BINARY, payload, key=KEY))
    assert frame == encode_frame(BINARY, payload, key=KEY)
    assert steps == max(1, -(-size // SLICE))


@pytest.mark.parametrize("agreement", [Agreement(), Agreement(client_no_context_takeover=True, client_max_window_bits=9)])
@pytest.mark.parametrize("size", SIZES)
def test_a_compressed_frame_holds_the_message_and_is_made_in_small_slices(size: int, agreement: Agreement) -> None:
    deflater = Watched(agreement)
    inflater = zlib.decompressobj(-agreement.client_max_window_bits)
    for payload in (noise(size), b"a" * size, noise(size)):
        frame, steps = made(FrameMaker(TEXT, payload, deflater, key=KEY))
        at = {126: 4, 127: 10}.get(frame[1] & 0x7F, 2)
        deflated = apply_mask(frame[at + 4 :], KEY)
        assert frame == encode_frame(TEXT, deflated, key=KEY, rsv1=True)
        assert frame[0] & RSV1
        if agreement.client_no_context_takeover:
            inflater = zlib.decompressobj(-agreement.client_max_window_bits)
        assert inflater.decompress(deflated + b"\0\0\xff\xff") == payload
        assert steps == len(deflater.streams[-1].sizes)
    assert max(max(stream.sizes) for stream in deflater.streams) <= SLICE


@given(st.binary(min_size=20, max_size=400), st.integers(1, 60), st.integers(0, 20), st.booleans())
def test_a_message_that_is_dropped_half_made_is_referred_to_by_no_other(
    payload: bytes, times: int, steps: int, takeover: bool
) -> None:
    deflater = Deflater(Agreement(client_no_context_takeover=not takeover))
    inflater = zlib.decompressobj(-15)
    for number, message in enumerate([b"none of it", payload * times * 100, payload]):
        maker = FrameMaker(BINARY, message, deflater, key=KEY)
        if number == 1:
            for _ in range(steps):
                if maker.step() is not None:
                    break
            maker.drop()
            continue
        frame, _ = made(maker)
        at = {126: 4, 127: 10}.get(frame[1] & 0x7F, 2)
        assert inflater.decompress(apply_mask(frame[at + 4 :], KEY) + b"\0\0\xff\xff") == message


def test_a_message_that_is_dropped_before_its_turn_costs_nothing() -> None:
    deflater = Watched(Agreement())
    before = deflater.begin()
    FrameMaker(TEXT, b"never begun", deflater).drop()
    assert len(deflater.streams) == 1
    assert deflater.begin()._stream is before._stream  # type: ignore[attr-defined]
