"""Fixtures of the whole suite. Every test that runs processes or sockets fails if it leaves anything behind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.leaks import no_leaks

_HERE = Path(__file__).parent


@pytest.fixture(autouse=True)
def _leave_nothing_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    if request.path.is_relative_to(_HERE / "unit"):
        yield
        return
    with no_leaks():
        yield


@pytest.fixture(params=["forkserver", "spawn"])
def start_method(request: pytest.FixtureRequest) -> str:
    """Both ways to start an owner."""
    return str(request.param)
