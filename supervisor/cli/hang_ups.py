"""What a SIGHUP means: somebody wants a reload, or the terminal has gone. Pure.

The kernel and the shell send it when a terminal ends, to some of its processes: not to one that was put into the background and
disowned. So the signal means the end of the terminal only if that has just ended; later on it is a person's.
"""

from __future__ import annotations

from typing import Final, Literal

TOGETHER: Final = 1.0
"""Seconds within which the end of the terminal is seen and the signal for it is heard. The end is looked for every second."""


def meaning(*, ignored: bool, gone_for: float | None) -> Literal["reload", "stop", "nothing"]:
    """`ignored`: the program was started so that hang-ups do not end it (nohup). `gone_for`: seconds since the controlling
    terminal ended; None: it is there, or there never was one."""
    if gone_for is None or gone_for > TOGETHER:
        return "reload"
    return "nothing" if ignored else "stop"
