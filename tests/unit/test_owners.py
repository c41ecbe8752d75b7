"""Where owners come from: spares, launchers that are replaced, and the pipes that all owners share."""

from __future__ import annotations

from typing import Any

import pytest

from wsadapter.contract.endpoint import Endpoint
from wsadapter.loop.reactor import Reactor
from wsadapter.process import owners
from wsadapter.process.owner_process import ProcessLimits
from wsadapter.process.owners import OwnerSource


class FakeLauncher:
    def __init__(self, start_method: str, *, rejoin: bool) -> None:
        self.start_method, self.rejoin = start_method, rejoin
        self.calls: list[Any] = []

    def abandon(self, successor: FakeLauncher) -> None:
        self.calls.append(("abandon", successor))

    def leave_owners(self) -> None:
        self.calls.append("leave_owners")

    def close(self) -> None:
        self.calls.append("close")


class FakeOwner:
    def __init__(self, _reactor: Reactor, listener: object, limits: ProcessLimits, **settings: Any) -> None:
        self.listener, self.limits, self.settings = listener, limits, settings

    def report_to(self, listener: object) -> None:
        self.listener = listener


@pytest.fixture(autouse=True)
def _fakes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(owners, "Launcher", FakeLauncher)
    monkeypatch.setattr(owners, "OwnerProcess", FakeOwner)


def source(reactor: Reactor, *, spares: int = 0, endpoints: int = 1, rejoin: bool = False) -> OwnerSource:
    made = OwnerSource(reactor, "spawn", spares, lambda: endpoints)
    made.keeper = (lambda _process, _endpoint: None) if rejoin else None
    made.open()
    return made


@pytest.mark.parametrize(("endpoints", "size"), [(0, 1 << 20), (1, 1 << 20), (32, 1 << 20), (64, 1 << 19), (4096, 8 << 10)])
def test_owners_share_32_mib_of_pipes_evenly_and_none_has_more_than_one(reactor: Reactor, endpoints: int, size: int) -> None:
    owner: Any = source(reactor, endpoints=endpoints).acquire("listener", Endpoint("a"))  # type: ignore[arg-type]
    assert owner.settings["pipe_bytes"] == size


def test_a_warm_spare_is_taken_before_a_new_process_is_started(reactor: Reactor) -> None:
    made = source(reactor, spares=1)
    made.spares.fill()
    [coming] = made.spares._starting
    made.spares.on_ready(coming)
    assert made.acquire("listener", Endpoint("a")) is coming  # type: ignore[arg-type]
    assert coming.listener == "listener"


def test_a_stuck_launcher_is_replaced_once_however_many_owners_give_it_up(reactor: Reactor) -> None:
    made = source(reactor, rejoin=True)
    first: Any = made.launcher
    one: Any = made.acquire("one", Endpoint("a"))  # type: ignore[arg-type]
    two: Any = made.acquire("two", Endpoint("b"))  # type: ignore[arg-type]
    one.settings["replace_launcher"](first)
    second: Any = made.launcher
    two.settings["replace_launcher"](first)
    assert made.launcher is second is not first
    assert first.calls == [("abandon", second)]
    assert second.start_method == "spawn"
    assert first.rejoin is second.rejoin is True


def test_owners_that_were_given_away_are_left_when_the_launcher_ends(reactor: Reactor) -> None:
    made = source(reactor)
    made.leave_owners()
    made.close()
    assert made.launcher.calls == ["leave_owners", "close"]  # type: ignore[union-attr]


def test_one_that_was_never_opened_has_nothing_to_close(reactor: Reactor) -> None:
    made = OwnerSource(reactor, "spawn", 1, lambda: 1)
    made.leave_owners()
    made.close()
    assert made.launcher is None
