"""Reading the server's answer to the opening handshake, over a channel that is a list of bytes."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterable
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsadapter.contract.reasons import Reason
from wsadapter.worker.connect import handshake
from wsadapter.worker.connect.handshake import Response, ResponseReader, accept_key, read_response
from wsadapter.worker.connect.tls import describe_tls_error
from wsadapter.worker.websocket.byte_stream import ByteStream, EndOfStream

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
UPGRADE = "HTTP/1.1 101 OK\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
ACCEPTED = f"{UPGRADE}Sec-WebSocket-Accept: {accept_key(KEY)}\r\n\r\n".encode()
HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"


class Scripted:
    """Gives one piece for each read, and then the end."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self.sock = cast("socket.socket", self)

    def settimeout(self, _seconds: float) -> None:
        """As of a socket; nothing here waits."""

    def receive(self) -> bytes:
        piece = next(self._pieces, None)
        if piece is None:
            raise EndOfStream
        return piece


def answered(*pieces: bytes) -> tuple[Response | Reason, bytes]:
    reader = ResponseReader(cast("ByteStream", Scripted(pieces)))
    return read_response(reader, key=KEY, offered=(), deflate=False), reader.rest()


@given(st.integers(0, 3), st.sets(st.integers(1, 300)), st.binary(max_size=20))
def test_a_response_is_the_same_wherever_it_is_cut(hints: int, cuts: set[int], behind: bytes) -> None:
    whole = HINTS * hints + ACCEPTED + behind
    places = [0, *sorted(cut for cut in cuts if cut < len(whole)), len(whole)]
    reader = ResponseReader(cast("ByteStream", Scripted([whole[a:b] for a, b in zip(places, places[1:], strict=False)])))
    found = read_response(reader, key=KEY, offered=(), deflate=False)
    assert isinstance(found, Response)
    assert behind.startswith(reader.rest())


def test_what_comes_right_behind_a_response_is_kept() -> None:
    found, rest = answered(HINTS + ACCEPTED + b"\x81\x02hi")
    assert isinstance(found, Response)
    assert rest == b"\x81\x02hi"


def test_so_many_interim_responses_are_read_over_and_no_more() -> None:
    assert isinstance(answered(HINTS * 16 + ACCEPTED)[0], Response)
    found, _ = answered(HINTS * 17 + ACCEPTED)
    assert found == Reason(kind="handshake_rejected", status=103, text="more than 16 interim responses")


def test_the_heads_of_interim_responses_count_for_the_limit_too() -> None:
    large = b"HTTP/1.1 103 Hints\r\nX: " + b"x" * 30_000 + b"\r\n\r\n"
    assert isinstance(answered(large * 2 + ACCEPTED)[0], Response)
    found, _ = answered(large * 3 + ACCEPTED)
    assert found == Reason(kind="handshake_rejected", text="more than 64 KiB of response headers")


def test_a_head_without_an_end_is_not_kept_for_ever() -> None:
    endless = (b"x" * 1000 for _ in range(1_000_000))
    found = read_response(ResponseReader(cast("ByteStream", Scripted(endless))), key=KEY, offered=(), deflate=False)
    assert isinstance(found, Reason)
    assert sum(1 for _ in endless) > 999_900


def test_a_101_of_http_1_0_is_none() -> None:
    found, _ = answered(ACCEPTED.replace(b"HTTP/1.1", b"HTTP/1.0"))
    assert isinstance(found, Reason)
    assert found.text.startswith("not an HTTP/1.1 response: 'HTTP/1.0 101 OK'")


def test_a_connection_that_ends_within_the_head_is_no_response() -> None:
    with pytest.raises(EndOfStream):
        answered(ACCEPTED[:-1])


def test_a_fault_of_a_parser_is_a_rejected_response_and_not_an_error_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_raw: bytes) -> None:
        raise KeyError("odd")

    monkeypatch.setattr(handshake, "parse_head", fail)
    found, _ = answered(ACCEPTED)
    assert found == Reason(kind="handshake_rejected", text="the response can't be read: KeyError: 'odd'")


@given(st.lists(st.binary(max_size=60), max_size=6))
def test_whatever_a_server_sends_the_reason_can_be_told(pieces: list[bytes]) -> None:
    for start in (b"", b"HTTP/1.1 429 Later\r\nRetry-After: " + b"9" * 400 + b"\r\n", b"HTTP/1.0 101 OK\r\n"):
        try:
            found, _ = answered(start, *pieces, b"\r\n\r\n")
        except EndOfStream:
            continue
        if isinstance(found, Reason):
            assert Reason.from_json(found.to_json()) == found


def test_a_tls_error_without_openssls_own_reason_has_words() -> None:
    with pytest.raises(ssl.SSLError) as raised:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).set_ciphers("nonsense")
    assert describe_tls_error(raised.value) == "No cipher can be selected."
