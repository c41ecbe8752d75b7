"""The keeper: what it holds of each process, and when it gives up."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from itertools import count
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

from tests.support.feeds import DEADLINE
from wsadapter.cli.keeper import MOST_DEATHS, PERIOD, too_many
from wsadapter.contract.endpoint import Buffer, Endpoint
from wsadapter.loop.reactor import Reactor
from wsadapter.process.deposits import MARK_EVERY, Deposit, DepositBox, KeeperLine, Kept
from wsadapter.process.owner_process import OwnerProcess
from wsadapter.takeover.keeping import MarkBody, latest

pytestmark = pytest.mark.native


def test_it_gives_up_when_a_supervisor_is_killed_too_often_within_the_period() -> None:
    deaths = [float(at) for at in range(MOST_DEATHS)]
    assert not too_many(deaths, deaths[-1])
    deaths.append(PERIOD - 1)
    assert too_many(deaths, deaths[-1])
    deaths.append(PERIOD + 1.5)
    assert not too_many(deaths, PERIOD + 1.5)


def test_deaths_that_are_long_ago_are_forgotten() -> None:
    deaths = [0.0, 1.0, PERIOD + 0.5]
    too_many(deaths, PERIOD + 0.5)
    assert deaths == [1.0, PERIOD + 0.5]


# -- deposits --------------------------------------------------------------------------------------------------------------


class FakeProcess:
    """As much of an `OwnerProcess` as is deposited."""

    def __init__(self, pid: int, *, lifeline: bool = True, rejoin: bool = True) -> None:
        pipes = [os.pipe() for _ in range(4)]
        self.fds = [fd for pipe in pipes for fd in pipe]
        self.pid = pid
        ends = [pipe[0] for pipe in pipes]
        records = SimpleNamespace(snapshot=lambda: SimpleNamespace(unfinished=b"half a rec"))
        self.data = SimpleNamespace(fileno=lambda: ends[0], records=records)
        self.log = SimpleNamespace(fileno=lambda: ends[1])
        self.sock = socket.socket() if rejoin else None
        self.control = SimpleNamespace(rejoin=self.sock)
        self.exit = SimpleNamespace(pidfd=ends[2], lifeline=ends[3] if lifeline else None)

    def close(self) -> None:
        for fd in self.fds:
            os.close(fd)
        if self.sock is not None:
            self.sock.close()


class Ends:
    """A keeper, the supervisor's line to it, and fake processes."""

    def __init__(self) -> None:
        self.reactor = Reactor()
        ours, self.sock = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.sock.setblocking(False)
        self.marked: list[Kept] = []
        self.line = KeeperLine(self.reactor, ours, self.marked.append)
        self.box = DepositBox()
        self._processes: list[FakeProcess] = []

    def process(self, pid: int, **more: bool) -> OwnerProcess:
        self._processes.append(FakeProcess(pid, **more))
        return cast("OwnerProcess", self._processes[-1])

    def read(self) -> bool:
        """Everything that came; false: the supervisor is gone."""
        try:
            while self.box.receive(self.sock):
                pass
        except BlockingIOError:
            return True
        return False

    def close(self) -> None:
        self.line.close()
        self.box.close()
        self.sock.close()
        self.reactor.close()
        for process in self._processes:
            process.close()


@pytest.fixture
def ends() -> Iterator[Ends]:
    made = Ends()
    yield made
    made.close()


@pytest.mark.parametrize("lifeline", [True, False])
def test_the_keeper_has_all_of_a_process_until_the_process_is_gone(ends: Ends, lifeline: bool) -> None:
    kept = ends.line.deposit(ends.process(7, lifeline=lifeline), Endpoint("a", buffer=Buffer(max_bytes=1234)))
    assert kept is not None
    assert ends.read()
    [(deposit, fds)] = ends.box.held.values()
    assert deposit == Deposit(pid=7, name="a", buffer=1234, lifeline=lifeline)
    assert len(fds) == 6 + lifeline
    assert os.pread(fds[4], 100, 0) == b"half a rec"
    kept.close()
    kept.close()
    assert ends.read()
    assert not ends.box.held
    for fd in fds:
        with pytest.raises(OSError, match="Bad file"):
            os.fstat(fd)


def test_a_deposit_replaces_one_of_a_process_that_had_the_same_pid(ends: Ends) -> None:
    first = ends.line.deposit(ends.process(7), Endpoint("a"))
    second = ends.line.deposit(ends.process(7), Endpoint("b"))
    ends.read()
    assert [deposit.name for deposit, _ in ends.box.held.values()] == ["b"]
    for kept in (first, second):
        assert kept is not None
        kept.close()


def test_what_a_supervisor_sent_before_it_died_is_read_and_then_its_end(ends: Ends) -> None:
    kept = ends.line.deposit(ends.process(7), Endpoint("a"))
    assert kept is not None
    ends.line.close()
    assert not ends.read()
    assert list(ends.box.held) == [7]
    kept.close()


def test_a_deposit_whose_descriptors_did_not_all_arrive_is_none(ends: Ends) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        socket.send_fds(ours, [msgspec.json.encode(Deposit(pid=7, name="a"))], [0, 1])
        assert ends.box.receive(theirs)
    assert not ends.box.held


@pytest.mark.parametrize("why", ["replicas", "no rejoin socket", "keeper gone", "keeper stopped"])
def test_a_process_that_cannot_outlive_its_supervisor_is_not_deposited(
    ends: Ends, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    endpoint = Endpoint("a", replicas=2 if why == "replicas" else 1)
    process = ends.process(7, rejoin=why != "no rejoin socket")
    if why == "keeper gone":
        ends.line.watch()
        ends.sock.close()
        assert ends.reactor.run_until(lambda: "the keeper has died" in caplog.text, DEADLINE)
    kept: list[Kept] = []
    if why == "keeper stopped":
        for pid in count(8):
            more = ends.line.deposit(ends.process(pid), endpoint)
            if more is None:
                break
            kept.append(more)
        assert "the keeper takes nothing" in caplog.text
        for each in kept:
            each.close()
    else:
        assert ends.line.deposit(process, endpoint) is None


def test_a_log_that_the_journal_does_not_confirm_is_given_up_beyond_a_bound(
    ends: Ends, caplog: pytest.LogCaptureFixture
) -> None:
    kept = ends.line.deposit(ends.process(7), Endpoint("a", buffer=Buffer(max_bytes=1 << 20)))
    assert kept is not None
    assert kept.mark()
    assert ends.marked == [kept]
    kept.postpone()
    assert kept.due == kept.log.end + MARK_EVERY
    kept.log.put(bytes(2 << 20))
    assert kept.mark()
    kept.log.put(bytes(16 << 20))
    assert not kept.mark()
    assert not kept.mark()
    assert "the journal does not keep up" in caplog.text
    ends.read()
    assert not ends.box.held


# -- marks -----------------------------------------------------------------------------------------------------------------


def body(name: str, epoch: int) -> MarkBody:
    owner = SimpleNamespace(epoch=SimpleNamespace(number=epoch))
    endpoint: Any = SimpleNamespace(endpoint={"name": name}, links=[SimpleNamespace(owner=owner)])
    return MarkBody(position=0, endpoint=endpoint, group=None, configured="")


def test_of_two_owners_of_one_endpoint_the_later_one_goes_on() -> None:
    marks = [(1, body("a", 4)), (2, body("b", 1)), (3, body("a", 5)), (4, body("a", 3))]
    assert {name: pid for name, (pid, _) in latest(marks).items()} == {"a": 3, "b": 2}
