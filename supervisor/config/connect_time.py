"""How often a host may be connected to, and how long many endpoints take to connect under that limit. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from wsadapter.contract.endpoint import Endpoint

NOTICEABLE: Final = 30.0
"""Seconds from the first connect to the last one of a host, above which a warning is logged."""
_DEFAULT: Final = (60, 60.0)
"""Connects per period to a host without a configured limit."""


class ConnectSource(NamedTuple):
    """What an exchange counts connects for: a source address that connects to a host."""

    host: str
    """The host of the URL."""
    bind: str
    """Source address; empty: the system's choice."""


def source_of(endpoint: Endpoint, url: str) -> ConnectSource:
    """What a connect of this endpoint to `url` counts for."""
    return ConnectSource(urlsplit(url).hostname or "", endpoint.bind)


def connect_limit(endpoint: Endpoint, host: str) -> tuple[int, float]:
    """The limit of connects to the host, and its period in seconds; 0 connects: no limit."""
    limits = endpoint.limits
    if limits.connects is not None:
        return limits.connects, limits.connects_period
    return (0, _DEFAULT[1]) if _is_loopback(host) else _DEFAULT


def _is_loopback(host: str) -> bool:
    """Whether the host is this machine, which bans nobody."""
    return host == "localhost" or host == "::1" or host.startswith("127.")


def time_to_connect(count: int, connects: int, period: float) -> float:
    """Seconds from the first of `count` connects to the last one, if no window of `period` seconds may contain more than
    `connects`. 0 connects: no limit."""
    return (count - 1) // connects * period if connects and count else 0.0


def slow_connects(endpoints: Iterable[Endpoint]) -> list[str]:
    """A line for each host whose endpoints take longer than `NOTICEABLE` to connect, with the arithmetic. The endpoints must be
    those that connect: with the limits of their dialects, and shards instead of the endpoint that they are parts of."""
    groups: dict[ConnectSource, list[Endpoint]] = {}
    for endpoint in endpoints:
        if endpoint.urls:
            groups.setdefault(source_of(endpoint, endpoint.urls[0]), []).append(endpoint)
    lines: list[str] = []
    for source, group in groups.items():
        limits = [connect_limit(endpoint, source.host) for endpoint in group]
        connects, period = min(limits, key=lambda limit: limit[0] / limit[1] if limit[0] else float("inf"))  # it holds for all
        connections = sum(endpoint.replicas for endpoint in group)
        took = time_to_connect(connections, connects, period)
        if took > NOTICEABLE:
            lines.append(f"{_who(len(group), connections, source)}: {_why(connects, period, took)}")
    return lines


def _who(endpoints: int, connections: int, source: ConnectSource) -> str:
    who = f"{endpoints:,} endpoint{'' if endpoints == 1 else 's'}"
    if connections > endpoints:
        who = f"{connections:,} replicas of {who}"
    return f"{who} connect to {source.host}" + (f" from {source.bind}" if source.bind else "")


def _why(connects: int, period: float, took: float) -> str:
    limit = f"at most {connects:,} in {period:g} s (limits.connects)"
    return f"{limit}, so the last one connects after about {_approximately(took)}"


def _approximately(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.3g} h"
