"""The pump of a TLS holder, between two real TCP connections; TLS itself is tested in tests/wire and tests/process."""

from __future__ import annotations

import select
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from wsadapter.process.tls_holder import loopback_pair
from wsadapter.worker.connect.pump import Pump
from wsadapter.worker.websocket.byte_stream import PlainByteStream

DEADLINE = 10_000
"""Milliseconds for something to become ready."""


class Setup:
    """A pump, the owner's end and the peer's end of it."""

    def __init__(self) -> None:
        self.owner, near_owner = loopback_pair()
        self.peer, near_peer = loopback_pair()
        self.reports: list[bytes] = []
        """What the owner could see of the end at each report that the connection is over."""
        self.pump = Pump(PlainByteStream(near_peer), near_owner, self._note_report)
        self._near = near_owner, near_peer

    def _note_report(self) -> None:
        assert not select.select([self.owner], [], [], 0)[0], "the owner sees the end before it is reported"
        self.reports.append(b"left")

    def turn(self) -> bool:
        """Wait for readiness and serve it. Returns whether the pump goes on."""
        poll = select.poll()
        watched: dict[int, int] = {}
        self.pump.watch(lambda fd, events: watched.update({fd: events}))
        for fd, events in watched.items():
            if events:
                poll.register(fd, events)
        for fd, mask in poll.poll(DEADLINE):
            self.pump.serve(fd, mask)
        return not self.pump.is_done

    def sides_read(self) -> int:
        """How many of the two sockets the pump reads now."""
        events_of: list[int] = []
        self.pump.watch(lambda _fd, events: events_of.append(events))
        return sum(bool(events & select.POLLIN) for events in events_of)

    def run_until(self, done: Callable[[], bool]) -> None:
        while not done():
            self.turn()

    def drop_owner(self) -> None:
        """The holder closes its end of the loopback connection."""
        self._near[0].close()

    def close(self) -> None:
        for sock in (self.owner, self.peer, *self._near):
            sock.close()


@pytest.fixture
def setup() -> Iterator[Setup]:
    with ExitStack() as stack:
        setup = Setup()
        stack.callback(setup.close)
        yield setup


def test_bytes_pass_both_ways_and_each_end_follows_the_last_byte(setup: Setup) -> None:
    setup.owner.sendall(b"request")
    setup.run_until(lambda: bool(select.select([setup.peer], [], [], 0)[0]))
    assert setup.peer.recv(100) == b"request"
    setup.peer.sendall(b"the last answer")
    setup.peer.shutdown(socket.SHUT_WR)
    setup.run_until(lambda: bool(select.select([setup.owner], [], [], 0)[0]))
    assert setup.owner.recv(100) == b"the last answer"
    setup.run_until(lambda: bool(setup.reports))
    assert setup.owner.recv(100) == b""
    setup.owner.shutdown(socket.SHUT_WR)
    while setup.turn():
        pass
    assert setup.peer.recv(100) == b""
    assert setup.pump.owner_ended
    assert setup.reports == [b"left"]


def test_a_side_that_does_not_read_bounds_what_waits_for_it(setup: Setup) -> None:
    setup.peer.setblocking(False)
    sent = 0
    poll = select.poll()
    poll.register(setup.peer, select.POLLOUT)
    while poll.poll(50):  # until the pump reads no more, and the kernel's buffers are full
        sent += setup.peer.send(b"x" * 65536)
        assert sent < 64 << 20
        if setup.sides_read() == 2:
            setup.turn()
    received = 0
    setup.owner.settimeout(10)
    while received < sent:
        received += len(setup.owner.recv(1 << 20))
        if received < sent and not select.select([setup.owner], [], [], 0)[0]:
            setup.turn()


def test_a_connection_that_the_peer_resets_is_reset_for_the_owner(setup: Setup) -> None:
    setup.peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    setup.peer.close()
    while setup.turn():
        pass
    assert setup.reports == [b"left"]
    setup.drop_owner()
    with pytest.raises(ConnectionResetError):
        setup.owner.recv(100)


def test_an_owner_that_is_gone_ends_the_pump_after_its_last_bytes(setup: Setup) -> None:
    setup.owner.sendall(b"goodbye")
    setup.owner.shutdown(socket.SHUT_WR)
    setup.run_until(lambda: setup.pump.owner_ended)
    assert setup.peer.recv(100) == b"goodbye"
    assert setup.peer.recv(100) == b""
    assert not setup.pump.is_done, "the peer may still send"
