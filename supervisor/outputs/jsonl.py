"""One JSON line per item, to standard output or to files.

Lines are collected and written together when there are enough of them, or at `flush`. `written` counts whole lines that the
kernel has accepted. So the outcome of an error is known: lines that were accepted here and are not `written` are `unwritten`.
"""

from __future__ import annotations

from codecs import BOM_UTF8
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from wsadapter.config.output_path import PathTemplate
from wsadapter.contract.items import Batch, Dropped, Event, Gap, Started
from wsadapter.outputs.base import OutputFailed
from wsadapter.outputs.files import OpenFiles, OutputFile, allowed_files
from wsadapter.outputs.lines import batch_lines, event_line, last_received_at

STDOUT: Final = "-"
_TAIL: Final = 1024 * 1024
_STDOUT_FD: Final = 1


class JsonLines:
    """The JSON lines output. Not thread-safe. After an `OutputFailed` every call but `close` raises it again."""

    def __init__(self, path: str = STDOUT, *, most_open_files: int | None = None) -> None:
        """`path`: "-" is standard output; `{endpoint}` and strftime fields (UTC) are filled in, by each item's own time.
        `most_open_files`: at a time; None: a quarter of what the process may have open.

        If the path is always the same file, it is opened at once. Raises `OutputFailed` if that fails.
        """
        self.written = 0
        """Whole lines that the kernel has taken."""
        self._accepted = 0
        self._path = path
        self._template = PathTemplate(path)
        self._files = OpenFiles(allowed_files() if most_open_files is None else most_open_files)
        self._sinks: dict[str, OutputFile] = {}
        """By path."""
        self._full: dict[OutputFile, None] = {}
        """The sinks for which lines wait, in the order of their first lines."""
        self._period, self._newest = self._template.dated, 0
        """The path's date of the newest item, and the time of the first item of that date."""
        self._turned = False
        """Files of other dates may be open."""
        self._started: Started | None = None
        self._current: dict[str, str] = {}
        self._failed: OutputFailed | None = None
        if path == STDOUT:
            self._sinks[STDOUT] = OutputFile(STDOUT, self._period, fd=_STDOUT_FD)
        elif not (self._template.by_endpoint or self._template.by_time):
            self._open(self._sink(self._template.fill("", 0), self._period))

    # -- writing -----------------------------------------------------------------------------------------------------------

    def write_batch(self, batch: Batch) -> None:
        """One line per message. Raises `OutputFailed`."""
        if not batch:
            return
        try:
            self._put(batch.endpoint, batch.received_at, batch_lines(batch), len(batch))
        except MemoryError:  # an address-space limit, and a message of many MiB
            self._write_apart(batch)

    def _write_apart(self, batch: Batch) -> None:
        """Write each message separately; a message for which there is no memory becomes the line of a `Dropped`."""
        self.flush()
        for endpoint, data, epoch, number, at, stream, binary in batch.around(iter(batch)):
            one = Batch(endpoint, [data], epoch=epoch, first_number=number, received_at=at, binary=binary, streams=[stream])
            try:
                self._put(endpoint, at, batch_lines(one), 1)
            except MemoryError:
                dropped = Dropped(endpoint, epoch, at, number, number, 1, len(data), "memory")
                self._put(endpoint, at, event_line(dropped), 1)

    def write_event(self, event: Event) -> None:
        """One line. Raises `OutputFailed`.

        With `{endpoint}` in the path, what concerns the whole supervisor goes to every endpoint's file.
        """
        line = event_line(event)
        if event.endpoint or not self._template.by_endpoint:
            self._put(event.endpoint, event.at, line, 1)
        elif isinstance(event, Started):
            self._started = event  # the first line of each endpoint's file, once there is one
        else:
            for endpoint in list(self._current):
                self._put(endpoint, event.at, line, 1)

    def _put(self, endpoint: str, at: int, lines: bytes, count: int) -> None:
        self._raise_failure()
        if self._started is not None and endpoint not in self._current:
            lines, count = event_line(self._started) + lines, count + 1
        path, period = self._template.fill(endpoint, at), self._template.dated
        if period != self._period:
            self._turn(period, at)
        self._current[endpoint] = path
        sink = self._sink(path, period)
        self._full[sink] = None
        is_due = sink.add(lines)
        self._accepted += count
        if is_due:
            self._drain(sink)
            del self._full[sink]

    def flush(self) -> None:
        """Hand all that waits to the kernel, and close the files of an hour or a day that is over. Raises `OutputFailed`."""
        self._raise_failure()
        for sink in self._full:
            self._drain(sink)
        self._full.clear()
        if self._turned:
            self._retire()

    def close(self) -> None:
        """Flush and close. Raises `OutputFailed` unless that was raised before; the files are closed all the same."""
        try:
            if self._failed is None:
                self.flush()
        finally:
            while self._sinks:
                self._files.close(self._sinks.popitem()[1])

    def _raise_failure(self) -> None:
        if self._failed is not None:
            raise self._failed

    def _open(self, sink: OutputFile) -> None:
        try:
            self._files.open(sink)
        except OSError as error:
            raise self._fail(sink.path, error) from error

    def _drain(self, sink: OutputFile) -> None:
        self._open(sink)
        try:
            for completed in sink.drain():
                self.written += completed
        except OSError as error:
            raise self._fail(sink.path, error) from error

    def _fail(self, path: str, error: OSError) -> OutputFailed:
        self._failed = OutputFailed(path, error, written=self.written, unwritten=self._accepted - self.written)
        return self._failed

    # -- files -------------------------------------------------------------------------------------------------------------

    def _sink(self, path: str, period: str) -> OutputFile:
        sink = self._sinks.get(path)
        if sink is None:
            sink = self._sinks[path] = OutputFile(path, period)
        return sink

    def _turn(self, period: str, at: int) -> None:
        """An item of another period comes. A late item is written to its own file, which is closed again at the next flush."""
        self._turned = True
        if at > self._newest:
            self._period, self._newest = period, at

    def _retire(self) -> None:
        """Close the files of other periods than the newest item's; nothing waits for them."""
        self._turned = False
        for path, sink in list(self._sinks.items()):
            if sink.period != self._period:
                self._files.close(sink)
                del self._sinks[path]

    # -- going on in older files -------------------------------------------------------------------------------------------

    def continued(self, endpoints: Iterable[str]) -> Mapping[str, int | None]:
        """For each of `endpoints` whose older output is continued: the time when its last message was received (wall-clock ns).

        None: not known, its last line lies more than 1 MiB before the end. To be asked before the first line is
        written. With a date in the path, the newest file counts. Standard output is never continued: it can't be
        read. Raises `OutputFailed`.
        """
        found: dict[str, int | None] = {}
        tails: dict[Path, dict[str, int]] = {}
        for endpoint in endpoints if self._path != STDOUT else ():
            try:
                file = next((f for f in reversed(self._template.series(endpoint)) if f.stat().st_size), None)
                if file is not None:
                    if file not in tails:
                        tails[file] = last_received_at(_read_tail(file))
                    found[endpoint] = tails[file].get(endpoint)
            except OSError as error:
                raise self._fail(str(error.filename or self._path), error) from error
        return found


def continuation_gaps(continued: Mapping[str, int | None], *, at: int, epoch: int = 1) -> list[Gap]:
    """The gaps with which a new run begins if it continues older files, one for each of `continued`; `at` is now, in ns."""
    return [Gap(endpoint, epoch, at, "supervisor_restarted", last, None) for endpoint, last in continued.items()]


def _read_tail(file: Path) -> bytes:
    with open(file, "rb") as opened:
        begin = opened.seek(max(0, file.stat().st_size - _TAIL))
        tail = opened.read(_TAIL)
        return tail if begin else tail.removeprefix(BOM_UTF8)
