"""Prints ops/docs/REFERENCE.md, from the code that it describes. `python ops/reference.py > ops/docs/REFERENCE.md`.

A test compares the file with what this prints, so no setting, event, reason, command or exit code stays undocumented.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import fields

from wsadapter import status
from wsadapter.cli.repetition import OF_ALL_THINGS, OF_ONE_THING, WINDOW
from wsadapter.cli.runner import EXIT_CODES
from wsadapter.cli.which import DONE, NOT_DONE, NOTHING_RUNS, USAGE
from wsadapter.config import describe_settings
from wsadapter.contract import items, reasons
from wsadapter.contract.items import DROP_CAUSES, EVENT_NAMES, GAP_CAUSES, Event, Message
from wsadapter.contract.meanings import meanings_of, types_of
from wsadapter.endpoint.link_state import STATES
from wsadapter.exporter.metrics import METRICS
from wsadapter.exporter.server import PATHS
from wsadapter.sinks.base import KINDS as SINK_KINDS

_HEAD = """\
# Reference

Made by `python ops/reference.py` from the code; a test compares the two.
"""
_COMMANDS = [
    ("python -m wsadapter.supervise CONFIG", "runs until told to stop; `wsadapter run CONFIG` is the same"),
    ("... --check", "checks the configuration and imports its hooks, prints every problem with its path, exits with 0 or 2"),
    ("... --check --show", "prints the effective settings too, secrets masked"),
    ("... --check --no-secrets", "reads no `${NAME}` and no `${file:PATH}`, takes each for present: for CI without secrets"),
    ("... --demo", "needs no network and no file: local exchanges replay recordings over TLS"),
    ("... --duration S", "stops by itself after S seconds"),
    ("... --takeover", "goes on with the connections of the running supervisor of that name, closing none; else just starts"),
    ("... --name NAME", "another instance name than the configuration's"),
    ("... --log-level LEVEL", "what goes to standard error: debug, info, warning, error"),
    ("... --log-format json", "log lines as JSON objects: `at`, `level`, `logger`, `text`, of an owner `endpoint` and `epoch`"),
    ("wsadapter status", "a table of the endpoints, on a terminal as many columns as fit; a probe by its exit code"),
    ("wsadapter status NAME ...", "only these endpoints, also for the exit code; a sharded one's name stands for its shards"),
    ("... --down", "only those that are not up"),
    ("... --cluster", "the hosts of the cluster, and the host and the term of each endpoint"),
    ("... --wide", "all columns, whatever the width of the terminal"),
    ("... --json", "for programs: a `Status`, with the endpoints that were asked for. Most commands have it"),
    ("... --name SUPERVISOR", "which supervisor, if several run"),
    ("... --runtime-dir DIR", "where its control socket is, if it was started with another runtime folder"),
    ("... --watch", "each second until Ctrl-C"),
    ("wsadapter health", "for the health check of a container: 0 if the supervisor answers and no endpoint is `fatal`"),
    (
        "wsadapter top",
        "all endpoints live (extra `console`): `/` filter, `s` sort, Enter one, `g` gaps, `l` log, `c` consumers, `r` restart",
    ),
    (
        "wsadapter tail NAME",
        "lines of the output as they come, `--limit` of an `--interval` at most; waits for a supervisor that restarts",
    ),
    ("wsadapter restart NAME", "a new owner for an endpoint; returns when it is up; also leaves `fatal`"),
    ("wsadapter start NAME", "starts an endpoint that was stopped, or is `fatal`; returns when it is up"),
    ("wsadapter stop", "stops the supervisor; returns when it has stopped"),
    ("wsadapter stop NAME", "stops one endpoint until it is started, or the supervisor is; refused for the last one that runs"),
    ("wsadapter subscribe NAME STREAM ...", "subscribes more streams, until the next reload or start"),
    ("wsadapter unsubscribe NAME STREAM ...", "unsubscribes streams, until the next reload or start"),
    (
        "wsadapter send NAME TEXT",
        "sends a message, `-` from standard input, `--binary` as a binary one; returns when it is out",
    ),
    ("wsadapter reload", "as SIGHUP, and prints what changed, or each problem of the file (exit code 1)"),
    (
        "wsadapter rebalance",
        "in a cluster, orders each endpoint to the host of its first choice among those that are alive; prints the moves",
    ),
    ("wsadapter check FILE", "as `--check`; with `--json` each problem is an object"),
    ("wsadapter replay PATH", "what a journal holds, as the lines of the output; `--help` has its options"),
    ("wsadapter consumers [NAME ...]", "who reads the journal, attached or not, sinks included, and how far each is behind"),
    (
        "wsadapter consumers NAME ... --forget",
        "removes the positions of consumers that are not needed any more; refused while one is attached",
    ),
    ("wsadapter sinks [NAME ...]", "the sinks: state, position, how far each is behind, why its last process ended"),
    (
        "wsadapter sinks NAME ... --restart",
        "starts other processes for these sinks, `fatal` ones too; returns when they run",
    ),
    ("wsadapter dialects", "lists the exchanges that it knows"),
    ("wsadapter dialects NAME", "the addresses, the form of a stream, limits and documentation of one"),
    ("wsadapter version", "the versions that a report needs"),
    ("wsadapter completion SHELL", 'completion for bash, zsh or fish: `eval "$(wsadapter completion bash)"`'),
    ("wsadapter docs", "lists the documents that are installed with it: this one, the runbook, examples ..."),
    ("wsadapter docs NAME", "prints one, on a terminal through `$PAGER`, `less` or `more`"),
    ("python -m wsadapter.testing serve", "an exchange to test against; `--help` lists what it speaks, and how it misbehaves"),
]
_SIGNALS = [
    ("SIGTERM, SIGINT", "stop: close every connection with 1000, write what was received, exit 0; a second one: at once"),
    ("SIGHUP", "read the configuration again and touch only what changed; from a terminal that closes: stop"),
    ("SIGUSR1", "stacks of all threads and the status, to standard error"),
]


def main() -> None:
    """Print it all."""
    print("\n".join(reference()))


def reference() -> Iterator[str]:
    """The lines of the file."""
    yield _HEAD
    yield "## Settings\n"
    yield 'Numbers are seconds or bytes; durations may be written `"500ms"`, `"23h"`, sizes `"64MiB"`. `[defaults]` takes'
    yield "every key of an endpoint, for all endpoints. `${NAME}` is an environment variable, `${file:PATH}` a file's content,"
    yield "both read at each connect; `$${` is a literal.\n"
    yield "A dialect gives values for `heartbeat.*`, `request.*`, `limits.*`, and for `silence`, `stalled`, `live_timeout`,"
    yield "`max_age` and `rollover_window` of `watchdog`, unless you write the setting, in the file or in Python: a value that"
    yield "is written counts even if it equals the default, so `watchdog.silence = 0` switches off the `silence` of a dialect."
    yield "(A copy that `dataclasses.replace` makes of a section has no setting that counts as written only because of that.)\n"
    yield "The module of a hook (`decode`, `[hooks]`) is searched on Python's `sys.path` (installed packages, `PYTHONPATH`),"
    yield "then in the folder of the configuration file, then in that of the dialect's file. For the library the folder of the"
    yield "program is part of `sys.path`; the command line never searches the working folder. Installed packages come first, so"
    yield "that no file of yours is imported instead of a module of Python or of wsadapter.\n"
    yield from _table(("key", "default", "type", "meaning"), _settings())
    yield "\n## Messages\n"
    yield "A line of the output has these keys. The payload is under `data` if it is valid JSON on one line (its"
    yield "own bytes, never re-serialised), otherwise under `text` or `binary` (base64).\n"
    yield from _table(("key", "meaning"), _attributes(Message))
    yield "\n## Events\n"
    for kind, name in EVENT_NAMES.items():
        yield f"### `{name}` ({kind.__name__})\n"
        yield f"{_first_paragraph(kind)}\n"
        own = _attributes(kind)
        if own:
            yield from _table(("key", "meaning"), own)
            yield ""
    yield "Every event has `event`, `at` (wall-clock ns) and, if it concerns an endpoint, `endpoint` and `epoch`.\n"
    yield from _section("Causes of a `gap`", "cause", GAP_CAUSES.items())
    yield from _section("Causes of a `dropped`", "cause", DROP_CAUSES.items())
    yield from _section("Kinds of a `down` reason", "kind", reasons.KINDS.items())
    yield "Its other keys: \n"
    yield from _table(("key", "meaning"), [row for row in _attributes(reasons.Reason) if row[0] != "`kind`"])
    yield "\n## States of an endpoint\n"
    yield from _table(("state", "meaning"), [(f"`{state}`", meaning) for state, meaning in STATES.items()])
    yield from _status()
    yield from _section("Kinds of the end of a sink", "kind", SINK_KINDS.items())
    yield from _exporter()
    yield "\n## Commands\n"
    yield from _table(("command", "what it does"), [(f"`{command}`", meaning) for command, meaning in _COMMANDS])
    yield "\n### Log lines\n"
    yield "Standard error has one line for each thing that happens. What repeats is limited and counted:"
    yield f"in {WINDOW:g} seconds, {OF_ONE_THING} lines of one kind about one endpoint are written"
    yield f"and {OF_ALL_THINGS:,} of one kind, then the last of the others with their number."
    yield "Secrets are masked; an address is shown as configured and as resolved."
    yield "As a library, wsadapter installs no handler and holds no line back. Its loggers are below `wsadapter`;"
    yield "`wsadapter.owner` has what user code prints."
    yield "\n## Signals of the runner\n"
    yield from _table(("signal", "what it does"), _SIGNALS)
    yield "\n## Exit codes\n"
    yield "Of the runner:\n"
    yield from _table(("code", "meaning"), [(str(code), meaning) for code, meaning in sorted(EXIT_CODES.items())])
    yield "\nOf the other commands:\n"
    operator = {DONE: "done; `status`: all that were asked for are up", NOT_DONE: "not done; `status`: some are not up"}
    operator |= {USAGE: "wrong arguments", NOTHING_RUNS: "nothing runs under that name"}
    yield from _table(("code", "meaning"), [(str(code), meaning) for code, meaning in operator.items()])


def _exporter() -> Iterator[str]:
    yield "\n## Exporter\n"
    yield "With `[exporter] listen` the runner has a process beside it that serves these paths:\n"
    yield from _table(("path", "what it is"), [(f"`{path}`", meaning) for path, meaning in PATHS.items()])
    yield "\n### Metrics\n"
    yield "What is not known has no value: it is absent, and not 0. Counts begin when the endpoint is added, and continue over"
    yield "a takeover.\n"
    rows = [
        (f"`{name}`", metric.kind, ", ".join(f"`{label}`" for label in metric.labels), metric.help)
        for name, metric in METRICS.items()
    ]
    yield from _table(("metric", "type", "labels", "meaning"), rows)


def _settings() -> list[tuple[str, ...]]:
    rows = []
    for setting in describe_settings():
        key = setting.path.replace("endpoints.NAME", "endpoints.*")
        kind = setting.type.split(" (")[0]
        rows.append((f"`{key}`", f"`{setting.default}`" if setting.default else "", kind, setting.meaning))
    return rows


_PROMISE = """\
`Supervisor.status()`, the control socket and `python -m wsadapter status --json` give a `Status`, `Pool.status()` a
`PoolStatus`; both are typed (`from wsadapter import Status, EndpointStatus`). What is listed here is a promise:

- no key is removed or renamed, and none changes its type, unit or meaning, unless `format` is raised (the changelog says so);
- every key is there, unless its type says "may be missing"; null means what the line says;
- new keys, new states, new kinds of reasons may come with any version: a program should ignore what it does not know.
"""
_JSON_TYPES = {"str": "string", "int": "integer", "float": "number", "bool": "boolean", "None": "null"}


def _status() -> Iterator[str]:
    yield "\n## Status\n"
    yield _PROMISE
    for kind in status.SCHEMA:
        yield f"### `{kind.__name__}`\n"
        yield f"{inspect.cleandoc(kind.__doc__ or '')}\n".replace("\n", " ").strip() + "\n"
        meanings = meanings_of(kind)
        yield from _table(
            ("key", "type", "meaning"),
            [(f"`{name}`", _json_type(written), meanings.get(name, "")) for name, written in types_of(kind).items()],
        )
        yield ""


def _json_type(written: str) -> str:
    """A type of the status, as written, in the words of JSON."""
    if inside := re.fullmatch(r"NotRequired\[(.+)\]", written):
        return f"{_json_type(inside[1])}; may be missing"
    if inside := re.fullmatch(r"dict\[str, (.+)\]", written):
        return f"object, each value: {_json_type(inside[1])}"
    if inside := re.fullmatch(r"list\[(.+)\]", written):
        return f"array of {_json_type(inside[1])}"
    if " | " in written:
        return " or ".join(map(_json_type, written.split(" | ")))
    named = getattr(status, written, None)
    return f"`{written}`" if named in status.SCHEMA else "string" if named is not None else _JSON_TYPES[written]


def _section(title: str, key: str, meanings: Iterable[tuple[str, str]]) -> Iterator[str]:
    yield f"## {title}\n"
    yield from _table((key, "meaning"), [(f"`{name}`", meaning) for name, meaning in meanings])
    yield ""


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |"


def _first_paragraph(kind: type[Event]) -> str:
    return inspect.cleandoc(kind.__doc__ or "").split("\n\n")[0].replace("\n", " ")


def _attributes(kind: type) -> list[tuple[str, str]]:
    """The fields of a class with the strings below them; those of `Event` only for `Event` itself."""
    known = kind._fields if issubclass(kind, tuple) else [f.name for f in fields(kind)]
    if issubclass(kind, Event):
        known = [name for name in known if name not in {f.name for f in fields(Event)}]
    meanings = meanings_of(kind)
    return [
        (f"`{name}`", re.sub(r"One of `\w+`", "One of those below", meanings.get(name, _PLAIN.get((kind, name), ""))))
        for name in known
    ]


_PLAIN = {
    (Message, "endpoint"): "Whose it is.",
    (items.Started, "name"): "Of the supervisor; empty where it has none.",
    (items.Up, "subprotocol"): "The one the peer chose, or null.",
    (items.Up, "headers"): "Of the handshake's response, names in lower case.",
    (items.Down, "reason"): "See below.",
    (items.Dropped, "last"): "Number of the last.",
    (items.Dropped, "count"): "How many.",
    (items.Subscribed, "stream"): "As the user wrote it; a table as its JSON.",
    (items.Rejected, "stream"): "As the user wrote it; a table as its JSON.",
    (items.Rejected, "error"): "What the peer said.",
    (items.Restored, "ok"): "How many were confirmed, or sent where nothing confirms.",
    (items.Stalled, "stream"): "Null: the whole connection.",
    (items.LateAnswer, "id"): "Of the request.",
    (items.LateAnswer, "data"): "The answer.",
    (items.Fatal, "reason"): "As in `down`.",
}


if __name__ == "__main__":
    sys.stdout.reconfigure(encoding="utf-8")  # type: ignore[union-attr]  # whatever the locale is
    main()
