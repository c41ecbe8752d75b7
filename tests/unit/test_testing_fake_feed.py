"""FakeFeed: the items of a feed without a feed; and the lazy package."""

from __future__ import annotations

import asyncio
import inspect
import subprocess
import sys

import pytest

import wsadapter.testing
from tests.support.schema import deviations
from wsadapter import (
    AsyncFeed,
    Batch,
    ConfigError,
    Down,
    DuplicateEndpoint,
    Endpoint,
    Feed,
    FeedStream,
    Gap,
    Item,
    Message,
    NotConnected,
    NotSent,
    OutcomeUnknown,
    Reason,
    RequestRejected,
    Status,
    Stream,
    Supervisor,
    SupervisorStopped,
    UnknownEndpoint,
    Up,
    UsageError,
    WrongType,
)
from wsadapter.aio import AsyncSupervisor
from wsadapter.testing import FakeFeed
from wsadapter.testing.fake_feed import FakeAio, FakeStream, Requested


def message(endpoint: str, number: int, *, epoch: int = 1, at: int = 0) -> Message:
    return Message(endpoint, b"%d" % number, epoch, number, at, "trades" if number % 2 else None, number == 3)


ITEMS: list[Item] = [
    Up("a", 1, 0),
    message("a", 1),
    message("a", 2),
    message("b", 1),
    message("a", 3),
    Gap("a", 2, 0, "reconnected", None, None),
    message("a", 4, epoch=2),
    message("a", 5, epoch=2, at=9),
]


def test_iteration_gives_the_items_and_ends() -> None:
    feed = FakeFeed(ITEMS)
    for item in feed:
        if item == message("a", 2):
            break
    assert list(feed) == ITEMS[3:]  # break loses nothing
    assert list(feed) == []


def test_async_iteration_gives_the_same() -> None:
    async def consume() -> list[Item]:
        async with FakeFeed(ITEMS) as feed:
            return [item async for item in feed]

    assert asyncio.run(consume()) == ITEMS


def test_get_gives_one_and_never_waits() -> None:
    feed = FakeFeed(ITEMS[:1])
    assert feed.get(timeout=5) == ITEMS[0]
    with pytest.raises(TimeoutError, match="used up"):
        feed.get(timeout=3600)


def test_batches_hold_what_follows_one_another() -> None:
    found = list(FakeFeed(ITEMS).batches())
    again = [message for entry in found for message in (entry.messages() if isinstance(entry, Batch) else [entry])]
    assert again == ITEMS
    assert [len(entry) if isinstance(entry, Batch) else entry.kind for entry in found] == ["up", 2, 1, 1, "gap", 1, 1]


def test_a_stream_takes_its_endpoints_out() -> None:
    feed = FakeFeed(ITEMS)
    only_b = feed.stream("b")
    assert list(feed) == [item for item in ITEMS if item.endpoint == "a"]
    assert list(only_b) == [message("b", 1)]
    with pytest.raises(UnknownEndpoint, match="'c'"):
        feed.stream("c")


def test_what_is_sent_is_kept() -> None:
    with FakeFeed(ITEMS, endpoints=["quiet"]) as feed:
        feed.send("a", "text")
        feed.send("quiet", b"\x00")
        with pytest.raises(UnknownEndpoint, match="known: a, b, quiet"):
            feed.send("nobody", "x")
    assert feed.sent == [("a", "text"), ("quiet", b"\x00")]
    with pytest.raises(SupervisorStopped):
        feed.send("a", "late")
    assert len(list(feed)) == len(ITEMS)  # what was received is still there after stop()


# -- as the real one -----------------------------------------------------------------------------------------------------


def shape(method: object) -> list[tuple[str, object, object]]:
    """A method's parameters: names, kinds, defaults."""
    parameters = inspect.signature(method).parameters.values()  # type: ignore[arg-type]
    return [(p.name, p.kind, p.default) for p in parameters]


CLASSES = ((Feed, Supervisor, FakeFeed), (AsyncFeed, AsyncSupervisor, FakeAio), (FeedStream, Stream, FakeStream))
METHODS = [
    (protocol, real, fake, name)
    for protocol, real, fake in CLASSES
    for name, member in vars(protocol).items()
    if inspect.isfunction(member) and (not name.startswith("_") or name in {"__iter__", "__aiter__", "__enter__", "__exit__"})
]


@pytest.mark.parametrize(("protocol", "real", "fake", "name"), METHODS, ids=lambda value: getattr(value, "__name__", value))
def test_both_have_the_methods_of_the_protocol(protocol: type, real: type, fake: type, name: str) -> None:
    if not name.startswith("_"):
        assert shape(getattr(real, name)) == shape(getattr(protocol, name))
    assert shape(getattr(fake, name)) == shape(getattr(protocol, name))
    assert inspect.iscoroutinefunction(getattr(fake, name)) == inspect.iscoroutinefunction(getattr(protocol, name))


@pytest.mark.slow
def test_both_are_feeds() -> None:
    with Supervisor() as real:
        assert isinstance(real, Feed)
    assert isinstance(FakeFeed(), Feed)
    assert not isinstance(FakeStream([]), Feed)


def test_the_protocol_has_all_that_a_supervisor_offers_but_its_making_and_its_futures() -> None:
    own = {"begin_request", "begin_restart", "begin_send", "ask_to_stop", "from_settings", "from_toml", "name", "reload", "run"}
    assert {name for name in vars(Feed) if not name.startswith("_")} == set(Supervisor.PUBLIC) - own
    assert {name for name in vars(AsyncFeed) if not name.startswith("_")} == set(AsyncSupervisor.PUBLIC)
    assert {name for name in vars(FeedStream) if not name.startswith("_")} == set(Stream.PUBLIC)


# -- what the code under test does ---------------------------------------------------------------------------------------


def test_send_has_the_timeout_of_the_real_one_and_its_checks() -> None:
    feed = FakeFeed(ITEMS)
    feed.send("a", "text", timeout=3)
    asyncio.run(feed.aio.send("b", b"\x00"))
    assert feed.sent == [("a", "text"), ("b", b"\x00")]
    with pytest.raises(WrongType):
        feed.send("a", 5)  # type: ignore[arg-type]


def test_while_it_is_down_nothing_is_sent() -> None:
    feed = FakeFeed([Up("a", 1, 0), Down("a", 1, 0, Reason(kind="silence")), Up("a", 2, 0)], answer=lambda _: {})
    feed.send("a", "before")
    assert feed.get() == Up("a", 1, 0)
    assert isinstance(feed.get(), Down)
    assert feed.status()["endpoints"]["a"]["state"] == "backoff"
    assert feed.status()["endpoints"]["a"]["last_exit"] == {"kind": "silence"}
    with pytest.raises(NotConnected, match="a is down"):
        feed.send("a", "meanwhile")
    with pytest.raises(NotSent, match="a is down"):
        feed.request("a", {})
    assert isinstance(feed.get(), Up)
    feed.send("a", "after")
    assert [sent.data for sent in feed.sent] == ["before", "after"]
    assert feed.requests == []


def test_a_request_is_answered_by_the_function_that_is_given() -> None:
    def answer(asked: Requested) -> object:
        if asked.json().get("method") == "bad":
            raise RequestRejected(asked.endpoint, asked.id, b"no")
        return {"id": asked.json()["id"], "result": asked.endpoint}

    feed = FakeFeed(ITEMS, answer=answer)
    assert feed.request("a", {"method": "x"}, 3).json() == {"id": 1, "result": "a"}
    assert feed.request("a", '{"id":"mine"}').id == "mine"
    assert asyncio.run(feed.aio.request("b", {"method": "x"}, timeout=1)).json() == {"id": 2, "result": "b"}
    with pytest.raises(RequestRejected, match="no"):
        feed.request("a", {"method": "bad"})
    assert [(asked.endpoint, asked.id) for asked in feed.requests] == [("a", "1"), ("a", "mine"), ("b", "2"), ("a", "3")]
    for wrong in (5, "[]", "{"):
        with pytest.raises(UsageError):
            feed.request("a", wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(("given", "data"), [("text", b"text"), (b"bytes", b"bytes"), ([1], b"[1]"), (None, b"null")])
def test_an_answer_may_be_text_bytes_or_what_json_can_say(given: object, data: bytes) -> None:
    assert FakeFeed(ITEMS, answer=lambda _: given).request("a", {}).data == data


def test_without_an_answer_a_request_times_out_at_once() -> None:
    feed = FakeFeed(ITEMS)
    with pytest.raises(OutcomeUnknown) as caught:
        feed.request("a", {}, timeout=3600)
    assert caught.value.timed_out
    assert len(feed.requests) == 1


def test_an_inserted_record_comes_behind_what_is_left_with_the_next_number() -> None:
    feed = FakeFeed(ITEMS)
    assert feed.insert("a", "snapshot") == 6
    assert asyncio.run(feed.aio.insert("b", b"\x00")) == 2
    *before, text, binary = feed
    assert before == ITEMS
    assert isinstance(text, Message)
    assert (text.endpoint, text.data, text.number, text.binary) == ("a", b"snapshot", 6, False)
    assert isinstance(binary, Message)
    assert (binary.endpoint, binary.data, binary.number, binary.binary) == ("b", b"\x00", 2, True)


def test_subscriptions_are_kept() -> None:
    feed = FakeFeed(ITEMS, endpoints=["quiet"])
    feed.subscribe("a", ["x", {"channel": "y", "n": 1}])
    feed.subscribe("a", ["x", {"n": 1, "channel": "y"}, "z"])  # the order of a table's keys makes no difference
    asyncio.run(feed.aio.subscribe("quiet", ["q"]))
    assert feed.subscriptions == {"quiet": ["q"], "a": ["x", {"channel": "y", "n": 1}, "z"], "b": []}
    feed.resubscribe("a", ["x"])
    asyncio.run(feed.aio.resubscribe("a", ["z"]))
    assert feed.resubscribed == [("a", "x"), ("a", "z")]
    feed.unsubscribe("a", [{"n": 1, "channel": "y"}, "unknown"])
    asyncio.run(feed.aio.unsubscribe("a", ["x"]))
    assert feed.subscriptions["a"] == ["z"]
    assert feed.status()["endpoints"]["a"]["subscriptions"]["wanted"] == 1
    for call in (feed.subscribe, feed.unsubscribe, feed.resubscribe):
        with pytest.raises(WrongType, match=r"write \['x'\]"):
            call("a", "x")
        with pytest.raises(UnknownEndpoint):
            call("nobody", ["x"])


def test_endpoints_come_and_go() -> None:
    feed = FakeFeed(ITEMS)
    feed.add(Endpoint("new", url="ws://h", subscribe=["s"]))
    feed.send("new", "hello")
    assert feed.subscriptions["new"] == ["s"]
    with pytest.raises(DuplicateEndpoint):
        feed.add(Endpoint("a", url="ws://h"))
    with pytest.raises(ConfigError):
        feed.add(Endpoint("bad", url="http://h"))
    feed.remove("a", timeout=1)
    with pytest.raises(UnknownEndpoint, match="known: b, new"):
        feed.send("a", "text")
    assert len(list(feed)) == len(ITEMS)  # what it delivered before stays
    feed.add(Endpoint("a", url="ws://h"))
    assert feed.insert("a", "x") == 6  # its numbers go on


def test_a_restart_is_kept_and_brings_it_up() -> None:
    feed = FakeFeed([Down("a", 1, 0, Reason(kind="silence"))])
    assert len(list(feed)) == 1
    feed.restart("a", timeout=1)
    asyncio.run(feed.aio.restart("a"))
    assert feed.restarted == ["a", "a"]
    feed.send("a", "text")


def test_monitors_tell_what_is_and_what_comes() -> None:
    down, up = Down("a", 1, 0, Reason(kind="silence")), Up("a", 2, 0)
    feed = FakeFeed([Up("a", 1, 0), down, up], endpoints=["b"])
    monitor = feed.monitor("a")
    assert monitor.wait_up(5) == Up("a", 1, 0)
    assert monitor.wait_down(5) == down
    assert asyncio.run(feed.aio.wait_up(monitor)) == up
    with pytest.raises(TimeoutError):
        monitor.wait_down(3600)
    assert isinstance(feed.monitor("b").wait_up(5), Up)
    feed.get()
    assert feed.get() == down
    again = feed.monitor("a")
    assert asyncio.run(feed.aio.wait_down(again)) == down
    assert again.wait_up() == up


def test_the_status_is_that_of_the_real_one() -> None:
    feed = FakeFeed(ITEMS, endpoints=["quiet"])
    assert deviations(feed.status(), Status) == []
    assert feed.status()["state"] == "new"
    with feed:
        for _ in range(6):
            feed.get()
        status = asyncio.run(feed.aio.status())
        assert deviations(status, Status) == []
        assert status["state"] == feed.state == "running"
        a = status["endpoints"]["a"]
        assert (a["state"], a["messages"], a["gaps"], a["buffered"], a["epoch"]) == ("up", 3, 1, 2, 2)
    assert feed.status()["state"] == "stopped"
    assert deviations(feed.status(), Status) == []


def test_the_fast_path_and_streams_have_their_asynchronous_twins() -> None:
    async def consume() -> list[object]:
        feed = FakeFeed(ITEMS)
        only_b = feed.stream("b")
        assert only_b.pending
        found: list[object] = [await only_b.aget()]
        found += [len(entry) async for entry in feed.aio.batches() if isinstance(entry, Batch)]
        return found

    assert asyncio.run(consume()) == [message("b", 1), 3, 1, 1]


def test_after_the_end_get_says_so() -> None:
    feed = FakeFeed(ITEMS[:1])
    feed.start()
    asyncio.run(feed.aio.stop())
    assert feed.get() == ITEMS[0]
    with pytest.raises(SupervisorStopped):
        feed.get()
    with pytest.raises(SupervisorStopped):
        feed.start()


def test_a_program_written_for_a_feed_runs_with_the_fake_one() -> None:
    def program(feed: Feed) -> int:
        bytes_seen = 0
        for item in feed:
            match item:
                case Message(endpoint=name, data=data):
                    bytes_seen += len(data)
                    feed.send(name, "seen")
                case Gap(endpoint=name):
                    feed.insert(name, feed.request(name, {"method": "snapshot"}).data)
        return bytes_seen

    feed = FakeFeed(ITEMS, answer=lambda _: "ten bytes!")
    assert program(feed) == 6 + 10
    assert len(feed.sent) == 7


def test_public_names_are_there_and_nothing_is_loaded_before_it_is_used() -> None:
    for name in wsadapter.testing.__all__:
        assert getattr(wsadapter.testing, name)
        assert name in dir(wsadapter.testing)
    with pytest.raises(AttributeError, match="Nothing"):
        wsadapter.testing.Nothing  # noqa: B018
    program = "import sys, wsadapter.testing; print(*[m for m in sys.modules if m in ('ssl', 'asyncio', 'pytest')])"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.strip() == ""
