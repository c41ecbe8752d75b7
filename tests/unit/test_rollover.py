"""Planned changes of a connection, without processes: what is delivered, and what is told to be missing."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.support.fakes import FakeProcess
from tests.support.records import FIRST, message, read
from wsadapter.contract.endpoint import Endpoint
from wsadapter.contract.ipc.commands import IDENTIFY, TAKEN, Command
from wsadapter.contract.ipc.record import NO_IDENTITY, REPORT, SNAPSHOT, Record
from wsadapter.contract.ipc.reports import REPORTS, StreamNamed, parse_report
from wsadapter.endpoint.connect_slot import ConnectSlot, ConnectTarget
from wsadapter.endpoint.futures import Waiters
from wsadapter.endpoint.overlap import LAG
from wsadapter.endpoint.owner_commands import OwnerCommands
from wsadapter.endpoint.restart_policy import ConnectBudget
from wsadapter.endpoint.rollover import RollingLink, Rollover
from wsadapter.endpoint.subscriptions import Subscriptions
from wsadapter.loop.reactor import Reactor
from wsadapter.process.lifecycle import ProcessState

CHANGES = 2_000
"""Random ones."""


def said(event: str, at: int, **fields: Any) -> Record:
    return read(REPORTS[event](**fields).encode(), kind=REPORT, received_at=at)


class Change:
    """One change of an endpoint's connection; `out` has what was accepted, and each gap as the stream it names."""

    def __init__(self, reactor: Reactor, identity: Any = ("n",)) -> None:
        self.out: list[tuple[str | None, int | None] | str] = []
        self._said: list[Any] = []
        dialer = SimpleNamespace(
            connect=lambda process, assignment, slot: self._said.append(("assign", assignment)),
            mask=lambda text: text,
            leave_host_alone=lambda reason: None,
        )
        self.commands = OwnerCommands()
        self.owner = FakeProcess()
        self.commands.send_to(cast("Any", self.owner))
        connection = SimpleNamespace(
            commands=self.commands,
            subscriptions=Subscriptions(),
            dialer=dialer,
            requests=SimpleNamespace(when_idle=lambda patience, call: None),
            reserve_connect=lambda: ConnectSlot(ConnectBudget(), ConnectTarget("localhost", "localhost ", 0, 60.0), reactor),
            assignment=lambda epoch, identify: identify,
        )
        output = SimpleNamespace(
            name="a",
            epoch=1,
            log=SimpleNamespace(change_failed=lambda epoch, why, text: self._said.append(text)),
            is_receiving=True,
            accept=self._accept,
        )
        link = SimpleNamespace(
            supervisor=SimpleNamespace(reactor=reactor, acquire_owner=None),
            output=output,
            connection=connection,
            waiters=Waiters(),
            stays=True,
        )
        host = SimpleNamespace(endpoint=Endpoint("a", url="ws://localhost", identity=identity), dialect=None)
        self.change = Rollover(cast("RollingLink", link), cast("Any", host))
        self.change.begin("recycled")
        assert self.change._successor is not None
        self.successor = self.change._successor
        self.successor.slot.cancel()
        process = SimpleNamespace(state=ProcessState.WARM, data=SimpleNamespace(pause=lambda: None))
        self.successor.begin(lambda _: cast("Any", process))
        self.streams: list[str | None] = [None]
        """Of the successor, by their numbers."""

    def _accept(self, received: Record, streams: list[str | None] | None) -> None:
        for place in range(received.count):
            identity = None if received.identities is None else received.identities[place]
            self.out.append((None if streams is None else streams[place], identity))

    def identified(self) -> None:
        ((kind, ref, body),) = self.owner.sent
        assert (kind, body) == (IDENTIFY, {"on": True})
        self.commands.on_command(Command(TAKEN, ref, b""))
        assert ("assign", True) in self._said

    def old(self, identity: int | None, at: int, stream: str | None = None) -> None:
        """The old owner delivers a message."""
        assert self.change.merge is not None
        self.change.merge.take(message(identity, at), None if stream is None else [stream])

    def new(self, *shown: Record) -> None:
        """The successor says this."""
        for record in shown:
            self.successor.on_record(cast("Any", None), record)

    def end(self, *, in_order: bool, ready_at: int | None = None, last_received_at: int = 0) -> None:
        """The old owner is gone."""
        self.successor.ready_at = ready_at
        self.change.adopt(last_received_at, self._deliver, in_order=in_order)

    def _deliver(self, _child: object, _slot: object, held: list[Record], continues: bool) -> None:
        self.out += sorted(map(str, self.change.interrupted)) if continues else ["all"]
        for record in held:
            self.show(record)

    def show(self, record: Record) -> None:
        """The successor, which is the owner now, says this."""
        if record.kind == REPORT:
            report = parse_report(record.report)
            if isinstance(report, StreamNamed):
                self.streams.append(report.name)
            return
        streams = None if record.streams is None else [self.streams[number] for number in record.streams]
        if self.change.merge is None:
            self._accept(record, streams)
        else:
            self.change.merge.take(record, streams)

    def close(self) -> None:
        self.change._end_overlap()
        self.successor._cancel()


READY_AT = 40 * LAG
RESTORED = said("restored", 30 * LAG, ok=0, failed=[])
EARLY, LATE = READY_AT - 2 * LAG, READY_AT - 1
"""Whether there was time for the old connection to bring it too."""


def changed(
    reactor: Reactor, delivered: Sequence[int], shown: Sequence[Record], *, in_order: bool = True, identity: Any = ("n",)
) -> list[tuple[str | None, int | None] | str]:
    """What comes behind what the old owner delivered, the gaps included."""
    change = Change(reactor, identity)
    for one in delivered:
        change.old(one, EARLY)
    change.identified()
    change.new(*shown)
    change.end(in_order=in_order, ready_at=READY_AT, last_received_at=EARLY)
    change.close()
    return change.out[len(delivered) :]


@pytest.mark.parametrize(
    ("shown", "in_order", "otherwise"),
    [
        ([RESTORED, message(12, EARLY)], [], []),
        ([RESTORED, message(12, EARLY), message(13, LATE)], [13], [13]),
        ([RESTORED, message(14, EARLY)], ["all", 14], ["all", 14]),  # 13 may have come on neither
        ([RESTORED, message(14, LATE)], [14], ["all", 14]),  # it had no time to come on the old one
        ([RESTORED, message(14, EARLY), message(12, EARLY)], [], []),
        ([RESTORED, message(12, EARLY), message(12, EARLY)], [], [12]),  # the peer repeats itself, or 12 came twice
        ([RESTORED], [], ["all"]),
        ([message(12, EARLY)], ["all", 12], ["all", 12]),  # it is not subscribed
        ([message(12, EARLY), RESTORED], [], ["all", 12]),  # of another stream more may have come before that
        ([RESTORED, message(NO_IDENTITY, EARLY), message(SNAPSHOT, EARLY)], [], ["all", NO_IDENTITY, SNAPSHOT]),
    ],
)
def test_only_a_visible_overlap_continues_the_stream(
    reactor: Reactor, shown: list[Record], in_order: list[Any], otherwise: list[Any]
) -> None:
    for ends, expected in ((True, in_order), (False, otherwise)):
        out = changed(reactor, [11, 12], shown, in_order=ends)
        assert [item if isinstance(item, str) else item[1] for item in out] == expected


def test_a_stream_that_was_silent_on_the_old_connection_begins_anew_behind_a_gap(reactor: Reactor) -> None:
    """Whoever rebuilds on the gap finds the snapshot, and what follows it."""
    shown = [
        said("stream", 0, index=1, name="a"), said("stream", 0, index=2, name="b"),
        message(21, EARLY - LAG, 2), message(SNAPSHOT, EARLY - LAG, 2), message(22, EARLY - LAG, 2), RESTORED,
        message(11, EARLY, 1), message(23, EARLY, 2), message(12, LATE, 1),
    ]  # fmt: skip
    change = Change(reactor)
    change.old(11, EARLY, "a")
    change.identified()
    change.new(*shown)
    change.end(in_order=True, ready_at=READY_AT)
    change.close()
    assert change.out[1:] == ["b", ("b", 21), ("b", SNAPSHOT), ("b", 22), ("b", 23), ("a", 12)]


def test_a_change_that_begins_while_held_records_are_delivered_keeps_its_own_merge(reactor: Reactor) -> None:
    """A notice of the peer's may be in it, which asks for another connection."""
    change = Change(reactor)
    change.old(11, EARLY)
    change.identified()
    change.new(RESTORED, message(11, EARLY))
    change._deliver = lambda *_: change.change.begin("notice")  # type: ignore[method-assign]
    change.end(in_order=True, ready_at=READY_AT)
    change.old(12, LATE)  # by the owner that is to go
    assert change.change._overlap is None, "no timer ends what has just begun"
    change.close()
    assert change.out == [(None, 11), (None, 12)]


def test_new_messages_are_delivered_in_the_order_of_the_successor(reactor: Reactor) -> None:
    shown = [
        said("stream", 0, index=1, name="a"), said("stream", 0, index=2, name="b"), RESTORED,
        message(11, EARLY, 1), message(21, LATE, 2), message(12, LATE, 1),
    ]  # fmt: skip
    change = Change(reactor)
    change.old(11, EARLY, "a")
    change.identified()
    change.new(*shown)
    change.end(in_order=True, ready_at=READY_AT)
    change.close()
    assert change.out[1:] == [("b", 21), ("a", 12)]


def test_messages_without_identity_are_taken_from_the_successor_after_the_last_of_the_old_owner(reactor: Reactor) -> None:
    shown = [RESTORED, message(12, EARLY), *(message(NO_IDENTITY, EARLY + nanoseconds) for nanoseconds in (0, 1))]
    assert changed(reactor, [12], shown) == [(None, NO_IDENTITY)]


@pytest.mark.parametrize("identity", ["bytes", ("n",)])
def test_a_stream_whose_messages_have_no_identity_begins_anew_behind_a_gap(reactor: Reactor, identity: Any) -> None:
    """The other streams go on."""
    shown = [
        said("stream", 0, index=1, name="a"), said("stream", 0, index=2, name="b"), RESTORED,
        message(11, EARLY, 1), message(NO_IDENTITY, EARLY, 2), message(NO_IDENTITY, LATE, 2), message(12, LATE, 1),
    ]  # fmt: skip
    change = Change(reactor, identity)
    change.old(11, EARLY, "a")
    change.old(NO_IDENTITY, EARLY, "b")
    change.identified()
    change.new(*shown)
    change.end(in_order=True, ready_at=READY_AT, last_received_at=LATE)
    change.close()
    assert change.out[2:] == ["b", ("b", NO_IDENTITY), ("b", NO_IDENTITY), ("a", 12)]


@pytest.mark.parametrize("in_order", [True, False])
def test_if_equal_messages_may_repeat_an_equal_message_is_no_overlap(reactor: Reactor, in_order: bool) -> None:
    out = changed(reactor, [11], [RESTORED, message(11, EARLY)], in_order=in_order, identity="bytes")
    assert out == ([] if in_order else ["all", (None, 11)])


def test_equal_messages_of_a_rollover_are_delivered_as_often_as_on_one_connection(reactor: Reactor) -> None:
    shown = [RESTORED, *(message(identity, EARLY) for identity in (12, 11, 11, 13))]
    assert changed(reactor, [11, 12, 11], shown, identity="bytes") == [(None, 13)]
    assert changed(reactor, [11, 12], shown, identity="bytes") == [(None, 11), (None, 13)]


@dataclass
class Feed:
    """What an exchange sends, with its time: to the old connection from the beginning, to the new one from its subscription on,
    with the last so many of each stream before it, of which the very last may come twice."""

    sent: list[tuple[int, str, int]]
    recent: int
    repeats: bool
    subscribed: int
    lag: int

    def shown(self) -> Iterator[tuple[int, str, int]]:
        """To the new connection: when it receives it, the stream, and the number in it."""
        for stream in sorted({stream for _, stream, _ in self.sent}):
            before = [number for at, name, number in self.sent if name == stream and at <= self.subscribed]
            recent = before[-self.recent :] if self.recent else []
            for number in recent + recent[-1:] * self.repeats:
                yield self.subscribed + self.lag, stream, number
        for at, stream, number in self.sent:
            if at > self.subscribed:
                yield at + self.lag, stream, number


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_no_message_is_lost_or_delivered_twice_without_a_gap(reactor: Reactor, seed: int) -> None:
    dice = random.Random(seed)
    told = Counter[str]()
    for _ in range(CHANGES // 2):
        change, feed, in_order = play(reactor, dice)
        kinds = check(change.out)
        if not feed.recent and in_order:
            assert kinds == set()
        told.update(kinds or {"none"})
    assert set(told) == {"none", "all", "stream"}
    assert told["none"] > CHANGES // 5


def play(reactor: Reactor, dice: random.Random) -> tuple[Change, Feed, bool]:
    """A change, of a feed of some streams, busy ones and quiet ones."""
    second = 4 * LAG
    rates = {name: dice.choice([0.2, 2.0, 10.0]) for name in "abc"[: dice.randint(1, 3)]}
    numbers = dict.fromkeys(rates, FIRST)
    sent = []
    for at in sorted(dice.randrange(5 * second) for _ in range(dice.randint(0, 5 * int(sum(rates.values()) + 1)))):
        name = dice.choices(list(rates), list(rates.values()))[0]
        sent.append((at, name, numbers[name]))
        numbers[name] += 1
    subscribed = 2 * second + dice.randrange(second)
    in_order = dice.random() < 0.6
    feed = Feed(sent, dice.choice([0, 0, 1, 5, 30]), in_order and dice.random() < 0.3, subscribed, dice.randrange(LAG // 2))
    old_lag, identified = dice.randrange(LAG // 2), subscribed - dice.randrange(second // 4, second)
    restored = subscribed + feed.lag + dice.randrange(LAG // 10)
    ready = restored + 2 * LAG
    left = ready + dice.randrange(LAG) if in_order else dice.randrange(identified, ready + LAG)
    change = Change(reactor)
    for at, name, number in sent:  # asked to go, it reads what was sent until then; killed, it does not
        received_at = at + old_lag
        if (at if in_order else received_at) <= left:
            change.old(number if received_at > identified else None, received_at, name)
    change.out = [(name, number) for (name, _), (_, _, number) in zip(cast("Any", change.out), sent, strict=False)]
    change.identified()
    gone = left + old_lag + dice.randrange(LAG // 4)
    indexes: dict[str, int] = {}
    rest = []
    messages = [(at, 1, name, number) for at, name, number in feed.shown()]
    for at, is_message, name, number in sorted([(restored, 0, "", 0), *messages], key=lambda each: each[0]):
        say = change.new if at <= gone else rest.append
        if not is_message:
            say(said("restored", at, ok=len(rates), failed=[]))
            continue
        if name not in indexes:
            indexes[name] = len(indexes) + 1
            say(said("stream", at, index=indexes[name], name=name))
        say(message(number, at, indexes[name]))
    change.end(in_order=in_order, ready_at=ready if gone >= ready else None, last_received_at=left)
    for record in rest:
        change.show(record)
    change.close()
    return change, feed, in_order


def check(out: Sequence[tuple[str | None, int | None] | str]) -> set[str]:
    """In each stream every number follows the one before, but behind a gap, where all that the peer sent comes; the kinds of
    gaps."""
    kinds, last, told, begun_anew = set(), dict[str | None, int](), set[str | None](), set[str | None]()
    for item in out:
        if isinstance(item, str):
            kinds.add("all" if item == "all" else "stream")
            told |= set("abc") if item == "all" else {item}
            begun_anew |= told
            continue
        stream, number = item
        assert number is not None
        if stream in told:
            told.remove(stream)
        elif stream in last and not (stream in begun_anew and number == last[stream]):
            assert number == last[stream] + 1, f"{number} after {last[stream]} in {stream}: {out}"
        last[stream] = number
    return kinds
