"""Fixtures of several unit tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.fakes import FakeSupervisor
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
