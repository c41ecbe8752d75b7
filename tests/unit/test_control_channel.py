"""The supervisor's end of a control socket: what comes is acted on in order, what is corrupt ends the reading alone."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsadapter.contract.ipc.commands import (
    CUSTODY,
    HANDOFF,
    READY,
    SEND_TEXT,
    STOP,
    TAKEN,
    Command,
    CommandReader,
    encode_command,
)
from wsadapter.loop.reactor import Reactor
from wsadapter.process.control_channel import ControlChannel
from wsadapter.worker.loop.rejoin import RejoinSocket


class Owner:
    """The other end, and what the channel gave its host."""

    def __init__(self, reactor: Reactor) -> None:
        self.commands: list[Command] = []
        self.errors: list[ValueError] = []
        self.channel = ControlChannel(reactor, self.commands.append, self.errors.append)
        ours, self.theirs = socket.socketpair()
        self.theirs.setblocking(False)
        self.channel.open(ours)
        self.channel.watch()

    def close(self) -> None:
        self.channel.close()
        self.theirs.close()


@pytest.fixture
def owner(reactor: Reactor) -> Iterator[Owner]:
    owner = Owner(reactor)
    yield owner
    owner.close()


def test_commands_are_read_by_the_loop_in_order(owner: Owner, reactor: Reactor) -> None:
    owner.theirs.sendall(encode_command(READY) + encode_command(TAKEN, 7))
    reactor.try_turn()
    assert [(command.kind, command.ref) for command in owner.commands] == [(READY, 0), (TAKEN, 7)]
    assert owner.channel.is_watched


def test_everything_that_a_dead_process_had_sent_is_read_at_once(owner: Owner) -> None:
    owner.theirs.sendall(b"".join(encode_command(TAKEN, ref, bytes(1000)) for ref in range(150)))
    owner.theirs.close()
    assert owner.channel.read_all()
    assert owner.channel.is_drained
    assert [command.ref for command in owner.commands] == list(range(150))
    assert not owner.channel.is_watched  # the end was seen


def test_a_channel_that_never_opened_has_not_been_read_to_its_end(reactor: Reactor) -> None:
    channel = ControlChannel(reactor, lambda _: None, lambda _: None)
    assert not channel.read_all()
    assert not channel.is_drained
    channel.close()


@given(st.binary(max_size=64))
def test_no_bytes_of_an_owner_end_the_loop(reactor: Reactor, garbage: bytes) -> None:
    owner = Owner(reactor)
    owner.theirs.sendall(garbage)
    owner.channel.read_all()
    assert len(owner.errors) <= 1
    assert owner.channel.is_watched is not bool(owner.errors)
    owner.close()


def test_a_command_before_a_corrupt_one_is_acted_on(owner: Owner) -> None:
    owner.theirs.sendall(encode_command(TAKEN, 1) + bytes(13))
    owner.channel.read_all()
    assert [command.ref for command in owner.commands] == [1]
    assert len(owner.errors) == 1
    assert not owner.channel.is_watched


def test_a_command_that_its_handler_rejects_is_corrupt_too(reactor: Reactor) -> None:
    owner = Owner(reactor)
    owner.channel._on_command = lambda command: command.json() and None
    owner.theirs.sendall(encode_command(CUSTODY, 0, b"["))
    owner.channel.read_all()
    assert len(owner.errors) == 1
    owner.close()


def test_what_the_socket_does_not_take_is_written_by_the_loop_when_it_does(owner: Owner, reactor: Reactor) -> None:
    size = 2 << 20
    owner.channel.send(SEND_TEXT, 1, bytes(size))
    owner.channel.send(STOP, 2, {"code": 1000})
    assert owner.channel.unsent > 0
    reader, found = CommandReader(), []
    while len(found) < 2:
        try:
            found += reader.feed(owner.theirs.recv(1 << 20))
        except BlockingIOError:
            assert reactor.try_turn()
    assert [(command.kind, command.ref) for command in found] == [(SEND_TEXT, 1), (STOP, 2)]
    assert owner.channel.unsent == 0


def test_a_socket_travels_with_its_command_or_not_at_all(owner: Owner, caplog: pytest.LogCaptureFixture) -> None:
    one, other = socket.socketpair()
    with one, other:
        assert owner.channel.send_descriptor(HANDOFF, b"rest", one)
        data, fds, _, _ = socket.recv_fds(owner.theirs, 1000, 1)
        assert data == encode_command(HANDOFF, 0, b"rest")
        with socket.socket(fileno=fds[0]) as arrived:
            arrived.send(b"x")
            assert other.recv(1) == b"x"
        owner.channel.send(SEND_TEXT, 1, bytes(2 << 20))
        assert not owner.channel.send_descriptor(HANDOFF, b"", one)  # it would overtake what waits
    assert "could not be passed" in caplog.text


def test_what_is_left_to_another_supervisor_is_not_read(owner: Owner, reactor: Reactor) -> None:
    owner.channel.unwatch()
    owner.theirs.sendall(encode_command(TAKEN, 1)[:5])
    reactor.try_turn()
    owner.channel.watch()
    owner.channel.read_all()
    owner.channel.unwatch()
    unfinished = owner.channel.sock.unfinished
    assert unfinished.unread == encode_command(TAKEN, 1)[:5]
    commands: list[Command] = []
    successor = ControlChannel(reactor, commands.append, lambda _: None)
    successor.open(socket.socket(fileno=os.dup(owner.channel.sock.fileno())), unfinished)
    successor.watch()
    owner.theirs.sendall(encode_command(TAKEN, 1)[5:])
    successor.read_all()
    assert commands == [Command(TAKEN, 1, b"")]
    assert owner.commands == []
    successor.close()


def test_a_process_that_is_called_gets_another_control_socket(owner: Owner, reactor: Reactor) -> None:
    channel = owner.channel
    channel.rejoin, theirs = socket.socketpair()
    theirs.setblocking(False)
    owner.theirs.sendall(encode_command(TAKEN, 1)[:5])
    reactor.try_turn()
    channel.call(7)
    assert (channel.called, channel.is_watched) == (7, False)
    channel.watch()
    with theirs:
        call = RejoinSocket(theirs).receive()
    assert call is not None
    with call.control as control:
        assert call.number == 7
        assert owner.theirs.recv(1) == b""  # the socket before is closed
        control.sendall(encode_command(TAKEN, 2))
        reactor.try_turn()
        assert owner.commands == [Command(TAKEN, 2, b"")]
        channel.send(STOP, 0, b"")
        assert control.recv(100) == encode_command(STOP)
    rejoin = channel.rejoin
    channel.close()
    assert rejoin.fileno() == -1


def test_a_process_that_is_gone_cannot_be_called(owner: Owner) -> None:
    owner.channel.rejoin, theirs = socket.socketpair()
    theirs.close()
    with pytest.raises(OSError, match="roken pipe"):
        owner.channel.call(1)
