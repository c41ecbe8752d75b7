"""Without asserts and docstrings (-OO, PYTHONOPTIMIZE=2), and with every warning an error, all can still be imported."""

from __future__ import annotations

import subprocess
import sys

import pytest

_MODULES = "wsadapter.__main__, wsadapter.supervise, wsadapter.testing, wsadapter.worker.main, wsadapter.worker.owner.loop"


@pytest.mark.slow
def test_all_is_importable_without_docstrings() -> None:
    program = f"import {_MODULES}; print(repr(wsadapter.Endpoint('a', restart={{'intensity': 3}})))"
    ended = subprocess.run(
        [sys.executable, "-OO", "-W", "error", "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert "intensity=3" in ended.stdout
