"""Waiting for the thing itself, with a deadline."""

from __future__ import annotations

import time
from collections.abc import Callable


def wait_until(done: Callable[[], object], timeout: float, what: Callable[[], str] | str = "it did not happen") -> None:
    """Returns as soon as `done()` is true; fails with `what` after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not done():
        if time.monotonic() > deadline:
            raise AssertionError(f"{what if isinstance(what, str) else what()} (within {timeout} s)")
        time.sleep(0.005)
