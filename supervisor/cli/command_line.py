"""The command line of `wsadapter`: every command with its help, an example, and what runs it."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

from wsadapter.version import VERSION

_EXIT_CODES: Final = "exit codes: 0 done, 1 not done, 2 wrong arguments, 3 no supervisor runs."
_STATUS_CODES: Final = (
    "exit codes: 0 all endpoints that were asked for are up, 1 some are not, or there is no endpoint of that name, "
    "2 wrong arguments, 3 no supervisor runs."
)
_HEALTH_CODES: Final = (
    "exit codes: 0 the supervisor answers and no endpoint is fatal, 1 an endpoint is, or it does not answer, "
    "2 wrong arguments, 3 no supervisor runs."
)
_CHECK_CODES: Final = "exit codes: 0 no problems, 2 problems, or wrong arguments."
_OFFLINE_CODES: Final = "exit codes: 0 done, 2 wrong arguments."
SHELLS: Final = ("bash", "zsh", "fish")


class Arguments(Protocol):
    """Accepts declarations of arguments: a parser, or the shell completion."""

    def add_argument(self, *names: str, **settings: Any) -> object: ...


class Command(NamedTuple):
    """One command."""

    about: str
    example: str
    fill: Callable[[Arguments], object]
    """Adds its own arguments."""
    is_live: bool = True
    """It asks a running supervisor."""
    waits: bool = False
    """It has a `--timeout`."""
    has_json: bool = True
    codes: str = _EXIT_CODES


def _run(parser: Arguments) -> None:
    parser.add_argument("config", nargs="?", metavar="FILE", help="the configuration; `wsadapter run --help` has the options")


def _no_more(_parser: Arguments) -> None:
    """The command has no arguments of its own."""


def _status(parser: Arguments) -> None:
    parser.add_argument("endpoints", nargs="*", metavar="NAME", help="only these endpoints; of a sharded one, all its shards")
    parser.add_argument("--down", action="store_true", help="only those that are not up")
    parser.add_argument("--cluster", action="store_true", help="the hosts of the cluster, and the endpoints of each")
    parser.add_argument("--watch", action="store_true", help="show it each second until Ctrl-C")
    parser.add_argument("--wide", action="store_true", help="all columns, also if the terminal is too narrow for them")


def _endpoint(parser: Arguments) -> None:
    parser.add_argument("endpoint", metavar="NAME", help="of the endpoint; of a sharded one, all its shards")


def _stop(parser: Arguments) -> None:
    parser.add_argument("endpoint", nargs="?", metavar="NAME", help="only this endpoint; the others run on")


def _with_streams(parser: Arguments) -> None:
    _endpoint(parser)
    parser.add_argument("streams", nargs="+", metavar="STREAM", help="as in the configuration; a table as JSON: '{...}'")


def _send(parser: Arguments) -> None:
    _endpoint(parser)
    parser.add_argument("data", metavar="TEXT", help='the message; "-" reads it from standard input')
    parser.add_argument("--binary", action="store_true", help="as a binary message")


def _tail(parser: Arguments) -> None:
    _endpoint(parser)
    parser.add_argument("--limit", type=_limit, default=100, metavar="N", help="items of an interval, at most (default: 100)")
    parser.add_argument("--interval", type=_seconds, default=0.5, metavar="SECONDS", help="between two looks (default: 0.5)")
    parser.add_argument("--count", type=_limit, metavar="N", help="end after N lines")
    parser.add_argument("--duration", type=_seconds, metavar="SECONDS", help="end after this time")


def _check(parser: Arguments) -> None:
    parser.add_argument("file", type=Path, metavar="FILE", help="the configuration")
    parser.add_argument("--show", action="store_true", help="print the effective settings, secrets masked")
    parser.add_argument("--no-secrets", action="store_true", help="read no ${NAME} and no ${file:PATH}, as in CI without them")


def _replay(parser: Arguments) -> None:
    times = 'a Unix time in seconds, an ISO 8601 time, or "earliest", "latest"'
    add = parser.add_argument
    add("path", metavar="PATH", help="the folder of the journal")
    add("--from", dest="begin", default="earliest", metavar="TIME", help=f"where to begin: {times}")
    add("--to", dest="end", metavar="TIME", help="where to end")
    add(
        "--rate",
        default="max",
        metavar="real|N|max",
        help="as it was received, N times as fast, or as fast as can be (default)",
    )
    add("--endpoint", action="append", default=[], metavar="NAME", help="only this endpoint; may be repeated")
    add("--stream", action="append", default=[], metavar="NAME", help="only this stream; may be repeated")


def _consumers(parser: Arguments) -> None:
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these consumers; of a sink: sink:NAME")
    parser.add_argument(
        "--forget",
        action="store_true",
        help="remove the positions of these consumers, which are not needed any more; refused while one is attached",
    )


def _sinks(parser: Arguments) -> None:
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these sinks")
    parser.add_argument(
        "--restart",
        action="store_true",
        help="restart these sinks: each process writes the rest of the journal and is replaced; returns when the new ones run",
    )


def _dialects(parser: Arguments) -> None:
    parser.add_argument("dialect", nargs="?", metavar="NAME", help="only this one, in more detail")


def _docs(parser: Arguments) -> None:
    parser.add_argument("document", nargs="?", metavar="NAME", help="which one: without it they are listed")


def _completion(parser: Arguments) -> None:
    parser.add_argument("shell", choices=SHELLS, help="which shell")


COMMANDS: Final[dict[str, Command]] = {
    "run": Command(
        "run a configuration: the same as python -m wsadapter.supervise",
        "wsadapter run feeds.toml",
        _run,
        False,
        has_json=False,
    ),
    "status": Command("show how the endpoints are", "wsadapter status --down", _status, codes=_STATUS_CODES),
    "health": Command(
        "check that the supervisor answers and that no endpoint is fatal: the health check of a container",
        "wsadapter health",
        _no_more,
        codes=_HEALTH_CODES,
    ),
    "top": Command("watch all endpoints in the terminal (extra `console`)", "wsadapter top", _no_more, has_json=False),
    "tail": Command(
        "show a bounded part of the items that an endpoint delivers", "wsadapter tail binance --limit 10", _tail, has_json=False
    ),
    "restart": Command(
        "give an endpoint a new owner; returns when it is up", "wsadapter restart binance", _endpoint, waits=True
    ),
    "start": Command(
        "start an endpoint that was stopped, or is fatal; returns when it is up",
        "wsadapter start binance",
        _endpoint,
        waits=True,
    ),
    "stop": Command(
        "stop the supervisor, or one endpoint; returns when it has stopped", "wsadapter stop binance", _stop, waits=True
    ),
    "subscribe": Command(
        "subscribe more streams of an endpoint, until the next reload or start",
        "wsadapter subscribe binance btcusdt@trade",
        _with_streams,
    ),
    "unsubscribe": Command(
        "unsubscribe streams of an endpoint, until the next reload or start",
        "wsadapter unsubscribe binance btcusdt@trade",
        _with_streams,
    ),
    "send": Command(
        "send a message by an endpoint; returns when it is out",
        'wsadapter send deribit \'{"method":"public/test"}\'',
        _send,
        waits=True,
    ),
    "reload": Command(
        "read the configuration again and touch only what changed; prints the problems of a bad one",
        "wsadapter reload",
        _no_more,
        waits=True,
    ),
    "rebalance": Command(
        "move the endpoints of a cluster to the hosts where they belong, after a host has returned, and print the moves",
        "wsadapter rebalance",
        _no_more,
        waits=True,
    ),
    "check": Command(
        "check a configuration: every problem with its path", "wsadapter check feeds.toml", _check, False, codes=_CHECK_CODES
    ),
    "replay": Command(
        "print what a journal holds, as the JSON lines of the runner's output",
        "wsadapter replay journal --from 2026-11-30T21:50:00+00:00 --rate 10",
        _replay,
        False,
        has_json=False,
        codes="exit codes: 0 done, 1 the journal cannot be read, or has nothing there, 2 wrong arguments.",
    ),
    "consumers": Command(
        "show who reads the journal, attached or not, and how far each is behind, or forget some",
        "wsadapter consumers strategy-a --forget",
        _consumers,
    ),
    "sinks": Command(
        "show the sinks and how far each is behind, or restart some",
        "wsadapter sinks nats --restart",
        _sinks,
        waits=True,
        codes="exit codes: 0 all sinks that were asked for are running, 1 some are not, or there is no sink of that name, "
        "2 wrong arguments, 3 no supervisor runs.",
    ),
    "dialects": Command(
        "list the exchanges that it knows, or show one", "wsadapter dialects kraken", _dialects, False, codes=_OFFLINE_CODES
    ),
    "docs": Command(
        "list the documents, or show one", "wsadapter docs runbook", _docs, False, has_json=False, codes=_OFFLINE_CODES
    ),
    "version": Command(
        "print the versions that a report needs", "wsadapter version --json", _no_more, False, codes=_OFFLINE_CODES
    ),
    "completion": Command(
        "print the completion of a shell",
        'eval "$(wsadapter completion bash)"',
        _completion,
        False,
        has_json=False,
        codes=_OFFLINE_CODES,
    ),
}
"""Every command by its name, in the order of the help."""


def make_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="wsadapter",
        description="Commands for a running supervisor, through its control socket; and `run`, which runs one.",
        epilog="example: wsadapter run --demo   (local exchanges: no network, no file)\n\n"
        "`wsadapter COMMAND --help` has the options, an example and the exit codes of each.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"wsadapter {VERSION}")
    actions = parser.add_subparsers(dest="action", required=True, metavar="COMMAND", title="commands")
    for name, command in COMMANDS.items():
        own = actions.add_parser(
            name, help=command.about, description=f"{command.about[0].upper()}{command.about[1:]}.", add_help=name != "run",
            epilog=f"example: {command.example}\n\n{command.codes}", formatter_class=argparse.RawDescriptionHelpFormatter,
        )  # fmt: skip
        add_arguments(own, name, command)
    return parser


def add_arguments(parser: Arguments, name: str, command: Command) -> None:
    """All arguments of a command."""
    add = parser.add_argument
    command.fill(parser)
    if command.has_json:
        add("--json", action="store_true", help="for programs" + _SCHEMA.get(name, ""))
    if command.waits:
        add("--timeout", type=_seconds, default=60.0, metavar="SECONDS", help="how long to wait (default: 60)")
    if command.is_live:
        add("--name", metavar="SUPERVISOR", help="which supervisor, if several run")
        add("--runtime-dir", default="", metavar="DIR", help="where its control socket is, if that was configured")


_SCHEMA: Final = {"status": ": the schema is in the reference"}


def _limit(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or not 0 < int(text) <= 1000:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number from 1 to 1000")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r}: expected seconds, more than 0")
    return seconds
