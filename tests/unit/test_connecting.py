"""The deadlines of the connecting, and what changes before the connection is open. Pure; no clock."""

from __future__ import annotations

from dataclasses import replace
from math import inf

import pytest

from wsadapter.contract.endpoint import Endpoint, Timeouts, Watchdog
from wsadapter.contract.ipc.assignment import Assignment
from wsadapter.contract.ipc.commands import RESUBSCRIBE, SUBSCRIBE, UNSUBSCRIBE
from wsadapter.worker.owner.connecting import Steps, with_change

ENDPOINT = Endpoint(
    "a", url="ws://localhost", timeouts=Timeouts(resolve=1.0, connect=2.0, handshake=3.0), watchdog=Watchdog(startup=4.0)
)


def test_no_step_is_overdue_before_the_first() -> None:
    steps = Steps(ENDPOINT)
    assert steps.deadline == inf
    assert steps.overdue(1e9) is None


@pytest.mark.parametrize(
    ("step", "limit"),
    [("importing", 4.0), ("preparing", 3.0), ("resolving", 1.0), ("connecting", 2.0), ("tls", 3.0), ("handshake", 3.0)],
)
def test_each_step_has_its_own_limit(step: str, limit: float) -> None:
    steps = Steps(ENDPOINT)
    steps.begin(step, 100.0)
    assert steps.deadline == 100.0 + limit
    assert steps.overdue(100.0 + limit - 0.1) is None
    reason = steps.overdue(100.0 + limit)
    assert reason is not None
    assert reason.text == f"{step} took longer than {limit:g} s"
    assert reason.kind == ("config" if step == "importing" else "connect_failed")


def test_importing_has_no_limit_without_the_watchdog() -> None:
    steps = Steps(replace(ENDPOINT, watchdog=Watchdog(startup=0.0)))
    steps.begin("importing", 100.0)
    assert steps.deadline == inf


def test_tls_and_the_websocket_handshake_share_one_deadline() -> None:
    steps = Steps(ENDPOINT)
    steps.begin("tls", 100.0)
    steps.begin("handshake", 102.0)
    assert steps.deadline == 103.0
    reason = steps.overdue(103.0)
    assert reason is not None
    assert reason.text.startswith("handshake")


ASSIGNMENT = Assignment(endpoint=ENDPOINT, epoch=1, url="ws://localhost", wanted=("a", "b"), blamed={"a": "no", "b": ""})


def test_more_is_wanted_before_the_connection_is_open() -> None:
    changed = with_change(ASSIGNMENT, SUBSCRIBE, ["a", "c"])
    assert changed.wanted == ("b", "a", "c")
    assert changed.blamed == {"b": ""}  # the user asks for "a" again


def test_less_is_wanted_before_the_connection_is_open() -> None:
    changed = with_change(ASSIGNMENT, UNSUBSCRIBE, ["b"])
    assert changed.wanted == ("a",)
    assert changed.blamed == {"a": "no"}


def test_what_is_not_subscribed_yet_needs_no_new_beginning() -> None:
    assert with_change(ASSIGNMENT, RESUBSCRIBE, ["a"]) is ASSIGNMENT
