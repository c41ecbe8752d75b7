"""Damage at any place of a segment: each loss is reported, everything else is read, and only `JournalError` is raised."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.support.journals import RUN, add, batch, execute, fill, items, numbers, started, writing
from wsadapter import Batch, Dropped, Gap, JournalError, Message, WrongType, attach
from wsadapter.journal import folder as folders
from wsadapter.journal import writer as writers
from wsadapter.journal.places import find, latest
from wsadapter.journal.reading import check_format, meta_of, read_rows
from wsadapter.journal.rows import DamagedRow, checked, message_row
from wsadapter.sinks.base import Position, SinkBatch
from wsadapter.sinks.feed import JournalFeed, first_position, resume

PAGE = 16384
LAST = 200
"""Message of each endpoint."""


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sound") / "j"
    fill(path, LAST // 2)
    return path


@pytest.fixture
def journal(sound: Path, tmp_path: Path) -> Path:
    shutil.copytree(sound, tmp_path / "j")
    return tmp_path / "j"


def damage(path: Path, dice: Random) -> str:
    """Change one segment in one of many ways; what was done."""
    file = dice.choice(folders.segments(path)).path
    data = bytearray(file.read_bytes())
    at = dice.randrange(len(data))
    kind = dice.choice(["bit", "bit", "head", "run", "zero", "cut", "longer", "swap"])
    match kind:
        case "bit":
            data[at] ^= 1 << dice.randrange(8)
        case "head":
            data[dice.randrange(3 * PAGE)] ^= 1 << dice.randrange(8)
        case "run":
            data[at : at + 500] = dice.randbytes(len(data[at : at + 500]))
        case "zero":
            data[at // 4096 * 4096 : at // 4096 * 4096 + 4096] = bytes(4096)
        case "cut":
            del data[at:]
        case "longer":
            data += dice.randbytes(5000)
        case "swap":
            one, two = (dice.randrange(len(data) // PAGE) * PAGE for _ in range(2))
            data[one : one + PAGE], data[two : two + PAGE] = data[two : two + PAGE], data[one : one + PAGE]
    file.write_bytes(data)
    return f"{kind} at {at} of {file.name}"


def taken(found: Iterator[Any], until: list[Any]) -> JournalError | None:
    """Put the items into `until`, up to the end or an error."""
    try:
        until.extend(found)
    except JournalError as error:
        return error
    return None


def sink_items(path: Path, position: Position) -> Iterator[Any]:
    feed = JournalFeed(path, resume(path, position))
    try:
        while (read := feed.read()) is not None:
            for record in read.records:
                yield from record.item.messages() if isinstance(record.item, Batch) else (record.item,)
    finally:
        feed.close()


def attached_items(path: Path) -> Iterator[Any]:
    with attach(path, "c", start="earliest", follow=False) as feed:
        yield from feed


def assert_reported(found: list[Any], is_whole: bool) -> None:
    """Nothing comes twice or out of order, and what is missing is in a `Dropped`, or behind a `Gap` if nothing was known of its
    endpoint before or comes behind it."""
    at: dict[str, int] = {}
    gaps: set[str] = set()
    for item in found:
        name = item.endpoint
        if isinstance(item, Message):
            assert item.number == at.get(name, 0) + 1 or (name not in at and name in gaps), item
            assert item.data.startswith(b"%s%d." % (name.encode(), item.number))
            at[name] = item.number
            gaps.discard(name)
        elif isinstance(item, Dropped):
            assert item.first == at.get(name, 0) + 1
            assert item.last is not None
            at[name] = item.last
        elif isinstance(item, Gap):
            gaps.add(name)
    if is_whole:
        assert all(at.get(name) == LAST or name in gaps for name in ("a", "b")), (at, gaps)


@pytest.mark.parametrize("seed", range(40))
def test_row_81_whatever_is_damaged_is_reported_to_every_reader_and_the_rest_is_read(journal: Path, seed: int) -> None:
    what = damage(journal, Random(seed))
    for read in (_items(journal), attached_items(journal), _from_the_start(journal)):
        found: list[Any] = []
        error = taken(read, found)
        if error is not None:
            assert f"{journal}/segment-" in str(error), f"{what}: the file is not named"
        assert_reported(found, error is None)
    with writing(journal) as writer:  # the next supervisor
        known = writer.state.endpoints
        add(writer, started(writer.state.run), batch("a", [b"new"], known["a"].number + 1 if "a" in known else 1))
    assert items(journal)[-1].data == b"new"  # type: ignore[union-attr]
    assert list(attached_items(journal))[-1].data == b"new"


def _items(path: Path) -> Iterator[Any]:
    yield from items(path)


def _from_the_start(path: Path) -> Iterator[Any]:
    yield from sink_items(path, first_position(path, "earliest"))


def destroy(path: Path, page: int) -> None:
    with open(path, "r+b") as file:
        file.seek(page * PAGE)
        file.write(os.urandom(PAGE))


def test_what_the_oldest_segment_had_is_reported_if_it_cannot_be_read(journal: Path) -> None:
    first = folders.segments(journal)[0].path
    destroy(first, 0)
    found = items(journal)
    losses = [item for item in found if isinstance(item, Dropped)]
    assert {loss.endpoint for loss in losses} == {"a", "b"}
    assert {loss.first for loss in losses} == {1}
    assert_reported(found, True)
    folders.segments(journal)[1].path.replace(first)  # now the oldest one has no beginning of the journal
    first.replace(folders.segment_path(journal, 66))
    destroy(folders.segment_path(journal, 66), 0)
    assert {item.endpoint for item in items(journal)[:2] if isinstance(item, Gap)} == {"a", "b"}


def test_damage_in_front_of_everything_that_is_known_is_a_gap_of_each_endpoint(tmp_path: Path) -> None:
    with writing(tmp_path / "j") as writer:
        add(writer, started(), *(batch(name, [b"%s%d." % (name.encode(), n)], n) for n in range(1, 9) for name in "ab"))
    (segment,) = folders.segments(tmp_path / "j")
    execute(segment, "UPDATE records SET crc = 0 WHERE seq < 6")
    found = items(tmp_path / "j")
    assert [type(item) for item in found if item.endpoint == "a"][:2] == [Gap, Message]
    assert [type(item) for item in found if item.endpoint == "b"][:2] == [Gap, Message]
    assert numbers(found, "b")[-1] == 8


def test_a_number_of_an_endpoint_that_was_changed_in_the_tables_is_damage(journal: Path) -> None:
    segments = folders.segments(journal)
    execute(segments[2], "UPDATE endpoints_before SET number = number + 1000")
    assert_reported(items(journal), True)
    execute(segments[-1], "UPDATE endpoints_after SET number = number - 50")  # 50 numbers would be given again
    with writing(journal) as writer:
        assert writer.state.run != RUN


@pytest.mark.slow
def test_the_end_of_a_segment_that_is_written_meanwhile_is_that_of_one_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writers, "_CHECKPOINT_EVERY", 0.0)
    over = threading.Event()

    def write() -> None:
        with writing(tmp_path / "j", segment_bytes=1 << 30) as writer:
            for number in range(1, 3000):
                add(writer, batch("a", [b"x"], number))
        over.set()

    load = threading.Thread(target=write)
    load.start()
    try:
        while not over.is_set():
            if (tmp_path / "j/journal.json").exists():
                latest(tmp_path / "j")
    finally:
        load.join()
    assert latest(tmp_path / "j").endpoints["a"].number == 2999


def test_a_consumer_and_a_sink_continue_in_front_of_a_damaged_end(journal: Path) -> None:
    with attach(journal, "c", start="earliest", commit="manual") as feed:
        for _ in range(100):
            feed.get(5.0)
        feed.commit()
    position = first_position(journal, "earliest")
    reader = JournalFeed(journal, position)
    first = reader.read()
    reader.close()
    assert first is not None
    last = folders.segments(journal)[-1].path
    os.truncate(last, 5000)
    for read in (attached_items(journal), sink_items(journal, first.after)):
        found: list[Any] = []
        error = taken(read, found)
        assert str(last) in str(error)
        assert len(found) > 200
    with writing(journal) as writer:  # a new run begins behind the damage
        add(writer, started(writer.state.run), batch("a", [b"new"], writer.state.endpoints["a"].number + 1))
    found = list(sink_items(journal, first.after))
    assert found[-1].data == b"new"
    assert not set(numbers(found, "b")) & set(numbers(_messages(first), "b"))


def _messages(batch: SinkBatch) -> list[Any]:
    return [item for record in batch.records if isinstance(record.item, Batch) for item in record.item.messages()]


def test_a_sink_whose_run_is_in_a_damaged_segment_writes_nothing_twice(tmp_path: Path) -> None:
    with writing(tmp_path / "j") as writer:
        add(writer, started(), *(batch("a", [b"a%d." % n], n) for n in range(1, 50)))
    feed = JournalFeed(tmp_path / "j", first_position(tmp_path / "j", "earliest"))
    first = feed.read()
    feed.close()
    assert first is not None
    (segment,) = folders.segments(tmp_path / "j")
    execute(segment, "UPDATE records SET payload = x'00' WHERE seq = 1")
    execute(segment, "DELETE FROM meta WHERE key = 'latest_run'")
    with writing(tmp_path / "j") as writer:
        add(writer, started(writer.state.run), batch("a", [b"new"], 1))
    found = list(sink_items(tmp_path / "j", first.after))
    assert [item.data for item in found if isinstance(item, Message)] == [b"new"]


def test_a_sink_continues_over_a_damaged_segment_between_two_runs(journal: Path) -> None:
    position = first_position(journal, "latest")
    destroy(folders.segments(journal)[-1].path, 0)
    with writing(journal) as writer:
        add(writer, started(writer.state.run), batch("a", [b"new"], writer.state.endpoints["a"].number + 1))
    assert [item.data for item in sink_items(journal, position) if isinstance(item, Message)] == [b"new"]


def test_a_folder_that_may_not_be_written_needs_no_file_beside_an_empty_wal(journal: Path) -> None:
    last = folders.segments(journal)[-1].path
    wal, shm = (last.with_name(f"{last.name}-{kind}") for kind in ("wal", "shm"))
    wal.touch()
    shm.mkdir()  # as where SQLite may not make it; a test that runs as root can make any file
    assert_reported(items(journal), True)
    wal.write_bytes(b"x" * 100)
    with pytest.raises(JournalError, match=rf"to read {wal.name}, SQLite must write beside it: copy the journal"):
        items(journal)


def test_rows_that_are_gone_at_the_end_of_the_last_segment_are_reported(journal: Path) -> None:
    execute(folders.segments(journal)[-1], "DELETE FROM records WHERE seq > 395")  # as pages that are out of place hide them
    for found in (items(journal), list(attached_items(journal)), list(_from_the_start(journal))):
        assert [type(item) for item in found[-2:]] == [Dropped, Dropped]
        assert_reported(found, True)


def test_an_error_of_sqlite_that_is_not_text_is_damage() -> None:
    class Database:
        def execute(self, *_: object) -> None:
            b"\xe1\x00".decode()  # so sqlite3 fails if the text of an error has a name of the damaged schema in it

    for read in (lambda it: read_rows(it, 1, 1), meta_of, lambda it: check_format(it, Path("x"))):
        with pytest.raises(DamagedRow, match="UnicodeDecodeError"):
            read(Database())


def test_a_row_of_which_a_column_has_another_type_is_damaged() -> None:
    row = message_row(9, "a", [b"x"], epoch=2, record=1, number=4, at=77)
    with pytest.raises(DamagedRow):
        checked((*row[:-2], None, row[-1]))


@pytest.mark.parametrize("start", [float("inf"), -float("inf"), 1e300, -1e300])
def test_times_outside_of_the_calendar_are_the_ends_of_the_journal(journal: Path, start: float) -> None:
    assert find(journal, start).seq == (404 if start > 0 else 1)
    with pytest.raises(WrongType, match="expected"):
        find(journal, float("nan"))
