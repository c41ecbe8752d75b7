"""`Pool`: several owners to one endpoint, for requests and orders. A crash costs its own requests in flight, and nothing else.

    request ──> pool_health.choose ──> a member ──┬── answer, rejection ────────────────────────────> the caller
                         ^                        ├── NotSent: provably not on the wire ──┐
                         └── the next member <────┴── OutcomeUnknown and `idempotent` ────┘ ... else ──> the caller

The members are endpoints NAME#1 ... NAME#N of a supervisor, the pool's own or one that is given: each has a process, a
connection, a restart policy and a line in the status of its own. What is no answer (events, late answers, messages nobody asked
for) comes by iterating the pool.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future
from time import monotonic
from types import TracebackType
from typing import Final, Literal, Self

from wsadapter.arguments import check_kind
from wsadapter.config import Dialects, checked
from wsadapter.contract.endpoint import Endpoint
from wsadapter.contract.errors import DuplicateEndpoint, NotSent, OutcomeUnknown, RequestRejected, UsageError, WsAdapterError
from wsadapter.contract.items import Answer, Down, Item, Up
from wsadapter.contract.public import Public
from wsadapter.delivery.inbox import RecentInbox
from wsadapter.delivery.stream import Stream
from wsadapter.endpoint.endpoint import EndpointRuntime
from wsadapter.endpoint.request_id import Payload
from wsadapter.endpoint.requests import Pending
from wsadapter.loop.asyncio_bridge import AsyncBridge
from wsadapter.pool_health import Health, PoolState, choose, state_of
from wsadapter.status import PoolMemberStatus, PoolStatus
from wsadapter.supervisor import Supervisor

logger = logging.getLogger("wsadapter.pool")

_MOST_EVENTS: Final = 10_000
"""Events that are kept for somebody who iterates the pool."""


class Pool(Public):
    """So many connections to one endpoint, each in a process of its own. Every method may be called from any thread.

    `with Pool(endpoint, 4) as pool: answer = pool.request({...})`, or `async with` and `await pool.aio.request({...})`. It is
    operational with at least `min_up` members up (all of them unless said otherwise), down with none, degraded in between; it
    serves requests unless it is down.

    Without a `supervisor` it has one of its own, started and stopped with it. In a given one its members are added by `start()`
    and removed by `stop()`, and count there like other endpoints, but their items come from the pool's iteration. Where nobody
    iterates, the last 10,000 events are kept, and of messages what `buffer` allows.
    """

    PUBLIC = frozenset(
        {
            "aio", "begin_request", "members", "min_up", "name", "request", "size", "start", "state", "status", "stop",
            "supervisor", "wait_operational",
        }
    )  # fmt: skip

    def __init__(
        self,
        endpoint: Endpoint,
        size: int,
        min_up: int | None = None,
        *,
        supervisor: Supervisor | None = None,
        start_method: Literal["forkserver", "spawn"] = "forkserver",
    ) -> None:
        """`start_method` is for a supervisor of its own. Raises `UsageError` where the numbers can't be meant, `WrongType`."""
        check_kind("Pool", endpoint, Endpoint)
        check_kind("Pool: size", size, int)
        least = size if min_up is None else min_up
        if size < 1 or not 1 <= least <= size:
            raise UsageError(f"a pool of {size} members, of which {min_up} must be up, can't be meant: 1 <= min_up <= size")
        self.name = endpoint.name
        self.size = size
        self.min_up = least
        self.aio = AsyncPool(self)
        """The same for coroutines."""
        self._endpoint = endpoint
        self._dialects = Dialects()
        self._owned = supervisor is None
        self.supervisor = supervisor or Supervisor(start_method=start_method)
        self._members: list[_Member] = []
        self._inbox = RecentInbox(_MOST_EVENTS)
        self._stream = Stream(self.supervisor.runtime.reactor, self._inbox, begin=self._begin_if_new, over=self._is_over)
        self._phase: Literal["new", "running", "stopped"] = "new"
        self._told: PoolState = "down"

    def __repr__(self) -> str:
        return f"<Pool {self.name!r}: {self.state}, {self._count_up()} of {self.size} up>"

    # -- life ------------------------------------------------------------------------------------------------------------

    def start(self) -> Self:
        """Start the members; returns at once. Idempotent. Raises `ConfigError`, `DuplicateEndpoint`, `SupervisorStopped`."""
        if self._phase == "new":
            self._endpoint = checked(self._endpoint, self._dialects)
        if self._owned:
            self.supervisor.start()
        self.supervisor.runtime.reactor.call(self._begin)
        return self

    def _begin(self) -> None:
        if self._phase != "new":
            return
        supervisor = self.supervisor
        supervisor.runtime.check_running()
        if taken := [name for name in self.members if name in supervisor.runtime.registry.endpoints]:
            raise DuplicateEndpoint(taken[0])
        self._phase = "running"
        for number in range(1, self.size + 1):
            managed = supervisor.runtime.registry.add_member(self._endpoint, number, self._inbox, self._dialects)
            self._members.append(_Member(managed, self._changed))

    def _begin_if_new(self) -> None:
        if self._phase == "new":
            self.start()

    def stop(self, timeout: float | None = None) -> None:
        """Close the members' connections and end their processes. Requests in flight end as `OutcomeUnknown`.

        Idempotent. Raises `TimeoutError` where `timeout` seconds were not enough; calling it again waits on.
        """
        if self._owned:
            self._phase = "stopped"
            self.supervisor.stop(timeout)
        elif self.supervisor.state != "stopped":
            self.supervisor.runtime.reactor.call(self._leave)
            if not self.supervisor.runtime.reactor.run_until(self._is_settled, timeout):
                raise TimeoutError(f"pool {self.name}: owners are still closing; call stop() again to wait on")

    def _leave(self) -> None:
        self._phase = "stopped"
        for managed in (member.managed for member in self._members):
            if self.supervisor.runtime.registry.endpoints.get(managed.name) is managed:  # nobody else has removed it
                self.supervisor.runtime.registry.remove(managed.name)

    def _is_settled(self) -> bool:
        return all(member.managed.settled for member in self._members)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        return self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aio.stop()

    # -- requests --------------------------------------------------------------------------------------------------------

    def request(self, payload: Payload, timeout: float | None = None, *, idempotent: bool = False) -> Answer:
        """As `Supervisor.request`, by the healthiest member.

        Where it is provably not on the wire (`NotSent`), the next member gets it, until none is left or `timeout` seconds, for
        all of it, are over. With `idempotent` also where it was lost with its member: it may then reach the peer several times.
        `OutcomeUnknown` means that one member at least may have sent it. Raises `NotSent` at once where no member is up.
        """
        errand = Errand(self, payload, timeout, idempotent=idempotent)
        try:
            self.supervisor.runtime.reactor.call(errand.begin)
            return self.supervisor.runtime.reactor.wait(errand)
        finally:
            errand.give_up()

    def begin_request(self, payload: Payload, timeout: float | None = None, *, idempotent: bool = False) -> Errand:
        """As `request`, without waiting; the future raises what `request` would. Its `give_up()` ends the waiting early."""
        errand = Errand(self, payload, timeout, idempotent=idempotent)
        self.supervisor.runtime.reactor.call(errand.begin)
        return errand

    def pick(self, tried: set[tuple[str, int]]) -> _Member | None:
        """For a request, under the reactor's lock: the healthiest member whose connection it has not been with."""
        left = [member for member in self._members if member.connection not in tried]
        for member in left:
            member.look()
        found = choose([member.health for member in left], monotonic())
        return next((member for member in left if member.health is found), None)

    @property
    def patience(self) -> float:
        """Seconds that an answer may take where the request says nothing."""
        return self._members[0].managed.endpoint.request.timeout if self._members else 0.0

    # -- how it is -------------------------------------------------------------------------------------------------------

    @property
    def state(self) -> PoolState:
        """ "operational", "degraded" or "down"."""
        return state_of([member.health for member in self._members], self.min_up)

    @property
    def members(self) -> tuple[str, ...]:
        """The names of their endpoints."""
        return tuple(f"{self.name}#{number}" for number in range(1, self.size + 1))

    def wait_operational(self, timeout: float | None = None) -> None:
        """Until it is operational. Raises `TimeoutError` after `timeout` seconds."""
        if not self.supervisor.runtime.reactor.run_until(lambda: self.state == "operational", timeout):
            raise TimeoutError(f"pool {self.name} is {self.state} after {timeout} s: {self._count_up()} of {self.size} up")

    def status(self) -> PoolStatus:
        """How it is, as plain JSON values; `failures` are those of the last 30 seconds, `rtt` is seconds."""
        if self.supervisor.state == "stopped":
            return self._status()
        return self.supervisor.runtime.reactor.call(self._status)

    def _status(self) -> PoolStatus:
        now = monotonic()
        return {
            "name": self.name,
            "state": self.state,
            "size": self.size,
            "min_up": self.min_up,
            "up": self._count_up(),
            "pending": sum(member.health.pending for member in self._members),
            "members": {member.managed.name: member.status(now) for member in self._members},
        }

    def _count_up(self) -> int:
        return sum(member.health.up for member in self._members)

    def _changed(self) -> None:
        """A member went up or down."""
        state = self.state
        if state != self._told and self._phase == "running":
            self._told = state
            level = logging.INFO if state == "operational" else logging.WARNING
            logger.log(level, "pool %s is %s: %d of %d up", self.name, state, self._count_up(), self.size)

    # -- what is no answer -----------------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Item]:
        """Events, late answers, and messages that are the answer to nothing. Ends after `stop()`."""
        return iter(self._stream)

    def __aiter__(self) -> AsyncIterator[Item]:
        return self._stream.__aiter__()

    def _is_over(self) -> bool:
        over = self.supervisor.state == "stopped" or (self._phase == "stopped" and self._is_settled())
        return over and not self._inbox


class _Member:
    """One endpoint of a pool, and what is known of it."""

    def __init__(self, managed: EndpointRuntime, changed: Callable[[], None]) -> None:
        self.managed = managed
        self.health = Health(managed.name)
        self._changed = changed
        managed.enter(self)

    def notify(self, event: Up | Down) -> None:
        """For the endpoint: it went up or down."""
        if isinstance(event, Up):
            self.health.up = True
        else:
            self.health.went_down(monotonic())
        self._changed()

    @property
    def connection(self) -> tuple[str, int]:
        """Its name and epoch: with a new owner it is worth another try."""
        return self.managed.name, self.managed.epoch

    def look(self) -> None:
        """Before its first answer, its heartbeat may tell how far the peer is."""
        if self.health.rtt is None:
            self.health.rtt = self.managed.link.rtt

    def request(self, attempt: Pending, payload: Payload, timeout: float) -> None:
        """Pass a request on. Raises what `EndpointRuntime.request` does."""
        self.managed.request(attempt, payload, timeout)
        self.health.pending += 1
        self.health.given += 1
        attempt.add_done_callback(self._ended)

    def _ended(self, attempt: Future[Answer]) -> None:
        self.health.pending -= 1
        error = attempt.exception()
        if error is None:
            self.health.answered(attempt.result().rtt)
        elif isinstance(error, OutcomeUnknown):
            self.health.failed(monotonic())

    def status(self, now: float) -> PoolMemberStatus:
        """For the pool's status."""
        self.look()
        health, managed = self.health, self.managed
        return {
            "state": managed.state,
            "pid": managed.link.pid,
            "epoch": managed.epoch,
            "pending": health.pending,
            "rtt": health.rtt,
            "failures": health.recent_failures(now),
            "requests": health.given,
        }


class Errand(Pending):
    """A request on its way through the members. Its result is the `Answer`; it raises what `Pool.request` does."""

    def __init__(self, pool: Pool, payload: Payload, timeout: float | None, *, idempotent: bool) -> None:
        super().__init__(pool.supervisor.runtime.reactor, pool.name)
        self._pool = pool
        self._payload = payload
        self._timeout = timeout
        self._idempotent = idempotent
        self._until = 0.0
        self._tried: set[tuple[str, int]] = set()
        """Connections."""
        self._attempt: Pending | None = None
        self._unknown: OutcomeUnknown | None = None
        """An attempt may have been sent."""
        self._given_up = False

    def begin(self) -> None:
        """Under the reactor's lock: try the first member. Raises what that raises, but `NotSent`, which goes on."""
        timeout = self._pool.patience if self._timeout is None else self._timeout
        self._until = monotonic() + timeout
        self._go_on(NotSent(f"pool {self.endpoint} is down: none of its {self._pool.size} members is up; nothing was sent"))

    def _go_on(self, error: NotSent | OutcomeUnknown) -> None:
        """With the next member, or to the end with `error`."""
        while (member := self._next()) is not None:
            attempt = Pending(self._reactor, member.managed.name)
            try:
                member.request(attempt, self._payload, self._until - monotonic())
            except NotSent as failure:
                error = failure
                continue
            self.id, self._attempt = attempt.id, attempt
            attempt.add_done_callback(self._ended)
            return
        self.set_exception(self._unknown or error)

    def _next(self) -> _Member | None:
        if self._given_up or (self._tried and monotonic() >= self._until):
            return None
        member = self._pool.pick(self._tried)
        if member is not None:
            self._tried.add(member.connection)
        return member

    def _ended(self, attempt: Future[Answer]) -> None:
        error = attempt.exception()
        match error:
            case None:
                self.set_result(attempt.result())
            case RequestRejected():
                self.set_exception(error)
            case OutcomeUnknown() if self._idempotent and not error.timed_out:
                self._unknown = error
                self._retry(error)
            case NotSent():
                self._retry(error)
            case _:
                self.set_exception(error)

    def _retry(self, error: NotSent | OutcomeUnknown) -> None:
        try:
            self._go_on(error)
        except WsAdapterError as failure:  # an id of the user's own that waits at the next member already
            self.set_exception(self._unknown or failure)

    def _let_go(self) -> None:
        self._given_up = True
        if self._attempt is not None:
            self._attempt._let_go()


class AsyncPool(Public):
    """`Pool.aio`."""

    PUBLIC = frozenset({"request", "wait_operational", "stop"})

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    def __repr__(self) -> str:
        return f"<AsyncPool of {self._pool!r}>"

    async def request(
        self,
        payload: Payload,
        timeout: float | None = None,  # noqa: ASYNC109 - of the answer
        *,
        idempotent: bool = False,
    ) -> Answer:
        """As `Pool.request`. Where it is cancelled, what was not begun is not sent."""
        errand = Errand(self._pool, payload, timeout, idempotent=idempotent)
        try:
            self._pool.supervisor.runtime.reactor.call(errand.begin)
            await self._run_until(errand.done)
            return errand.result()
        finally:
            errand.give_up()

    async def wait_operational(self) -> None:
        """As `Pool.wait_operational`; the timeout is asyncio's own."""
        await self._run_until(lambda: self._pool.state == "operational")

    async def stop(self) -> None:
        """As `Pool.stop`."""
        await asyncio.to_thread(self._pool.stop)

    async def _run_until(self, done: Callable[[], bool]) -> None:
        await AsyncBridge.of(self._pool.supervisor.runtime.reactor).run_until(done)
