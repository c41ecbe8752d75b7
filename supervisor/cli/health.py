"""`wsadapter health`: the health check of a container.

It is red only for what a person, or a new container, can mend: a supervisor that does not answer, and an endpoint that is
`fatal` and so is not tried again. An endpoint that is down and retries leaves it green, because a container that is replaced
then loses the connections of all other endpoints. Whether all endpoints are up is the question of `wsadapter status`.
"""

from __future__ import annotations

import argparse
from typing import Final, NamedTuple

from wsadapter.cli.which import DONE, NOT_DONE, ask, say, say_json
from wsadapter.exporter.reading import condition
from wsadapter.status import Status

_WITHIN: Final = 3.0
"""Seconds for an answer: less than the time that a container runtime usually gives a check."""


class Verdict(NamedTuple):
    """The result of the check."""

    fatal: dict[str, str]
    """Each endpoint that is fatal, with the reason."""
    up: int
    """How many endpoints are up."""
    total: int
    """How many there are."""

    @property
    def text(self) -> str:
        """For a person, and for the log of the container runtime: one line for each fatal endpoint, or one line."""
        if not self.fatal:
            return f"the supervisor answers; {self.up} of {self.total} endpoints are up, none is fatal"
        return "\n".join(f"{name}: {why}" for name, why in self.fatal.items())


def judge(status: Status) -> Verdict:
    """The verdict over a status. Pure."""
    endpoints = status["endpoints"]
    fatal = {name: condition(endpoint) for name, endpoint in endpoints.items() if endpoint["state"] == "fatal"}
    return Verdict(fatal, sum(endpoint["state"] == "up" for endpoint in endpoints.values()), len(endpoints))


def health(options: argparse.Namespace) -> int:
    """Check once. Raises `ControlError` if the supervisor does not answer."""
    options.timeout = _WITHIN
    verdict = judge(ask(options, "watch")["status"])
    if options.json:
        say_json({"healthy": not verdict.fatal, **verdict._asdict()})
    else:
        say(verdict.text)
    return NOT_DONE if verdict.fatal else DONE
