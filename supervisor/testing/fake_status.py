"""The status of a fake feed: the schema of the real one, with the few values that a fake feed has."""

from __future__ import annotations

import os
from collections.abc import Mapping

from wsadapter.contract.reasons import Reason
from wsadapter.status import FORMAT, EndpointState, EndpointStatus, Status, SupervisorState, exit_status
from wsadapter.version import VERSION


def fake_status(state: SupervisorState, endpoints: dict[str, EndpointStatus]) -> Status:
    """Of the whole feed."""
    return {
        "format": FORMAT,
        "name": "",
        "run": "fake",
        "pid": os.getpid(),
        "version": VERSION,
        "state": state,
        "uptime": 0.0,
        "strategy": "one_for_one",
        "spares": 0,
        "capabilities": {
            "death": "pidfd", "poll": "epoll", "start_method": "forkserver", "handoff": "ws:// without loss",
        },
        "lag": 0.0,
        "lag_worst": 0.0,
        "connect_budget": {},
        "runtime": None,
        "endpoints": endpoints,
    }  # fmt: skip


def fake_endpoint_status(
    state: EndpointState,
    *,
    epoch: int,
    counts: Mapping[str, int],
    buffered: int,
    last_exit: Reason | None,
    wanted: int,
) -> EndpointStatus:
    """Of one endpoint. `counts`: of the events that were consumed, by name, and of "messages" and "bytes"."""
    return {
        "state": state,
        "pid": None,
        "epoch": epoch,
        "uptime": 0.0 if state == "up" else None,
        "messages": counts["messages"],
        "bytes": counts["bytes"],
        "rate": None,
        "byte_rate": None,
        "restarts": counts["down"],
        "gaps": counts["gap"],
        "handoffs": 0,
        "in_custody": False,
        "successor": None,
        "holder": None,
        "dropped": 0,
        "filtered": 0,
        "torn": 0,
        "silence": 0.0 if counts["messages"] else None,
        "rtt": None,
        "buffered": buffered,
        "pending": 0,
        "memory": None,
        "last_exit": exit_status(last_exit),
        "url": "",
        "subscriptions": {"wanted": wanted, "confirmed": wanted, "live": 0, "rejected": {}},
        "counts": {"downs": {}, "gaps": {}, "dropped": {}, "stalled": 0, "handoff": None},
        "group": None,
    }
