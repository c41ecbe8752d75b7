"""From an exchange's messages to the consumer: stream names, filters and their count, with a whole supervisor."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.support.feeds import DEADLINE, assert_sound, collect, events_of, is_event, messages_of, supervise
from tests.support.rawserver import RawServer
from tests.support.waiting import wait_until
from wsadapter import ConfigError
from wsadapter.config.dialect import load_dialect
from wsadapter.contract.endpoint import Endpoint
from wsadapter.contract.items import Down, Item, Message, Restored
from wsadapter.outputs.lines import batch_lines
from wsadapter.testing import Exchange
from wsadapter.testing.recording import load_recording

ACKS: dict[str, list[dict[str, Any]]] = {
    "binance": [{"match": {"method": "SUBSCRIBE"}, "reply": {"result": None, "id": "$id"}}],
    "okx": [{"match": {"op": "subscribe"}, "for_each": "args", "reply": {"event": "subscribe", "arg": "$item"}}],
    "bybit": [{"match": {"op": "subscribe"}, "reply": {"success": True, "req_id": "$req_id", "op": "subscribe"}}],
}


MUTE = """
dialect = { name = "mute", title = "No names", docs = "none" }
urls = { live = "wss://example.com" }
subscribe = { frame = '{"sub":"$streams"}' }
"""


def key_of(stream: Any) -> str:
    return stream if isinstance(stream, str) else orjson.dumps(stream, option=orjson.OPT_SORT_KEYS).decode()


def data_of(name: str) -> list[tuple[bytes, Any]]:
    """The data messages of a recording, each with what it names as its stream."""
    rules = load_dialect(name)["stream"]
    path = next(rule["path"] for rule in (rules if isinstance(rules, list) else [rules]) if "path" in rule)
    parsed = [(payload, orjson.loads(payload)) for payload in load_recording(name).payloads]
    return [(payload, value[path]) for payload, value in parsed if "data" in value]


def exchange(name: str, data: list[tuple[bytes, Any]]) -> Exchange:
    return Exchange(messages=[payload.decode() for payload, _ in data], ack=ACKS[name], after_subscribe=True)


def is_number(number: int) -> Any:
    return lambda item: isinstance(item, Message) and item.number == number


@pytest.mark.parametrize("name", sorted(ACKS))
def test_every_message_has_the_name_of_its_subscription(name: str, start_method: str) -> None:
    data = data_of(name)
    subscriptions = list({key_of(stream): stream for _, stream in data}.values())
    items: list[Item] = []
    with exchange(name, data) as ex:
        endpoint = ex.endpoint("feed", dialect=name, subscribe=subscriptions)
        with supervise(endpoint, start_method=start_method) as feed:
            items += collect(feed, is_number(len(data)))
        items += feed
    assert_sound(items)
    assert [(m.data, m.stream) for m in messages_of(items, "feed")] == [(payload, key_of(stream)) for payload, stream in data]


def test_after_a_reconnect_the_names_are_right_again(start_method: str) -> None:
    data = data_of("okx")[:50]
    subscriptions = list({key_of(stream): stream for _, stream in data}.values())
    items: list[Item] = []
    with exchange("okx", data) as ex:
        endpoint = ex.endpoint("feed", dialect="okx", subscribe=subscriptions[::-1], restart={"backoff_initial": 0.01})
        with supervise(endpoint, start_method=start_method) as feed:
            items += collect(feed, is_number(50))
            ex.drop()
            items += collect(feed, is_number(100))
        items += feed
    assert_sound(items)
    assert [m.stream for m in messages_of(items, "feed")] == [key_of(stream) for _, stream in data] * 2


def test_a_filter_removes_counts_and_leaves_no_hole_in_the_numbers(start_method: str) -> None:
    data = data_of("binance")
    subscriptions = list({key_of(stream): stream for _, stream in data}.values())
    kept = [payload for payload, stream in data if "@bookTicker" in stream and not stream.startswith("zil")]
    items: list[Item] = []
    with exchange("binance", data) as ex:
        endpoint = ex.endpoint(
            "feed",
            dialect="binance",
            subscribe=subscriptions,
            filter={"include": ["*@bookTicker"], "exclude": ["zil*"]},
            watchdog={"progress": 0.2},
        )
        with supervise(endpoint, start_method=start_method) as feed:
            items += collect(feed, is_number(len(kept)))
            wait_until(lambda: feed.status()["endpoints"]["feed"]["filtered"] == len(data) - len(kept), DEADLINE)
        items += feed
    assert_sound(items)
    assert [message.data for message in messages_of(items, "feed")] == kept
    assert [down.reason.kind for down in events_of(items, "feed", Down)] == ["stopped"]


def test_streams_that_nobody_subscribed_are_delivered_without_a_name() -> None:
    data = data_of("bybit")
    most = Counter(stream for _, stream in data).most_common(1)[0][0]
    items: list[Item] = []
    with exchange("bybit", data) as ex:
        endpoint = ex.endpoint("feed", dialect="bybit", subscribe=[most], filter={"include": ["nothing of this name"]})
        others = [payload for payload, stream in data if stream != most]
        with supervise(endpoint, start_method="forkserver") as feed:
            items += collect(feed, is_number(len(others)))
        items += feed
    assert_sound(items)
    assert [(m.data, m.stream) for m in messages_of(items, "feed")] == [(payload, None) for payload in others]


def test_batches_and_their_json_lines_carry_the_stream() -> None:
    data = data_of("binance")[:20]
    with exchange("binance", data) as ex:
        endpoint = ex.endpoint("feed", dialect="binance", subscribe=sorted({stream for _, stream in data}))
        lines: list[dict[str, Any]] = []
        with supervise(endpoint, start_method="forkserver") as feed:
            for item in feed.batches():
                if not hasattr(item, "streams"):
                    continue
                lines += [orjson.loads(line) for line in batch_lines(item).splitlines()]
                if len(lines) == len(data):
                    break
    assert [line["stream"] for line in lines] == [stream for _, stream in data]


def test_what_is_subscribed_and_unsubscribed_while_connecting_is_so_on_this_connection(start_method: str) -> None:
    with RawServer() as server:
        endpoint = Endpoint("feed", url=server.url, dialect="okx", subscribe=[{"channel": "a"}, {"channel": "b"}])
        with supervise(endpoint, start_method=start_method) as feed:
            peer = server.accept()
            peer.read_request()
            assert feed.status()["endpoints"]["feed"]["state"] == "connecting"
            feed.subscribe("feed", [{"channel": "c"}])
            feed.unsubscribe("feed", [{"channel": "a"}])
            peer.send(peer.valid_response())
            active: set[str] = set()
            while active != {"b", "c"}:  # in one frame, or corrected by further ones where it came up at the same moment
                asked = orjson.loads(peer.read_frame()[1])
                channels = [argument["channel"] for argument in asked["args"]]
                change = active.update if asked["op"] == "subscribe" else active.difference_update
                change(channels)
                for channel in channels:
                    peer.send_frame(1, orjson.dumps({"event": asked["op"], "arg": {"channel": channel}}))
            collect(feed, is_event(Restored, "feed"))
            assert feed.status()["endpoints"]["feed"]["subscriptions"]["wanted"] == 2
            peer.sock.close()


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"url": "ws://127.0.0.1:1/"}, "needs a dialect: without one nothing tells which stream a message belongs to"),
        ({"dialect": "{folder}/mute.toml"}, 'the dialect "mute" can\'t tell which stream a message belongs to'),
    ],
)
def test_a_filter_without_streams_is_a_configuration_error(settings: dict[str, str], text: str, tmp_path: Path) -> None:
    (tmp_path / "mute.toml").write_text(MUTE)
    settings = {key: value.format(folder=tmp_path) for key, value in settings.items()}
    endpoint = Endpoint("feed", **settings, filter={"exclude": ["x*"]})  # type: ignore[arg-type]
    with pytest.raises(ConfigError) as caught:
        supervise(endpoint, start_method="spawn")
    assert [(problem.path, problem.message) for problem in caught.value.problems] == [("endpoints.feed.filter.exclude", text)]
