"""Whether this host may hold endpoints now, and which other hosts are alive. Pure: `now` comes in, writes come out.

    joining ──its write is applied──> member ──fenced, or its name taken──> fenced (a new boot joins with a new `Membership`)
       └──another boot of this name renews──> name in use

A member is *current* as long as its last renewal is younger than two thirds of the lease, counted from **before** that renewal
was sent. The other hosts wait for a full lease, counted from when **they** saw the last change. So no clock is compared with
another one, and a host has stopped before the others go on, up to clock rates that differ by a factor of 1.5. All times are
seconds on CLOCK_BOOTTIME of this host: a suspended machine has aged when it wakes up.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

import msgspec

from wsadapter.cluster.records import HOST, Host, decode, encode
from wsadapter.cluster.store import ABSENT, Entry, Write

_HELD: Final = 2 / 3
"""Part of the lease for which a host trusts its own renewal."""
_SIGNS_OF_LIFE: Final = 2
"""Renewals of another boot of this name that show that it is alive. One may have been on the way when that boot died."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds."""

    beat: float = 1.0
    """Between two renewals."""
    lease: float = 3.0
    """If a host has not renewed for this long, the others declare it dead."""

    @property
    def hold(self) -> float:
        """A host that has not renewed for this long stops by itself."""
        return self.lease * _HELD


class Standing(Enum):
    """Of this host in the cluster."""

    JOINING = "joining"
    MEMBER = "member"
    FENCED = "fenced"
    NAME_IN_USE = "name in use"


@dataclass(slots=True)
class Peer:
    """A host as this host sees it, itself included."""

    host: Host | None
    """None: its record was removed."""
    revision: int
    changed_at: float
    """When this host saw the last change."""


class Membership:
    """One boot of this host. Not thread-safe."""

    def __init__(self, name: str, host: Host, timing: Timing, now: float) -> None:
        """`host.beat` is 0. Call `due` only after the watch has passed every key."""
        self.name = name
        self.host = host
        self.standing = Standing.JOINING
        self.peers: dict[str, Peer] = {}
        self.current_since = now
        """Since when this host has been current without a pause. Counts only while `is_current`."""
        self._timing = timing
        self._began_at = now
        self._sent: dict[int, float] = {}
        """By beat: when the renewal was sent. Only those whose fate is not known."""
        self._next_at = now
        self._until = float("-inf")
        self._in_flight: set[str] = set()
        self._foreign_renewals = 0

    @property
    def key(self) -> str:
        """Of its own record."""
        return HOST + self.name

    @property
    def holds_until(self) -> float:
        """What this host holds, it holds until then."""
        return self._until if self.standing is Standing.MEMBER else float("-inf")

    def is_current(self, now: float) -> bool:
        """Whether this host may act on what it holds, and declare others dead."""
        return now < self.holds_until

    def is_alive(self, name: str) -> bool:
        """Whether a host counts as alive: it is there, and nobody has fenced it."""
        peer = self.peers.get(name)
        return peer is not None and peer.host is not None and not peer.host.fenced_by

    def alive(self) -> dict[str, Host]:
        """The hosts that count as alive."""
        return {name: peer.host for name, peer in self.peers.items() if peer.host is not None and not peer.host.fenced_by}

    # -- what was seen ---------------------------------------------------------------------------------------------------

    def observe(self, entry: Entry, now: float) -> None:
        """A host's record, from the watch, from a read, or as this host wrote it. Raises `RecordDamaged`."""
        name = entry.key.removeprefix(HOST)
        known = self.peers.get(name)
        if known is not None and entry.revision <= known.revision:
            return
        host = decode(Host, entry.key, entry.value) if entry.value else None
        self.peers[name] = Peer(host, entry.revision, now)
        if name == self.name:
            self._observe_own(host, known, now)

    def _observe_own(self, host: Host | None, before: Peer | None, now: float) -> None:
        if host is not None and host.boot == self.host.boot:
            if host.fenced_by:
                self.standing = Standing.FENCED
            else:
                self._renewed(host.beat, now)
        elif self.standing is Standing.MEMBER:
            self.standing = Standing.FENCED
        elif before is not None and before.host is not None and host is not None and _is_renewal(before.host, host):
            self._foreign_renewals += 1
            if self._foreign_renewals >= _SIGNS_OF_LIFE:
                self.standing = Standing.NAME_IN_USE

    def _renewed(self, beat: int, now: float) -> None:
        self.host = msgspec.structs.replace(self.host, beat=max(beat, self.host.beat))
        sent_at = self._sent.get(beat)
        self._sent = {each: at for each, at in self._sent.items() if each > beat}
        if sent_at is None:
            return  # sent by another agent process of this boot: the time of sending is not known here
        if not self.is_current(now):
            self.current_since = now
        self.standing = Standing.MEMBER
        self._until = max(self._until, sent_at + self._timing.hold)

    def settle(self, write: Write, entry: Entry | None, now: float) -> None:
        """A write has ended. `entry`: the key after it, as written or as another host has written it; None: unknown, no answer
        came. The watch shows the effect of an unknown write."""
        self._in_flight.discard(write.key)
        if entry is not None:
            self.observe(entry, now)

    # -- what is to be written -------------------------------------------------------------------------------------------

    def due(self, now: float) -> list[Write]:
        """The writes to send now. Each is to be ended by `settle`."""
        if self.standing in {Standing.FENCED, Standing.NAME_IN_USE}:
            return []
        writes = [] if self.key in self._in_flight else self._renewals(now)
        if self.is_current(now):
            writes += self._fences(now)
        self._in_flight.update(write.key for write in writes)
        return writes

    def _renewals(self, now: float) -> list[Write]:
        if now < self._next_at or not self._may_write_own(now):
            return []
        self.host = msgspec.structs.replace(self.host, beat=self.host.beat + 1)
        self._sent[self.host.beat] = now
        self._next_at = now + self._timing.beat
        return [Write(self.key, encode(self.host), self._own_revision, now)]

    @property
    def _own_revision(self) -> int:
        own = self.peers.get(self.name)
        return ABSENT if own is None else own.revision

    def _may_write_own(self, now: float) -> bool:
        """A record of another boot is overwritten only if that boot is dead: fenced, or silent for a lease."""
        own = self.peers.get(self.name)
        if own is None or own.host is None or own.host.boot == self.host.boot or own.host.fenced_by:
            return True
        return now - max(own.changed_at, self._began_at) >= self._timing.lease

    def _fences(self, now: float) -> list[Write]:
        """The swap that declares a host dead. It fails if that host has renewed meanwhile, even if this host has not seen the
        renewal."""
        writes: list[Write] = []
        for name, peer in self.peers.items():
            key = HOST + name
            if name == self.name or peer.host is None or peer.host.fenced_by or key in self._in_flight:
                continue
            # While this host was not current, it may have missed renewals of others: the lease counts from its return.
            if now - max(peer.changed_at, self.current_since) >= self._timing.lease:
                fenced = msgspec.structs.replace(peer.host, fenced_by=self.name)
                writes.append(Write(key, encode(fenced), peer.revision, now))
        return writes

    def leave(self, now: float) -> Write | None:
        """The write with which this host releases all its leases at once; None: it has none."""
        if self.standing is not Standing.MEMBER:
            return None
        return Write(self.key, encode(msgspec.structs.replace(self.host, fenced_by=self.name)), self._own_revision, now)


def _is_renewal(before: Host, after: Host) -> bool:
    return before.boot == after.boot and before.beat < after.beat and not after.fenced_by
