"""One endpoint on its way to another supervisor: what of it travels, and how it is made of that again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, replace
from itertools import count
from typing import Any

from wsadapter.config import Dialects, checked
from wsadapter.contract.endpoint import Endpoint, endpoint_from_plain, to_plain
from wsadapter.contract.reasons import Reason
from wsadapter.endpoint.announced import Announced
from wsadapter.endpoint.blame import Blame
from wsadapter.endpoint.dedup import FirstArrival
from wsadapter.endpoint.endpoint import EndpointHost, EndpointRuntime
from wsadapter.endpoint.epoch import Counters, Epoch
from wsadapter.endpoint.identities import may_repeat, span_for
from wsadapter.endpoint.link import Link
from wsadapter.endpoint.link_state import LinkEvent, LinkState
from wsadapter.endpoint.subscriptions import ConnectionLedger, Ledger, Numbers
from wsadapter.handoff.custody import ConnectionHolder
from wsadapter.process.owner_process import OwnerProcess
from wsadapter.process.tls_holder import TlsHolder
from wsadapter.registry.shards import MARK
from wsadapter.takeover.process_state import can_go, give_owner, take_owner


def is_steady(endpoint: EndpointRuntime) -> bool:
    """Whether its connection can go with its owner now: up, and no change of it is under way. With replicas: the connections of
    all links that have an owner, aligned with each other; links that wait for their next owner wait for it there."""
    connected = [link for link in endpoint.links if link._child is not None]
    replicas = endpoint.replicas
    aligned = replicas is None or (replicas.is_at_rest and all(map(replicas.is_settled, connected)))
    whole = all(link._custody.resumption is None for link in endpoint.links)
    return bool(connected) and all(map(_is_steady, connected)) and aligned and whole and not endpoint.leaving


def _is_steady(link: Link) -> bool:
    return link.stays and all(map(can_go, _processes(link))) and not link.requests.waiting


def is_changing(endpoint: EndpointRuntime) -> bool:
    """Whether its connection is being changed, or was a moment ago, so that the new one may repeat what the old one delivered,
    or is on its way from a dead owner to the next one: soon it is steady."""
    if endpoint.replicas is not None:
        return endpoint.replicas.live > 0 and not is_steady(endpoint)
    link = endpoint.link
    dead = any(process.exit.has_ended for process in _processes(link))  # and soon that is told
    return dead or link.is_handed_on or link.rollover.under_way or link.rollover.merge is not None


def give_endpoint(endpoint: EndpointRuntime) -> tuple[dict[str, Any], list[int]]:
    """What travels of it, and its descriptors, which stay open here. One that is steady is to be frozen; of any other only its
    settings, what it wants and its numbers travel."""
    links, fds = [], list[int]()
    for link in endpoint.links:
        if link._child is not None:
            connection, more = _give_connection(link, link._child)
            links.append(connection)
            fds += more
    merge = endpoint.replicas.merge.to_plain() if endpoint.replicas is not None and links else None
    return {
        "endpoint": to_plain(endpoint.endpoint),
        "dialect": endpoint.dialect,
        "numbers": asdict(endpoint.stream.numbers),
        "wanted": list(endpoint.ledger.wanted.values()),
        "state": endpoint.state,
        "dropped": endpoint.stream.account.dropped,
        "last_exit": endpoint.last_exit.to_json() if endpoint.last_exit else None,
        "links": links,
        "merge": merge,
        "announced": endpoint.replicas.announced.to_plain() if endpoint.replicas is not None else None,
        **_lasting(endpoint.ledger),
    }, fds


def _lasting(ledger: Ledger) -> dict[str, Any]:
    """What of a ledger outlives connections."""
    return {"paces": ledger.paces, "blame": ledger.blame.to_plain()}


def _take_lasting(ledger: Ledger, plain: dict[str, Any]) -> None:
    ledger.paces, ledger.blame = dict(plain["paces"]), Blame(plain["blame"])


def _give_connection(managed: Link, child: OwnerProcess) -> tuple[dict[str, Any], list[int]]:
    plain: dict[str, Any] = {
        "number": managed.number,
        "restored_at": managed.restored_at,
        "restarts": managed._policy.total,
        "next_ref": next(managed._refs),
        "subscriptions": managed.subscriptions.to_plain(),
        "expires_at": managed._watchdogs.expires_at,
        "epoch": managed._epoch.to_plain(),
        "counters": asdict(managed.counters),
        "attempt": managed.dialer.attempt,
        "holder": None,
        **managed.ledger.connection.to_plain(),
        **_lasting(managed.ledger),
    }
    plain["owner"], fds = give_owner(child)
    if child.connection.holder is not None:
        plain["holder"], more = give_owner(_holder_of(child.connection.holder))
        fds = fds + more
    return plain, fds


def take_endpoint(host: EndpointHost, plain: dict[str, Any], fds: Iterator[int]) -> EndpointRuntime:
    """The endpoint that was given. With an owner it is up, and to be thawed; without one it is to be started."""
    given = endpoint_from_plain(plain["endpoint"])
    dialect, numbers = plain["dialect"], Numbers(**plain["numbers"])
    known = Dialects() if dialect is None else Dialects({given.dialect: dialect})
    settings = replace(checked(replace(given, name=given.name.partition(MARK)[0]), known), name=given.name)
    endpoint = EndpointRuntime(host, settings, dialect, numbers=numbers)
    endpoint.stream.account.dropped = plain["dropped"]
    endpoint.last_exit = Reason.from_json(plain["last_exit"]) if plain["last_exit"] else None
    endpoint.unsubscribe(list(endpoint.ledger.wanted.values()))
    endpoint.subscribe(plain["wanted"])
    if endpoint.replicas is not None and plain["merge"] is not None:
        span, repeats = span_for(settings, dialect), may_repeat(settings, dialect)
        endpoint.replicas.merge = FirstArrival.from_plain(plain["merge"], span=span, repeats=repeats)
        endpoint.replicas.announced = Announced(plain["announced"])
    for link in endpoint.links:
        _take_lasting(link.ledger, plain)
    for connection in plain["links"]:
        _take_connection(host, endpoint.links[connection["number"] - 1], settings, connection, fds)
    if endpoint.replicas is None:
        endpoint.link.last_exit = endpoint.last_exit
        if plain["state"] == "fatal":
            endpoint.link._life = LinkState.FATAL
    return endpoint


def _take_connection(host: EndpointHost, managed: Link, endpoint: Endpoint, plain: dict[str, Any], fds: Iterator[int]) -> None:
    managed.restored_at = plain["restored_at"]
    managed._life, managed._epoch, managed.counters = LinkState.UP, Epoch(**plain["epoch"]), Counters(**plain["counters"])
    managed.dialer.attempt = plain["attempt"]
    managed.ledger.connection = ConnectionLedger.from_plain(plain)
    _take_lasting(managed.ledger, plain)
    managed._policy.total = plain["restarts"]
    managed._refs = count(plain["next_ref"])
    managed.subscriptions.take_plain(plain["subscriptions"], managed._refs)
    managed._watchdogs.expires_at = plain["expires_at"]
    child = take_owner(host.reactor, managed, endpoint, plain["owner"], fds)
    managed._child = child
    if plain["holder"] is not None:
        process = take_owner(host.reactor, managed, endpoint, plain["holder"], fds)
        child.connection.holder = managed.dialer.take_holder(process)


def freeze(endpoint: EndpointRuntime) -> None:
    """Nothing of a steady endpoint is read, and nothing is done with it, until `thaw`."""
    if endpoint.replicas is not None:
        endpoint.replicas.end_turns()
    for link in endpoint.links:
        link._cancel_waits()  # of a link that waits for its next owner
        link._watchdogs.end()
        for process in _processes(link):
            process.freeze()


def thaw(endpoint: EndpointRuntime) -> None:
    """It goes on."""
    for link in endpoint.links:
        if link._child is None:
            if link.state in ("backoff", "cooling_down"):  # `freeze` cancelled its timer
                link.step(LinkEvent.START)
            continue
        for process in _processes(link):
            process.thaw()
        link._watchdogs.begin(link._child)
        link._watchdogs.connection_up(resumed=True)
    if endpoint.replicas is not None:
        endpoint.replicas.begin_turns()


def relinquish(endpoint: EndpointRuntime) -> None:
    """It is another supervisor's now."""
    for link in endpoint.links:
        for process in _processes(link):
            process.disown()
        link._child = None
        link.dialer.forget_holders()
        link._life = LinkState.STOPPED


def _processes(link: Link) -> list[OwnerProcess]:
    """Its owner, and who holds the TLS of its connection."""
    child = link._child
    if child is None:
        return []
    return [child] if child.connection.holder is None else [_holder_of(child.connection.holder), child]


def _holder_of(holder: ConnectionHolder) -> OwnerProcess:
    assert isinstance(holder, TlsHolder)
    return holder.child
