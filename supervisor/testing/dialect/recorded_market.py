"""The recorded messages of an exchange: which are data, and which were for the recorded client only. Pure."""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import orjson

from wsadapter.contract.dialect.fields import Fields, as_text
from wsadapter.contract.dialect.paths import look_up
from wsadapter.contract.endpoint import Subscription
from wsadapter.contract.hooks import load_function
from wsadapter.testing.dialect.dialect_rules import DialectRules
from wsadapter.testing.recording import Recorded

NO_DATA: Final = object()
_BREAKS: Final = re.compile(r"[-\s:@]+")
_BETWEEN: Final = re.compile(r"[\s,]*")
_DECODER: Final = json.JSONDecoder()
Payload = str | bytes | Recorded


class RecordedMarket:
    """All messages of one exchange. Not thread-safe."""

    def __init__(self, dialect_rules: DialectRules, messages: Iterable[Payload] = (), *, folder: str = "") -> None:
        """`messages`: those that are sent again and again, to be parsed once; others may be asked for too. `folder`: of the
        dialect's file, where a hook's module may be."""
        self._dialect_rules = dialect_rules
        rules = dialect_rules.dialect.get("payload", {})
        self._compression = str(rules.get("compression", ""))
        self._in_binary = bool(rules.get("text"))
        self._hook: str = dialect_rules.dialect.get("hooks", {}).get("decode", "")
        self._folders = (folder,) if folder else ()
        self._decoded: dict[bytes, bytes] = {}
        """By the hook `decode`."""
        self.splits = bool(rules.get("split"))
        """Whether several messages may be sent as one array."""
        self._known: dict[bytes, Any] = {}
        self._elements: dict[bytes, Sequence[bytes]] = {}
        self._bindings: dict[str, Any] = {}
        """Channel = the answer that gave it to a stream of the recorded client's."""
        self.told: dict[bytes, Any] = {}
        """Recorded answers that carried data: payload = value."""
        for message in messages:
            payload = payload_of(message)
            self._elements[payload] = self.elements(payload)
            for element in self._elements[payload]:
                self._known[element] = self._look(element)

    @property
    def listed(self) -> Iterator[bytes]:
        """The messages that are data, in order, each once, if they are known beforehand."""
        return (payload for payload, value in self._known.items() if value is not NO_DATA)

    def elements(self, payload: bytes) -> Sequence[bytes]:
        """The messages that are sent as one: several if the dialect says that an array contains several."""
        if not self.splits:
            return (payload,)
        known = self._elements.get(payload)
        return _elements(payload) if known is None else known

    def joined(self, messages: Sequence[bytes]) -> bytes:
        """Messages as they are sent together."""
        return b"[%b]" % b",".join(messages) if self.splits else b"".join(messages)

    def value(self, payload: bytes) -> Any:
        """The parsed message; `NO_DATA`: it is no data."""
        found = self._known.get(payload)
        return self._look(payload) if found is None else found

    def _look(self, payload: bytes) -> Any:
        text = self.text(payload)
        try:
            value = orjson.loads(text)
        except orjson.JSONDecodeError:
            return NO_DATA
        if (channel := self._dialect_rules.bound(value)) is not None:
            self._bindings[as_text(channel)] = value
        if self._dialect_rules.is_data(text, value):
            return value
        if self._dialect_rules.carries_data(value):
            self.told[payload] = value
        return NO_DATA

    def recorded_channels(self, part: Subscription) -> list[str]:
        """The name of a stream, or of a part with an answer of its own, in the recorded client's answers. If the recording has
        no such answers: the name in messages that contain all values of the stream ("book-1000", "XBT/USD")."""
        if self._bindings:
            return [channel for channel, answer in self._bindings.items() if self._is_about(answer, part)]
        path, words = self._dialect_rules.channel_path, _words(part)
        data = (value for value in self._known.values() if value is not NO_DATA)
        return sorted({as_text(look_up(value, path)) for value in data if words <= _said(value)})

    def _is_about(self, answer: Any, part: Subscription) -> bool:
        rule = self._dialect_rules.replies.ack or {}
        if "fields" in rule:
            fields = Fields(rule["fields"])
            said = fields.words_in(answer)
            return said is not None and fields.fits(part, said)
        return _words(part) <= _words(answer)

    def text(self, payload: bytes) -> bytes:
        """A message without its compression, or as the hook `decode` makes it."""
        if self._hook:
            found = self._decoded.get(payload)
            return self._decode(payload) if found is None else found
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

    def _decode(self, payload: bytes) -> bytes:
        """A message that is not JSON goes to the hook; if the hook refuses it, it stays as it is: a test may send any
        message."""
        try:
            orjson.loads(payload)
        except orjson.JSONDecodeError:
            decode = load_function(self._hook, self._folders, "hooks.decode")
            try:
                payload, packed = bytes(decode(payload)), payload
            except Exception:  # noqa: BLE001 (a user's hook may raise anything)
                return payload
            self._decoded[packed] = payload
        return payload

    def packed(self, text: bytes) -> str | bytes:
        """A message as it is sent: text, or binary if the dialect requires it. A format that a hook `decode` reads can't be
        written."""
        match self._compression:
            case "gzip":
                return gzip.compress(text, 1, mtime=0)
            case "zlib":
                return zlib.compress(text, 1)
            case "deflate":
                packer = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS)
                return packer.compress(text) + packer.flush()
        return text if self._in_binary else text.decode()


def payload_of(message: Payload) -> bytes:
    """Its bytes."""
    if isinstance(message, Recorded):
        return message.payload
    return message.encode() if isinstance(message, str) else message


def _elements(payload: bytes) -> Sequence[bytes]:
    """The elements of a JSON array, unchanged."""
    if not payload.startswith(b"["):
        return (payload,)
    text = payload.decode()
    try:
        json.loads(text)
    except ValueError:
        return (payload,)
    found: list[bytes] = []
    at = 1
    while (start := _BETWEEN.match(text, at)) and text[start.end()] != "]":
        _, at = _DECODER.raw_decode(text, start.end())
        found.append(text[start.end() : at].encode())
    return found


def _said(value: Any) -> set[str]:
    """The words of the texts that stand in a message itself, not deeper."""
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return {word for item in items if isinstance(item, str) for word in _BREAKS.split(item)}


def _words(value: Any) -> set[str]:
    """All scalars in it."""
    if isinstance(value, dict):
        value = list(value.values())
    return set().union(*map(_words, value)) if isinstance(value, list) else {as_text(value)}
