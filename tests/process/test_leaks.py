"""Nothing stays behind of restarts, kills, reloads, adds and removes. `python -m tests.bench.leaks` is the long form."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.bench.leaks import measure, subject

_ROUNDS = {"restart": 6, "kill": 12, "reload": 3, "add": 12}
"""Fewer of those that wait for a planned change of the connection."""


@pytest.mark.parametrize("operation", _ROUNDS)
def test_row_63_nothing_stays_behind_of_an_operation_that_is_done_again_and_again(operation: str, tmp_path: Path) -> None:
    with subject(tmp_path, "forkserver") as tested:
        outcome = measure(tested, operation, _ROUNDS[operation])
    assert outcome.after == outcome.before


def test_what_stays_behind_is_found(tmp_path: Path) -> None:
    left: list[int] = []
    with subject(tmp_path, "forkserver") as tested:
        tested.operations["leak"] = lambda: left.append(os.open(os.devnull, os.O_RDONLY))
        outcome = measure(tested, "leak", 3)
    for fd in left:
        os.close(fd)
    assert outcome.leaks
    assert outcome.after.descriptors == outcome.before.descriptors + 3
