"""The beginning of a connection and what keeps it up, as a dialect says: a real owner against a peer of bytes."""

from __future__ import annotations

import threading
import time
from typing import Any

import orjson
import pytest

from tests.support.owned import Owned, forkserver
from tests.support.rawserver import RawPeer, RawServer, server_frame
from wsadapter.contract.endpoint import Endpoint
from wsadapter.contract.ipc.commands import REQUEST, SEND_TEXT, SUBSCRIBE, TAKEN, RequestCommand

__all__ = ["forkserver"]

TEXT, CLOSE, PING, PONG = 1, 8, 9, 10
QUIET = {"kind": "none"}
DIALECT: dict[str, Any] = {
    "subscribe": {"frame": '{"sub":"$streams","id":"$id"}', "per_frame": 100},
    "ack": [{"match": {"ok": True}, "id": "id"}],
}
RULES: dict[str, Any] = {
    "answer": [{"contains": '"ping"', "match": {"ping": "*"}, "frame": '{"pong":"$.ping","id":"$id"}'}],
    "housekeeping": [{"contains": '"beat"', "match": {"type": "beat"}, "heartbeat": True}],
    "notice": [{"contains": '"notice"', "match": {"event": "notice"}, "text": "msg"}],
}


def assigned(owned: Owned, server: RawServer, *wanted: str, dialect: dict[str, Any], **settings: Any) -> RawPeer:
    settings.setdefault("heartbeat", QUIET)
    owned.assign(Endpoint("feed", url=server.url, **settings), dialect={**DIALECT, **dialect}, wanted=wanted)
    peer = server.accept_websocket()
    owned.report("up")
    return peer


def test_nothing_is_sent_before_the_peers_word_and_then_everything_in_order() -> None:
    dialect = {"ready": [{"match": {"type": "welcome"}}], "on_up": [{"frame": '{"conf":1,"id":"$id_text"}'}]}
    with RawServer() as server, Owned() as owned:
        peer = assigned(owned, server, "a", dialect=dialect, send_on_up=["mine"], heartbeat={"interval": 0.05, "timeout": 10})
        owned.tell(SEND_TEXT, 7, b"the user's")
        owned.tell(SUBSCRIBE, 8, {"streams": ["b"]})
        peer.send_frame(PING, b"early")
        assert peer.read_frame() == (PONG, b"early")
        peer.sock.settimeout(0.3)
        with pytest.raises(TimeoutError):
            peer.read_frame()
        peer.sock.settimeout(10)
        peer.send(server_frame(TEXT, b'"data"') + server_frame(TEXT, b'{"type":"welcome"}') + server_frame(TEXT, b'"more"'))
        frames = [peer.read_frame()[1] for _ in range(4)]
        assert frames == [b"the user's", b'{"conf":1,"id":"1"}', b"mine", b'{"sub":["a","b"],"id":2}']
        assert {owned.answer().ref, owned.answer().ref} == {7, 8}
        assert owned.messages(2) == [b'"data"', b'"more"']
        assert peer.read_frame()[0] == PING


def test_a_word_that_does_not_come_ends_the_connection() -> None:
    with RawServer() as server, Owned() as owned:
        assigned(owned, server, dialect={"ready": [{"match": {"type": "welcome"}}]}, timeouts={"handshake": 0.3})
        reason = owned.down()
        assert (reason.kind, reason.text) == ("not_ready", "the dialect's [[ready]] did not come within 0.3 s")


def test_it_settles_before_it_sends() -> None:
    with RawServer() as server, Owned() as owned:
        began = time.monotonic()
        peer = assigned(owned, server, "a", dialect={"connection": {"settle": 0.4}})
        assert peer.read_frame()[1] == b'{"sub":["a"],"id":1}'
        assert time.monotonic() - began >= 0.4


def test_a_stop_before_the_peers_word_closes_the_connection() -> None:
    with RawServer() as server, Owned() as owned:
        peer = assigned(owned, server, dialect={"ready": [{"match": {"type": "welcome"}}]})
        owned.stop()
        assert peer.read_close()[0] == 1000
        peer.sock.close()
        assert owned.down().kind == "stopped"


def test_a_request_before_the_peers_word_waits_for_it() -> None:
    with RawServer() as server, Owned() as owned:
        peer = assigned(owned, server, dialect={"ready": [{"match": {"type": "welcome"}}]})
        request = RequestCommand(id="5", payload=b'{"id":5}', until=time.monotonic() + 10)
        owned.tell(REQUEST, 3, request.encode())
        peer.send_frame(TEXT, b'{"type":"welcome"}')
        assert peer.read_frame()[1] == b'{"id":5}'
        assert owned.answer().kind == TAKEN


@pytest.mark.parametrize("deliver", [False, True])
def test_the_peers_question_is_answered_and_no_message(deliver: bool) -> None:
    with RawServer() as server, Owned() as owned:
        peer = assigned(owned, server, dialect=RULES, deliver_heartbeats=deliver)
        owned.report("restored")
        stream = [b'"a"', b'{"ping":18446744073709551615}', b'{"type":"beat"}', b'{"said":"\\"ping\\""}']
        peer.send(b"".join(server_frame(TEXT, text) for text in stream))
        assert orjson.loads(peer.read_frame()[1]) == {"pong": 18446744073709551615, "id": 1}
        assert owned.messages(4 if deliver else 2) == (stream if deliver else [stream[0], stream[3]])


def test_an_answer_goes_before_what_waits_to_be_sent() -> None:
    paced = {"sends": 1, "sends_period": 0.5}
    with RawServer() as server, Owned() as owned:
        peer = assigned(owned, server, dialect=RULES, limits=paced)
        for number in range(1, 4):
            owned.tell(SEND_TEXT, number, b'"user %d"' % number)
        assert peer.read_frame()[1] == b'"user 1"'
        peer.send_frame(TEXT, b'{"ping":1}')
        assert [peer.read_frame()[1] for _ in range(3)] == [b'{"pong":1,"id":1}', b'"user 2"', b'"user 3"']


@pytest.mark.parametrize(
    ("opcode", "beat"), [(TEXT, b'{"type":"beat"}'), (TEXT, b'{"ping":1}'), (PING, b"")], ids=["told", "asked", "ping"]
)
def test_the_peers_heartbeats_keep_the_connection_and_data_do_not(opcode: int, beat: bytes) -> None:
    beats = {"kind": "none", "server_interval": 0.3, "server_missed": 3}
    with RawServer() as server, Owned() as owned:
        peer = assigned(owned, server, dialect=RULES, heartbeat=beats)
        owned.report("restored")
        for _ in range(4):
            time.sleep(0.3)  # more than the whole of it, altogether
            peer.send_frame(opcode, beat)
        last = time.monotonic()
        ended = threading.Event()
        talking = threading.Thread(target=_talk, args=(peer, ended))
        talking.start()
        try:
            while isinstance(item := owned.next(), bytes):
                assert item == b'"data"'
        finally:
            ended.set()
            talking.join()
        assert item.event == "down"
        assert item.fields["reason"]["kind"] == "heartbeat_missed"
        assert item.fields["reason"]["text"] == "the peer missed 3 of its own heartbeats, which are due every 0.3 s"
        assert 0.8 < time.monotonic() - last < 2.5


def test_a_peer_that_sends_heartbeats_but_no_pongs_keeps_its_connection() -> None:
    beats = {"kind": "ping", "interval": 0.1, "timeout": 0.1, "server_interval": 2.0}
    with RawServer() as server, Owned() as owned:
        peer = assigned(owned, server, dialect=RULES, heartbeat=beats)
        owned.report("restored")
        assert [peer.read_frame()[0] for _ in range(8)] == [PING] * 8
        peer.send_frame(TEXT, b'"still here"')
        assert owned.message() == b'"still here"'
        peer.send_frame(CLOSE, (5001).to_bytes(2, "big") + b"maintenance")
        assert owned.report("down")["reason"] == {
            "kind": "protocol_error", "code": 1002, "text": "a close frame with the code 5001: maintenance",
        }  # fmt: skip


def _talk(peer: RawPeer, ended: threading.Event) -> None:
    while not ended.wait(0.02):
        try:
            peer.send_frame(TEXT, b'"data"')
        except OSError:
            return


def test_an_idle_heartbeat_is_sent_only_in_silence() -> None:
    beat = {"kind": "text", "payload": "ping", "reply": "pong", "when": "idle", "interval": 0.4, "timeout": 10}
    with RawServer() as server, Owned() as owned:
        peer = assigned(owned, server, dialect={}, heartbeat=beat)
        for _ in range(10):
            peer.send_frame(TEXT, b'"data"')
            time.sleep(0.1)
        spoken = time.monotonic()
        assert peer.read_frame() == (TEXT, b"ping")
        assert 0.25 < time.monotonic() - spoken < 1.5


def test_a_notice_is_reported_once() -> None:
    with RawServer() as server, Owned() as owned:
        peer = assigned(owned, server, dialect=RULES)
        owned.report("restored")
        notice = server_frame(TEXT, b'{"event":"notice","msg":"we go"}')
        peer.send(notice + server_frame(TEXT, b'"a"') + notice + server_frame(TEXT, b'"b"'))
        assert owned.report("notice") == {"text": "we go"}
        assert owned.messages(2) == [b'"a"', b'"b"']


def test_while_a_flood_comes_in_heartbeats_go_out_and_questions_are_answered() -> None:
    beats = {"interval": 0.1, "timeout": 2.0, "server_interval": 0.5, "server_missed": 4}
    with RawServer() as server, Owned() as owned:
        peer = assigned(owned, server, dialect=RULES, heartbeat=beats)
        owned.report("restored")
        ended = threading.Event()
        consumer = threading.Thread(target=_consume, args=(owned, ended))
        consumer.start()
        sending = threading.Lock()
        flood = threading.Thread(target=_flood, args=(peer, sending, ended))
        flood.start()
        try:
            pings = 0
            for number in range(10):
                with sending:
                    peer.send_frame(TEXT, b'{"ping":%d}' % number)
                asked = time.monotonic()
                while (frame := peer.read_frame())[0] == PING:
                    pings += 1
                    with sending:
                        peer.send_frame(PONG, frame[1])
                assert orjson.loads(frame[1])["pong"] == number
                assert time.monotonic() - asked < 2.0
                time.sleep(0.05)
            assert pings
        finally:
            ended.set()
            flood.join()
            peer.sock.close()
            consumer.join()


def _flood(peer: RawPeer, sending: threading.Lock, ended: threading.Event) -> None:
    many = server_frame(TEXT, b'{"data":"' + b"x" * 180 + b'"}') * 1000
    while not ended.is_set():
        with sending:
            peer.send(many)


def _consume(owned: Owned, ended: threading.Event) -> None:
    while True:
        try:
            item = owned.next()
        except (EOFError, AssertionError):
            return
        if not isinstance(item, bytes) and item.event == "down":
            assert ended.is_set(), item
