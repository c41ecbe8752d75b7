"""An exchange that speaks a dialect, seen by a raw client that can also do what no owner does."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.support.rawclient import Ended, Frame, RawClient
from wsadapter.testing import Exchange, load_recording

DEPTH = [f'{{"stream":"x@depth","data":{{"e":"depthUpdate","U":{n},"u":{n}}}}}' for n in range(1, 100)]


class Bench:
    """An exchange and its clients."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack

    def exchange(self, **options: Any) -> Exchange:
        return self._stack.enter_context(Exchange(**{"dialect": "binance", **options}))

    def client(self, exchange: Exchange) -> RawClient:
        return self._stack.enter_context(RawClient(exchange.url, exchange.ca_file))


@pytest.fixture
def bench() -> Iterator[Bench]:
    with ExitStack() as stack:
        yield Bench(stack)


def subscribe(client: RawClient, *streams: str, number: int = 1) -> None:
    client.send(1, json.dumps({"method": "SUBSCRIBE", "params": streams, "id": number}).encode())


def said(client: RawClient) -> Any:
    """The next message that is no ping."""
    while (frame := client.frame()).opcode == 9:
        client.send(10, frame.payload)
    return json.loads(frame.payload)


def test_who_subscribes_nothing_gets_nothing_and_each_stream_begins_at_its_start(bench: Bench) -> None:
    ex = bench.exchange(messages=[*DEPTH[:3], DEPTH[0].replace("x@", "y@")])
    a, b = bench.client(ex), bench.client(ex)
    subscribe(a, "x@depth")
    assert [said(a) for _ in range(4)] == [{"result": "x@depth", "id": 1}, *map(json.loads, DEPTH[:3])]
    subscribe(a, "y@depth", number=2)
    assert [said(a)["id"], said(a)["stream"]] == [2, "y@depth"]
    subscribe(b, "x@depth", number=3)
    assert [said(b) for _ in range(4)] == [{"result": "x@depth", "id": 3}, *map(json.loads, DEPTH[:3])]
    assert ex.sent == {1: 4, 2: 3}


def test_one_feed_for_all_runs_on_and_gives_each_what_it_subscribed(bench: Bench) -> None:
    ex = bench.exchange(messages=DEPTH * 50, resume="continue", rate=1000)
    a, b = bench.client(ex), bench.client(ex)
    subscribe(a, "x@depth")
    subscribe(b, "y@depth")
    assert said(b) == {"result": "y@depth", "id": 1}
    assert said(a) == {"result": "x@depth", "id": 1}
    assert said(a)["data"]["u"] > 0
    subscribe(b, "x@depth", number=2)
    assert said(b)["id"] == 2
    assert said(b)["stream"] == "x@depth"


def test_an_unsubscribed_stream_ends_and_begins_anew(bench: Bench) -> None:
    ex = bench.exchange(messages=DEPTH, rate=1000)
    client = bench.client(ex)
    subscribe(client, "x@depth")
    said(client), said(client)
    client.send(1, b'{"method":"UNSUBSCRIBE","params":["x@depth"],"id":2}')
    while said(client).get("id") != 2:
        pass
    subscribe(client, "x@depth", number=3)
    assert said(client)["id"] == 3
    assert said(client) == json.loads(DEPTH[0])


def test_a_silent_stream_is_confirmed_and_one_that_is_heeded_again_speaks(bench: Bench) -> None:
    ex = bench.exchange(messages=DEPTH[:5], rate=500)
    ex.silence("x@depth")
    ex.reject("y@depth", "no")
    client = bench.client(ex)
    subscribe(client, "x@depth")
    assert said(client)["id"] == 1
    subscribe(client, "y@depth", number=2)
    assert said(client) == {"code": 1, "msg": "no", "id": 2}
    for stream in ("x@depth", "y@depth"):
        ex.heed(stream)
    other = bench.client(ex)
    subscribe(other, "x@depth", "y@depth")
    assert [said(other).get("id"), said(other)["data"]["u"]] == [1, 1]


def test_what_a_dialect_compresses_is_compressed_and_a_recording_stays_as_it_is(bench: Bench) -> None:
    ex = bench.exchange(dialect="htx", replay="htx", pace=0.1)
    client = bench.client(ex)
    client.send(1, b'{"sub":"market.trioeth.depth.step0","id":"7"}')
    frames = [client.frame() for _ in range(3)]
    assert {frame.opcode for frame in frames} == {2}
    assert json.loads(gzip.decompress(frames[0].payload))["id"] == "7"
    recorded = load_recording("htx").payloads
    assert all(frame.payload in recorded for frame in frames[1:])
    ping = json.loads(gzip.decompress(client.frame().payload)) if len(frames) == 3 else {}
    while "ping" not in ping:
        ping = json.loads(gzip.decompress(client.frame().payload))
    client.send(1, b'{"pong":%d}' % ping["ping"])
    ex.wait_for(lambda: ex.heartbeats[1]["answer"] == 1)
    assert ex.violations == []


def test_a_client_that_answers_no_heartbeat_is_closed_with_4000(bench: Bench) -> None:
    client = bench.client(bench.exchange(dialect="htx", pace=0.01, grace=0.1))
    while (frame := client.frame()).opcode == 2:
        pass
    assert frame == Frame(8, b"\x0f\xa0heartbeat")


def test_a_client_without_heartbeats_is_dropped(bench: Bench) -> None:
    ex = bench.exchange(dialect="bybit", pace=0.01, grace=0.1)
    client = bench.client(ex)
    with pytest.raises(Ended):
        while True:
            frame = client.frame()
            assert frame.opcode == 9
            client.send(10, frame.payload)
    ex.wait_for(lambda: ex.closes == {1: None})
    assert ex.violations == ["#1: no heartbeat (json) within 0.2 s and 0.1 s of grace"]


def test_who_does_not_wait_for_the_welcome_is_noted_and_answered(bench: Bench) -> None:
    ex = bench.exchange(dialect="kucoin")
    client = bench.client(ex)
    client.send(1, b'{"id":"0","type":"ping"}')
    assert [said(client)["type"] for _ in range(2)] == ["pong", "welcome"]
    assert ex.violations == ["#1: something was sent before the exchange's [[ready]]"]


def test_a_script_answers_what_the_dialect_does_not_know(bench: Bench) -> None:
    ex = bench.exchange(ack=[{"match": {"method": "LIST_SUBSCRIPTIONS"}, "reply": {"result": ["x"], "id": "$id"}}])
    client = bench.client(ex)
    client.send(1, b'{"method":"LIST_SUBSCRIPTIONS","id":9}')
    assert said(client) == {"result": ["x"], "id": 9}
    assert ex.violations == []
    client.send(2, b"\x00")
    ex.wait_for(lambda: ex.violations == ["#1: a binary message"])


def test_a_dialect_of_ones_own(bench: Bench, tmp_path: Path) -> None:
    """Without [stream]: the first subscription gets all data."""
    (tmp_path / "mine.toml").write_text(
        'dialect = { name = "mine", title = "Mine", docs = "none" }\nurls = { live = "wss://example.com" }\n'
        'subscribe = { frame = \'["sub","$stream"]\' }\nack = [{ match = { "0" = "ok" }, stream = "1" }]\n'
    )
    ex = bench.exchange(dialect=tmp_path / "mine.toml", messages=['["data",1]', '["ok","other"]', "no JSON", '["data",2]'])
    client = bench.client(ex)
    client.send(1, b'["sub","a"]')
    assert [said(client) for _ in range(3)] == [["ok", "a"], ["data", 1], ["data", 2]]


MINE = """
dialect = { name = "mine", title = "Mine", docs = "none" }
urls = { live = "wss://example.com" }
subscribe = { frame = '{"sub":"$streams","id":"$id"}', per_frame = 9 }
stream = { path = "s" }
ack = [{ match = { ok = true }, id = "id", data = "rows" }]
error = [{ match = { ok = false }, id = "id", text = "why" }]
"""


def mine(bench: Bench, folder: Path, more: str = "", **options: Any) -> Exchange:
    (folder / "mine.toml").write_text(MINE + more)
    return bench.exchange(dialect=folder / "mine.toml", **options)


def ask(client: RawClient, *streams: str, number: int = 1) -> None:
    client.send(1, json.dumps({"sub": streams, "id": number}).encode())


ROWS = [f'{{"s":"{name}","rows":{number}}}' for number in range(3) for name in "ab"]


def test_what_is_sent_before_the_answer_or_with_it_is_not_sent_again(bench: Bench, tmp_path: Path) -> None:
    ex = mine(bench, tmp_path, messages=ROWS)
    ex.data_first(2)
    client = bench.client(ex)
    ask(client, "a")
    assert [said(client).get("rows", "yes") for _ in range(4)] == [0, 1, "yes", 2]
    ex.data_first(0)
    ex.answer_with_data()
    ask(client, "b", number=2)
    assert said(client) == {"s": "b", "ok": True, "id": 2, "rows": 0}
    assert [said(client)["rows"] for _ in range(2)] == [1, 2]
    ex.wait_for(lambda: ex.sent == {1: 5})


def test_answers_come_late_often_and_long_and_streams_end_by_an_error(bench: Bench, tmp_path: Path) -> None:
    ex = mine(bench, tmp_path, messages=ROWS, rate=500, loop=True)
    ex.answer_after(0.05)
    ex.answer_times(2)
    ex.pad_answers(100_000)
    client = bench.client(ex)
    ask(client, "a")
    for _ in range(2):
        assert len(said(client)["padding"]) > 99_000
    assert said(client)["s"] == "a"
    ex.revoke("a", "delisted")
    while (answer := said(client)).get("s"):
        pass
    assert answer == {"ok": False, "why": "delisted: a"}
    ex.answer_times(1)
    ex.pad_answers(0)
    ask(client, "b", number=2)
    assert [said(client).get("s") for _ in range(3)] == [None, "b", "b"]


def test_messages_of_several_streams_are_sent_in_one_array(bench: Bench, tmp_path: Path) -> None:
    ex = mine(bench, tmp_path, "payload = { split = true }", messages=[f"[{','.join(ROWS[:4])}]", *ROWS[4:]])
    client = bench.client(ex)
    ask(client, "a", "b")
    assert said(client) == [{"ok": True, "id": 1}]
    arrays: list[Any] = []
    while sum(map(len, arrays)) < len(ROWS):
        arrays.append(said(client))
    messages = [message for array in arrays for message in array]
    for name in "ab":
        assert [message["rows"] for message in messages if message["s"] == name] == [0, 1, 2]
    assert any({message["s"] for message in array} == {"a", "b"} for array in arrays)
    ex.wait_for(lambda: ex.sent == {1: len(ROWS)})


def test_binary_messages_may_be_plain_text(bench: Bench, tmp_path: Path) -> None:
    client = bench.client(mine(bench, tmp_path, "payload = { text = true }", messages=ROWS[:1]))
    ask(client, "a")
    assert [client.frame() for _ in range(2)] == [Frame(2, b'{"ok":true,"id":1}'), Frame(2, ROWS[0].encode())]


def test_orders_need_a_dialect() -> None:
    with pytest.raises(ValueError, match="has no dialect"):
        Exchange().reject("x")
    with pytest.raises(ValueError, match="has no dialect"):
        Exchange().answer_times(2)
    with Exchange(dialect="binance_usdm") as ex, pytest.raises(LookupError, match=r"kraken has no \[\[notice\]\]"):
        ex.notice()
        with Exchange(dialect="kraken") as other:
            other.notice()
