"""Messages and reports into the pipe to the supervisor: sequence numbers, records, writes that never block.

A record is written with one `os.writev`: header and tables, then the bytes of the read as they are. What the pipe does not
take at once waits here, and while something waits (`backlog`) the owner reads no more data from its connection: an owner
never drops.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Collection, Sequence

from wsadapter.contract.commands import Report
from wsadapter.contract.record import BATCH, REPORT, encode_head
from wsadapter.worker.reader import Batch


class Outbox:
    """The write end of the pipe. Not thread-safe.

    Every method that writes raises `BrokenPipeError` when the supervisor has closed its end.
    """

    def __init__(self, fd: int) -> None:
        """`fd` must be non-blocking."""
        self._fd = fd
        self._sequence = 0
        self._waiting: deque[memoryview] = deque()
        self._filtered = 0

    @property
    def backlog(self) -> bool:
        """Whether something waits for the pipe to take it."""
        return bool(self._waiting)

    def filtered(self, count: int) -> None:
        """Counts messages that were removed; the next record carries the number."""
        self._filtered += count

    def tell_filtered(self) -> None:
        """Writes the number of removed messages if no record has told it yet."""
        if self._filtered:
            self._write(self._head(kind=BATCH, received_at=time.time_ns(), raw=0))

    def report(self, report: Report) -> None:
        """Writes a report at this place in the stream."""
        body = report.encode()
        self._write(self._head(kind=REPORT, received_at=time.time_ns(), raw=len(body)), body)

    def messages(
        self,
        batch: Batch,
        received_at: int,
        position: int,
        first: int,
        last: int,
        skipped: Collection[int] = (),
        streams: Sequence[int] | None = None,
    ) -> None:
        """Writes the messages `first` to `last` (exclusive) of a read, but those `skipped`.

        `position` is the stream position at the beginning of the batch's data. `streams` has an index, or 0, for each message
        of the whole batch.
        """
        if not skipped and not batch.joined and first == 0 and last == len(batch.starts):
            self._whole(batch, received_at, position, streams)
            return
        kept = [i for i in range(first, last) if i not in skipped]
        if not kept:
            return
        begin = batch.ends[first - 1] if first else 0
        end = batch.consumed if last == len(batch.starts) else batch.ends[last - 1]
        starts, ends, extra = [], [], []
        behind = end - begin
        for i in kept:
            joined = batch.joined.get(i)
            if joined is None:
                starts.append(batch.starts[i] - begin)
                ends.append(batch.ends[i] - begin)
            else:
                starts.append(behind)
                behind += len(joined)
                ends.append(behind)
                extra.append(joined)
        binary = set(batch.binary)
        head = self._head(
            kind=BATCH, received_at=received_at, position=position + end, starts=starts, ends=ends, raw=end - begin,
            extra=behind - (end - begin), binary=_kinds([i in binary for i in kept]),
            streams=None if streams is None else _indexes([streams[i] for i in kept]),
        )  # fmt: skip
        self._write(head, memoryview(batch.data)[begin:end], *extra)

    def _whole(self, batch: Batch, received_at: int, position: int, streams: Sequence[int] | None) -> None:
        binary: bool | Sequence[bool] = False
        if batch.binary:
            marked = set(batch.binary)
            binary = _kinds([i in marked for i in range(len(batch.starts))])
        raw = batch.consumed
        head = self._head(
            kind=BATCH, received_at=received_at, position=position + raw, starts=batch.starts, ends=batch.ends, raw=raw,
            binary=binary, streams=_indexes(streams),
        )  # fmt: skip
        self._write(head, batch.data if raw == len(batch.data) else memoryview(batch.data)[:raw])

    def payloads(
        self,
        payloads: Sequence[bytes],
        binary: Sequence[bool],
        received_at: int,
        position: int,
        streams: Sequence[int] | None = None,
    ) -> None:
        """Writes messages that are not a slice of what was read."""
        ends, total = [], 0
        for payload in payloads:
            total += len(payload)
            ends.append(total)
        head = self._head(
            kind=BATCH, received_at=received_at, position=position, starts=[0, *ends[:-1]], ends=ends, raw=0, extra=total,
            binary=_kinds(binary), streams=_indexes(streams),
        )  # fmt: skip
        self._write(head, b"".join(payloads))

    def flush(self) -> bool:
        """Writes what waits, as far as the pipe takes it; true when nothing is left."""
        while self._waiting:
            try:
                written = os.write(self._fd, self._waiting[0])
            except BlockingIOError:
                return False
            if written < len(self._waiting[0]):
                self._waiting[0] = self._waiting[0][written:]
            else:
                self._waiting.popleft()
        return True

    def _head(self, **fields: object) -> bytes:
        self._sequence += 1
        filtered, self._filtered = self._filtered, 0
        return encode_head(sequence=self._sequence, filtered=filtered, **fields)  # type: ignore[arg-type]

    def _write(self, *parts: bytes | memoryview) -> None:
        if self._waiting:
            self._waiting.extend(memoryview(part) for part in parts if part)
            return
        try:
            written = os.writev(self._fd, parts)
        except BlockingIOError:
            written = 0
        for part in parts:
            size = len(part)
            if written < size:
                self._waiting.append(memoryview(part)[written:])
            written = max(0, written - size)


def _kinds(binary: Sequence[bool]) -> bool | Sequence[bool]:
    """One flag for all, where all are the same."""
    if all(binary):
        return True
    return binary if any(binary) else False


def _indexes(streams: Sequence[int] | None) -> Sequence[int] | None:
    """None where no message has a stream: then the record needs no table."""
    return streams if streams is not None and any(streams) else None
