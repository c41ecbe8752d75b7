"""One endpoint under one term: claims, appends, lost answers, other writers."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from typing import Any

import pytest

from tests.unit.test_cluster_numbering import ME, STOPPED, batch, records
from wsadapter.cluster import writer as ours
from wsadapter.cluster.message import Tenure, Writer
from wsadapter.cluster.store import StoreUnavailable
from wsadapter.cluster.writer import EndpointWriter, TermLost
from wsadapter.contract.items import Down, Up

OTHER = Writer("y", "other", "journal of y")


class MemoryLog:
    """One subject that compares, as the server does. `faults`: of the next appends: "before", "after" (the answer is lost)."""

    limit = 100_000

    def __init__(self, *faults: str) -> None:
        self.messages: list[tuple[int, bytes, Mapping[str, str]]] = []
        self.faults = list(faults)

    async def last(self, _endpoint: str) -> tuple[int, Mapping[str, str]] | None:
        return (self.messages[-1][0], self.messages[-1][2]) if self.messages else None

    async def append(self, _endpoint: str, body: bytes, headers: Mapping[str, str], expected: int) -> int | None:
        fault = self.faults.pop(0) if self.faults else ""
        if fault == "before":
            raise StoreUnavailable("no answer")
        if (self.messages[-1][0] if self.messages else 0) != expected:
            return None
        self.messages.append((len(self.messages) + 1, body, headers))
        if fault == "after":
            raise StoreUnavailable("no answer")
        return len(self.messages)

    @property
    def numbers(self) -> list[int]:
        return [int(headers["Wsadapter-Number"]) for _, _, headers in self.messages]

    @property
    def text(self) -> str:
        return b"".join(body for _, body, _ in self.messages).decode()


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ours, "_AGAIN", 0.001)


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)


def test_a_claim_comes_before_the_first_record() -> None:
    async def work() -> None:
        log = MemoryLog()
        writer = EndpointWriter(log, "a", Tenure(1, "lease 1"), ME, 10)
        await writer.claim()
        assert (log.numbers, log.text, writer.is_writing) == ([0], "", True)
        await writer.write(records(Up("a", 1, 5), batch(1, 3, 1), begin=10))
        assert log.numbers == [0, 3]
        assert log.messages[1][2]["Wsadapter-First-Number"] == "1"

    run(work())


@pytest.mark.parametrize(
    "faults", [["after"], ["before"], ["", "after"], ["", "before", "after"], ["after", "before", "after"]]
)
def test_an_append_without_an_answer_is_there_once(faults: list[str]) -> None:
    async def work() -> None:
        log = MemoryLog(*faults)
        writer = EndpointWriter(log, "a", Tenure(1, "lease 1"), ME, 10)
        await writer.write(records(Up("a", 1, 5), batch(1, 3, 1), begin=10))
        await writer.write(records(batch(4, 2, 1), begin=14))
        assert log.numbers == [0, 3, 5]
        assert writer.refused == 0

    run(work())


def test_the_next_holder_ends_the_epoch_and_the_old_one_is_refused() -> None:
    async def work() -> None:
        log = MemoryLog()
        old = EndpointWriter(log, "a", Tenure(1, "lease 1"), OTHER, 10)
        await old.write(records(Up("a", 1, 5), batch(1, 3, 1), begin=10))
        new = EndpointWriter(log, "a", Tenure(2, "lease 2"), ME, 90)
        await new.claim()
        assert '"event":"down"' in log.messages[-1][1].decode()
        with pytest.raises(TermLost):
            await old.write(records(batch(4, 2, 1), begin=14))
        assert (old.is_lost, old.refused) == (True, 1)
        await new.write(records(Up("a", 7, 9), batch(31, 2, 7), begin=90, number=30))
        assert log.numbers == [0, 3, 3, 5]
        assert log.text.count('"event":"gap"') == 1

    run(work())


def test_an_append_that_was_under_way_when_the_process_was_frozen_is_refused() -> None:
    async def work() -> None:
        log = MemoryLog()
        old = EndpointWriter(log, "a", Tenure(1, "lease 1"), OTHER, 10)
        await old.write(records(Up("a", 1, 5), batch(1, 3, 1), begin=10))
        await EndpointWriter(log, "a", Tenure(2, "lease 2"), ME, 90).claim()
        log.faults = ["before"]  # its answer did not come in time
        with pytest.raises(TermLost):
            await old.write(records(batch(4, 2, 1), begin=14))
        assert (old.is_lost, old.refused, log.numbers) == (True, 1, [0, 3, 3])

    run(work())


def test_a_server_that_answers_nothing_at_all_ends_the_tries_at_once() -> None:
    class Silent(MemoryLog):
        is_silent = False

        async def last(self, endpoint: str) -> tuple[int, Mapping[str, str]] | None:
            if self.is_silent:
                raise StoreUnavailable("no answer")
            return await super().last(endpoint)

    async def work() -> None:
        log = Silent()
        writer = EndpointWriter(log, "a", Tenure(1, "lease 1"), ME, 10)
        await writer.write(records(Up("a", 1, 5), batch(1, 3, 1), begin=10))
        log.is_silent, log.faults = True, ["before"] * 5
        with pytest.raises(StoreUnavailable):
            await writer.write(records(batch(4, 2, 1), begin=14))
        assert len(log.faults) == 4

    run(work())


def test_a_process_that_takes_the_place_of_a_dead_one_goes_on_behind_it() -> None:
    async def work() -> None:
        log = MemoryLog()
        everything = records(Up("a", 1, 5), batch(1, 3, 1), batch(4, 2, 1), Down("a", 1, 9, STOPPED), begin=10)
        first = EndpointWriter(log, "a", Tenure(1, "lease 1"), ME, 10)
        await first.write(everything[:2])
        second = EndpointWriter(log, "a", Tenure(1, "lease 1"), Writer("x", "second process", "journal"), 99, was_claimed=True)
        await second.claim()
        await second.write(everything)
        assert log.numbers == [0, 3, 3, 5]
        assert "gap" not in log.text
        with pytest.raises(TermLost):  # if it was only frozen
            await first.write(everything[2:])

    run(work())


def test_a_claim_that_was_purged_is_not_made_again_under_the_same_term() -> None:
    async def work() -> None:
        writer = EndpointWriter(MemoryLog(), "a", Tenure(4, "lease 4"), ME, 10, was_claimed=True)
        with pytest.raises(TermLost):
            await writer.claim()
        assert writer.is_lost

    run(work())


def test_a_term_that_was_given_twice_is_lost_to_the_second() -> None:
    async def work() -> None:
        log = MemoryLog()
        await EndpointWriter(log, "a", Tenure(1, "before the bucket was lost"), ME, 10).claim()
        writer = EndpointWriter(log, "a", Tenure(1, "after"), ME, 99)
        with pytest.raises(TermLost):
            await writer.claim()
        assert (writer.is_lost, writer.highest_term, log.numbers) == (True, 1, [0])

    run(work())


def test_a_higher_term_in_the_subject_is_known_to_who_is_lost() -> None:
    async def work() -> None:
        log = MemoryLog()
        await EndpointWriter(log, "a", Tenure(9, "lease 9"), OTHER, 10).claim()
        writer = EndpointWriter(log, "a", Tenure(2, "lease 2"), ME, 10)
        with pytest.raises(TermLost):
            await writer.claim()
        assert (writer.is_lost, writer.highest_term) == (True, 9)

    run(work())


def test_a_quiet_endpoint_keeps_its_last_message_young() -> None:
    async def work() -> None:
        log = MemoryLog()
        writer = EndpointWriter(log, "a", Tenure(1, "lease 1"), ME, 10)
        await writer.write(records(Up("a", 1, 5), batch(1, 3, 1), begin=10))
        await writer.touch()
        assert (log.numbers, log.messages[-1][1]) == ([0, 3, 3], b"")
        await writer.write(records(batch(4, 2, 1), begin=14))
        assert log.numbers == [0, 3, 3, 5]

    run(work())


def test_no_answer_for_long_ends_the_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ours, "_PATIENCE", 0.02)

    async def work() -> None:
        writer = EndpointWriter(MemoryLog(*["before"] * 10_000), "a", Tenure(1, "lease 1"), ME, 10)
        with pytest.raises(StoreUnavailable):
            await writer.claim()

    run(work())


def test_a_server_that_refuses_without_a_reason_is_asked_again_with_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ours, "_AGAIN", 0.02)
    monkeypatch.setattr(ours, "_PATIENCE", 0.1)

    class Refusing(MemoryLog):
        refuses = False
        asked = 0

        async def append(self, endpoint: str, body: bytes, headers: Mapping[str, str], expected: int) -> int | None:
            self.asked += 1
            return None if self.refuses else await super().append(endpoint, body, headers, expected)

    async def work() -> None:
        log = Refusing()
        writer = EndpointWriter(log, "a", Tenure(1, "lease 1"), ME, 10)
        await writer.write(records(Up("a", 1, 5), batch(1, 3, 1), begin=10))
        log.refuses, log.asked = True, 0
        with pytest.raises(StoreUnavailable, match="no append to a within"):
            await writer.write(records(batch(4, 2, 1), begin=14))
        assert 2 <= log.asked <= 7

    run(work())
