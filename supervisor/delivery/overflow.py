"""Overflow by conflation: of the messages that wait, those for which a newer one of the same key waits are dropped.

What that costs is spread over the puts. The key of each message is looked for once, from half of the buffer on, a few records
at a time, so that all keys are known when the buffer is full; then what is stale is dropped, as much at each put as is needed
and some more. So no put of a fast endpoint keeps the others waiting.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Hashable, Iterator
from math import inf
from typing import Final

import orjson

from wsadapter.delivery.queued import Account, Arrival, next_waiting

_AHEAD: Final = 2
"""Messages whose keys are looked for at a put, for each that it brings: twice as many fill the buffer as half of it held."""
_LEAST: Final = 1024
"""... and so many more."""
_SWEPT: Final = 4096
"""Stale messages that are dropped at a put, besides those for which room is needed."""
_FEW_KEYS: Final = 1024


class Conflation:
    """Which messages of an account are stale. Used under the inbox's lock."""

    def __init__(self, account: Account) -> None:
        self.key = account.buffer.key
        self._account = account
        self._newest: dict[Hashable, tuple[Arrival, int]] = {}
        """By key, the message that is not stale."""
        self._last: Arrival | None = None
        """Up to it the keys are known."""
        self._stale: deque[Arrival] = deque()
        """Those with stale messages, once each; of some nothing may be left."""
        self._prune_at = _FEW_KEYS
        self._under_way = False
        """The buffer was full, and some stale messages are left."""

    def make_room(self, came: int) -> int:
        """To be called at each put above the account's limit, which brought so many messages; how many arrivals nothing stands
        for any more."""
        account = self._account
        full = account.is_full
        self._look_for_keys(inf if full else _AHEAD * came + _LEAST)
        self._under_way = self._under_way or full
        gone = self._drop_stale() if self._under_way else 0
        self._under_way = self._under_way and bool(self._stale)
        account.limit = 0 if self._under_way else account.buffer.max_bytes // 2
        return gone

    def exhausted(self, arrival: Arrival) -> None:
        """No message of it is left; it is still linked to its neighbours."""
        if arrival is self._last:
            before = arrival.before
            while before is not None and not before.left:
                before = before.before
            self._last = before
        if self._account.last is arrival and self._last is None:
            self._newest.clear()

    def _look_for_keys(self, most: float) -> None:
        arrival = self._account.oldest if self._last is None else next_waiting(self._last)
        while arrival is not None and most > 0:
            most -= arrival.left
            self._index(arrival)
            self._last = arrival
            arrival = next_waiting(arrival)
        if len(self._newest) > self._prune_at:
            self._newest = {key: place for key, place in self._newest.items() if place[0].left}
            self._prune_at = 2 * len(self._newest) + _FEW_KEYS

    def _index(self, arrival: Arrival) -> None:
        newest, arrival.stale = self._newest, array("I")
        for position, key in _keys(arrival, self.key):
            before = newest.get(key)
            newest[key] = arrival, position
            if before is not None and before[0].holds(before[1]):
                self._mark(*before)

    def _mark(self, arrival: Arrival, position: int) -> None:
        assert arrival.stale is not None  # its key was found
        if not arrival.stale:
            self._stale.append(arrival)
        arrival.stale.append(position)

    def _drop_stale(self) -> int:
        account, budget, gone = self._account, _SWEPT, 0
        while self._stale and (budget > 0 or account.is_full):
            arrival = self._stale.popleft()
            if arrival.stale is None:
                continue
            positions = [position for position in arrival.stale if arrival.holds(position)]
            arrival.stale = array("I")
            budget -= len(positions)
            if len(positions) == arrival.left:
                gone += account.drop_all_of(arrival, "conflated")
            else:
                for position in positions:
                    arrival.drop(position)
        return gone


def _keys(arrival: Arrival, path: str) -> Iterator[tuple[int, Hashable]]:
    """Position and key of each message of an arrival that has one. A message without the key is never conflated."""
    streams, steps = arrival.streams, path.split(".")
    for position, data in arrival.messages():
        key = _json_key(data, steps) if path else None if streams is None else streams[position]
        if key is not None:
            yield position, key


def _json_key(data: bytes, steps: list[str]) -> Hashable:
    """The value there, as text where it is no string; None for no value."""
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
