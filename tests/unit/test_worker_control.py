"""The owner's end of the control socket: nothing is lost where the socket is full, and one call writes only so much."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from wsadapter.contract.ipc.commands import ANNOUNCE, TAKEN, Command, CommandReader
from wsadapter.worker.command_socket import Control

MIB = 1 << 20


class Counting:
    """A socket that takes everything, and counts it."""

    def __init__(self) -> None:
        self.written: list[int] = []

    def sendmsg(self, parts: list[memoryview]) -> int:
        self.written.append(sum(map(len, parts)))
        return self.written[-1]


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    for end in (ours, theirs):
        end.setblocking(False)
    with ours, theirs:
        yield ours, theirs


def test_what_the_socket_does_not_take_at_once_arrives_whole_and_in_order(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    control, reader, large = Control(ours), CommandReader(), bytearray(os.urandom(3 * MIB + 1))
    control.say(TAKEN, 1)
    control.say_large(ANNOUNCE, 2, b"position", large)
    for ref in range(3, 203):
        control.say(TAKEN, ref)
    assert control.backlog
    found: list[Command] = []
    while control.backlog or len(found) < 202:
        control.flush()
        found += reader.feed(theirs.recv(100_000))
    assert [command.ref for command in found] == list(range(1, 203))
    assert found[1] == Command(ANNOUNCE, 2, b"position" + large)


def test_a_supervisor_that_reads_fast_does_not_keep_the_loop_in_one_call() -> None:
    sock = Counting()
    control = Control(sock)  # type: ignore[arg-type]
    control.say_large(ANNOUNCE, 1, b"position", bytes(5 * MIB))
    first = sum(sock.written)
    assert first <= 2 * MIB
    while control.backlog:
        before = sum(sock.written)
        control.flush()
        assert 0 < sum(sock.written) - before <= 2 * MIB
    assert sum(sock.written) == 5 * MIB + len(b"position") + 13
