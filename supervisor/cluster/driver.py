"""Runs the rules of one host: passes them what the watch reports, and sends their writes. In the loop of the agent.

    store ──watch──> observe ──> Membership, Assignment ──due──> swap ──settle──> Membership, Assignment

If the host was fenced, it joins again with a new boot, which begins with the entries that the watch has passed so far.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from time import CLOCK_BOOTTIME, clock_gettime
from typing import Final, Protocol
from uuid import uuid4

import msgspec

from wsadapter.cluster.assignment import Assignment, Spread
from wsadapter.cluster.membership import Membership, Standing, Timing
from wsadapter.cluster.message import Tenure
from wsadapter.cluster.records import HOST, LEASE, REBALANCE, Host, Lease, Rebalance, encode
from wsadapter.cluster.store import ABSENT, Entry, StoreRefused, StoreUnavailable, Write
from wsadapter.sinks.loop_thread import Tasks

logger = logging.getLogger("wsadapter.cluster")

_LEAVE_WITHIN: Final = 1.0
_TRIES: Final = 5


def now() -> float:
    """Seconds on CLOCK_BOOTTIME."""
    return clock_gettime(CLOCK_BOOTTIME)


class AsyncStore(Protocol):
    """A `Store` whose methods are coroutines. They raise `StoreUnavailable`, `StoreRefused`."""

    async def read(self, key: str) -> Entry: ...

    async def swap(self, key: str, value: bytes, expected: int) -> int | None: ...

    async def watch(self, notify: Callable[[Entry], None]) -> None: ...


class Driver:
    """One host."""

    def __init__(self, store: AsyncStore, name: str, host: Host, endpoints: Mapping[str, Spread], timing: Timing) -> None:
        self.trouble = ""
        """Error of the last write; "": it succeeded."""
        self.at = now()
        """When `turn` was called."""
        self._store = store
        self._name = name
        self._endpoints = endpoints
        self._timing = timing
        self._entries: dict[str, Entry] = {}
        """The newest entry of each key, from the watch or from an answer."""
        self._failure: Exception | None = None
        self._wake = asyncio.Event()
        self._tasks = Tasks()
        self._troubled_at = now()
        """When the present trouble began. Not the last answer: that is long ago on a host that was frozen."""
        self._written: tuple[int, float] | None = None
        """Revision of the last own record that the watch has not passed, and when it was written."""
        self._join(host)

    def _join(self, host: Host) -> None:
        self.members = Membership(self._name, host, self._timing, now())
        self.assignment = Assignment(self.members, self._endpoints, self._timing, lambda: uuid4().hex)
        for entry in self._entries.values():
            self._observe(entry)

    async def start(self) -> None:
        """Return when all keys are known. Raises `StoreUnavailable`, `StoreRefused`, `RecordDamaged`."""
        await self._store.watch(self._watched)
        self._check()

    # -- what was seen ---------------------------------------------------------------------------------------------------

    def _watched(self, entry: Entry) -> None:
        if self._written is not None and entry.key == self.members.key and entry.revision >= self._written[0]:
            self._written = None
        try:
            self._keep(entry)
            self._observe(entry)
        except Exception as error:  # noqa: BLE001 - `turn` raises it: here the library of the connection would only log it
            self._failure = self._failure or error
        self._wake.set()

    def _keep(self, entry: Entry) -> None:
        known = self._entries.get(entry.key)
        if known is None or entry.revision > known.revision:
            self._entries[entry.key] = entry

    def _observe(self, entry: Entry) -> None:
        if entry.key.startswith(HOST):
            self.members.observe(entry, now())
        elif entry.key.startswith(LEASE):
            self.assignment.observe(entry, now())
        elif entry.key == REBALANCE:
            self.assignment.observe_order(entry)

    # -- what follows ----------------------------------------------------------------------------------------------------

    def turn(self) -> None:
        """Send the due writes. Raises errors that a retry can't fix: `StoreRefused`, `RecordDamaged`; and `StoreUnavailable`
        after a lease without an answer."""
        self._check()
        at = self.at = now()
        if self.members.standing is Standing.FENCED:
            by = self.members.peers[self._name].host
            fenced_by = "" if by is None else by.fenced_by
            logger.warning("this host was declared dead by %s; it joins again", fenced_by or "somebody who removed its record")
            self._join(msgspec.structs.replace(self.members.host, boot=uuid4().hex, beat=0, fenced_by=""))
        for write in self.members.due(at):
            self._send(write, self.members.settle)
        for write in self.assignment.due(at):
            self._send(write, self.assignment.settle)
        if self.trouble and at - self._troubled_at > self._timing.lease:
            raise StoreUnavailable(self.trouble)  # the next process opens the bucket anew: it may have been removed
        if self._written is not None and at - self._written[1] > self._timing.lease:
            logger.warning(
                "the watch of the cluster's bucket does not pass the writes of this host; the watch is started again"
            )
            self._written = None
            self._tasks.spawn(self._watch_again())

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure
        if self.members.standing is Standing.NAME_IN_USE:
            raise StoreRefused(
                f"another host of this cluster is named {self._name!r} too, and is alive; give each its own `cluster.host`"
            )

    async def sleep(self, seconds: float) -> None:
        """Until the watch passes an entry, or the time is over."""
        try:
            await asyncio.wait_for(self._wake.wait(), seconds)
        except TimeoutError:
            return
        self._wake.clear()

    async def _watch_again(self) -> None:
        try:
            await self._store.watch(self._watched)
        except StoreUnavailable as error:
            self.trouble = str(error)
        except Exception as error:  # noqa: BLE001 - `turn` raises it
            self._failure = error

    def _send(self, write: Write, settle: Callable[[Write, Entry | None, float], None]) -> None:
        self._tasks.spawn(self._write(write, settle))

    async def _write(self, write: Write, settle: Callable[[Write, Entry | None, float], None]) -> None:
        """`settle` belongs to the boot that sent the write: a new boot has other objects."""
        entry: Entry | None = None
        try:
            entry = await self._swap(write)
            self.trouble = ""
        except StoreUnavailable as error:
            self._troubled_at = self._troubled_at if self.trouble else now()
            self.trouble = str(error)
        except Exception as error:  # noqa: BLE001 - `turn` raises it
            self._failure = error
        try:
            settle(write, entry, now())
        except Exception as error:  # noqa: BLE001 - `turn` raises it
            self._failure = error
        self._wake.set()

    async def _swap(self, write: Write) -> Entry:
        revision = await self._store.swap(write.key, write.value, write.expected)
        if revision is not None:
            entry = Entry(write.key, write.value, revision)
            if write.key == self.members.key and self._written is None:
                self._written = revision, now()
        else:
            entry = await self._store.read(write.key)
            if entry.revision < write.expected:  # the revision of a key never decreases in a store
                text = "the cluster's bucket was removed, or restored from a backup, under this host"
                self._failure = StoreUnavailable(f"{text}: {write.key} went back to an earlier revision; the host joins again")
                raise self._failure
        self._keep(entry)
        return entry

    # -- the leases ------------------------------------------------------------------------------------------------------

    def held(self) -> dict[str, Tenure]:
        """The endpoints whose last seen lease names this boot."""
        return {
            endpoint: Tenure(lease.term, lease.id)
            for endpoint, lease in self.leases().items()
            if self.assignment.is_mine(endpoint)
        }

    def leases(self) -> dict[str, Lease]:
        """The last seen lease of every endpoint that has one."""
        found = {endpoint: self.assignment.lease(endpoint) for endpoint in self._endpoints}
        return {endpoint: lease for endpoint, lease in found.items() if lease is not None}

    def raise_term(self, endpoint: str, above: int) -> None:
        """See `Assignment.raise_term`."""
        write = self.assignment.raise_term(endpoint, above, now())
        if write is not None:
            logger.warning(
                "%s: a claim of term %d or above is missing or not ours; the endpoint begins a new term", endpoint, above
            )
            self._send(write, self.assignment.settle)

    async def order(self, identity: str) -> dict[str, tuple[str, str]]:
        """Write the order to rebalance, in which the hosts take part that are alive now. Returns the moves that follow. Raises
        `StoreUnavailable`, `StoreRefused`."""
        hosts = {name: host.boot for name, host in self.members.alive().items()}
        value = encode(Rebalance(id=identity, hosts=hosts))
        for _ in range(_TRIES):  # an order from another host may come between
            known = self._entries.get(REBALANCE, Entry(REBALANCE, b"", ABSENT))
            entry = await self._swap(Write(REBALANCE, value, known.revision, now()))
            self._observe(entry)
            if entry.value == value:
                return self.assignment.moves()
        raise StoreUnavailable("other hosts order a rebalance all the time")

    async def leave(self) -> None:
        """Release all leases at once: the supervisor has closed its endpoints."""
        await self._tasks.wait(_LEAVE_WITHIN)
        write = self.members.leave(now())  # after the renewals: each names the revision of the previous one
        if write is None:
            return
        try:
            await asyncio.wait_for(self._swap(write), _LEAVE_WITHIN)
        except (StoreUnavailable, TimeoutError) as error:
            logger.warning("the other hosts notice the end of this host only when its lease expires: %s", error)

    async def close(self) -> None:
        """Cancel the writes that are under way."""
        await self._tasks.cancel()
