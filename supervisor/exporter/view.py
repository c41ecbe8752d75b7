"""What the status page is sent, as JSON. Pure.

event: start   once: all that the page needs to draw the past too
event: tick    once a second: the present, and the marks that the page has not got yet
"""

from __future__ import annotations

from typing import Any

import orjson

from wsadapter.exporter.history import History
from wsadapter.exporter.reading import STALE_AFTER, Reading, last_exit
from wsadapter.status import EndpointStatus, Status


def start_event(reading: Reading, history: History, now: float) -> bytes:
    """For a browser that has just connected."""
    past = {"rates": {name: list(rates) for name, rates in history.rates.items()}, "marks": _marks(history, 0)}
    return _event("start", {**_present(reading, history, now), **past})


def tick_event(reading: Reading, history: History, now: float, after: int) -> bytes:
    """For one that has got the marks up to the number `after`."""
    return _event("tick", {**_present(reading, history, now), "marks": _marks(history, after)})


def _marks(history: History, after: int) -> list[tuple[Any, ...]]:
    """Plain tuples, because orjson can't encode named tuples."""
    return [tuple(mark) for mark in history.marks(after)]


def _event(name: str, data: dict[str, Any]) -> bytes:
    """As HTML's "Server-sent events" asks for: the JSON is one line."""
    return b"event: %s\ndata: %s\n\n" % (name.encode(), orjson.dumps(data))


def _present(reading: Reading, history: History, now: float) -> dict[str, Any]:
    status, age = reading.status, reading.age(now)
    return {
        "at": round(reading.wall * 1000),
        "age": age,
        "stale": age is None or age > STALE_AFTER,
        "problem": reading.problem,
        "supervisor": None if status is None else {
            "name": status["name"], "version": status["version"], "pid": status["pid"], "state": status["state"],
            "uptime": status["uptime"], "lag": status["lag_worst"], "spares": status["spares"],
        },
        "endpoints": [] if status is None else [
            _endpoint(name, endpoint, reading, history) for name, endpoint in status["endpoints"].items()
        ],
        "consumers": [] if status is None else _consumers(status),
    }  # fmt: skip


def _consumers(status: Status) -> list[dict[str, Any]]:
    """Who reads the journal: sinks, then attached consumers, then those that are away."""
    found = status.get("journal", {"consumers": {}})["consumers"]
    rows = [
        {"name": name, "kind": sink["kind"], "state": sink["state"], "lag": sink["lag"], "last": last_exit(sink["last_exit"])}
        for name, sink in status.get("sinks", {}).items()
    ]
    others = {name: each for name, each in found.items() if not name.startswith("sink:")}
    rows += [
        {"name": name, "kind": "consumer", "state": state, "lag": each["lag"], "last": ""}
        for state, is_there in (("attached", True), ("away", False))
        for name, each in others.items()
        if (each["pid"] is not None) == is_there
    ]
    return rows


def _endpoint(name: str, endpoint: EndpointStatus, reading: Reading, history: History) -> dict[str, Any]:
    rates, streams = history.rates.get(name), endpoint["subscriptions"]
    usage = reading.usage.get(endpoint["pid"] or 0)
    return {
        "name": name,
        "now": rates[-1] if rates else None,
        **{key: endpoint[key] for key in _AS_THEY_ARE},  # type: ignore[literal-required]
        "memory": None if usage is None else usage.memory,
        "cpu": None if usage is None else usage.cpu,
        "last": last_exit(endpoint["last_exit"]),
        "streams": [streams["wanted"], streams["confirmed"], streams["live"], len(streams["rejected"])],
        "live": endpoint.get("live"),
        "members": len(endpoint.get("members", ())) or None,
    }


_AS_THEY_ARE = (
    "state", "group", "pid", "epoch", "uptime", "messages", "rate", "byte_rate", "restarts", "gaps", "handoffs", "dropped",
    "silence", "rtt", "buffered", "url",
)  # fmt: skip
