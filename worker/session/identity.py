"""The identity of a message: a number that is equal on two connections if both deliver the same message. Pure.

The rule comes from the endpoint ("bytes", or JSON fields), otherwise from the dialect. Dialect rules are per kind of message,
because trades and book updates have different keys. Numbers are compared by their digits, so numbers above 2^53 stay different.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any, Final

import orjson

from wsadapter.contract.dialect.paths import MISSING, look_up, matches
from wsadapter.contract.dialect.text import Text
from wsadapter.contract.endpoint import Endpoint
from wsadapter.contract.ipc.record import NO_IDENTITY, SNAPSHOT

_BYTES: Final = 8
_LARGEST_TAKEN: Final = max(NO_IDENTITY, SNAPSHOT)


class Identity:
    """The rules of one endpoint. Not thread-safe."""

    def __init__(self, rules: Sequence[Mapping[str, Any]], snapshots: Sequence[Mapping[str, Any]] = ()) -> None:
        """`rules`: the [[identity]] tables of dialects/README.md; the first that matches a message applies. `snapshots`: the
        [[snapshot]] tables, which are tried before the rules."""
        self._rules = rules
        self._snapshots = snapshots

    def of(self, text: Text) -> int:
        """The identity of a message: 64 bits, `NO_IDENTITY`, or `SNAPSHOT`."""
        if any(_fits(rule, text) for rule in self._snapshots):
            return SNAPSHOT
        for rule in self._rules:
            if _fits(rule, text):
                if rule.get("bytes"):
                    return _digest(text.payload)
                values = [look_up(text.value, path) for path in rule["fields"]]
                return NO_IDENTITY if MISSING in values else _digest(orjson.dumps(values))
        return NO_IDENTITY


def make_identity(dialect: Mapping[str, Any] | None, endpoint: Endpoint) -> Identity | None:
    """The endpoint's own rule, otherwise the dialect's; None: neither has one."""
    snapshots = (dialect or {}).get("snapshot", ())
    if endpoint.identity == "bytes":
        return Identity([{"bytes": True}], snapshots)
    if endpoint.identity:
        fields = [endpoint.identity] if isinstance(endpoint.identity, str) else list(endpoint.identity)
        return Identity([{"fields": fields}], snapshots)
    rules = (dialect or {}).get("identity")
    return Identity(rules, snapshots) if rules else None


def _fits(rule: Mapping[str, Any], text: Text) -> bool:
    needle = rule.get("contains")
    if needle is not None and needle.encode() not in text.payload:
        return False
    wanted = rule.get("match")
    return not wanted or matches(text.value, wanted)


def _digest(data: bytes) -> int:
    number = int.from_bytes(blake2b(data, digest_size=_BYTES).digest(), "little")
    return number if number > _LARGEST_TAKEN else number + 1 + _LARGEST_TAKEN
