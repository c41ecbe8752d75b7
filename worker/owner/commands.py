"""Executes the commands of the supervisor on the current phase."""

from __future__ import annotations

import socket

from wsadapter.contract.ipc.assignment import Assignment
from wsadapter.contract.ipc.commands import (
    ASSIGN,
    FORGET,
    HANDOFF,
    HOLD,
    IDENTIFY,
    REQUEST,
    RESUBSCRIBE,
    SEND_BINARY,
    SEND_TEXT,
    STOP,
    SUBSCRIBE,
    UNSUBSCRIBE,
    WITHDRAW,
    Command,
    RequestCommand,
)
from wsadapter.worker.connect.tls_holder import Hold
from wsadapter.worker.owner.phase import Host, Phase, Stop
from wsadapter.worker.websocket.frames import BINARY, TEXT


def execute(command: Command, host: Host, now: float) -> None:
    """Executes one command. Unknown commands are ignored, because a newer supervisor may send them (takeover). Raises
    `ValueError`, `KeyError` or `TypeError` if the body is malformed."""
    phase: Phase = host.phase
    if host.demands is not None:
        host.demands.note(command)
    match command.kind:
        case k if k == HANDOFF:
            fd = host.control.take_descriptor()
            if fd is not None:  # otherwise there were too many open files, and `assign` reports that
                phase.take_connection(socket.socket(fileno=fd), command.body)
        case k if k == HOLD:
            _become_holder(command, host)
        case k if k == ASSIGN:
            phase.assign(Assignment.from_body(command.json()))
        case k if k in (SEND_TEXT, SEND_BINARY):
            phase.sending.send(command.ref, TEXT if k == SEND_TEXT else BINARY, command.body)
        case k if k == REQUEST:
            phase.sending.request(command.ref, RequestCommand.decode(command.body))
        case k if k == WITHDRAW:
            phase.sending.withdraw(command.ref)
        case k if k == FORGET:
            phase.forget(map(str, command.json()["ids"]))
        case k if k in (SUBSCRIBE, UNSUBSCRIBE, RESUBSCRIBE):
            phase.change_subscriptions(k, command.json()["streams"], command.ref, now)
        case k if k == IDENTIFY:
            phase.identify(command.ref, on=bool(command.json()["on"]))
        case k if k == STOP:
            wish = command.json()
            phase.stop(Stop(int(wish.get("code", 1000)), str(wish.get("kind", "stopped"))), now)


def _become_holder(command: Command, host: Host) -> None:
    """Ends the loop: the process becomes a TLS holder, see worker/main.py."""
    fd = host.control.take_descriptor()
    if fd is not None:
        assignment = Assignment.from_body(command.json())
        host.hold = Hold(assignment, socket.socket(fileno=fd), host.control, host.alarm, host.rejoin)
    host.end.code = 0
