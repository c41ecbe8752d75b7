"""The pipe that an owner writes its records into: messages, and reports between them (contract/ipc/record.py)."""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Final, Generic, Protocol, TypeVar

from wsadapter.contract.endpoint import Endpoint
from wsadapter.contract.ipc.record import MAX_RECORD, CorruptRecord, Record, RecordReader, SingleMessage
from wsadapter.contract.reasons import Reason
from wsadapter.loop import poller
from wsadapter.loop.reactor import Reactor

if TYPE_CHECKING:
    from wsadapter.process.deposits import Kept

logger = logging.getLogger("wsadapter.supervisor")

_MOST_DRAINED: Final = 4 << 20
"""The most bytes that are read after an owner has died: a grandchild may hold the pipe open, and continue to write."""
_RECORD_MARGIN: Final = 256 * 1024 * 1024
"""Bytes that a record may be longer than the longest messages of one read: tables, small messages, what a decode hook adds."""
_SET_PIPE_SIZE: Final[int | None] = getattr(fcntl, "F_SETPIPE_SZ", None)

P_contra = TypeVar("P_contra", contravariant=True)
P = TypeVar("P")


class RecordListener(Protocol[P_contra]):
    """Gets the records of a process of type `P`."""

    def on_record(self, process: P_contra, received: Record, /) -> None: ...
    def on_single(self, process: P_contra, single: SingleMessage, /) -> None:
        """As `on_record`, for a record that is one text message and nothing else."""
        ...


class DataPipe(Generic[P]):
    """The read end of one pipe. All methods under the reactor's lock."""

    def __init__(
        self, reactor: Reactor, process: P, listener: RecordListener[P], abort: Callable[[Reason], None], size: int
    ) -> None:
        """`process`: the process at the other end, which the listener gets with each record. `abort` is called for invalid
        bytes; nothing more is read then. `size`: bytes that the pipe should hold, if the kernel allows it; 0: the pipe keeps
        its size."""
        self.listener = listener
        self.records = RecordReader()
        self.torn = 0
        """Bytes of a record that was not finished when the process died."""
        self.kept: Kept | None = None
        """What of this pipe outlives the supervisor; None: nothing does."""
        self.keeper: Callable[[P, Endpoint], Kept | None] | None = None
        """Deposits the process with the keeper; None: there is none."""
        self._readv: Callable[[int, tuple[memoryview]], int] = os.readv
        self._reactor = reactor
        self._process = process
        self._abort = abort
        self._size = size
        self._end: Connection | None = None
        self._fd = -1
        self._paused = False

    def open(self, end: Connection, records: RecordReader | None = None) -> None:
        """Read from `end` once `watch` is called. `records`: the reader, if another supervisor has read a part of the
        stream."""
        self._end, self._fd = end, end.fileno()
        os.set_blocking(self._fd, False)
        if records is not None:
            self.records = records
        if self._size:
            _enlarge(self._fd, self._size)

    def fileno(self) -> int:
        """The descriptor, to be given to another supervisor; -1 if it is not open."""
        return self._fd

    def expect(self, endpoint: Endpoint) -> None:
        """The process serves this endpoint from now on."""
        # Without a limit, a wrong length would silently take everything after it as one record.
        self.records = RecordReader(limit=min(MAX_RECORD, 2 * endpoint.max_message + _RECORD_MARGIN))

    def continue_at(self, position: int, tail: bytes) -> None:
        """The process continues the stream of a dead one. `tail`: the bytes of an unfinished message before `position`."""
        self.records = RecordReader(limit=self.records.limit, position=position, tail=tail)

    def watch(self) -> None:
        """Read from the pipe, unless it is paused."""
        if self._end is not None:
            read = self.read if self.kept is None else self._read_kept
            self._reactor.dispatcher.register(self._fd, read, 0 if self._paused else poller.READ)

    def unwatch(self) -> None:
        """Stop reading; new bytes stay in the pipe."""
        self._reactor.dispatcher.unregister(self._fd)

    def pause(self) -> None:
        """Read nothing more; the process stops reading its socket when the pipe is full."""
        self._paused = True
        self._wait_for(0)

    def resume(self) -> None:
        """Read again. Does nothing if the pipe is not paused."""
        if self._paused:
            self._paused = False
            self._wait_for(poller.READ)

    def _wait_for(self, events: int) -> None:
        if self._reactor.dispatcher.is_registered(self._fd):
            self._reactor.dispatcher.modify(self._fd, events)

    def read(self, _events: int = poller.READ) -> int:
        """Read once. Returns the number of bytes."""
        fd, records = self._fd, self.records
        try:
            size = self._readv(fd, (records.room,))
        except BlockingIOError:
            return 0
        except OSError as error:
            if self.kept is None:
                raise
            self.kept.give_up(error)
            self.keep(None)
            return 0
        if not size:
            self._reactor.dispatcher.unregister(fd)
            return 0
        try:
            single = records.single(size)
            if single is not None:
                self.listener.on_single(self._process, single)
                return size
            for received in records.advance(size):
                self.listener.on_record(self._process, received)
        except CorruptRecord as error:
            self._reactor.dispatcher.unregister(fd)
            self._abort(Reason(kind="corrupt", text=str(error)))
        except MemoryError:  # only this message is too large: the messages of other owners are smaller
            self._reactor.dispatcher.unregister(fd)
            self.records = RecordReader()  # frees what was read of the message
            self._abort(Reason(kind="overflow", text="the supervisor has no memory for its message: lower `max_message`"))
        return size

    def deposit(self, endpoint: Endpoint) -> None:
        """The process is about to serve this endpoint, or serves it: from now on it outlives the supervisor, if there is a
        keeper."""
        if self.keeper is not None and self.kept is None:
            self.keep(self.keeper(self._process, endpoint))

    def keep(self, kept: Kept | None) -> None:
        """What is read from now on outlives the supervisor; None: what is read does not."""
        self.kept = kept
        self._readv = os.readv if kept is None else kept.log.readv
        if self._reactor.dispatcher.is_registered(self._fd):
            self.unwatch()
            self.watch()

    def _read_kept(self, _events: int = poller.READ) -> int:
        size, kept = self.read(), self.kept
        if kept is not None and kept.log.end >= kept.due and not kept.mark():
            self.keep(None)
        return size

    def drain(self) -> None:
        """Read everything that a dead process has written, also if the pipe is paused."""
        left = _MOST_DRAINED
        while left > 0 and self._reactor.dispatcher.is_registered(self._fd) and (size := self.read()):
            left -= size
        self.torn = self.records.torn

    def close(self) -> None:
        """Close the end, and drop the references to callbacks. `records` stays as it is."""
        self.unwatch()
        if self.kept is not None:
            self.kept.close()
            self.kept = None
        if self._end is not None:
            self._end.close()
            self._end, self._fd = None, -1
        if hasattr(self, "_process"):
            # No cycle: otherwise the pipe, its process and the buffer are freed only when the garbage collector runs.
            del self._process, self.listener, self._abort


def _enlarge(pipe: int, size: int) -> None:
    """Enlarge a pipe if the kernel allows it: it bounds the pipes of a user in total. A smaller pipe is slower, nothing
    else."""
    if _SET_PIPE_SIZE is None:
        return
    try:
        fcntl.fcntl(pipe, _SET_PIPE_SIZE, size)
    except OSError as error:
        logger.debug("a pipe keeps its size: %s", error)
