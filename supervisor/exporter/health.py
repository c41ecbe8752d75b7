"""The answers of `/live` and `/ready`. Pure.

`/live` reports whether the supervisor's loop still runs: if not, a restart of the supervisor is the remedy. `/ready` reports
whether the endpoints are up; a restart of the supervisor does not help a feed that is down.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from wsadapter.exporter.reading import Reading, condition


class Health(NamedTuple):
    """An answer."""

    ok: bool
    text: str
    """For a person: one line for each thing that is wrong, or one line."""


def live(reading: Reading, now: float) -> Health:
    """Whether the supervisor's loop answers."""
    age = reading.age(now)
    if reading.current(now) is not None:
        return Health(True, f"the supervisor's loop answered {age:.1f} s ago, within {reading.seconds * 1000:.1f} ms")
    silence = "it has not answered yet" if age is None else f"its last answer is {age:.0f} s old"
    return Health(False, f"{silence}: {reading.problem}" if reading.problem else silence)


def ready(reading: Reading, now: float, names: Collection[str] = ()) -> Health:
    """Whether all endpoints are up; with `names`, only these endpoints and the shards of these groups."""
    status = reading.current(now)
    if status is None:
        return Health(False, live(reading, now).text)
    if status["state"] != "running":
        return Health(False, f"the supervisor is {status['state']}")
    endpoints = status["endpoints"]
    chosen = {name: e for name, e in endpoints.items() if not names or name in names or e["group"] in names}
    known = {*chosen, *(endpoint["group"] for endpoint in chosen.values())}
    wrong = [f"{name}: there is no endpoint of that name" for name in names if name not in known]
    wrong += [f"{name}: {condition(endpoint)}" for name, endpoint in chosen.items() if endpoint["state"] != "up"]
    return Health(not wrong, "\n".join(wrong) if wrong else f"{len(chosen)} of {len(chosen)} endpoints are up")
