"""The operator's commands: `wsadapter status | tail NAME | restart NAME | stop [NAME] | check FILE | run FILE ...`.

`wsadapter --help` lists them. Exit codes: 0 done (`status`: all endpoints that were asked for are up), 1 not done (`status`:
some are not up), 2 wrong arguments, 3 nothing runs. `run` has those of `python -m wsadapter.supervise`.
"""

from __future__ import annotations

from wsadapter.import_path import forget_program_folder

if __name__ == "__main__":
    forget_program_folder()  # before other modules are imported: a file in the working folder may have the name of one

import argparse
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterable, Sequence
from importlib import import_module
from time import sleep
from typing import TYPE_CHECKING, Final

from wsadapter.cli import table
from wsadapter.cli.command_line import COMMANDS, make_parser
from wsadapter.cli.standard_streams import CannotPrint, discard_output, hold_standard_streams, write
from wsadapter.cli.which import DONE, NOT_DONE, NOTHING_RUNS, USAGE, name_of, say, say_json, where_it_was_searched
from wsadapter.contract.errors import NotRunning, UnknownConsumer, UnknownEndpoint, UnknownSink, UsageError, WsAdapterError
from wsadapter.control import server

if TYPE_CHECKING:
    from wsadapter.status import EndpointStatus, Status

_Action = Callable[[argparse.Namespace], int]
_ELSEWHERE: Final = {
    "restart": "live", "start": "live", "stop": "live", "subscribe": "live", "unsubscribe": "live", "send": "live",
    "rebalance": "live", "reload": "live", "tail": "tail", "top": "top", "dialects": "offline", "docs": "offline",
    "completion": "offline", "version": "offline", "consumers": "consumers", "sinks": "consumers", "health": "health",
}  # fmt: skip
"""Modules of `wsadapter.cli` that are imported only for their commands."""
_WATCH_INTERVAL: Final = 1.0
"""Seconds between two tables of `status --watch`."""
_FUNCTIONS: Final = {"version": "show_version"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line. Returns the exit code."""
    hold_standard_streams()
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] == ["run"]:
        from wsadapter import supervise

        return supervise.main(words[1:], program="wsadapter run")
    parser = make_parser()
    _check_command(parser, words)
    options = parser.parse_args(words)
    try:
        return _action(options.action)(options)
    except NotRunning as error:
        return _fail(f"{error}. {where_it_was_searched(options)}", NOTHING_RUNS)
    except (UnknownEndpoint, UnknownSink) as error:  # of the supervisor: there may have been one
        return _fail(f"{error}{_meant(error.name, error.known)}", NOT_DONE)
    except UnknownConsumer as error:
        return _fail(f"{error}{_meant(error.consumer, error.known)}", NOT_DONE)
    except UsageError as error:
        return _fail(error, USAGE)
    except server.CommandRefused as error:
        return _fail(f"{error}{_hint(error, options)}", NOT_DONE)
    except CannotPrint as error:
        discard_output()
        return _fail(error, NOT_DONE)
    except WsAdapterError as error:
        return _fail(error, NOT_DONE)
    except BrokenPipeError:  # `| head` has enough
        discard_output()
        return NOT_DONE


def _action(name: str) -> _Action:
    if own := {"status": _status, "check": _check, "replay": _replay}.get(name):
        return own
    action: _Action = getattr(import_module(f"wsadapter.cli.{_ELSEWHERE[name]}"), _FUNCTIONS.get(name, name))
    return action


def _check_command(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    """End the program with an error if the first word is no command. The error names the command that was probably meant."""
    if not words:
        parser.print_help(sys.stderr)
        parser.exit(USAGE)
    word = words[0]
    if word.startswith("-") or word in COMMANDS:
        return
    if word.endswith(".toml"):
        parser.error(f"there is no command {word!r}; to run that configuration: wsadapter run {word}")
    near = _nearest(word, COMMANDS)
    parser.error(f"there is no command {word!r}; " + (f"did you mean {near!r}?" if near else f"known: {', '.join(COMMANDS)}"))


def _nearest(word: str, known: Iterable[str]) -> str:
    from wsadapter.config.schema import nearest  # much is imported for it

    return nearest(word, known)


def _meant(word: str, known: Iterable[str]) -> str:
    near = _nearest(word, known)
    return f"; did you mean {near!r}?" if near else ""


def _hint(error: server.CommandRefused, options: argparse.Namespace) -> str:
    """What was probably meant; else what there is, unless the error says so itself."""
    if not error.known:
        return ""
    if near := _meant(str(getattr(options, "endpoint", None) or ""), error.known):
        return near
    if str(error).startswith("unknown command"):
        return "; the supervisor that runs is of another version than this command"
    return "" if error.known[0] in str(error) else f" (known: {', '.join(error.known)})"


def _replay(options: argparse.Namespace) -> int:
    from wsadapter.cli import replay

    replay.replay(
        options.path, begin=replay.moment(options.begin), end=None if options.end is None else replay.moment(options.end),
        speed=replay.speed(options.rate), endpoints=options.endpoint, streams=options.stream,
    )  # fmt: skip
    return DONE


def _check(options: argparse.Namespace) -> int:
    if options.json:
        from wsadapter.cli import offline

        return offline.check(options)
    from wsadapter import supervise

    words = [str(options.file), "--check", *(["--show"] if options.show else [])]
    return supervise.main([*words, *(["--no-secrets"] if options.no_secrets else [])], program="wsadapter check")


def _status(options: argparse.Namespace) -> int:
    if not options.watch:
        return _show_status(options)
    options.name = name_of(options)  # another supervisor that starts meanwhile makes no difference
    try:
        while True:
            if sys.stdout.isatty():
                write("\x1b[H\x1b[J")  # ECMA-48: CUP, ED
            code = _show_status(options)
            sleep(_WATCH_INTERVAL)
    except KeyboardInterrupt:
        return code


def _show_status(options: argparse.Namespace) -> int:
    status = server.ask(name_of(options), {"command": "status"}, runtime_dir=options.runtime_dir)["status"]
    known = status["endpoints"]
    chosen = _chosen(known, options.endpoints)
    down = {name: endpoint for name, endpoint in chosen.items() if endpoint["state"] != "up"}
    shown = down if options.down else chosen
    if options.json:
        say_json({**status, "endpoints": shown})
    elif options.cluster:
        if "cluster" not in status:
            raise UsageError("status: this supervisor is no host of a cluster: it has no table [cluster]")
        say("\n".join(table.cluster(status["cluster"])))
    elif options.down and not down:
        say(f"{table.headline(status)}\n\nnone of {len(chosen)} is down")
    else:
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() and not options.wide else None
        lines = table.render(shown) if width is None else table.fitted(shown, width)
        headline = [table.headline(status)] if width is None else textwrap.wrap(table.headline(status), width)
        say("\n".join([*headline, "", *lines, *(_of_the_journal(status) if shown == known else ())]))
    return NOT_DONE if down else DONE


def _of_the_journal(status: Status) -> list[str]:
    """Tables of the sinks, and of the consumers that are none; each below an empty line."""
    others = {n: c for n, c in status.get("journal", {"consumers": {}})["consumers"].items() if not n.startswith("sink:")}
    tables = [table.sinks(status.get("sinks", {})), table.consumers(others)]
    return [line for lines in tables if lines for line in ("", *lines)]


def _chosen(known: dict[str, EndpointStatus], names: Sequence[str]) -> dict[str, EndpointStatus]:
    """The endpoints of these names, and those of the groups; all without any. Raises `UnknownEndpoint`."""
    groups = [endpoint["group"] for endpoint in known.values() if endpoint["group"]]
    for name in names:
        if name not in known and name not in groups:
            raise UnknownEndpoint(name, sorted({*known, *groups}))
    return {name: e for name, e in known.items() if not names or name in names or e["group"] in names}


def _fail(error: object, code: int) -> int:
    print(f"wsadapter: {error}", file=sys.stderr)
    return code


def script() -> int:
    """The command `wsadapter`, as it is installed."""
    forget_program_folder()
    return main()


if __name__ == "__main__":
    sys.exit(main())
