"""permessage-deflate of the test exchange, against zlib alone."""

from __future__ import annotations

import zlib

import pytest

from tests.support.rawclient import RawClient
from wsadapter.testing import Exchange
from wsadapter.testing.deflate import Deflate, negotiate
from wsadapter.testing.frames import ClientFrames, ProtocolViolation

END = b"\x00\x00\xff\xff"
OFFER = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"
TEXT, RSV1 = 1, 0x40


def deflated(text: bytes) -> bytes:
    stream = zlib.compressobj(6, zlib.DEFLATED, -15)
    return (stream.compress(text) + stream.flush(zlib.Z_SYNC_FLUSH)).removesuffix(END)


def test_welcome_answers_and_messages_are_one_compressed_stream() -> None:
    with (
        Exchange(welcome=["hello hello"], ack=lambda text: [f"hello {text}"], deflate="permessage-deflate") as exchange,
        RawClient(exchange.url, extra=OFFER) as client,
    ):
        assert "\r\nSec-WebSocket-Extensions: permessage-deflate" in client.head
        inflater = zlib.decompressobj(-15)
        frames = [client.frame()]
        client.send(TEXT | RSV1, deflated(b"world"))
        frames.append(client.frame())
        exchange.send("hello hello world")
        frames.append(client.frame())
        texts = [inflater.decompress(frame.payload + END) for frame in frames]
        assert texts == [b"hello hello", b"hello world", b"hello hello world"]
        assert exchange.received[0].payload == b"world"


@pytest.mark.parametrize(
    ("offer", "answer"),
    [
        ("permessage-deflate; client_max_window_bits", "permessage-deflate"),
        ("permessage-deflate; client_max_window_bits=10", "permessage-deflate"),
        (
            "x-other, permessage-deflate; server_no_context_takeover; client_no_context_takeover, permessage-deflate",
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
        ),
        ("permessage-deflate; server_max_window_bits=9", "permessage-deflate; server_max_window_bits=9"),
        ("", None),
        ("x-permessage-deflate", None),
    ],
)
def test_an_exchange_that_agrees_agrees_to_all_of_the_first_offer(offer: str, answer: str | None) -> None:
    assert negotiate(offer) == answer


@pytest.mark.parametrize(("deflate", "extra"), [(None, OFFER), (False, OFFER), ("permessage-deflate", ""), (True, "")])
def test_it_is_agreed_only_where_both_want_it(deflate: str | bool | None, extra: str) -> None:
    with Exchange(welcome=["plain"], deflate=deflate) as exchange, RawClient(exchange.url, extra=extra) as client:
        assert "Extensions" not in client.head
        assert client.texts(1) == ["plain"]
        client.send(TEXT | RSV1, deflated(b"a"))
        assert client.frame().payload[:2] == (1002).to_bytes(2)


def test_what_is_lost_in_silence_is_not_referred_to_later() -> None:
    with Exchange(deflate="permessage-deflate") as exchange, RawClient(exchange.url, extra=OFFER) as client:
        exchange.wait_connections(1)
        exchange.mute()
        exchange.send("never to be seen")
        exchange.unmute()
        exchange.send("never to be seen, but this")
        assert zlib.decompressobj(-15).decompress(client.frame().payload + END) == b"never to be seen, but this"


def test_a_server_without_takeover_begins_each_message_anew() -> None:
    deflate = Deflate("permessage-deflate; server_no_context_takeover; server_max_window_bits=9")
    frames = [deflate.compress(b"\x81\x05hello") for _ in range(2)]
    assert frames[0] == frames[1]
    assert frames[0][0] == 0xC1


def test_a_clients_message_that_is_not_deflated_is_a_violation() -> None:
    deflate = Deflate("permessage-deflate")
    with pytest.raises(ProtocolViolation, match="inflated") as caught:
        list(ClientFrames(deflate.decompress).feed(b"\xc1\x83\0\0\0\0\xff\xff\xff"))
    assert caught.value.code == 1007
    with pytest.raises(ProtocolViolation, match="reserved"):
        list(ClientFrames().feed(b"\xc1\x80\0\0\0\0"))
