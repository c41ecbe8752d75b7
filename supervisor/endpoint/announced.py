"""Which events about the streams of an endpoint with replicas were put into the stream: each once, not once per link. Pure.

`Subscribed` is reported when the first link has the stream, `Rejected` when every link with a connection was refused, and
`Restored` when the first link has its answers. If no link has a connection any more, the next one begins anew.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import NamedTuple

from wsadapter.contract import items


class LastReport(NamedTuple):
    """The last report about one stream."""

    member: int
    error: str | None
    """None: it is subscribed."""


@dataclass(frozen=True, slots=True)
class AnnouncedSnapshot:
    """For another supervisor."""

    streams: dict[str, LastReport]
    restored: bool


class Announced:
    """Of one endpoint. Not thread-safe."""

    def __init__(self, snapshot: AnnouncedSnapshot | None = None) -> None:
        """`snapshot`: of the same endpoint in another supervisor."""
        self._streams = {} if snapshot is None else dict(snapshot.streams)
        self._restored = snapshot is not None and snapshot.restored

    def begin(self) -> None:
        """No link has a connection."""
        self._streams.clear()
        self._restored = False

    def forget(self, streams: Iterable[str]) -> None:
        """These streams are not wanted any more, or the user requested them again."""
        for name in streams:
            self._streams.pop(name, None)

    def keep(self, streams: Collection[str]) -> None:
        """Only these streams are wanted."""
        self.forget([name for name in self._streams if name not in streams])

    def is_news(self, event: items.Event, member: int, *, by_all: bool = False) -> bool:
        """Whether an event of a link is to be put into the stream; it then counts as reported. `by_all`: the event is a
        `Rejected`, and all links with a connection were refused its stream."""
        match event:
            case items.Subscribed(stream=stream):
                return self._is_new(stream, LastReport(member, None))
            case items.Rejected(stream=stream, error=error):
                return by_all and self._is_new(stream, LastReport(member, error))
            case items.Restored():
                first, self._restored = not self._restored, True
                return first
            case _:
                return True

    def _is_new(self, stream: str, report: LastReport) -> bool:
        known = self._streams.get(stream)
        if known is not None and (known.error is None) is (report.error is None):
            better = report.error != known.error and report.member == known.member  # the same link reports the reason later
            if not better:
                return False
        self._streams[stream] = report
        return True

    def snapshot(self) -> AnnouncedSnapshot:
        """For another supervisor."""
        return AnnouncedSnapshot(dict(self._streams), self._restored)
