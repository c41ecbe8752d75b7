"""How a link's connection is replaced as planned."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from wsadapter.endpoint.replacement import Replacement, Situation, for_memory, for_new_connection, for_restart

UP = Situation(
    has_owner=True, stays=True, in_custody=False, rolls_over=False, make_before_break=True, is_replicated=False,
    is_redundant=False,
)  # fmt: skip
"""The only link of an endpoint, on a connection that ends with its owner (as over TLS)."""
R = Replacement


@pytest.mark.parametrize(
    ("changes", "how", "replacement"),
    [
        ({"has_owner": False, "stays": False}, {}, R.START),
        ({}, {}, R.ROLL_OVER),
        ({}, {"at_once": True}, R.LEAVE),
        ({"make_before_break": False}, {}, R.LEAVE),
        ({"stays": False}, {}, R.LEAVE),
        ({"is_replicated": True}, {}, R.LEAVE),
        ({"in_custody": True}, {}, R.HAND_OVER),
        ({"in_custody": True}, {"at_once": True}, R.HAND_OVER),
        ({"in_custody": True}, {"new_connection": True}, R.ROLL_OVER),
        ({"in_custody": True, "stays": False}, {"new_connection": True}, R.LEAVE),
    ],
)
def test_another_owner_is_wanted(changes: dict[str, bool], how: dict[str, bool], replacement: Replacement) -> None:
    assert for_restart(replace(UP, **changes), **{"new_connection": False, "at_once": False, **how}) is replacement


@pytest.mark.parametrize(
    ("changes", "replacement"),
    [
        ({}, R.ROLL_OVER),
        ({"in_custody": True}, R.ROLL_OVER),
        ({"make_before_break": False}, R.LEAVE),
        ({"rolls_over": True}, R.INSIST),
        ({"stays": False}, R.NOTHING),
        ({"stays": False, "rolls_over": True}, R.NOTHING),
        ({"is_replicated": True}, R.LATER),
        ({"is_replicated": True, "stays": False}, R.LATER),
        ({"is_replicated": True, "is_redundant": True}, R.LEAVE),
        ({"is_replicated": True, "is_redundant": True, "stays": False}, R.NOTHING),
    ],
)
def test_another_connection_is_wanted(changes: dict[str, bool], replacement: Replacement) -> None:
    assert for_new_connection(replace(UP, **changes)) is replacement


@pytest.mark.parametrize(
    ("changes", "resident", "replacement"),
    [
        ({}, 101, R.ROLL_OVER),
        ({}, 125, R.ROLL_OVER),
        ({}, 126, R.KILL),  # it grows faster than a rollover takes
        ({"make_before_break": False}, 101, R.KILL),
        ({"in_custody": True}, 101, R.KILL),  # the next owner continues with the connection
        ({"stays": False}, 101, R.KILL),
        ({"is_replicated": True}, 101, R.KILL),
        ({"is_replicated": True, "is_redundant": True}, 500, R.LEAVE),
        ({"is_replicated": True, "is_redundant": True, "stays": False}, 101, R.KILL),
    ],
)
def test_an_owner_has_too_much_memory(changes: dict[str, Any], resident: int, replacement: Replacement) -> None:
    assert for_memory(replace(UP, **changes), resident, allowed=100) is replacement
