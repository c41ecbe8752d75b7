"""permessage-deflate between a real owner and its peer: what is offered and agreed, both directions, a bomb."""

from __future__ import annotations

import os
import zlib
from pathlib import Path

import pytest

from tests.support.feeds import DEADLINE, collect, is_event, supervise
from tests.support.owned import Owned, forkserver
from tests.support.rawserver import RawPeer, RawServer, server_frame
from wsadapter.contract.endpoint import Compression, Endpoint
from wsadapter.contract.ipc.commands import SEND_BINARY, SEND_TEXT, TAKEN
from wsadapter.contract.items import Message, Up
from wsadapter.testing import Exchange

__all__ = ["forkserver"]

TEXT, BINARY, PING, PONG, RSV1 = 1, 2, 9, 10, 0x40
MIB = 1024 * 1024


def connected(owned: Owned, server: RawServer, answer: str, **settings: object) -> RawPeer:
    """An owner that is up with a server that gave this answer."""
    owned.assign(Endpoint("feed", url=server.url, compression=True, **settings))  # type: ignore[arg-type]
    peer = server.accept_websocket(f"Sec-WebSocket-Extensions: {answer}")
    owned.up()
    return peer


@pytest.mark.parametrize(
    ("compression", "offer"),
    [
        (True, "permessage-deflate; client_max_window_bits"),
        ("no_context_takeover", "permessage-deflate; server_no_context_takeover; client_max_window_bits"),
        (False, None),
    ],
)
def test_deflate_is_offered_where_it_is_wanted_and_may_be_declined(compression: Compression, offer: str | None) -> None:
    with RawServer() as server, Owned() as owned:
        owned.assign(Endpoint("feed", url=server.url, compression=compression))
        peer = server.accept_websocket()
        assert peer.request.get("sec-websocket-extensions") == offer
        owned.up()
        peer.send_frame(TEXT | RSV1, b"\0")
        assert peer.read_close()[0] == 1002
        peer.sock.close()
        assert "reserved bits" in owned.down().text


@pytest.mark.parametrize(
    ("compression", "answer", "warned"),
    [
        ("no_context_takeover", "permessage-deflate; server_no_context_takeover", False),
        ("no_context_takeover", "permessage-deflate", True),
        (True, "permessage-deflate", False),
    ],
)
def test_a_server_that_does_not_forget_as_asked_is_told(compression: Compression, answer: str, warned: bool) -> None:
    with RawServer() as server, Owned() as owned:
        owned.assign(Endpoint("feed", url=server.url, compression=compression))
        peer = server.accept_websocket(f"Sec-WebSocket-Extensions: {answer}")
        if warned:
            text = "did not agree to server_no_context_takeover"
            assert text in owned.report("log")["text"]
        owned.up()
        peer.send_frame(TEXT, b"both are used")
        assert owned.message() == b"both are used"


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ("permessage-bzip2", "an extension that was not offered: permessage-bzip2"),
        ("permessage-deflate\r\nSec-WebSocket-Extensions: permessage-deflate", "permessage-deflate with something behind it"),
        ("permessage-deflate; server_max_window_bits=99", "server_max_window_bits=99, which is not 8 to 15"),
        ("permessage-deflate; mux", "the unknown parameter mux"),
    ],
)
def test_an_answer_that_was_not_asked_for_is_no_handshake(answer: str, why: str) -> None:
    with RawServer() as server, Owned() as owned:
        owned.assign(Endpoint("feed", url=server.url, compression=True))
        server.accept_websocket(f"Sec-WebSocket-Extensions: {answer}")
        reason = owned.down()
        assert (reason.kind, reason.status) == ("handshake_rejected", 101)
        assert why in reason.text


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize(
    "answer",
    [
        "permessage-deflate",
        "permessage-deflate; server_no_context_takeover",
        "permessage-deflate; client_no_context_takeover; client_max_window_bits=9",
        "permessage-deflate; server_no_context_takeover; server_max_window_bits=9; client_max_window_bits=8",
    ],
)
def test_messages_of_all_sizes_pass_both_ways(answer: str, tls: bool) -> None:
    frames = [f'{{"n":{n},"s":"{"é" * (n % 97)}"}}' for n in range(300)] + [b"\x00\xff" * 1000, "", "x" * 3 * MIB]
    with Exchange(messages=frames, deflate=answer, tls=tls) as exchange:
        endpoint = exchange.endpoint("feed", compression=True)
        with supervise(endpoint, start_method="forkserver") as feed:
            items = collect(feed, lambda item: isinstance(item, Message) and item.number == len(frames))
            received = [item.data if item.binary else item.text for item in items if isinstance(item, Message)]
            assert received == frames
            for frame in frames:
                feed.send("feed", frame, timeout=DEADLINE)
            exchange.wait_received(lambda frame: len(frame.payload) == 3 * MIB)
            sent = [frame.payload if frame.opcode == BINARY else frame.payload.decode() for frame in exchange.received]
            assert sent == frames


def test_what_is_sent_is_compressed_and_control_frames_are_not() -> None:
    payload = b"abcdefgh" * 100
    with RawServer() as server, Owned() as owned:
        peer = connected(owned, server, "permessage-deflate")
        inflater = zlib.decompressobj(-15)
        sizes = []
        for kind, opcode in ((SEND_TEXT, TEXT), (SEND_BINARY, BINARY)):
            owned.tell(kind, 1, payload)
            received, deflated = peer.read_frame()
            assert (received, peer.reserved_bits) == (opcode, RSV1)
            assert inflater.decompress(deflated + b"\0\0\xff\xff") == payload
            assert owned.answer().kind == TAKEN
            sizes.append(len(deflated))
        assert sizes[1] < sizes[0] < 100  # the second refers to the first
        peer.send_frame(PING, b"a" * 125)
        assert peer.read_frame() == (PONG, b"a" * 125)
        assert peer.reserved_bits == 0


def test_pings_are_answered_while_a_large_message_is_compressed() -> None:
    with RawServer() as server, Owned() as owned:
        peer = connected(owned, server, "permessage-deflate", heartbeat={"kind": "none"})
        owned.tell(SEND_BINARY, 1, os.urandom(16 * MIB))
        for number in range(10):  # the first of them may be read before the last bytes of the message are
            peer.send_frame(PING, b"%d" % number)
            assert peer.read_frame() == (PONG, b"%d" % number)


def test_a_compressed_message_may_come_in_fragments_with_a_ping_between() -> None:
    stream = zlib.compressobj(9, zlib.DEFLATED, -15)
    payload = (stream.compress(b"tick" * 500) + stream.flush(zlib.Z_SYNC_FLUSH))[:-4]
    with RawServer() as server, Owned() as owned:
        peer = connected(owned, server, "permessage-deflate")
        peer.send(server_frame(TEXT | RSV1, payload[:3], fin=False) + server_frame(PING, b"?"))
        assert peer.read_frame() == (PONG, b"?")
        peer.send(server_frame(0, payload[3:]) + server_frame(TEXT, b"plain"))
        assert owned.messages(2) == [b"tick" * 500, b"plain"]


@pytest.mark.parametrize(
    ("sent", "code", "text"),
    [
        (server_frame(TEXT | RSV1, b"\xff\xff\xff"), 1007, "can't be inflated: Error -3"),
        (server_frame(PING | RSV1, b""), 1002, "reserved bits"),
        (server_frame(TEXT, b"a", fin=False) + server_frame(RSV1, b"\0"), 1002, "reserved bits"),
        (server_frame(TEXT | 0x20, b""), 1002, "reserved bits"),
        (server_frame(TEXT | RSV1, b"\x6a\x04\x00"), 1007, "can't be inflated|not UTF-8"),
    ],
)
def test_row_58_compression_that_breaks_the_rules_is_answered_with_its_code(sent: bytes, code: int, text: str) -> None:
    with RawServer() as server, Owned() as owned:
        peer = connected(owned, server, "permessage-deflate")
        peer.send(server_frame(TEXT, b"good") + sent)
        assert peer.read_close()[0] == code
        peer.sock.close()
        assert owned.message() == b"good"
        reason = owned.down()
        assert (reason.kind, reason.code) == ("protocol_error", code)
        assert any(part in reason.text for part in text.split("|"))


def peak_memory(pid: int) -> int:
    """The most that a process has ever held, in bytes."""
    lines = Path(f"/proc/{pid}/status").read_text("utf-8").splitlines()
    (kib,) = (line.split()[1] for line in lines if line.startswith("VmHWM:"))
    return int(kib) * 1024


def test_row_59_a_decompression_bomb_is_given_up_within_the_limit() -> None:
    """1 GiB of zeros in a message of 1 MiB."""
    stream = zlib.compressobj(9, zlib.DEFLATED, -15)
    mebibyte = stream.compress(bytes(MIB)) + stream.flush(zlib.Z_FULL_FLUSH)  # refers to nothing before it
    bomb = server_frame(BINARY | RSV1, (mebibyte * 1024)[:-4])
    assert len(bomb) < 2 * MIB
    with RawServer() as server, Owned() as owned:
        peer = connected(owned, server, "permessage-deflate", max_message=16 * MIB)
        before = peak_memory(owned.pid)
        peer.send(server_frame(TEXT, b"good") + bomb)
        code, text = peer.read_close()
        taken = peak_memory(owned.pid) - before  # it waits for us to end the connection
        peer.sock.close()
        assert (code, text) == (1009, f"a compressed message of more than {16 * MIB} bytes")
        assert owned.message() == b"good"
        assert owned.down().code == 1009
    assert taken < 48 * MIB


def test_row_59_the_exchange_sees_the_bomb_refused_and_the_next_owner_is_up() -> None:
    stream = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = server_frame(TEXT | RSV1, (stream.compress(b"a" * 64 * MIB) + stream.flush(zlib.Z_SYNC_FLUSH))[:-4])
    with Exchange(deflate="permessage-deflate") as exchange:
        endpoint = exchange.endpoint("feed", compression=True, max_message=MIB, restart={"backoff_initial": 0.02})
        with supervise(endpoint, start_method="forkserver") as feed:
            collect(feed, is_event(Up, "feed"))
            exchange.raw(bomb)
            collect(feed, is_event(Up, "feed", 2))
            assert exchange.closes[1] == 1009
