"""Errors as answers of the control socket: the class, the text and the fields, so that the other end raises the same error."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Mapping
from typing import Any, Final

from wsadapter.contract import errors
from wsadapter.contract.errors import WsAdapterError

_FIELDS: Final[dict[str, tuple[str, ...]]] = {
    "UnknownEndpoint": ("name", "known"),
    "UnknownSink": ("name", "known"),
    "DuplicateRequest": ("endpoint", "id"),
    "OutcomeUnknown": ("endpoint", "id", "timed_out"),
    "RequestRejected": ("endpoint", "id", "body"),
}
"""Fields of errors besides their text."""


def failure(error: BaseException) -> dict[str, Any]:
    """The answer to a command that ended with `error`. Its field `known` has the existing names, if one of them was
    probably meant."""
    kind = type(error).__name__
    fields = {name: _plain(getattr(error, name)) for name in _FIELDS.get(kind, ())}
    known = {"known": fields["known"]} if "known" in fields else {}
    return {"ok": False, "error": str(error), "kind": kind, "fields": fields, **known}


def _plain(value: object) -> object:
    return b64encode(value).decode() if isinstance(value, bytes) else value


def rebuilt(text: str, answer: Mapping[str, Any]) -> WsAdapterError:
    """The error that an answer describes; a `WsAdapterError` if its class is not known here."""
    cls = getattr(errors, str(answer.get("kind")), WsAdapterError)
    if not isinstance(cls, type) or not issubclass(cls, WsAdapterError):
        cls = WsAdapterError
    error = cls.__new__(cls, text)
    error.args = (text,)
    fields = answer.get("fields")
    for name in _FIELDS.get(cls.__name__, ()):
        value = fields.get(name) if isinstance(fields, dict) else None
        setattr(error, name, b64decode(value) if name == "body" and isinstance(value, str) else value)
    return error
