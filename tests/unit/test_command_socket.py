"""Both ends of a control socket: nothing is lost if the socket is full, descriptors travel with their commands."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from wsadapter.contract.ipc.command_socket import CommandSocket, Unfinished
from wsadapter.contract.ipc.commands import ANNOUNCE, CUSTODY, TAKEN, Command, CommandReader, encode_command

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
    control, reader, large = CommandSocket(ours), CommandReader(), bytearray(os.urandom(3 * MIB + 1))
    control.send(TAKEN, 1)
    control.send_large(ANNOUNCE, 2, b"position", large)
    for ref in range(3, 203):
        control.send(TAKEN, ref)
    assert control.backlog
    found: list[Command] = []
    while control.backlog or len(found) < 202:
        control.flush()
        found += reader.feed(theirs.recv(100_000))
    assert [command.ref for command in found] == list(range(1, 203))
    assert found[1] == Command(ANNOUNCE, 2, b"position" + large)


def test_a_supervisor_that_reads_fast_does_not_keep_the_loop_in_one_call() -> None:
    sock = Counting()
    control = CommandSocket(sock)  # type: ignore[arg-type]
    control.send_large(ANNOUNCE, 1, b"position", bytes(5 * MIB))
    first = sum(sock.written)
    assert first <= 2 * MIB
    while control.backlog:
        before = sum(sock.written)
        control.flush()
        assert 0 < sum(sock.written) - before <= 2 * MIB
    assert sum(sock.written) == 5 * MIB + len(b"position") + 13


def test_commands_that_were_sent_before_the_end_are_received(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    control = CommandSocket(ours)
    assert list(control.receive()) == []
    assert control.drained
    theirs.sendall(encode_command(TAKEN, 1) + encode_command(TAKEN, 2)[:4])
    assert [command.ref for command in control.receive()] == [1]
    assert not control.drained
    theirs.sendall(encode_command(TAKEN, 2)[4:])
    theirs.close()
    control.send(TAKEN, 9)  # it finds that the peer is gone
    assert control.peer_closed
    assert not control.backlog
    assert [command.ref for command in control.receive()] == [2]
    assert not control.at_end
    assert list(control.receive()) == []
    assert control.at_end
    assert control.drained
    with pytest.raises(BlockingIOError):
        control.send_descriptor(TAKEN, b"", 0)


def test_a_command_is_received_before_a_corrupt_one_is_found(pair: tuple[socket.socket, socket.socket]) -> None:
    control = CommandSocket(pair[0])
    pair[1].sendall(encode_command(TAKEN, 1) + bytes(13))
    commands = control.receive()
    assert next(commands).ref == 1
    with pytest.raises(ValueError, match="claims"):
        next(commands)


def test_a_descriptor_is_taken_with_its_command_and_once(pair: tuple[socket.socket, socket.socket]) -> None:
    reading, writing = os.pipe()
    sender, receiver = (CommandSocket(end) for end in pair)
    sender.send(TAKEN, 1)
    sender.send_descriptor(CUSTODY, {"received": 1}, writing)
    os.close(writing)
    commands: list[Command] = []
    while len(commands) < 2:
        commands += receiver.receive()
    assert [command.kind for command in commands] == [TAKEN, CUSTODY]
    descriptor = receiver.take_descriptor()
    assert descriptor is not None
    assert receiver.take_descriptor() is None
    assert os.get_inheritable(descriptor) is False
    os.write(descriptor, b"x")
    assert os.read(reading, 1) == b"x"
    os.close(descriptor)
    assert os.read(reading, 1) == b""  # nobody else has one
    os.close(reading)


def test_descriptors_that_no_command_takes_do_not_pile_up(pair: tuple[socket.socket, socket.socket]) -> None:
    reading, writing = os.pipe()
    receiver = CommandSocket(pair[1])
    frame = encode_command(CUSTODY, 0, b"{}")
    for part in (frame[:4], frame[4:8]):
        socket.send_fds(pair[0], [part], [writing])
    os.close(writing)
    assert list(receiver.receive()) == []
    with pytest.raises(ValueError, match="second descriptor"):
        list(receiver.receive())
    receiver.close()
    assert os.read(reading, 1) == b""  # all are closed
    os.close(reading)


def test_another_process_goes_on_where_one_has_left_off(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    old = CommandSocket(ours)
    old.send(ANNOUNCE, 1, bytes(2 * MIB))
    theirs.send(encode_command(TAKEN, 5)[:7])
    assert list(old.receive()) == []
    unfinished = old.unfinished
    new = CommandSocket(ours.dup(), unfinished)
    assert new.unsent == len(unfinished.unsent) == old.unsent
    reader, found = CommandReader(), []
    theirs.send(encode_command(TAKEN, 5)[7:])
    assert [command.ref for command in new.receive()] == [5]
    while not found:
        new.flush()
        found += reader.feed(theirs.recv(1 << 20))
    assert found == [Command(ANNOUNCE, 1, bytes(2 * MIB))]
    assert new.unfinished == Unfinished()
    new.close()


class Broken:
    """A socket whose peer died and had not read everything."""

    def recvmsg(self, *_: int) -> object:
        raise ConnectionResetError


def test_a_broken_connection_is_the_end_and_nothing_more_is_sent() -> None:
    control = CommandSocket(Broken())  # type: ignore[arg-type]
    assert list(control.receive()) == []
    assert (control.at_end, control.peer_closed) == (True, True)
    control.send(TAKEN, 1)
    control.send_large(TAKEN, 1, b"a", b"b")
    assert (control.unsent, control.backlog) == (0, False)


def test_a_replaced_socket_leaves_nothing_half_done(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    control, (reading, writing) = CommandSocket(ours), os.pipe()
    control.send(ANNOUNCE, 1, bytes(2 * MIB))
    socket.send_fds(theirs, [encode_command(CUSTODY, 0, b"{}")[:7]], [writing])
    os.close(writing)
    assert list(control.receive()) == []
    theirs.close()
    control.flush()
    assert control.peer_closed
    new, other = socket.socketpair()
    new.setblocking(False)
    with other:
        control.replace(new)
        assert ours.fileno() == -1
        assert os.read(reading, 1) == b""  # the descriptor that came with the half command is closed
        assert (control.unsent, control.backlog, control.peer_closed, control.at_end) == (0, False, False, False)
        assert control.unfinished == Unfinished()
        other.sendall(encode_command(TAKEN, 5))
        control.send(TAKEN, 6)
        assert [command.ref for command in control.receive()] == [5]
        assert other.recv(1000) == encode_command(TAKEN, 6)
        control.close()
    os.close(reading)
