"""Payloads that an exchange compresses itself, from its socket to the consumer."""

from __future__ import annotations

import gzip
import os
import signal
import zlib
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.support.feeds import DEADLINE, SOON, collect, is_event, is_message, messages_of, pid_of, supervise, to_the_end
from tests.support.rawserver import RawServer, server_frame
from tests.support.waiting import wait_until
from wsadapter import Down, Endpoint, Gap, Item, Message, Up, capabilities
from wsadapter.testing import Exchange

TEXT, BINARY = 1, 2
MIB = 1024 * 1024
DIALECT = """
dialect = { name = "mine", title = "An invented exchange", docs = "none" }
urls = { live = "wss://example.com" }
payload = { compression = "gzip" }
subscribe = { frame = '{"sub":"$streams"}', per_frame = 100 }
ack = [{ match = { ok = 1 } }]
stream = { path = "s" }
answer = [{ contains = '"ping"', match = { ping = "*" }, frame = '{"pong":"$.ping"}' }]
"""


@pytest.fixture
def mine(tmp_path: Path) -> str:
    (tmp_path / "mine.toml").write_text(DIALECT)
    return str(tmp_path / "mine.toml")


def packed(value: Any) -> bytes:
    return server_frame(BINARY, gzip.compress(orjson.dumps(value)))


def test_everything_looks_into_what_is_in_them(mine: str, start_method: str) -> None:
    items: list[Item] = []
    with RawServer() as server:
        endpoint = Endpoint("x", url=server.url, dialect=mine, subscribe=["a", "b"], restart=SOON, timeouts={"close": 0.2})  # type: ignore[arg-type]
        with to_the_end(items, endpoint, start_method=start_method) as feed:
            feed.start()
            peer = server.accept_websocket()
            assert peer.read_frame()[1] == b'{"sub":["a","b"]}'
            peer.send(packed({"ok": 1}) + packed({"s": "a", "n": 1}) + packed({"ping": 5}) + packed({"s": "b", "n": 2}))
            assert peer.read_frame() == (TEXT, b'{"pong":5}')
            peer.send(server_frame(BINARY, gzip.compress(b"\xff")) + server_frame(TEXT, b'{"s":"a","n":3}'))
            items += collect(feed, lambda item: isinstance(item, Message) and item.data == b'{"s":"a","n":3}')
    found = [(message.stream, message.data, message.binary) for message in messages_of(items, "x")]
    assert found == [
        ("a", b'{"s":"a","n":1}', False),
        ("b", b'{"s":"b","n":2}', False),
        (None, b"\xff", True),
        ("a", b'{"s":"a","n":3}', False),
    ]


@pytest.mark.skipif(not capabilities.custody(), reason="needs pidfd and the kernel's counters")
def test_they_survive_their_owner(mine: str) -> None:
    items: list[Item] = []
    with RawServer() as server:
        endpoint = Endpoint("x", url=server.url, dialect=mine, subscribe=["a"], restart=SOON, timeouts={"close": 0.2})  # type: ignore[arg-type]
        with to_the_end(items, endpoint, start_method="forkserver") as feed:
            feed.start()
            peer = server.accept_websocket()
            peer.read_frame()
            second = packed({"s": "a", "n": 2})
            peer.send(packed({"ok": 1}) + packed({"s": "a", "n": 1}) + second[:7])
            items += collect(feed, is_message("x"))
            wait_until(lambda: feed.status()["endpoints"]["x"]["in_custody"], DEADLINE)
            os.kill(pid_of(feed, "x"), signal.SIGKILL)
            peer.send(second[7:] + packed({"s": "a", "n": 3}))
            items += collect(feed, lambda item: isinstance(item, Message) and item.json()["n"] == 3)
            assert feed.status()["endpoints"]["x"]["handoffs"] == 1
    assert [message.json()["n"] for message in messages_of(items, "x")] == [1, 2, 3]


@pytest.mark.skipif(not capabilities.custody(), reason="needs pidfd and the kernel's counters")
def test_each_element_of_an_array_is_a_message_also_where_an_owner_dies_within_the_array(mine: str) -> None:
    split = DIALECT.replace('compression = "gzip"', "text = true, split = true")
    Path(mine).write_text(split + "gap = [{ contains = '\"n\"', scope = ['s'], value = 'n' }]")
    items: list[Item] = []
    with RawServer() as server:
        endpoint = Endpoint("x", url=server.url, dialect=mine, subscribe=["a", "b"], restart=SOON, timeouts={"close": 0.2})  # type: ignore[arg-type]
        with to_the_end(items, endpoint, start_method="forkserver") as feed:
            feed.start()
            peer = server.accept_websocket()
            peer.read_frame()
            array = server_frame(BINARY, b'[{"s":"a","n":2}, {"s": "b", "n": 1.50},\n{"s":"a","n":3,"x":[]}]')
            peer.send(server_frame(TEXT, b'[{"ok":1},{"s":"a","n":1}]') + server_frame(BINARY, b"\xff[1]") + array[:40])
            items += collect(feed, lambda item: isinstance(item, Message) and item.data == b"\xff[1]")
            wait_until(lambda: feed.status()["endpoints"]["x"]["in_custody"], DEADLINE)
            os.kill(pid_of(feed, "x"), signal.SIGKILL)
            peer.send(array[40:] + server_frame(TEXT, b'[{"s":"a","n":4},{"s":"a","n":6}]') + server_frame(TEXT, b"[]"))
            items += collect(feed, lambda item: isinstance(item, Message) and item.data == b"[]")
            assert feed.status()["endpoints"]["x"]["handoffs"] == 1
    assert [(message.stream, message.data, message.number) for message in messages_of(items, "x")] == [
        ("a", b'{"s":"a","n":1}', 1),
        (None, b"\xff[1]", 2),
        ("a", b'{"s":"a","n":2}', 3),
        ("b", b'{"s": "b", "n": 1.50}', 4),
        ("a", b'{"s":"a","n":3,"x":[]}', 5),
        ("a", b'{"s":"a","n":4}', 6),
        ("a", b'{"s":"a","n":6}', 7),
        (None, b"[]", 8),
    ]
    (gap,) = (item for item in items if isinstance(item, Gap))
    assert (gap.cause, gap.stream, gap.expected, gap.got) == ("sequence", "a", 5, 6)


def test_row_59_a_bomb_in_a_payload_is_closed_and_the_next_owner_is_up(mine: str) -> None:
    stream = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = stream.compress(bytes(64 * MIB)) + stream.flush()
    with Exchange() as ex:
        endpoint = ex.endpoint("x", dialect=mine, max_message=MIB, restart=SOON)
        with supervise(endpoint, start_method="forkserver") as feed:
            collect(feed, is_event(Up, "x"))
            ex.send(bomb)
            items = collect(feed, is_event(Up, "x", 2))
            assert ex.closes[1] == 1009
    down = next(item for item in items if isinstance(item, Down))
    assert (down.reason.kind, down.reason.text) == ("protocol_error", f"a compressed payload of more than {MIB} bytes")
