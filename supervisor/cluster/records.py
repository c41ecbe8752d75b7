"""The records of a cluster in the bucket: one for each host, and one for each endpoint.

host.NAME        rewritten every beat by the host; by another host only to fence it
lease.ENDPOINT   written only if the ownership changes
rebalance        written by an operator: move each endpoint to the host of its first choice
"""

from __future__ import annotations

from typing import Final, TypeVar

import msgspec

from wsadapter.contract.errors import WsAdapterError

HOST: Final = "host."
LEASE: Final = "lease."
REBALANCE: Final = "rebalance"


class Host(msgspec.Struct, frozen=True, kw_only=True):
    """A host as it describes itself."""

    boot: str
    """Random id of one run of its supervisor. A host that was fenced joins again with another boot."""
    version: str = ""
    """Of wsadapter."""
    digest: str = ""
    """Digest of the configuration of its endpoints. A host takes no endpoint from hosts with another configuration."""
    weight: float = 1.0
    beat: int = 0
    """Counts the renewals of this boot."""
    fenced_by: str = ""
    """The host that declared this boot dead; "": it is not fenced."""


class Lease(msgspec.Struct, frozen=True, kw_only=True):
    """Which host has an endpoint."""

    host: str
    """"": no host has it, because the last holder yielded it."""
    boot: str
    term: int
    """Grows with each change of holder. Each message in the log names the term under which it was written."""
    id: str = ""
    """Random id of one tenure. If the bucket was removed or restored, two leases may have the same term, but not the same
    id."""
    avoid: tuple[str, ...] = ()
    """Hosts that yielded the endpoint because they could not connect to it."""


class Rebalance(msgspec.Struct, frozen=True, kw_only=True):
    """An operator's order to move every endpoint to the host of its first choice."""

    id: str
    hosts: dict[str, str]
    """The hosts that take part: those that were alive, with their boots. So a host that comes back later takes no endpoint
    because of an old order."""


class RecordDamaged(WsAdapterError):
    """A key of the bucket holds something that is not a record of this version."""


Record = TypeVar("Record", Host, Lease, Rebalance)


def encode(record: Host | Lease | Rebalance) -> bytes:
    """As it is stored: a JSON object, so that the `nats` command shows it."""
    return msgspec.json.encode(record)


def decode(kind: type[Record], key: str, value: bytes) -> Record:
    """The reverse of `encode`. Raises `RecordDamaged`."""
    try:
        return msgspec.json.decode(value, type=kind)
    except msgspec.MsgspecError as error:
        text = (
            f"key {key} of the cluster's bucket holds no record of this version ({error}); remove the key, or upgrade this host"
        )
        raise RecordDamaged(text) from error
