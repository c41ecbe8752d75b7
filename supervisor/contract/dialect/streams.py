"""Which stream a message belongs to, and whether its endpoint wants it. Pure.

The dialect says where in a message its stream's name stands. Streams are told to the supervisor by an index: it is given at
the first message and announced in front of it, so that a record needs two bytes per message.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from itertools import chain, product, zip_longest
from types import MappingProxyType
from typing import Any, Final

import orjson

from wsadapter.contract.commands import Report
from wsadapter.contract.dialect.fields import Fields, as_text
from wsadapter.contract.dialect.paths import MISSING, look_up
from wsadapter.contract.dialect.templates import is_meant, stream_name
from wsadapter.contract.endpoint import Filter, Subscription
from wsadapter.contract.record import ANSWER

_MOST_INDEXES: Final = ANSWER - 1
_MOST_REMEMBERED: Final = 1 << 16
_BRACES: Final = re.compile(r"\{([^{}]+)\}")


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

    def __init__(
        self, rules: Mapping[str, Any], filters: Filter, channels: Mapping[str, Subscription] = MappingProxyType({})
    ) -> None:
        """`rules`: the table [stream] of dialects/README.md. `channels`: what acks said stands for a stream; it may grow."""
        self._filters = filters
        self._channels = channels
        self._announced = 0
        self._strings: dict[str, Stream] = {}
        self._tables: dict[str, tuple[Mapping[str, Any], Stream]] = {}
        self._seen: dict[Hashable, Stream | None] = {}
        aliases = rules.get("aliases", {})
        self._path = str(rules.get("path", ""))
        self._fields = Fields(rules["fields"], aliases) if "fields" in rules else None
        self._texts = [_Text(text, aliases) for text in _listed(rules.get("text", []))]

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

    def subscription(self, stream: Stream) -> Subscription:
        """What to subscribe for it."""
        return self._tables[stream.name][0] if stream.name in self._tables else stream.name

    def find(self, value: Any) -> Stream | None:
        """The stream of a parsed message; None where it belongs to none of the subscriptions."""
        if self._fields is not None:
            said = self._fields.said(value)
            return None if said is None else self._kept(said, partial(self._fields.fits, said=said))
        if self._texts:
            found = (self._strings.get(name) for text in self._texts for name in text.names(value))
            return next((stream for stream in found if stream is not None), None)
        named = look_up(value, self._path)
        if isinstance(named, dict):
            return self._kept(orjson.dumps(named), partial(is_meant, named=named))
        return self._named(named)

    def _named(self, named: Any) -> Stream | None:
        """By its name, or by the channel that an ack gave it."""
        if isinstance(named, str) and named in self._strings:
            return self._strings[named]
        if not self._channels or not isinstance(named, str | int):
            return None
        subscription = self._channels.get(as_text(named))
        if subscription is None:
            return None
        name = stream_name(subscription)
        return self._strings.get(name) or (self._tables[name][1] if name in self._tables else None)

    def _kept(self, key: Hashable, fits: Callable[[Mapping[str, Any]], bool]) -> Stream | None:
        """The first table that fits; looked for once for each `key`."""
        try:
            return self._seen[key]
        except KeyError:
            pass
        found = next((stream for table, stream in self._tables.values() if fits(table)), None)
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


class _Text:
    """A stream's name put together: "{table}:{data.0.symbol}"."""

    def __init__(self, text: str, aliases: Mapping[str, str | list[str]]) -> None:
        parts = _BRACES.split(text)
        self._literals, self._paths = parts[::2], parts[1::2]
        self._aliases = aliases

    def names(self, value: Any) -> Iterable[str]:
        """Its names by what a message says: none where something is missing, several where an alias has several."""
        words: list[Sequence[str]] = []
        for path in self._paths:
            found = look_up(value, path)
            if found is MISSING or isinstance(found, dict | list):
                return
            word = as_text(found)
            words.append(_listed(self._aliases.get(word, word)))
        for chosen in product(*words):
            yield "".join(chain.from_iterable(zip_longest(self._literals, chosen, fillvalue="")))


def _listed(value: str | list[str]) -> Sequence[str]:
    return (value,) if isinstance(value, str) else value
