"""What makes two messages of an endpoint the same, by its settings and its dialect."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from wsadapter.contract.endpoint import Endpoint

_SPAN: Final = 300.0
"""Seconds for which a delivered message is remembered. One connection may be so far behind another."""
_BYTES_SPAN: Final = 5.0
"""The same if equal messages may follow each other, because the bytes of the message are the identity."""


def have_same_messages(
    one: Endpoint, its_dialect: Mapping[str, Any] | None, other: Endpoint, others_dialect: Mapping[str, Any] | None
) -> bool:
    """Whether connections with either settings receive the same messages, and identify them in the same way."""
    return (one.urls, one.identity, its_dialect) == (other.urls, other.identity, others_dialect)


def identity_rule(endpoint: Endpoint, dialect: Mapping[str, Any] | None) -> Any:
    """The rule of the endpoint, otherwise of the dialect; a false value if there is none."""
    return endpoint.identity or (dialect or {}).get("identity")


def span_for(endpoint: Endpoint, dialect: Mapping[str, Any] | None) -> float:
    """Seconds for which a message that was delivered is remembered."""
    return _BYTES_SPAN if may_repeat(endpoint, dialect) else _SPAN


def may_repeat(endpoint: Endpoint, dialect: Mapping[str, Any] | None) -> bool:
    """Whether two messages may have one identity, because it is their bytes."""
    rule = identity_rule(endpoint, dialect)
    rules = rule if isinstance(rule, list) else ()
    return rule == "bytes" or any(isinstance(each, Mapping) and each.get("bytes") for each in rules)
