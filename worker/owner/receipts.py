"""The reports to write about frames once the kernel has them. Pure."""

from __future__ import annotations

from typing import Final

from wsadapter.contract.ipc.reports import Report

_OURS: Final = 1 << 63
"""Larger than every ref of a supervisor."""


def is_ours(ref: int) -> bool:
    """True if the ref was made by an owner, this one or a previous owner of the connection, and not by the supervisor."""
    return ref >= _OURS


class Receipts:
    """The receipts of one owner. Not thread-safe."""

    def __init__(self) -> None:
        self._last = _OURS
        self._due: dict[int, Report] = {}

    def ref(self, report: Report) -> int:
        """The ref to send a frame with, so that `taken` returns the report."""
        self._last += 1
        self._due[self._last] = report
        return self._last

    def taken(self, ref: int) -> Report | None:
        """The report of a frame that the kernel has now; None: a previous owner began the frame, and its report is not
        known."""
        return self._due.pop(ref, None)
