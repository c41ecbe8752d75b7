"""One endpoint on its way to another supervisor: its snapshot, and when it can go."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from wsadapter.config import Dialects, checked
from wsadapter.contract.endpoint import Subscription, endpoint_from_plain, to_plain
from wsadapter.contract.reasons import Reason
from wsadapter.endpoint.announced import Announced, AnnouncedSnapshot
from wsadapter.endpoint.dedup import MergeSnapshot
from wsadapter.endpoint.endpoint import EndpointHost, EndpointRuntime
from wsadapter.endpoint.link import Link, LinkSnapshot
from wsadapter.endpoint.link_state import LinkEvent
from wsadapter.endpoint.subscriptions import Lasting, Numbers
from wsadapter.endpoint.tally import Tally, TallySnapshot
from wsadapter.process.owner_process import OwnerProcess
from wsadapter.process.process_snapshot import can_go
from wsadapter.registry.shards import MARK
from wsadapter.status import EndpointState


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointSnapshot:
    """An endpoint. If it is steady, its links go with their owners. Of any other endpoint only the settings, the wanted
    subscriptions, the numbers and what is known of its streams go, and the other supervisor starts it."""

    endpoint: dict[str, Any]
    """The settings, as plain values."""
    dialect: dict[str, Any] | None
    numbers: Numbers
    wanted: list[Subscription]
    lasting: Lasting
    state: EndpointState
    dropped: int
    tally: TallySnapshot
    last_exit: Reason | None
    links: list[LinkSnapshot]
    """Those that have owners."""
    merge: MergeSnapshot | None
    announced: AnnouncedSnapshot | None
    """Both None without replicas."""


def snapshot_of(endpoint: EndpointRuntime) -> tuple[EndpointSnapshot, list[int]]:
    """An endpoint that is frozen, or has no owner, with its descriptors, which stay open here."""
    links, fds = list[LinkSnapshot](), list[int]()
    for link in endpoint.links:
        if link.owner is not None:
            snapshot, more = link.snapshot()
            links.append(snapshot)
            fds += more
    replicas = endpoint.replicas
    whole = EndpointSnapshot(
        endpoint=to_plain(endpoint.endpoint),
        dialect=endpoint.dialect,
        numbers=endpoint.stream.numbers,
        wanted=list(endpoint.subscriptions.wanted.values()),
        lasting=endpoint.subscriptions.lasting,
        state=endpoint.state,
        dropped=endpoint.stream.backlog.dropped,
        tally=endpoint.stream.tally.snapshot(),
        last_exit=endpoint.last_exit,
        links=links,
        merge=None if replicas is None or not links else replicas.merge.snapshot(),
        announced=None if replicas is None else replicas.announced.snapshot(),
    )
    return whole, fds


def receive(host: EndpointHost, snapshot: EndpointSnapshot, fds: Iterator[int]) -> EndpointRuntime:
    """The endpoint of another supervisor. With an owner it is up and frozen, without one it is to be started. It takes its own
    descriptors from `fds`."""
    given, dialect = endpoint_from_plain(snapshot.endpoint), snapshot.dialect
    known = Dialects() if dialect is None else Dialects({given.dialect: dialect})
    settings = replace(checked(replace(given, name=given.name.partition(MARK)[0]), known), name=given.name)
    endpoint = EndpointRuntime(host, settings, dialect, numbers=snapshot.numbers)
    endpoint.stream.backlog.dropped = snapshot.dropped
    endpoint.stream.tally = Tally(snapshot.tally)
    endpoint.last_exit = snapshot.last_exit
    endpoint.unsubscribe(list(endpoint.subscriptions.wanted.values()))
    endpoint.subscribe(snapshot.wanted)
    for link in endpoint.links:
        link.connection.subscriptions.lasting = snapshot.lasting
    for each in snapshot.links:
        endpoint.links[each.number - 1].receive(each, fds)
    if endpoint.replicas is None:
        endpoint.link.last_exit = snapshot.last_exit
        if snapshot.state == "fatal":
            endpoint.link.step(LinkEvent.RECEIVE_FATAL)
    elif snapshot.merge is not None:
        endpoint.replicas.merge.restore(snapshot.merge)
        endpoint.replicas.announced = Announced(snapshot.announced)
    return endpoint


def is_steady(endpoint: EndpointRuntime) -> bool:
    """Whether its connection can go with its owner now: up, and no change of it is under way. With replicas: the connections of
    all links that have an owner, aligned with each other; links that wait for their next owner wait for it there."""
    connected = [link for link in endpoint.links if link.owner is not None]
    replicas = endpoint.replicas
    aligned = replicas is None or (replicas.is_at_rest and all(map(replicas.is_aligned, connected)))
    whole = all(link.connection.custody.resumption is None for link in endpoint.links)
    return bool(connected) and all(map(_is_steady, connected)) and aligned and whole and not endpoint.leaving


def _is_steady(link: Link) -> bool:
    return link.stays and all(map(can_go, _processes(link))) and not link.connection.requests.waiting


def _processes(link: Link) -> list[OwnerProcess]:
    return [] if link.owner is None else link.owner.processes


def is_changing(endpoint: EndpointRuntime) -> bool:
    """Whether its connection is being changed, or was a moment ago, so that the new one may repeat what the old one delivered,
    or is on its way from a dead owner to the next one: soon it is steady."""
    if endpoint.replicas is not None:
        return endpoint.replicas.live > 0 and not is_steady(endpoint)
    link = endpoint.link
    dead = any(process.exit.has_ended for process in _processes(link))  # the link is notified soon
    return dead or link.is_between_owners or link.rollover.under_way or link.rollover.merge is not None


def freeze(endpoint: EndpointRuntime) -> None:
    """Nothing of a steady endpoint is read, and nothing is done with it, until `thaw`."""
    if endpoint.replicas is not None:
        endpoint.replicas.end_turns()
    for link in endpoint.links:
        link.wait.cancel()  # of a link that waits for its next owner
        if link.owner is not None:
            link.owner.freeze()


def thaw(endpoint: EndpointRuntime) -> None:
    """The endpoint continues in this supervisor."""
    for link in endpoint.links:
        if link.owner is not None:
            link.owner.thaw()
        elif link.state in ("backoff", "cooling_down"):  # `freeze` cancelled its wait
            link.step(LinkEvent.START)
    if endpoint.replicas is not None:
        endpoint.replicas.begin_turns()


def disown(endpoint: EndpointRuntime) -> None:
    """It is another supervisor's now."""
    for link in endpoint.links:
        link.step(LinkEvent.DISOWN)
