"""Records of an owner as its supervisor reads them, and the items that a consumer gets."""

from __future__ import annotations

from typing import Any, Final

from wsadapter.contract.ipc.record import BATCH, Record, RecordReader, encode, field
from wsadapter.delivery.inbox import Inbox

FIRST: Final = 10
"""Identities begin here: those below have a meaning of their own."""


def read(body: bytes, **fields: Any) -> Record:
    """A record with these fields."""
    (record,) = RecordReader().feed(encode(body, sequence=1, **fields))
    return record


def message(identity: int | None, at: int, stream: int = 0) -> Record:
    """One message "x". `identity`: None as long as nobody asked for it; `at`: ns; `stream`: its number, 0 without one."""
    tables: dict[str, Any] = {"identities": None if identity is None else [identity], "streams": [stream] if stream else None}
    return read(b"x", kind=BATCH, received_at=at, layout=field(0, 1), count=1, **tables)


def consume(inbox: Inbox, *, as_batches: bool = False) -> list[Any]:
    """All that waits in an inbox: messages and events, or, `as_batches`, batches and events."""
    found = list(inbox.current)
    while inbox.take(as_batches=as_batches):
        found += inbox.current
    return found
