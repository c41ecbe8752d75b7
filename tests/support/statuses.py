"""Statuses and readings of them, as the exporter and the terminal view get them."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any, cast

from wsadapter.exporter.processes import Usage
from wsadapter.exporter.reading import Reading
from wsadapter.status import FORMAT, EndpointStatus, Status

_ENDPOINT: dict[str, Any] = {
    "state": "up", "pid": 4711, "epoch": 3, "uptime": 42.5, "messages": 1000, "bytes": 50_000, "rate": 10.0, "byte_rate": 500.0,
    "restarts": 2, "gaps": 1, "handoffs": 1, "in_custody": True, "successor": None, "holder": None, "dropped": 7, "filtered": 4,
    "torn": 0, "silence": 0.25, "rtt": 0.0125, "buffered": 2048, "pending": 1, "memory": None,
    "last_exit": {"kind": "closed_by_peer", "code": 1006}, "url": "wss://stream.example.com/ws",
    "subscriptions": {"wanted": 3, "confirmed": 2, "live": 1, "rejected": {"x": "no such stream"}},
    "counts": {
        "downs": {"closed_by_peer": 1, "crashed": 1}, "gaps": {"reconnected": 1}, "dropped": {"overflow": 7}, "stalled": 1,
        "handoff": 0.004,
    },
    "group": None,
}  # fmt: skip


def endpoint(**fields: Any) -> EndpointStatus:
    """The status of an endpoint that is up, except for `fields`; `counts` and `subscriptions` replace only their own keys."""
    status = deepcopy(_ENDPOINT)
    for name, value in fields.items():
        status[name] = {**status[name], **value} if name in ("counts", "subscriptions") else value
    return cast("EndpointStatus", status)


def supervisor(endpoints: Mapping[str, EndpointStatus], **fields: Any) -> Status:
    """The status of a running supervisor, but for `fields`."""
    status = {
        "format": FORMAT, "name": "feeds", "run": "0123", "pid": 4700, "version": "0.1.0", "state": "running", "uptime": 60.0,
        "strategy": "one_for_one", "spares": 1, "lag": 0.001, "lag_worst": 0.02, "connect_budget": {"stream.example.com": 290},
        "capabilities": {"death": "pidfd", "poll": "epoll", "start_method": "forkserver", "handoff": "ws:// without loss"},
        "runtime": "/run/feeds.sock", "endpoints": dict(endpoints), **fields,
    }  # fmt: skip
    return cast("Status", status)


LAG: dict[str, Any] = {"messages": 12, "bytes": 3400, "seconds": 0.5}
JOURNAL: dict[str, Any] = {
    "consumers": {
        "risk": {"pid": None, "position": 7, "lag": {**LAG, "messages": 90_000, "seconds": 3700.0}},
        "strategy": {"pid": 4720, "position": 9, "lag": LAG}, "sink:nats": {"pid": 4721, "position": 9, "lag": LAG},
    }
}  # fmt: skip
"""What the exporter looks at of the status of a journal."""
SINKS: dict[str, Any] = {
    "nats": {
        "kind": "nats", "state": "backoff", "pid": None, "restarts": 3, "position": 9, "lag": LAG,
        "last_exit": {"kind": "unavailable", "text": "NATS 127.0.0.1:4222: connection refused"},
    },
    "lines": {
        "kind": "jsonl", "state": "running", "pid": 4722, "restarts": 0, "position": 9, "lag": LAG, "last_exit": None,
    },
}  # fmt: skip
CLUSTER: dict[str, Any] = {
    "name": "prices", "host": "a", "state": "member", "lease": 1.5, "trouble": None, "refused": 2, "terms": {"a": 7},
    "hosts": {
        "a": {"alive": True, "version": "1", "weight": 1.0, "same_configuration": True},
        "b": {"alive": False, "version": "1", "weight": 1.0, "same_configuration": True},
    },
    "endpoints": {"a": {"host": "a", "term": 7}},
}  # fmt: skip

KEEPER: dict[str, Any] = {"pid": 4699, "alive": True, "kills": 2}


def reading(status: Status | None, at: float = 100.0, *, problem: str = "") -> Reading:
    """The exporter's reading of it, at `at` monotonic seconds."""
    if status is None:
        return Reading(at, problem=problem)
    usage = {4700: Usage(30_000_000, 1.5), 4711: Usage(20_000_000, 0.5)}
    return Reading(at, status, at, 1_700_000_000.0 + at, 0.002, problem, usage)
