"""An owner and its connection, over real sockets: data, pings, closing from both sides, what the peer may not do."""

from __future__ import annotations

import os
import signal
import time

import pytest

from tests.support.owned import Owned, forkserver
from tests.support.rawserver import RawPeer, RawServer, server_frame
from wsadapter.contract.endpoint import Endpoint
from wsadapter.contract.ipc.commands import (
    FORGET,
    PROBE,
    PROBED,
    REFUSED,
    REQUEST,
    SEND_BINARY,
    SEND_TEXT,
    SUBSCRIBE,
    TAKEN,
    WITHDRAW,
    RequestCommand,
)
from wsadapter.contract.ipc.record import ANSWER

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


def test_a_ping_is_answered_with_its_payload() -> None:
    with RawServer() as server, Owned() as owned:
        peer = connected(owned, server)
        for payload in (b"", b"x" * 125):
            peer.send_frame(PING, payload)
            assert peer.read_frame() == (PONG, payload)


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


def test_messages_before_a_violation_can_be_answered_and_nothing_behind_it_is_read() -> None:
    with RawServer() as server, Owned() as owned:
        peer = connected(owned, server)
        peer.send(server_frame(TEXT, b"good") + b"\x85\x00" + server_frame(PING, b"?") + server_frame(TEXT, b"behind"))
        assert owned.message() == b"good"
        owned.tell(SEND_TEXT, 1, b"echo")
        owned.tell(REQUEST, 2, request("x"))
        assert peer.read_frame() == (TEXT, b"echo")
        peer.send_frame(TEXT, b"later")
        opcode, payload = peer.read_frame()
        assert (opcode, payload[:2]) == (CLOSE, (1002).to_bytes(2, "big"))
        peer.sock.close()
        assert [(answer.kind, answer.ref) for answer in (owned.answer(), owned.answer())] == [(TAKEN, 1), (REFUSED, 2)]
        assert owned.down().kind == "protocol_error"


@pytest.mark.parametrize(
    ("payload", "code"), [(b"", 1005), (b"\x03\xe9", 1001), ((4000).to_bytes(2, "big") + "ü".encode(), 4000)]
)
def test_the_peers_close_code_is_the_reason(payload: bytes, code: int) -> None:
    with RawServer() as server, Owned() as owned:
        peer = connected(owned, server)
        peer.send_frame(CLOSE, payload)
        opcode, echoed = peer.read_frame()
        assert (opcode, echoed) == (CLOSE, payload[:2])
        reason = owned.down()
        assert (reason.kind, reason.code, reason.text) == ("closed_by_peer", code, payload[2:].decode())


def test_the_end_of_the_connection_without_a_close_frame_is_1006() -> None:
    with RawServer() as server, Owned() as owned:
        peer = connected(owned, server)
        peer.send(server_frame(TEXT, b"last") + b"\x81\x05hal")
        peer.sock.close()
        assert owned.message() == b"last"
        reason = owned.down()
        assert (reason.kind, reason.code) == ("closed_by_peer", 1006)
        assert "without a close frame" in reason.text


def test_a_stop_sends_its_code_and_delivers_until_the_peers_close() -> None:
    with RawServer() as server, Owned() as owned:
        peer = connected(owned, server)
        owned.stop(1001, "recycled")
        assert peer.read_close() == (1001, "")
        owned.tell(SEND_TEXT, 7, b"too late")
        assert (refused := owned.answer()).kind == REFUSED
        assert refused.json()["fate"] == "not_sent"
        peer.send(server_frame(TEXT, b"still coming") + server_frame(CLOSE, b"\x03\xe9"))
        assert owned.message() == b"still coming"
        reason = owned.down()
        assert (reason.kind, reason.code) == ("recycled", 1001)


def test_a_peer_that_ignores_the_close_frame_is_left_at_the_deadline() -> None:
    with RawServer() as server, Owned() as owned:
        peer = connected(owned, server, timeouts={"close": 0.2})
        owned.stop()
        assert peer.read_close() == (1000, "")
        assert owned.down().kind == "stopped"


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


def request(known: str, *, within: float = 60.0) -> bytes:
    return RequestCommand(time.monotonic() + within, known, b'{"id":"%b"}' % known.encode()).encode()


def test_an_answer_is_a_marked_message_behind_its_announcement() -> None:
    with RawServer() as server, Owned() as owned:
        peer = connected(owned, server)
        owned.tell(REQUEST, 1, request("x"))
        assert peer.read_frame() == (TEXT, b'{"id":"x"}')
        assert (owned.answer().kind, owned.begun) == (TAKEN, [1])
        peer.send(b"".join(server_frame(TEXT, text) for text in (b"before", b'{"id":"x","error":1}', b"behind", b'{"id":"x"}')))
        assert owned.message() == b"before"
        assert owned.report("answer") == {"id": "x", "rejected": True}
        assert owned.messages(3) == [b'{"id":"x","error":1}', b"behind", b'{"id":"x"}']
        assert list(owned.records[-1].streams or ()) == [ANSWER, 0, 0]


def test_a_request_that_is_over_or_withdrawn_is_not_sent_and_a_forgotten_one_has_no_answer() -> None:
    with RawServer() as server, Owned() as owned:
        peer = connected(owned, server, limits={"sends": 1, "sends_period": 0.3}, heartbeat={"kind": "none"})
        owned.tell(REQUEST, 1, request("over", within=-1.0))
        for ref, known in ((2, "first"), (3, "withdrawn"), (4, "late"), (5, "last")):
            owned.tell(REQUEST, ref, request(known, within=0.1 if known == "late" else 60.0))
        owned.tell(WITHDRAW, 3)
        owned.tell(WITHDRAW, 2)
        owned.tell(FORGET, 0, {"ids": ["first"]})
        assert [peer.read_frame()[1] for _ in range(2)] == [b'{"id":"first"}', b'{"id":"last"}']
        answers = [(answer.kind, answer.ref) for answer in (owned.answer() for _ in range(5))]
        assert answers == [(REFUSED, 1), (TAKEN, 2), (REFUSED, 3), (TAKEN, 5), (REFUSED, 4)]
        assert owned.begun == [2, 5]
        peer.send(server_frame(TEXT, b'{"id":"first"}') + server_frame(TEXT, b'{"id":"last"}'))
        assert owned.message() == b'{"id":"first"}'
        assert owned.report("answer") == {"id": "last", "rejected": False}


def test_raw_frames_and_subscriptions_go_out_at_up_and_more_can_follow() -> None:
    with RawServer() as server, Owned() as owned:
        endpoint = Endpoint("feed", url=server.url, send_on_up=("hello",))
        owned.assign(endpoint, wanted=('{"a":1}', {"b": [2]}))
        peer = server.accept_websocket()
        owned.report("up")
        assert owned.report("restored") == {"ok": 2, "failed": ()}
        assert [peer.read_frame()[1] for _ in range(3)] == [b"hello", b'{"a":1}', b'{"b":[2]}']
        owned.tell(SUBSCRIBE, 0, {"streams": ["more"]})
        assert peer.read_frame() == (TEXT, b"more")


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
