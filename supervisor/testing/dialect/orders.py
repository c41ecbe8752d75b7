"""What a test has told an exchange to do to streams and logins. Changed and read in the exchange's event loop only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from wsadapter.contract.dialect.templates import stream_name
from wsadapter.contract.endpoint import Subscription


@dataclass(slots=True)
class Orders:
    """Streams by name: a string as it is, a table as JSON with sorted keys."""

    rejected: dict[str, str] = field(default_factory=dict)
    """Name = what to say."""
    ignored: set[str] = field(default_factory=set)
    silent: set[str] = field(default_factory=set)
    left_out: Counter[str] = field(default_factory=Counter)
    """How many messages are still to be left out."""
    login_required: bool = False
    login_refusal: str = ""
    """What to say to a login; empty: yes."""


def name_of(stream: Subscription) -> str:
    """As messages and events name it."""
    return stream_name(dict(stream) if isinstance(stream, Mapping) else stream)
