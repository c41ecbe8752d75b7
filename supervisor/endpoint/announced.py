"""What was told of the streams of an endpoint with replicas: each thing once, whichever member it comes from. Pure.

A stream is subscribed when the first member has it, and rejected when every member that has a connection was refused. All is
restored when the first member has its answers. When no member has a connection any more, the next one tells all of it again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, NamedTuple

from wsadapter.contract import items


class _Told(NamedTuple):
    """The last word on one stream."""

    member: int
    error: str | None
    """None: it is subscribed."""


class Announced:
    """Of one endpoint. Not thread-safe."""

    def __init__(self, plain: Mapping[str, Any] | None = None) -> None:
        """`plain`: what `to_plain` returned."""
        plain = plain or {"streams": {}, "restored": False}
        self._streams = {name: _Told(*told) for name, told in plain["streams"].items()}
        self._restored = bool(plain["restored"])

    def begin(self) -> None:
        """No member has a connection."""
        self._streams.clear()
        self._restored = False

    def forget(self, streams: Iterable[str]) -> None:
        """They are not wanted any more, or are asked for again by the user."""
        for name in streams:
            self._streams.pop(name, None)

    def keep(self, streams: Collection[str]) -> None:
        """Only these are wanted."""
        self.forget([name for name in self._streams if name not in streams])

    def is_news(self, event: items.Event, member: int, *, by_all: bool = False) -> bool:
        """Whether an event of a member is to be told; it is then taken as told. `by_all`: all members with a connection were
        refused what the event, a `Rejected`, is about."""
        match event:
            case items.Subscribed(stream=stream):
                return self._tell(stream, _Told(member, None))
            case items.Rejected(stream=stream, error=error):
                return by_all and self._tell(stream, _Told(member, error))
            case items.Restored():
                first, self._restored = not self._restored, True
                return first
            case _:
                return True

    def _tell(self, stream: str, told: _Told) -> bool:
        known = self._streams.get(stream)
        if known is not None and (known.error is None) is (told.error is None):
            better = told.error != known.error and told.member == known.member  # the reason, which came late
            if not better:
                return False
        self._streams[stream] = told
        return True

    def to_plain(self) -> dict[str, Any]:
        """For a takeover."""
        return {"streams": {name: list(told) for name, told in self._streams.items()}, "restored": self._restored}
