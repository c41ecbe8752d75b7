"""What was told of the streams of an endpoint with replicas: each thing once, whichever member it comes from. Pure.

A stream is subscribed when the first member has it, and rejected when every member that has a connection was refused. All is
restored when the first member has its answers. When no member has a connection any more, the next one tells all of it again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import NamedTuple

from wsadapter.contract import items


class Word(NamedTuple):
    """The last word on one stream."""

    member: int
    error: str | None
    """None: it is subscribed."""


@dataclass(frozen=True, slots=True)
class AnnouncedSnapshot:
    """For another supervisor."""

    streams: dict[str, Word]
    restored: bool


class Announced:
    """Of one endpoint. Not thread-safe."""

    def __init__(self, snapshot: AnnouncedSnapshot | None = None) -> None:
        """`snapshot`: of the same endpoint in another supervisor."""
        self._streams = {} if snapshot is None else dict(snapshot.streams)
        self._restored = snapshot is not None and snapshot.restored

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
                return self._tell(stream, Word(member, None))
            case items.Rejected(stream=stream, error=error):
                return by_all and self._tell(stream, Word(member, error))
            case items.Restored():
                first, self._restored = not self._restored, True
                return first
            case _:
                return True

    def _tell(self, stream: str, told: Word) -> bool:
        known = self._streams.get(stream)
        if known is not None and (known.error is None) is (told.error is None):
            better = told.error != known.error and told.member == known.member  # the reason, which came late
            if not better:
                return False
        self._streams[stream] = told
        return True

    def snapshot(self) -> AnnouncedSnapshot:
        """For another supervisor."""
        return AnnouncedSnapshot(dict(self._streams), self._restored)
