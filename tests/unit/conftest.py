"""Fixtures of several unit tests."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support.fakes import FakeHoldingSupervisor, FakeSupervisor
from tests.support.owner_ends import ServedOwner
from wsadapter.loop.reactor import Reactor


@pytest.fixture(scope="module")
def reactor() -> Iterator[Reactor]:
    """Not started. Of a module, because Hypothesis calls a test many times with one reactor."""
    reactor = Reactor()
    yield reactor
    reactor.close()


@pytest.fixture
def supervisor() -> Iterator[FakeSupervisor]:
    supervisor = FakeSupervisor()
    yield supervisor
    supervisor.reactor.close()


@pytest.fixture
def holding_supervisor() -> Iterator[FakeHoldingSupervisor]:
    """Its owners have one connection, which outlives them."""
    ours, peer = socket.socketpair()
    with ours, peer:
        supervisor = FakeHoldingSupervisor(ours)
        yield supervisor
    supervisor.reactor.close()


@pytest.fixture
def serve() -> Iterator[Callable[..., ServedOwner]]:
    """Makes owners with an open connection; all of them are closed at the end."""
    served: list[ServedOwner] = []

    def make(**settings: Any) -> ServedOwner:
        served.append(ServedOwner(**settings))
        return served[-1]

    yield make
    for owner in served:
        owner.close()
