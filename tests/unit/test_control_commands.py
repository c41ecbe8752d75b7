"""The status that is asked for each second is made a part at a time."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from wsadapter import Endpoint, Supervisor
from wsadapter.control_commands import ControlCommands
from wsadapter.status import Status


@pytest.fixture
def feed() -> Iterator[Supervisor]:
    """Many endpoints; nothing is started."""
    supervisor = Supervisor([Endpoint(f"e{n}", url="ws://127.0.0.1:9/") for n in range(40)])
    yield supervisor
    supervisor.stop()


def test_the_loop_does_other_work_between_the_parts(feed: Supervisor) -> None:
    runtime = feed.runtime
    watch = ControlCommands(runtime).by_name()["watch"]
    between: list[None] = []
    watched = runtime.reactor.call(lambda: watch({}))
    while not watched.done():
        runtime.reactor.post(lambda: between.append(None))
        assert runtime.reactor.try_turn()
    assert len(between) >= 2
    status: Status = watched.result()["status"]
    whole = runtime.status(memory=False)
    assert list(status["endpoints"]) == list(whole["endpoints"])
    assert status.keys() == whole.keys()


def test_an_endpoint_that_is_removed_between_two_parts_is_left_out(feed: Supervisor) -> None:
    runtime = feed.runtime
    watched = runtime.reactor.call(lambda: ControlCommands(runtime).by_name()["watch"]({}))
    assert not watched.done()
    feed.remove("e39")
    while not watched.done():
        runtime.reactor.try_turn()
    assert len(watched.result()["status"]["endpoints"]) == 39
