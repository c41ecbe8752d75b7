"""A journal on disk: written, rolled, read, damaged, cleaned, continued."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from time import time_ns

import pytest

from tests.support.journals import RUN, add, batch, down, execute, fill, items, numbers, settings, started, up, writing
from wsadapter import (
    ConfigError,
    Dropped,
    Gap,
    Journal,
    JournalError,
    JournalInUse,
    Message,
    NewerJournal,
    NotAJournal,
    PositionBeyondEnd,
    Started,
    Up,
    WrongType,
)
from wsadapter.journal import folder as folders
from wsadapter.journal.folder import segments
from wsadapter.journal.state import Missing, Progress, Stored, expired, missing
from wsadapter.journal.writer import JournalWriter

PLACES = 1 + 2


def test_what_is_read_is_what_was_written_in_order(tmp_path: Path) -> None:
    with writing(tmp_path / "j") as writer:
        add(writer, started(), up("a"), batch("a", [b"x", b"y"], 1), down("a"))
        add(writer, batch("b", [b"z"], 1, binary=True, streams=["t"]))
    found = items(tmp_path / "j")
    assert found[:2] == [started(), up("a")]
    assert found[2:4] == [Message("a", b"x", 1, 1, 1000), Message("a", b"y", 1, 2, 1000)]
    assert found[4:] == [down("a"), Message("b", b"z", 1, 1, 1000, "t", True)]


def test_it_is_spread_over_segments_without_a_seam(tmp_path: Path) -> None:
    assert len(fill(tmp_path / "j", 100)) > 4
    found = items(tmp_path / "j")
    assert len(found) == PLACES + 400
    for name in ("a", "b"):
        assert numbers(found, name) == list(range(1, 201))
    assert not [item for item in found if isinstance(item, Dropped | Gap)]


def test_the_next_writer_goes_on_from_the_last_row(tmp_path: Path) -> None:
    with writing(tmp_path / "j") as writer:
        add(writer, started(), up("a"), up("b"), batch("a", [b"x", b"y"], 1), batch("b", [b"x"], 1), down("b", 3))
        add(writer, Dropped("a", 1, 9, 3, 7, 5, 100, "journal"))
    with writing(tmp_path / "j") as writer:
        assert writer.state.run == RUN
        assert writer.state.seq == PLACES + 6
        assert writer.state.endpoints == {
            "a": Progress(7, 1, 1000, True, record=1, messages=True),
            "b": Progress(1, 3, 1000, False),
        }
        assert writer.state.bytes == sum(
            row[0] for s in segments(tmp_path / "j") for row in execute(s, "SELECT total(length(payload)) FROM records")
        )


def test_what_a_killed_writer_had_committed_is_there(tmp_path: Path) -> None:
    """Its files as they are while it has them open: what is not in the database yet is in its WAL."""
    with writing(tmp_path / "j") as writer:
        add(writer, started(), batch("a", [b"x"], 1))
        shutil.copytree(tmp_path / "j", tmp_path / "copy")
    assert len(items(tmp_path / "copy")) == 2
    with writing(tmp_path / "copy") as writer:
        assert (writer.state.run, writer.state.seq) == (RUN, 3)


def test_a_commit_is_whole_or_not_there(tmp_path: Path) -> None:
    with writing(tmp_path / "j") as writer:
        add(writer, started())
        with pytest.raises(Exception, match="UNIQUE"):
            writer.append([*_rows(2), *_rows(2)])
        assert writer.state.seq == 2
        add(writer, batch("a", [b"x"], 1))
    assert len(items(tmp_path / "j")) == 2


def _rows(seq: int) -> list[object]:
    from wsadapter.journal.rows import message_row

    return [message_row(seq, "a", [b"x"], epoch=1, record=1, number=1, at=1)]


# -- where to begin --------------------------------------------------------------------------------------------------------


def test_reading_begins_and_ends_where_it_is_asked_to(tmp_path: Path) -> None:
    path = tmp_path / "j"
    fill(path, 100)
    assert items(path, start="latest") == []
    by_time = items(path, start=151 / 1e6)  # record 151 was received at 151,000 ns
    assert numbers(by_time, "a") == list(range(151, 201))
    assert numbers(items(path, start=151 / 1e6, end=161 / 1e6), "a") == list(range(151, 161))
    by_number = items(path, start={"a": 150, "b": 199})
    assert numbers(by_number, "a") == list(range(151, 201))
    assert numbers(by_number, "b") == [200]
    assert items(path, start={"a": 200, "b": 200}) == []


def test_endpoints_and_streams_are_chosen(tmp_path: Path) -> None:
    path = tmp_path / "j"
    with writing(path) as writer:
        streams = ["t", "u", "u", None]
        add(
            writer,
            started(),
            up("a"),
            up("b#2"),
            batch("a", [b"0", b"1", b"2", b"3"], 1, streams=streams),
            batch("b#2", [b"x"], 1),
        )
    assert [item.endpoint for item in items(path, endpoints=["b"])] == ["", "b#2", "b#2"]
    assert [(m.data, m.number) for m in items(path, streams=["u"]) if isinstance(m, Message)] == [(b"1", 2), (b"2", 3)]
    with pytest.raises(WrongType):
        items(path, endpoints="a")


@pytest.mark.parametrize("start", [{"a": 201}, {"zorblax": 1}])
def test_a_position_beyond_the_end_is_refused(tmp_path: Path, start: dict[str, int]) -> None:
    fill(tmp_path / "j", 100)
    with pytest.raises(PositionBeyondEnd, match=r"has come to message \d+ in this journal"):
        items(tmp_path / "j", start=start)


@pytest.mark.parametrize("start", ["newest", None, {"a": -1}, {"a": "1"}, True])
def test_a_start_that_is_none_is_refused(tmp_path: Path, start: object) -> None:
    fill(tmp_path / "j", 1)
    with pytest.raises(WrongType, match="start: expected"):
        items(tmp_path / "j", start=start)


# -- bad input: one clear error each ---------------------------------------------------------------------------------------


def test_a_path_that_is_no_journal_is_refused_for_reading(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    for path, text in (("file", "this is a file"), ("folder", "has no journal.json"), ("nothing", "there is nothing")):
        with pytest.raises(NotAJournal, match=text):
            items(tmp_path / path)


def test_a_path_that_is_no_journal_is_refused_for_writing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "precious.txt").write_text("x")
    with pytest.raises(NotAJournal, match="this is a file"):
        JournalWriter(settings(tmp_path / "file"))
    with pytest.raises(NotAJournal, match=r"holds other files \(precious.txt\)"):
        JournalWriter(settings(tmp_path / "folder"))
    assert os.listdir(tmp_path / "folder") == ["precious.txt"]


def test_a_journal_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    (last,) = fill(tmp_path / "j", 1)
    execute(last, "PRAGMA user_version = 2")
    for attempt in (lambda: items(tmp_path / "j"), lambda: JournalWriter(settings(tmp_path / "j"))):
        with pytest.raises(NewerJournal, match="format 2; this version of wsadapter knows format 1"):
            attempt()
    marker = tmp_path / "j" / "journal.json"
    marker.write_text(json.dumps({**json.loads(marker.read_text("utf-8")), "format": 3}))
    with pytest.raises(NewerJournal, match="format 3"):
        items(tmp_path / "j")


def test_two_writers_exclude_each_other(tmp_path: Path) -> None:
    with writing(tmp_path / "j") as writer:
        writer.describe("prices", "")
        with pytest.raises(JournalInUse, match=rf"another supervisor \(pid {os.getpid()}\) writes this journal"):
            JournalWriter(settings(tmp_path / "j"))
    with writing(tmp_path / "j"):
        pass


@pytest.mark.skipif(os.getuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    fill(tmp_path / "j", 1)
    (tmp_path / "j").chmod(0o500)
    with pytest.raises(JournalError, match="cannot be written"):
        JournalWriter(settings(tmp_path / "j"))


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"path": ""}, "journal.path: expected the folder"),
        ({"retain": "soon"}, "journal.retain: expected a duration"),
        ({"segment_bytes": 1000}, "journal.segment_bytes: expected at least 64KiB"),
        ({"retain_bytes": "64MiB"}, "journal.retain_bytes: expected 0, or at least twice"),
        ({"commit": 60}, "journal.commit: expected 0 to 10 s"),
        ({"sync": "off"}, 'journal.sync: expected one of "normal", "full"'),
    ],
)
def test_settings_that_make_no_sense_are_refused(given: dict[str, object], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        Journal(**{"path": "/tmp/j", **given})  # type: ignore[arg-type]


# -- damage ----------------------------------------------------------------------------------------------------------------


def flip(path: Path, at: int, count: int = 1) -> None:
    with open(path, "r+b") as file:
        file.seek(at)
        before = file.read(count)
        file.seek(at)
        file.write(bytes(byte ^ 0x55 for byte in before))


def assert_told(found: list[object], name: str, last: int) -> int:
    """Every number up to `last` was delivered, or is in a `Dropped`, in order; how many were dropped."""
    at, lost = 0, 0
    for item in found:
        if isinstance(item, Message) and item.endpoint == name:
            assert item.number == at + 1
            at = item.number
        elif isinstance(item, Dropped) and item.endpoint == name:
            assert (item.first, item.cause) == (at + 1, "journal")
            assert item.last is not None
            at, lost = item.last, lost + item.count
    assert at == last
    return lost


def test_row_81_a_flipped_byte_in_a_payload_costs_its_record_which_is_reported(tmp_path: Path) -> None:
    found = fill(tmp_path / "j", 100)
    content = found[1].path.read_bytes()
    at = content.index(b"....a")
    flip(found[1].path, at)
    got = items(tmp_path / "j")
    assert assert_told(got, "a", 200) + assert_told(got, "b", 200) == 2
    assert {gap.cause for gap in got if isinstance(gap, Gap)} == {"journal"}


@pytest.mark.parametrize("page", [0, 1, 2, 3, 4, 5, 6, 7])
def test_row_81_a_page_that_is_destroyed_hides_only_what_was_on_it(tmp_path: Path, page: int) -> None:
    found = fill(tmp_path / "j", 100)
    damaged = found[2].path
    flip(damaged, page * 16384, min(16384, damaged.stat().st_size - page * 16384))
    got = items(tmp_path / "j")
    for name in ("a", "b"):
        lost = assert_told(got, name, 200)
        assert lost < 60  # no more than what was in this segment


@pytest.mark.parametrize("kept", [0, 100, 16384, 40_000, 90_000])
def test_row_81_a_segment_that_is_cut_off_costs_no_other_one_anything(tmp_path: Path, kept: int) -> None:
    found = fill(tmp_path / "j", 100)
    os.truncate(found[1].path, kept)
    got = items(tmp_path / "j")
    for name in ("a", "b"):
        assert 0 < assert_told(got, name, 200) < 60


def test_row_81_a_segment_that_was_removed_is_reported(tmp_path: Path) -> None:
    found = fill(tmp_path / "j", 100)
    found[1].path.unlink()
    got = items(tmp_path / "j")
    for name in ("a", "b"):
        assert 0 < assert_told(got, name, 200) < 60


def test_a_writer_leaves_a_damaged_end_and_begins_a_new_run_behind_it(tmp_path: Path) -> None:
    found = fill(tmp_path / "j", 100)
    os.truncate(found[-1].path, 5000)
    with writing(tmp_path / "j") as writer:
        assert writer.state.run not in ("", RUN)
        before = writer.state.endpoints["a"].number
        add(writer, started(writer.state.run), batch("a", [b"x"], before + 1))
    got = items(tmp_path / "j")
    assert next(item.run for item in got if isinstance(item, Started)) == RUN
    assert numbers(got, "a")[-1] == before + 1
    assert [gap for gap in got if isinstance(gap, Gap)]


def test_power_failed_so_a_new_run_begins_unless_every_commit_was_synced(tmp_path: Path) -> None:
    for sync, goes_on in (("normal", False), ("full", True)):
        path = tmp_path / sync
        fill(path, 1)
        lock = path / "lock"
        lock.write_text(json.dumps({"pid": 1, "name": "", "runtime_dir": "", "boot": "another", "closed": False}))
        with writing(path, sync=sync) as writer:
            assert (writer.state.run == RUN) is goes_on


# -- retention -------------------------------------------------------------------------------------------------------------


def test_only_whole_segments_from_the_oldest_on_expire() -> None:
    stored = [Stored(1, 100, 10), Stored(5, 100, 30), Stored(9, 100, 20)]
    now = int(40e9)
    assert expired(stored, 50, now, retain=0, retain_bytes=0) == []
    assert expired(stored, 50, now, retain=0, retain_bytes=350) == []
    assert expired(stored, 50, now, retain=0, retain_bytes=349) == [1]
    assert expired(stored, 50, now, retain=0, retain_bytes=60) == [1, 5, 9]
    seconds = [Stored(first, 1, int(at * 1e9)) for first, at in ((1, 10), (5, 30), (9, 20))]
    assert expired(seconds, 1, now, retain=25, retain_bytes=0) == [1]  # the third is too old, but one before it is not
    assert expired(seconds, 1, now, retain=5, retain_bytes=0) == [1, 5, 9]


def test_what_lies_between_two_places_is_counted_per_endpoint() -> None:
    before = {"a": Progress(5, 1, 1, True), "b": Progress(7, 1, 1, True)}
    after = {"a": Progress(9, 3, 1, True), "b": Progress(7, 2, 1, True), "c": Progress(2, 1, 1, True)}
    assert missing(before, after) == [Missing("a", 3, 6, 9), Missing("c", 1, 1, 2)]


def test_the_journal_stays_within_its_size(tmp_path: Path) -> None:
    kept = fill(tmp_path / "j", 300, retain_bytes=200_000)
    assert sum(segment.size for segment in kept) < 600_000  # of 1.2 MB
    got = items(tmp_path / "j")
    assert numbers(got, "a")[-1] == 600
    assert numbers(got, "a")[0] > 400
    assert not [item for item in got if isinstance(item, Dropped)]  # nobody had a position in what is gone


def test_row_79_a_position_that_the_retention_removed_is_reported_exactly(tmp_path: Path) -> None:
    path = tmp_path / "j"
    fill(path, 300, retain_bytes=200_000)
    got = items(path, start={"a": 11, "b": 7})
    dropped = {item.endpoint: item for item in got if isinstance(item, Dropped)}
    for name, position in (("a", 11), ("b", 7)):
        first = numbers(got, name)[0]
        loss = dropped[name]
        assert (loss.first, loss.last, loss.count, loss.cause) == (position + 1, first - 1, first - 1 - position, "retention")
        assert numbers(got, name) == list(range(first, 601))


def test_row_89_a_segment_that_is_removed_while_it_is_read_is_read_to_its_end(tmp_path: Path) -> None:
    found = fill(tmp_path / "j", 100)
    reading = Journal(tmp_path / "j").read()
    first = [next(reading) for _ in range(10)]
    for segment in found[:3]:
        segment.path.unlink()
    rest = list(reading)
    got = [*first, *rest]
    at = 0
    for item in got:
        if isinstance(item, Message) and item.endpoint == "a":
            assert item.number == at + 1
            at = item.number
        elif isinstance(item, Dropped) and item.endpoint == "a":
            assert item.first == at + 1
            assert item.cause == "retention"
            at = item.last or 0
    assert at == 200


def test_old_segments_go_by_time_too(tmp_path: Path) -> None:
    path = tmp_path / "j"
    with writing(path, retain=3600.0) as writer:
        for n in range(1, 100):
            add(writer, batch("a", [b"x" * 2000], n, at=time_ns() - int(7200e9)))
        add(writer, batch("a", [b"x"], 100, at=time_ns()))
        writer.stored = [stored._replace(newest_at=time_ns() - int(7200e9)) for stored in writer.stored]
        writer.retain()
        assert len(segments(path)) == 1


def test_row_80_files_that_somebody_removes_are_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "j"
    with writing(path) as writer:
        add(writer, started(), batch("a", [b"x", b"y"], 1))
        identity = folders.identify(path)
        shutil.rmtree(path)
        add(writer, batch("a", [b"z"], 3))  # nobody can know yet
        add(writer, batch("a", [b"z"], 4))
        with pytest.raises(JournalInUse):
            JournalWriter(settings(path))
    assert folders.identify(path) == identity
    assert numbers(items(path), "a") == [4]


def test_up_and_down_are_remembered_so_that_open_epochs_can_be_ended(tmp_path: Path) -> None:
    with writing(tmp_path / "j") as writer:
        add(writer, up("a"), up("b"), down("b"), up("c"), down("c"), up("c", 2))
        assert {name: each.up for name, each in writer.state.endpoints.items()} == {"a": True, "b": False, "c": True}
    assert isinstance(items(tmp_path / "j")[0], Up)
