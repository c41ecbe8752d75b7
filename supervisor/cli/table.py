"""The status as a table for a person. Pure: a status in, lines out."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

_MISSING: Final = "-"
_WIDEST: Final = 48
"""Columns that a text (a name, a last exit) may take."""
_LEAST_NAME: Final = 8
"""Columns that are left of a name on the narrowest terminal."""


class Column(NamedTuple):
    """One column: its heading, and the function that makes a cell from an endpoint's status."""

    heading: str
    cell: Callable[[Mapping[str, Any]], str]
    text: bool = False
    """Aligned to the left."""


def _endpoint_cells() -> dict[str, Column]:
    return {
        "state": Column("STATE", lambda e: str(e["state"]), text=True),
        "pid": Column("PID", lambda e: _count(e["pid"], separate=False)),
        "epoch": Column("EPOCH", lambda e: _count(e["epoch"])),
        "uptime": Column("UPTIME", lambda e: duration(e["uptime"])),
        "messages": Column("MESSAGES", lambda e: _count(e["messages"])),
        "rate": Column("MSG/S", lambda e: per_second(e.get("rate"))),
        "byte_rate": Column("BYTES/S", lambda e: size(e.get("byte_rate"))),
        "restarts": Column("RESTARTS", lambda e: _count(e["restarts"])),
        "gaps": Column("GAPS", lambda e: _count(e["gaps"])),
        "dropped": Column("DROPPED", lambda e: _count(e["dropped"])),
        "silence": Column("SILENCE", lambda e: duration(e["silence"])),
        "rtt": Column("RTT", lambda e: duration(e["rtt"])),
        "memory": Column("MEMORY", lambda e: size(e.get("memory"))),
        "last_exit": Column("LAST EXIT", lambda e: _last_exit(e["last_exit"]), text=True),
    }


COLUMNS: Final = _endpoint_cells()
"""Every column by its name."""
FOR_STATUS: Final = tuple(COLUMNS)
_LEAVES_FIRST: Final = (
    "last_exit", "epoch", "pid", "memory", "rtt", "byte_rate", "messages", "uptime", "dropped", "silence", "restarts", "gaps",
)  # fmt: skip
"""Which columns are left out on a terminal that is too narrow for all, the least important first. The others stay."""


def fitted(endpoints: Mapping[str, Mapping[str, Any]], width: int) -> list[str]:
    """As `render`, within `width` columns: the least important ones are left out, and at last long names are clipped. If last
    exits are left out, those of the endpoints that are not up stand below the table."""
    left = list(FOR_STATUS)
    lines = render(endpoints, left)
    for name in _LEAVES_FIRST:
        if _width(lines) <= width:
            break
        left.remove(name)
        lines = render(endpoints, left)
    if (excess := _width(lines) - width) > 0:
        lines = render(endpoints, left, max(_LEAST_NAME, max(map(len, endpoints), default=0) - excess))
    if "last_exit" not in left:
        lines += _exits(endpoints, width)
    return [_clipped(line, width) for line in lines]


def _exits(endpoints: Mapping[str, Mapping[str, Any]], width: int) -> list[str]:
    """Why those ended that are not up, below an empty line."""
    down = {name: e for name, e in endpoints.items() if e["state"] != "up" and e["last_exit"]}
    exits = [_printable(f"{name}: {_last_exit(endpoint['last_exit'])}") for name, endpoint in down.items()]
    return ["" for _ in exits[:1]] + [
        line for text in exits for line in textwrap.wrap(text, width, subsequent_indent="  ", max_lines=3, placeholder=" ...")
    ]


def render(
    endpoints: Mapping[str, Mapping[str, Any]], columns: Sequence[str] = FOR_STATUS, widest_name: int = _WIDEST
) -> list[str]:
    """A heading and a line for each endpoint, columns aligned; without trailing spaces."""
    chosen = [COLUMNS[name] for name in columns]
    rows = [["ENDPOINT", *(column.heading for column in chosen)]]
    rows += [[_shown(name, widest_name), *(_shown(column.cell(e)) for column in chosen)] for name, e in endpoints.items()]
    return _columns(rows, [True, *(column.text for column in chosen)])


def sinks(found: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """A heading and a line for each sink; nothing without sinks."""
    rows = [["SINK", "KIND", "STATE", "PID", "RESTARTS", "BEHIND", "LAG", "LAST EXIT"]]
    for name, sink in found.items():
        lag = sink["lag"] or {"messages": None, "seconds": None}
        texts = [_shown(name), _shown(str(sink["kind"])), str(sink["state"])]
        counts = [_count(sink["pid"], separate=False), _count(sink["restarts"]), _count(lag["messages"])]
        rows.append([*texts, *counts, duration(lag["seconds"]), _shown(_last_exit(sink["last_exit"]))])
    return _columns(rows, [True, True, True, False, False, False, False, True]) if found else []


def cluster(found: Mapping[str, Any]) -> list[str]:
    """The cluster in one line; then its hosts, and the endpoints of each."""
    trouble = f": {found['trouble']}" if found["trouble"] else ""
    headline = f"cluster {found['name']}, host {found['host']}: {found['state']}{trouble}"
    leases = {name: lease or {"host": "", "term": None} for name, lease in found["endpoints"].items()}
    hosts = [["HOST", "STATE", "ENDPOINTS", "WEIGHT", "VERSION", "CONFIG"]]
    for name, host in found["hosts"].items():
        has = sum(lease["host"] == name for lease in leases.values())
        config = "same" if host["same_configuration"] else "differs"
        hosts.append(
            [_shown(name), "alive" if host["alive"] else "gone", _count(has), f"{host['weight']:g}", host["version"], config]
        )
    endpoints = [["ENDPOINT", "HOST", "TERM"]]
    endpoints += [[_shown(name), _shown(lease["host"]) or _MISSING, _count(lease["term"])] for name, lease in leases.items()]
    tables = [_columns(hosts, [True, True, False, False, True, True]), _columns(endpoints, [True, True, False])]
    return [_printable(headline), *(line for lines in tables for line in ("", *lines))]


def consumers(found: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """A heading and a line for each consumer; nothing without consumers."""
    rows = [["CONSUMER", "PID", "POSITION", "BEHIND", "BYTES", "LAG"]]
    for name, consumer in found.items():
        lag = consumer["lag"]
        counts = [_count(consumer["pid"], separate=False), _count(consumer["position"]), _count(lag["messages"])]
        rows.append([_shown(name), *counts, size(lag["bytes"]), duration(lag["seconds"])])
    return _columns(rows, [True, False, False, False, False, False]) if found else []


def _columns(rows: Sequence[Sequence[str]], left: Sequence[bool]) -> list[str]:
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    return [_aligned(row, widths, left) for row in rows]


def _width(lines: Sequence[str]) -> int:
    return max(map(len, lines))


def _aligned(cells: Sequence[str], widths: Sequence[int], left: Sequence[bool]) -> str:
    padded = [c.ljust(width) if to_left else c.rjust(width) for c, width, to_left in zip(cells, widths, left, strict=True)]
    return "  ".join(padded).rstrip()


def headline(status: Mapping[str, Any]) -> str:
    """The supervisor itself in one line."""
    states = [endpoint["state"] for endpoint in status["endpoints"].values()]
    kills = status["keeper"]["kills"] if "keeper" in status else 0
    killed = f", killed and replaced {'once' if kills == 1 else f'{kills} times'}" if kills else ""
    return (
        f"{status['name']}: pid {status['pid']}, version {status['version']}, {status['state']} for "
        f"{duration(status['uptime'])}, {states.count('up')} of {len(states)} endpoints up, {status['spares']} spare{killed}"
    )


def duration(seconds: float | None) -> str:
    """Short, with the two figures that matter: `3.2ms`, `0.4s`, `42s`, `7m05s`, `3h12m`, `12d04h`."""
    if seconds is None:
        return _MISSING
    if seconds < 0.1:
        return f"{seconds * 1000:.1f}ms"
    if seconds < 10:
        return f"{seconds:.1f}s"
    whole = int(seconds)
    for large, small, per in (("d", "h", 86400), ("h", "m", 3600), ("m", "s", 60)):
        if whole >= per:
            return f"{whole // per}{large}{whole % per * {'d': 24, 'h': 60, 'm': 60}[large] // per:02d}{small}"
    return f"{whole}s"


def size(octets: float | None) -> str:
    """`812B`, `4.7MiB`."""
    if octets is None:
        return _MISSING
    for unit in ("B", "KiB", "MiB"):
        if octets < 1024:
            return f"{octets:.0f}{unit}" if unit == "B" else f"{octets:.1f}{unit}"
        octets /= 1024
    return f"{octets:.1f}GiB"


def per_second(rate: float | None) -> str:
    """`0`, `0.3`, `12`, `1,234`: two figures at least."""
    if rate is None:
        return _MISSING
    return f"{rate:.1f}" if 0 < rate < 9.95 else f"{rate:,.0f}"


def _count(number: float | None, *, separate: bool = True) -> str:
    if number is None:
        return _MISSING
    return f"{number:,.0f}" if separate else f"{number:.0f}"


def _last_exit(reason: Mapping[str, Any] | None) -> str:
    if reason is None:
        return _MISSING
    details = (("code", "code "), ("status", "HTTP "), ("signal", ""), ("text", ""))
    said = [f"{label}{reason[key]}" for key, label in details if key in reason]
    return ", ".join([str(reason["kind"]).replace("_", " "), *said])


def _shown(text: str, widest: int = _WIDEST) -> str:
    """The text without control characters, which a peer may have sent and a terminal would act on, and not too wide."""
    return _clipped(_printable(text), widest)


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in text)


def _clipped(text: str, width: int) -> str:
    return text if len(text) <= width else text[: max(0, width - 3)] + "..."
