"""The library as its users call it: blocking iteration, commands, the end of the stream."""

from __future__ import annotations

import gc
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any
from weakref import ref

import pytest

from tests.support.feeds import (
    DEADLINE,
    SOON,
    assert_sound,
    collect,
    events_of,
    is_event,
    is_message,
    messages_of,
    pid_of,
    rest,
    steady,
)
from tests.support.schema import deviations
from wsadapter import (
    AllFatal,
    Batch,
    ConcurrentIteration,
    ConfigError,
    Down,
    DuplicateEndpoint,
    Endpoint,
    Fatal,
    Gap,
    Item,
    Message,
    NotConnected,
    Started,
    Status,
    Supervisor,
    SupervisorStopped,
    UnknownEndpoint,
    Up,
)
from wsadapter.testing import Exchange

pytestmark = pytest.mark.version

COUNT = 3000


@pytest.fixture
def exchange() -> Iterator[Exchange]:
    """Sends so many numbered messages to whoever connects."""
    with Exchange(messages=[f'{{"n":{n}}}' for n in range(COUNT)], tls=True) as ex:
        yield ex


@pytest.fixture
def feed(exchange: Exchange) -> Iterator[Supervisor]:
    with Supervisor([exchange.endpoint("a", restart=SOON)]) as supervisor:
        yield supervisor


def in_thread(call: Callable[[], Any]) -> Any:
    """What a call gives, or raises, in a thread of its own."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(call).result(DEADLINE)


def numbers(items: list[Item]) -> list[int]:
    return [item.number for item in items if isinstance(item, Message)]


# -- iterating -----------------------------------------------------------------------------------------------------------


def test_break_loses_nothing_and_iterating_again_goes_on(feed: Supervisor) -> None:
    items: list[Item] = []
    while len(numbers(items)) < COUNT:
        for item in feed:
            items.append(item)
            if len(items) % 7 == 0:
                break
    assert numbers(items) == list(range(1, COUNT + 1))
    assert isinstance(items[0], Started)
    assert isinstance(items[1], Up)


def test_an_exception_in_the_loop_body_loses_nothing(feed: Supervisor) -> None:
    items: list[Item] = []
    while len(numbers(items)) < COUNT:
        with pytest.raises(LookupError):
            for item in feed:
                items.append(item)
                if len(items) % 11 == 0 or len(numbers(items)) == COUNT:
                    raise LookupError
    assert numbers(items) == list(range(1, COUNT + 1))


def test_get_within_the_loop_body_and_the_loop_share_one_stream(feed: Supervisor) -> None:
    items: list[Item] = []
    for item in feed:
        items.append(item)
        if len(numbers(items)) >= COUNT:
            break
        items.append(feed.get(DEADLINE))
        if len(numbers(items)) >= COUNT:
            break
    assert numbers(items) == list(range(1, COUNT + 1))


def test_a_loop_within_the_loop_body_and_the_loop_share_one_stream(feed: Supervisor) -> None:
    items: list[Item] = []
    for item in feed:
        items.append(item)
        items.extend(islice(iter(feed), 3))
        if len(numbers(items)) >= COUNT - 4:
            break
    assert numbers(items) == list(range(1, len(numbers(items)) + 1))


@pytest.mark.smoke
def test_switching_between_messages_and_batches_midway_loses_and_repeats_nothing(feed: Supervisor) -> None:
    found: list[int] = []

    def take(item: Item | Batch) -> None:
        if isinstance(item, Message):
            found.append(item.number)
        elif isinstance(item, Batch):
            found.extend(range(item.first_number, item.first_number + len(item)))

    while len(found) < COUNT:
        for item in islice(iter(feed), 5):
            take(item)
            if len(found) >= COUNT:
                break
        if len(found) < COUNT:
            for batch in islice(feed.batches(), 1):
                take(batch)
                if len(found) < COUNT:
                    take(feed.get(DEADLINE))
    assert found == list(range(1, COUNT + 1))


def test_batches_carry_the_same_payloads_and_numbers_as_messages(feed: Supervisor) -> None:
    payloads: list[bytes] = []
    for item in feed.batches():
        if isinstance(item, Batch):
            assert item.first_number == len(payloads) + 1
            assert item.endpoint == "a"
            assert item.epoch == 1
            assert [m.data for m in item.messages()] == list(item)
            payloads.extend(item)
        if len(payloads) == COUNT:
            break
    assert payloads == [f'{{"n":{n}}}'.encode() for n in range(COUNT)]


def test_get_raises_timeout_error_after_the_time_it_was_given(exchange: Exchange, feed: Supervisor) -> None:
    collect(feed, lambda item: isinstance(item, Message) and item.number == COUNT)
    began = time.monotonic()
    with pytest.raises(TimeoutError, match=r"0\.2"):
        feed.get(0.2)
    assert 0.2 <= time.monotonic() - began < 1.0
    with pytest.raises(TimeoutError):
        feed.get(0)


def test_get_without_patience_takes_what_is_there(exchange: Exchange, feed: Supervisor) -> None:
    collect(feed, is_event(Up, "a"))
    exchange.wait_for(lambda: exchange.sent.get(1) == COUNT)
    deadline = time.monotonic() + DEADLINE
    found: list[int] = []
    while len(found) < COUNT and time.monotonic() < deadline:
        try:
            found += numbers([feed.get(0)])
        except TimeoutError:
            continue
    assert found == list(range(1, COUNT + 1))


def test_iterating_starts_what_was_not_started(exchange: Exchange) -> None:
    feed = Supervisor([exchange.endpoint("a")])
    assert feed.state == "new"
    for item in feed:
        if isinstance(item, Message):
            break
    assert feed.state == "running"
    feed.stop()


def test_the_iteration_ends_after_stop_when_all_that_was_received_is_consumed(feed: Supervisor) -> None:
    collect(feed, is_message("a"))
    deadline = time.monotonic() + DEADLINE
    while feed.status()["endpoints"]["a"]["messages"] < COUNT:
        assert time.monotonic() < deadline
    feed.stop()
    items = rest(feed)
    assert numbers(items) == list(range(2, COUNT + 1))
    assert isinstance(items[-1], Down)
    assert items[-1].reason.kind == "stopped"
    assert list(feed) == []
    assert list(feed.batches()) == []
    with pytest.raises(SupervisorStopped, match="ended"):
        feed.get(1)


def test_a_second_thread_may_not_iterate_the_same_stream(feed: Supervisor) -> None:
    for _ in feed:
        with pytest.raises(ConcurrentIteration, match=r"MainThread.*feed\.stream"):
            in_thread(lambda: next(iter(feed)))
        with pytest.raises(ConcurrentIteration):
            in_thread(lambda: feed.get(1))
        with pytest.raises(ConcurrentIteration):
            in_thread(lambda: next(feed.batches()))
        break
    assert in_thread(lambda: feed.get(DEADLINE)) is not None, "the first one has ended"


def test_a_thread_that_has_ended_holds_no_claim(feed: Supervisor) -> None:
    kept: list[Iterator[Item]] = []

    def begin() -> None:
        kept.append(iter(feed))
        next(kept[0])

    thread = threading.Thread(target=begin)
    thread.start()
    thread.join(DEADLINE)
    assert isinstance(feed.get(DEADLINE), Up)


# -- life ----------------------------------------------------------------------------------------------------------------


def test_start_and_stop_are_idempotent(exchange: Exchange) -> None:
    feed = Supervisor([exchange.endpoint("a")])
    assert feed.start() is feed.start()
    exchange.wait_connections(1)
    feed.stop()
    feed.stop()
    assert exchange.accepted == 1
    assert feed.state == "stopped"


def test_a_stopped_supervisor_does_not_start_again(exchange: Exchange) -> None:
    with Supervisor([exchange.endpoint("a")]) as feed:
        exchange.wait_connections(1)
    with pytest.raises(SupervisorStopped, match="make a new one"), feed:
        pass
    with pytest.raises(SupervisorStopped):
        feed.send("a", "x")
    with pytest.raises(SupervisorStopped):
        feed.add(exchange.endpoint("b"))
    with pytest.raises(SupervisorStopped):
        feed.monitor("a")
    assert feed.status()["state"] == "stopped"


def test_one_that_was_never_started_stops_at_once_and_holds_nothing(exchange: Exchange) -> None:
    feed = Supervisor([exchange.endpoint("a")])
    feed.stop()
    assert list(feed) == []
    assert exchange.accepted == 0


def test_two_supervisors_in_a_row_and_side_by_side(exchange: Exchange) -> None:
    for _ in range(2):
        with Supervisor([exchange.endpoint("a")]) as one, Supervisor([exchange.endpoint("a")]) as two:
            collect(one, is_message("a"))
            collect(two, is_message("a"))
            assert one.run != two.run


def test_stop_closes_with_1000_and_from_another_thread_ends_the_loop(exchange: Exchange, feed: Supervisor) -> None:
    stopper = threading.Thread(target=feed.stop)
    items: list[Item] = []
    for item in feed:
        items.append(item)
        if isinstance(item, Message) and item.number == 10:
            stopper.start()
    stopper.join(DEADLINE)
    assert_sound(items)
    assert isinstance(items[-1], Down)
    exchange.wait_for(lambda: exchange.closes.get(1) == 1000)


def test_stop_within_the_loop_body_ends_the_loop(feed: Supervisor) -> None:
    items: list[Item] = []
    for item in feed:
        items.append(item)
        if isinstance(item, Message) and item.number == 10:
            feed.stop()
    assert_sound(items)
    assert isinstance(items[-1], Down)


def test_stop_in_a_signal_handler_ends_the_loop() -> None:
    """As in `signal.signal(SIGTERM, lambda *_: feed.stop())`: within the poll, within the body, within the reactor's work."""
    with steady(2000) as ex:
        for after in (1, 50, 777):
            feed = Supervisor([ex.endpoint("a")])
            before = signal.signal(signal.SIGUSR1, lambda *_, feed=feed: feed.stop())
            try:
                items: list[Item] = []
                for item in feed:
                    items.append(item)
                    if len(items) == after:
                        threading.Timer(0.01, os.kill, (os.getpid(), signal.SIGUSR1)).start()
                assert_sound(items)
                assert isinstance(items[-1], Down)
            finally:
                signal.signal(signal.SIGUSR1, before)


def test_nothing_is_left_to_wait_for_once_every_endpoint_is_fatal() -> None:
    endpoint = Endpoint("a", url="ws://127.0.0.1:9/", restart={"type": "temporary"})
    with Supervisor([endpoint]) as feed:
        items: list[Item] = []
        with pytest.raises(AllFatal, match="a: ") as raised:
            items.extend(feed)
        assert set(raised.value.reasons) == {"a"}
        with pytest.raises(AllFatal):
            feed.get(1)


def test_all_fatal_comes_behind_everything_that_was_received() -> None:
    with Exchange(messages=["1", "2", "3"]) as ex:
        endpoint = ex.endpoint("a", restart={"intensity": 0, "on_exceeded": "fatal"})
        with Supervisor([endpoint]) as feed:
            ex.wait_for(lambda: ex.sent.get(1) == 3)
            ex.close(1000)
            items: list[Item] = []
            with pytest.raises(AllFatal):
                items.extend(feed)
            assert numbers(items) == [1, 2, 3]
            assert isinstance(items[-1], Fatal)
            feed.restart("a", DEADLINE)
            collect(feed, is_message("a", epoch=2))


def test_a_wait_in_another_thread_ends_with_the_supervisor(feed: Supervisor) -> None:
    with ThreadPoolExecutor(1) as pool:
        monitor = feed.monitor("a")
        monitor.wait_up(DEADLINE)
        waiting = pool.submit(monitor.wait_up)
        collect(feed, is_message("a"))
        feed.stop()
        with pytest.raises(SupervisorStopped):
            waiting.result(DEADLINE)


# -- commands ------------------------------------------------------------------------------------------------------------


def test_send_returns_when_the_owner_has_handed_the_bytes_on(exchange: Exchange, feed: Supervisor) -> None:
    collect(feed, is_event(Up, "a"))
    feed.send("a", "héllo")
    feed.send("a", b"\x00\xff")
    feed.send("a", "x" * 3_000_000)
    assert exchange.wait_received(lambda f: f.opcode == 1).payload == "héllo".encode()
    assert exchange.wait_received(lambda f: f.opcode == 2).payload == b"\x00\xff"
    exchange.wait_received(lambda f: len(f.payload) == 3_000_000)


def test_send_while_it_is_down_raises_not_connected_and_queues_nothing(exchange: Exchange) -> None:
    exchange.refuse(503)
    with Supervisor([exchange.endpoint("a", restart=SOON)]) as feed:
        collect(feed, is_event(Down, "a"))
        with pytest.raises(NotConnected, match=r"a is \w+: nothing was sent.*monitor"):
            feed.send("a", "lost?")
        exchange.refuse(0)
        collect(feed, is_event(Up, "a"))
        feed.send("a", "first")
        assert exchange.wait_received(lambda f: f.opcode == 1).payload == b"first"


def test_commands_from_the_loop_body_and_from_other_threads_during_an_iteration(feed: Supervisor) -> None:
    items: list[Item] = []
    with ThreadPoolExecutor(4) as pool:
        sent = []
        for item in feed:
            items.append(item)
            if isinstance(item, Message) and item.number <= 50:
                feed.send("a", "from the body")
                sent.append(pool.submit(feed.send, "a", "from a thread"))
                sent.append(pool.submit(feed.insert, "a", b"mine"))
                sent.append(pool.submit(feed.status))
            if len(numbers(items)) == COUNT + 50:
                break
        for future in sent:
            future.result(DEADLINE)
    assert_sound(items)


def test_inserted_records_stand_in_order_and_take_numbers(feed: Supervisor) -> None:
    collect(feed, is_message("a"))
    number = feed.insert("a", b"a snapshot")
    again = feed.insert("a", "as text")
    assert again > number
    items = collect(feed, lambda item: isinstance(item, Message) and item.number == max(COUNT + 2, again))
    mine = [item for item in items if isinstance(item, Message) and item.number in (number, again)]
    assert [(m.data, m.binary) for m in mine] == [(b"a snapshot", True), (b"as text", False)]
    assert numbers(items) == list(range(2, COUNT + 3))


@pytest.mark.smoke
def test_subscriptions_are_sent_while_running_and_restored_at_the_next_up(exchange: Exchange, feed: Supervisor) -> None:
    collect(feed, is_event(Up, "a"))
    feed.subscribe("a", ["one", "two"])
    for text in (b"one", b"two"):
        exchange.wait_received(lambda f, text=text: f.payload == text)
    feed.unsubscribe("a", ["one"])
    feed.restart("a", DEADLINE)
    exchange.wait_received(lambda f: f.connection == 2 and f.payload == b"two")
    assert [f.payload for f in exchange.received if f.connection == 2 and f.opcode == 1] == [b"two"]


def test_restart_gives_a_new_owner_and_returns_when_it_is_up(feed: Supervisor) -> None:
    collect(feed, is_event(Up, "a"))
    before = pid_of(feed, "a")
    feed.restart("a", DEADLINE)
    status = feed.status()["endpoints"]["a"]
    assert (status["state"], status["epoch"], status["restarts"]) == ("up", 2, 1)
    assert status["pid"] != before
    items = collect(feed, is_message("a", epoch=2))
    (down,) = events_of(items, "a", Down)
    assert down.reason.kind == "recycled"


def test_restart_of_one_that_was_not_started_starts_it(exchange: Exchange) -> None:
    feed = Supervisor([exchange.endpoint("a")])
    feed.restart("a", DEADLINE)
    assert feed.status()["endpoints"]["a"]["state"] == "up"
    feed.stop()


def test_restart_does_not_undo_a_stop(exchange: Exchange) -> None:
    """A peer that does not answer the close frame keeps it stopping for a while."""
    with Supervisor([exchange.endpoint("a", timeouts={"close": 0.5})]) as feed:
        collect(feed, is_event(Up, "a"))
        exchange.mute()
        assert feed.ask_to_stop()
        with pytest.raises(SupervisorStopped):
            feed.restart("a", DEADLINE)
        feed.stop(DEADLINE)


def test_numbers_go_on_after_remove_and_add(exchange: Exchange, feed: Supervisor) -> None:
    items = collect(feed, lambda item: isinstance(item, Message) and item.number == COUNT)
    feed.remove("a", DEADLINE)
    with pytest.raises(UnknownEndpoint):
        feed.send("a", "x")
    exchange.wait_for(lambda: exchange.closes.get(1) == 1000)
    feed.add(exchange.endpoint("a"))
    items += collect(feed, lambda item: isinstance(item, Message) and item.number == 2 * COUNT)
    assert_sound(items)
    assert [(i.epoch, type(i)) for i in items if isinstance(i, Up | Down | Gap)] == [(1, Up), (1, Down), (2, Up), (2, Gap)]


def test_add_of_one_whose_owner_is_still_closing_keeps_the_order(exchange: Exchange) -> None:
    with Supervisor([exchange.endpoint("a", timeouts={"close": 1.0})]) as feed:
        items = collect(feed, is_event(Up, "a"))
        exchange.mute()
        with pytest.raises(TimeoutError, match="a"):
            feed.remove("a", 0)
        feed.add(exchange.endpoint("a", timeouts={"close": 1.0}))
        items += collect(feed, is_message("a", epoch=2))
        feed.stop()
        assert_sound(items + rest(feed))


def test_add_and_remove_from_within_the_loop_body(exchange: Exchange, feed: Supervisor) -> None:
    seen: set[str] = set()
    for item in feed:
        if isinstance(item, Up) and item.endpoint not in seen:
            seen.add(item.endpoint)
            if len(seen) == 4:
                break
            feed.add(exchange.endpoint(f"more{len(seen)}"))
    for name in seen:
        feed.remove(name, DEADLINE)
    assert feed.status()["endpoints"] == {}
    exchange.wait_connections(0)


def test_the_same_name_twice_is_refused(exchange: Exchange, feed: Supervisor) -> None:
    with pytest.raises(DuplicateEndpoint, match=r"'a' exists already; remove\(\) it first"):
        feed.add(exchange.endpoint("a"))
    with pytest.raises(DuplicateEndpoint):
        Supervisor([Endpoint("x", url="ws://h/"), Endpoint("x", url="ws://h/")])


def test_an_unknown_name_is_reported_with_the_known_ones(feed: Supervisor) -> None:
    calls: list[Callable[[], object]] = [
        lambda: feed.send("b", "x"),
        lambda: feed.insert("b", "x"),
        lambda: feed.subscribe("b", ["x"]),
        lambda: feed.unsubscribe("b", ["x"]),
        lambda: feed.remove("b"),
        lambda: feed.restart("b"),
        lambda: feed.monitor("b"),
        lambda: feed.stream("a", "b"),
    ]
    for call in calls:
        with pytest.raises(UnknownEndpoint) as raised:
            call()
        assert str(raised.value) == "no endpoint named 'b'; known: a"
    assert isinstance(next(iter(feed)), Started), "the failed stream() took nothing away"
    collect(feed, is_message("a"))


def test_a_bad_endpoint_object_is_reported_with_every_problem(feed: Supervisor) -> None:
    bad = Endpoint("bad", url="http://x/", timeouts={"connect": -1}, max_message=0)
    with pytest.raises(ConfigError) as raised:
        Supervisor([bad])
    assert {p.path for p in raised.value.problems} >= {
        "endpoints.bad.url", "endpoints.bad.timeouts.connect", "endpoints.bad.max_message",
    }  # fmt: skip
    with pytest.raises(ConfigError):
        feed.add(bad)
    with pytest.raises(ConfigError, match="unknown key"):
        Endpoint("bad", url="ws://x/", timeouts={"conect": 1})
    assert list(feed.status()["endpoints"]) == ["a"]


def test_the_status_satisfies_its_schema(feed: Supervisor) -> None:
    collect(feed, is_message("a"))
    status = feed.status()
    assert deviations(status, Status) == []
    assert status["pid"] == os.getpid()
    assert status["endpoints"]["a"]["memory"] > 1_000_000


# -- rule 6: nothing the consumer does delays supervision ----------------------------------------------------------------


def sleeps(seconds: float) -> None:
    time.sleep(seconds)


def spins(seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        sum(range(1000))


@pytest.mark.parametrize("keep_busy", [sleeps, spins])
def test_a_busy_consumer_delays_neither_pongs_nor_the_restart_of_a_killed_owner(
    keep_busy: Callable[[float], None], start_method: Any
) -> None:
    with steady(tls=True) as ex:
        endpoint = ex.endpoint("a", restart=SOON)
        with Supervisor([endpoint], start_method=start_method) as feed:
            collect(feed, is_message("a"))
            victim = pid_of(feed, "a")
            deadline = time.monotonic() + DEADLINE
            while not feed.status()["spares"]:
                assert time.monotonic() < deadline
            back: list[float] = []

            def watch() -> None:
                os.kill(victim, signal.SIGKILL)
                began = time.monotonic()
                ex.wait_for(lambda: 2 in ex.open_ids)
                back.append(time.monotonic() - began)
                for n in range(5):
                    sent = time.monotonic()
                    ex.ping(b"%d" % n)
                    ex.wait_received(lambda f, n=n: f.opcode == 10 and f.payload == b"%d" % n)
                    back.append(time.monotonic() - sent)

            watcher = threading.Thread(target=watch)
            watcher.start()
            items = [feed.get(DEADLINE)]
            keep_busy(3.0)
            watcher.join(DEADLINE)
            assert len(back) == 6
            assert back[0] < 1.5, "restart"
            assert max(back[1:]) < 1.0, "pongs"
            items += collect(feed, is_message("a", epoch=2))
            assert [type(item) for item in events_of(items, "a", Down, Up, Gap)] == [Down, Up, Gap]


def test_supervision_goes_on_without_an_iteration(start_method: Any) -> None:
    with steady(tls=True) as ex, Supervisor([ex.endpoint("a", restart=SOON)], start_method=start_method) as feed:
        ex.wait_connections(1)
        monitor = feed.monitor("a")
        for epoch in (1, 2, 3):
            assert monitor.wait_up(DEADLINE).epoch == epoch
            os.kill(pid_of(feed, "a"), signal.SIGKILL)
            assert monitor.wait_down(DEADLINE).reason.signal == "SIGKILL"
        ex.wait_accepted(4)
        feed.stop()
        assert_sound(rest(feed))


def test_row_45_a_consumer_that_raises_or_pauses_changes_nothing_for_the_owners() -> None:
    with steady() as ex, Supervisor([ex.endpoint("a")]) as feed:
        items = collect(feed, is_message("a"))
        before = pid_of(feed, "a")
        with pytest.raises(ZeroDivisionError):
            for item in feed:
                items.append(item)
                1 / 0  # noqa: B018
        reached = feed.status()["endpoints"]["a"]["messages"] + 200
        deadline = time.monotonic() + DEADLINE
        while feed.status()["endpoints"]["a"]["messages"] < reached:
            assert time.monotonic() < deadline, "nothing is received while nobody iterates"
        assert pid_of(feed, "a") == before
        items += collect(feed, lambda item: isinstance(item, Message) and item.number >= reached)
        assert_sound(items)
        assert messages_of(items, "a")[-1].data == b'{"n":%d}' % (len(messages_of(items, "a")) - 1)


def test_one_that_is_dropped_without_a_stop_warns_and_ends(exchange: Exchange, start_method: Any) -> None:
    feed = Supervisor([exchange.endpoint("a")], start_method=start_method)
    collect(feed, is_message("a"))
    with pytest.warns(ResourceWarning, match=r"dropped without stop\(\).*running, 1 endpoint, 1 up>; use `with`"):
        del feed
    exchange.wait_connections(0)
    assert set(exchange.closes.values()) == {1000}  # and its processes, threads and descriptors end: `no_leaks` looks


def test_one_that_was_never_started_is_dropped_in_silence() -> None:
    Supervisor([Endpoint("a", url="ws://127.0.0.1:1/")])
    gc.collect()


HOLDERS: dict[str, Callable[[Supervisor], Any]] = {
    "iterator": lambda feed: (item for item in iter(feed) if isinstance(item, Message)),
    "batches": lambda feed: (item for item in feed.batches() if isinstance(item, Batch)),
    "stream": lambda feed: (item for item in feed.stream("a") if isinstance(item, Message)),
}


@pytest.mark.parametrize("holder", HOLDERS)
def test_an_iteration_keeps_its_supervisor_alive(holder: str) -> None:
    with Exchange(messages=["x"], loop=True, rate=500) as ex:
        feed = Supervisor([ex.endpoint("a")])
        known, items, aio = ref(feed), HOLDERS[holder](feed), feed.aio
        next(items)
        del feed
        gc.collect()
        assert known() is not None
        next(items)
        items.close()
        del items
        gc.collect()
        kept = known()
        assert kept is not None  # by its asynchronous side
        assert kept.state == "running"
        kept.stop()
        del aio
