"""The operator's commands: `python -m wsadapter status | restart NAME | stop | replay PATH | run config.toml | docs`.

Exit codes: 0 done (`status`: all endpoints that were asked for are up), 1 not done (`status`: some are not up), 2 wrong
arguments, 3 nothing runs. `run` has those of `python -m wsadapter.supervise`.
"""

from __future__ import annotations

from wsadapter.import_path import forget_program_folder

if __name__ == "__main__":
    forget_program_folder()  # before other modules are imported: a file in the working folder may have the name of one

import argparse
import os
import shlex
import shutil
import sys
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import orjson

from wsadapter.cli import table
from wsadapter.contract.errors import UnknownEndpoint, UsageError, WsAdapterError
from wsadapter.control import server
from wsadapter.control.instance import elsewhere, running, search
from wsadapter.version import VERSION

if TYPE_CHECKING:
    from wsadapter.status import EndpointStatus

DONE: Final = 0
NOT_DONE: Final = 1
USAGE: Final = 2
NOTHING_RUNS: Final = 3
_EXIT_CODES: Final = "exit codes: 0 done, 1 not done, 2 wrong arguments, 3 no supervisor runs."
_STATUS_CODES: Final = (
    "exit codes: 0 all endpoints that were asked for are up, 1 some are not, or there is no endpoint of that name, "
    "2 wrong arguments, 3 no supervisor runs."
)
_MOST_OTHERS: Final = 8
"""Supervisors in other folders that are shown."""


class _SeveralRun(UsageError):
    """Several supervisors run, and none was named."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line. Returns the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] == ["run"]:
        from wsadapter import supervise

        return supervise.main(words[1:], program="wsadapter run")
    parser = _parser()
    _check_command(parser, words)
    options = parser.parse_args(words)
    try:
        return int(_ACTIONS[options.action](options))
    except server.NotRunning as error:
        return _fail(f"{error}. {_where_it_was_searched(options)}", NOTHING_RUNS)
    except UnknownEndpoint as error:  # of the supervisor: there may have been one
        return _fail(error, NOT_DONE)
    except UsageError as error:
        return _fail(error, USAGE)
    except server.CommandRefused as error:
        known = f" (known: {', '.join(error.known)})" if error.known and str(error.known[0]) not in str(error) else ""
        return _fail(f"{error}{known}", NOT_DONE)
    except WsAdapterError as error:
        return _fail(error, NOT_DONE)
    except BrokenPipeError:  # `| head` has enough; the interpreter must not complain about it at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return NOT_DONE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="wsadapter",
        description="Commands for a running supervisor, through its control socket; and `run`, which runs one.",
        epilog="`wsadapter COMMAND --help` has the options and the exit codes of each.",
    )
    parser.add_argument("--version", action="version", version=f"wsadapter {VERSION}")
    which = argparse.ArgumentParser(add_help=False)
    which.add_argument("--name", metavar="SUPERVISOR", help="which supervisor, if several run")
    which.add_argument("--runtime-dir", default="", metavar="DIR", help="where its control socket is, if that was configured")
    patience = argparse.ArgumentParser(add_help=False)
    patience.add_argument("--timeout", type=float, default=60.0, metavar="SECONDS", help="how long to wait (default: 60)")
    actions = parser.add_subparsers(dest="action", required=True, metavar="COMMAND", title="commands")

    def add(name: str, about: str, *parents: argparse.ArgumentParser, codes: str = _EXIT_CODES) -> argparse.ArgumentParser:
        text = f"{about.capitalize()}."
        return actions.add_parser(name, parents=[*parents, which], help=about, description=text, epilog=codes)

    status = add("status", "show how the endpoints are", codes=_STATUS_CODES)
    status.add_argument("endpoints", nargs="*", metavar="NAME", help="only these endpoints; of a sharded one, all its shards")
    status.add_argument("--down", action="store_true", help="only those that are not up")
    status.add_argument("--wide", action="store_true", help="all columns, also if the terminal is too narrow for them")
    status.add_argument("--json", action="store_true", help="for programs: the schema is in the reference")
    restart = add("restart", "give an endpoint a new owner; returns when it is up", patience)
    restart.add_argument("endpoint", metavar="NAME", help="of the endpoint; of a sharded one, all its shards")
    add("stop", "stop the supervisor; returns when it has stopped", patience)
    _add_replay(actions)
    docs = actions.add_parser("docs", help="list the documents, or show one", description="List the documents, or show one.")
    docs.add_argument("document", nargs="?", metavar="NAME", help="which one: without it they are listed")
    actions.add_parser("run", help="run a configuration: the same as python -m wsadapter.supervise", add_help=False)
    return parser


def _add_replay(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    about = "print what a journal holds, as the JSON lines of the runner's output"
    replay = actions.add_parser("replay", help=about, description=f"{about.capitalize()}.")
    replay.add_argument("path", metavar="PATH", help="the folder of the journal")
    times = 'a Unix time in seconds, an ISO 8601 time, or "earliest", "latest"'
    replay.add_argument("--from", dest="begin", default="earliest", metavar="TIME", help=f"where to begin: {times}")
    replay.add_argument("--to", dest="end", metavar="TIME", help="where to end")
    replay.add_argument(
        "--rate",
        default="max",
        metavar="real|N|max",
        help="as it was received, N times as fast, or as fast as can be (default)",
    )
    replay.add_argument("--endpoint", action="append", default=[], metavar="NAME", help="only this endpoint; may be repeated")
    replay.add_argument("--stream", action="append", default=[], metavar="NAME", help="only this stream; may be repeated")


def _check_command(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    """End the program with an error if the first word is no command. The error names the command that was probably meant."""
    if not words:
        parser.print_help(sys.stderr)
        parser.exit(USAGE)
    word = words[0]
    if word.startswith("-") or word in _COMMANDS:
        return
    if word.endswith(".toml"):
        parser.error(f"there is no command {word!r}; to run that configuration: wsadapter run {word}")
    from wsadapter.config.schema import nearest  # much is imported for it

    near = nearest(word, _COMMANDS)
    parser.error(f"there is no command {word!r}; " + (f"did you mean {near!r}?" if near else f"known: {', '.join(_COMMANDS)}"))


def _status(options: argparse.Namespace) -> int:
    status = server.ask(_name(options), {"command": "status"}, runtime_dir=options.runtime_dir)["status"]
    known = status["endpoints"]
    chosen = _chosen(known, options.endpoints)
    down = {name: endpoint for name, endpoint in chosen.items() if endpoint["state"] != "up"}
    shown = down if options.down else chosen
    if options.json:
        _print(orjson.dumps({**status, "endpoints": shown}).decode())
    elif options.down and not down:
        _print(f"{table.headline(status)}\n\nnone of {len(chosen)} is down")
    else:
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() and not options.wide else None
        lines = table.render(shown) if width is None else table.fitted(shown, width)
        headline = [table.headline(status)] if width is None else textwrap.wrap(table.headline(status), width)
        _print("\n".join([*headline, "", *lines]))
    return NOT_DONE if down else DONE


def _chosen(known: dict[str, EndpointStatus], names: Sequence[str]) -> dict[str, EndpointStatus]:
    """The endpoints of these names, and those of the groups; all without any. Raises `UnknownEndpoint`."""
    groups = [endpoint["group"] for endpoint in known.values() if endpoint["group"]]
    for name in names:
        if name not in known and name not in groups:
            raise UnknownEndpoint(name, sorted({*known, *groups}))
    return {name: e for name, e in known.items() if not names or name in names or e["group"] in names}


def _restart(options: argparse.Namespace) -> int:
    request = {"command": "restart", "endpoint": options.endpoint}
    answer = server.ask(_name(options), request, runtime_dir=options.runtime_dir, timeout=options.timeout)
    who = "all its shards" if answer["epoch"] is None else f"epoch {answer['epoch']}, pid {answer['pid']}"
    _print(f"{options.endpoint} is up: {who}")
    return DONE


def _stop(options: argparse.Namespace) -> int:
    name = _name(options)
    server.ask_to_stop(name, runtime_dir=options.runtime_dir, timeout=options.timeout)
    _print(f"{name} has stopped")
    return DONE


def _replay(options: argparse.Namespace) -> int:
    from wsadapter.cli import replay

    replay.replay(
        options.path, begin=replay.moment(options.begin), end=None if options.end is None else replay.moment(options.end),
        speed=replay.speed(options.rate), endpoints=options.endpoint, streams=options.stream,
    )  # fmt: skip
    return DONE


def _docs(options: argparse.Namespace) -> int:
    from wsadapter.cli import documents

    if options.document is None:
        _print(documents.listing())
    else:
        documents.show(documents.find(options.document))
    return DONE


_ACTIONS: Final = {"status": _status, "restart": _restart, "stop": _stop, "replay": _replay, "docs": _docs}
_COMMANDS: Final = (*_ACTIONS, "run")


def _name(options: argparse.Namespace) -> str:
    """The name of the supervisor: the one that was given, otherwise that of the only running one."""
    if options.name:
        return str(options.name)
    names = running(options.runtime_dir)
    if not names:
        raise server.NotRunning("no supervisor is running here")
    if len(names) > 1:
        raise _SeveralRun(f"several supervisors are running; say which with --name: {', '.join(names)}")
    return names[0]


def _where_it_was_searched(options: argparse.Namespace) -> str:
    lines = [f"  {place.describe()}" for place in search(options.runtime_dir)]
    text = "\n".join(["Its control socket was searched in:", *lines])
    if others := elsewhere(options.runtime_dir):
        commands = [f"  {path.stem}: --runtime-dir {shlex.quote(str(path.parent))}" for path in others[:_MOST_OTHERS]]
        return "\n".join([text, "Supervisors of this user that run with other folders:", *commands])
    return (
        f"{text}\nIf it was started with a runtime folder of its own (supervisor.runtime_dir, $WSADAPTER_RUNTIME_DIR), or has\n"
        "another network namespace, name its folder: --runtime-dir DIR. Another user's supervisor answers that user and root."
    )


def _print(text: str) -> None:
    print(text, flush=True)


def _fail(error: object, code: int) -> int:
    print(f"wsadapter: {error}", file=sys.stderr)
    return code


def script() -> int:
    """The command `wsadapter`, as it is installed."""
    forget_program_folder()
    return main()


if __name__ == "__main__":
    sys.exit(main())
