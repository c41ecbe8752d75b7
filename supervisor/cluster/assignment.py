"""Which endpoints this host holds, is a standby for, or is to take. Pure: `now` is an argument, writes are returned.

    vacant ──the first eligible host in rendezvous order──> held ──its holder is dead, or yields──> vacant
                                                              └──rebalance──> held by the host where it belongs

An endpoint is vacant if no host had it, if its holder yielded it, or if its holder's boot is fenced or removed. A host that
comes back finds its endpoints held by others, and takes none until an operator orders a rebalance. In a rebalance the new host
connects first; then the lease moves. If only one connection may be open at a time (`exclusive`), the holder closes first and
yields it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import msgspec

from wsadapter.cluster.membership import Membership, Timing
from wsadapter.cluster.placement import order
from wsadapter.cluster.records import LEASE, Host, Lease, Rebalance, decode, encode
from wsadapter.cluster.store import ABSENT, Entry, Write

Role = Literal["holder", "standby", "preparing", "leaving", "none"]


class Order(msgspec.Struct, frozen=True):
    """The last rebalance that was seen."""

    rebalance: Rebalance
    revision: int


@dataclass(frozen=True, slots=True)
class Spread:
    """How an endpoint is spread over the hosts."""

    hosts: int = 1
    """The number of hosts that are connected to it; 1: no standby."""
    exclusive: bool = False
    """Two connections at a time are not allowed, for example because the exchange allows one session for each key."""


@dataclass(slots=True)
class Known:
    """An endpoint as this host sees it."""

    lease: Lease | None = None
    """None: no host had it yet."""
    revision: int = ABSENT
    changed_at: float = float("-inf")
    """When this host saw the last change."""
    vacant_since: float | None = None
    """When this host first saw it vacant; None: it is held."""
    confirmed: bool = False
    """This host has done what must be done before a rebalance moves the lease."""


class Assignment:
    """The endpoints of one configuration. Not thread-safe."""

    def __init__(self, members: Membership, endpoints: Mapping[str, Spread], timing: Timing, new_id: Callable[[], str]) -> None:
        """`new_id`: makes globally unique ids of leases."""
        self._new_id = new_id
        self._members = members
        self._spread = dict(endpoints)
        self._known = {name: Known() for name in endpoints}
        self._timing = timing
        self._order: Order | None = None
        self._in_flight: set[str] = set()

    # -- what was seen ---------------------------------------------------------------------------------------------------

    def observe(self, entry: Entry, now: float) -> None:
        """A lease, from the watch, from a read, or as this host wrote it. Raises `RecordDamaged`."""
        known = self._known.get(entry.key.removeprefix(LEASE))
        if known is None or entry.revision <= known.revision:
            return
        known.lease = decode(Lease, entry.key, entry.value) if entry.value else None
        known.revision = entry.revision
        known.changed_at = now
        known.vacant_since = None  # judged again by the next `due`
        known.confirmed = False

    def observe_order(self, entry: Entry) -> None:
        """The order of an operator. Raises `RecordDamaged`."""
        if entry.value and (self._order is None or entry.revision > self._order.revision):
            self._order = Order(decode(Rebalance, entry.key, entry.value), entry.revision)

    def settle(self, write: Write, entry: Entry | None, now: float) -> None:
        """A write has ended; see `Membership.settle`."""
        self._in_flight.discard(write.key)
        if entry is not None:
            self.observe(entry, now)

    def confirm(self, endpoint: str) -> None:
        """This host has completed its role: "preparing": it is connected; "leaving": it has closed the connection."""
        self._known[endpoint].confirmed = True

    # -- what this host is -----------------------------------------------------------------------------------------------

    def lease(self, endpoint: str) -> Lease | None:
        """The last lease that was seen; None: no host had the endpoint yet."""
        return self._known[endpoint].lease

    def is_mine(self, endpoint: str) -> bool:
        """Whether the lease names this boot of this host. `Membership.is_current` decides whether the lease may be used."""
        lease = self._known[endpoint].lease
        return lease is not None and lease.host == self._members.name and lease.boot == self._members.host.boot

    def role(self, endpoint: str, now: float) -> Role:
        """What this host is to do with an endpoint now."""
        if not self._members.is_current(now):
            return "none"
        target = self._target(endpoint)
        exclusive = self._spread[endpoint].exclusive
        if self.is_mine(endpoint):
            return "leaving" if exclusive and target not in {None, self._members.name} else "holder"
        if target == self._members.name and not exclusive:
            return "preparing"
        standbys = self._spread[endpoint].hosts - 1
        if not standbys:
            return "none"
        lease = self._known[endpoint].lease
        holder = "" if lease is None else lease.host
        others = [host for host in self._candidates(endpoint) if host != holder]
        return "standby" if self._members.name in others[:standbys] else "none"

    def _candidates(self, endpoint: str) -> list[str]:
        """The hosts that can have it, the first choice first: alive, of this configuration, and not one that yielded it."""
        lease = self._known[endpoint].lease
        digest = self._members.host.digest
        alive = {name: host for name, host in self._members.alive().items() if host.digest == digest}
        avoid = set() if lease is None else set(lease.avoid)
        able = {name: host for name, host in alive.items() if name not in avoid} or alive
        return order(endpoint, _weights(able))

    def _target(self, endpoint: str) -> str | None:
        """The host to which the last rebalance moves it; None: it doesn't move any more. Hosts that were dead then take no
        part."""
        known = self._known[endpoint]
        if self._order is None or known.lease is None or known.revision > self._order.revision:
            return None
        named = self._order.rebalance.hosts
        alive = self._members.alive()
        return next((host for host in self._candidates(endpoint) if named.get(host) == alive[host].boot), None)

    def moves(self) -> dict[str, tuple[str, str]]:
        """The endpoints that the last rebalance moves, each with its holder and the host to which it goes."""
        targets = {endpoint: self._target(endpoint) for endpoint in self._known}
        return {
            endpoint: (lease.host, target)
            for endpoint, target in targets.items()
            if target is not None and (lease := self._known[endpoint].lease) is not None and lease.host != target
        }

    # -- what is to be written -------------------------------------------------------------------------------------------

    def due(self, now: float) -> list[Write]:
        """The writes to send now. Each is to be ended by `settle`."""
        if not self._members.is_current(now):
            return []
        writes = [
            write
            for endpoint, known in self._known.items()
            if LEASE + endpoint not in self._in_flight and (write := self._take(endpoint, known, now)) is not None
        ]
        self._in_flight.update(write.key for write in writes)
        return writes

    def _take(self, endpoint: str, known: Known, now: float) -> Write | None:
        if self._is_vacant(known, now):
            known.vacant_since = now if known.vacant_since is None else known.vacant_since
            if now < self._turn(endpoint, known.vacant_since, is_new=known.lease is None):
                return None
        else:
            known.vacant_since = None
            role = self.role(endpoint, now) if known.confirmed else "holder"
            if role == "leaving":
                return self.give_back(endpoint, now, avoid=False)
            if role != "preparing":
                return None
        members = self._members
        before = known.lease or Lease(host="", boot="", term=0)
        avoid = before.avoid if members.name not in before.avoid else ()  # all hosts have tried it: begin again
        lease = Lease(host=members.name, boot=members.host.boot, term=before.term + 1, id=self._new_id(), avoid=avoid)
        return Write(LEASE + endpoint, encode(lease), known.revision, now)

    def _turn(self, endpoint: str, vacant_since: float, *, is_new: bool) -> float:
        """When this host takes a vacant endpoint: the first choice at once, each further one a lease later, so that a host
        which renews its record and does nothing else leaves no endpoint alone."""
        candidates = self._candidates(endpoint)
        if self._members.name not in candidates:
            return float("inf")
        turn = vacant_since + candidates.index(self._members.name) * self._timing.lease
        # Hosts that are started together share the endpoints; without the wait the first one would take them all.
        return max(turn, self._members.current_since + self._timing.lease) if is_new else turn

    def _is_vacant(self, known: Known, now: float) -> bool:
        if known.lease is None or not known.lease.host:
            return True
        peer = self._members.peers.get(known.lease.host)
        if peer is None:
            return now - known.changed_at >= self._timing.lease  # a read of the lease can be ahead of the watch of the hosts
        if peer.host is None:  # somebody removed the record: its holder may not have seen that, and holds on for a while
            return now - max(peer.changed_at, known.changed_at) >= self._timing.lease
        if peer.host.boot != known.lease.boot:
            return peer.revision > known.revision  # else the lease is the newer one: its holder's record is still to be seen
        return bool(peer.host.fenced_by)

    def raise_term(self, endpoint: str, above: int, now: float) -> Write | None:
        """The write that gives this host a higher term for what it has; None: it does not have it, or writes already. The log
        may hold a term that the leases do not know (the bucket was removed, or restored), or may have lost the claim of this
        term. The swap succeeds only while the lease names this boot. To be ended by `settle`."""
        known = self._known[endpoint]
        if not self.is_mine(endpoint) or not self._members.is_current(now) or LEASE + endpoint in self._in_flight:
            return None
        self._in_flight.add(LEASE + endpoint)
        assert known.lease is not None
        lease = msgspec.structs.replace(known.lease, term=max(known.lease.term, above) + 1, id=self._new_id())
        return Write(LEASE + endpoint, encode(lease), known.revision, now)

    def give_back(self, endpoint: str, now: float, *, avoid: bool) -> Write | None:
        """The write that gives an endpoint back; None: this host does not have it, or writes already. `avoid`: it could not
        connect. To be ended by `settle`."""
        known = self._known[endpoint]
        if not self.is_mine(endpoint) or LEASE + endpoint in self._in_flight:
            return None
        self._in_flight.add(LEASE + endpoint)
        assert known.lease is not None
        hosts = (*known.lease.avoid, self._members.name) if avoid else known.lease.avoid
        lease = Lease(host="", boot="", term=known.lease.term, avoid=tuple(dict.fromkeys(hosts)))
        return Write(LEASE + endpoint, encode(lease), known.revision, now)


def _weights(hosts: Mapping[str, Host]) -> dict[str, float]:
    return {name: host.weight for name, host in hosts.items()}


def plan(endpoints: Iterable[str], hosts: Mapping[str, Host]) -> dict[str, str]:
    """Where each endpoint belongs, if `hosts` are there."""
    weights = _weights(hosts)
    return {endpoint: order(endpoint, weights)[0] for endpoint in endpoints if weights}
