"""What the end of an owner means: why its epoch ended, and whether the connection may continue. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from wsadapter.contract.reasons import Reason

_OVERRULING: Final = frozenset({"hung", "corrupt", "memory_limit", "overflow"})
"""If the supervisor ended an owner for one of these reasons, that reason is reported, whatever the owner itself reported."""
_UNRESUMABLE: Final = frozenset({"corrupt", "overflow"})
"""If an owner was ended for one of these reasons, no owner continues with its connection: what the owner reported can't be
trusted, or the connection is not wanted."""


def end_reason(
    known: Reason, reported: Reason | None, *, was_asked: bool, holder_lost: Callable[[Reason], Reason | None]
) -> Reason:
    """Why an epoch ended. `known`: the supervisor's evidence; `reported`: by the owner, None if it reported nothing.
    `was_asked`: the owner was asked to leave. `holder_lost` returns why the process that held the TLS ended; None: it did not,
    or that is not the cause."""
    reason = known if reported is None or known.kind in _OVERRULING else reported
    if (lost := holder_lost(reason)) is not None:
        reason = Reason(kind="holder_lost", text=f"its TLS holder: {lost.describe()}")
    if reason.kind == "stopped" and not was_asked:  # somebody else sent the process a SIGTERM
        reason = Reason(kind="crashed", signal="SIGTERM", code=reason.code)
    return reason


def may_continue(known: Reason, *, is_last: bool, unwanted: bool) -> bool:
    """Whether the next owner may continue with the connection. `is_last`: the owner reported its end, or no owner follows.
    `unwanted`: the connection is to be replaced."""
    return not (is_last or unwanted or known.kind in _UNRESUMABLE)


def read_all(reason: Reason) -> bool:
    """Whether an owner that ended for this reason had read all that its connection brought: it was asked to leave, or the peer
    closed the connection in order."""
    return reason.kind in ("recycled", "stopped") or (reason.kind == "closed_by_peer" and not reason.broke_off)


def gaps_behind_up(*, resumed: bool, interrupted: tuple[str, ...], replaces: bool) -> list[tuple[str, str | None]]:
    """The gaps of a connection that is not the first of its endpoint, as (cause, stream; None: all streams). `interrupted`:
    the streams that a rollover could not continue."""
    cause = "replaced" if replaces else "reconnected"
    streams: tuple[str | None, ...] = interrupted or (() if resumed else (None,))
    return [(cause, stream) for stream in streams]
