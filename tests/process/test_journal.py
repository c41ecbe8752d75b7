"""A supervisor with a journal: what it writes, what stays after a kill, and that its disk concerns nobody else."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.support.command_line import Running, wsadapter
from tests.support.feeds import DEADLINE, SOON, collect, is_message, messages_of, numbered, pid_of, steady
from tests.support.journals import items, numbers
from tests.support.waiting import wait_until
from wsadapter import (
    ConfigError,
    Down,
    Dropped,
    Gap,
    Item,
    Journal,
    JournalInUse,
    Message,
    NotAJournal,
    Started,
    Supervisor,
    SupervisorStopped,
    Up,
)  # fmt: skip
from wsadapter.journal import places
from wsadapter.journal import writer as writers
from wsadapter.testing import Exchange

PROGRAM = """
import sys
from wsadapter import Endpoint, Supervisor
path, *urls = sys.argv[1:]
endpoints = [Endpoint(f"e{n}", url=url, tls={"verify": False}) for n, url in enumerate(urls)]
with Supervisor(endpoints, name="journaled", journal=path) as feed:
    for item in feed:
        pass
"""


def sound(found: list[Item]) -> None:
    """For each endpoint: numbers without a hole that no `Dropped` reports, one `Down` for each epoch that was up, in order."""
    last: dict[str, int] = {}
    epochs: dict[str, int] = {}
    ups: dict[str, bool] = {}
    for item in found:
        if isinstance(item, Message):
            assert item.number == last.get(item.endpoint, 0) + 1, item
            assert item.epoch == epochs[item.endpoint]
            last[item.endpoint] = item.number
        elif isinstance(item, Dropped) and item.last is not None:
            assert item.first == last.get(item.endpoint, 0) + 1
            last[item.endpoint] = item.last
        elif isinstance(item, Up):
            assert not ups.get(item.endpoint)
            assert item.epoch > epochs.get(item.endpoint, 0)
            ups[item.endpoint], epochs[item.endpoint] = True, item.epoch
        elif isinstance(item, Down):
            ups[item.endpoint] = False


def journal_of(feed: Supervisor) -> Any:
    return feed.status()["journal"]


def test_the_journal_holds_what_the_iterator_gave(tmp_path: Path, start_method: str) -> None:
    with (
        steady() as plain,
        Exchange(messages=[f"m{n}" for n in range(3000)], tls=True) as other,
        Supervisor([plain.endpoint("a"), other.endpoint("b")], journal=tmp_path / "j", start_method=start_method) as feed,  # type: ignore[arg-type]
    ):
        got = collect(feed, lambda item: isinstance(item, Message) and item.endpoint == "b" and item.number == 3000)
    got += feed
    assert got == items(tmp_path / "j")
    assert isinstance(got[0], Started)
    sound(got)


def test_two_streams_of_one_supervisor_have_one_journal(tmp_path: Path) -> None:
    with steady() as ex, Supervisor([ex.endpoint("a"), ex.endpoint("b")], journal=tmp_path / "j") as feed:
        stream = feed.stream("b")
        b = stream.get(DEADLINE)
        got = collect(feed, lambda item: isinstance(item, Message) and item.number == 5)
    assert b.endpoint == "b"
    got += feed
    found = items(tmp_path / "j")
    assert [item for item in found if item.endpoint != "b"] == got
    assert [item for item in found if item.endpoint == "b"] == [b, *stream]


def test_with_journal_only_nothing_waits_for_a_consumer(tmp_path: Path) -> None:
    with steady() as ex, Supervisor([ex.endpoint("a")], journal=tmp_path / "j", journal_only=True) as feed:
        wait_until(lambda: feed.status()["endpoints"]["a"]["messages"] > 50, DEADLINE)
        assert feed.status()["endpoints"]["a"]["buffered"] == 0
        assert not feed.pending
    assert list(feed) == []
    assert len(numbers(items(tmp_path / "j"), "a")) > 50


def test_the_next_supervisor_continues_run_epochs_and_numbers(tmp_path: Path) -> None:
    for _ in range(2):
        with steady() as ex, Supervisor([ex.endpoint("a", restart=SOON)], journal=tmp_path / "j") as feed:
            collect(feed, lambda item: isinstance(item, Message))
    found = items(tmp_path / "j")
    sound(found)
    first, second = (item for item in found if isinstance(item, Started))
    assert first.run == second.run == feed.run
    ups = [item for item in found if isinstance(item, Up)]
    assert [up.epoch for up in ups] == [1, 2]
    assert not ups[1].resumed
    gap = found[found.index(ups[1]) + 1]
    assert isinstance(gap, Gap)
    assert gap.cause == "reconnected"
    assert gap.last_received_at == [item for item in found[: found.index(ups[1])] if isinstance(item, Message)][-1].received_at
    assert not [item for item in found if isinstance(item, Down) and item.reason.kind == "supervisor_gone"]


def test_an_endpoint_that_comes_back_later_continues_too(tmp_path: Path) -> None:
    with steady() as ex:
        with Supervisor([ex.endpoint("a")], journal=tmp_path / "j") as feed:
            collect(feed, is_message)
        with Supervisor([ex.endpoint("b")], journal=tmp_path / "j") as feed:
            collect(feed, is_message)
            feed.add(ex.endpoint("a"))
            collect(feed, lambda item: isinstance(item, Message) and item.endpoint == "a")
    sound(items(tmp_path / "j"))


@pytest.mark.parametrize("tls", [False, True], ids=["ws", "wss"])
def test_row_82_a_kill_of_the_supervisor_leaves_a_prefix_of_the_stream(tmp_path: Path, tls: bool) -> None:
    """Six kills at moments that nobody chose. Each time the journal has no hole, and the next supervisor continues."""
    with Exchange(messages=numbered, rate=20_000, tls=tls) as ex:
        urls = [ex.endpoint("e").url] * 2
        wanted = 100
        for turn in range(6):
            process = subprocess.Popen([sys.executable, "-c", PROGRAM, str(tmp_path / "j"), *map(str, urls)])
            try:
                wait_until(lambda wanted=wanted: _count(tmp_path / "j") > wanted, DEADLINE)
            finally:
                os.kill(process.pid, signal.SIGKILL)
                process.wait(DEADLINE)
            found = items(tmp_path / "j")
            wanted = len(found) + 100 * turn
            sound(found)
        wait_until(lambda: not ex.connections, DEADLINE)
    runs = {item.run for item in found if isinstance(item, Started)}
    assert len(runs) == 1
    opened = 0
    for name in ("e0", "e1"):
        mine = [item for item in found if item.endpoint == name]
        ups = [at for at, item in enumerate(mine) if isinstance(item, Up)]
        assert all(isinstance(mine[at + 1], Gap) for at in ups[1:])
        gone = [item for item in mine if isinstance(item, Down) and item.reason.kind == "supervisor_gone"]
        assert len(gone) in (len(ups) - 1, len(ups))  # of the last one only if the last supervisor was killed before its `Up`
        opened += len(ups)
    assert opened >= 5  # five of the six have written messages of at least one endpoint


def _count(path: Path) -> int:
    """Items so far; few of them are read for it."""
    try:
        return places.latest(path).seq - 1
    except (FileNotFoundError, sqlite3.Error):  # it is being made
        return 0


def test_two_supervisors_of_one_journal_exclude_each_other(tmp_path: Path) -> None:
    with steady() as ex, Supervisor([ex.endpoint("a")], journal=tmp_path / "j") as feed:
        collect(feed, is_message)
        other = Supervisor([ex.endpoint("a")], name="other", journal=tmp_path / "j")
        with pytest.raises(JournalInUse, match=f"pid {os.getpid()}"):
            other.start()
        collect(feed, is_message)
        other.stop()
    with steady() as ex, Supervisor([ex.endpoint("a")], name="other", journal=tmp_path / "j") as feed:
        collect(feed, is_message)


def test_a_path_that_is_no_journal_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with steady() as ex:
        feed = Supervisor([ex.endpoint("a")], name="n", journal=tmp_path)
        with pytest.raises(NotAJournal, match=r"notes\.txt"):
            feed.start()
        feed.stop()
        with pytest.raises(ConfigError, match=r"journal\.path"):
            Supervisor([ex.endpoint("a")], journal="")


# -- the disk --------------------------------------------------------------------------------------------------------------


class Disk:
    """A journal's disk that does as it is told."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.works = threading.Event()
        self.works.set()
        self.is_full = False
        self.error = "database or disk is full"
        self.waits = 0
        before = writers.WritableSegment.commit

        def commit(segment: Any, *given: Any) -> None:
            if not self.works.is_set():
                self.waits += 1
                self.works.wait(DEADLINE)
            if self.is_full:
                raise sqlite3.OperationalError(self.error)
            before(segment, *given)

        patch.setattr(writers.WritableSegment, "commit", commit)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    disk = Disk(monkeypatch)
    yield disk
    disk.works.set()


def test_row_80_a_disk_that_stalls_delays_no_handoff_and_loses_nothing_within_the_buffer(tmp_path: Path, disk: Disk) -> None:
    with steady() as ex, Supervisor([ex.endpoint("a", restart=SOON)], journal=tmp_path / "j") as feed:
        got = collect(feed, is_message)
        disk.works.clear()
        wait_until(lambda: bool(disk.waits), DEADLINE)
        for _ in range(3):
            wait_until(lambda: feed.status()["endpoints"]["a"]["state"] == "up", DEADLINE)
            os.kill(pid_of(feed, "a"), signal.SIGKILL)
            begun = time.monotonic()
            got += collect(feed, lambda item: isinstance(item, Up) and item.resumed)
            got += collect(feed, is_message)
            assert time.monotonic() - begun < DEADLINE
        stalled = journal_of(feed)
        assert stalled["lag"] > 0
        disk.works.set()
        wait_until(lambda: journal_of(feed)["lag"] == 0 or journal_of(feed)["end"] > stalled["end"], DEADLINE)
    got += feed
    found = items(tmp_path / "j")
    assert found == got
    assert not [item for item in found if isinstance(item, Dropped | Gap)]


@pytest.mark.parametrize("error", ["database or disk is full", "attempt to write a readonly database"])
def test_row_80_a_full_disk_and_one_that_cannot_be_written_are_accounted_exactly(
    tmp_path: Path, disk: Disk, error: str
) -> None:
    disk.error = error
    with (
        Exchange(messages=numbered, rate=5000) as ex,
        Supervisor([ex.endpoint("a", buffer={"max_bytes": 20_000})], journal=tmp_path / "j", journal_only=True) as feed,
    ):
        wait_until(lambda: journal_of(feed)["end"] > 100, DEADLINE)
        disk.is_full = True
        wait_until(lambda: journal_of(feed)["error"] == error, DEADLINE)
        wait_until(lambda: journal_of(feed)["dropped"] > 500, DEADLINE)
        assert journal_of(feed)["waiting"] <= 20_000 + 5000
        disk.is_full = False
        wait_until(lambda: journal_of(feed)["error"] is None, DEADLINE)
        end = journal_of(feed)["end"]
        wait_until(lambda: journal_of(feed)["end"] > end, DEADLINE)
        dropped = journal_of(feed)["dropped"]
    found = items(tmp_path / "j")
    sound(found)  # each number is there, or in a Dropped at its place
    losses = [item for item in found if isinstance(item, Dropped)]
    assert {loss.cause for loss in losses} == {"journal"}
    assert sum(loss.count for loss in losses) == dropped


def test_segments_that_are_too_old_are_removed_from_a_full_disk(tmp_path: Path, disk: Disk) -> None:
    settings = Journal(tmp_path / "j", retain=2.0, segment_bytes=64 * 1024)
    with (
        Exchange(messages=numbered, rate=5000) as ex,
        Supervisor([ex.endpoint("a", buffer={"max_bytes": 20_000})], journal=settings, journal_only=True) as feed,
    ):
        wait_until(lambda: journal_of(feed)["segments"] > 2, DEADLINE)
        disk.is_full = True
        wait_until(lambda: journal_of(feed)["segments"] == 1, DEADLINE, "nothing gave room")
        assert journal_of(feed)["error"] == "database or disk is full"
        disk.is_full = False
        wait_until(lambda: journal_of(feed)["error"] is None, DEADLINE)


def test_row_80_with_block_a_full_disk_stops_the_endpoint_and_loses_nothing(tmp_path: Path, disk: Disk) -> None:
    buffer = {"max_bytes": 20_000, "overflow": "block"}
    with (
        Exchange(messages=numbered, rate=5000) as ex,
        Supervisor([ex.endpoint("a", buffer=buffer)], journal=tmp_path / "j", journal_only=True) as feed,
    ):
        wait_until(lambda: journal_of(feed)["end"] > 100, DEADLINE)
        disk.is_full = True
        wait_until(lambda: journal_of(feed)["waiting"] > 20_000, DEADLINE)
        assert journal_of(feed)["waiting"] < 500_000
        disk.is_full = False
        end = journal_of(feed)["end"]
        wait_until(lambda: journal_of(feed)["end"] > end + 5000, DEADLINE)
    found = items(tmp_path / "j")
    sound(found)
    assert not [item for item in found if isinstance(item, Dropped | Gap)]


# -- the command line ------------------------------------------------------------------------------------------------------

NUMBERS = [f'{{"n":{n}}}' for n in range(500)]
CONFIG = """
[journal]
path = "{path}"

[endpoints.a]
url = "{url}"
"""


def configured(tmp_path: Path, exchange: Exchange, more: str = "") -> str:
    config = tmp_path / "feeds.toml"
    config.write_text(CONFIG.format(path=tmp_path / "j", url=exchange.endpoint("a").url) + more)
    return str(config)


def test_a_runner_with_a_journal_and_no_output_prints_nothing_and_writes_all(tmp_path: Path) -> None:
    with Exchange(messages=NUMBERS) as ex, Running(tmp_path, configured(tmp_path, ex)) as runner:
        wait_until(lambda: _count(tmp_path / "j") > 500, DEADLINE)
        status = orjson.loads(wsadapter(tmp_path, "status", "--json").stdout)
        runner.process.send_signal(signal.SIGTERM)
        assert runner.wait() == 0
    assert status["journal"]["end"] >= 500
    assert runner.output == []
    found = items(tmp_path / "j")
    sound(found)
    assert numbers(found, "a") == list(range(1, 501))


def test_replay_prints_the_lines_of_the_output(tmp_path: Path) -> None:
    more = "\n[output]\nkind = 'jsonl'\n"
    with Exchange(messages=NUMBERS) as ex, Running(tmp_path, configured(tmp_path, ex, more)) as runner:
        wait_until(lambda: len(runner.output) > 501, DEADLINE)
        runner.process.send_signal(signal.SIGTERM)
        assert runner.wait() == 0
    replayed = wsadapter(tmp_path, "replay", str(tmp_path / "j"))
    assert replayed.returncode == 0
    assert [orjson.loads(line) for line in replayed.stdout.splitlines()] == runner.output


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["PATH/nothing"], 1, "not a journal: there is nothing at this path"),
        (["PATH/j", "--rate", "fast"], 2, "'fast' is no rate"),
        (["PATH/j", "--from", "soon"], 2, "'soon' is no time"),
    ],
)
def test_replay_refuses_what_makes_no_sense(tmp_path: Path, words: list[str], code: int, text: str) -> None:
    ended = wsadapter(tmp_path, "replay", *(word.replace("PATH", str(tmp_path)) for word in words))
    assert (ended.returncode, ended.stdout) == (code, "")
    assert text in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--endpoint", "zorblax"], "no endpoint named 'zorblax'; known: abc, b#1"),
        (["--endpoint", "abd"], "did you mean 'abc'?"),
        (["--from", "2099-01-01"], "the items of this journal are of 1970-01-01T00:00:01+00:00 to 1970-01-01"),
        (["--from", "1e300"], "nothing is printed"),
        (["--to", "1969-01-01"], "nothing is printed"),
        (["--stream", "zorblax"], "nothing is printed"),
    ],
)
def test_replay_that_finds_nothing_says_why(tmp_path: Path, words: list[str], text: str) -> None:
    from tests.support.journals import add, batch, writing

    with writing(tmp_path / "j") as writer:
        add(writer, *(batch(name, [b"1"], 1, at=1_000_000_000, streams=["t"]) for name in ("abc", "b#1")))
    ended = wsadapter(tmp_path, "replay", str(tmp_path / "j"), *words)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert text in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert len(wsadapter(tmp_path, "replay", str(tmp_path / "j"), "--endpoint", "b").stdout.splitlines()) == 1


def test_replay_prints_what_is_in_front_of_damage_and_then_the_error(tmp_path: Path) -> None:
    from tests.support.journals import execute, fill

    segments = fill(tmp_path / "j", 100)
    execute(segments[-1], "UPDATE records SET crc = 0")
    replayed = wsadapter(tmp_path, "replay", str(tmp_path / "j"))
    assert replayed.returncode == 1
    last = orjson.loads(replayed.stdout.splitlines()[-1])
    assert last["number"] > 150
    assert f"{segments[-1].path}: the journal cannot be read from item {segments[-1].first} on" in replayed.stderr


def test_replay_keeps_the_time_between_items(tmp_path: Path) -> None:
    from tests.support.journals import add, batch, writing

    with writing(tmp_path / "j") as writer:
        add(writer, *(batch("a", [b"%d" % n], n, at=n * 200_000_000) for n in range(1, 4)))
    begun = time.monotonic()
    assert len(wsadapter(tmp_path, "replay", str(tmp_path / "j"), "--rate", "real").stdout.splitlines()) == 3
    assert time.monotonic() - begun >= 0.4


def test_a_journal_that_another_runner_writes_ends_the_start_with_one_line(tmp_path: Path) -> None:
    with Exchange(messages=["x"]) as ex:
        config = configured(tmp_path, ex)
        with Running(tmp_path, config) as runner:
            wait_until(lambda: _count(tmp_path / "j") > 1, DEADLINE)
            with Running(tmp_path, config, "--name", "second") as second:
                assert second.wait() == 4
            runner.process.send_signal(signal.SIGTERM)
            runner.wait()
    assert [line for line in second.log if f"another supervisor (pid {runner.process.pid}) writes this journal" in line]


def test_sqlite3_reads_the_views(tmp_path: Path) -> None:
    with steady() as ex, Supervisor([ex.endpoint("a")], journal=tmp_path / "j") as feed:
        got = collect(feed, lambda item: isinstance(item, Message) and item.number == 100)
    got += feed
    (segment,) = (tmp_path / "j").glob("segment-*.db")
    with closing(sqlite3.connect(segment)) as database:
        rows = database.execute("SELECT endpoint, number, received_at, data FROM messages ORDER BY seq").fetchall()
        events = database.execute("SELECT event FROM events ORDER BY seq").fetchall()
    assert rows == [(m.endpoint, m.number, m.received_at, m.text) for m in messages_of(got, "a")]
    assert [event for (event,) in events] == [item.kind for item in got if not isinstance(item, Message)]


def test_a_stopped_supervisor_with_a_journal_raises_as_before(tmp_path: Path) -> None:
    with steady() as ex, Supervisor([ex.endpoint("a")], journal=Journal(tmp_path / "j", retain="1h")) as feed:
        collect(feed, is_message)
    list(feed)
    with pytest.raises(SupervisorStopped):
        feed.get(0)


def test_a_takeover_continues_the_journal_without_a_hole(tmp_path: Path) -> None:
    with Exchange(messages=numbered, rate=2000) as ex:
        config = configured(tmp_path, ex)
        with Running(tmp_path, config) as old:
            wait_until(lambda: _count(tmp_path / "j") > 500, DEADLINE)
            with Running(tmp_path, config, "--takeover") as new:
                assert old.wait() == 0
                count = _count(tmp_path / "j")
                wait_until(lambda: _count(tmp_path / "j") > count + 500, DEADLINE)
                new.process.send_signal(signal.SIGTERM)
                assert new.wait() == 0
    found = items(tmp_path / "j")
    sound(found)
    assert len({item.run for item in found if isinstance(item, Started)}) == 1
    assert not [item for item in found if isinstance(item, Gap | Dropped)]
