"""`wsadapter consumers` and `wsadapter sinks`: who reads the journal, and how far each is behind."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wsadapter.cli import table
from wsadapter.cli.which import DONE, NOT_DONE, ask, say, say_json
from wsadapter.contract.errors import JournalError, UnknownConsumer, UnknownSink, UsageError
from wsadapter.journal import positions


def consumers(options: argparse.Namespace) -> int:
    """Each consumer that has a position, sinks included; or `--forget` those that are named."""
    if options.forget and not options.names:
        raise UsageError("consumers: --forget needs the names of the consumers")
    found: Mapping[str, Any] = _journal(options)["consumers"]
    for name in options.names:
        if name not in found:
            raise UnknownConsumer(name, sorted(found))
    if options.forget:
        return _forget(Path(ask(options, "journal")["journal"]), options)
    chosen = {name: found[name] for name in options.names or found}
    if options.json:
        say_json(chosen)
    else:
        say("\n".join(table.consumers(chosen)) if chosen else "no consumer has a position in this journal yet")
    return DONE


def sinks(options: argparse.Namespace) -> int:
    """Each sink, or `--restart` those that are named."""
    if options.restart and not options.names:
        raise UsageError("sinks: --restart needs the names of the sinks")
    found = _sinks(options)
    for name in options.names:
        if name not in found:
            raise UnknownSink(name, list(found))
    if options.restart:
        for name in options.names:
            ask(options, "restart_sink", sink=name)
        found = _sinks(options)
    chosen = {name: found[name] for name in options.names or found}
    if options.json:
        say_json(chosen)
    else:
        say("\n".join(table.sinks(chosen)) if chosen else "this supervisor has no sinks: add a table [[sink]]")
    return DONE if all(sink["state"] == "running" for sink in chosen.values()) else NOT_DONE


def _forget(folder: Path, options: argparse.Namespace) -> int:
    for name in options.names:
        if name.startswith(positions.OF_SINKS):
            raise UsageError(f"consumers: {name} is a sink, whose position is in its target: remove its table [[sink]] instead")
    for name in options.names:
        positions.forget(folder, name)
    if options.json:
        say_json({"forgotten": options.names})
    else:
        say("\n".join(f"{name}: its position is removed" for name in options.names))
    return DONE


def _sinks(options: argparse.Namespace) -> dict[str, Any]:
    found: dict[str, Any] = ask(options, "status")["status"].get("sinks", {})
    return found


def _journal(options: argparse.Namespace) -> Mapping[str, Any]:
    status = ask(options, "status")["status"]
    if "journal" not in status:
        raise JournalError(
            f"the supervisor {status['name']!r} has no journal to attach to: add a table [journal] with its path"
        )
    journal: Mapping[str, Any] = status["journal"]
    return journal
