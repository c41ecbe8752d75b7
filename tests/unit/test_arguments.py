"""The arguments of public methods: what Python would accept and nobody means is refused, with what to write instead."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import date
from types import MappingProxyType
from typing import Any

import pytest

from wsadapter import ConfigError, Endpoint, Gap, Message, Pool, Supervisor, UsageError, WrongType, WsAdapterError
from wsadapter.arguments import as_json_text, as_list, as_outgoing, as_streams
from wsadapter.config import check_endpoint
from wsadapter.testing import Exchange, FakeFeed

MESSAGE = Message("a", b"{}", 1, 1, 0)


@pytest.fixture
def feed() -> Iterable[Supervisor]:
    supervisor = Supervisor([Endpoint("a", url="ws://127.0.0.1:9")])
    yield supervisor
    supervisor.stop()


@pytest.mark.parametrize(
    ("data", "payload", "binary"),
    [
        ("é", b"\xc3\xa9", False),
        (b"\x00", b"\x00", True),
        (bytearray(b"ab"), b"ab", True),
        (memoryview(b"abcd")[::2], b"ac", True),
    ],
)
def test_text_and_every_kind_of_bytes_can_be_sent(data: Any, payload: bytes, binary: bool) -> None:
    assert as_outgoing("send", data) == (payload, binary)


@pytest.mark.parametrize("data", [5, True, None, 1.5, [1, 2], (1,), {"op": "login", "key": "s3cret"}, date(2024, 1, 1)])
def test_nothing_else_is_sent_and_no_value_that_may_be_a_secret_is_shown(data: Any) -> None:
    with pytest.raises(WrongType, match=r"^send: expected str \(a text message\) or bytes") as caught:
        as_outgoing("send", data)
    assert isinstance(caught.value, TypeError | WsAdapterError)
    assert type(data).__name__ in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_text_that_has_no_utf8_form_is_refused() -> None:
    with pytest.raises(UsageError, match="send: the text holds a lone surrogate"):
        as_outgoing("send", "\ud800")


@pytest.mark.parametrize("payload", [5, [1, 2], None, {1, 2}])
def test_the_payload_of_a_request_is_a_table_or_its_text(payload: Any) -> None:
    assert as_json_text("request", {"id": 1}) == {"id": 1}
    assert as_json_text("request", bytearray(b'{"id":1}')) == b'{"id":1}'
    with pytest.raises(WrongType, match="request: expected a table or its JSON text"):
        as_json_text("request", payload)


@pytest.mark.parametrize("streams", [["a", {"b": 1}], ("a", {"b": 1}), iter(["a", {"b": 1}]), {"a": 0, "c": 0}.keys() | {"x"}])
def test_any_collection_of_streams_is_read_once(streams: Any) -> None:
    assert set(map(str, as_streams("subscribe", streams))) >= {"a"}


def test_a_table_of_another_type_is_a_plain_one_afterwards() -> None:
    assert as_streams("subscribe", [MappingProxyType({"ids": ("x", "y")})]) == ({"ids": ["x", "y"]},)


@pytest.mark.parametrize(
    ("streams", "remedy"),
    [
        ("btcusdt@trade", r"write \['btcusdt@trade'\]"),
        ({"channel": "trade"}, r"write \[\{'channel': 'trade'\}\]"),
        (b"btcusdt@trade", "got bytes"),
        (5, "got int 5"),
        (None, "got NoneType"),
        (["a", 5], "stream 1: expected a string or a table, got int 5"),
        ([["a"]], "stream 0: expected a string or a table, got list"),
    ],
)
def test_a_single_stream_and_what_is_no_stream_are_refused_with_the_remedy(streams: Any, remedy: str) -> None:
    with pytest.raises(WrongType, match=f"^subscribe: .*{remedy}"):
        as_streams("subscribe", streams)


@pytest.mark.parametrize(
    ("stream", "text"), [("", "an empty string"), ({}, "an empty table"), ({"day": date(2024, 1, 1)}, "no form for dates")]
)
def test_a_stream_that_can_not_be_sent_is_refused(stream: Any, text: str) -> None:
    with pytest.raises(UsageError, match=f"unsubscribe: stream 0: .*{text}"):
        as_streams("unsubscribe", [stream])


def test_a_single_object_instead_of_a_list_is_refused_with_the_remedy() -> None:
    assert as_list("FakeFeed", iter([MESSAGE]), Message) == [MESSAGE]
    with pytest.raises(WrongType, match=r"FakeFeed: expected a list, got one Message; write it in brackets"):
        as_list("FakeFeed", MESSAGE, Message)
    with pytest.raises(WrongType, match=r"FakeFeed: item 1: expected Message, got str"):
        as_list("FakeFeed", [MESSAGE, "x"], Message)


@pytest.mark.parametrize(
    "call",
    [
        lambda feed: feed.send("a", 5),
        lambda feed: feed.begin_send("a", [1]),
        lambda feed: feed.aio.send("a", 5).send(None),
        lambda feed: feed.insert("a", 5),
        lambda feed: feed.aio.insert("a", 5).send(None),
        lambda feed: feed.request("a", 5),
        lambda feed: feed.begin_request("a", [1]),
        lambda feed: feed.aio.request("a", 5).send(None),
        lambda feed: feed.subscribe("a", "text"),
        lambda feed: feed.aio.subscribe("a", "text").send(None),
        lambda feed: feed.unsubscribe("a", {"channel": "x"}),
        lambda feed: feed.aio.unsubscribe("a", "text").send(None),
        lambda feed: feed.stream(["a"]),
        lambda feed: feed.monitor(5),
        lambda feed: feed.add("a"),
        lambda feed: Pool("a", 1),
        lambda feed: Pool(Endpoint("a", url="ws://127.0.0.1:9"), 2.5),
        lambda feed: Supervisor(Endpoint("a")),
        lambda feed: Supervisor("config.toml"),
        lambda feed: FakeFeed(MESSAGE),
        lambda feed: FakeFeed("text"),
        lambda feed: FakeFeed(endpoints="quiet"),
        lambda feed: FakeFeed([MESSAGE]).send("a", 5),
        lambda feed: FakeFeed([MESSAGE]).stream(["a"]),
        lambda feed: Exchange(messages="text"),
        lambda feed: Exchange(welcome="text"),
        lambda feed: Exchange(ack={"match": {}, "reply": "ok"}),
    ],
)
def test_every_method_refuses(call: Callable[[Any], object], feed: Supervisor) -> None:
    with pytest.raises(WrongType):
        call(feed)
    assert feed.status()["endpoints"]["a"]["subscriptions"]["wanted"] == 0


def test_the_settings_of_a_supervisor_are_judged_as_those_of_a_file() -> None:
    with pytest.raises(ConfigError) as caught:
        Supervisor(
            [Endpoint("x", url="http://h")],
            name="a/b",
            runtime_dir=5,  # type: ignore[arg-type]
            strategy="one_for_al",  # type: ignore[arg-type]
            spares=-1,
            start_method="fork",  # type: ignore[arg-type]
            busy_poll=2.0,
        )
    assert [problem.path for problem in caught.value.problems] == [
        "supervisor.runtime_dir", "supervisor.strategy", "supervisor.start_method", "supervisor.name", "supervisor.spares",
        "supervisor.busy_poll", "endpoints.x.url",
    ]  # fmt: skip


def test_a_stream_of_its_own_needs_a_name(feed: Supervisor) -> None:
    with pytest.raises(UsageError, match="name at least one endpoint"):
        feed.stream()


@pytest.mark.parametrize("key", ["subscribe", "send_on_up", "subprotocols"])
def test_a_single_text_in_an_endpoint_is_refused_with_the_remedy(key: str) -> None:
    (problem,) = check_endpoint(Endpoint("a", url="ws://127.0.0.1:9", **{key: "text"}))
    assert problem.path == f"endpoints.a.{key}"
    assert problem.message.endswith("; write it in brackets: [...]")
    with pytest.raises(ConfigError):
        Supervisor([Endpoint("a", url="ws://127.0.0.1:9", **{key: "text"})])


def test_a_single_table_in_an_endpoint_is_refused_with_the_remedy() -> None:
    (problem,) = check_endpoint(Endpoint("a", dialect="kraken", subscribe={"channel": "trade"}))  # type: ignore[arg-type]
    assert problem.message == "expected a list of strings or tables, got a table; write it in brackets: [...]"


def test_an_event_is_an_item_of_a_fake_feed() -> None:
    gap = Gap("a", 2, 0, "reconnected", None, None)
    assert list(FakeFeed([gap, MESSAGE])) == [gap, MESSAGE]
