"""What happens to the connections of an endpoint when more waits for the consumer than may."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest

from tests.support.records import consume
from wsadapter.contract.endpoint import Buffer
from wsadapter.contract.items import Dropped
from wsadapter.contract.reasons import Reason
from wsadapter.delivery.inbox import Inbox
from wsadapter.endpoint.backpressure import Backpressure
from wsadapter.endpoint.numbered_stream import NumberedStream
from wsadapter.endpoint.subscriptions import Numbers
from wsadapter.loop.reactor import Reactor


class FakeReactor:
    """Posted calls wait until `run`."""

    def __init__(self) -> None:
        self.posted: list[Callable[[], None]] = []

    def post(self, call: Callable[[], None]) -> None:
        self.posted.append(call)

    def run(self) -> None:
        posted, self.posted = self.posted, []
        for call in posted:
            call()


class FakeLink:
    """It is its owner too."""

    def __init__(self) -> None:
        self.did: list[str] = []
        self.owner = self

    def pause(self) -> None:
        self.did.append("pause")

    def read_on(self) -> None:
        self.did.append("read on")

    def kill(self, reason: Reason, *, with_connection: bool) -> None:
        assert with_connection
        self.did.append(reason.kind)


class Overflow:
    """An endpoint with two connections, and what waits of it."""

    def __init__(self, overflow: Any) -> None:
        self.inbox, self.reactor, self.links, self.on_room = Inbox(), FakeReactor(), [FakeLink(), FakeLink()], 0
        buffer = Buffer(max_bytes=1000, overflow=overflow)
        self.stream = NumberedStream("a", buffer, Numbers(), self.inbox)
        self.backpressure = Backpressure(self.stream, cast("Reactor", self.reactor), lambda: self.links, self._on_relieved)

    def _on_relieved(self) -> None:
        self.on_room += 1

    def fill(self) -> None:
        for _ in range(4):
            self.stream.insert(b"x" * 400, 1, binary=False)

    def consume(self) -> list[Any]:
        return consume(self.inbox)

    @property
    def did(self) -> list[list[str]]:
        return [link.did for link in self.links]


def test_all_connections_pause_until_the_consumer_has_caught_up() -> None:
    case = Overflow("block")
    case.fill()
    case.backpressure.overflowed()
    assert case.did == [["pause"], ["pause"]]
    assert len(case.consume()) == 4
    assert case.on_room == 0, "the consumer's thread only posts it"
    case.reactor.run()
    assert (case.did, case.on_room) == ([["pause", "read on"]] * 2, 1)


def test_a_connection_that_overflows_while_relief_is_awaited_pauses_too() -> None:
    case = Overflow("block")
    case.fill()
    case.backpressure.overflowed()
    case.links.append(FakeLink())
    case.backpressure.overflowed()
    assert case.did[2] == ["pause"]


def test_no_connection_pauses_if_the_consumer_was_faster() -> None:
    case = Overflow("block")
    case.backpressure.overflowed()
    assert case.did == [[], []]


def test_a_relief_for_an_earlier_wait_is_ignored() -> None:
    case = Overflow("block")
    case.fill()
    case.backpressure.overflowed()
    case.consume()
    case.backpressure.forget()  # the only connection is gone
    case.fill()
    case.backpressure.overflowed()  # of the next one
    case.reactor.run()
    assert case.did == [["pause", "pause"]] * 2
    case.consume()
    case.reactor.run()
    assert case.did == [["pause", "pause", "read on"]] * 2


def test_a_connection_that_overflows_is_ended_and_its_backlog_dropped() -> None:
    case = Overflow("disconnect")
    case.fill()
    case.backpressure.overflowed()
    assert case.did == [["overflow"], ["overflow"]]
    (dropped,) = case.consume()
    assert isinstance(dropped, Dropped)
    assert (dropped.first, dropped.last, dropped.cause) == (1, 4, "overflow")


@pytest.mark.parametrize("overflow", ["drop_oldest", "conflate"])
def test_if_the_inbox_drops_messages_itself_no_connection_pauses(overflow: str) -> None:
    case = Overflow(overflow)
    case.fill()
    case.backpressure.overflowed()
    assert case.did == [[], []]
