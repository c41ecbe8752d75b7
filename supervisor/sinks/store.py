"""The files of a sink process in the journal's folder: its lock, and the last position that it has stored.

JOURNAL/sinks/NAME.lock     held (flock) by the process; its content names that process
JOURNAL/sinks/NAME.json     the position
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
from pathlib import Path
from time import monotonic, sleep
from typing import Final

import psutil

from wsadapter.contract.errors import JournalError
from wsadapter.journal.folder import write_whole
from wsadapter.sinks.base import Position, SinkInUse

logger = logging.getLogger("wsadapter.sinks")

FOLDER: Final = "sinks"
_PATIENCE: Final = 7.0
"""Seconds for the previous process to end by itself: longer than it may take to write the rest of the journal."""
_KILLED_WITHIN: Final = 3.0


class SinkStore:
    """The files of one sink, while this process has the lock."""

    def __init__(self, journal: Path, name: str, patience: float = _PATIENCE) -> None:
        """Raises `SinkInUse`, `JournalError`."""
        self._folder = journal / FOLDER
        self._file = self._folder / f"{name}.json"
        try:
            self._folder.mkdir(exist_ok=True)
            self._fd = os.open(self._folder / f"{name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise JournalError(f"{self._folder}: the position of the sink cannot be kept: {error.strerror}") from error
        try:
            self._lock(name, patience)
        except BaseException:
            os.close(self._fd)
            raise

    def _lock(self, name: str, patience: float) -> None:
        """Only the supervisor that holds the journal's lock starts sinks, so another process of this sink is left over from a
        supervisor that has ended. If that process does not end by itself (it is stopped, or hangs), it is killed."""
        if not self._is_free_within(patience):
            self._kill_holder(name)
            if not self._is_free_within(_KILLED_WITHIN):
                raise SinkInUse(f"sink {name}: {self._holder_text()} holds it and does not end; end that process")
        said = {"pid": os.getpid(), "began": psutil.Process().create_time()}
        content = json.dumps(said).encode() + b"\n"
        os.pwrite(self._fd, content, 0)
        os.ftruncate(self._fd, len(content))

    def _is_free_within(self, patience: float) -> bool:
        deadline = monotonic() + patience
        while True:
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if monotonic() >= deadline:
                    return False
                sleep(0.02)
            else:
                return True

    def _holder(self) -> tuple[int, float] | None:
        try:
            said = json.loads(os.pread(self._fd, 4096, 0))
            return int(said["pid"]), float(said["began"])
        except (ValueError, TypeError, KeyError):
            return None

    def _holder_text(self) -> str:
        holder = self._holder()
        return "another process" if holder is None else f"process {holder[0]}"

    def _kill_holder(self, name: str) -> None:
        holder = self._holder()
        if holder is None:
            return
        pid, began = holder
        try:
            process = psutil.Process(pid)
            if process.create_time() == began:  # otherwise the pid belongs to another process by now
                logger.warning("sink %s: process %d of an earlier supervisor did not end; it is killed", name, pid)
                process.kill()
        except psutil.Error as error:
            logger.warning("sink %s: process %d could not be killed: %s", name, pid, error)

    def load(self) -> Position | None:
        """The last position; None: there is none."""
        try:
            return Position.from_json(json.loads(self._file.read_bytes()))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            logger.warning("%s cannot be read (%s): the sink continues from the position in its target", self._file, error)
            return None

    def save(self, position: Position) -> None:
        """Keep a position that is durable in the target. A full disk does not end the sink, because the target has the
        position."""
        try:
            write_whole(self._file, json.dumps(position.to_json()).encode())
        except OSError as error:
            logger.warning("%s cannot be written: %s", self._file, error)

    def close(self) -> None:
        """Release the lock."""
        os.close(self._fd)
