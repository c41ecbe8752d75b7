"""Other event loops in the user's program."""

from __future__ import annotations

import sys
from collections.abc import Collection
from types import SimpleNamespace

import pytest

from wsadapter import Endpoint, Supervisor
from wsadapter.contract.errors import UsageError
from wsadapter.loop.foreign_loops import patcher, running_loop


def gevent(patched: Collection[str]) -> SimpleNamespace:
    return SimpleNamespace(is_module_patched=lambda name: name in patched)


def eventlet(patched: Collection[str]) -> SimpleNamespace:
    return SimpleNamespace(is_monkey_patched=lambda name: name in patched)


@pytest.mark.parametrize(
    ("modules", "expected"),
    [
        ({}, ""),
        ({"gevent": object()}, ""),
        ({"gevent.monkey": gevent(())}, ""),
        ({"gevent.monkey": gevent({"ssl"})}, ""),
        ({"gevent.monkey": gevent({"socket", "threading"})}, "gevent (threading, socket)"),
        ({"eventlet.patcher": eventlet(())}, ""),
        ({"eventlet.patcher": eventlet({"thread"})}, "eventlet (thread)"),
        ({"gevent.monkey": gevent(()), "eventlet.patcher": eventlet({"select"})}, "eventlet (select)"),
    ],
)
def test_a_library_that_has_patched_a_used_module_is_named(modules: dict[str, object], expected: str) -> None:
    assert patcher(modules) == expected


def test_a_supervisor_in_a_patched_program_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gevent.monkey", gevent({"threading"}))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"patched by gevent \(threading\).*separate process"):
        Supervisor([Endpoint("a", url="ws://localhost/")])


def trio(*, runs: bool) -> SimpleNamespace:
    def current_task() -> object:
        if not runs:
            raise RuntimeError("must be called from async context")
        return object()

    return SimpleNamespace(lowlevel=SimpleNamespace(current_task=current_task))


def test_coroutines_under_trio_get_an_error_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "trio", trio(runs=True))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"trio\.to_thread\.run_sync"):
        running_loop()
    monkeypatch.setitem(sys.modules, "trio", trio(runs=False))  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="no running event loop"):
        running_loop()


def test_an_iteration_under_trio_gets_an_error_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    feed = Supervisor([Endpoint("a", url="ws://127.0.0.1:1/")])
    monkeypatch.setattr(feed._stream._consumption, "begin", lambda: None)
    monkeypatch.setitem(sys.modules, "trio", trio(runs=True))  # type: ignore[arg-type]
    waiting = feed.aio.get()
    with pytest.raises(UsageError, match="trio"):
        waiting.send(None)
    feed.stop()
