"""The file of a consumer's position: what is stored is read, at every moment."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from wsadapter import ConsumerInUse, JournalError, NewerJournal
from wsadapter.journal.folder import POSITIONS, prepare, write_marker
from wsadapter.journal.positions import Position, PositionFile, look, path_of


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / POSITIONS).mkdir()
    return tmp_path


def opened(folder: Path, identity: str = "j", *, takeover: bool = False) -> tuple[PositionFile, Position | None]:
    return PositionFile.open(folder, "c", identity, takeover=takeover)


def stored(folder: Path) -> Position:
    found = look(path_of(folder, "c"))
    assert found is not None
    return found[0]


def test_each_store_is_seen_by_others_at_once(folder: Path) -> None:
    held, found = opened(folder)
    assert found is None
    held.store(Position(5, 100, 7, {"a": 3, "b": 9}))
    assert stored(folder) == Position(5, 100, 7, {"a": 3, "b": 9})
    held.move(6, 120, 8, "a")
    assert stored(folder) == Position(6, 120, 8, {"a": 3, "b": 9})
    held.taken[0] = 4
    assert stored(folder) == Position(10, 120, 8, {"a": 7, "b": 9})
    assert held.set_number("a", 8)
    assert stored(folder).numbers["a"] == 7  # it holds from the next move on
    held.move(11, 130, 9)
    held.taken[0] = 0
    assert stored(folder) == Position(11, 130, 9, {"a": 8, "b": 9})
    held.close()


def test_a_new_endpoint_makes_the_file_larger_and_keeps_the_name(folder: Path) -> None:
    held, _ = opened(folder)
    held.store(Position(1, 0, 0, {}))
    assert not held.set_number("a", 1)
    for number in range(1, 20):
        held.store(Position(number, 0, 0, {f"e{n}": n for n in range(number)}))
    assert stored(folder).numbers == {f"e{n}": n for n in range(19)}
    with pytest.raises(ConsumerInUse):
        opened(folder)
    held.close()
    again, found = opened(folder)
    assert found == Position(19, 0, 0, {f"e{n}": n for n in range(19)})
    again.close()
    held.close()


@pytest.mark.slow
def test_a_takeover_makes_the_stores_of_the_first_one_void(folder: Path) -> None:
    first, _ = opened(folder)
    first.store(Position(5, 0, 0, {"a": 1}))
    second, found = opened(folder, takeover=True)
    assert found == Position(5, 0, 0, {"a": 1})
    second.store(found)
    assert first.is_replaced
    assert first.is_lost
    first.move(99, 0, 0)
    first.store(Position(100, 0, 0, {"a": 1, "new": 1}))
    assert stored(folder).seq == 5
    assert not second.is_replaced
    first.close()
    with pytest.raises(ConsumerInUse):
        opened(folder)
    second.close()


def test_what_is_no_position_is_refused(folder: Path) -> None:
    held, _ = opened(folder)
    held.store(Position(5, 0, 0, {"a": 1}))
    held.close()
    path = path_of(folder, "c")
    content = path.read_bytes()
    with pytest.raises(JournalError, match="a position in another journal"):
        opened(folder, "other")
    for damaged in (b"", content[:20], b"x" + content[1:], content[:-5], content[:16] + b"\x07" + content[17:]):
        path.write_bytes(damaged)
        assert look(path) is None
        with pytest.raises(JournalError, match="damaged"):
            opened(folder)
    path.write_bytes(content[:5] + b"2" + content[6:])
    assert look(path) is None
    with pytest.raises(NewerJournal):
        opened(folder)


def test_a_folder_is_marked_as_a_journal_only_when_a_consumer_can_store_its_position(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Position | None] = []

    def attach_at_once(folder: Path, identity: str) -> None:
        write_marker(folder, identity)
        held, _ = opened(folder, identity)
        held.store(Position(1, 0, 0))
        seen.append(stored(folder))
        held.close()

    monkeypatch.setattr("wsadapter.journal.folder.write_marker", attach_at_once)
    prepare(tmp_path / "j")
    assert seen == [Position(1, 0, 0)]


def test_a_position_that_cannot_be_written_leaves_no_descriptor_and_no_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held, _ = opened(folder)
    before = os.listdir("/proc/self/fd")
    monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError(errno.EPERM, "not permitted")))
    with pytest.raises(JournalError, match="cannot be written: not permitted"):
        held.store(Position(1, 0, 0))
    assert os.listdir("/proc/self/fd") == before
    assert list((folder / POSITIONS).iterdir()) == []
