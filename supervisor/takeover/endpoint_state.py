"""One endpoint on its way to another supervisor: what of it travels, and how it is made of that again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, replace
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
from wsadapter.endpoint.link_owner import LinkOwner
from wsadapter.endpoint.link_state import LinkEvent, LinkState
from wsadapter.endpoint.subscriptions import ConnectionLedger, Ledger, Numbers
from wsadapter.endpoint.tally import Tally
from wsadapter.handoff.custody import ConnectionHolder
from wsadapter.process.owner_process import IgnoreOwnerEvents, OwnerProcess
from wsadapter.process.tls_holder import TlsHolder
from wsadapter.registry.shards import MARK
from wsadapter.takeover.process_state import can_go, give_owner, take_owner


def is_steady(endpoint: EndpointRuntime) -> bool:
    """Whether its connection can go with its owner now: up, and no change of it is under way. With replicas: the connections of
    all links that have an owner, aligned with each other; links that wait for their next owner wait for it there."""
    connected = [link for link in endpoint.links if link.owner is not None]
    replicas = endpoint.replicas
    aligned = replicas is None or (replicas.is_at_rest and all(map(replicas.is_settled, connected)))
    whole = all(link.connection.custody.resumption is None for link in endpoint.links)
    return bool(connected) and all(map(_is_steady, connected)) and aligned and whole and not endpoint.leaving


def _is_steady(link: Link) -> bool:
    return link.stays and all(map(can_go, _processes(link))) and not link.connection.requests.waiting


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
        if link.owner is not None:
            connection, more = _give_connection(link, link.owner)
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
        "tally": endpoint.stream.tally.to_plain(),
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


def _give_connection(link: Link, owner: LinkOwner) -> tuple[dict[str, Any], list[int]]:
    plain: dict[str, Any] = {
        "number": link.output.number,
        "restored_at": link.output.restored_at,
        "restarts": link.policy.total,
        "last_ref": link.connection.commands.last_ref,
        "subscriptions": link.connection.subscriptions.to_plain(),
        "epoch": owner.epoch.to_plain(),
        "counters": asdict(link.output.counters),
        "attempt": link.connection.dialer.attempt,
        "holder": None,
        **link.connection.ledger.connection.to_plain(),
        **_lasting(link.connection.ledger),
    }
    process = owner.process
    plain["owner"], fds = give_owner(process)
    if process.connection.holder is not None:
        plain["holder"], more = give_owner(_holder_of(process.connection.holder))
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
    endpoint.stream.tally = Tally(plain.get("tally"))  # a version that does not count them gives none
    endpoint.last_exit = Reason.from_json(plain["last_exit"]) if plain["last_exit"] else None
    endpoint.unsubscribe(list(endpoint.ledger.wanted.values()))
    endpoint.subscribe(plain["wanted"])
    if endpoint.replicas is not None and plain["merge"] is not None:
        span, repeats = span_for(settings, dialect), may_repeat(settings, dialect)
        endpoint.replicas.merge = FirstArrival.from_plain(plain["merge"], span=span, repeats=repeats)
        endpoint.replicas.announced = Announced(plain["announced"])
    for link in endpoint.links:
        _take_lasting(link.connection.ledger, plain)
    for connection in plain["links"]:
        _take_connection(host, endpoint.links[connection["number"] - 1], settings, connection, fds)
    if endpoint.replicas is None:
        endpoint.link.last_exit = endpoint.last_exit
        if plain["state"] == "fatal":
            endpoint.link._life = LinkState.FATAL
    return endpoint


def _take_connection(host: EndpointHost, link: Link, endpoint: Endpoint, plain: dict[str, Any], fds: Iterator[int]) -> None:
    link._life, link.policy.total = LinkState.UP, plain["restarts"]
    output, connection = link.output, link.connection
    output.restored_at = plain["restored_at"]
    output.counters = Counters(**plain["counters"])
    connection.dialer.attempt = plain["attempt"]
    connection.ledger.connection = ConnectionLedger.from_plain(plain)
    _take_lasting(connection.ledger, plain)
    connection.commands.last_ref = plain["last_ref"]
    connection.subscriptions.take_plain(plain["subscriptions"])
    epoch = Epoch(**plain["epoch"])
    owner = LinkOwner(link, epoch, lambda listener: take_owner(host.reactor, listener, endpoint, plain["owner"], fds))
    link.owner = owner
    if plain["holder"] is not None:
        process = take_owner(host.reactor, IgnoreOwnerEvents(), endpoint, plain["holder"], fds)
        owner.process.connection.holder = connection.dialer.take_holder(process)


def freeze(endpoint: EndpointRuntime) -> None:
    """Nothing of a steady endpoint is read, and nothing is done with it, until `thaw`."""
    if endpoint.replicas is not None:
        endpoint.replicas.end_turns()
    for link in endpoint.links:
        link.wait.cancel()  # of a link that waits for its next owner
        if link.owner is not None:
            link.owner.watchdogs.end()
        for process in _processes(link):
            process.freeze()


def thaw(endpoint: EndpointRuntime) -> None:
    """It goes on."""
    for link in endpoint.links:
        if link.owner is None:
            if link.state in ("backoff", "cooling_down"):  # `freeze` cancelled its timer
                link.step(LinkEvent.START)
            continue
        for process in _processes(link):
            process.thaw()
        link.owner.watchdogs.begin(link.owner.process)
        link.owner.watchdogs.await_max_age(link.connection.ledger.connection.expires_at)
    if endpoint.replicas is not None:
        endpoint.replicas.begin_turns()


def relinquish(endpoint: EndpointRuntime) -> None:
    """It is another supervisor's now."""
    for link in endpoint.links:
        for process in _processes(link):
            process.disown()
        link.owner = None
        link.connection.dialer.forget_holders()
        link._life = LinkState.STOPPED


def _processes(link: Link) -> list[OwnerProcess]:
    """Its owner, and who holds the TLS of its connection."""
    if link.owner is None:
        return []
    child = link.owner.process
    return [child] if child.connection.holder is None else [_holder_of(child.connection.holder), child]


def _holder_of(holder: ConnectionHolder) -> OwnerProcess:
    assert isinstance(holder, TlsHolder)
    return holder.child
