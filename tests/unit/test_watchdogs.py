"""What is looked at while an owner serves."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from wsadapter.contract.endpoint import Endpoint, Watchdog
from wsadapter.endpoint.watchdogs import Watchdogs, expiry
from wsadapter.loop.reactor import Reactor


class Watched:
    endpoint = Endpoint("a", url="ws://h/")

    def __init__(self) -> None:
        self.replaced: list[str] = []

    def too_large(self, resident: int) -> None:
        raise AssertionError(resident)

    def replace_connection(self, why: str) -> None:
        self.replaced.append(why)


@pytest.fixture
def watched() -> Iterator[tuple[Watched, Watchdogs, Reactor]]:
    watched, reactor = Watched(), Reactor()
    yield watched, Watchdogs(watched, reactor), reactor
    reactor.close()


def test_a_connection_without_max_age_never_expires() -> None:
    assert expiry(Watchdog(), 100.0) is None


def test_connections_of_one_age_expire_within_the_window_and_never_at_once() -> None:
    times = [expiry(Watchdog(max_age=50.0, rollover_window=20.0), 100.0) for _ in range(50)]
    assert all(at is not None and 130.0 <= at <= 150.0 for at in times)
    assert len(set(times)) > 1
    assert expiry(Watchdog(max_age=0.1, rollover_window=0.1), 100.0) == 101.0


def test_a_connection_that_is_too_old_is_replaced(watched: tuple[Watched, Watchdogs, Reactor]) -> None:
    link, watchdogs, reactor = watched
    watchdogs.await_max_age(0.0)  # long ago, with an owner before this one
    assert reactor.run_until(lambda: bool(link.replaced), 5.0)
    assert link.replaced == ["max_age"]


def test_nothing_is_watched_after_the_owner_has_ended(watched: tuple[Watched, Watchdogs, Reactor]) -> None:
    link, watchdogs, reactor = watched
    watchdogs.await_max_age(0.0)
    watchdogs.end()
    passed: list[None] = []
    reactor.call_later(0.01, lambda: passed.append(None))
    assert reactor.run_until(lambda: bool(passed), 5.0)
    assert link.replaced == []
