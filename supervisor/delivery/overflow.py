"""Overflow by conflation: a waiting message is dropped if a newer one with the same key waits too.

The work is spread over the puts. The key of each message is read once, beginning when half of the buffer is used, a few records
at a time, so that all keys are known when the buffer is full. Then stale messages are dropped, at each put as many as necessary
and some more. So no put of a fast endpoint delays the others.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Hashable, Iterator
from math import inf
from typing import Final

import orjson

from wsadapter.delivery.queued import Backlog, QueuedBatch, next_waiting

_AHEAD: Final = 2
"""Messages whose keys are read at a put, for each message that the put adds. Half of the buffer was full before, so at least
twice as many keys have to be read as messages come until it is full."""
_LEAST: Final = 1024
"""Further keys that are read at each put."""
_SWEPT: Final = 4096
"""Stale messages that are dropped at a put, besides those that have to make room."""
_FEW_KEYS: Final = 1024


class Conflation:
    """Finds the stale messages of a backlog. Used under the inbox's lock."""

    def __init__(self, backlog: Backlog) -> None:
        self.key = backlog.buffer.key
        self._backlog = backlog
        self._newest: dict[Hashable, tuple[QueuedBatch, int]] = {}
        """The message that is not stale, by its key."""
        self._last: QueuedBatch | None = None
        """The keys are known up to this batch, inclusive."""
        self._stale: deque[QueuedBatch] = deque()
        """Batches with stale messages, each once; some may have no message left."""
        self._prune_at = _FEW_KEYS
        self._under_way = False
        """The buffer was full, and some stale messages are left."""

    def make_room(self, came: int) -> int:
        """Call this at each put above the backlog's limit; `came`: messages of the put. Returns how many entries of the queue
        became empty."""
        backlog = self._backlog
        full = backlog.is_full
        self._look_for_keys(inf if full else _AHEAD * came + _LEAST)
        self._under_way = self._under_way or full
        gone = self._drop_stale() if self._under_way else 0
        self._under_way = self._under_way and bool(self._stale)
        backlog.limit = 0 if self._under_way else backlog.buffer.max_bytes // 2
        return gone

    def exhausted(self, queued: QueuedBatch) -> None:
        """No message of this batch is left; it is still linked to its neighbours."""
        if queued is self._last:
            before = queued.before
            while before is not None and not before.left:
                before = before.before
            self._last = before
        if self._backlog.last is queued and self._last is None:
            self._newest.clear()

    def _look_for_keys(self, most: float) -> None:
        queued = self._backlog.oldest if self._last is None else next_waiting(self._last)
        while queued is not None and most > 0:
            most -= queued.left
            self._index(queued)
            self._last = queued
            queued = next_waiting(queued)
        if len(self._newest) > self._prune_at:
            self._newest = {key: place for key, place in self._newest.items() if place[0].left}
            self._prune_at = 2 * len(self._newest) + _FEW_KEYS

    def _index(self, queued: QueuedBatch) -> None:
        newest, queued.stale = self._newest, array("I")
        for position, key in _keys(queued, self.key):
            before = newest.get(key)
            newest[key] = queued, position
            if before is not None and before[0].holds(before[1]):
                self._mark(*before)

    def _mark(self, queued: QueuedBatch, position: int) -> None:
        assert queued.stale is not None  # its key was found
        if not queued.stale:
            self._stale.append(queued)
        queued.stale.append(position)

    def _drop_stale(self) -> int:
        backlog, budget, gone = self._backlog, _SWEPT, 0
        while self._stale and (budget > 0 or backlog.is_full):
            queued = self._stale.popleft()
            if queued.stale is None:
                continue
            positions = [position for position in queued.stale if queued.holds(position)]
            queued.stale = array("I")
            budget -= len(positions)
            if len(positions) == queued.left:
                gone += backlog.drop_all_of(queued, "conflated")
            else:
                for position in positions:
                    queued.drop(position)
        return gone


def _keys(queued: QueuedBatch, path: str) -> Iterator[tuple[int, Hashable]]:
    """Position and key of each waiting message that has a key. A message without the key is never conflated."""
    streams, steps = queued.streams, path.split(".")
    for position, data in queued.messages():
        key = _json_key(data, steps) if path else None if streams is None else streams[position]
        if key is not None:
            yield position, key


def _json_key(data: bytes, steps: list[str]) -> Hashable:
    """The value at this path, as JSON text if it is not a string; None if there is none."""
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError:
        return None
    for step in steps:
        if not isinstance(value, dict):
            return None
        value = value.get(step)
    if value is None or isinstance(value, str):
        return value
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError:  # nested deeper than orjson writes, though it reads it
        return None
