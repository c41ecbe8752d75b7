"""One connection over its owners, without processes: what goes from one owner to the next."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.support.fakes import RESUME, FakeChild, FakeOffice, connected, die, up
from wsadapter.contract.reasons import Reason
from wsadapter.handoff.held_connection import HeldConnection, Resumption

CRASH = Reason(kind="crashed", signal="SIGKILL")


class Holding(FakeChild):
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


class Office(FakeOffice):
    def __init__(self, ours: socket.socket) -> None:
        super().__init__()
        self._ours = ours

    def new_child(self) -> Holding:
        return Holding(self._ours)

    def kill_owner(self) -> None:
        """The owner is killed; the next one has its place."""
        child = self.child
        die(child, CRASH)
        if child.handed is not None:
            child.handed.held.sock.close()

    @property
    def handed(self) -> Resumption:
        assert self.child.handed is not None
        return cast("Resumption", self.child.handed)


@pytest.fixture
def office() -> Iterator[Office]:
    ours, peer = socket.socketpair()
    office = Office(ours)
    with ours, peer:
        yield office
    office.reactor.close()


def test_an_owner_that_dies_before_it_reports_anything_hands_on_what_its_predecessor_was_handed(office: Office) -> None:
    link = connected(office)
    up(office.child)
    for _ in range(3):
        office.kill_owner()
        assert office.handed.resume.up == {"headers": {}, "subprotocol": None, "peer": ""}
        assert (link.state, link.is_handed_on) == ("connecting", True)
    office.handed.held.sock.close()
    link.stop()
