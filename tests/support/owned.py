"""A real owner process, with the test as its supervisor."""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import select
import socket
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from multiprocessing.forkserver import ensure_running
from typing import Any, Self

import pytest

from wsadapter.contract.endpoint import Endpoint
from wsadapter.contract.ipc.assignment import Assignment
from wsadapter.contract.ipc.bootstrap import run_owner
from wsadapter.contract.ipc.commands import ASSIGN, BEGUN, READY, STOP, Command, CommandReader, encode_command
from wsadapter.contract.ipc.record import BATCH, Record, RecordReader
from wsadapter.contract.ipc.rejoin import call_owner
from wsadapter.contract.ipc.reports import Report, parse_report
from wsadapter.contract.reasons import Reason

DEADLINE = 15.0
Item = bytes | Report


@pytest.fixture(scope="session", autouse=True)
def forkserver() -> None:
    """For modules that import it: multiprocessing's server and tracker run before a test looks for what it leaves behind."""
    multiprocessing.get_context("forkserver").set_forkserver_preload(["wsadapter.worker.preload"])
    ensure_running()


class Owned:
    """One owner process. As a context manager it leaves no process behind."""

    def __init__(self, method: str = "forkserver", *, packets: bool = False, rejoin: bool = False) -> None:
        """`packets`: what the owner writes at once, up to 4 KiB, is read as one, and kept in `writes` (pipe(2), O_DIRECT).
        `rejoin`: it gets a rejoin socket."""
        context = multiprocessing.get_context(method)
        data, data_end = context.Pipe(duplex=False)
        if packets:
            fcntl.fcntl(data_end.fileno(), fcntl.F_SETFL, os.O_DIRECT)
        control, control_end = context.Pipe(duplex=True)
        log, log_end = context.Pipe(duplex=False)
        ends: list[Any] = [data_end, control_end, log_end]
        self._rejoin: socket.socket | None = None
        if rejoin:
            self._rejoin, its_rejoin = socket.socketpair()
            ends.append(Connection(its_rejoin.detach()))
        self.process = context.Process(target=run_owner, args=tuple(ends), daemon=True)
        self.process.start()
        for end in ends:
            end.close()
        self._data, self._log = data, log
        self._control = socket.socket(fileno=os.dup(control.fileno()))
        self._control.settimeout(DEADLINE)
        control.close()
        self._records = RecordReader()
        self._commands = CommandReader()
        self._answers: list[Command] = []
        self._items: Iterator[Item] = self._read_items()
        self.records: list[Record] = []
        self.begun: list[int] = []
        """Refs of the commands that the owner has begun to send (BEGUN)."""
        self.writes: list[list[Record]] = []
        """The records that came with each read."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.is_alive():
            self.process.kill()
        self.process.join(DEADLINE)
        self.process.close()
        for end in (self._control, self._data, self._log, self._rejoin):
            if end is not None:
                end.close()

    @property
    def pid(self) -> int:
        assert self.process.pid is not None
        return self.process.pid

    def tell(self, kind: int, ref: int = 0, body: bytes | dict[str, Any] = b"") -> None:
        self._control.sendall(encode_command(kind, ref, body))

    def answer(self) -> Command:
        """The next frame the owner sends on the control socket; a BEGUN is passed over, and noted."""
        while True:
            while not self._answers:
                chunk = self._control.recv(65536)
                if not chunk:
                    raise EOFError("the owner closed the control socket")
                self._answers += self._commands.feed(chunk)
            answer = self._answers.pop(0)
            if answer.kind != BEGUN:
                return answer
            self.begun.append(answer.ref)

    def assign(self, endpoint: Endpoint, **ledger: Any) -> None:
        """Waits for READY and assigns."""
        assert self.answer().kind == READY
        self.tell(ASSIGN, 0, Assignment(endpoint=endpoint, epoch=1, url=endpoint.urls[0], **ledger).to_body())

    def stop(self, code: int = 1000, kind: str = "stopped") -> None:
        self.tell(STOP, 0, {"code": code, "kind": kind})

    def hang_up(self) -> None:
        """The control socket ends, as when the supervisor dies."""
        self._control.close()

    def call(self, number: int) -> None:
        """Another supervisor calls the owner; from here on the test is that supervisor. The socket of the one before is closed
        then."""
        assert self._rejoin is not None
        control = call_owner(self._rejoin, number)
        control.settimeout(DEADLINE)
        self._control.close()
        self._control, self._commands = control, CommandReader()
        self._answers.clear()

    def end_rejoin(self) -> None:
        """The other end of the rejoin socket is closed, as when the keeper dies."""
        assert self._rejoin is not None
        self._rejoin.close()

    def tell_part(self, data: bytes) -> None:
        """Bytes that are no whole command."""
        self._control.sendall(data)

    def hand(self, kind: int, body: dict[str, Any], sock: socket.socket) -> None:
        """A command with a duplicate of `sock`."""
        socket.send_fds(self._control, [encode_command(kind, 0, body)], [sock.fileno()])

    def stop_reading(self) -> None:
        """The pipe's other end is closed, as when the supervisor dies."""
        self._data.close()

    def next(self) -> Item:
        """The next message or report but stages; `EOFError` behind the last."""
        item = next(self._items, None)
        if item is None:
            raise EOFError("the owner closed its pipe")
        return item

    def message(self) -> bytes:
        """The next item, which must be a message."""
        item = self.next()
        assert isinstance(item, bytes), item
        return item

    def messages(self, count: int) -> list[bytes]:
        return [self.message() for _ in range(count)]

    def report(self, event: str) -> dict[str, Any]:
        """The fields of the next item, which must be this report."""
        item = self.next()
        assert isinstance(item, Report), item
        assert item.event == event, item
        return item.fields

    def up(self) -> dict[str, Any]:
        """Waits until the connection is up and all is restored."""
        fields = self.report("up")
        self.report("restored")
        return fields

    def down(self) -> Reason:
        """The reason of the end, which must be next, and be the last word of a process that ends with 0."""
        reason = Reason.from_json(self.report("down")["reason"])
        try:
            item = self.next()
        except EOFError:
            pass
        else:
            raise AssertionError(f"after the down report came {item!r}")
        assert self.exit_code() == 0
        return reason

    def exit_code(self) -> int | None:
        self.process.join(DEADLINE)
        assert not self.process.is_alive(), "the owner does not leave"
        return self.process.exitcode

    def printed(self) -> str:
        """The output until the end of the process."""
        self.exit_code()
        parts = []
        while chunk := os.read(self._log.fileno(), 65536):
            parts.append(chunk)
        return b"".join(parts).decode()

    def _read_items(self) -> Iterator[Item]:
        deadline = time.monotonic() + DEADLINE
        while True:
            ready, _, _ = select.select([self._data.fileno()], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise AssertionError("nothing more from the owner")
            chunk = os.read(self._data.fileno(), 1 << 20)
            if not chunk:
                assert not self._records.torn
                return
            came = list(self._records.feed(chunk))
            self.writes.append(came)
            for record in came:
                self.records.append(record)
                deadline = time.monotonic() + DEADLINE
                if record.kind == BATCH:
                    yield from record.payloads
                    continue
                report = parse_report(record.report)
                if report.event != "stage":
                    yield report
