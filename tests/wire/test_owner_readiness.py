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
from wsadapter.contract.ipc.commands import SEND_TEXT, SUBSCRIBE

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
