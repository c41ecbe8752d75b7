"""Heartbeats of every kind held, and their lack acted upon. Rows 29, 30, 32 and 66 of the fault table."""

from __future__ import annotations

import itertools
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any, Self

import orjson
import pytest

from tests.support.black_hole import swallow
from tests.support.feeds import (
    DEADLINE,
    SOON,
    collect,
    collect_for,
    events_of,
    is_event,
    is_message,
    pid_of,
    supervise,
    to_the_end,
)
from tests.support.rawserver import RawPeer, RawServer, server_frame
from tests.support.waiting import wait_until
from wsadapter import Down, Endpoint, Item, Message, Supervisor, Up, capabilities
from wsadapter.testing import Exchange

TEXT, CLOSE, PING, PONG = 1, 8, 9, 10
DIALECT = """
dialect = { name = "mine", title = "An invented exchange", docs = "none" }
urls = { live = "wss://example.com" }
subscribe = { frame = '{"sub":"$streams"}' }
answer = [{ contains = '"test"', match = { test = "*" }, frame = '{"tested":"$.test"}' }]
"""
BEATS: dict[str, dict[str, Any]] = {
    "ping": {"kind": "ping"},
    "text": {"kind": "text", "payload": "ping", "reply": "pong"},
    "json": {"kind": "json", "payload": '{"op":"ping"}', "reply": '{"op":"pong"}'},
}
INTERVAL, ALLOWED, ASLEEP = 0.3, 1.5, 4.0


@pytest.fixture
def mine(tmp_path: Path) -> str:
    (tmp_path / "mine.toml").write_text(DIALECT)
    return str(tmp_path / "mine.toml")


def endpoint(server: RawServer, mine: str, **settings: Any) -> Endpoint:
    return Endpoint("x", url=server.url, dialect=mine, **{"restart": SOON, "timeouts": {"close": 0.3}, **settings})


class Strict:
    """A peer that floods, wants a heartbeat in each `ALLOWED` and its questions answered within it, and else closes."""

    def __init__(self, peer: RawPeer, beat: dict[str, Any]) -> None:
        self._peer, self._beat = peer, beat
        self.beats = self.answers = 0
        self.broken = ""
        self._ended = threading.Event()
        self._sending = threading.Lock()
        self._asked: dict[int, float] = {}
        self._beaten_at = time.monotonic()
        self._threads = [threading.Thread(target=run) for run in (self._flood, self._listen, self._ask)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join(DEADLINE)

    def _send(self, frames: bytes) -> None:
        with self._sending:
            self._peer.send(frames)

    def _flood(self) -> None:
        many = server_frame(TEXT, orjson.dumps({"data": "x" * 180})) * 100
        while not self._ended.wait(0.01):
            self._send(many)

    def _ask(self) -> None:
        for number in itertools.count():
            if self._ended.wait(INTERVAL):
                return
            now = time.monotonic()
            late = [asked for asked in self._asked.values() if now - asked > ALLOWED]
            if late or now - self._beaten_at > ALLOWED:
                self.broken = f"{len(late)} questions, and {now - self._beaten_at:.1f} s since a heartbeat"
                self._send(server_frame(CLOSE, b"\x0f\xa0"))
                return
            self._asked[number] = now
            self._send(server_frame(TEXT, b'{"test":%d}' % number))

    def _listen(self) -> None:
        self._peer.sock.settimeout(0.2)
        while not self._ended.is_set():
            try:
                opcode, payload = self._peer.read_frame()
            except TimeoutError:
                continue
            if payload.startswith(b'{"tested"'):
                self._asked.pop(orjson.loads(payload)["tested"])
                self.answers += 1
            elif opcode == PING or payload == self._beat.get("payload", "").encode():
                self._beaten_at = time.monotonic()
                self.beats += 1
                self._send(server_frame(PONG, payload) if opcode == PING else server_frame(TEXT, self._beat["reply"].encode()))


@pytest.mark.parametrize("kind", BEATS)
def test_row_32_every_deadline_is_kept_while_the_consumer_sleeps_and_the_peer_floods(kind: str, mine: str) -> None:
    beat = {**BEATS[kind], "interval": INTERVAL, "timeout": ALLOWED}
    settings = {"heartbeat": beat, "buffer": {"max_bytes": 1 << 20}, "watchdog": {"progress": 2.0}}
    with RawServer() as server, supervise(endpoint(server, mine, **settings), start_method="forkserver") as feed:
        peer = server.accept_websocket()
        collect(feed, is_event(Up, "x"))
        with Strict(peer, BEATS[kind]) as strict:
            time.sleep(ASLEEP)  # this is the consumer
            status = feed.status()["endpoints"]["x"]
        assert strict.broken == ""
        assert strict.beats >= ASLEEP / INTERVAL / 2
        assert strict.answers >= ASLEEP / INTERVAL / 2
        assert (status["state"], status["epoch"]) == ("up", 1)
        assert status["dropped"] > 0
        assert 0 < status["rtt"] < ALLOWED
        feed.stop()
        rest = list(feed)
    assert not any(isinstance(item, Message) and (b"test" in item.data or b"pong" in item.data) for item in rest)


def test_row_29_a_peer_that_falls_mute_in_the_middle_of_a_frame_is_left(start_method: str) -> None:
    items: list[Item] = []
    with Exchange(messages=["a"]) as ex:
        one = ex.endpoint("x", restart=SOON, heartbeat={"interval": 0.3, "timeout": 0.5}, timeouts={"close": 0.3})
        with to_the_end(items, one, start_method=start_method) as feed:
            items += collect(feed, is_message("x"))
            ex.mute_mid_frame()
            items += collect(feed, is_message("x", 2))
    assert events_of(items, "x", Down)[0].reason.kind == "heartbeat_missed"


def test_row_28_a_peer_that_answers_pings_and_delivers_nothing_is_left() -> None:
    items: list[Item] = []
    settings: dict[str, Any] = {"heartbeat": {"interval": 0.2, "timeout": 30}, "watchdog": {"silence": 1.5}}
    with (
        RawServer() as server,
        to_the_end(items, Endpoint("x", url=server.url, restart=SOON, **settings), start_method="forkserver") as feed,
    ):
        feed.start()
        peer = server.accept_websocket()
        peer.send_frame(TEXT, b'"a"')
        answered = 0
        with pytest.raises((EOFError, ConnectionError)):  # at the end of the connection
            while True:
                opcode, payload = peer.read_frame()
                assert opcode == PING
                peer.send_frame(PONG, payload)
                answered += 1
        assert answered > 3
        server.accept_websocket().send_frame(TEXT, b'"b"')
        items += collect(feed, is_message("x", 2))
    assert events_of(items, "x", Down)[0].reason.kind == "silence"


@pytest.mark.parametrize(
    ("settings", "kind"),
    [
        ({"heartbeat": {"interval": 0.3, "timeout": 0.5}}, "heartbeat_missed"),
        ({"heartbeat": {"kind": "none"}, "watchdog": {"silence": 0.8}}, "silence"),
        ({"heartbeat": {"kind": "none", "server_interval": 0.3, "server_missed": 3}}, "heartbeat_missed"),
    ],
    ids=["heartbeat", "silence", "the peer's"],
)
@pytest.mark.native
def test_row_30_a_network_that_swallows_every_packet_is_seen(settings: dict[str, Any], kind: str, mine: str) -> None:
    items: list[Item] = []
    with RawServer() as server, to_the_end(items, endpoint(server, mine, **settings), start_method="forkserver") as feed:
        feed.start()
        peer = server.accept_websocket()
        peer.send_frame(TEXT, b'"a"')
        items += collect(feed, is_message("x"))
        swallow(peer.sock)
        began = time.monotonic()
        again = server.accept_websocket()
        assert time.monotonic() - began < 3.0
        again.send_frame(TEXT, b'"b"')
        items += collect(feed, is_message("x", 2))
    assert events_of(items, "x", Down)[0].reason.kind == kind


@pytest.mark.skipif(not capabilities.custody(), reason="needs pidfd and the kernel's counters")
def test_the_heartbeats_of_a_connection_keep_their_interval_over_its_owners() -> None:
    interval = 2.0

    def beat(peer: RawPeer) -> float:
        opcode, payload = peer.read_frame()
        assert opcode == PING
        peer.send_frame(PONG, payload)
        return time.monotonic()

    items: list[Item] = []
    with RawServer() as server:
        one = Endpoint("x", url=server.url, restart=SOON, timeouts={"close": 0.3}, heartbeat={"interval": interval})
        with to_the_end(items, one, start_method="forkserver") as feed:
            feed.start()
            peer = server.accept_websocket()
            opened = time.monotonic()
            items += collect(feed, is_event(Up, "x"))
            kill_when_held(feed)
            first = beat(peer)
            assert first - opened < interval  # nothing was sent yet: at once
            items += collect(feed, is_event(Up, "x", 2))
            items += collect_for(feed, first + 0.7 * interval - time.monotonic())
            kill_when_held(feed)
            second = beat(peer)
            assert 0.9 * interval < second - first < 1.6 * interval  # counted from the second owner's start: 1.7
            items += collect(feed, is_event(Up, "x", 3))
    assert [up.resumed for up in events_of(items, "x", Up)] == [False, True, True]


def kill_when_held(feed: Supervisor) -> None:
    """End the owner of "x" once its connection would outlive it."""
    wait_until(lambda: feed.status()["endpoints"]["x"]["in_custody"], DEADLINE)
    os.kill(pid_of(feed, "x"), signal.SIGKILL)


def test_row_66_a_drop_between_a_ping_and_its_pong_leaves_nothing_for_the_next_connection(mine: str) -> None:
    items: list[Item] = []
    beat = {"interval": 0.3, "timeout": 0.6}
    with RawServer() as server, to_the_end(items, endpoint(server, mine, heartbeat=beat), start_method="forkserver") as feed:
        feed.start()
        peer = server.accept_websocket()
        opcode, old = peer.read_frame()
        assert opcode == PING
        peer.sock.close()
        peer = server.accept_websocket()
        opened = time.monotonic()
        peer.send_frame(PONG, old)  # of the connection before: no answer to the ping of this one
        for _ in range(4):
            opcode, payload = peer.read_frame()
            assert opcode == PING
            assert payload != old
            peer.send_frame(PONG, payload)
        assert time.monotonic() - opened > 4 * 0.3 * 0.9
        peer.send_frame(TEXT, b'"alive"')
        items += collect(feed, is_message("x", 2))
        peer.read_frame()
        peer.send_frame(PONG, old)
        items += collect(feed, is_event(Down, "x", 2))
    kinds = [down.reason.kind for down in events_of(items, "x", Down)]
    assert kinds[:2] == ["closed_by_peer", "heartbeat_missed"]


def test_row_66_a_drop_between_a_question_and_its_answer_is_a_new_connection_and_no_stale_answer(mine: str) -> None:
    items: list[Item] = []
    with RawServer() as server, to_the_end(items, endpoint(server, mine), start_method="forkserver") as feed:
        feed.start()
        for number in range(1, 6):
            peer = server.accept_websocket()
            peer.send(server_frame(TEXT, b'{"test":%d}' % number))
            peer.sock.close()  # the answer meets a reset, or nobody
        peer = server.accept_websocket()
        peer.send_frame(TEXT, b'{"test":"last"}')
        assert peer.read_frame() == (TEXT, b'{"tested":"last"}')
        items += collect_for(feed, 0.3)
        items += collect(feed, is_event(Up, "x", 6)) if not any(is_event(Up, "x", 6)(item) for item in items) else []
    reasons = [down.reason for down in events_of(items, "x", Down)][:5]
    assert {reason.kind for reason in reasons} <= {"closed_by_peer", "send_failed"}
    assert not any(isinstance(item, Message) for item in items)
