"""The endpoints of a supervisor: their names, their groups (shards of one configured endpoint), and their inboxes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from typing import Protocol

from wsadapter.arguments import as_name
from wsadapter.config import Dialects
from wsadapter.config.dialect import wrong_stream
from wsadapter.contract.endpoint import Endpoint, Subscription
from wsadapter.contract.errors import ConfigError, DuplicateEndpoint, NotConnected, Problem, UnknownEndpoint, UsageError
from wsadapter.delivery.inbox import Inbox
from wsadapter.endpoint.endpoint import EndpointHost, EndpointRuntime
from wsadapter.endpoint.request_id import Payload
from wsadapter.endpoint.requests import Pending
from wsadapter.endpoint.subscriptions import key_of
from wsadapter.registry.reload import reload, with_dialect
from wsadapter.registry.removed import RemovedEndpoints
from wsadapter.registry.shards import MARK, capacity, fingerprint, parts, spread, together
from wsadapter.status import EndpointStatus


class OnRegistered(Protocol):
    """Called with each new endpoint; `waits`: the endpoint before it under this name has not ended."""

    def __call__(self, endpoint: EndpointRuntime, /, *, waits: bool) -> None: ...


class EndpointRegistry:
    """All endpoints of one supervisor. All methods under the reactor's lock."""

    def __init__(
        self,
        supervisor: EndpointHost,
        given: Mapping[str, Collection[str]],
        *,
        on_registered: OnRegistered,
        main: Inbox | None = None,
    ) -> None:
        """`given`: the keys that a configuration file sets, per endpoint. `main`: the inbox unless redirected."""
        self._supervisor = supervisor
        self._given = given
        self._on_registered = on_registered
        self.endpoints: Mapping[str, EndpointRuntime] = {}
        """Never changed in place, but replaced: a consumer's thread may be iterating it without the loop's lock."""
        self.groups: dict[str, list[str]] = {}
        """The names of the shards of endpoints that one connection can't carry, see `shards`."""
        self.removed = RemovedEndpoints()
        self._pooled: set[str] = set()
        """Endpoints created by a `Pool`, including stopped pools. A reload must skip them, because no configuration file lists
        them."""
        self.configured: dict[str, str] = {}
        """The fingerprint of the settings of each group, and of each endpoint that is no group, as they were configured. The
        next supervisor gets it, and keeps what `subscribe` added to a group if its configuration is the same."""
        self.main = Inbox() if main is None else main
        self._inboxes: dict[str, Inbox] = {}

    # -- names of endpoints and groups -----------------------------------------------------------------------------------

    def find(self, name: str) -> EndpointRuntime:
        """The endpoint of this name. If it is the name of a group with one shard, that shard. Raises `UsageError` for a group
        with several shards, `UnknownEndpoint`."""
        as_name(name)
        if name not in self.endpoints and len(self.groups.get(name, ())) > 1:
            raise UsageError(f"{name} is spread over {', '.join(self.groups[name])}; name one of them")
        return self.endpoints[name] if name in self.endpoints else self.members(name)[0]

    def members(self, name: str) -> list[EndpointRuntime]:
        """The shards of the group, or the one endpoint, of this name. Raises `UnknownEndpoint`, `WrongType`."""
        as_name(name)
        try:
            return [self.endpoints[member] for member in self.groups.get(name, (name,))]
        except KeyError:
            raise UnknownEndpoint(name, sorted(self.endpoints)) from None

    def all_up(self, name: str) -> list[EndpointRuntime]:
        """As `members`. Raises `NotConnected` if not all shards of a group are up, because nothing may be sent to one shard if
        another refuses it."""
        members = self.members(name)
        down = next((runtime for runtime in members if runtime.state != "up"), None)
        if down is not None and len(members) > 1:
            raise NotConnected(f"{down.name} of {name} is {down.state}: nothing was sent")
        return members

    def first_up(self, name: str) -> EndpointRuntime:
        """The first of the members that is up; if none is, the first member."""
        members = self.members(name)
        return next((runtime for runtime in members if runtime.state == "up"), members[0])

    def all_including_removed(self) -> Iterable[EndpointRuntime]:
        """All endpoints, including those that were removed."""
        return (*self.endpoints.values(), *self.removed)

    def send(self, name: str, payload: bytes, *, binary: bool) -> Future[None]:
        """Send to an endpoint, or to each shard of a group; the future is done when all owners have sent it. Raises as
        `all_up`."""
        return together([runtime.send(payload, binary=binary) for runtime in self.all_up(name)])

    def request(self, pending: Pending, payload: Payload, timeout: float | None) -> None:
        """Send a request by the endpoint that `pending` names; of a group, by the first shard that is up. Raises as `members`,
        and what the endpoint raises."""
        self.first_up(pending.endpoint).request(pending, payload, timeout)

    def status(self, names: Iterable[str] | None = None) -> dict[str, EndpointStatus]:
        """The status of each endpoint by its name; with `names`, of those among them that still exist."""
        chosen = ((name, self.endpoints.get(name)) for name in (list(self.endpoints) if names is None else names))
        return {name: {**found.status(), "group": self._group_of(name)} for name, found in chosen if found is not None}

    def _group_of(self, name: str) -> str | None:
        return next((group for group, shards in self.groups.items() if name in shards), None)

    # -- inboxes ---------------------------------------------------------------------------------------------------------

    def inbox_of(self, name: str) -> Inbox:
        """The inbox of an endpoint; for a shard, the inbox of its group."""
        if not self._inboxes:
            return self.main
        found = self._inboxes.get(name)
        return found if found is not None else self._inboxes.get(name.partition(MARK)[0], self.main)

    def with_inbox(self, inbox: Inbox) -> Iterator[EndpointRuntime]:
        """The endpoints whose items go to this inbox."""
        return (runtime for name, runtime in self.endpoints.items() if self.inbox_of(name) is inbox)

    def redirect(self, names: Sequence[str], inbox: Inbox) -> None:
        """Put the items of these endpoints into `inbox` from now on, and move those that wait."""
        for runtime in [runtime for name in names for runtime in self.members(name)]:
            self.inbox_of(runtime.name).move(runtime.stream.backlog, inbox)
            self._inboxes[runtime.name] = runtime.stream.inbox = inbox
        self._inboxes.update(dict.fromkeys(names, inbox))

    # -- in and out ------------------------------------------------------------------------------------------------------

    def add(self, endpoint: Endpoint, dialects: Dialects) -> None:
        """Add an endpoint, or the shards that it makes. It must be checked, and its dialect among the `dialects`. Raises
        `DuplicateEndpoint`."""
        if endpoint.name in self.groups:
            raise DuplicateEndpoint(endpoint.name)
        whole, dialect = with_dialect(endpoint, self._given, dialects)
        members = parts(endpoint, {}, capacity(dialect))
        self._check_free(member.name for member in members)
        if members != [endpoint]:
            self.groups[endpoint.name] = [member.name for member in members]
        self.configured[endpoint.name] = fingerprint(whole)
        for member in members:
            self._add_part(member, dialects)

    def add_member(self, endpoint: Endpoint, number: int, inbox: Inbox, dialects: Dialects) -> EndpointRuntime:
        """For a pool: add the endpoint NAME#`number`, whose items go to the pool's inbox. It must be checked."""
        name = f"{endpoint.name}{MARK}{number}"
        self._check_free([name])
        return self._add_part(replace(endpoint, name=name), dialects, pool=inbox)

    def register(self, runtime: EndpointRuntime) -> None:
        """Register an endpoint object, which may come from another supervisor."""
        self.endpoints = {**self.endpoints, runtime.name: runtime}
        runtime.stream.inbox = self.inbox_of(runtime.name)  # a removed pool member may come back as an endpoint
        self._on_registered(runtime, waits=self.removed.waits(runtime))

    def _check_free(self, names: Iterable[str]) -> None:
        """Call this before anything is changed for these names. Raises `DuplicateEndpoint`."""
        if taken := next((name for name in names if name in self.endpoints), None):
            raise DuplicateEndpoint(taken)

    def _add_part(self, endpoint: Endpoint, dialects: Dialects, pool: Inbox | None = None) -> EndpointRuntime:
        """Add one endpoint, which must be checked. `pool`: the inbox of the pool, if it is a pool member."""
        if pool is not None:
            self._inboxes[endpoint.name] = pool
            self._pooled.add(endpoint.name)
        elif endpoint.name in self._pooled:  # a removed pool had a member of this name
            self._pooled.discard(endpoint.name)
            del self._inboxes[endpoint.name]
        endpoint, dialect = with_dialect(endpoint, self._given, dialects)
        before = self.removed.take(endpoint.name)
        several = endpoint.replicas > 1
        if before is not None and not before.has_ended and (before.replicas is not None) is several:
            runtime = before  # its owner is still closing; the next owner waits for that
            runtime.replace_settings(endpoint, dialect)
        else:
            of_another = self.removed.take_numbers(endpoint.name)
            numbers = before.stream.numbers if before is not None else of_another
            runtime = EndpointRuntime(self._supervisor, endpoint, dialect, numbers=numbers)
            if (ending := self.removed.ending(endpoint.name, before)) is not None:
                self.removed.await_end(ending, runtime)
        self.register(runtime)
        return runtime

    def successor_of(self, ended: EndpointRuntime) -> EndpointRuntime | None:
        """The endpoint that waited for this end, if it was not removed meanwhile."""
        successor = self.removed.take_successor(ended)
        return successor if successor is not None and self.endpoints.get(successor.name) is successor else None

    def remove(self, name: str) -> list[EndpointRuntime]:
        """Remove a group, or one endpoint. Returns the endpoints that end now. Raises `UnknownEndpoint`."""
        return [self._remove_part(runtime.name) for runtime in self.members(name)]

    def _remove_part(self, name: str) -> EndpointRuntime:
        runtime = self.endpoints[name]
        runtime.stop()
        self.endpoints = {other: endpoint for other, endpoint in self.endpoints.items() if other != name}
        self.removed.add(runtime)
        group = self._group_of(name)
        if group is not None:
            self.groups[group].remove(name)
            if self.groups[group] in ([], [group]):
                del self.groups[group]
        return runtime

    # -- subscriptions ---------------------------------------------------------------------------------------------------

    def subscribe(self, name: str, streams: Sequence[Subscription]) -> None:
        """Subscribe each stream on a shard that has room; a stream that was rejected is requested again on its shard."""
        group = self._group_of(name) or name
        members = self.members(group)
        if dialect := members[0].dialect:
            judged = ((place, wrong_stream(dialect, stream)) for place, stream in enumerate(streams))
            if wrong := [Problem(f"endpoints.{name}.subscribe[{place}]", message) for place, message in judged if message]:
                raise ConfigError(wrong)
        for runtime in members:
            if again := runtime.subscriptions.refused(streams):
                runtime.subscribe(again)
        most = 0 if name in self._pooled else capacity(members[0].dialect)
        have = {key for runtime in members for key in runtime.subscriptions.wanted}
        new = list({key_of(stream): stream for stream in streams if key_of(stream) not in have}.values())
        placed = spread(group, new, {m.name: len(m.subscriptions.wanted) for m in members}, most)
        own = {runtime.name for runtime in members}
        self._check_free(shard for shard in placed if shard not in own)
        for shard, more in placed.items():
            if shard in own:
                self.endpoints[shard].subscribe(more)
            else:
                self.groups.setdefault(group, [members[0].name]).append(shard)
                endpoint, dialect = members[0].endpoint, members[0].dialect
                known = Dialects() if dialect is None else Dialects({endpoint.dialect: dialect})
                self._add_part(replace(endpoint, name=shard, subscribe=tuple(more)), known)

    def unsubscribe(self, name: str, streams: Sequence[Subscription]) -> None:
        """Unsubscribe the streams on whichever shards have them; remove a shard that has no stream any more."""
        members = self.members(self._group_of(name) or name)
        for runtime in members:
            runtime.unsubscribe(streams)
        for runtime in members[1:]:
            if not runtime.subscriptions.wanted:
                self._remove_part(runtime.name)

    def resubscribe(self, name: str, streams: Sequence[Subscription]) -> None:
        """Request the streams again, on whichever shards have them."""
        for runtime in self.members(self._group_of(name) or name):
            runtime.resubscribe(streams)

    def apply(
        self, wanted: Mapping[str, Endpoint], given: Mapping[str, Collection[str]], dialects: Dialects | None = None
    ) -> dict[str, list[str]]:
        """Apply new settings, which must be checked, with the `dialects` that were loaded for them. Returns what `reload`
        returns, for endpoints that may be groups."""
        self._given = given
        dialects = dialects or Dialects()
        running = {name: runtime for name, runtime in self.endpoints.items() if name not in self._pooled}
        groups: dict[str, list[str]] = {}
        shards: dict[str, Endpoint] = {}
        before, self.configured = self.configured, {}
        for name, endpoint in wanted.items():
            has = {
                member: running[member].subscriptions.wanted for member in self.groups.get(name, (name,)) if member in running
            }
            whole, dialect = with_dialect(endpoint, given, dialects)
            same = self.configured[name] = fingerprint(whole)
            if name in self.groups and before.get(name) == same:  # keep what `subscribe` added, as without shards
                endpoint = _with_more(endpoint, has.values())
            members = parts(endpoint, has, capacity(dialect))
            shards.update((member.name, _as_it_is(member, running.get(member.name))) for member in members)
            if members != [endpoint]:
                groups[name] = [member.name for member in members]
        self._check_free(name for name in shards if name not in running)
        add = partial(self._add_part, dialects=dialects)
        changes = reload(running, shards, given, dialects, add=add, remove=self._remove_part)
        self.groups = groups
        # The order of the configuration: the status and `strategy = "rest_for_one"` have it. What was added, or came from
        # another supervisor, stands elsewhere.
        self.endpoints = {name: self.endpoints[name] for name in dict.fromkeys((*shards, *self.endpoints))}
        return changes


def _with_more(endpoint: Endpoint, wanted: Iterable[Mapping[str, Subscription]]) -> Endpoint:
    streams = {key_of(stream): stream for stream in endpoint.subscribe}
    for more in wanted:
        streams.update(more)
    return replace(endpoint, subscribe=tuple(streams.values()))


def _as_it_is(member: Endpoint, running: EndpointRuntime | None) -> Endpoint:
    """A shard that has the same streams in another order is not changed."""
    if running is None or {key_of(stream) for stream in member.subscribe} != set(running.subscriptions.wanted):
        return member
    return replace(member, subscribe=running.endpoint.subscribe)
