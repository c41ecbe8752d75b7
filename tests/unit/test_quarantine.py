"""Messages that are kept: for this user alone, and only where the path leads where it says."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from wsadapter.contract.quarantine import Quarantine


@pytest.fixture(autouse=True)
def umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def test_what_is_kept_is_for_this_user_alone(tmp_path: Path) -> None:
    kept = Quarantine(str(tmp_path / "q"), "a/b").keep(b"x", binary=False, error="no")
    assert kept == f"; kept in {tmp_path}/q/a_b.jsonl"
    assert json.loads((tmp_path / "q" / "a_b.jsonl").read_text()) == {"error": "no", "binary": False, "data": "eA=="}
    assert stat.S_IMODE((tmp_path / "q").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "q" / "a_b.jsonl").stat().st_mode) == 0o600


def test_nothing_is_written_through_a_symbolic_link(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").symlink_to(tmp_path / "other")
    assert Quarantine(str(tmp_path), "a").keep(b"x", binary=False, error="no").startswith("; not kept: ")
    assert not (tmp_path / "other").exists()


def test_without_a_folder_nothing_is_kept() -> None:
    assert Quarantine("", "a").keep(b"x", binary=False, error="no") == ""
