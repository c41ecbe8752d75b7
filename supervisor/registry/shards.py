"""An endpoint with more streams than one connection may carry ([subscribe] per_connection of its dialect) becomes shards.

    binance, 2,500 streams, 1,024 a connection ──> binance#1, binance#2, binance#3: the group "binance"

Each shard is a separate endpoint, with an owner, epochs and numbers. A stream stays in its shard as long as it is wanted; new
streams go to the first shard that has room. An endpoint that grew too large while running keeps its name as its own first
shard, for numbers run on by name: binance, binance#2. A shard without streams is removed, but for the first.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import Any, Final

import msgspec

from wsadapter.contract.endpoint import Endpoint, Subscription, to_plain
from wsadapter.endpoint.futures import uncancellable_future
from wsadapter.endpoint.subscriptions import key_of

MARK: Final = "#"
"""Separates the name of a group from the number of a shard; no other endpoint's name contains it."""


def capacity(dialect: Mapping[str, Any] | None) -> int:
    """How many streams one connection may carry; 0: no limit."""
    return int(((dialect or {}).get("subscribe") or {}).get("per_connection", 0))


def spread(name: str, new: Sequence[Subscription], held: Mapping[str, int], most: int) -> dict[str, list[Subscription]]:
    """Which shard gets which of the new streams. `held`: how many streams each shard has, in order; `most`: how many it may
    have."""
    if not most or (not held and len(new) <= most):
        return {next(iter(held), name): list(new)}
    left = list(new)
    taken: dict[str, list[Subscription]] = {}
    for shard, count in held.items():
        room = max(0, most - count)
        if room and left:
            taken[shard], left = left[:room], left[room:]
    number = max((number_of(shard) for shard in held), default=0)
    while left:
        number += 1
        taken[f"{name}{MARK}{number}"], left = left[:most], left[most:]
    return taken


def fingerprint(whole: Endpoint) -> str:
    """The same for the same settings, in every process. Of a value that is no JSON, such as a function, its text counts."""
    return hashlib.sha256(msgspec.json.encode(to_plain(whole), enc_hook=repr, order="sorted")).hexdigest()


def number_of(shard: str) -> int:
    """The number of a shard; 1 for the shard that has the name of the group."""
    _, mark, number = shard.rpartition(MARK)
    return int(number) if mark else 1


def parts(endpoint: Endpoint, wanted: Mapping[str, Mapping[str, Subscription]], most: int) -> list[Endpoint]:
    """The shards that an endpoint makes; the endpoint itself if it makes none. `wanted`: the streams of its running shards, in
    order."""
    streams = {key_of(stream): stream for stream in endpoint.subscribe}
    kept = {shard: [stream for key, stream in has.items() if key in streams][: most or None] for shard, has in wanted.items()}
    placed = {key_of(stream) for has in kept.values() for stream in has}
    new = [stream for key, stream in streams.items() if key not in placed]
    for shard, more in spread(endpoint.name, new, {shard: len(has) for shard, has in kept.items()}, most).items():
        kept[shard] = [*kept.get(shard, ()), *more]
    if len(kept) == 1 and endpoint.name in kept:
        return [endpoint]
    first = next(iter(kept))
    return [replace(endpoint, name=shard, subscribe=tuple(has)) for shard, has in kept.items() if has or shard == first]


def together(futures: Iterable[Future[None]]) -> Future[None]:
    """A future that is done when all of these are, with the first error, and at once if there are none. For futures of the
    reactor, which nobody cancels."""
    every = list(futures)
    if len(every) == 1:
        return every[0]
    whole: Future[None] = uncancellable_future()
    if not every:
        whole.set_result(None)
        return whole
    left = set(every)

    def ended(future: Future[None]) -> None:
        left.discard(future)
        if left:
            return
        error = next((error for each in every if (error := each.exception()) is not None), None)
        if error is not None:
            whole.set_exception(error)
        else:
            whole.set_result(None)

    for future in every:
        future.add_done_callback(ended)
    return whole
