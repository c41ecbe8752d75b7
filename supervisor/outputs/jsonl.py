"""One JSON line per item, to standard output or to files.

Lines are gathered and handed to the kernel in one write when enough have come together, or at `flush`. `written`
counts whole lines that the kernel has taken, so that after an error nobody has to guess: what was accepted and is not
`written` is `unwritten`.
"""

from __future__ import annotations

import os
import select
import stat
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

from wsadapter.contract.items import Batch, Event, Gap, Started
from wsadapter.outputs import OutputFailed
from wsadapter.outputs.lines import batch_lines, event_line, last_received_at
from wsadapter.outputs.paths import PathTemplate

STDOUT: Final = "-"
MOST_OPEN_FILES: Final = 64
_ENOUGH: Final = 256 * 1024
_TAIL: Final = 1024 * 1024
_STDOUT_FD: Final = 1


class _Sink:
    """One open file with the lines that wait for it."""

    def __init__(self, path: str, fd: int, *, owned: bool) -> None:
        self.path = path
        self._fd = fd
        self._owned = owned
        self._waiting: list[bytes] = []
        self._size = 0

    def add(self, lines: bytes) -> bool:
        """Keep them; True says that it is time to write."""
        self._waiting.append(lines)
        self._size += len(lines)
        return self._size >= _ENOUGH

    def drain(self) -> Iterator[int]:
        """Write what waits; yields after each write how many lines it completed. Raises `OSError`."""
        data = memoryview(b"".join(self._waiting))
        self._waiting.clear()
        self._size = 0
        while data:
            taken = self._write(data)
            completed = bytes(data[:taken]).count(b"\n")
            data = data[taken:]
            if data:
                self._waiting = [bytes(data)]
            else:
                self._waiting.clear()
            yield completed

    def _write(self, data: memoryview) -> int:
        while True:
            try:
                return os.write(self._fd, data)
            except BlockingIOError:  # standard output may be a pipe that somebody else made non-blocking
                poller = select.poll()
                poller.register(self._fd, select.POLLOUT)
                poller.poll()

    def close(self) -> None:
        """Only the descriptor: what waits is drained before. Standard output stays open."""
        if self._owned:
            self._owned = False
            os.close(self._fd)


class JsonLines:
    """The JSON lines output. Not thread-safe. After an `OutputFailed` every call but `close` raises it again."""

    def __init__(self, path: str = STDOUT, *, most_open_files: int = MOST_OPEN_FILES) -> None:
        """`path`: "-" is standard output; `{endpoint}` and strftime fields (UTC) are filled in, by each item's own time.

        A path that is always the same file is opened at once: raises `OutputFailed` where that fails.
        """
        self.written = 0
        """Whole lines that the kernel has taken."""
        self._accepted = 0
        self._path = path
        self._template = PathTemplate(path)
        self._most = most_open_files
        self._open: OrderedDict[str, _Sink] = OrderedDict()
        self._started: Started | None = None
        self._current: dict[str, str] = {}
        self._failed: OutputFailed | None = None
        if path == STDOUT:
            self._open[STDOUT] = _Sink(STDOUT, _STDOUT_FD, owned=False)
        elif not (self._template.by_endpoint or self._template.by_time):
            self._sink(self._template.fill("", 0))

    # -- writing -----------------------------------------------------------------------------------------------------------

    def write_batch(self, batch: Batch) -> None:
        """One line per message. Raises `OutputFailed`."""
        if batch:
            self._put(batch.endpoint, batch.received_at, batch_lines(batch), len(batch))

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
        self._accepted += count
        path = self._template.fill(endpoint, at)
        self._current[endpoint] = path
        sink = self._sink(path)
        if sink.add(lines):
            self._drain(sink)

    def flush(self) -> None:
        """Hand all that waits to the kernel. Raises `OutputFailed`."""
        self._raise_failure()
        for sink in self._open.values():
            self._drain(sink)

    def close(self) -> None:
        """Flush and close. Raises `OutputFailed` unless that was raised before; the files are closed all the same."""
        try:
            if self._failed is None:
                self.flush()
        finally:
            while self._open:
                self._open.popitem()[1].close()

    def _raise_failure(self) -> None:
        if self._failed is not None:
            raise self._failed

    def _drain(self, sink: _Sink) -> None:
        try:
            for completed in sink.drain():
                self.written += completed
        except OSError as error:
            raise self._fail(sink.path, error) from error

    def _fail(self, path: str, error: OSError) -> OutputFailed:
        self._failed = OutputFailed(path, error, written=self.written, unwritten=self._accepted - self.written)
        return self._failed

    # -- files -------------------------------------------------------------------------------------------------------------

    def _sink(self, path: str) -> _Sink:
        if sink := self._open.get(path):
            self._open.move_to_end(path)
            return sink
        if self._path == STDOUT:
            return self._open[STDOUT]
        while len(self._open) >= self._most:
            _, oldest = self._open.popitem(last=False)
            self._drain_and_close(oldest)
        try:
            sink = self._open[path] = _Sink(path, _open_to_append(path), owned=True)
        except OSError as error:
            raise self._fail(path, error) from error
        return sink

    def _drain_and_close(self, sink: _Sink) -> None:
        try:
            self._drain(sink)
        finally:
            sink.close()

    # -- going on in older files -------------------------------------------------------------------------------------------

    def continued(self, endpoints: Iterable[str]) -> Mapping[str, int | None]:
        """For each of `endpoints` whose older output is continued, when its last message was received (wall-clock ns).

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
    """The gaps that a new run begins with where it goes on in older files, one for each of `continued`; `at` is now, in ns."""
    return [Gap(endpoint, epoch, at, "supervisor_restarted", last, None) for endpoint, last in continued.items()]


def _open_to_append(path: str) -> int:
    """The descriptor; parents are made, and a torn last line is ended."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    flags = os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
    kind = _kind_of(path)
    if kind is not None and not stat.S_ISREG(kind):
        return os.open(path, flags | os.O_WRONLY)  # a named pipe or a device: nothing in it to look at
    fd = os.open(path, flags | os.O_RDWR, 0o666)
    try:
        size = os.fstat(fd).st_size
        if size and os.pread(fd, 1, size - 1) != b"\n":
            os.write(fd, b"\n")
    except OSError:
        os.close(fd)
        raise
    return fd


def _kind_of(path: str) -> int | None:
    try:
        return Path(path).stat().st_mode
    except FileNotFoundError:
        return None


def _read_tail(file: Path) -> bytes:
    with open(file, "rb") as opened:
        opened.seek(max(0, file.stat().st_size - _TAIL))
        return opened.read(_TAIL)
