"""The methods of an exchange as words: one command per line, as `python -m wsadapter.testing serve` reads them."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import orjson

from wsadapter.contract.endpoint import Subscription
from wsadapter.testing.exchange import Exchange

_UNSPLIT: Final = frozenset({"send", "reject", "reject_frame", "hang_up", "ignore", "silence", "heed", "revoke", "gap"})
"""Commands that get the rest of the line as one text, because quotes in JSON must not be interpreted."""


class CommandError(ValueError):
    """A line that is not a command; the text names what is expected."""


class _Command(NamedTuple):
    usage: str
    meaning: str
    run: Callable[..., Any]


def _switch(name: str, meaning: str) -> _Command:
    def run(exchange: Exchange, state: str = "on") -> None:
        if state not in ("on", "off"):
            raise CommandError(f"{name} expects on or off, not {state!r}")
        getattr(exchange, name)(state == "on")

    return _Command(f"{name} [on|off]", meaning, run)


def _plain(name: str, meaning: str) -> _Command:
    def run(exchange: Exchange, connection: str | None = None) -> None:
        getattr(exchange, name)(connection=int(connection) if connection else None)

    return _Command(f"{name} [CONNECTION]", meaning, run)


def _of_stream(name: str, meaning: str) -> _Command:
    return _Command(f"{name} STREAM", meaning, lambda exchange, text: getattr(exchange, name)(_stream(text)))


def _stream(text: str) -> Subscription:
    """A name, or a table as JSON."""
    if not text.startswith("{"):
        return text
    stream: Subscription = orjson.loads(text)
    return stream


def _refuse_login(exchange: Exchange, *words: str) -> None:
    exchange.refuse_login("" if words == ("off",) else " ".join(words) or "invalid key")


def _refuse_welcome(exchange: Exchange, *words: str) -> None:
    exchange.refuse_welcome("" if words == ("off",) else " ".join(words) or "token is invalid")


def _number(name: str, what: str, meaning: str, *, kind: type[int | float] = int) -> _Command:
    """`what` is the number's name."""
    return _Command(f"{name} {what}", meaning, lambda exchange, number: getattr(exchange, name)(kind(number)))


def _whole(name: str) -> _Command:
    return _Command(name, "the feed", lambda exchange: getattr(exchange, name)())


def _close(exchange: Exchange, code: str = "1000", *reason: str) -> None:
    exchange.close(int(code), " ".join(reason))


def _refuse(exchange: Exchange, status: str = "503", times: str | None = None, *body: str) -> None:
    exchange.refuse(0 if status == "off" else int(status), body=" ".join(body), times=int(times) if times else None)


def _redirect(exchange: Exchange, url: str) -> None:
    exchange.redirect("" if url == "off" else url)


def _slow(exchange: Exchange, bytes_per_second: str) -> None:
    exchange.slow(None if bytes_per_second == "off" else float(bytes_per_second))


def _flood(exchange: Exchange, rate: str = "max", duration: str = "1") -> None:
    exchange.flood(None if rate == "max" else float(rate), float(duration))


def _half_handshake(exchange: Exchange, state: str = "http") -> None:
    if state == "off":
        exchange.half_handshake(False)
    elif state in ("http", "on"):
        exchange.half_handshake(at="http")
    elif state == "tls":
        exchange.half_handshake(at="tls")
    else:
        raise CommandError(f"half_handshake expects http, tls or off, not {state!r}")


def _start(exchange: Exchange) -> None:
    exchange.start()


def _status(exchange: Exchange) -> dict[str, Any]:
    return {
        "url": exchange.url,
        "connections": exchange.connections,
        "accepted": exchange.accepted,
        "received": len(exchange.received),
        "sent": exchange.sent,
        "closes": exchange.closes,
        "heartbeats": exchange.heartbeats,
        "violations": exchange.violations,
    }


COMMANDS: dict[str, _Command] = {
    "send": _Command("send TEXT", "a text message now", lambda exchange, *words: exchange.send(" ".join(words))),
    "send_hex": _Command("send_hex HEX", "a binary message now", lambda ex, digits: ex.send(bytes.fromhex(digits))),
    "raw": _Command("raw HEX", "bytes outside any frame", lambda exchange, digits: exchange.raw(bytes.fromhex(digits))),
    "ping": _plain("ping", "a protocol ping"),
    "flood": _Command("flood [RATE|max] [SECONDS]", "made-up messages besides the feed", _flood),
    "pause": _whole("pause"),
    "resume": _whole("resume"),
    "mute": _plain("mute", "TCP stays up, nothing more is sent"),
    "mute_mid_frame": _plain("mute_mid_frame", "the same in the middle of a frame"),
    "unmute": _plain("unmute", "ends both"),
    "drop": _plain("drop", "closes TCP without a close frame"),
    "reset": _plain("reset", "ends TCP with a RST"),
    "close": _Command("close [CODE] [REASON]", "a close frame", _close),
    "refuse": _Command("refuse [STATUS|off] [TIMES] [BODY]", "handshakes get this HTTP status", _refuse),
    "redirect": _Command("redirect URL|off", "handshakes get a 302", _redirect),
    "slow": _Command("slow BYTES_PER_SECOND|off", "everything at this pace", _slow),
    "half_handshake": _Command("half_handshake [http|tls|off]", "half of an answer, then silence", _half_handshake),
    "accept_and_drop": _switch("accept_and_drop", "TCP is accepted and closed at once"),
    "ignore_pings": _switch("ignore_pings", "no pongs"),
    "wrong_accept": _switch("wrong_accept", "a Sec-WebSocket-Accept of another key"),
    "missing_upgrade": _switch("missing_upgrade", "a 101 without Upgrade"),
    "huge_headers": _switch("huge_headers", "a header of 256 KiB"),
    "http10": _switch("http10", "HTTP/1.0 in the answer"),
    "reject": _of_stream("reject", "subscriptions of it are refused (this and all that follow need a dialect)"),
    "reject_frame": _Command(
        "reject_frame STREAM",
        "the same for the whole frame, without naming the stream",
        lambda exchange, text: exchange.reject(_stream(text), whole=True, named=False),
    ),
    "hang_up": _of_stream("hang_up", "the connection of a client that subscribes it is closed without an answer"),
    "ignore": _of_stream("ignore", "subscriptions of it are not answered"),
    "silence": _of_stream("silence", "it is confirmed, but no data are sent"),
    "heed": _of_stream("heed", "ends these five"),
    "gap": _of_stream("gap", "one of its messages is left out"),
    "notice": _plain("notice", "clients are asked to connect anew"),
    "revoke": _of_stream("revoke", "it is ended for the clients that have subscribed it"),
    "refuse_later": _number("refuse_later", "FRAMES", "the next frames that subscribe are refused with: later"),
    "refuse_repeats": _switch("refuse_repeats", "a stream that is subscribed already is refused"),
    "answer_after": _number("answer_after", "SECONDS", "answers and data begin late", kind=float),
    "answer_times": _number("answer_times", "TIMES", "each answer so often, 0: never"),
    "answer_reversed": _number("answer_reversed", "FRAMES", "this many frames are answered together, the last first"),
    "answer_with_data": _switch("answer_with_data", "answers carry data, if the dialect has such answers"),
    "data_first": _number("data_first", "MESSAGES", "messages of each stream that are sent before the answer"),
    "stray_answers": _number("stray_answers", "COUNT", "answers to frames that no client sent, before each answer"),
    "pad_answers": _number("pad_answers", "BYTES", "the least number of bytes of an answer"),
    "refuse_welcome": _Command("refuse_welcome [TEXT|off]", "an error instead of the greeting", _refuse_welcome),
    "refuse_login": _Command("refuse_login [TEXT|off]", "logins are refused", _refuse_login),
    "require_login": _switch("require_login", "no subscription without a login"),
    "stop": _Command("stop", "stops: nothing listens at the port", lambda exchange: exchange.stop()),
    "start": _Command("start", "comes back", _start),
    "status": _Command("status", "what it has seen", _status),
}
"""Every command: its usage, its meaning, and its function, which is called with an exchange."""


def run_command(exchange: Exchange, line: str) -> Any:
    """Run the command of one line. Returns its result, mostly None.

    Raises `CommandError` for an unknown command or wrong words, and whatever the exchange's method raises.
    """
    word, *words = _split(line)
    if word not in COMMANDS:
        raise CommandError(f"unknown command {word!r}; known: help, quit, {', '.join(COMMANDS)}")
    try:
        return COMMANDS[word].run(exchange, *words)
    except (TypeError, ValueError) as error:
        raise CommandError(f"{error}; usage: {COMMANDS[word].usage}") from error


def help_text() -> str:
    """All commands, one per line."""
    return "\n".join(f"{command.usage:36} {command.meaning}" for command in COMMANDS.values())


def _split(line: str) -> list[str]:
    word, _, rest = line.strip().partition(" ")
    if word in _UNSPLIT:
        return [word, rest]
    try:
        return [word, *shlex.split(rest)]
    except ValueError as error:
        raise CommandError(f"{error}: {line.strip()!r}") from error
