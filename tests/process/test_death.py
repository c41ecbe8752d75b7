"""Owners that die, in every way a process can. Rows 1 to 9 of the fault table."""

from __future__ import annotations

import gc
import os
import signal
import time
import weakref
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing import resource_tracker
from pathlib import Path

import psutil
import pytest

from tests.support.feeds import (
    BIG,
    DEADLINE,
    HOOK,
    SOON,
    all_of,
    assert_resumes_from_the_start,
    beside_a_busy_one,
    collect,
    collect_for,
    events_of,
    half_written,
    is_event,
    is_message,
    messages_of,
    numbered,
    pid_of,
    process_of,
    steady,
    supervise,
    to_the_end,
)
from tests.support.trees import lives
from tests.support.waiting import wait_until
from wsadapter import AllFatal, Supervisor, capabilities
from wsadapter.contract.items import Down, Gap, Item, Message, Restored, Up
from wsadapter.testing import Exchange

AT_ONCE = 1_000_000_000
"""Nanoseconds in which a death is seen, on a machine that does other things too."""


@contextmanager
def obedient_and_busy(start_method: str, items: list[Item], **settings: object) -> Iterator[tuple[Exchange, Supervisor]]:
    """An endpoint that does what its exchange tells it, up, beside one that must not be harmed by it."""
    with Exchange(loop=False) as ex:
        endpoint = ex.endpoint("victim", decode=HOOK, **{"restart": SOON, **settings})
        with beside_a_busy_one(items, endpoint, start_method=start_method) as feed:
            items += collect(feed, all_of(is_event(Restored, "victim"), is_message("busy")))
            yield ex, feed


def test_row_01_killing_an_idle_owner_is_seen_at_once(start_method: str) -> None:
    items: list[Item] = []
    with obedient_and_busy(start_method, items) as (_, feed):
        killed_at = time.time_ns()
        os.kill(pid_of(feed, "victim"), signal.SIGKILL)
        items += collect(feed, all_of(is_event(Restored, "victim", 2), is_message("busy")))
        assert feed.status()["endpoints"]["victim"]["restarts"] == 1
    down = events_of(items, "victim", Down)[0]
    assert (down.reason.kind, down.reason.signal) == ("crashed", "SIGKILL")
    assert down.at - killed_at < AT_ONCE
    assert [type(event) for event in events_of(items, "victim")] == [Up, Restored, Down, Up, Gap, Restored, Down]


def test_row_02_a_record_half_written_at_a_kill_is_dropped_and_counted(start_method: str) -> None:
    items: list[Item] = []
    with half_written(items, start_method=start_method) as feed:
        os.kill(pid_of(feed, "victim"), signal.SIGKILL)
        items += collect(feed, lambda item: isinstance(item, Message) and item.epoch == 2 and item.data == b"last")
        assert feed.status()["endpoints"]["victim"]["torn"] == 1
    delivered = [(m.epoch, len(m.data)) for m in messages_of(items, "victim")]
    assert delivered == [(1, 6000), (2, 6000), (2, len(BIG)), (2, 4)]


def test_row_03_a_record_half_written_at_a_sigterm_is_finished(start_method: str) -> None:
    items: list[Item] = []
    with half_written(items, start_method=start_method) as feed:
        os.kill(pid_of(feed, "victim"), signal.SIGTERM)
        items += collect(feed, is_event(Up, "victim", 2))
        assert feed.status()["endpoints"]["victim"]["torn"] == 0
    assert {len(message.data) for message in messages_of(items, "victim")} <= {6000, len(BIG), 4}
    assert [len(message.data) for message in messages_of(items, "victim") if message.epoch == 1][:2] == [6000, len(BIG)]


def test_row_03_sigterm_at_any_moment_of_a_fast_stream_corrupts_nothing(start_method: str) -> None:
    items: list[Item] = []
    with (
        Exchange(messages=numbered, rate=20_000) as ex,
        to_the_end(items, ex.endpoint("fast", restart=SOON), start_method=start_method) as feed,
    ):
        for epoch in range(1, 6):
            items += collect(feed, is_message("fast", epoch))
            os.kill(pid_of(feed, "fast"), signal.SIGTERM)
            items += collect(feed, is_event(Down, "fast", epoch))
        assert feed.status()["endpoints"]["fast"]["torn"] == 0
    assert_resumes_from_the_start(items, "fast")
    assert [down.reason.signal for down in events_of(items, "fast", Down)][:5] == ["SIGTERM"] * 5


@pytest.mark.parametrize(
    ("command", "name"), [("!segfault", "SIGSEGV"), ("!abort", "SIGABRT"), ("!bus_error", "SIGBUS")], ids=lambda value: value
)
def test_row_04_a_crash_in_user_code_is_told_with_its_signal(command: str, name: str, start_method: str) -> None:
    items: list[Item] = []
    with obedient_and_busy(start_method, items) as (ex, feed):
        ex.send(command)
        items += collect(feed, is_event(Up, "victim", 2))
    reason = events_of(items, "victim", Down)[0].reason
    assert (reason.kind, reason.signal, reason.exit_code) == ("crashed", name, None)


@pytest.mark.parametrize("code", [0, 1])
@pytest.mark.parametrize("restart_type", ["permanent", "transient", "temporary"])
def test_rows_05_06_an_exit_is_followed_by_a_restart_as_the_type_says(restart_type: str, code: int, start_method: str) -> None:
    items: list[Item] = []
    restarts = restart_type == "permanent" or (restart_type == "transient" and code != 0)
    with obedient_and_busy(start_method, items, restart={**SOON, "type": restart_type}) as (ex, feed):
        ex.send(f"!exit {code}")
        items += collect(feed, is_event(Up, "victim", 2) if restarts else is_event(Down, "victim"))
        status = feed.status()["endpoints"]["victim"]
        assert (status["state"], status["epoch"]) == (("up", 2) if restarts else ("stopped", 1))
        assert ex.accepted == (2 if restarts else 1)
    reason = events_of(items, "victim", Down)[0].reason
    assert (reason.kind, reason.exit_code) == ("crashed" if code else "exited", code)


def test_row_08_a_grandchild_that_keeps_the_pipes_open_hides_no_death(start_method: str, tmp_path: Path) -> None:
    items: list[Item] = []
    with ExitStack() as stack, obedient_and_busy(start_method, items) as (ex, feed):
        told = tmp_path / "grandchild"
        ex.send(f"!fork {told}")
        wait_until(told.exists, DEADLINE, "no grandchild")
        grandchild = psutil.Process(int(told.read_text("utf-8")))
        stack.callback(grandchild.kill)
        killed_at = time.time_ns()
        os.kill(pid_of(feed, "victim"), signal.SIGKILL)
        items += collect(feed, is_event(Up, "victim", 2))
        assert grandchild.is_running()
        assert events_of(items, "victim", Down)[0].at - killed_at < AT_ONCE
        assert events_of(items, "victim", Down)[0].reason.signal == "SIGKILL"


@pytest.mark.smoke
@pytest.mark.parametrize("kind", ["garbage", "checksum", "length"])
def test_row_09_an_owner_that_writes_nonsense_is_killed_and_replaced(kind: str, start_method: str) -> None:
    items: list[Item] = []
    with obedient_and_busy(start_method, items) as (ex, feed):
        victim = psutil.Process(pid_of(feed, "victim"))
        ex.send(f"!garble {kind}")
        items += collect(feed, is_event(Up, "victim", 2))
        wait_until(lambda: not lives(victim), DEADLINE, "it lives on")
    assert events_of(items, "victim", Down)[0].reason.kind == "corrupt"


def test_each_owner_in_turn_is_killed_while_the_others_stream(start_method: str) -> None:
    names = ["a", "b", "c", "d"]
    items: list[Item] = []
    with steady(tls=True) as ex:
        endpoints = [ex.endpoint(name, restart=SOON, subscribe=[f"stream {name}"]) for name in names]
        with to_the_end(items, *endpoints, start_method=start_method) as feed:
            items += collect(feed, all_of(*(is_message(name) for name in names)))
            for name in names:
                os.kill(pid_of(feed, name), signal.SIGKILL)
                items += collect(feed, is_message(name, 2))
            items += collect(feed, all_of(*(is_message(name, 2) for name in names)))
    for name in names:
        assert_resumes_from_the_start(items, name)
        assert [down.epoch for down in events_of(items, name, Down)] == [1, 2]
        assert [frame.payload for frame in ex.received].count(f"stream {name}".encode()) == 2


@pytest.mark.parametrize("end", ["drop", "reset", "close"])
def test_the_peer_ends_one_connection_and_only_that_is_replaced_and_resubscribed(end: str, start_method: str) -> None:
    items: list[Item] = []
    with steady() as ex:
        endpoint = ex.endpoint("victim", restart=SOON, subscribe=["trades", "book"])
        with beside_a_busy_one(items, endpoint, start_method=start_method) as feed:
            items += collect(feed, all_of(is_message("victim"), is_message("busy")))
            ex.wait_received(lambda frame: frame.payload == b"book")
            {"drop": ex.drop, "reset": ex.reset, "close": ex.close}[end]()
            items += collect(feed, is_message("victim", 2))
    assert_resumes_from_the_start(items, "victim")
    reason = events_of(items, "victim", Down)[0].reason
    assert (reason.kind, reason.code) == ("closed_by_peer", 1000 if end == "close" else 1006)
    subscribed = [(frame.connection, frame.payload) for frame in ex.received if frame.opcode == 1]
    assert subscribed == [(1, b"trades"), (1, b"book"), (2, b"trades"), (2, b"book")]


def test_a_lone_temporary_endpoint_that_ends_ends_the_stream(start_method: str) -> None:
    with (
        Exchange() as ex,
        supervise(ex.endpoint("once", decode=HOOK, restart={"type": "temporary"}), start_method=start_method) as feed,
    ):
        collect(feed, is_event(Up, "once"))
        ex.send("!exit 0")
        with pytest.raises(AllFatal, match="once"):
            collect(feed, lambda _: False)


@pytest.mark.native
@pytest.mark.skipif(not capabilities.forkserver(), reason="there is no fork server here")
def test_row_39_killing_the_fork_server_harms_no_owner_and_later_starts_get_a_new_one() -> None:
    items: list[Item] = []
    with obedient_and_busy("forkserver", items) as (_, feed):
        owners = [psutil.Process(pid_of(feed, name)) for name in ("victim", "busy")]
        assert feed.runtime.owners.launcher is not None
        os.kill(feed.runtime.owners.launcher._server.pid, signal.SIGKILL)  # type: ignore[attr-defined]
        items += collect_for(feed, 0.3)
        assert [pid_of(feed, name) for name in ("victim", "busy")] == [owner.pid for owner in owners]
        owners[0].kill()
        items += collect(feed, is_event(Up, "victim", 2))
        owners.append(psutil.Process(pid_of(feed, "victim")))
        kill_and_see_it_replaced(feed, "victim", 2, items)  # that was the spare, a child of the old fork server too
        kill_and_see_it_replaced(feed, "victim", 3, items)
    reasons = [down.reason for down in events_of(items, "victim", Down)]
    assert [reason.kind for reason in reasons] == ["crashed", "crashed", "crashed", "stopped"]
    assert [reason.text for reason in reasons[:2]] == ["exit status unknown"] * 2
    assert reasons[2].signal == "SIGKILL"
    wait_until(lambda: not any(lives(owner) for owner in owners), DEADLINE, "an owner lives on")


def test_row_07_a_kill_near_the_memory_limit_says_that_out_of_memory_is_likely(start_method: str) -> None:
    items: list[Item] = []
    limit = 256 << 20
    watchdog = {"progress": 10, "memory": limit}
    with obedient_and_busy(start_method, items, watchdog=watchdog) as (ex, feed):
        victim = psutil.Process(pid_of(feed, "victim"))
        os.kill(victim.pid, signal.SIGKILL)
        items += collect(feed, is_event(Up, "victim", 2))
        victim = psutil.Process(pid_of(feed, "victim"))
        ex.send(f"!leak {(int(0.9 * limit) - victim.memory_info().rss) >> 20}")
        child = process_of(feed, "victim")
        wait_until(lambda: child.exit.memory.resident > 0.85 * limit, 2 * DEADLINE, "the watchdog did not look")
        os.kill(victim.pid, signal.SIGKILL)
        items += collect(feed, is_event(Up, "victim", 3))
    small, large, *_ = events_of(items, "victim", Down)
    assert (small.reason.signal, large.reason.signal) == ("SIGKILL", "SIGKILL")
    assert "memory" not in small.reason.text
    assert "out of memory is likely" in large.reason.text


@pytest.mark.filterwarnings("ignore:resource_tracker")  # multiprocessing says that it starts another
def test_row_40_killing_the_resource_tracker_has_no_effect(start_method: str) -> None:
    items: list[Item] = []
    with obedient_and_busy(start_method, items) as (_, feed):
        tracker = resource_tracker._resource_tracker._pid  # type: ignore[attr-defined]
        os.kill(tracker, signal.SIGKILL)
        kill_and_see_it_replaced(feed, "victim", 1, items)
        kill_and_see_it_replaced(feed, "victim", 2, items)  # the spare of the first was started after the kill
    resource_tracker.ensure_running()


def kill_and_see_it_replaced(feed: Supervisor, name: str, epoch: int, items: list[Item]) -> None:
    os.kill(pid_of(feed, name), signal.SIGKILL)
    items += collect(feed, is_event(Up, name, epoch + 1))


@pytest.mark.smoke
def test_what_a_dead_owner_left_behind_is_freed_at_once() -> None:
    """What the parent keeps of an unfinished message is large: the garbage collector may come much later."""
    items: list[Item] = []
    with Exchange() as ex, to_the_end(items, ex.endpoint("a", restart=SOON), start_method="forkserver") as feed:
        items += collect(feed, is_event(Up, "a"))
        child = weakref.ref(process_of(feed, "a"))
        gc.disable()
        try:
            os.kill(pid_of(feed, "a"), signal.SIGKILL)
            items += collect(feed, is_event(Up, "a", 2))
            wait_until(lambda: child() is None, DEADLINE, "the owner that died is still referred to")
        finally:
            gc.enable()


@pytest.mark.native
def test_what_a_dead_tls_holder_left_behind_is_freed_at_once() -> None:
    items: list[Item] = []
    with (
        Exchange(tls=True) as ex,
        to_the_end(items, ex.endpoint("a", restart=SOON, tls={"holder": True}), start_method="forkserver") as feed,
    ):
        items += collect(feed, is_event(Up, "a"))
        (holder,) = feed.runtime.registry.endpoints["a"].link.connection.dialer._holders
        left = [weakref.ref(holder), weakref.ref(holder.process)]
        pid = holder.pid
        del holder
        gc.disable()
        try:
            os.kill(pid, signal.SIGKILL)
            items += collect(feed, is_event(Up, "a", 2))
            wait_until(lambda: [each() for each in left] == [None, None], DEADLINE, "the holder that died is still referred to")
        finally:
            gc.enable()
