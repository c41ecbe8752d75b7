"""Hooks that stand in for a dialect's own where a case with a login is played to a real owner: no secret, no REST host."""

from __future__ import annotations

from typing import Any

from tests.support.conversations.script import cases_of
from wsadapter.worker.hooks import Attempt, Signing


def sign(signing: Signing) -> Any:
    """The signature that the case names. The endpoint's name is the dialect, a hyphen and the place of the case in its file."""
    dialect, _, place = signing.endpoint.rpartition("-")
    return cases_of(dialect)[int(place)].get("signature", {"sign": "made up"})


def before_connect(attempt: Attempt) -> Attempt:
    """The URL stays what it is."""
    return attempt
