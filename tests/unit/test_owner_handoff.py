"""What lets a connection outlive its owner: bytes left in the kernel, a duplicate of the socket, frames announced."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.fakes import RESUME
from tests.support.owner_ends import ServedOwner
from tests.support.rawserver import server_frame
from wsadapter.contract.ipc.command_socket import CommandSocket
from wsadapter.contract.ipc.commands import ANNOUNCE, BEGUN, CUSTODY, AnnounceCommand
from wsadapter.contract.reasons import Reason
from wsadapter.worker.owner import handoff
from wsadapter.worker.websocket.frames import TEXT, encode_frame

Serve = Callable[..., ServedOwner]
FRAME, OTHER = encode_frame(TEXT, b"frame"), encode_frame(TEXT, b"frame")
OURS = 1 << 63
TCP = {"tcp": True, "custody": True}


def handed(owner: ServedOwner) -> tuple[dict[str, Any], socket.socket]:
    """The body of the CUSTODY that the supervisor gets, and the socket."""
    (command,) = [command for command in owner.commands() if command.kind == CUSTODY]
    descriptor = owner.control.take_descriptor()
    assert descriptor is not None
    return command.json(), socket.socket(fileno=descriptor)


def test_the_supervisor_gets_a_duplicate_of_the_socket_before_the_up_is_written(serve: Serve, monkeypatch: Any) -> None:
    order: list[str] = []
    send, write = CommandSocket.send_descriptor, os.writev
    monkeypatch.setattr(CommandSocket, "send_descriptor", lambda *told: order.append("custody") or send(*told))
    monkeypatch.setattr(os, "writev", lambda *told: order.append("up") or write(*told))
    owner = serve(**TCP)
    assert order == ["custody", "up"]
    body, duplicate = handed(owner)
    with duplicate:
        assert duplicate.getsockname() == owner.serving._connection.byte_stream.sock.getsockname()
    assert body == {"received": 0, "sent": 0, "allowed_at": 0.0}


def test_the_streams_are_counted_from_the_end_of_the_handshake(serve: Serve) -> None:
    owner = serve(**TCP, send_on_up=["hello"])
    owner.serving.tick(101.0)
    body, duplicate = handed(owner)
    duplicate.close()
    assert body["sent"] == 0  # the kernel counts the frame, and so does the owner
    assert owner.serving._connection.sender.position == len(encode_frame(TEXT, b"hello"))


def test_without_custody_the_connection_ends_with_its_owner(serve: Serve) -> None:
    owner = serve(tcp=True)
    assert not owner.serving._handoff.every_byte
    assert owner.commands() == []


def test_the_owner_of_a_resumed_connection_gives_no_second_duplicate(serve: Serve) -> None:
    owner = serve(**TCP, resume=RESUME)
    assert (owner.serving._handoff.every_byte, owner.serving._handoff.due) == (True, False)
    assert [command.kind for command in owner.commands()] == []
    assert not owner.serving._handoff.announce(0, 0, FRAME, 1.0) or owner.commands()[0].kind == ANNOUNCE


def test_a_kernel_that_does_not_count_gives_no_custody(serve: Serve) -> None:
    owner = serve(custody=True)  # of a socket pair the kernel keeps no counters
    assert (owner.serving._handoff.every_byte, owner.serving._handoff.due) == (True, False)
    assert owner.commands() == []


def test_a_full_control_socket_only_delays_the_custody(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise BlockingIOError

    with monkeypatch.context() as patch:
        patch.setattr(CommandSocket, "send_descriptor", full)
        owner = serve(**TCP)
        assert owner.serving._handoff.due
    owner.serving.tick(101.0)
    assert not owner.serving._handoff.due
    handed(owner)[1].close()


def test_an_ending_connection_is_not_given(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    owner = serve(**TCP, limits={"sends": 1, "sends_period": 1000.0}, send_on_up=["one", "two"])
    owner.serving._session.ending.disconnect(Reason(kind="stopped"))
    monkeypatch.setattr(type(owner.serving._connection.sender), "can_hand_off", True)
    owner.serving._handoff.offer_if_due()
    assert owner.serving._handoff.due
    assert owner.commands() == []


def test_a_login_that_is_not_done_delays_the_custody(serve: Serve) -> None:
    dialect = {
        "subscribe": {"frame": '["$stream"]'},
        "login": {"frame": '{"login":"$key"}', "needs": ["key"], "ack": [{"match": {"in": True}}]},
    }
    owner = serve(**TCP, dialect=dialect, login={"key": "K"})
    assert owner.commands() == []
    owner.read(server_frame(TEXT, b'{"in":true}'))
    owner.serving.tick(101.0)
    handed(owner)[1].close()


def test_without_custody_the_supervisor_knows_only_of_frames_that_somebody_waits_for(serve: Serve) -> None:
    owner = serve()
    told = owner.serving._handoff
    assert told.announce(0, 0, FRAME, 1.0)
    assert told.announce(OURS + 1, 0, FRAME, 1.0)
    assert owner.commands() == []
    assert told.announce(7, 0, FRAME, 1.0)
    assert [(command.kind, command.ref, command.body) for command in owner.commands()] == [(BEGUN, 7, b"")]


def test_in_custody_every_frame_is_announced_with_its_bytes_and_the_pace(serve: Serve) -> None:
    owner = serve(**TCP)
    handed(owner)[1].close()
    assert owner.serving._handoff.announce(7, 12, FRAME, 105.0)
    assert owner.serving._handoff.announce(0, 40, OTHER, 106.0)
    first, second = owner.commands()
    assert (first.kind, first.ref, AnnounceCommand.decode(first.body)) == (ANNOUNCE, 7, AnnounceCommand(12, 105.0, FRAME))
    assert AnnounceCommand.decode(second.body) == AnnounceCommand(40, 106.0, OTHER)


def test_the_same_frame_is_announced_once_and_another_one_at_the_same_place_again(serve: Serve) -> None:
    owner = serve(**TCP)
    handed(owner)[1].close()
    told = owner.serving._handoff
    told.announce(0, 12, FRAME, 105.0)
    told.announce(0, 12, FRAME, 105.0)
    assert len(owner.commands()) == 1
    told.announce(0, 12, OTHER, 105.0)
    told.announce(0, 13, OTHER, 105.0)
    assert len(owner.commands()) == 2
    told.forget_announced()
    told.announce(0, 13, OTHER, 105.0)
    assert len(owner.commands()) == 1


def test_a_frame_is_not_sent_while_its_announcement_waits(serve: Serve) -> None:
    owner = serve(**TCP)
    handed(owner)[1].close()
    large = bytes(1 << 22)
    assert not owner.serving._handoff.announce(0, 0, large, 105.0)
    assert not owner.serving._handoff.announce(0, 0, large, 105.0)
    while owner.host.control.backlog:
        owner.commands()
        owner.host.control.flush()
    assert owner.serving._handoff.announce(0, 0, large, 105.0)


def test_refs_of_owners_are_not_those_of_supervisors() -> None:
    assert [handoff.is_ours(ref) for ref in (0, 7, OURS - 1, OURS, OURS + 5)] == [False, False, False, True, True]


def test_another_supervisor_is_offered_the_connection_and_told_of_each_frame(serve: Serve) -> None:
    owner = serve(**TCP)
    handed(owner)[1].close()
    handoff = owner.serving._handoff
    assert handoff.announce(1, 0, FRAME, 1.0)
    assert [command.kind for command in owner.commands()] == [ANNOUNCE]
    owner.serving.rejoin()
    assert handoff.announce(1, 0, FRAME, 1.0)
    assert [command.kind for command in owner.commands()] == [BEGUN]  # it is not in custody yet
    owner.serving.tick(102.0)
    handed(owner)[1].close()
    assert handoff.announce(2, 0, OTHER, 1.0)
    assert [command.kind for command in owner.commands()] == [ANNOUNCE]


def test_a_connection_that_cannot_outlive_its_owner_is_not_offered_to_another_supervisor(serve: Serve) -> None:
    owner = serve(tcp=True)
    owner.serving.rejoin()
    owner.serving.tick(102.0)
    assert owner.commands() == []
