"""The terminal view: its rows, and the view itself driven by textual's Pilot."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import DataTable, Static

from tests.support.fake_control import FakeControl
from tests.support.statuses import endpoint, reading, supervisor
from wsadapter.cli.top_app import Top
from wsadapter.cli.top_rows import COLUMNS, SORTS, chosen, details, journal_line, make_rows, small_history
from wsadapter.exporter.history import History
from wsadapter.exporter.processes import Usage
from wsadapter.exporter.reading import Reading

DOWN = endpoint(state="backoff", last_exit={"kind": "connect_failed", "text": "no such host \x1b[31m"}, pid=None, restarts=9)

LAG = {"messages": 1234, "bytes": 5678, "seconds": 2.5}
JOURNAL = {
    "path": "/j", "segments": 1, "bytes": 1, "end": 5000, "waiting": 4096, "lag": 0.02, "dropped": 0, "error": None,
    "consumers": {
        "reports": {"pid": None, "position": 3766, "lag": LAG},
        "fast": {"pid": 9, "position": 5000, "lag": {**LAG, "messages": 0}},
    },
}  # fmt: skip
SINKS = {
    "lake": {
        "kind": "parquet", "state": "backoff", "pid": None, "restarts": 3, "position": None, "lag": None, "last_exit": None,
    },
    "bus": {"kind": "nats", "state": "running", "pid": 8, "restarts": 0, "position": 1, "lag": LAG, "last_exit": None},
}  # fmt: skip


def rows_of(**endpoints: Any) -> list[Any]:
    return make_rows(reading(supervisor(endpoints)), None, History())


def test_a_row_has_a_cell_for_each_column() -> None:
    (row,) = rows_of(a=endpoint())
    assert len(row.cells) == len(COLUMNS)
    assert row.cells[:3] == ("a", "up", "10")
    assert "19.1MiB" in row.cells
    assert row.cells[-1] == "closed by peer, code 1006"


def test_what_a_peer_said_is_nothing_that_a_terminal_obeys() -> None:
    (row,) = rows_of(a=DOWN)
    assert "\x1b" not in "".join(row.cells) + str(details(row))


def test_the_small_history_is_relative_to_its_highest() -> None:
    assert small_history([None, 0.0, 5.0, 10.0]) == " ▁▅█"
    assert small_history([0.0, 0.0]) == "▁▁"
    assert small_history([]) == ""
    assert len(small_history([1.0] * 100)) == 20


def test_cpu_is_the_time_between_two_readings() -> None:
    status = supervisor({"a": endpoint()})
    before = Reading(1.0, status, 1.0, 1.0, 0.0, "", {4711: Usage(1, 10.0)})
    now = Reading(3.0, status, 3.0, 3.0, 0.0, "", {4711: Usage(1, 11.0)})
    assert make_rows(now, before, History())[0].cpu == 50.0
    assert make_rows(now, None, History())[0].cpu is None


def test_the_journal_its_consumers_and_the_sinks_are_one_line_and_a_part_of_each_endpoint() -> None:
    status = supervisor({"a": endpoint()}, journal=JOURNAL, sinks=SINKS)
    text = "journal: 20.0ms behind, 4.0KiB wait; consumers: 2, 1,234 items behind at most; sinks: 1 of 2 running"
    assert journal_line(status) == text
    (row,) = rows_of(a=endpoint())
    assert ("journal", text.removeprefix("journal: ")) in details(row, status)
    assert journal_line(supervisor({})) == ""
    assert not [label for label, _ in details(row, supervisor({})) if label == "journal"]
    broken = {**JOURNAL, "consumers": {}, "error": "no space\x1b[31m"}
    assert journal_line(supervisor({}, journal=broken)) == (
        "journal: 20.0ms behind, 4.0KiB wait, cannot be written: no space?[31m; consumers: 0"
    )


@pytest.mark.parametrize("by", SORTS)
def test_rows_can_be_sorted_by_each(by: str) -> None:
    rows = rows_of(b=endpoint(silence=9.0, buffered=9, gaps=9), a=DOWN, c=endpoint(silence=None, rate=99.0, byte_rate=None))
    names = [row.name for row in chosen(rows, "", by)]
    assert sorted(names) == ["a", "b", "c"]
    first = {"configuration": "b", "name": "a", "state": "a", "rate": "c", "silence": "b", "gaps": "b", "restarts": "a"}
    assert names[0] == first.get(by, names[0])


def test_all_words_of_a_filter_must_fit() -> None:
    rows = rows_of(binance=endpoint(), kraken=DOWN)
    assert [row.name for row in chosen(rows, "KRAK backoff", "name")] == ["kraken"]
    assert [row.name for row in chosen(rows, "no such", "name")] == ["kraken"]
    assert chosen(rows, "binance backoff", "name") == []


class Played:
    """A supervisor that a test plays: `a` has a gap more each second, `b` is down until it is restarted."""

    def __init__(self) -> None:
        self._seconds = count(1)
        self.is_restarted = False

    def __call__(self, request: dict[str, Any]) -> dict[str, Any]:
        if request["command"] == "restart":
            self.is_restarted = True
            return {"ok": True, "endpoint": "b", "epoch": 4, "pid": 1}
        if request["command"] == "log":
            return {"ok": True, "lines": ["INFO a/3 up", "WARNING [b]/1 down \\x1b[31m"]}
        second = next(self._seconds)
        a = endpoint(messages=100 * second, pid=None, counts={"gaps": {"sequence": second}})
        b = endpoint(pid=None) if self.is_restarted else {**DOWN, "last_exit": {"kind": "hung"}}
        return {"ok": True, "status": supervisor({"a": a, "b": b}, pid=4_999_999, journal=JOURNAL, sinks=SINKS)}


def driven(folder: Path, drive: Callable[[Pilot[None], Top, Played], Awaitable[None]]) -> None:
    """Run the view without a terminal."""
    played = Played()

    async def run() -> None:
        view = Top("feeds", str(folder))
        async with view.run_test(size=(140, 30)) as pilot:
            await until(pilot, lambda: view.query_one(DataTable).row_count == 2)
            await drive(pilot, view, played)

    with FakeControl(folder, "feeds", played):
        asyncio.run(run())


async def until(pilot: Pilot[None], done: Callable[[], object]) -> None:
    """Wait with a deadline."""
    async with asyncio.timeout(30):
        while not done():
            await pilot.pause(0.05)


def shown(view: Top) -> str:
    """The text on the top of the screen's stack."""
    return "\n".join(str(widget.render()) for widget in view.screen.query(Static))


def names(view: Top) -> list[str]:
    return [str(key.value) for key in view.query_one(DataTable).rows]


def test_the_table_follows_and_can_be_sorted_and_filtered(tmp_path: Path) -> None:
    async def drive(pilot: Pilot[None], view: Top, _played: Played) -> None:
        assert "1 of 2 endpoints up" in shown(view)
        for _ in range(2):  # by name, by state
            await pilot.press("s")
        await until(pilot, lambda: names(view) == ["b", "a"])
        await pilot.press("slash", *"hung")
        await until(pilot, lambda: names(view) == ["b"])
        await pilot.press("escape")
        await until(pilot, lambda: names(view) == ["b", "a"])

    driven(tmp_path / "run", drive)


@pytest.mark.slow
def test_enter_shows_one_endpoint_and_g_what_happened(tmp_path: Path) -> None:
    async def drive(pilot: Pilot[None], view: Top, _played: Played) -> None:
        await pilot.press("enter")
        await until(pilot, lambda: "3 wanted, 2 confirmed, 1 live" in shown(view))
        await pilot.press("escape")
        await until(pilot, lambda: view.screen.query("#endpoints"))
        await pilot.pause(2.5)  # two readings
        await pilot.press("g")
        await until(pilot, lambda: "a  gap  sequence" in shown(view))

    driven(tmp_path / "run", drive)


@pytest.mark.slow
def test_l_shows_the_log_and_c_who_reads_the_journal(tmp_path: Path) -> None:
    async def drive(pilot: Pilot[None], view: Top, _played: Played) -> None:
        assert "sinks: 1 of 2 running" in shown(view)
        await pilot.press("l")
        await until(pilot, lambda: "WARNING [b]/1 down \\x1b[31m\nINFO a/3 up" in shown(view))
        await pilot.press("escape")
        await until(pilot, lambda: view.screen.query("#endpoints"))
        await pilot.press("c")
        await until(pilot, lambda: "reports" in shown(view) and "parquet" in shown(view))

    driven(tmp_path / "run", drive)


@pytest.mark.slow
def test_r_restarts_after_a_question(tmp_path: Path) -> None:
    async def drive(pilot: Pilot[None], view: Top, played: Played) -> None:
        await pilot.press("down", "r")
        await until(pilot, lambda: "Restart b?" in shown(view))
        await pilot.press("n")
        await until(pilot, lambda: view.screen.query("#endpoints"))
        assert not played.is_restarted
        await pilot.press("r")
        await until(pilot, lambda: "Restart b?" in shown(view))
        await pilot.press("y")
        await until(pilot, lambda: "2 of 2 endpoints up" in shown(view))
        assert played.is_restarted

    driven(tmp_path / "run", drive)
