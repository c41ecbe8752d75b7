"""Commands that change a running supervisor: each sends a command to its control socket, and prints the result."""

from __future__ import annotations

import argparse
import os
import sys
from base64 import b64encode
from collections.abc import Mapping
from typing import Any, Final

import orjson

from wsadapter.cli.which import DONE, ask, name_of, say, say_json
from wsadapter.contract.errors import UsageError
from wsadapter.control import server

_LONGEST_PAYLOAD: Final = 48 * 1024
"""Bytes of `send`: a request has at most 64 KiB."""


def restart(options: argparse.Namespace) -> int:
    """A new owner for an endpoint."""
    answer = ask(options, "restart", endpoint=options.endpoint)
    who = "all its shards" if answer["epoch"] is None else f"epoch {answer['epoch']}, pid {answer['pid']}"
    return _tell(options, answer, f"{options.endpoint} is up: {who}")


def start(options: argparse.Namespace) -> int:
    """An endpoint that was stopped, or is fatal, runs again."""
    answer = ask(options, "start_endpoint", endpoint=options.endpoint)
    started = ", ".join(answer["started"])
    return _tell(options, answer, f"{started} is up" if started else f"{options.endpoint} was not stopped: nothing to do")


def stop(options: argparse.Namespace) -> int:
    """One endpoint, or the whole supervisor."""
    if options.endpoint is not None:
        return _tell(options, ask(options, "stop_endpoint", endpoint=options.endpoint), f"{options.endpoint} has stopped")
    name = name_of(options)
    server.ask_to_stop(name, runtime_dir=options.runtime_dir, timeout=options.timeout)
    return _tell(options, {"ok": True, "name": name}, f"{name} has stopped")


def subscribe(options: argparse.Namespace) -> int:
    """Streams are wanted too, until the supervisor ends, or reads its configuration again."""
    answer = ask(options, "subscribe", endpoint=options.endpoint, streams=_streams(options.streams))
    return _tell(
        options, answer, f"{options.endpoint}: {_count(answer)} wanted; `subscribed` or `rejected` follows in the output"
    )


def unsubscribe(options: argparse.Namespace) -> int:
    """Streams are wanted no more."""
    answer = ask(options, "unsubscribe", endpoint=options.endpoint, streams=_streams(options.streams))
    return _tell(options, answer, f"{options.endpoint}: {_count(answer)} wanted no more")


def send(options: argparse.Namespace) -> int:
    """A message of the user's own."""
    data = sys.stdin.buffer.read() if options.data == "-" else os.fsencode(options.data)
    if not data and options.data == "-":
        raise UsageError('send: standard input is empty, and nothing was sent; to send an empty message, give "" as the text')
    if len(data) > _LONGEST_PAYLOAD:
        raise UsageError(f"send: {len(data):,} bytes; a message has at most {_LONGEST_PAYLOAD:,} here")
    try:
        payload = {"base64": b64encode(data).decode()} if options.binary else {"text": data.decode()}
    except UnicodeDecodeError as error:
        raise UsageError("send: this is no UTF-8 text; --binary sends it as it is") from error
    answer = ask(options, "send", endpoint=options.endpoint, **payload)
    return _tell(options, answer, f"{options.endpoint}: {answer['bytes']} bytes are sent")


def rebalance(options: argparse.Namespace) -> int:
    """Endpoints move to the hosts where they belong."""
    answer = ask(options, "rebalance")
    moves = [f"{name}: {move['from'] or 'no host'} -> {move['to']}" for name, move in sorted(answer["moves"].items())]
    return _tell(options, answer, "\n".join(moves) or "every endpoint is on the host of its first choice: nothing moves")


def reload(options: argparse.Namespace) -> int:
    """The configuration is read again."""
    answer = ask(options, "reload")
    changes = [f"{kind.replace('_', ' ')} {', '.join(names)}" for kind, names in answer["changes"].items() if names]
    return _tell(options, answer, f"reloaded {answer['path']}: {'; '.join(changes) or 'nothing changed'}")


def _tell(options: argparse.Namespace, answer: Mapping[str, Any], text: str) -> int:
    if options.json:
        say_json({key: value for key, value in answer.items() if key != "ok"})
    else:
        say(text)
    return DONE


def _count(answer: Mapping[str, Any]) -> str:
    return f"{answer['streams']} stream{'' if answer['streams'] == 1 else 's'}"


def _streams(words: list[str]) -> list[Any]:
    """Each as a configuration has it: a string, or, if it begins with "{", a table as JSON."""
    streams: list[Any] = []
    for word in words:
        try:
            streams.append(orjson.loads(word) if word.startswith("{") else word)
        except orjson.JSONDecodeError as error:
            raise UsageError(f"{word!r} is no JSON object: {error}") from error
    return streams
