"""A takeover's decisions, and what a stranger may say in it."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from dataclasses import fields
from time import monotonic
from typing import Any

import pytest

from tests.support.fakes import FakeSupervisor, up
from tests.support.snapshots import transferred
from tests.unit.test_subscription_sender import endpoint
from wsadapter.endpoint.endpoint import EndpointRuntime
from wsadapter.endpoint.subscriptions import ConnectionState
from wsadapter.takeover.endpoint_state import is_changing, is_steady
from wsadapter.takeover.old_side import Condition, Step, next_step
from wsadapter.takeover.supervisor_state import SupervisorSnapshot
from wsadapter.takeover.transfer import TakeoverError, receive_line, receive_state, send_line, send_state

pytestmark = [pytest.mark.version, pytest.mark.portable]

UP = Condition(has_ended=False, steady=True, changing=False, halted=False)
CHANGING = Condition(has_ended=False, steady=False, changing=True, halted=False)
DOWN = Condition(has_ended=False, steady=False, changing=False, halted=False)
STOPPING = DOWN._replace(halted=True)
STOPPED = Condition(has_ended=True, steady=False, changing=False, halted=True)
FATAL = STOPPED._replace(halted=False)


@pytest.mark.parametrize(
    ("conditions", "leaving", "step"),
    [
        ([], False, Step.FREEZE),
        ([UP, STOPPED, FATAL], False, Step.FREEZE),
        ([UP, CHANGING], False, Step.WAIT),
        ([DOWN, CHANGING], False, Step.WAIT),  # nothing is stopped before all else is steady
        ([UP, DOWN], False, Step.HALT),
        ([UP, DOWN, STOPPING], False, Step.HALT),
        ([UP, STOPPING], False, Step.WAIT),
        ([UP], True, Step.WAIT),
        ([UP, DOWN], True, Step.HALT),
    ],
)
def test_what_comes_next_before_a_takeover(conditions: list[Condition], leaving: bool, step: Step) -> None:
    assert next_step(conditions, leaving=leaving) is step


def test_an_owner_that_is_dead_stays_here_until_that_is_told(supervisor: FakeSupervisor) -> None:
    running = EndpointRuntime(supervisor, endpoint(), None)
    running.start()
    (process,) = supervisor.processes
    up(process)
    owner: Any = process
    owner.exit.pidfd = 3
    assert (is_steady(running), is_changing(running)) == (True, False)
    owner.exit.has_ended = True  # and its exit status is awaited
    assert (is_steady(running), is_changing(running)) == (False, True)
    running.stop()


def test_all_that_is_known_of_a_connection_travels() -> None:
    known = ConnectionState(
        confirmed={"b", "a"}, asked={"c"}, rejected={"d": "unknown"}, live={"a"}, parts={"e": "b"}, channels={"7": {"f": 1}},
        opening=(1.5, True), login_at=2.5, challenge={"nonce": 1}, heartbeat_at=3.5, token=["t"],
        expires_at=4.5,
    )  # fmt: skip
    unset = ConnectionState()
    assert not [each.name for each in fields(known) if getattr(known, each.name) == getattr(unset, each.name)]
    for subscriptions in (known, unset):
        assert transferred(subscriptions) == subscriptions


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    one, other = socket.socketpair()
    with one, other:
        yield one, other


@pytest.mark.parametrize("said", [b"\xff\xfe\n", b"[1]\n", b"\n", b"{\n", b"x" * 70_000, b"9" * 5_000 + b"\n"])
def test_a_line_that_is_none_is_one_kind_of_error(ends: tuple[socket.socket, socket.socket], said: bytes) -> None:
    ends[0].sendall(said)
    with pytest.raises(TakeoverError):
        receive_line(ends[1], monotonic() + 5)


def test_descriptors_arrive_and_no_program_that_is_started_inherits_them(ends: tuple[socket.socket, socket.socket]) -> None:
    with socket.socket() as one, socket.socket() as other:
        send_state(ends[0], b"state", [one.fileno(), other.fileno()], monotonic() + 5)
        state, fds = receive_state(ends[1], monotonic() + 5)
    assert state == b"state"
    assert len(fds) == 2
    assert not any(os.get_inheritable(fd) for fd in fds)
    for fd in fds:
        os.close(fd)


@pytest.mark.parametrize("body", [b"\xff", b"[]", b"{", b"7", b"{}", b'{"run": 1}', b'{"run": "\xff"}'])
def test_a_state_that_is_none_is_one_kind_of_error(ends: tuple[socket.socket, socket.socket], body: bytes) -> None:
    send_state(ends[0], body, [], monotonic() + 5)
    state, _ = receive_state(ends[1], monotonic() + 5)
    with pytest.raises(TakeoverError, match="cannot be read here"):
        SupervisorSnapshot.parse(state)


def test_lines_and_states_arrive_as_they_were_sent(ends: tuple[socket.socket, socket.socket]) -> None:
    send_line(ends[0], {"ok": True}, monotonic() + 5)
    send_state(ends[0], b"state", [], monotonic() + 5)
    assert receive_line(ends[1], monotonic() + 5) == {"ok": True}
    assert receive_state(ends[1], monotonic() + 5) == (b"state", [])
