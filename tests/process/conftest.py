"""Fixtures that several files of this folder share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.journals import fill


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """A journal of 200 messages of each of two endpoints, one of which is a shard."""
    fill(tmp_path / "journal", 100, endpoints=("a", "b#1"))
    return tmp_path / "journal"
