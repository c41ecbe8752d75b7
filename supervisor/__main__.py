"""The operator's commands: `python -m wsadapter status | restart NAME | stop | run config.toml`.

Exit codes: 0 done (`status`: all endpoints are up), 1 not done (`status`: some are not up), 2 wrong arguments, 3 nothing runs.
`run` has those of `python -m wsadapter.supervise`.
"""

from __future__ import annotations

from wsadapter.import_path import forget_program_folder

if __name__ == "__main__":
    forget_program_folder()  # before other modules are imported: a file in the working folder may have the name of one

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Final

import orjson

from wsadapter import control
from wsadapter.console import table
from wsadapter.contract.errors import WsAdapterError
from wsadapter.instance import running
from wsadapter.version import VERSION

DONE: Final = 0
NOT_DONE: Final = 1
USAGE: Final = 2
NOTHING_RUNS: Final = 3


class _SeveralRun(WsAdapterError):
    """Which one is meant must be said."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; gives the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] == ["run"]:
        from wsadapter import supervise

        return supervise.main(words[1:], program="wsadapter run")
    options = _parser().parse_args(words)
    try:
        return int(_ACTIONS[options.action](options))
    except control.NotRunning as error:
        return _fail(error, NOTHING_RUNS)
    except _SeveralRun as error:
        return _fail(error, USAGE)
    except control.Refused as error:
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
        description="Commands for a running supervisor, through its control socket.",
        epilog="exit codes: 0 done (status: all endpoints are up), 1 not done (status: some are not up), 2 wrong arguments, "
        "3 nothing runs",
    )
    parser.add_argument("--version", action="version", version=f"wsadapter {VERSION}")
    which = argparse.ArgumentParser(add_help=False)
    which.add_argument("--name", help="which supervisor, where several run")
    which.add_argument("--runtime-dir", default="", metavar="DIR", help="where its control socket is, if it was configured")
    actions = parser.add_subparsers(dest="action", required=True, metavar="COMMAND")
    status = actions.add_parser("status", parents=[which], help="how the endpoints are")
    status.add_argument("--json", action="store_true", help="for programs")
    restart = actions.add_parser("restart", parents=[which], help="give an endpoint a new owner; returns when it is up")
    restart.add_argument("endpoint", metavar="NAME")
    restart.add_argument("--timeout", type=float, default=60.0, metavar="SECONDS", help="how long to wait for it (default: 60)")
    stop = actions.add_parser("stop", parents=[which], help="stop the supervisor; returns when it has stopped")
    stop.add_argument("--timeout", type=float, default=60.0, metavar="SECONDS", help="how long to wait for it (default: 60)")
    actions.add_parser("run", help="run a configuration: the same as python -m wsadapter.supervise", add_help=False)
    return parser


def _status(options: argparse.Namespace) -> int:
    status = control.ask(_name(options), {"command": "status"}, runtime_dir=options.runtime_dir)["status"]
    if options.json:
        _print(orjson.dumps(status).decode())
    else:
        _print("\n".join([table.headline(status), "", *table.render(status["endpoints"])]))
    return DONE if all(endpoint["state"] == "up" for endpoint in status["endpoints"].values()) else NOT_DONE


def _restart(options: argparse.Namespace) -> int:
    request = {"command": "restart", "endpoint": options.endpoint}
    answer = control.ask(_name(options), request, runtime_dir=options.runtime_dir, timeout=options.timeout)
    who = "all its shards" if answer["epoch"] is None else f"epoch {answer['epoch']}, pid {answer['pid']}"
    _print(f"{options.endpoint} is up: {who}")
    return DONE


def _stop(options: argparse.Namespace) -> int:
    name = _name(options)
    control.ask_to_stop(name, runtime_dir=options.runtime_dir, timeout=options.timeout)
    _print(f"{name} has stopped")
    return DONE


_ACTIONS: Final = {"status": _status, "restart": _restart, "stop": _stop}


def _name(options: argparse.Namespace) -> str:
    """The one that is meant: the named, else the only one."""
    if options.name:
        return str(options.name)
    names = running(options.runtime_dir)
    if not names:
        raise control.NotRunning("no supervisor is running here")
    if len(names) > 1:
        raise _SeveralRun(f"several supervisors are running; say which with --name: {', '.join(names)}")
    return names[0]


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
