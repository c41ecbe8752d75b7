"""An owner's phases without a process: the test is the supervisor, and the peer of the connection. Pipe and sockets are
real."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Sequence
from typing import Any

from wsadapter.contract.endpoint import Endpoint
from wsadapter.contract.ipc.assignment import Assignment, Resume
from wsadapter.contract.ipc.command_socket import CommandSocket
from wsadapter.contract.ipc.commands import SUBSCRIBE, Command, encode_command
from wsadapter.contract.ipc.record import REPORT, Record, RecordReader
from wsadapter.contract.ipc.reports import Report, parse_report
from wsadapter.worker.hooks.decode_thread import Hook
from wsadapter.worker.loop.wakeup import Wakeup
from wsadapter.worker.owner.commands import execute
from wsadapter.worker.owner.connect_thread import Opened
from wsadapter.worker.owner.idle import Idle
from wsadapter.worker.owner.phase import Host
from wsadapter.worker.owner.serving import Serving
from wsadapter.worker.websocket.byte_stream import PlainByteStream
from wsadapter.worker.websocket.connection import Established
from wsadapter.worker.websocket.deflate import Agreement
from wsadapter.worker.websocket.frames import apply_mask


class _Wakeup(Wakeup):
    """A wake-up that a thread of a hook may still use after the test."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._closed = False

    def wake(self) -> None:
        with self._lock:
            if not self._closed:
                super().wake()

    def close(self) -> None:
        with self._lock:
            self._closed = True
            os.close(self.fd)
            os.close(self._write_end)


class OwnerEnds:
    """The supervisor's ends of the pipe and the control socket of an owner without an endpoint."""

    def __init__(self) -> None:
        self.pipe, self._owner_pipe = os.pipe()
        control, self._owner_control = socket.socketpair()
        os.set_blocking(self.pipe, False)
        os.set_blocking(self._owner_pipe, False)
        self._owner_control.setblocking(False)
        control.setblocking(False)
        self.control = CommandSocket(control)
        self.wakeup = _Wakeup()
        self.host = Host(self._owner_pipe, self._owner_control, self.wakeup)
        self.host.enter(Idle(self.host))
        self._records = RecordReader()

    def executed(self, kind: int, ref: int = 0, body: bytes | dict[str, Any] = b"", now: float = 100.0) -> None:
        """The owner executes a command."""
        execute(Command(kind, ref, encode_command(kind, ref, body)[13:]), self.host, now)

    def commands(self) -> list[Command]:
        """What the owner has sent through the control socket."""
        found: list[Command] = []
        while more := list(self.control.receive()):
            found += more
        return found

    def answers(self) -> list[tuple[int, int, dict[str, Any]]]:
        """The same, with bodies of JSON."""
        return [(command.kind, command.ref, command.json()) for command in self.commands()]

    def records(self) -> list[Record]:
        """What the owner has written into the pipe."""
        try:
            return list(self._records.feed(os.read(self.pipe, 1 << 20)))
        except BlockingIOError:
            return []

    def items(self) -> list[Report | bytes]:
        """The same: reports, and messages."""
        found: list[Report | bytes] = []
        for record in self.records():
            found += [parse_report(record.report)] if record.kind == REPORT else record.payloads
        return found

    def reports(self) -> list[Report]:
        """The same, without messages."""
        return [item for item in self.items() if isinstance(item, Report)]

    def stop_reading(self) -> None:
        """Fills the pipe."""
        while self.host.outbox.flush():
            self.host.outbox.payloads([bytes(4096)], [True], 0, 0)

    def read_everything(self) -> list[Report | bytes]:
        """The bytes that were written and those that wait."""
        found = self.items()
        while not self.host.outbox.flush() or self.host.outbox.backlog:
            found += self.items()
        return found + self.items()

    def close(self) -> None:
        """Closes both ends, and disarms the alarm."""
        signal.setitimer(signal.ITIMER_REAL, 0)
        self.host.poller.close()
        self.control.close()
        self._owner_control.close()
        self.wakeup.close()
        os.close(self.pipe)
        os.close(self._owner_pipe)


class ServedOwner(OwnerEnds):
    """An owner with an open connection. The peer is the other end of a socket pair, or, with `tcp`, of a TCP connection, which
    the kernel counts."""

    def __init__(
        self,
        *,
        tcp: bool = False,
        first: bytes = b"",
        hook: Hook | None = None,
        hooks: Any = None,
        deflate: Agreement | None = None,
        owed: Sequence[int] = (),
        unsent: bytes = b"",
        now: float = 100.0,
        custody: bool = False,
        resume: Resume | None = None,
        dialect: dict[str, Any] | None = None,
        wanted: tuple[Any, ...] = (),
        begin: bytes = b"",
        **settings: Any,
    ) -> None:
        """`begin`: what the peer has sent before the owner starts, and the owner has not read. `settings` of the endpoint."""
        super().__init__()
        near, self.peer = tcp_pair() if tcp else socket.socketpair()
        near.setblocking(False)
        self.peer.settimeout(10.0)
        if begin:
            self.peer.sendall(begin)
        known = {"heartbeat": {"kind": "none"}, "timeouts": {"close": 2.0, "send": 5.0}, **settings}
        endpoint = Endpoint("a", url="ws://localhost", **known)
        assignment = Assignment(
            endpoint=endpoint, epoch=1, url="ws://localhost", dialect=dialect, wanted=wanted, custody=custody, resume=resume
        )
        opened = Opened(Established(PlainByteStream(near), None, {}, "192.0.2.1:80", first, deflate), hook, hooks)
        self.host.assigned(assignment)
        self.serving = Serving(self.host, assignment, opened, [(ref, SUBSCRIBE, ("a",)) for ref in owed])
        self.host.enter(self.serving)
        self.serving.start(assignment, opened, unsent, now)

    def read(self, data: bytes, now: float = 101.0) -> None:
        """The peer sends this, and the owner reads it."""
        self.peer.sendall(data)
        self.serving.readable(now)

    def frames(self) -> list[tuple[int, bytes]]:
        """Opcode and payload of the frames that the peer has received, which must be whole and short."""
        self.peer.setblocking(False)
        try:
            data = self.peer.recv(1 << 20)
        except BlockingIOError:
            data = b""
        finally:
            self.peer.settimeout(10.0)
        return client_frames(data)

    def close(self) -> None:
        """Closes all descriptors."""
        self.serving._connection.byte_stream.sock.close()
        self.peer.close()
        super().close()


def client_frames(data: bytes) -> list[tuple[int, bytes]]:
    """Masked frames of less than 64 KiB, taken apart."""
    found: list[tuple[int, bytes]] = []
    while data:
        size, at = data[1] & 0x7F, 2
        if size == 126:
            size, at = int.from_bytes(data[2:4]), 4
        assert data[1] & 0x80, "the frame is not masked"
        found.append((data[0] & 0x0F, apply_mask(data[at + 4 : at + 4 + size], data[at : at + 4])))
        data = data[at + 4 + size :]
    return found


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    """Both ends of a TCP connection over loopback."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname())
        return near, listener.accept()[0]
