"""`python -m wsadapter.supervise config.toml`: a multi-exchange fan-in runner, no code needed.

Standard output carries the output only; everything for a person goes to standard error.
"""

from __future__ import annotations

from wsadapter.import_path import forget_program_folder

if __name__ == "__main__":
    forget_program_folder()  # before other modules are imported: a file in the working folder may have the name of one

import argparse
import logging
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Final

from wsadapter.cli.checks import problems_here
from wsadapter.cli.demo import demonstration
from wsadapter.cli.keeper import can_keep, start_supervisors
from wsadapter.cli.logs import LogThread, log_line
from wsadapter.cli.pid1 import hand_over_if_init
from wsadapter.cli.runner import CONFIGURATION, EXIT_CODES, OUR_FAULT, OUTPUT_FAILED, STOPPED, Runner
from wsadapter.cli.standard_streams import CannotPrint, discard_output, hold_standard_streams, write
from wsadapter.config import Dialects, load, values
from wsadapter.config.connect_time import slow_connects
from wsadapter.config.quantities import duration
from wsadapter.config.settings import Settings
from wsadapter.config.show import show
from wsadapter.contract.endpoint import Endpoint
from wsadapter.contract.errors import ConfigError, Problem, UsageError
from wsadapter.registry.reload import with_dialect
from wsadapter.registry.shards import capacity, parts
from wsadapter.version import VERSION

_STDERR: Final = 2
_LEVELS: Final = ("debug", "info", "warning", "error")


def main(arguments: Sequence[str] | None = None, *, program: str = "python -m wsadapter.supervise") -> int:
    """Runs the command line; gives the exit code, one of `runner.EXIT_CODES`."""
    hold_standard_streams()
    options = parse_arguments(arguments, program)
    try:
        if options.check:
            return _check(options)
        hand_over_if_init()
        with _configuration(options) as path:
            return _run(options, path)
    except ConfigError as error:
        print(error, file=sys.stderr)
    except CannotPrint as error:
        discard_output()
        print(f"{program}: {error}", file=sys.stderr)
        return OUTPUT_FAILED
    except UsageError as error:
        print(f"{program}: {error}", file=sys.stderr)
    except RuntimeError as error:
        if "start new thread" not in str(error):  # CPython has no error of its own for it
            raise
        print(f"{program}: {error}: raise the limit of processes and threads (ulimit -u), or of memory", file=sys.stderr)
        return OUR_FAULT
    return CONFIGURATION


def parse_arguments(arguments: Sequence[str] | None, program: str) -> argparse.Namespace:
    """The options of the runner. Ends the program if they are wrong, or ask for the help or the version."""
    parser = argparse.ArgumentParser(
        prog=program,
        description="Keeps WebSocket feeds up, a process for each, and writes their messages as one stream of JSON lines.",
        epilog=_epilog(program),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("config", nargs="?", type=Path, metavar="config.toml", help="the configuration")
    add("--check", action="store_true", help="check the configuration and exit with 0 or 2")
    add("--show", action="store_true", help="with --check: print the effective settings, secrets masked")
    add("--no-secrets", action="store_true", help="with --check: read no ${NAME} and no ${file:PATH}, as in CI without them")
    add("--demo", action="store_true", help="no network, no file: local exchanges replay recordings over TLS")
    add("--takeover", action="store_true", help="take over the connections of the running supervisor of that name")
    add("--duration", type=_seconds, metavar="S", help='stop after S seconds (or "500ms", "2m", "1h")')
    add("--name", help="of this instance, instead of the configuration's")
    add("--log-level", choices=_LEVELS, default="info", help="what goes to standard error (default: info)")
    add("--log-format", choices=("text", "json"), default="text", help="how: lines for a person (default), or JSON objects")
    add("--version", action="version", version=f"wsadapter {VERSION}")
    options = parser.parse_args(arguments)
    if options.demo == (options.config is not None):
        parser.error("give a configuration file, or --demo instead of one")
    if options.demo and options.check:
        parser.error("--check checks a configuration file; --demo has none")
    if options.takeover and (options.demo or options.check):
        parser.error("--takeover goes with a configuration that is to be run")
    if options.show and not options.check:
        parser.error("--show goes with --check")
    if options.no_secrets and not options.check:
        parser.error("--no-secrets goes with --check: to connect, the secrets are needed")
    return options


def _epilog(program: str) -> str:
    codes = "\n".join(f"  {code}  {meaning}" for code, meaning in sorted(EXIT_CODES.items()))
    return (
        f"examples:\n  {program} feeds.toml\n  {program} --demo\n\n"
        "signals:\n"
        "  SIGTERM, SIGINT  stop: close the connections (1000), write what was received; a second one: at once (exit 128 + n)\n"
        "  SIGHUP           read the configuration again, touch only what changed; from a closing terminal: stop,\n"
        "                   or with nohup go on\n"
        "  SIGUSR1          stacks of all threads and the status, to standard error\n\n"
        f"exit codes:\n{codes}"
    )


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        try:
            return duration(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is no duration: seconds, or such as 500ms, 2m, 1h") from None
    if not math.isfinite(seconds) or seconds < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no duration: it must be finite and not negative")
    return seconds


def _check(options: argparse.Namespace) -> int:
    settings = _load(options.config, options.name, secrets=not options.no_secrets)
    if problems := problems_here(settings):
        raise ConfigError(problems, source=str(options.config))
    if options.show:
        try:
            write(show(settings))
        except BrokenPipeError:  # `| head` has enough
            discard_output()
    for line in slow_connects(_connecting(settings)):
        print(f"{options.config}: {line}", file=sys.stderr)
    count = len(settings.endpoints)
    print(f"{options.config}: no problems, {count} endpoint{'' if count == 1 else 's'}", file=sys.stderr)
    return STOPPED


def _connecting(settings: Settings) -> Iterator[Endpoint]:
    """The endpoints as they connect: with the values of their dialects, and divided into shards."""
    dialects = Dialects(settings.dialects)
    for endpoint in settings.endpoints:
        whole, dialect = with_dialect(endpoint, settings.given, dialects)
        yield from parts(whole, {}, capacity(dialect))


@contextmanager
def _configuration(options: argparse.Namespace) -> Iterator[Path]:
    """The path of the one to run."""
    if options.config is not None:
        yield options.config
        return
    with demonstration(options.name) as path:
        yield path


def _run(options: argparse.Namespace, path: Path) -> int:
    settings = _load(path, options.name)
    _raise_file_limit()
    level: int = getattr(logging, options.log_level.upper())
    as_json, duration = options.log_format == "json", options.duration
    keeping, log_now = None, partial(log_line, _STDERR, as_json=as_json)
    is_wanted = settings.journal is not None and settings.journal.keeper
    if is_wanted and not can_keep():
        log_now(logging.WARNING, "this platform lacks what a keeper needs: a supervisor that is killed ends all connections")
    elif is_wanted:
        began = monotonic()
        keeping = start_supervisors(log_now)
        if keeping.number > 1:
            settings = _load_again(path, options.name, settings, log_now)
            duration = None if duration is None else max(0.0, duration - (monotonic() - began))
    with LogThread(_STDERR, level, as_json=as_json) as log:
        takeover = options.takeover and (keeping is None or keeping.number == 1)
        return Runner(settings, path, log, duration=duration, takeover=takeover, keeping=keeping).run()


def _load_again(path: Path, name: str | None, before: Settings, log: Callable[[int, str], None]) -> Settings:
    """A reload may have changed the configuration since the keeper was started."""
    try:
        return _load(path, name)
    except ConfigError as error:
        log(logging.ERROR, f"the configuration of the start is used again: {error}")
        return before


def _load(path: Path, name: str | None, *, secrets: bool = True) -> Settings:
    settings = load(path, secrets=secrets)
    if name is None:
        return settings
    if wrong := values.name(name):
        raise ConfigError([Problem("--name", wrong)])
    return replace(settings, name=name)


def _raise_file_limit() -> None:
    """Each endpoint takes a handful of descriptors, and the soft limit is low for the sake of programs that use select()."""
    if sys.platform == "win32":
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (ValueError, OSError) as error:  # macOS says "unlimited" and means less
            logging.getLogger("wsadapter.runner").debug("the limit of open files stays at %d: %s", soft, error)


if __name__ == "__main__":
    sys.exit(main())
