"""What a user sees of the objects at a prompt: their `repr`, and what tab completion lists."""

from __future__ import annotations

import inspect
import pydoc
import re
import rlcompleter
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

import wsadapter
import wsadapter.testing
from wsadapter import Answer, Batch, Down, Endpoint, LateAnswer, Message, Monitor, Pending, Pool, Reason, Stream, Supervisor, Up
from wsadapter.aio import AsyncSupervisor
from wsadapter.contract.public import Public
from wsadapter.pool import AsyncPool

pytestmark = pytest.mark.version

ROOT = Path(__file__).resolve().parents[2]
PAGES = (ROOT / "README.md").read_text("utf-8") + (ROOT / "ops/docs/GUIDE.md").read_text("utf-8")
URL = "ws://127.0.0.1:9/"
LONG = b"x" * 5_000_000
SECRET = "hunter2"


@pytest.fixture
def feed() -> Iterator[Supervisor]:
    supervisor = Supervisor([Endpoint("a", url=f"ws://me:{SECRET}@127.0.0.1:9/"), Endpoint("b", url=URL)], name="prices")
    yield supervisor
    supervisor.stop()


# -- repr ----------------------------------------------------------------------------------------------------------------


def test_a_supervisor_says_what_it_has(feed: Supervisor) -> None:
    assert repr(feed) == "<Supervisor 'prices': new, 2 endpoints, 0 up>"
    assert repr(feed.aio) == "<AsyncSupervisor of <Supervisor 'prices': new, 2 endpoints, 0 up>>"
    feed.stop()
    assert repr(feed) == "<Supervisor 'prices': stopped, 2 endpoints, 0 up>"
    assert repr(Supervisor([Endpoint("a", url=URL)])) == "<Supervisor: new, 1 endpoint, 0 up>"


def test_a_pool_says_how_many_are_up() -> None:
    pool = Pool(Endpoint("orders", url=URL), 3)
    assert repr(pool) == "<Pool 'orders': down, 0 of 3 up>"
    assert repr(pool.aio) == f"<AsyncPool of {pool!r}>"
    pool.stop()


def test_a_monitor_says_what_it_has_seen(feed: Supervisor) -> None:
    monitor = feed.monitor("a")
    assert repr(monitor) == "<Monitor of 'a', not returned yet: nothing>"
    monitor.notify(Up("a", 1, 0))
    monitor.notify(Down("a", 1, 0, Reason(kind="silence")))
    assert repr(monitor) == "<Monitor of 'a', not returned yet: up, down>"
    monitor.release()
    assert repr(monitor) == "<Monitor of 'a': released, not returned yet: nothing>"


def test_a_request_says_whether_it_has_ended(feed: Supervisor) -> None:
    pending = Pending(feed.runtime.reactor, "a")
    assert repr(pending) == "<Pending request '' to 'a': no answer yet>"
    pending.set_result(Answer("a", "1", b"{}", 1, 0, 0.5))
    assert repr(pending).endswith(": done>")


@pytest.mark.parametrize(
    "item",
    [
        Message("a", LONG, 1, 2, 3, "s"),
        Answer("a", "7", LONG, 1, 0, 0.5),
        LateAnswer("a", 1, 0, "7", LONG),
        Batch("a", [LONG, LONG], epoch=1, first_number=7, received_at=0),
        Reason(kind="handshake_rejected", body=LONG.decode(), text=LONG.decode()),
        Down("a", 1, 0, Reason(kind="handshake_rejected", body=LONG.decode())),
    ],
)
def test_long_data_are_shortened(item: Any) -> None:
    assert len(repr(item)) < 500
    assert "5000000" in repr(item)


def test_short_data_are_shown() -> None:
    assert repr(Batch("a", [b"x", b"y"], epoch=1, first_number=7, received_at=0)) == (
        "Batch('a', 2 messages from #7, epoch 1, b'x', ...)"
    )
    assert repr(Batch("a", [], epoch=1, first_number=7, received_at=0)) == "Batch('a', 0 messages from #7, epoch 1)"
    assert repr(Message("a", b"{}", 1, 2, 3)) == "Message('a' #2, epoch 1, b'{}')"
    assert repr(Answer("a", "7", b"{}", 1, 0, 0.5)) == "Answer('a' '7', epoch 1, 0.500 s, b'{}')"
    assert repr(Reason(kind="closed_by_peer", code=1006)) == "Reason(kind='closed_by_peer', code=1006)"


# -- names ---------------------------------------------------------------------------------------------------------------


def test_the_version_is_that_of_the_package() -> None:
    assert wsadapter.__version__ == version("wsadapter")
    assert "__version__" in dir(wsadapter)


def test_the_package_lists_its_public_names_alone() -> None:
    shown = {name for name in dir(wsadapter) if not name.startswith("__")}
    assert shown - {"config", "testing"} == set(wsadapter.__all__)
    fresh = "import wsadapter; print(*(n for n in dir(wsadapter) if n[:2] != '__' and n not in wsadapter.__all__))"
    assert subprocess.run([sys.executable, "-c", fresh], capture_output=True, text=True, check=True).stdout.strip() == ""
    assert {name for name in dir(wsadapter.testing) if not name.startswith("__")} == set(wsadapter.testing.__all__)


@pytest.mark.parametrize("kind", [Supervisor, AsyncSupervisor, Pool, AsyncPool, Monitor, Stream, Batch])
def test_what_is_listed_is_there_and_documented(kind: type[Public]) -> None:
    for name in kind.PUBLIC:
        assert not name.startswith("_")
        found = inspect.getattr_static(kind, name, None)
        if callable(found) or isinstance(found, property | classmethod):
            assert (getattr(kind, name).__doc__ or "").strip(), name


def test_what_is_listed_of_an_object_can_be_had(feed: Supervisor) -> None:
    pool = Pool(Endpoint("orders", url=URL), 2, supervisor=feed)
    batch = Batch("a", [b"x"], epoch=1, first_number=1, received_at=0)
    for thing in (feed, feed.aio, pool, pool.aio, feed.monitor("a"), feed.stream("b"), batch):
        shown = {name for name in dir(thing) if not name.startswith("__")}
        assert shown == set(type(thing).PUBLIC)
        for name in shown:
            getattr(thing, name)


def test_tab_completion_shows_no_internals(feed: Supervisor) -> None:
    complete = rlcompleter.Completer({"feed": feed})
    found: list[str] = []
    while (match := complete.complete("feed.", len(found))) is not None:
        found.append(match)
    assert {re.sub(r"\W*$", "", name).removeprefix("feed.") for name in found} == set(Supervisor.PUBLIC)
    assert "on_ended" not in pydoc.plain(pydoc.render_doc(Supervisor))


def test_what_the_readme_calls_is_listed() -> None:
    called = {name for name in re.findall(r"\bfeed\.(\w+)", PAGES) if name != "jsonl"}
    assert called
    assert called <= set(Supervisor.PUBLIC)
    assert {name for name in re.findall(r"\bpool\.(\w+)", PAGES) if name != "py"} <= set(Pool.PUBLIC)


def test_every_asynchronous_twin_of_a_listed_method_is_listed() -> None:
    own = {name for name in vars(AsyncSupervisor) if not name.startswith("_") and name != "PUBLIC"}
    assert own == set(AsyncSupervisor.PUBLIC)
    blocking = AsyncSupervisor.PUBLIC - {"wait_up", "wait_down"}
    assert blocking <= set(Supervisor.PUBLIC)
