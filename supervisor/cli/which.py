"""Which running supervisor a command is for, and how commands print."""

from __future__ import annotations

import argparse
import shlex
from typing import Any, Final

import orjson

from wsadapter.cli.standard_streams import write
from wsadapter.contract.errors import NotRunning, UsageError
from wsadapter.control import server
from wsadapter.control.instance import elsewhere, running, search

DONE: Final = 0
NOT_DONE: Final = 1
USAGE: Final = 2
NOTHING_RUNS: Final = 3
_MOST_OTHERS: Final = 8
"""Supervisors in other folders that are shown."""


class _SeveralRun(UsageError):
    """Several supervisors run, and none was named."""


def name_of(options: argparse.Namespace) -> str:
    """The name of the supervisor: the one that was given, otherwise that of the only running one.

    Raises `NotRunning`, `UsageError`.
    """
    if options.name:
        return str(options.name)
    names = running(options.runtime_dir)
    if not names:
        raise NotRunning("no supervisor is running here")
    if len(names) > 1:
        raise _SeveralRun(f"several supervisors are running; choose one with --name: {', '.join(names)}")
    return names[0]


def ask(options: argparse.Namespace, command: str, **request: Any) -> dict[str, Any]:
    """The answer of the chosen supervisor. Raises `ControlError`."""
    timeout = getattr(options, "timeout", 10.0)
    return server.ask(name_of(options), {"command": command, **request}, runtime_dir=options.runtime_dir, timeout=timeout)


def where_it_was_searched(options: argparse.Namespace) -> str:
    """For a person whose supervisor was not found."""
    lines = [f"  {place.describe()}" for place in search(options.runtime_dir)]
    text = "\n".join(["Its control socket was searched in:", *lines])
    if others := elsewhere(options.runtime_dir):
        commands = [f"  {path.stem}: --runtime-dir {shlex.quote(str(path.parent))}" for path in others[:_MOST_OTHERS]]
        return "\n".join([text, "Supervisors that run with other folders:", *commands])
    return (
        f"{text}\nIf it was started with a runtime folder of its own (supervisor.runtime_dir, $WSADAPTER_RUNTIME_DIR), or has\n"
        "another network namespace, name its folder: --runtime-dir DIR. Another user's supervisor answers that user and root."
    )


def say(text: str) -> None:
    """Print on standard output, without buffering. Raises `CannotPrint`, `BrokenPipeError`."""
    write(f"{text}\n")


def say_json(value: Any) -> None:
    """For a program."""
    say(orjson.dumps(value).decode())
