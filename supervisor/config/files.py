"""Files that a user names: read within a deadline, and parsed as TOML or JSON.

A file may be a named pipe without a writer, a device without an end, or on a file system that hangs. Reading such a file must
block neither the other endpoints nor a signal. So a thread reads the file, and the caller waits for a bounded time.
"""

from __future__ import annotations

import errno
import json
import os
import select
import stat
import threading
import tomllib
from time import monotonic
from typing import Any, Final

import orjson

_CHUNK: Final = 1 << 20
_MARGIN: Final = 0.1
_stuck: dict[str, threading.Thread] = {}
"""Threads that did not read their file in time, by the path of the file. While such a thread runs, no caller waits for that
file."""


def read_file(path: str | os.PathLike[str], *, most: int, seconds: float, pipes: bool = True) -> bytes:
    """The content of a file of at most `most` bytes. Thread-safe.

    `pipes`: whether it may be one, or a device, which can be read once only. Raises `OSError`, each with its `strerror`:
    `TimeoutError` if `seconds` were not enough; `ValueError` for a path that is none.
    """
    name = os.path.abspath(path)  # noqa: PTH100 - a Path would not keep a NUL for `open` to refuse
    stuck = _stuck.get(name)
    if stuck is not None and stuck.is_alive():
        raise TimeoutError(errno.ETIMEDOUT, "an earlier attempt to read it has not ended: does its file system hang?")
    _stuck.pop(name, None)
    reading = _Reading(path, most, monotonic() + seconds, pipes=pipes)
    thread = threading.Thread(target=reading.run, name="wsadapter-file", daemon=True)
    try:
        thread.start()
    except RuntimeError as error:
        raise OSError(errno.EAGAIN, f"no thread can be started to read it: {error}") from error
    thread.join(seconds + _MARGIN)  # its error names what it waits for
    if thread.is_alive():
        _stuck[name] = thread
        raise TimeoutError(errno.ETIMEDOUT, f"it could not be read within {seconds:g} s: does its file system hang?")
    return reading.result()


class _Reading:
    """One file, read in a thread."""

    def __init__(self, path: str | os.PathLike[str], most: int, deadline: float, *, pipes: bool) -> None:
        self._path = path
        self._most = most
        self._deadline = deadline
        self._pipes = pipes
        self._error: OSError | ValueError | None = None
        self._found = bytearray()

    def run(self) -> None:
        """Read the file. An error is kept for `result`."""
        try:
            fd = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe without a writer opens at once
            try:
                self._read(fd)
            finally:
                os.close(fd)
        except (OSError, ValueError) as error:
            self._error = error

    def result(self) -> bytes:
        """The content. Raises the error of `run`."""
        if self._error is not None:
            raise self._error
        return bytes(self._found)

    def _read(self, fd: int) -> None:
        kind = os.fstat(fd).st_mode
        if not self._pipes and not stat.S_ISREG(kind) and not stat.S_ISDIR(kind):
            raise OSError(errno.EINVAL, "it is a pipe or a device, which can be read once only; name a regular file")
        if stat.S_ISFIFO(kind) and not self._await(fd):  # before a first writer opens the pipe, a read returns its end
            raise TimeoutError(errno.ETIMEDOUT, "nobody writes to this pipe")
        while chunk := self._next(fd):
            self._found += chunk
            if len(self._found) > self._most:
                raise OSError(errno.EFBIG, f"it is larger than {self._most:,} bytes")

    def _next(self, fd: int) -> bytes:
        while True:
            try:
                return os.read(fd, min(_CHUNK, self._most + 1 - len(self._found)))
            except BlockingIOError:  # the writer of a pipe has not closed it
                if not self._await(fd):
                    raise TimeoutError(errno.ETIMEDOUT, "the pipe has no end: its writer keeps it open") from None

    def _await(self, fd: int) -> bool:
        """Whether there is something to read, or its end, in time."""
        waiting = select.poll()
        waiting.register(fd, select.POLLIN)
        return bool(waiting.poll(max(0.0, self._deadline - monotonic()) * 1000))


def parse_json(text: str | bytes) -> Any:
    """The value of a text; integers of any size are kept. Raises `ValueError` for every fault, and
    for what owners, which use orjson, do not read: NaN, infinities, lone surrogates."""
    try:
        value = json.loads(text)
        orjson.loads(text)
    except RecursionError:
        raise ValueError("nested too deep") from None
    return value


def parse_toml(text: str) -> dict[str, Any]:
    """The table that a text is. Raises `tomllib.TOMLDecodeError`, whatever is wrong with it."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        raise
    except RecursionError:
        raise tomllib.TOMLDecodeError("nested too deep") from None
    except Exception as error:  # such as an integer of more digits than Python converts
        raise tomllib.TOMLDecodeError(str(error)) from error
