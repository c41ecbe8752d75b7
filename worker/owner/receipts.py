"""What is to be reported of frames once the kernel has all of them. Pure."""

from __future__ import annotations

from typing import Final

from wsadapter.contract.ipc.reports import Report

_OURS: Final = 1 << 63
"""Above all refs that a supervisor gives."""


def is_ours(ref: int) -> bool:
    """True if an owner gave this ref, this one or a previous owner of the connection, and not the supervisor."""
    return ref >= _OURS


class Receipts:
    """Those of one owner. Not thread-safe."""

    def __init__(self) -> None:
        self._last = _OURS
        self._due: dict[int, Report] = {}

    def ref(self, report: Report) -> int:
        """The ref to send a frame with, so that `taken` returns the report."""
        self._last += 1
        self._due[self._last] = report
        return self._last

    def taken(self, ref: int) -> Report | None:
        """The kernel has all of the frame of one of our refs; None: a previous owner began it, and its report is not known."""
        return self._due.pop(ref, None)
