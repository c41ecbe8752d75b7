"""Faults of the journal on disk and of its readers, with a real supervisor: power loss, removed files, retention, sleepers."""

from __future__ import annotations

import os
import random
import resource
import shutil
import signal
import struct
import subprocess
import sys
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.command_line import Running, wsadapter
from tests.support.feeds import DEADLINE, SOON, collect, is_message, numbered
from tests.support.journals import fill, items
from tests.support.waiting import wait_until
from wsadapter import (
    ConsumerInUse,
    Dropped,
    Gap,
    Journal,
    JournalError,
    Message,
    NewerJournal,
    NotAJournal,
    Supervisor,
    attach,
)
from wsadapter.journal import folder as folders
from wsadapter.journal import schema
from wsadapter.testing import Exchange

PROGRAM = """
import sys
from wsadapter import Endpoint, Journal, Supervisor
path, *urls = sys.argv[1:]
journal = Journal(path, segment_bytes="512KiB", retain_bytes=0)
with Supervisor([Endpoint(f"e{n}", url=url) for n, url in enumerate(urls)], journal=journal) as feed:
    for item in feed:
        pass
"""
_WAL_HEADER, _FRAME_HEADER, _BACKFILLED = 32, 24, 96


def snapshot(journal: Path, copy: Path, dice: random.Random) -> None:
    """What a disk has after a power failure: all files, but of the last WAL only what SQLite has had synced, and perhaps a part
    of the rest. The memory that SQLite shares (-shm) is gone."""
    shutil.copytree(journal, copy, ignore=shutil.ignore_patterns("*-shm"))
    wals = sorted(copy.glob("*-wal"))
    if not wals:
        return
    shared = (journal / wals[-1].name.replace("-wal", "-shm")).read_bytes()
    (backfilled,) = struct.unpack_from("=I", shared, _BACKFILLED)
    synced = _WAL_HEADER + backfilled * (_FRAME_HEADER + schema.PAGE)
    size = wals[-1].stat().st_size
    if size > synced:
        os.truncate(wals[-1], dice.randint(synced, size))


def test_row_88_after_a_power_failure_the_journal_opens_and_ends_at_a_commit(tmp_path: Path) -> None:
    """The supervisor is stopped at moments that nobody chose, and the files are copied: that is what a disk would have."""
    dice = random.Random(88)
    with Exchange(messages=numbered, rate=20_000) as ex:
        url = ex.endpoint("e").url
        process = subprocess.Popen([sys.executable, "-c", PROGRAM, str(tmp_path / "j"), str(url), str(url)])
        try:
            wait_until(lambda: len(list((tmp_path / "j").glob("segment-*.db"))) >= 2, DEADLINE)
            for number in range(12):
                before = sum(file.stat().st_size for file in (tmp_path / "j").glob("segment-*"))
                wait_until(
                    lambda before=before: sum(file.stat().st_size for file in (tmp_path / "j").glob("segment-*")) > before,
                    DEADLINE,
                )
                wait_until(lambda: dice.random() < 0.2, DEADLINE)
                process.send_signal(signal.SIGSTOP)
                snapshot(tmp_path / "j", tmp_path / f"copy-{number}", dice)
                process.send_signal(signal.SIGCONT)
        finally:
            process.kill()
            process.wait(DEADLINE)
        everything = items(tmp_path / "j")
        lengths = []
        for number in range(12):
            found = items(tmp_path / f"copy-{number}")
            assert found == everything[: len(found)]  # a prefix: nothing is missing within it, nothing is damaged
            lengths.append(len(found))
        assert min(lengths) > 0
        assert len(set(lengths)) > 1
        copy = tmp_path / "copy-11"
        with Supervisor([ex.endpoint("e0")], journal=copy) as feed:  # and the next supervisor goes on with it
            collect(feed, is_message)
        continued = items(copy)
        assert continued[: lengths[-1]] == everything[: lengths[-1]]
        of_one = [item.number for item in continued if isinstance(item, Message) and item.endpoint == "e0"]
        assert of_one == list(range(1, len(of_one) + 1))


def test_row_79_a_consumer_that_sleeps_costs_the_supervisor_no_memory_and_nobody_else_a_message(tmp_path: Path) -> None:
    config = tmp_path / "f.toml"
    with Exchange(messages=["x" * 1000], rate=10_000, loop=True) as ex:
        config.write_text(
            f'[journal]\npath = "j"\nsegment_bytes = "1MiB"\nretain_bytes = "4MiB"\n[endpoints.a]\nurl = "{ex.url}"\n'
        )
        with Running(tmp_path, str(config)) as feed:
            wait_until(lambda: (tmp_path / "j/journal.json").exists(), DEADLINE)
            asleep = attach(tmp_path / "j", "asleep", start="earliest")
            awake = attach(tmp_path / "j", "awake", start="earliest")
            with asleep, awake:
                asleep.get(DEADLINE)
                last = _numbers(awake, 10_000)
                before = psutil.Process(feed.process.pid).memory_info().rss
                last = _numbers(awake, 20_000, last)  # 20 MB, of which the journal keeps 4
                grown = psutil.Process(feed.process.pid).memory_info().rss - before
                assert grown < 8_000_000, "what a consumer does not read is on the disk alone"
                found: list[Any] = [asleep.get(DEADLINE)]
                while not isinstance(found[-1], Message) or found[-1].number < last:
                    found.append(asleep.get(DEADLINE))
            losses = [item for item in found if isinstance(item, Dropped)]
            assert {loss.cause for loss in losses} == {"retention"}
            _is_whole(found)
            assert feed.stop() == 0


def _numbers(feed: Any, count: int, last: int = 0) -> int:
    """Take so many messages, without a hole; the number of the last one."""
    for item in feed:
        if isinstance(item, Message):
            assert item.number == last + 1 or not last
            last, count = item.number, count - 1
            if not count:
                break
        else:
            assert not isinstance(item, Dropped | Gap)
    return last


def _is_whole(found: list[Any]) -> None:
    """Each number is there, or in a `Dropped` at its place."""
    spans = [
        (item.number, item.number) if isinstance(item, Message) else (item.first, item.last)
        for item in found
        if isinstance(item, Message) or (isinstance(item, Dropped) and item.last is not None)
    ]
    assert all(after[0] == before[1] + 1 for before, after in pairwise(spans))


def _firsts(journal: Path) -> set[int]:
    """The first places of the segments that are there."""
    return {segment.first for segment in folders.segments(journal)}


def test_row_89_a_reader_of_a_segment_that_the_retention_removes_reads_it_to_its_end(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j", segment_bytes="64KiB", retain_bytes="256KiB")
    with (
        Exchange(messages=numbered, rate=5_000) as ex,
        Supervisor([ex.endpoint("a", restart=SOON)], journal=journal, journal_only=True) as feed,
    ):
        wait_until(lambda: feed.state == "running" and len(_firsts(tmp_path / "j")) >= 3, DEADLINE)
        known = _firsts(tmp_path / "j")
        with attach(tmp_path / "j", "slow", start="earliest") as consumer:
            found: list[Any] = [consumer.get(DEADLINE)]
            while not isinstance(found[-1], Message):  # the beginning may be removed before it is opened
                found = [consumer.get(DEADLINE)]
            known |= _firsts(tmp_path / "j")  # the retention may have removed some meanwhile
            end = min(first for first in known if first > found[-1].number + 5)
            wait_until(lambda: min(_firsts(tmp_path / "j")) > end, DEADLINE)
            gone = min(_firsts(tmp_path / "j"))
            while not isinstance(found[-1], Message) or found[-1].number < gone:
                found.append(consumer.get(DEADLINE))
    _is_whole(found)
    losses = [item for item in found if isinstance(item, Dropped)]
    read = [item for item in found[: found.index(losses[0])] if isinstance(item, Message)]
    assert {loss.cause for loss in losses} == {"retention"}
    assert read[-1].number >= end - 5  # to its end; items of the stream that are no messages are few


def test_row_80_a_journal_that_is_removed_while_it_is_written_is_made_anew_and_the_consumer_loses_nothing(
    tmp_path: Path,
) -> None:
    with (
        Exchange(messages=numbered, rate=2_000) as ex,
        Supervisor([ex.endpoint("a", restart=SOON)], journal=tmp_path / "j") as feed,
    ):
        found = collect(feed, is_message)
        shutil.rmtree(tmp_path / "j")
        found += collect(feed, lambda _: any((tmp_path / "j").glob("segment-*.db")))
        made = feed.status()["journal"]["end"]
        found += collect(feed, lambda _: feed.status()["journal"]["end"] > made)
        found += collect(feed, is_message)
        assert feed.status()["endpoints"]["a"]["restarts"] == 0
    _is_whole(found)
    assert not [item for item in found if isinstance(item, Dropped | Gap)]
    _is_whole([item for item in items(tmp_path / "j") if isinstance(item, Message)])


LIMITED = """
[supervisor]
name = "limited"
[output]
kind = "none"
[journal]
path = "{path}"
keeper = {keeper}
[endpoints.a]
url = "{url}"
buffer = {{ max_bytes = 200_000 }}
"""


@pytest.mark.parametrize("keeper", [False, pytest.param(True, marks=pytest.mark.native)])
def test_row_80_files_that_may_not_grow_stop_no_connection_and_what_is_not_written_at_the_end_is_exit_code_5(
    tmp_path: Path, keeper: bool
) -> None:
    config = tmp_path / "f.toml"
    limit = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (1 << 20, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    with Exchange(messages=["x" * 200], rate=10_000, loop=True) as ex:
        config.write_text(LIMITED.format(path=tmp_path / "j", keeper=str(keeper).lower(), url=ex.url))
        with Running(tmp_path, str(config), preexec_fn=limit) as running:
            running.wait_for_log("disk I/O error (SQLITE_IOERR_WRITE); it is tried again every second")
            if keeper:
                running.wait_for_log("a: what is read cannot be kept for another supervisor ([Errno 27] File too large)")
            before = running.status()["a"]["messages"]
            running.wait_until(lambda: running.status()["a"]["messages"] > before, "the stream has stopped")
            assert running.status()["a"]["restarts"] == 0
            assert running.stop() == 5
    assert [line for line in running.log if "accepts nothing" in line]
    found = items(tmp_path / "j")
    assert found
    _is_whole(found)


HOLDER = """
import sys
from wsadapter import attach
with attach(sys.argv[1], "c", start="earliest") as feed:
    print("attached", flush=True)
    sys.stdin.read()
"""


def test_row_78_a_second_process_of_one_name_is_refused_and_the_first_notices_nothing(tmp_path: Path) -> None:
    fill(tmp_path / "j", 5)
    words = [sys.executable, "-c", HOLDER, str(tmp_path / "j")]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "attached\n"
        with pytest.raises(ConsumerInUse, match=rf"attached already \(pid {first.pid}\); use another name, or takeover=True"):
            attach(tmp_path / "j", "c")
        assert first.poll() is None
        first.communicate(timeout=DEADLINE)
    assert first.returncode == 0
    attach(tmp_path / "j", "c").close()


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        ("newer", NewerJournal, "a journal of format 99; this version of wsadapter knows format 1: upgrade wsadapter"),
        ("folder", NotAJournal, "not a journal: this folder has no journal.json"),
        ("file", NotAJournal, "not a journal: this is a file, and a journal is a folder"),
        ("nothing", NotAJournal, "not a journal: there is nothing at this path"),
    ],
)
def test_row_81_what_is_no_journal_of_this_version_is_one_clear_error_for_every_reader(
    tmp_path: Path, make: str, error: type[JournalError], text: str
) -> None:
    path = tmp_path / "j"
    if make == "newer":
        fill(path, 5)
        marker = path / "journal.json"
        marker.write_text(marker.read_text("utf-8").replace('"format": 1', '"format": 99'))
    elif make == "folder":
        path.mkdir()
        (path / "mine.txt").write_text("mine")
    elif make == "file":
        path.write_text("mine")
    for read in (lambda: attach(path, "c"), lambda: next(iter(Journal(path)))):
        with pytest.raises(error, match=text.replace(".", r"\.")):
            read()
    replayed = wsadapter(tmp_path, "replay", str(path))
    assert (replayed.returncode, replayed.stdout) == (1, "")
    assert replayed.stderr == f"wsadapter: {path}: {text}\n"
