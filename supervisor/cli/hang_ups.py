"""The meaning of a SIGHUP: a request to reload, or the end of the terminal. Pure.

The kernel and the shell send the signal to some processes of a terminal that ends, but not to one that was put into the
background and disowned. So the signal means the end of the terminal only if the terminal has just ended; later it means a
reload.
"""

from __future__ import annotations

from typing import Final, Literal

TOGETHER: Final = 1.0
"""Seconds between the end of the terminal and its signal, at most. The terminal is checked every second."""


def meaning(*, ignored: bool, gone_for: float | None) -> Literal["reload", "stop", "nothing"]:
    """`ignored`: the program was started so that hang-ups do not end it (nohup). `gone_for`: seconds since the controlling
    terminal ended; None: it has not ended, or there never was one."""
    if gone_for is None or gone_for > TOGETHER:
        return "reload"
    return "nothing" if ignored else "stop"
