"""JSON lines in files: rotated by time and size, compressed when they are complete, exactly once.

    write ──> lines wait in memory ──flush──> files ──fsync──> the position file: position, and the size of each open file
                                                                └── complete files: compressed, then removed

A kill at any instant leaves files that may be longer than the sizes in the position file. `open` cuts them to the size that
belongs to the position, so each file ends with a whole line, and what comes next is written once. A new file is entered in the
position file, with size 0, before it is made.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from wsadapter.config.output_path import PathTemplate
from wsadapter.contract.items import Batch, Started
from wsadapter.journal.folder import write_whole
from wsadapter.outputs.lines import batch_lines, event_line
from wsadapter.sinks.base import Position, SinkBatch, SinkError, SinkMisconfigured, SinkRecord, TargetFull

_ENOUGH: Final = 1024 * 1024
"""Bytes of lines that wait in memory, about."""
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_CHUNK: Final = 1024 * 1024
_MOST_OPEN: Final = 128
"""Descriptors that are kept open; more files than that are opened for each write."""


@dataclass(slots=True, eq=False)
class LineFile:
    """One file that is not complete."""

    path: str
    base: str
    """Its path without the number that the rotation by size adds."""
    dated: str
    part: int
    size: int = 0
    """Bytes that belong to the position."""
    fd: int | None = None
    waiting: list[bytes] = field(default_factory=list)
    waiting_size: int = 0

    def add(self, lines: bytes) -> None:
        self.waiting.append(lines)
        self.waiting_size += len(lines)

    def close(self) -> None:
        if self.fd is not None:
            os.close(self.fd)
            self.fd = None


def numbered(base: str, part: int) -> str:
    """The path of a part: "prices.jsonl", "prices.1.jsonl", "prices.2.jsonl"."""
    path = Path(base)
    return base if part == 0 else str(path.with_name(f"{path.stem}.{part}{path.suffix}"))


def position_file(template: str, name: str) -> Path:
    """Path of the position file: in the last folder of the path that all files share."""
    folder = Path(template).parent
    while any(mark in str(folder) for mark in "%{"):
        folder = folder.parent
    return folder / f".{name}.position.json"


def zstd_module() -> ModuleType:
    """The module that compresses. Raises `SinkMisconfigured`."""
    try:
        from compression import zstd  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        try:
            from backports import zstd
        except ImportError:
            raise SinkMisconfigured(
                'compression = "zstd" needs backports.zstd before CPython 3.14: pip install "wsadapter[zstd]"'
            ) from None
    module: ModuleType = zstd
    return module


class JsonlSink:
    """The sink `kind = "jsonl"`."""

    def __init__(self, name: str, path: str, *, rotate_bytes: int = 0, compression: str = "none") -> None:
        """`path`: `{endpoint}` and strftime fields (UTC) are filled in. `rotate_bytes`: 0: no limit."""
        self._template = PathTemplate(path)
        self._rotate_bytes = rotate_bytes
        self._zstd = zstd_module() if compression == "zstd" else None
        self._store = position_file(path, name)
        self._position: Position | None = None
        self._after: Position | None = None
        """Of the last written record."""
        self._files: dict[str, LineFile] = {}
        """Those that are not complete, by `base`."""
        self._entered: set[str] = set()
        """Paths in the position file."""
        self._complete: list[LineFile] = []
        """Since the last flush."""
        self._clock = 0
        """Wall-clock ns of the newest item: it dates the files, so a file that is complete is never opened again."""
        self._started = b""
        """The line with the run, which each file begins with."""
        self._size = 0

    # -- opening ---------------------------------------------------------------------------------------------------------

    def open(self, position: Position) -> Position:
        """Cut the files to what belongs to the stored position. Raises `SinkError`."""
        try:
            self._store.parent.mkdir(parents=True, exist_ok=True)
            said = self._read_store()
            if said is not None:
                position = Position.from_json(said["position"])
                self._clock, self._started = int(said["clock"]), str(said["started"]).encode()
                for path, base, dated, part, size in said["files"]:
                    self._restore(LineFile(path, base, dated, part, size))
                self._compress(said["complete"])
        except OSError as error:
            raise failure(error, self._store.parent) from error
        except (ValueError, KeyError, TypeError) as error:
            raise SinkMisconfigured(
                f"{self._store} is not a position file of this version ({error!r}); remove it, and the files of its sink"
            ) from error
        self._position = self._after = position
        return position

    def _read_store(self) -> Any:
        try:
            return json.loads(self._store.read_bytes())
        except FileNotFoundError:
            return None

    def _restore(self, file: LineFile) -> None:
        """Cut a file to its size in the position file. A file without a size is removed. A file that somebody removed begins
        anew."""
        path = Path(file.path)
        there = path.stat().st_size if path.exists() else None
        if not file.size:
            path.unlink(missing_ok=True)
        elif there is not None and there < file.size:
            raise SinkMisconfigured(
                f"{path} has {there} bytes, and had {file.size}: it was changed. Move it, and it begins anew"
            )
        elif there is not None:
            os.truncate(path, file.size)
            self._files[file.base] = file
            self._entered.add(file.path)

    # -- writing ---------------------------------------------------------------------------------------------------------

    def write(self, batch: SinkBatch) -> None:
        """Keep the lines; written if there are many. Raises `SinkError`."""
        for record in batch.records:
            self._add(record)
        self._after = batch.after
        if self._size >= _ENOUGH:
            self.flush()

    def _add(self, record: SinkRecord) -> None:
        item = record.item
        lines = batch_lines(item) if isinstance(item, Batch) else event_line(item)
        if isinstance(item, Started):
            self._started = lines
        self._clock = max(self._clock, record.at)
        if item.endpoint or not self._template.by_endpoint:
            self._put(self._file(item.endpoint), lines)
        else:  # it concerns the whole supervisor: into the file of each endpoint
            self._template.fill("", self._clock)
            self._retire_older()
            for file in list(self._files.values()):
                self._put(file, lines)

    def _put(self, file: LineFile, lines: bytes) -> None:
        if not file.size and not file.waiting and lines != self._started and self._started:
            file.add(self._started)
        file.add(lines)
        self._size += len(lines)
        if self._rotate_bytes and file.size + file.waiting_size >= self._rotate_bytes:
            self._complete.append(file)
            self._files[file.base] = self._new_file(file.base, file.dated, file.part + 1)

    def _file(self, endpoint: str) -> LineFile:
        base = self._template.fill(endpoint, self._clock)
        file = self._files.get(base)
        if file is None:
            self._retire_older()
            file = self._files[base] = self._new_file(base, self._template.dated, 0)
        return file

    def _retire_older(self) -> None:
        """Another hour, or day, has begun: the files of the one before are complete."""
        for base, file in list(self._files.items()):
            if file.dated != self._template.dated:
                self._complete.append(file)
                del self._files[base]

    def _new_file(self, base: str, dated: str, part: int) -> LineFile:
        """A file that is there and is none of ours stays as it is."""
        while (path := Path(numbered(base, part))).exists() or path.with_name(path.name + ".zst").exists():
            part += 1
        return LineFile(str(path), base, dated, part)

    # -- durable ---------------------------------------------------------------------------------------------------------

    def flush(self) -> None:
        """Write everything to the disk. Raises `SinkError`; then the position stays as it was."""
        if self._after is None or self._after == self._position:
            return
        files = [file for file in (*self._complete, *self._files.values()) if file.waiting]
        before = [(file.path, file.size) for file in files]
        try:
            if any(file.path not in self._entered for file in files):
                assert self._position is not None
                self._enter(self._position, [*self._complete, *files], ())
            for file in files:
                self._append(file)
            complete = [file.path for file in self._complete]
            self._enter(self._after, (), complete)
        except OSError as error:
            for path, size in before:
                _cut(path, size)
            raise failure(error, self._store.parent) from error
        self._position, self._size = self._after, 0
        for file in self._complete:
            file.close()
        self._complete.clear()
        try:
            self._compress(complete)
        except OSError as error:
            raise failure(error, self._store.parent) from error

    def _append(self, file: LineFile) -> None:
        if file.fd is None:
            Path(file.path).parent.mkdir(parents=True, exist_ok=True)
            file.fd = os.open(file.path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666)
        at = file.size
        with memoryview(b"".join(file.waiting)) as data:
            written = 0
            while written < len(data):
                written += os.pwrite(file.fd, data[written:], at + written)
        os.fsync(file.fd)
        file.size += file.waiting_size
        file.waiting, file.waiting_size = [], 0
        if len(self._files) > _MOST_OPEN:
            file.close()

    def _enter(self, position: Position, new: Sequence[LineFile], complete: Iterable[str]) -> None:
        """Write the position file. `new`: files that are about to be made. `complete`: those to be compressed."""
        files = {file.path: file for file in (*self._files.values(), *new) if file.size or file in new}
        said: Mapping[str, Any] = {
            "position": position.to_json(), "clock": self._clock, "started": self._started.decode(),
            "files": [[file.path, file.base, file.dated, file.part, file.size] for file in files.values()],
            "complete": list(complete),
        }  # fmt: skip
        write_whole(self._store, json.dumps(said).encode())
        self._entered = set(files)

    def _compress(self, paths: Iterable[str]) -> None:
        """Compress complete files; also those of a process that was killed meanwhile."""
        if self._zstd is None:
            return
        for path in map(Path, paths):
            if not path.exists():
                continue
            fresh, final = path.with_name(f".{path.name}.zst.new"), path.with_name(path.name + ".zst")
            with open(path, "rb") as plain, self._zstd.open(fresh, "wb") as packed:
                shutil.copyfileobj(plain, packed, _CHUNK)
            with open(fresh, "rb") as packed:
                os.fsync(packed.fileno())
            fresh.replace(final)
            path.unlink()

    @property
    def position(self) -> Position:
        """The position that is on the disk."""
        assert self._position is not None
        return self._position

    def close(self) -> None:
        """Close the files."""
        for file in (*self._files.values(), *self._complete):
            file.close()


def _cut(path: str, size: int) -> None:
    """Let a file end with a whole line until the next process begins, which does the same in `open`."""
    with contextlib.suppress(OSError):  # the disk fails: so does `open`, with a reason
        os.truncate(path, size)


def failure(error: OSError, folder: Path) -> SinkError:
    """The reason for an error of the file system."""
    text = f"{error.filename or folder}: {error.strerror or error}"
    return TargetFull(text) if error.errno in _FULL else SinkError(text)
