"""Waiting for the thing itself, with a deadline."""

from __future__ import annotations

import time
from collections.abc import Callable

_TURN = 0.25
_PAUSE = 0.005


def wait_until(done: Callable[[], object], timeout: float, what: Callable[[], str] | str = "it did not happen") -> None:
    """Returns as soon as `done()` is true; fails with `what` after `timeout` seconds.

    A turn counts as a quarter of a second at most: while this process could not run, neither could what it waits for. The pause
    is as long as the question took, or longer: what is waited for needs the processor too.
    """
    left = timeout
    before = time.monotonic()
    while not done():
        if left < 0:
            raise AssertionError(f"{what if isinstance(what, str) else what()} (within {timeout} s)")
        time.sleep(max(_PAUSE, min(time.monotonic() - before, _TURN)))
        now = time.monotonic()
        left -= min(now - before, _TURN)
        before = now
