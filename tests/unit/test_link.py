"""One connection over its owners, without processes: what goes from one owner to the next."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.support.fakes import RESUME, FakeProcess, FakeSupervisor, connected, die, up
from wsadapter.contract.reasons import Reason
from wsadapter.handoff.held_connection import HeldConnection, Resumption

CRASH = Reason(kind="crashed", signal="SIGKILL")


class Holding(FakeProcess):
    """An owner whose connection outlives it."""

    def __init__(self, ours: socket.socket) -> None:
        super().__init__()
        self.connection = SimpleNamespace(in_custody=True, holder=None, reading=None, resumption=self.resumption)
        self.handed: Any = None
        self._ours = ours

    def assign(self, assignment: Any, resumption: Any = None, holder: None = None) -> None:
        super().assign(assignment, None, holder)
        self.handed = resumption

    def resumption(self, up: dict[str, Any]) -> Resumption:
        resume = replace(RESUME, position=7, up=up)
        return Resumption(HeldConnection(self._ours.dup(), resume.custody), resume, b"", b"", 0, 0)


class FakeHoldingSupervisor(FakeSupervisor):
    def __init__(self, ours: socket.socket) -> None:
        super().__init__()
        self._ours = ours

    def new_process(self) -> Holding:
        return Holding(self._ours)

    def kill_owner(self) -> None:
        """The owner is killed; the next one has its place."""
        process = self.process
        die(process, CRASH)
        if process.handed is not None:
            process.handed.held.sock.close()

    @property
    def handed(self) -> Resumption:
        assert self.process.handed is not None
        return cast("Resumption", self.process.handed)


@pytest.fixture
def supervisor() -> Iterator[FakeHoldingSupervisor]:
    ours, peer = socket.socketpair()
    supervisor = FakeHoldingSupervisor(ours)
    with ours, peer:
        yield supervisor
    supervisor.reactor.close()


def test_an_owner_that_dies_before_it_reports_anything_hands_on_what_its_predecessor_was_handed(
    supervisor: FakeHoldingSupervisor,
) -> None:
    link = connected(supervisor)
    up(supervisor.process)
    for _ in range(3):
        supervisor.kill_owner()
        assert supervisor.handed.resume.up == {"headers": {}, "subprotocol": None, "peer": ""}
        assert (link.state, link.is_between_owners) == ("connecting", True)
    supervisor.handed.held.sock.close()
    link.stop()
