"""Gaps in an exchange's own numbers, from its socket to the consumer: before the message that shows them, and nothing false."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.support.feeds import DEADLINE, SOON, collect, is_event, messages_of, pid_of, supervise, to_the_end
from tests.support.rawserver import RawServer, server_frame
from tests.support.waiting import wait_until
from wsadapter import Endpoint, Gap, Item, Message, Restored, Up, capabilities
from wsadapter.outputs.lines import event_line
from wsadapter.testing import Exchange
from wsadapter.testing.recording import load_recording

TEXT = 1
DIALECT = """
dialect = { name = "mine", title = "An invented exchange", docs = "none" }
urls = { live = "wss://example.com" }
subscribe = { frame = '{"sub":"$streams"}', per_frame = 100 }
ack = [{ match = { ok = 1 } }]
stream = { path = "s" }
gap = [{ contains = '"n"', scope = ["s"], value = "n", snapshot = { type = "snapshot" } }]
"""


@pytest.fixture
def mine(tmp_path: Path) -> str:
    (tmp_path / "mine.toml").write_text(DIALECT)
    return str(tmp_path / "mine.toml")


def row(stream: str, number: int, **more: Any) -> bytes:
    return orjson.dumps({"s": stream, "n": number, **more})


def told(items: list[Item]) -> list[Any]:
    """The numbers of the messages, and (stream, expected, got) of the gaps, in order."""
    return [
        (item.stream, item.expected, item.got) if isinstance(item, Gap) and item.cause == "sequence" else item.json()["n"]
        for item in items
        if isinstance(item, Message) or (isinstance(item, Gap) and item.cause == "sequence")
    ]


def is_last(number: int) -> Any:
    return lambda item: isinstance(item, Message) and item.json()["n"] == number


def test_what_is_missing_twice_or_late_is_told_before_the_message_that_shows_it(mine: str, start_method: str) -> None:
    rows = [row("a", 1), row("b", 7), row("a", 2), row("a", 5), row("b", 8), row("b", 8), row("a", 6)]
    rows += [row("b", 20, type="snapshot"), row("b", 21), row("b", 99)]
    items: list[Item] = []
    with RawServer() as server:
        endpoint = Endpoint("x", url=server.url, dialect=mine, subscribe=["a", "b"], restart=SOON, timeouts={"close": 0.2})  # type: ignore[arg-type]
        with to_the_end(items, endpoint, start_method=start_method) as feed:
            feed.start()
            peer = server.accept_websocket()
            peer.read_frame()
            peer.send_frame(TEXT, b'{"ok":1}')
            items += collect(feed, is_event(Restored, "x"))
            peer.send(b"".join(server_frame(TEXT, one) for one in rows[:3]))
            items += collect(feed, is_last(2))
            stream = b"".join(server_frame(TEXT, one) for one in rows[3:])
            peer.send(stream[:11])
            peer.send(stream[11:])
            items += collect(feed, is_last(99))
            assert feed.status()["endpoints"]["x"]["gaps"] == 3
    assert told(items) == [1, 7, 2, ("a", 3, 5), 5, 8, ("b", 9, 8), 8, 6, 20, 21, ("b", 22, 99), 99]
    gap = next(item for item in items if isinstance(item, Gap))
    assert orjson.loads(event_line(gap))["stream"] == "a"


def test_a_new_connection_counts_anew(mine: str, start_method: str) -> None:
    items: list[Item] = []
    with Exchange(messages=[row("a", number).decode() for number in (5, 6, 7)], after_subscribe=True,
                  ack=[{"match": {"sub": "*"}, "reply": {"ok": 1}}]) as ex:  # fmt: skip
        endpoint = ex.endpoint("x", dialect=mine, subscribe=["a"], restart=SOON)
        with to_the_end(items, endpoint, start_method=start_method) as feed:
            items += collect(feed, is_last(7))
            ex.drop()
            items += collect(feed, is_event(Up, "x"))
            items += collect(feed, is_last(7))
    assert told(items) == [5, 6, 7, 5, 6, 7]
    assert [item.cause for item in items if isinstance(item, Gap)] == ["reconnected"]


@pytest.mark.skipif(not capabilities.custody(), reason="needs pidfd and the kernel's counters")
def test_after_a_lossless_handoff_it_counts_from_each_streams_first_message_and_tells_nothing_false(mine: str) -> None:
    items: list[Item] = []
    with RawServer() as server:
        endpoint = Endpoint("x", url=server.url, dialect=mine, subscribe=["a"], restart=SOON, timeouts={"close": 0.2})  # type: ignore[arg-type]
        with to_the_end(items, endpoint, start_method="forkserver") as feed:
            feed.start()
            peer = server.accept_websocket()
            peer.read_frame()
            peer.send_frame(TEXT, b'{"ok":1}')
            peer.send_frame(TEXT, row("a", 1))
            items += collect(feed, is_last(1))
            wait_until(lambda: feed.status()["endpoints"]["x"]["in_custody"], DEADLINE)
            os.kill(pid_of(feed, "x"), signal.SIGKILL)
            peer.send(server_frame(TEXT, row("a", 2)) + server_frame(TEXT, row("a", 3)) + server_frame(TEXT, row("a", 9)))
            items += collect(feed, is_last(9))
    assert told(items) == [1, 2, 3, ("a", 4, 9), 9]


def test_one_message_of_a_recording_gone_is_one_gap_of_its_stream() -> None:
    recorded = [orjson.loads(payload) for payload in load_recording("binance").payloads]
    books = [at for at, value in enumerate(recorded) if value["data"].get("e") == "depthUpdate"]
    most = max((recorded[at]["stream"] for at in books), key=[recorded[at]["stream"] for at in books].count)
    places = [at for at in books if recorded[at]["stream"] == most]
    gone, after = places[len(places) // 2], places[len(places) // 2 + 1]
    before = recorded[places[len(places) // 2 - 1]]
    messages = [payload.decode() for at, payload in enumerate(load_recording("binance").payloads) if at != gone]
    subscribed = sorted({value["stream"] for value in recorded})
    ack = [{"match": {"method": "SUBSCRIBE"}, "reply": {"result": None, "id": "$id"}}]
    with Exchange(messages=messages, after_subscribe=True, ack=ack) as ex:
        endpoint = ex.endpoint("x", dialect="binance", subscribe=subscribed)
        with supervise(endpoint, start_method="forkserver") as feed:
            items = collect(feed, lambda item: isinstance(item, Message) and item.number == len(messages))
    [gap] = [item for item in items if isinstance(item, Gap)]
    assert (gap.cause, gap.stream) == ("sequence", most)
    assert (gap.expected, gap.got) == (before["data"]["u"] + 1, recorded[after]["data"]["U"])
    following = items[items.index(gap) + 1]
    assert isinstance(following, Message)
    assert following.json() == recorded[after]
    assert [message.data.decode() for message in messages_of(items, "x")] == messages
