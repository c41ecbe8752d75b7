"""The arguments of public methods, checked before anything is done with them. Pure.

Python accepts arguments that are certainly mistakes: a string is a sequence of letters, `bytes(5)` is five NUL bytes. Such a
call is refused with `WrongType`, which names the method and what to write instead.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, TypeVar

from wsadapter.config import values
from wsadapter.contract.endpoint import Subscription, to_plain
from wsadapter.contract.errors import UsageError, WrongType

Data = str | bytes | bytearray | memoryview
"""What can be sent: text, or a binary message."""
_BINARY = bytes | bytearray | memoryview
T = TypeVar("T")


class Outgoing(NamedTuple):
    """A message as it is sent."""

    payload: bytes
    binary: bool


def as_outgoing(call: str, data: Data) -> Outgoing:
    """`data` of the method `call`. Raises `WrongType`, and `UsageError` for text that has no UTF-8 form."""
    if isinstance(data, str):
        return Outgoing(_encoded(call, data), binary=False)
    return Outgoing(_as_bytes(call, data, "str (a text message) or bytes (a binary one)"), binary=True)


def path_text(path: str | os.PathLike[str]) -> str:
    """A path as text. Any other value is returned unchanged: it is checked with the other settings."""
    return os.fspath(path) if isinstance(path, os.PathLike) else path


def as_json_text(call: str, payload: Data | Mapping[str, Any]) -> bytes | Mapping[str, Any]:
    """The payload of a request: the bytes of its text, or the table itself. Raises as `as_outgoing`."""
    if isinstance(payload, Mapping):
        return payload
    return _encoded(call, payload) if isinstance(payload, str) else _as_bytes(call, payload, "a table or its JSON text")


def _encoded(call: str, text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise UsageError(f"{call}: the text holds a lone surrogate, which has no UTF-8 form; nothing was sent") from None


def _as_bytes(call: str, data: object, wanted: str) -> bytes:
    if not isinstance(data, _BINARY):
        raise WrongType(f"{call}: expected {wanted}, got {_shown(data)}")
    return bytes(data)


def as_streams(call: str, streams: object) -> tuple[Subscription, ...]:
    """The streams of a subscription, tables as plain dicts. Raises `WrongType` for a single one without a list around it, and
    for what is no stream; `UsageError` for an empty one, and for a table that has no JSON form."""
    if isinstance(streams, str | Mapping):
        raise WrongType(f"{call}: expected a list of streams, got one; write [{streams!r:.100}]")
    if isinstance(streams, _BINARY) or not isinstance(streams, Iterable):
        raise WrongType(f"{call}: expected a list of streams, got {_shown(streams)}")
    return tuple(_as_stream(call, place, stream) for place, stream in enumerate(streams))


def _as_stream(call: str, place: int, stream: object) -> Subscription:
    if not isinstance(stream, str | Mapping):
        raise WrongType(f"{call}: stream {place}: expected a string or a table, got {_shown(stream)}")
    plain: Subscription = stream if isinstance(stream, str) else to_plain(stream)
    if wrong := values.stream(plain):
        raise UsageError(f"{call}: stream {place}: {wrong}")
    return plain


def as_name(name: str) -> str:
    """The name of an endpoint. Raises `WrongType` for anything but a string."""
    if not isinstance(name, str):
        raise WrongType(f"expected the name of an endpoint, a string, got {_shown(name)}")
    return name


def as_list(call: str, given: Iterable[T], *kinds: type[Any]) -> list[T]:
    """A list of objects of these kinds.

    Raises `WrongType` for a single one without a list around it, and for what is of another kind.
    """
    if isinstance(given, kinds):
        raise WrongType(f"{call}: expected a list, got one {type(given).__name__}; write it in brackets: [...]")
    if isinstance(given, str | Mapping | _BINARY) or not isinstance(given, Iterable):
        raise WrongType(f"{call}: expected a list of {_named(kinds)}, got {_shown(given)}")
    found = list(given)
    for place, item in enumerate(found):
        check_kind(f"{call}: item {place}", item, *kinds)
    return found


def check_kind(call: str, given: object, *kinds: type[Any]) -> None:
    """Raises `WrongType` for a value of another kind."""
    if not isinstance(given, kinds):
        raise WrongType(f"{call}: expected {_named(kinds)}, got {_shown(given)}")


def _named(kinds: tuple[type[Any], ...]) -> str:
    return " or ".join(kind.__name__ for kind in kinds)


def _shown(value: object) -> str:
    """Not the value itself, which may be a secret: a table with a login in it, given to `send`."""
    return f"{type(value).__name__} {value!r}" if isinstance(value, int | float) else type(value).__name__
