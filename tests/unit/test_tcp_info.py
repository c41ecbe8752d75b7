"""The kernel's counters of a connection: positions that fit each other, or none."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator

import pytest

from wsadapter.contract.ipc import tcp_info
from wsadapter.contract.ipc.tcp_info import CLOSE_WAIT, ESTABLISHED, counters

linux = pytest.mark.skipif(sys.platform != "linux", reason="TCP_INFO is Linux'")


@pytest.fixture
def connection() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Both ends of a TCP connection over the loopback interface."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as ours:
        theirs, _ = server.accept()
        with theirs:
            yield ours, theirs


@linux
def test_bytes_are_counted_in_both_directions(connection: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = connection
    before = counters(ours)
    theirs.sendall(b"12345")
    ours.sendall(b"123")
    assert ours.recv(2, socket.MSG_WAITALL) == b"12"
    ours.recv(3, socket.MSG_PEEK | socket.MSG_WAITALL)  # the rest has arrived
    after = counters(ours)
    assert before is not None
    assert after is not None
    assert (after.state, after.read - before.read, after.unread, after.written - before.written) == (ESTABLISHED, 2, 3, 3)


@linux
def test_the_end_of_the_peers_stream_is_a_state_and_not_a_byte(connection: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = connection
    before = counters(ours)
    theirs.sendall(b"1")
    theirs.shutdown(socket.SHUT_WR)
    assert (ours.recv(1), ours.recv(1)) == (b"1", b"")
    after = counters(ours)
    assert before is not None
    assert after is not None
    assert (after.state, after.read - before.read, after.unread) == (CLOSE_WAIT, 1, 0)


@linux
def test_a_socket_without_these_counters_has_none() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert counters(ours) is None


def test_other_systems_report_nothing(monkeypatch: pytest.MonkeyPatch, connection: tuple[socket.socket, socket.socket]) -> None:
    monkeypatch.setattr(tcp_info.sys, "platform", "darwin")
    assert counters(connection[0]) is None


@linux
def test_a_kernel_that_reports_fewer_fields_reports_nothing(
    monkeypatch: pytest.MonkeyPatch, connection: tuple[socket.socket, socket.socket]
) -> None:
    whole = tcp_info._info(connection[0])
    monkeypatch.setattr(tcp_info, "_info", lambda sock: whole[:-1])
    assert counters(connection[0]) is None


@linux
@pytest.mark.parametrize("arrivals", [3, 10**9])
def test_looks_are_repeated_until_nothing_arrived_between_them(
    arrivals: int, monkeypatch: pytest.MonkeyPatch, connection: tuple[socket.socket, socket.socket]
) -> None:
    """`arrivals`: at how many looks one byte more was received. A flood never ends: then there is no result."""
    whole, looks = tcp_info._info(connection[0]), 0

    def info(sock: socket.socket) -> bytes:
        nonlocal looks
        looks += 1
        received = min(looks, arrivals).to_bytes(8, sys.byteorder)
        return whole[: tcp_info._RECEIVED] + received + whole[tcp_info._RECEIVED + 8 :]

    monkeypatch.setattr(tcp_info, "_info", info)
    found = counters(connection[0])
    assert (None if found is None else found.read) == (3 if arrivals == 3 else None)
    assert looks == (4 if arrivals == 3 else 1 + tcp_info._MOST_LOOKS)
