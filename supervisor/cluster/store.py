"""The interface of a store of leases: four methods.

The revisions of all keys have one order, as in JetStream and etcd.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from wsadapter.contract.errors import WsAdapterError

ABSENT: Final = 0
"""The revision of a key that is not there."""


class StoreUnavailable(WsAdapterError):
    """The store did not answer, or has no quorum. The last write may have been applied."""


class StoreRefused(WsAdapterError):
    """The store refuses this host; a retry can't succeed."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A key as it is stored."""

    key: str
    value: bytes
    """b"" if the key is not there."""
    revision: int
    """Grows with each change of the key; `ABSENT`: it is not there."""


@dataclass(frozen=True, slots=True)
class Write:
    """One conditional write: `create` if `expected` is `ABSENT`, else `swap`."""

    key: str
    value: bytes
    expected: int
    sent_at: float
    """On the clock of the host (CLOCK_BOOTTIME, s), read before the write is sent."""


class Store(Protocol):
    """A linearizable store. The answer of a read is never older than the last write that was acknowledged to any client.

    An answer that does not come within the driver's patience means "unknown": the write may still be applied.
    """

    def read(self, key: str) -> Entry:
        """The key as it is now."""
        ...

    def create(self, key: str, value: bytes) -> int | None:
        """Write a key that is not there; its revision, or None if it is there."""
        ...

    def swap(self, key: str, value: bytes, expected: int) -> int | None:
        """Write a key that has the revision `expected`; its new revision, or None if it has another one."""
        ...

    def watch(self, notify: Callable[[Entry], None]) -> None:
        """Pass every key, and then every change, in the order of the revisions of a key. A change may be seen late."""
        ...
