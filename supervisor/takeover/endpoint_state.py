"""One endpoint on its way to another supervisor: what of it travels, and how it is made of that again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from itertools import count
from typing import Any

from wsadapter.config import Dialects, checked
from wsadapter.contract.endpoint import Endpoint, endpoint_from_plain, to_plain
from wsadapter.contract.reasons import Reason
from wsadapter.endpoint.announced import Announced
from wsadapter.endpoint.blame import Blame
from wsadapter.endpoint.dedup import FirstArrival
from wsadapter.endpoint.epoch import Counters, Epoch
from wsadapter.endpoint.identities import may_repeat, span_for
from wsadapter.endpoint.link import ManagedEndpoint, Office
from wsadapter.endpoint.link_state import LinkEvent, LinkState
from wsadapter.endpoint.replicas import Replicas
from wsadapter.endpoint.subscriptions import Ledger, Numbers
from wsadapter.handoff.custody import ConnectionHolder
from wsadapter.process.owner_process import OwnerChild
from wsadapter.process.tls_holder import TlsHolder
from wsadapter.registry.shards import MARK
from wsadapter.takeover.process_state import can_go, give_owner, take_owner


def is_steady(managed: ManagedEndpoint | Replicas) -> bool:
    """Whether its connection can go with its owner now: up, and no change of it is under way. Of replicas: all that have an
    owner, aligned with each other; those that wait for their next owner wait for it there."""
    if isinstance(managed, Replicas):
        connected = [member for member in managed.members if member._child is not None]
        aligned = all(_is_steady(member) and managed.is_settled(member) for member in connected)
        whole = all(member._custody.resumption is None for member in managed.members)
        return bool(connected) and aligned and whole and managed.is_at_rest
    return _is_steady(managed)


def _is_steady(managed: ManagedEndpoint) -> bool:
    return (
        managed.stays
        and managed._child is not None
        and all(map(can_go, _processes(managed)))
        and not managed.requests.waiting
    )


def is_changing(managed: ManagedEndpoint | Replicas) -> bool:
    """Whether its connection is being changed, or was a moment ago, so that the new one may repeat what the old one delivered,
    or is on its way from a dead owner to the next one: soon it is steady."""
    if isinstance(managed, Replicas):
        return managed.live > 0 and not is_steady(managed)
    dead = any(process.has_ended for process in _processes(managed))  # and soon that is told
    return dead or managed.is_handed_on or managed._change.under_way or managed._change.overlaps


def give_endpoint(managed: ManagedEndpoint | Replicas) -> tuple[dict[str, Any], list[int]]:
    """What travels of it, and its descriptors, which stay open here. One that is steady is to be frozen; of any other only its
    settings, what it wants and its numbers travel."""
    plain: dict[str, Any] = {
        "endpoint": to_plain(managed.endpoint),
        "dialect": managed.dialect,
        "numbers": asdict(managed.ledger.numbers),
        "wanted": list(managed.ledger.wanted.values()),
        "state": managed.state,
        "dropped": managed.account.dropped,
        "last_exit": managed.last_exit.to_json() if managed.last_exit else None,
        "owner": None,
        "members": [],
    }
    if isinstance(managed, Replicas):
        return _give_replicas(managed, plain)
    if managed._child is None:
        return plain | _lasting(managed.ledger), []
    connection, fds = _give_connection(managed, managed._child)
    return plain | connection, fds


def _lasting(ledger: Ledger) -> dict[str, Any]:
    """What of a ledger outlives connections."""
    return {"paces": ledger.paces, "blame": ledger.blame.to_plain()}


def _take_lasting(ledger: Ledger, plain: dict[str, Any]) -> None:
    ledger.paces, ledger.blame = dict(plain["paces"]), Blame(plain["blame"])


def _give_replicas(managed: Replicas, plain: dict[str, Any]) -> tuple[dict[str, Any], list[int]]:
    """Those that have an owner, and how far the merge of them is."""
    members, fds = [], list[int]()
    for member in managed.members:
        if member._child is not None:
            connection, more = _give_connection(member, member._child)
            members.append({"number": member.number, "restored_at": member._restored_at, **connection})
            fds += more
    plain |= {"announced": managed.announced.to_plain(), "merge": managed.merge.to_plain() if members else None}
    return plain | {"members": members}, fds


def _give_connection(managed: ManagedEndpoint, child: OwnerChild) -> tuple[dict[str, Any], list[int]]:
    ledger = managed.ledger
    plain: dict[str, Any] = {
        "confirmed": sorted(ledger.confirmed),
        "asked": sorted(ledger.asked),
        "rejected": ledger.rejected,
        "parts": ledger.parts,
        "live": sorted(ledger.live),
        "channels": ledger.channels,
        "login_at": ledger.login_at,
        "challenge": ledger.challenge,
        "heartbeat_at": ledger.heartbeat_at,
        "token": ledger.token,
        "restarts": managed._policy.total,
        "next_ref": next(managed._refs),
        "told": list(managed._tellings._told.items()),
        "untold": managed._tellings._untold,
        "expires_at": managed._watchdogs.expires_at,
        "epoch": managed._epoch.to_plain(),
        "counters": asdict(managed.counters),
        "url": managed._url,
        "was_confirmed": managed._was_confirmed,
        "holder": None,
        **_lasting(ledger),
    }
    plain["owner"], fds = give_owner(child)
    if child.holder is not None:
        plain["holder"], more = give_owner(_holder_of(child.holder))
        fds = fds + more
    return plain, fds


def take_endpoint(office: Office, plain: dict[str, Any], fds: Iterator[int]) -> ManagedEndpoint | Replicas:
    """The endpoint that was given. With an owner it is up, and to be thawed; without one it is to be started."""
    given = endpoint_from_plain(plain["endpoint"])
    dialect, numbers = plain["dialect"], Numbers(**plain["numbers"])
    known = Dialects() if dialect is None else Dialects({given.dialect: dialect})
    endpoint = replace(checked(replace(given, name=given.name.partition(MARK)[0]), known), name=given.name)
    kind = Replicas if endpoint.replicas > 1 else ManagedEndpoint
    managed = kind(office, endpoint, dialect, numbers=numbers)
    managed.account.dropped = plain["dropped"]
    managed.last_exit = Reason.from_json(plain["last_exit"]) if plain["last_exit"] else None
    managed.unsubscribe(list(managed.ledger.wanted.values()))
    managed.subscribe(plain["wanted"])
    if isinstance(managed, Replicas):
        _take_replicas(managed, plain, fds)
    elif plain["owner"] is not None:
        _take_connection(office, managed, endpoint, plain, fds)
    else:
        _take_lasting(managed.ledger, plain)
        if plain["state"] == "fatal":
            managed._life = LinkState.FATAL
    return managed


def _take_replicas(managed: Replicas, plain: dict[str, Any], fds: Iterator[int]) -> None:
    if plain["members"]:
        settings = managed.endpoint, managed.dialect
        managed.announced = Announced(plain["announced"])
        managed.merge = FirstArrival.from_plain(plain["merge"], span=span_for(*settings), repeats=may_repeat(*settings))
    for connection in plain["members"]:
        member = managed.member(connection["number"])
        _take_connection(managed, member, managed.endpoint, connection, fds)
        member._restored_at = connection["restored_at"]


def _take_connection(
    office: Office, managed: ManagedEndpoint, endpoint: Endpoint, plain: dict[str, Any], fds: Iterator[int]
) -> None:
    managed._life, managed._epoch, managed.counters = LinkState.UP, Epoch(**plain["epoch"]), Counters(**plain["counters"])
    managed._url, managed._was_confirmed = plain["url"], plain["was_confirmed"]
    managed.ledger.confirmed, managed.ledger.asked = set(plain["confirmed"]), set(plain["asked"])
    managed.ledger.rejected, managed.ledger.parts = dict(plain["rejected"]), dict(plain["parts"])
    _take_lasting(managed.ledger, plain)
    managed.ledger.live = set(plain["live"])
    managed.ledger.channels = dict(plain["channels"])
    managed.ledger.login_at, managed.ledger.token = plain["login_at"], plain["token"]
    managed.ledger.challenge = plain["challenge"]
    managed.ledger.heartbeat_at = plain["heartbeat_at"]
    managed._policy.total = plain["restarts"]
    managed._refs = count(plain["next_ref"])
    managed._tellings.adopt(managed._refs, plain["told"], plain["untold"])
    managed._watchdogs.expires_at = plain["expires_at"]
    child = take_owner(office.reactor, managed, endpoint, plain["owner"], fds, lambda _: None)
    managed._child = child
    if plain["holder"] is not None:
        process = take_owner(office.reactor, managed, endpoint, plain["holder"], fds, lambda _: None)
        child.holder = holder = TlsHolder(managed._holder_gone, managed._holder_said).of(process)
        managed._holders.add(holder)


def freeze(managed: ManagedEndpoint | Replicas) -> None:
    """Nothing of a steady endpoint is read, and nothing is done with it, until `thaw`."""
    if isinstance(managed, Replicas):
        managed.end_turns()
    for each in _connections(managed):
        each._cancel_waits()  # of a member that waits for its next owner
        each._watchdogs.end()
        for process in _processes(each):
            process.freeze()


def thaw(managed: ManagedEndpoint | Replicas) -> None:
    """It goes on."""
    for each in _connections(managed):
        if each._child is None:
            if each.state in ("backoff", "cooling_down"):  # `freeze` cancelled its timer
                each.step(LinkEvent.START)
            continue
        for process in _processes(each):
            process.thaw()
        each._watchdogs.begin(each._child)
        each._watchdogs.connection_up(resumed=True)
    if isinstance(managed, Replicas):
        managed.begin_turns()


def relinquish(managed: ManagedEndpoint | Replicas) -> None:
    """It is another supervisor's now."""
    for each in _connections(managed):
        for process in _processes(each):
            process.relinquish()
            process.holder = None
        each._child = None
        each._holders.clear()
        each._life = LinkState.STOPPED


def _connections(managed: ManagedEndpoint | Replicas) -> Sequence[ManagedEndpoint]:
    """Its members, or itself."""
    return managed.members if isinstance(managed, Replicas) else [managed]


def _processes(managed: ManagedEndpoint) -> list[OwnerChild]:
    """Its owner, and who holds the TLS of its connection."""
    child = managed._child
    if child is None:
        return []
    return [child] if child.holder is None else [_holder_of(child.holder), child]


def _holder_of(holder: ConnectionHolder) -> OwnerChild:
    assert isinstance(holder, TlsHolder)
    return holder.child
