"""`python -m wsadapter.testing serve`: exchanges as a process.

One process serves one exchange, or several: each `--feed NAME=RECORDING[#ENDPOINT][@DIALECT][:PORT]` is one. When all
listen, one JSON line says where, and every command line on standard input is answered by another one:

    {"url": "wss://127.0.0.1:41111/", "ca_file": "/tmp/ca.pem", "control": "stdin", "exchanges": {"binance": "wss://..."}}
    {"command": "drop", "ok": true}

A command may begin with the name of an exchange ("binance drop"); otherwise it goes to all of them.
"""

from __future__ import annotations

from wsadapter.import_path import forget_program_folder

if __name__ == "__main__":
    forget_program_folder()  # before other modules are imported: a file in the working folder may have the name of one

import argparse
import json
import logging
import os
import select
import signal
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from wsadapter.contract.errors import ConfigError
from wsadapter.testing.certificates import Authority, process_authority
from wsadapter.testing.commands import CommandError, help_text, run_command
from wsadapter.testing.exchange import Exchange
from wsadapter.testing.feed import Rate
from wsadapter.testing.recording import bundled

_log = logging.getLogger("wsadapter.testing")


class _Feed(NamedTuple):
    name: str
    recording: str
    endpoint: str | None
    """The endpoint whose messages of the recording are sent."""
    dialect: str
    port: int


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line. Returns the exit code: 0 ended as asked, 2 wrong arguments, 1 an address that can't be used."""
    parser = _parser()
    options = parser.parse_args(arguments)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    if options.action == "list":
        print("\n".join(bundled()))
        return 0
    try:
        return _serve(options)
    except (OSError, ConfigError, ValueError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2 if isinstance(error, FileNotFoundError | ConfigError | ValueError) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m wsadapter.testing",
        description="Exchanges to test against.",
        epilog="example: python -m wsadapter.testing serve --replay kraken --loop",
    )
    actions = parser.add_subparsers(dest="action", required=True)
    actions.add_parser("list", help="names the bundled recordings", epilog="example: python -m wsadapter.testing list")
    serve = actions.add_parser(
        "serve",
        help="runs exchanges, takes commands on standard input",
        epilog="example: python -m wsadapter.testing serve --replay kraken --loop\n\ncommands:\n" + help_text(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = serve.add_argument
    add("--replay", metavar="NAME|PATH", help="what to send: a bundled recording, a file of one, or the runner's output")
    add(
        "--replay-endpoint", metavar="NAME", help="the endpoint whose messages are replayed, if the runner's output has several"
    )
    add(
        "--feed",
        metavar="NAME=RECORDING[#ENDPOINT][@DIALECT][:PORT]",
        type=_feed,
        action="append",
        default=[],
        help="one of several exchanges",
    )
    add(
        "--dialect",
        default="",
        metavar="NAME|PATH",
        help="speak it: answers, heartbeats that are held, data by subscription; a stream that the recording does not have is "
        "confirmed and stays silent",
    )
    add("--pace", type=float, default=1.0, metavar="FACTOR", help="the times of the dialect's heartbeats are multiplied by it")
    add("--host", default="127.0.0.1", help="address to listen on")
    add("--port", type=int, default=0, help="of the first exchange, the others follow; default: any free ones")
    add("--tls", action="store_true", help="wss://")
    add("--ca-file", type=Path, help="write the authority's PEM there")
    add("--ca-dir", type=Path, help="keep the authority in this folder (ca.pem, ca.key), shared by all who name it")
    add("--certificate", default="valid", choices=["valid", "expired", "not_yet_valid", "wrong_host", "self_signed"])
    add("--coalesce", action="store_true", help="many messages in one TLS record")
    add("--rate", type=_rate, default="real", metavar="real|max|N", help="pace, N in messages per second; default: real")
    add("--loop", action="store_true", help="start over at the end")
    add("--live", action="store_true", help="one feed for all, whose clock runs whether or not anybody listens")
    add("--after-subscribe", action="store_true", help="nothing before the first accepted subscription")
    add("--welcome", action="append", default=[], metavar="TEXT", help="a text message to send first")
    add("--ack", type=Path, metavar="FILE", help="script of answers, JSON (see wsadapter.testing.script)")
    add("--subprotocol")
    add("--until-eof", action="store_true", help="end when standard input does")
    return parser


def _feed(text: str) -> _Feed:
    name, equals, recording = text.partition("=")
    recording, _, port = recording.partition(":") if recording.rpartition(":")[2].isdecimal() else (recording, "", "0")
    recording, _, dialect = recording.partition("@")
    recording, marked, endpoint = (recording, "", "") if Path(recording).exists() else recording.partition("#")
    if not (name and equals and recording):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=RECORDING[#ENDPOINT][@DIALECT][:PORT]")
    return _Feed(name, recording, endpoint if marked else None, dialect, int(port))


def _rate(text: str) -> Rate:
    if text in ("real", "max"):
        return "real" if text == "real" else None
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is neither real, max nor a number") from None


def _serve(options: argparse.Namespace) -> int:
    authority = None
    if options.tls:
        authority = Authority.shared(options.ca_dir) if options.ca_dir else process_authority()
    with _stop_signals() as stopped, ExitStack() as running:
        exchanges = _start(options, authority, running)
        if options.ca_file and authority is not None:
            options.ca_file.write_text(authority.pem)
        _say(_announcement(options, exchanges))
        _take_commands(exchanges, stopped, until_eof=options.until_eof)
    return 0


def _start(options: argparse.Namespace, authority: Authority | None, running: ExitStack) -> dict[str, Exchange]:
    feeds = options.feed or [_Feed("exchange", options.replay or "", options.replay_endpoint, "", 0)]
    common: dict[str, Any] = {
        "tls": options.tls,
        "authority": authority,
        "certificate": options.certificate,
        "coalesce": options.coalesce,
        "loop": options.loop,
        "resume": "continue" if options.live else "start",
        "after_subscribe": options.after_subscribe,
        "welcome": options.welcome,
        "ack": json.loads(options.ack.read_text("utf-8-sig")) if options.ack else None,
        "subprotocol": options.subprotocol,
        "pace": options.pace,
        "host": options.host,
    }
    exchanges: dict[str, Exchange] = {}
    for number, feed in enumerate(feeds):
        port = feed.port or (options.port + number if options.port else 0)
        content: dict[str, Any] = {"loop": False}
        if feed.recording:
            content = {"replay": feed.recording, "replay_endpoint": feed.endpoint, "rate": options.rate}
        dialect = feed.dialect or options.dialect
        exchanges[feed.name] = running.enter_context(Exchange(**{**common, **content}, dialect=dialect, port=port))
        _log.info("%s listens at %s", feed.name, exchanges[feed.name].url)
    return exchanges


def _announcement(options: argparse.Namespace, exchanges: dict[str, Exchange]) -> dict[str, Any]:
    first = next(iter(exchanges.values()))
    kept = options.ca_file or (options.ca_dir / "ca.pem" if options.ca_dir else first.ca_file)
    return {
        "url": first.url,
        "ca_file": str(kept) if options.tls else "",
        "control": "stdin",
        "exchanges": {name: exchange.url for name, exchange in exchanges.items()},
    }


def _say(line: dict[str, Any]) -> None:
    print(json.dumps(line), flush=True)


@contextmanager
def _stop_signals() -> Iterator[socket.socket]:
    """A socket that becomes readable at SIGTERM or SIGINT; a handler does nothing but that."""
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    before = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGTERM, signal.SIGINT)}
    wakeup = signal.set_wakeup_fd(writer.fileno())
    try:
        yield reader
    finally:
        signal.set_wakeup_fd(wakeup)
        for number, handler in before.items():
            signal.signal(number, handler)
        reader.close()
        writer.close()


def _take_commands(exchanges: dict[str, Exchange], stopped: socket.socket, *, until_eof: bool) -> None:
    """Run commands until "quit", a signal, or, with `until_eof`, the end of input."""
    pending = b""
    sources: list[Any] = [stopped, sys.stdin.fileno()]
    while True:
        readable, _, _ = select.select(sources, [], [])
        if stopped in readable:
            return
        data = os.read(sys.stdin.fileno(), 64 * 1024)
        if not data:
            if until_eof:
                return
            sources.remove(sys.stdin.fileno())
            continue
        *lines, pending = (pending + data).split(b"\n")
        for line in lines:
            text = line.decode(errors="replace").strip()
            if text == "quit":
                return
            if text:
                _say(_answer(exchanges, text))


def _answer(exchanges: dict[str, Exchange], text: str) -> dict[str, Any]:
    if text == "help":
        return {"command": text, "ok": True, "help": help_text().splitlines()}
    name, _, rest = text.partition(" ")
    chosen = {name: exchanges[name]} if name in exchanges else exchanges
    command = rest if name in exchanges else text
    try:
        said = {name: run_command(exchange, command) for name, exchange in chosen.items()}
    except (CommandError, LookupError, RuntimeError, OSError) as error:
        _log.warning("%s: %s", text, error)
        return {"command": text, "ok": False, "error": str(error)}
    _log.info("%s: done", text)
    result = {name: value for name, value in said.items() if value is not None}
    return {"command": text, "ok": True, **({"result": result} if result else {})}


if __name__ == "__main__":
    sys.exit(main())
