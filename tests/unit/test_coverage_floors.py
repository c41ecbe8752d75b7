"""The tool that compares the coverage of the rooms with their floors."""

from __future__ import annotations

import pytest

from tests.tools.coverage import Reached, in_repository, judged, rooms_of, together

FILES = {
    "worker/session/a.py": Reached(8, 8, 2, 2),
    "worker/session/b.py": Reached(8, 7, 2, 1),
    "worker/sessions.py": Reached(10, 0, 0, 0),
    "supervisor/x.py": Reached(10, 10, 0, 0),
}


def test_a_room_is_a_file_a_folder_or_everything() -> None:
    rooms = rooms_of(FILES, {"worker/session": 0.0, "worker/session/a.py": 0.0, "everything": 0.0, "gone": 0.0})
    assert rooms == {
        "worker/session": Reached(16, 15, 4, 3),
        "worker/session/a.py": FILES["worker/session/a.py"],
        "everything": Reached(36, 25, 4, 3),
    }
    assert rooms["worker/session"].percent == 90.0


def test_lines_and_branches_count_alike_and_an_empty_file_has_all() -> None:
    assert Reached(3, 3, 1, 0).percent == 75.0
    assert Reached().percent == 100.0
    assert together([Reached(1, 1, 1, 1), Reached(1, 0, 1, 0)]) == Reached(2, 1, 2, 1)


def test_a_room_below_its_floor_is_named_with_its_files() -> None:
    assert judged(FILES, {"worker/session": 90.0, "everything": 70.0}) == []
    assert judged(FILES, {"worker/session": 90.1}) == [
        "worker/session: 90.00 % of its lines and branches are reached; the floor is 90.1",
        "     80.00 %  worker/session/b.py",
    ]
    assert judged(FILES, {"everything": 70.1})[0].startswith("everything: 70.00 %")


def test_a_floor_of_a_room_that_is_gone_is_an_error() -> None:
    assert judged(FILES, {"worker/gone": 50.0}) == ["coverage.toml names worker/gone, which does not exist: remove the line"]


@pytest.mark.parametrize(
    ("installed", "expected"),
    [
        ("/env/lib/python3.11/site-packages/wsadapter/worker/main.py", "worker/main.py"),
        ("/env/lib/python3.11/site-packages/wsadapter/contract/ipc/record.py", "supervisor/contract/ipc/record.py"),
    ],
)
def test_an_installed_file_is_one_of_the_repository(installed: str, expected: str) -> None:
    assert in_repository(installed) == expected
