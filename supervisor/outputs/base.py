"""What every output offers the runner, and how it fails."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Protocol

from wsadapter.contract.errors import WsAdapterError
from wsadapter.contract.items import Batch, Event


class OutputFailed(WsAdapterError):
    """The output can't be written: a full disk, a closed pipe, a lost file system."""

    def __init__(self, path: str, error: OSError, *, written: int, unwritten: int) -> None:
        self.path = path
        """"-" is standard output."""
        self.errno = error.errno
        self.written = written
        """Whole lines that the kernel has taken since the start, in all files."""
        self.unwritten = unwritten
        """Lines that were accepted and are not in the output, a half-written one included."""
        where = "standard output" if path == "-" else path
        reason = os.strerror(error.errno) if error.errno else str(error)
        lines = "1 line was" if unwritten == 1 else f"{unwritten} lines were"
        lost = f"{lines} not written, after {written} that were" if written or unwritten else "nothing was written"
        super().__init__(f"the output {where} failed: {reason}; {lost}")


class Output(Protocol):
    """What the runner writes to. One thread at a time."""

    written: int
    """Whole lines that the kernel has taken."""

    def write_batch(self, batch: Batch) -> None:
        """Take a batch; it may wait for `flush`. Raises `OutputFailed`, then and ever after."""

    def write_event(self, event: Event) -> None:
        """Take an event, like `write_batch`."""

    def continued(self, endpoints: Iterable[str]) -> Mapping[str, int | None]:
        """For each endpoint whose older output is continued, when its last message was received.

        In wall-clock ns; None: not known.
        """

    def flush(self) -> None:
        """Hand everything to the kernel. To be called when the stream goes idle, and at least every second."""

    def close(self) -> None:
        """Flush and close; a second time does nothing."""


class NullOutput:
    """For `kind = "none"`: counts lines and writes nothing."""

    def __init__(self) -> None:
        self.written = 0

    def write_batch(self, batch: Batch) -> None:
        """Count it."""
        self.written += len(batch)

    def write_event(self, event: Event) -> None:  # noqa: ARG002
        """Count it."""
        self.written += 1

    def continued(self, endpoints: Iterable[str]) -> Mapping[str, int | None]:  # noqa: ARG002
        """Nothing is."""
        return {}

    def flush(self) -> None:
        """Nothing waits."""

    def close(self) -> None:
        """Nothing is open."""
