"""The name and the place of a consumer of the cluster's stream, in a bucket beside that of the leases.

    held by a process, rewritten every second ──closed──> free ──attach──> held
                     └──silent for 3 s, or takeover=True──> held by another one; the first one's next write is refused

A consumer that is killed leaves its name held; who wants it next waits until it has been silent for `SILENT` by his own clock.
Each write names the revision of the one before it, so a process that was replaced moves nothing.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from time import monotonic
from typing import Final
from uuid import uuid4

import msgspec

from wsadapter.cluster.nats_store import NatsStore
from wsadapter.cluster.reading import Place
from wsadapter.cluster.records import RecordDamaged
from wsadapter.cluster.store import StoreUnavailable
from wsadapter.contract.errors import ConsumerInUse, ConsumerReplaced

SILENT: Final = 3.0
"""Seconds after which a name is free whose holder has written nothing."""
BEAT: Final = 1.0
_LOOK: Final = 0.25
_CONSUMER: Final = "consumer."


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """The record of a consumer."""

    holder: str
    """Random, of the process; "": nobody holds the name."""
    who: str = ""
    """For people: machine and pid."""
    beat: int = 0
    place: Place


class ConsumerName:
    """One name, held by this process. In the loop of the connection."""

    def __init__(self, store: NatsStore, consumer: str) -> None:
        self.consumer = consumer
        self.is_replaced = False
        self._store = store
        self._key = _CONSUMER + consumer
        self._id = uuid4().hex
        self._revision = 0
        self._beat = 0
        self._stored: Place | None = None
        self._written_at = 0.0
        self._lock = asyncio.Lock()

    async def find(self, *, takeover: bool) -> Place | None:
        """Where the consumer goes on; None: it has no place yet. `hold` follows. Raises `ConsumerInUse`, `StoreUnavailable`,
        `StoreRefused`, `RecordDamaged`."""
        entry = await self._store.read(self._key)
        give_up_at = monotonic() + SILENT
        while entry.value and self._read(entry.value).holder and not takeover and monotonic() < give_up_at:
            await asyncio.sleep(_LOOK)
            later = await self._store.read(self._key)
            if later.revision != entry.revision and later.value and self._read(later.value).holder:
                raise ConsumerInUse(self.consumer, None)
            entry = later
        self._revision = entry.revision
        return self._read(entry.value).place if entry.value else None

    async def hold(self, place: Place) -> None:
        """Be the holder, at that place. Raises as `find`."""
        if not await self.store(place):
            raise ConsumerInUse(self.consumer, None)  # somebody was faster

    def _read(self, value: bytes) -> Held:
        try:
            return msgspec.json.decode(value, type=Held)
        except msgspec.MsgspecError as error:
            text = f"key {self._key} of the bucket {self._store.bucket} holds no record of this version ({error})"
            raise RecordDamaged(f"{text}; remove the key, or upgrade wsadapter") from error

    async def store(self, place: Place, *, free: bool = False) -> bool:
        """Everything before `place` is done. False: another process has the name. `free`: and let the name go. Raises
        `StoreUnavailable`, `StoreRefused`."""
        async with self._lock:
            if self.is_replaced:
                return False
            self._beat += 1
            held = Held(holder="" if free else self._id, who=_who(), beat=self._beat, place=place)
            value = msgspec.json.encode(held)
            revision = await self._store.swap(self._key, value, self._revision)
            if revision is None:
                there = await self._store.read(self._key)
                # Ours, because the answer to an earlier write was lost; or the bucket was removed, and made again.
                if not there.value or self._read(there.value).holder == self._id:
                    revision = await self._store.swap(self._key, value, there.revision)
            if revision is None:
                self.is_replaced = True
                return False
            self._revision, self._stored, self._written_at = revision, place, monotonic()
            return True

    def use(self, store: NatsStore) -> None:
        """The same bucket by another connection."""
        self._store = store

    async def keep(self, place_now: Callable[[], Place], interval: float) -> None:
        """Store the place that `place_now` says, whenever it has changed, at least each second, until the name is lost."""
        while not self.is_replaced:
            await asyncio.sleep(interval)
            place = place_now()
            if place == self._stored and monotonic() - self._written_at < BEAT:
                continue
            try:
                await self.store(place)
            except StoreUnavailable:
                continue  # the place is stored when the server answers again; until then it is in memory

    def check(self) -> None:
        """Raises `ConsumerReplaced`."""
        if self.is_replaced:
            raise ConsumerReplaced(self.consumer)


def _who() -> str:
    return f"{socket.gethostname()} pid {os.getpid()}"
