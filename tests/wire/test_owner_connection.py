"""An owner and its connection, over real sockets: data, pings, closing from both sides, what the peer may not do."""

from __future__ import annotations

import os
import signal

import pytest

from tests.support.owned import Owned, forkserver
from tests.support.rawserver import RawPeer, RawServer, server_frame
from wsadapter.contract.endpoint import Endpoint
from wsadapter.contract.ipc.commands import (
    PROBE,
    PROBED,
    SEND_BINARY,
    SEND_TEXT,
    TAKEN,
)

pytestmark = pytest.mark.portable

__all__ = ["forkserver"]

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


def connected(owned: Owned, server: RawServer, **settings: object) -> RawPeer:
    """An owner that is up with `server`."""
    owned.assign(Endpoint("feed", url=server.url, **settings))  # type: ignore[arg-type]
    peer = server.accept_websocket()
    owned.up()
    return peer


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_messages_arrive_in_order_from_the_first_byte_behind_the_handshake(method: str) -> None:
    with RawServer() as server, Owned(method) as owned:
        owned.assign(Endpoint("feed", url=server.url))
        peer = server.accept_websocket(behind=server_frame(TEXT, b"first") + b"\x81")
        up = owned.up()
        assert up["subprotocol"] is None
        assert up["peer"] == f"127.0.0.1:{server.port}"
        assert up["headers"]["upgrade"] == "websocket"
        peer.send(b"\x06second" + server_frame(BINARY, b"\x00\xff") + server_frame(TEXT, b""))
        assert owned.messages(4) == [b"first", b"second", b"\x00\xff", b""]
        peer.send_frame(CLOSE, (1000).to_bytes(2, "big") + b"bye")
        assert peer.read_close() == (1000, "")
        reason = owned.down()
        assert (reason.kind, reason.code, reason.text) == ("closed_by_peer", 1000, "bye")
        assert peer.at_end()


def test_the_position_counts_every_byte_since_the_handshake() -> None:
    with RawServer() as server, Owned() as owned:
        peer = connected(owned, server)
        frames = server_frame(TEXT, b"a" * 300) + server_frame(PING, b"") + server_frame(BINARY, b"b")
        for _ in range(3):
            peer.send(frames + b"\x81")
            assert len(owned.messages(2)) == 2
            assert owned.records[-1].position % (len(frames) + 2) in (0, len(frames))
            peer.send(b"\x00")
            assert owned.message() == b""
        assert owned.records[-1].position == 3 * (len(frames) + 2)
        assert owned.records[-1].tail == 0


def test_a_message_of_several_megabytes_and_one_in_fragments_with_a_ping_between_arrive_whole() -> None:
    large = os.urandom(5_079_379)
    with RawServer() as server, Owned() as owned:
        peer = connected(owned, server)
        peer.send_frame(BINARY, large)
        assert owned.message() == large
        peer.send_frame(TEXT, "Stra\u00df".encode()[:-1], fin=False)
        peer.send_frame(PING, b"?")
        peer.send_frame(0, b"\x9fe", fin=True)
        peer.send_frame(TEXT, b"next")
        assert peer.read_frame() == (PONG, b"?")
        assert owned.messages(2) == ["Stra\u00dfe".encode(), b"next"]


@pytest.mark.parametrize(
    ("sent", "code", "text"),
    [
        (server_frame(TEXT, b"\xff\xfe"), 1007, "not UTF-8"),
        (server_frame(TEXT, b"12345678901"), 1009, "more than 10 bytes"),
        (b"\x82\x7f\x00\x00\x00\x01\x00\x00\x00\x00", 1009, "more than 10 bytes"),
        (b"\xc1\x01a", 1002, "reserved bits"),
        (b"\x83\x01a", 1002, "reserved opcode 3"),
        (b"\x8b\x00", 1002, "reserved opcode 11"),
        (b"\x09\x00", 1002, "fragmented control"),
        (b"\x89\x7e\x00\x7e", 1002, "control frame of 126"),
        (b"\x81\x81\0\0\0\0a", 1002, "masked"),
        (b"\x80\x01a", 1002, "continuation"),
        (b"\x01\x01a\x81\x01b", 1002, "new message"),
        (server_frame(CLOSE, b"\x03"), 1002, "1 byte"),
        (server_frame(CLOSE, b"\x03\xed"), 1002, "1005"),
        (server_frame(CLOSE, b"\x03\xe8\xff"), 1007, "UTF-8"),
    ],
)
def test_row_58_a_peer_that_breaks_the_protocol_is_told_why_after_its_good_messages_were_delivered(
    sent: bytes, code: int, text: str
) -> None:
    with RawServer() as server, Owned() as owned:
        peer = connected(owned, server, max_message=10)
        peer.send(server_frame(TEXT, b"good") + sent)
        assert peer.read_close()[0] == code
        peer.sock.close()
        assert owned.message() == b"good"
        reason = owned.down()
        assert (reason.kind, reason.code) == ("protocol_error", code)
        assert text in reason.text


@pytest.mark.parametrize("ends", [("hang_up",), ("stop_reading",), ("stop_reading", "hang_up")])
def test_the_death_of_the_supervisor_closes_with_1001(ends: tuple[str, ...]) -> None:
    with RawServer() as server, Owned() as owned:
        peer = connected(owned, server)
        os.kill(owned.pid, signal.SIGSTOP)  # so that it sees everything at the same time
        for end in ends:
            getattr(owned, end)()
        peer.send_frame(TEXT, b"nobody reads this")
        os.kill(owned.pid, signal.SIGCONT)
        assert peer.read_close() == (1001, "")
        assert owned.exit_code() is not None  # also where the peer does not answer
        assert peer.at_end()


def test_sigterm_closes_with_1001_and_says_so_and_sigint_does_nothing() -> None:
    with RawServer() as server, Owned() as owned:
        peer = connected(owned, server)
        os.kill(owned.pid, signal.SIGINT)
        peer.send_frame(PING, b"alive?")
        assert peer.read_frame() == (PONG, b"alive?")
        os.kill(owned.pid, signal.SIGTERM)
        assert peer.read_close() == (1001, "")
        peer.send_frame(CLOSE, b"\x03\xe9")
        reason = owned.down()
        assert (reason.kind, reason.code, reason.text) == ("stopped", 1001, "SIGTERM")


def test_what_is_sent_reaches_the_peer_and_is_confirmed() -> None:
    with RawServer() as server, Owned() as owned:
        peer = connected(owned, server)
        large = os.urandom(300_000)
        owned.tell(SEND_TEXT, 11, "grüß".encode())
        owned.tell(SEND_BINARY, 12, large)
        assert peer.read_frame() == (TEXT, "grüß".encode())
        assert peer.read_frame() == (BINARY, large)
        assert [(owned.answer().kind, ref) for ref in (11, 12)] == [(TAKEN, 11), (TAKEN, 12)]
        assert owned.begun == [11, 12]


def test_a_send_that_the_peer_does_not_read_fails_and_its_fate_is_unknown() -> None:
    with RawServer() as server, Owned() as owned:
        connected(owned, server, timeouts={"send": 0.3})
        owned.tell(SEND_BINARY, 1, bytes(30_000_000))
        owned.tell(SEND_BINARY, 2, b"behind it")
        refused = {(answer := owned.answer()).ref: answer.json()["fate"] for _ in range(2)}
        assert refused == {1: "unknown", 2: "not_sent"}
        assert owned.down().kind == "send_failed"


def test_a_probe_is_answered_by_the_loop() -> None:
    with RawServer() as server, Owned() as owned:
        peer = connected(owned, server, heartbeat={"interval": 0.05})
        opcode, payload = peer.read_frame()
        assert opcode == PING
        peer.send(server_frame(PONG, payload) + server_frame(TEXT, b"x"))
        owned.message()
        owned.tell(PROBE, 3)
        answer = owned.answer()
        assert (answer.kind, answer.ref) == (PROBED, 3)
        said = answer.json()
        assert said["stage"] == "up"
        assert said["received"] == len(payload) + 2 + 3
        assert 0 < said["rtt"] < 10
