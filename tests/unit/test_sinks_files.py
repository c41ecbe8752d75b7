"""The sinks that write files: JSON lines and Parquet, on a real disk."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.support.journals import add, batch, fill, started, up, writing
from tests.support.sinks import carry, line_numbers, lines, messages_of
from wsadapter.journal.folder import segments
from wsadapter.sinks import jsonl
from wsadapter.sinks.base import SinkError, SinkMisconfigured, TargetFull
from wsadapter.sinks.feed import JournalFeed, first_position
from wsadapter.sinks.jsonl import JsonlSink, numbered, position_file
from wsadapter.sinks.parquet import ParquetSink

pyarrow_parquet = pytest.importorskip("pyarrow.parquet")
DAY = 86_400_000_000_000
BOTH = list(range(1, 201))


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """Two endpoints, 200 messages each, in several segments."""
    fill(tmp_path / "journal", 100)
    return tmp_path / "journal"


def files(folder: Path) -> list[Path]:
    return sorted((path for path in folder.glob("*.jsonl")), key=lambda path: path.stat().st_mtime_ns)


# -- JSON lines ----------------------------------------------------------------------------------------------------------


def test_every_item_is_one_line_and_what_is_behind_the_position_is_cut_off(journal: Path, tmp_path: Path) -> None:
    carry(journal, JsonlSink("s", str(tmp_path / "out/x.jsonl")))
    found = lines([tmp_path / "out/x.jsonl"])
    assert line_numbers(found, "a") == line_numbers(found, "b") == BOTH
    assert [line.get("event") for line in found[:4]] == ["started", "up", "up", None]
    before = (tmp_path / "out/x.jsonl").read_bytes()
    with open(tmp_path / "out/x.jsonl", "ab") as file:
        file.write(b'{"endpoint":"a","number":1}\n{"to')
    carry(journal, JsonlSink("s", str(tmp_path / "out/x.jsonl")))  # nothing is new
    assert (tmp_path / "out/x.jsonl").read_bytes() == before


def half_of(journal: Path, path: Path) -> int:
    """Write about half of the journal, and nothing in order after that; the size that belongs to the position."""
    sink = JsonlSink("s", str(path))
    feed = JournalFeed(journal, sink.open(first_position(journal, "earliest")))
    for _ in range(2):
        read = feed.read()
        assert read is not None
        sink.write(read)
    sink.flush()
    size = path.stat().st_size
    sink.close()
    feed.close()
    return size


@pytest.mark.parametrize("extra", [b"{", b'{"endpoint":"a","number":9999}\n', b'{"endpoint":"a","number":9999}\n{"to'])
def test_what_does_not_belong_to_the_position_is_cut_off(journal: Path, tmp_path: Path, extra: bytes) -> None:
    path = tmp_path / "out/x.jsonl"
    half_of(journal, path)
    with open(path, "ab") as file:
        file.write(extra)
    carry(journal, JsonlSink("s", str(path)))
    found = lines([path])
    assert line_numbers(found, "a") == line_numbers(found, "b") == BOTH


def test_a_file_that_was_changed_is_refused(journal: Path, tmp_path: Path) -> None:
    path = tmp_path / "out/x.jsonl"
    size = half_of(journal, path)
    os.truncate(path, size - 1)
    with pytest.raises(SinkMisconfigured, match="it was changed"):
        carry(journal, JsonlSink("s", str(path)))
    path.unlink()
    carry(journal, JsonlSink("s", str(path)))  # who removes it has its lines elsewhere
    assert min(line_numbers(lines([path]), "a")) > 1


def test_a_position_file_of_another_format_is_refused(journal: Path, tmp_path: Path) -> None:
    position_file(str(tmp_path / "x.jsonl"), "s").write_text('{"position": 1}')
    with pytest.raises(SinkMisconfigured, match="not a position file of this version"):
        carry(journal, JsonlSink("s", str(tmp_path / "x.jsonl")))


def test_files_are_rotated_by_size_and_each_names_its_run(journal: Path, tmp_path: Path) -> None:
    carry(journal, JsonlSink("s", str(tmp_path / "out/x.jsonl"), rotate_bytes=100_000))
    found = [path for part in range(100) if (path := Path(numbered(str(tmp_path / "out/x.jsonl"), part))).exists()]
    assert [path.name for path in found[:3]] == ["x.jsonl", "x.1.jsonl", "x.2.jsonl"]
    assert all(100_000 <= path.stat().st_size < 110_000 for path in found[:-1])
    assert {lines([path])[0].get("event") for path in found} == {"started"}
    assert line_numbers(lines(found), "a") == line_numbers(lines(found), "b") == BOTH


def test_files_are_rotated_by_time_and_a_late_item_opens_no_complete_file(tmp_path: Path) -> None:
    with writing(tmp_path / "journal") as writer:
        add(writer, started(), up("a"))
        for number, day in enumerate((1, 2, 1, 3), 1):
            add(writer, batch("a", [b"%d" % day], number, at=day * DAY))
    carry(tmp_path / "journal", JsonlSink("s", str(tmp_path / "out/%d.jsonl")))
    found = {path.name: line_numbers(lines([path]), "a") for path in (tmp_path / "out").glob("*.jsonl")}
    assert found == {"01.jsonl": [], "02.jsonl": [1], "03.jsonl": [2, 3], "04.jsonl": [4]}


def test_each_endpoint_may_have_files_of_its_own(journal: Path, tmp_path: Path) -> None:
    carry(journal, JsonlSink("s", str(tmp_path / "{endpoint}/%Y.jsonl")))
    assert line_numbers(lines([tmp_path / "a/1970.jsonl"]), "a") == BOTH
    assert line_numbers(lines([tmp_path / "b/1970.jsonl"]), "b") == BOTH
    assert position_file(str(tmp_path / "{endpoint}/%Y.jsonl"), "s") == tmp_path / ".s.position.json"


def test_a_file_that_is_there_already_is_left_alone(journal: Path, tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text("mine")
    carry(journal, JsonlSink("s", str(tmp_path / "x.jsonl")))
    assert (tmp_path / "x.jsonl").read_text() == "mine"
    assert line_numbers(lines([tmp_path / "x.1.jsonl"]), "a") == BOTH


def test_complete_files_are_compressed(journal: Path, tmp_path: Path) -> None:
    zstd = jsonl.zstd_module()
    carry(journal, JsonlSink("s", str(tmp_path / "out/x.jsonl"), rotate_bytes=100_000, compression="zstd"))
    [plain] = (tmp_path / "out").glob("*.jsonl")
    packed = sorted((tmp_path / "out").glob("*.zst"), key=lambda path: path.stat().st_mtime_ns)
    assert len(packed) > 2
    content = b"".join(zstd.open(path, "rb").read() for path in packed) + plain.read_bytes()
    assert line_numbers(map(json.loads, content.splitlines()), "a") == BOTH


def test_a_compression_that_was_interrupted_is_done_by_the_next_process(
    journal: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = JsonlSink("s", str(tmp_path / "out/x.jsonl"), rotate_bytes=100_000, compression="zstd")
    monkeypatch.setattr(sink, "_compress", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        carry(journal, sink)
    assert not list((tmp_path / "out").glob("*.zst"))
    carry(journal, JsonlSink("s", str(tmp_path / "out/x.jsonl"), rotate_bytes=100_000, compression="zstd"))
    assert len(list((tmp_path / "out").glob("*.jsonl"))) == 1


@pytest.mark.slow
@pytest.mark.parametrize("fails_at", range(1, 14))
def test_a_failure_at_any_write_loses_nothing_and_repeats_nothing(
    journal: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails_at: int
) -> None:
    """Every `pwrite` writes half of its data and fails, one after the other; so does every write of the position file."""
    path = tmp_path / "out/x.jsonl"
    calls = 0

    def count() -> bool:
        nonlocal calls
        calls += 1
        return calls == fails_at

    real_pwrite, real_whole = os.pwrite, jsonl.write_whole

    def pwrite(fd: int, data: memoryview, at: int) -> int:
        if count():
            real_pwrite(fd, data[: len(data) // 2], at)
            raise OSError(28, "No space left on device")
        return real_pwrite(fd, data, at)

    def whole(file: Path, content: bytes) -> None:
        if count():
            raise OSError(28, "No space left on device")
        real_whole(file, content)

    with monkeypatch.context() as patched:
        patched.setattr(jsonl, "_ENOUGH", 50_000)
        patched.setattr(jsonl.os, "pwrite", pwrite)
        patched.setattr(jsonl, "write_whole", whole)
        sink = JsonlSink("s", str(path), rotate_bytes=200_000)
        feed = JournalFeed(journal, first_position(journal, "earliest"))
        try:
            sink.open(first_position(journal, "earliest"))
            while (read := feed.read()) is not None:
                sink.write(read)
            sink.flush()
        except TargetFull as error:
            assert "No space left" in str(error)  # noqa: PT017 - not every number of a call is reached
        finally:
            sink.close()
            feed.close()
    for file in (tmp_path / "out").glob("*.jsonl"):
        assert not file.stat().st_size or file.read_bytes().endswith(b"\n")
    carry(journal, JsonlSink("s", str(path), rotate_bytes=200_000))
    found = lines([file for file in (tmp_path / "out").glob("*.jsonl") if file.stat().st_size])
    assert sorted(line_numbers(found, "a")) == sorted(line_numbers(found, "b")) == BOTH


class Killed(BaseException):
    """As SIGKILL: nothing of the sink runs afterwards."""


@pytest.mark.parametrize("killed_at", range(1, 6))
def test_a_kill_behind_any_write_repeats_nothing(
    journal: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed_at: int
) -> None:
    path = tmp_path / "out/x.jsonl"
    calls, real = 0, os.pwrite

    def pwrite(fd: int, data: memoryview, at: int) -> int:
        nonlocal calls
        calls += 1
        written = real(fd, data, at)
        if calls == killed_at:
            raise Killed
        return written

    with monkeypatch.context() as patched:
        patched.setattr(jsonl, "_ENOUGH", 50_000)
        patched.setattr(jsonl.os, "pwrite", pwrite)
        with pytest.raises(Killed):
            carry(journal, JsonlSink("s", str(path), rotate_bytes=100_000))
    carry(journal, JsonlSink("s", str(path), rotate_bytes=100_000))
    found = lines(list((tmp_path / "out").glob("*.jsonl")))
    assert sorted(line_numbers(found, "a")) == sorted(line_numbers(found, "b")) == BOTH


def test_a_folder_that_cannot_be_written_is_an_error(journal: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SinkError, match=r"Not a directory|File exists"):
        carry(journal, JsonlSink("s", str(tmp_path / "file/x.jsonl")))


# -- Parquet -------------------------------------------------------------------------------------------------------------


def rows(folder: Path) -> list[dict[str, object]]:
    tables = [pyarrow_parquet.read_table(file) for file in sorted(folder.glob("*.parquet"))]
    # A `datetime` has no nanoseconds.
    as_numbers = [table.set_column(4, "at", table["at"].cast("int64")) for table in tables]
    return [row for table in as_numbers for row in table.to_pylist()]


def test_each_complete_segment_becomes_a_file(journal: Path, tmp_path: Path) -> None:
    carry(journal, ParquetSink("s", str(tmp_path / "out")))
    found = sorted(path.stem for path in (tmp_path / "out").iterdir())
    assert found == [segment.path.stem for segment in segments(journal)][:-1]
    data = [(row["endpoint"], row["number"], row["data"]) for row in rows(tmp_path / "out") if row["number"]]
    assert data == messages_of(journal)[: len(data)]
    assert len(data) > 200
    first = rows(tmp_path / "out")[0]
    assert json.loads(str(first["event"]))["event"] == "started"
    assert (first["seq"], first["at"], first["data"]) == (1, 1, None)


def test_a_second_process_goes_on_with_the_next_segment(journal: Path, tmp_path: Path) -> None:
    carry(journal, ParquetSink("s", str(tmp_path / "out")))
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    with writing(journal) as writer:
        for number in range(201, 400):
            add(writer, batch("a", [b"." * 1000], number))
    carry(journal, ParquetSink("s", str(tmp_path / "out")))
    after = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    assert before.items() < after.items()
    numbers = [row["number"] for row in rows(tmp_path / "out") if row["endpoint"] == "a" and row["number"]]
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) > 200


def test_a_file_that_was_not_finished_is_written_anew(journal: Path, tmp_path: Path) -> None:
    sink = ParquetSink("s", str(tmp_path / "out"))
    position = sink.open(first_position(journal, "earliest"))
    feed = JournalFeed(journal, position)
    for _ in range(2):
        read = feed.read()
        assert read is not None
        sink.write(read)
    sink._write_group()  # then the process is killed
    assert (tmp_path / "out/.s.parquet.new").exists()
    feed.close()
    assert len(list((tmp_path / "out").glob("*.parquet"))) == 1
    carry(journal, ParquetSink("s", str(tmp_path / "out")))
    assert not (tmp_path / "out/.s.parquet.new").exists()
    data = [(row["endpoint"], row["number"], row["data"]) for row in rows(tmp_path / "out") if row["number"]]
    assert data == messages_of(journal)[: len(data)]


def test_a_parquet_file_of_another_program_is_refused(journal: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/segment-1.parquet").write_bytes(b"PAR1")
    with pytest.raises(SinkMisconfigured, match="not a file of this sink"):
        carry(journal, ParquetSink("s", str(tmp_path / "out")))
