"""Which stream a message belongs to, and whether its endpoint wants it. Pure.

The dialect says where in a message its stream's name stands. Streams are told to the supervisor by an index: it is given at
the first message and announced in front of it, so that a record needs two bytes per message.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Final

import orjson

from wsadapter.contract.commands import Report
from wsadapter.contract.endpoint import Filter, Subscription
from wsadapter.contract.record import ANSWER
from wsadapter.worker.paths import look_up
from wsadapter.worker.templates import is_meant, stream_name

_MOST_INDEXES: Final = ANSWER - 1
_MOST_REMEMBERED: Final = 1 << 16


@dataclass(slots=True, eq=False)
class Stream:
    """One subscription as the source of messages."""

    name: str
    wanted: bool
    """Whether the endpoint's filter lets it through."""
    index: int = 0
    """How records name it; 0: not announced yet."""


class Streams:
    """The streams of one connection. Not thread-safe."""

    def __init__(self, path: str, filters: Filter) -> None:
        """`path`: of the name within a message, dotted."""
        self._path = path
        self._filters = filters
        self._announced = 0
        self._strings: dict[str, Stream] = {}
        self._tables: dict[str, tuple[Mapping[str, Any], Stream]] = {}
        self._seen: dict[bytes, Stream | None] = {}

    def know(self, subscriptions: Iterable[Subscription]) -> None:
        """Subscriptions that messages may belong to. They are not forgotten: a peer may go on after an unsubscribe."""
        self._seen.clear()
        for subscription in subscriptions:
            name = stream_name(subscription)
            if isinstance(subscription, str):
                self._strings.setdefault(name, self._stream(name))
            else:
                self._tables.setdefault(name, (subscription, self._stream(name)))

    def _stream(self, name: str) -> Stream:
        include, exclude = self._filters.include, self._filters.exclude
        included = not include or any(fnmatchcase(name, glob) for glob in include)
        return Stream(name, included and not any(fnmatchcase(name, glob) for glob in exclude))

    def find(self, value: Any) -> Stream | None:
        """The stream of a parsed message; None where it belongs to none of the subscriptions."""
        named = look_up(value, self._path)
        if isinstance(named, str):
            return self._strings.get(named)
        return self._of_table(named) if isinstance(named, dict) else None

    def _of_table(self, named: dict[str, Any]) -> Stream | None:
        key = orjson.dumps(named)
        try:
            return self._seen[key]
        except KeyError:
            pass
        found = next((stream for table, stream in self._tables.values() if is_meant(table, named)), None)
        if len(self._seen) >= _MOST_REMEMBERED:  # the peer chooses what it names
            self._seen.clear()
        self._seen[key] = found
        return found

    def announce(self, stream: Stream) -> Report | None:
        """Gives a stream its index; what to report before the first message of it. None: there are no more indexes."""
        if self._announced == _MOST_INDEXES:
            return None
        self._announced += 1
        stream.index = self._announced
        return Report(event="stream", fields={"index": stream.index, "name": stream.name})
