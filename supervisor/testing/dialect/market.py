"""The messages of an exchange, looked into: what is data, and what was said to the recorded client alone. Pure."""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterable
from typing import Any, Final

import orjson

from wsadapter.contract.dialect.fields import Fields, as_text
from wsadapter.contract.dialect.paths import look_up
from wsadapter.contract.endpoint import Subscription
from wsadapter.testing.dialect.speech import Speech
from wsadapter.testing.recording import Recorded

NO_DATA: Final = object()
_BREAKS: Final = re.compile(r"[-\s:@]+")
Payload = str | bytes | Recorded


class Market:
    """All messages of one exchange. Not thread-safe."""

    def __init__(self, speech: Speech, messages: Iterable[Payload] = ()) -> None:
        """`messages`: those that are sent again and again, to be parsed once; others may be asked for too."""
        self._speech = speech
        self._compression = str(speech.dialect.get("payload", {}).get("compression", ""))
        self._known: dict[bytes, Any] = {}
        self._bindings: dict[str, Any] = {}
        """Channel = the answer that gave it to a stream of the recorded client's."""
        for message in messages:
            payload = payload_of(message)
            self._known[payload] = self._look(payload)

    def value(self, payload: bytes) -> Any:
        """The parsed message; `NO_DATA` where it is none."""
        found = self._known.get(payload)
        return self._look(payload) if found is None else found

    def _look(self, payload: bytes) -> Any:
        text = self.text(payload)
        try:
            value = orjson.loads(text)
        except orjson.JSONDecodeError:
            return NO_DATA
        if (channel := self._speech.bound(value)) is not None:
            self._bindings[as_text(channel)] = value
        return value if self._speech.is_data(text, value) else NO_DATA

    def recorded_channels(self, part: Subscription) -> list[str]:
        """What the recorded client's answers called a stream, or a part of one that is answered by itself. Where the recording
        has no such answers: what messages are called that themselves say all that the stream says ("book-1000", "XBT/USD")."""
        if self._bindings:
            return [channel for channel, answer in self._bindings.items() if self._is_about(answer, part)]
        path, words = self._speech.dialect.get("stream", {}).get("path", ""), _words(part)
        data = (value for value in self._known.values() if value is not NO_DATA)
        return sorted({as_text(look_up(value, path)) for value in data if words <= _said(value)})

    def _is_about(self, answer: Any, part: Subscription) -> bool:
        rule = self._speech.ack or {}
        if "fields" in rule:
            fields = Fields(rule["fields"])
            said = fields.said(answer)
            return said is not None and fields.fits(part, said)
        return _words(part) <= _words(answer)

    def text(self, payload: bytes) -> bytes:
        """A message without its compression."""
        try:
            match self._compression:
                case "gzip":
                    return gzip.decompress(payload)
                case "zlib":
                    return zlib.decompress(payload)
                case "deflate":
                    return zlib.decompress(payload, -zlib.MAX_WBITS)
        except (OSError, EOFError, zlib.error):
            pass  # messages of a test's own may be plain
        return payload

    def packed(self, text: bytes) -> str | bytes:
        """A message as it goes out: text, or compressed where the dialect says so."""
        match self._compression:
            case "gzip":
                return gzip.compress(text, 1, mtime=0)
            case "zlib":
                return zlib.compress(text, 1)
            case "deflate":
                packer = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS)
                return packer.compress(text) + packer.flush()
        return text.decode()


def payload_of(message: Payload) -> bytes:
    """Its bytes."""
    if isinstance(message, Recorded):
        return message.payload
    return message.encode() if isinstance(message, str) else message


def _said(value: Any) -> set[str]:
    """The words of the texts that stand in a message itself, not deeper."""
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return {word for item in items if isinstance(item, str) for word in _BREAKS.split(item)}


def _words(value: Any) -> set[str]:
    """All scalars in it."""
    if isinstance(value, dict):
        value = list(value.values())
    return set().union(*map(_words, value)) if isinstance(value, list) else {as_text(value)}
