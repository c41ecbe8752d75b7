"""What a SIGHUP means."""

from __future__ import annotations

import pytest

from wsadapter.cli.hang_ups import TOGETHER, meaning


@pytest.mark.parametrize(
    ("ignored", "gone_for", "expected"),
    [
        (False, None, "reload"),
        (True, None, "reload"),
        (False, 0.0, "stop"),
        (False, TOGETHER, "stop"),
        (True, 0.0, "nothing"),
        (False, TOGETHER + 0.1, "reload"),
        (True, TOGETHER + 0.1, "reload"),
    ],
)
def test_only_what_comes_with_the_end_of_the_terminal_is_the_terminal_s(
    ignored: bool, gone_for: float | None, expected: str
) -> None:
    assert meaning(ignored=ignored, gone_for=gone_for) == expected
