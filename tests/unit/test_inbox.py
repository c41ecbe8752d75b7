"""The inbox: order, overflow accounting, and nothing lost between two instructions."""

from __future__ import annotations

import gc
import sys
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import replace
from itertools import count, islice
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.interrupts import interrupt_at
from tests.support.records import consume, read
from wsadapter.contract.endpoint import Buffer
from wsadapter.contract.ipc.record import BATCH, Record, field
from wsadapter.contract.items import Batch, Dropped, Message, Up
from wsadapter.delivery.inbox import Backlog, Inbox, RecentInbox, queue_batch
from wsadapter.delivery.queued import QueuedBatch

pytestmark = pytest.mark.version

MANY = 40
"""Messages of a record that is too large to be taken together with others."""


def record_of(payloads: list[bytes]) -> Record:
    layout = "".join(field(0, len(payload)) for payload in payloads)
    body = b"".join(payloads)
    return read(body, kind=BATCH, received_at=1, layout=layout, count=len(payloads))


class Feeder:
    """Puts numbered messages of one endpoint into an inbox, as the supervisor does."""

    def __init__(self, inbox: Inbox, name: str = "a", **buffer: Any) -> None:
        self.inbox = inbox
        self.backlog = Backlog(name, Buffer(**buffer))
        self.number = 0

    def put(self, *payloads: bytes) -> None:
        queued = queue_batch(record_of(list(payloads)), self.backlog, epoch=1, first=self.number + 1, streams=None)
        self.number += len(payloads)
        self.inbox.put(queued)

    def put_single(self, payload: bytes, *, accepting: bool) -> None:
        """As in a turn of the loop that the consumer of messages runs, or, if not `accepting`, in any other turn."""
        self.number += 1
        sink = self.inbox.messages
        sink.accepting, sink.delivered = accepting, False
        delivered = self.inbox.put_single(Message(self.backlog.name, payload, 1, self.number, 1), self.backlog)
        assert sink.delivered == delivered
        sink.accepting = False

    def event(self) -> None:
        self.inbox.put_event(Up(self.backlog.name, 1, 0), self.backlog)


def singly(items: list[Any]) -> list[Any]:
    """Batches as their messages."""
    return [message for item in items for message in (item.messages() if isinstance(item, Batch) else [item])]


def numbers(items: list[Any], name: str = "a") -> list[int]:
    """Every number that was delivered or said to be dropped, in the order of the stream."""
    seen: list[int] = []
    for item in items:
        if isinstance(item, Message) and item.endpoint == name:
            seen.append(item.number)
        elif isinstance(item, Dropped) and item.endpoint == name and item.first is not None and item.last is not None:
            assert item.count == item.last - item.first + 1
            seen += range(item.first, item.last + 1)
    return seen


def test_messages_and_events_come_out_in_the_order_they_went_in() -> None:
    inbox = Inbox()
    a, b = Feeder(inbox, "a"), Feeder(inbox, "b")
    a.event()
    a.put(b"1", b"2")
    b.put(b"x")
    a.put(b"3")
    found = consume(inbox)
    assert [item.data if isinstance(item, Message) else item.kind for item in found if not isinstance(item, Batch)] == [
        "up", b"1", b"2", b"x", b"3",
    ]  # fmt: skip
    assert numbers(found) == [1, 2, 3]
    assert a.backlog.waiting == b.backlog.waiting == 0


def test_batches_are_the_messages_of_one_record() -> None:
    inbox = Inbox()
    feeder = Feeder(inbox)
    feeder.put(b"1", b"2")
    feeder.put(b"3")
    found = consume(inbox, as_batches=True)
    batches = [(batch.first_number, list(batch)) for batch in found if isinstance(batch, Batch)]
    assert batches == [(1, [b"1", b"2"]), (3, [b"3"])]


def test_what_is_in_hand_can_be_had_as_batches_and_back() -> None:
    inbox = Inbox()
    Feeder(inbox).put(b"1", b"2", b"3")
    inbox.take(as_batches=False)
    assert next(inbox.current).number == 1
    inbox.regroup(as_batches=True)
    inbox.regroup(as_batches=False)
    inbox.regroup(as_batches=True)
    (batch,) = inbox.current
    assert (batch.first_number, list(batch)) == (2, [b"2", b"3"])


def test_the_oldest_are_dropped_and_exactly_counted() -> None:
    inbox = Inbox()
    feeder = Feeder(inbox, max_bytes=4096)
    for _ in range(100):
        feeder.put(b"x" * 300)
    found = consume(inbox)
    assert numbers(found) == list(range(1, 101))
    first = found[0]
    assert isinstance(first, Dropped)
    assert (first.first, first.cause, first.bytes) == (1, "overflow", first.count * 300)
    assert feeder.backlog.dropped == first.count
    assert sum(isinstance(item, Dropped) for item in found) == 1


def test_a_loss_that_was_told_is_not_told_again() -> None:
    inbox = Inbox()
    feeder = Feeder(inbox, max_bytes=2000)
    for _ in range(20):
        feeder.put(b"x" * 300)
    inbox.take(as_batches=False)
    found = list(inbox.current)
    for _ in range(20):
        feeder.put(b"x" * 300)
    assert numbers(found + consume(inbox)) == list(range(1, 41))


def test_a_consumer_that_never_comes_costs_bounded_memory() -> None:
    inbox = Inbox()
    feeder, other = Feeder(inbox, max_bytes=10_000), Feeder(inbox, "b")
    other.put(b"keep")
    for _ in range(20_000):
        feeder.put(b"x" * 100)
    assert len(inbox._queue) < 5_000
    assert numbers(consume(inbox)) == list(range(1, 20_001))


def test_another_endpoint_is_not_touched_by_an_overflow() -> None:
    inbox = Inbox()
    flood, quiet = Feeder(inbox, "a", max_bytes=2000), Feeder(inbox, "b", max_bytes=2000)
    for n in range(200):
        flood.put(b"x" * 500)
        if n % 50 == 0:
            quiet.put(b"q")
    found = consume(inbox)
    assert [m.number for m in found if isinstance(m, Message) and m.endpoint == "b"] == [1, 2, 3, 4]


def test_conflation_keeps_the_newest_of_each_key() -> None:
    inbox = Inbox()
    feeder = Feeder(inbox, max_bytes=3000, overflow="conflate", key="d.s")
    for n in range(100):
        feeder.put(b'{"d":{"s":"BTC"},"n":%d}' % n, b'{"d":{"s":"ETH"},"n":%d}' % n)
    found = consume(inbox)
    assert numbers(found) == list(range(1, 201))
    newest = [item for item in found if isinstance(item, Message)][-2:]
    assert [item.json() for item in newest] == [{"d": {"s": "BTC"}, "n": 99}, {"d": {"s": "ETH"}, "n": 99}]
    assert {item.cause for item in found if isinstance(item, Dropped)} == {"conflated"}
    lost = sum(item.bytes for item in found if isinstance(item, Dropped))
    kept = sum(len(item.data) for item in found if isinstance(item, Message))
    assert lost + kept == sum(2 * len(b'{"d":{"s":"BTC"},"n":%d}' % n) for n in range(100))


def test_block_tells_when_half_of_the_buffer_is_free_again() -> None:
    inbox = Inbox()
    feeder = Feeder(inbox, max_bytes=2000, overflow="block")
    while not feeder.backlog.is_full:
        feeder.put(b"x" * 300)
    on_room: list[int] = []
    feeder.backlog.on_room = lambda: on_room.append(feeder.backlog.waiting)
    assert numbers(consume(inbox)) == list(range(1, feeder.number + 1))
    assert len(on_room) == 1
    assert on_room[0] <= 1000


def test_what_waits_moves_to_another_inbox_in_order() -> None:
    inbox, own = Inbox(), Inbox()
    a, b = Feeder(inbox, "a"), Feeder(inbox, "b")
    for _ in range(3):
        a.put(b"x")
        b.put(b"y")
    inbox.move(a.backlog, own)
    assert numbers(consume(own)) == [1, 2, 3]
    assert numbers(consume(inbox), "b") == [1, 2, 3]


def test_a_read_larger_than_the_buffer_keeps_the_newest_messages_that_fit() -> None:
    inbox = Inbox()
    feeder = Feeder(inbox, max_bytes=4096)
    feeder.put(b"x" * 100)
    feeder.put(*[b"x" * 300] * 100)
    assert 4096 - 400 < feeder.backlog.waiting <= 4096
    dropped, *messages = consume(inbox)
    assert isinstance(dropped, Dropped)
    assert (dropped.first, dropped.bytes, dropped.cause) == (1, 100 + 300 * (dropped.count - 1), "overflow")
    assert feeder.backlog.dropped == dropped.count
    assert numbers(messages) == list(range(dropped.count + 1, 102))


def test_only_as_many_of_the_oldest_messages_go_as_need_be() -> None:
    inbox = Inbox()
    feeder = Feeder(inbox, max_bytes=4096)
    feeder.put(*[b"x" * 100] * 33)
    for _ in range(5):
        feeder.put(b"y" * 100)
        assert 4096 - 110 < feeder.backlog.waiting <= 4096
    found = consume(inbox)
    assert numbers(found) == list(range(1, 39))
    assert isinstance(found[0], Dropped)
    assert sum(isinstance(item, Dropped) for item in found) == 1


MODES = ["drop_oldest", "conflate", "block", "disconnect"]


@pytest.mark.parametrize("overflow", MODES)
@pytest.mark.parametrize("size", [900, 1000, 1100, 100_000])
def test_a_message_near_or_over_the_buffer_waits_and_so_do_those_behind_it(overflow: str, size: int) -> None:
    inbox = Inbox()
    feeder = Feeder(inbox, max_bytes=1024, overflow=overflow)
    for payload in (b"x" * size, b"1", b"2"):
        feeder.put(payload)
        assert not feeder.backlog.has_overflowed
    assert feeder.backlog.dropped == 0
    assert numbers(consume(inbox)) == [1, 2, 3]


@pytest.mark.parametrize("overflow", ["drop_oldest", "conflate"])
def test_the_newest_message_waits_whatever_its_size(overflow: str) -> None:
    inbox = Inbox()
    feeder = Feeder(inbox, max_bytes=1024, overflow=overflow)
    for size in (100, 5000, 700, 100_000):
        feeder.put(b"x" * 10, b"x" * size)
    found = consume(inbox)
    assert numbers(found) == list(range(1, 9))
    last = found[-1]
    assert isinstance(last, Message)
    assert (last.number, len(last.data)) == (8, 100_000)


def test_who_disconnects_on_overflow_does_so_when_more_waits_than_one_read_and_the_buffer() -> None:
    inbox = Inbox()
    feeder = Feeder(inbox, max_bytes=1024, overflow="disconnect")
    feeder.put(*[b"x" * 100] * 50)
    assert not feeder.backlog.has_overflowed
    feeder.put(b"x" * 500)
    assert not feeder.backlog.has_overflowed
    feeder.put(b"x" * 500)
    assert feeder.backlog.has_overflowed
    inbox.discard(feeder.backlog, "overflow")
    assert feeder.backlog.waiting == 0
    assert numbers(consume(inbox)) == list(range(1, 53))


def test_conflation_parses_each_message_once(monkeypatch: pytest.MonkeyPatch) -> None:
    inbox = Inbox()
    feeder = Feeder(inbox, max_bytes=20_000, overflow="conflate", key="k")
    parsed: Counter[bytes] = Counter()
    loads = orjson.loads

    def counting(data: bytes) -> object:
        parsed[data] += 1
        return loads(data)

    monkeypatch.setattr("wsadapter.delivery.overflow.orjson.loads", counting)
    for n in range(2000):
        feeder.put(*(b'{"k":%d,"n":%d}' % (m % 7, m) for m in (3 * n, 3 * n + 1, 3 * n + 2)))
        if n % 50 == 0 and inbox.take(as_batches=False):
            assert list(inbox.current)
    assert feeder.backlog.dropped > 5000
    assert set(parsed.values()) == {1}


def test_what_conflation_does_at_one_put_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of messages wait when the buffer is half full, and none of their keys is known."""
    inbox = Inbox()
    feeder = Feeder(inbox, max_bytes=4 << 20, overflow="conflate", key="k")
    parsed, most, drop = count(), 0, QueuedBatch.drop
    loads = orjson.loads
    monkeypatch.setattr("wsadapter.delivery.overflow.orjson.loads", lambda data: (next(parsed), loads(data))[1])
    monkeypatch.setattr(QueuedBatch, "drop", lambda queued, position: (next(parsed), drop(queued, position))[1])
    for _ in range(8000):
        before = next(parsed)
        feeder.put(*(b'{"k":%d,"p":"%s"}' % (m % 7, b"x" * 50) for m in range(20)))
        most = max(most, next(parsed) - before)
    assert feeder.backlog.dropped > 100_000
    assert most < 6000
    assert numbers(consume(inbox)) == list(range(1, feeder.number + 1))


@pytest.mark.slow
@pytest.mark.parametrize("keys", [1, 50, 100_000])
def test_conflation_for_a_consumer_that_never_comes_costs_bounded_memory(keys: int) -> None:
    inbox = Inbox()
    feeder = Feeder(inbox, max_bytes=20_000, overflow="conflate", key="k")
    for n in range(20_000):
        feeder.put(b'{"k":%d}' % (n * 7919 % keys))
        assert feeder.backlog.waiting <= 20_000
    assert len(inbox._queue) < 5000
    assert len(feeder.backlog.conflation._newest) < 5000  # type: ignore[union-attr]
    found = consume(inbox)
    assert numbers(found) == list(range(1, 20_001))
    assert len([item for item in found if isinstance(item, Dropped)]) < 200


def test_a_loss_does_not_reach_across_an_event() -> None:
    inbox = Inbox()
    feeder = Feeder(inbox, max_bytes=1024)
    feeder.put(b"1")
    feeder.event()
    feeder.put(b"2")
    feeder.put(b"x" * 1000)
    feeder.put(b"x" * 1000)
    before, event, behind = consume(inbox)[:3]
    assert isinstance(event, Up)
    assert isinstance(before, Dropped)
    assert isinstance(behind, Dropped)
    assert (before.last, behind.first) == (1, 2)


steps = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.lists(st.integers(0, 600), min_size=1, max_size=4)),
        st.tuples(st.just("put"), st.lists(st.integers(0, 3000), min_size=1, max_size=40)),
        st.tuples(st.just("one"), st.lists(st.integers(0, 600), min_size=1, max_size=1)),
        st.tuples(st.just("one in a turn of the consumer's"), st.lists(st.integers(0, 600), min_size=1, max_size=3)),
        st.tuples(st.just("event"), st.just([])),
        st.tuples(st.just("take"), st.just([])),
    ),
    max_size=60,
)


@given(steps, st.sampled_from(["drop_oldest", "conflate"]), st.booleans())
def test_every_number_comes_out_once_in_order_delivered_or_dropped(
    script: list[tuple[str, list[int]]], overflow: str, as_batches: bool
) -> None:
    inbox = Inbox()
    feeder = Feeder(inbox, max_bytes=2000, overflow=overflow, key="k")
    found: list[Any] = []
    for what, sizes in script:
        if what == "put":
            feeder.put(*(b'{"k":%d,"p":"%s"}' % (size % 3, b"x" * size) for size in sizes))
            assert feeder.backlog.waiting <= 2000 + max(3000 + 300, sizes[-1])
            assert (last := feeder.backlog.last) is not None
            assert last.holds(len(sizes) - 1), "the newest message was dropped"
        elif what == "event":
            inbox.put_event(Up("a", feeder.number, 0), feeder.backlog)
        elif sizes:
            found += inbox.current  # nobody waits for a turn with something in hand
            consumer_runs = "turn" in what
            for size in sizes:
                feeder.put_single(b'{"k":%d,"p":"%s"}' % (size % 3, b"x" * size), accepting=consumer_runs and not as_batches)
            if consumer_runs:
                assert inbox.refill(as_batches=as_batches)
                found += inbox.current
        elif inbox.take(as_batches=as_batches):
            found += inbox.current
    found += consume(inbox, as_batches=as_batches)
    single = [m for item in found for m in (item.messages() if isinstance(item, Batch) else [item])]
    assert numbers(single) == list(range(1, feeder.number + 1))
    for place, item in enumerate(single):
        if isinstance(item, Up):
            assert len(numbers(single[:place])) == item.epoch, "an event stands where it was put"
    assert feeder.backlog.waiting == 0
    assert (feeder.backlog.oldest, feeder.backlog.last) == (None, None)
    assert feeder.backlog.dropped == sum(item.count for item in single if isinstance(item, Dropped))


def test_a_single_message_is_delivered_directly_only_if_the_consumer_of_messages_accepts_it_and_nothing_else_waits() -> None:
    inbox = Inbox()
    feeder = Feeder(inbox)
    inbox.batches.accepting = True  # a consumer of batches takes no message
    feeder.put_single(b"", accepting=False)
    assert not inbox.cursor.has_items()
    feeder.put_single(b"", accepting=True)  # one waits
    assert not inbox.cursor.has_items()
    assert inbox.refill(as_batches=False)
    assert numbers(list(inbox.current)) == [1, 2]
    feeder.put_single(b"", accepting=True)
    feeder.put_single(b"", accepting=True)  # another one in the same turn
    assert numbers(list(inbox.current)) == [3]
    assert numbers(consume(inbox)) == [4]


def interrupt(step: int, call: Callable[[], None]) -> bool:
    return interrupt_at(step, call, lambda file: "inbox.py" in file)


def put_small(feeder: Feeder) -> None:
    for _ in range(6):
        feeder.put(b"x" * 100, b"y")
        feeder.event()


def put_large(feeder: Feeder) -> None:
    feeder.put(*[b"y"] * MANY)


@pytest.mark.slow
@pytest.mark.parametrize("as_batches", [False, True])
@pytest.mark.parametrize("put", [put_small, put_large])
def test_an_interrupt_at_any_instruction_of_taking_loses_and_repeats_nothing(
    put: Callable[[Feeder], None], as_batches: bool
) -> None:
    for step in count(1):
        inbox = Inbox()
        feeder = Feeder(inbox, max_bytes=2400)
        put_small(feeder)
        inbox.take(as_batches=as_batches)
        found: list[Any] = list(inbox.current)
        put(feeder)
        put_small(feeder)
        interrupted = interrupt(step, lambda inbox=inbox: inbox.take(as_batches=as_batches))  # type: ignore[misc]
        if inbox._lock.locked():  # a trace can strike where the interpreter looks for no signal: on a with block's way out
            inbox._lock.release()
        found += consume(inbox, as_batches=as_batches)
        assert numbers(singly(found)) == list(range(1, feeder.number + 1)), f"interrupted at instruction {step}"
        events = sum(isinstance(item, Up) for item in found)
        assert events == (18 if put is put_small else 12), f"interrupted at instruction {step}"
        if not interrupted:
            assert step > 50
            return


@pytest.mark.parametrize("as_batches", [False, True])
@pytest.mark.parametrize("used", [0, 1, MANY - 1, MANY])
def test_an_interrupt_at_any_instruction_of_regrouping_loses_and_repeats_nothing(as_batches: bool, used: int) -> None:
    for step in count(1):
        inbox = Inbox()
        feeder = Feeder(inbox)
        put_large(feeder)
        put_small(feeder)
        inbox.take(as_batches=not as_batches)
        found: list[Any] = list(islice(inbox.current, used))
        interrupted = interrupt(step, lambda inbox=inbox: inbox.regroup(as_batches=as_batches))  # type: ignore[misc]
        if inbox._lock.locked():
            inbox._lock.release()
        found += consume(inbox, as_batches=as_batches)
        assert numbers(singly(found)) == list(range(1, feeder.number + 1)), f"interrupted at instruction {step}"
        if not interrupted:
            return


# -- in hand -------------------------------------------------------------------------------------------------------------


def test_what_is_left_of_a_large_record_goes_on_as_a_batch_and_back_at_any_place() -> None:
    for used in range(MANY + 1):
        inbox = Inbox()
        feeder = Feeder(inbox)
        put_large(feeder)
        inbox.take(as_batches=False)
        under_way = iter(inbox.current)
        found = [next(under_way) for _ in range(used)]
        assert inbox.cursor.has_items() == (used < MANY)
        inbox.regroup(as_batches=True)
        assert next(under_way, None) is None, "what an old iteration holds was given out anew"
        found += [message for batch in inbox.current for message in batch.messages()]
        assert numbers(found) == list(range(1, MANY + 1))
        assert not inbox.cursor.has_items()


def test_messages_of_a_large_record_know_their_kind_and_stream_at_any_place() -> None:
    record = record_of([b"%d" % n for n in range(MANY)])
    kinds, streams = [n % 3 == 0 for n in range(MANY)], [f"s{n % 2}" if n % 5 else None for n in range(MANY)]
    mixed = replace(record, binary=kinds)
    for whole_after in (0, 7, MANY):
        inbox = Inbox()
        inbox.put(queue_batch(mixed, Backlog("a", Buffer()), epoch=4, first=11, streams=streams))
        inbox.take(as_batches=False)
        found = list(islice(inbox.current, whole_after))
        inbox.regroup(as_batches=True)
        inbox.regroup(as_batches=False)
        found += inbox.current
        expected = [Message("a", b"%d" % n, 4, 11 + n, 1, streams[n], kinds[n]) for n in range(MANY)]
        assert found == expected


def test_messages_are_made_when_they_are_asked_for_and_kept_by_nobody() -> None:
    inbox = Inbox()
    put_large(Feeder(inbox))
    before = {id(found) for found in gc.get_objects() if isinstance(found, Message)}
    inbox.take(as_batches=False)
    first = next(inbox.current)
    assert [found for found in gc.get_objects() if isinstance(found, Message) and id(found) not in before] == [first]


def test_small_records_of_several_endpoints_are_one_handful_and_stay_apart_as_batches() -> None:
    inbox = Inbox()
    a, b = Feeder(inbox, "a"), Feeder(inbox, "b")
    for _ in range(3):
        a.put(b"1")
        b.put(b"2", b"3")
    inbox.take(as_batches=False)
    assert not inbox
    assert a.backlog.waiting == b.backlog.waiting == 0
    first = next(inbox.current)
    inbox.regroup(as_batches=True)
    batches = list(inbox.current)
    assert [(batch.endpoint, batch.first_number, list(batch)) for batch in batches] == [
        ("b", 1, [b"2", b"3"]), ("a", 2, [b"1"]), ("b", 3, [b"2", b"3"]), ("a", 3, [b"1"]), ("b", 5, [b"2", b"3"]),
    ]  # fmt: skip
    assert (first.endpoint, first.number) == ("a", 1)


def test_a_handful_is_bounded() -> None:
    inbox = Inbox()
    feeder = Feeder(inbox)
    for _ in range(1000):
        feeder.put(b"x" * 1000)
    inbox.take(as_batches=False)
    assert len(list(inbox.current)) <= 64


def test_what_was_consumed_is_not_kept_alive() -> None:
    inbox = Inbox()
    feeder = Feeder(inbox)
    feeder.put(*[b"x" * 1000] * MANY)
    queued = inbox._queue[0]
    inbox.take(as_batches=False)
    deque(inbox.current, maxlen=0)
    assert sys.getrefcount(queued) == 2


def test_an_inbox_that_nobody_consumes_keeps_the_newest_events_and_all_messages() -> None:
    inbox = RecentInbox(10)
    feeder = Feeder(inbox)
    feeder.put(b"first")
    for epoch in range(1000):
        inbox.put_event(Up("a", epoch, 0), feeder.backlog)
        assert len(inbox._queue) <= 20
    feeder.put(b"last")
    items = []
    while inbox.take(as_batches=False):
        items += list(inbox.current)
    epochs = [item.epoch for item in items if isinstance(item, Up)]
    assert epochs == list(range(epochs[0], 1000))
    assert len(epochs) >= 10
    assert [item.data for item in items if isinstance(item, Message)] == [b"first", b"last"]
    assert feeder.backlog.waiting == 0
