"""`Pool`: several owners to one endpoint, for requests and orders. A crash costs only the requests in flight of one owner.

The members are endpoints NAME#1 ... NAME#N of a supervisor, which is the pool's own or one that is passed: each has a process,
a connection, a restart policy and an entry in the status of its own. `pool_members.py` chooses a member for each request. What
is no answer (events, late answers, messages that belong to no request) comes by iterating the pool.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from types import TracebackType
from typing import Literal, Self

from wsadapter.arguments import check_kind
from wsadapter.config import Dialects, checked
from wsadapter.contract.endpoint import Endpoint
from wsadapter.contract.errors import UsageError
from wsadapter.contract.items import Answer, Item
from wsadapter.contract.public import Public
from wsadapter.delivery.stream import Consumption, Stream
from wsadapter.endpoint.request_id import Payload
from wsadapter.loop.asyncio_bridge import AsyncBridge
from wsadapter.pool_health import PoolState
from wsadapter.pool_members import PoolMembers, PoolRequest
from wsadapter.status import PoolStatus
from wsadapter.supervisor import Supervisor


class Pool(Public):
    """Several connections to one endpoint, each in a separate process. Every method may be called from any thread.

    `with Pool(endpoint, 4) as pool: answer = pool.request({...})`, or `async with` and `await pool.aio.request({...})`. It is
    operational if at least `min_up` members are up (by default all of them), down if none is, and degraded in between. It
    accepts requests unless it is down.

    Without a `supervisor` it has one of its own, which is started and stopped with it. To a `supervisor` that is passed,
    `start()` adds the members, and `stop()` removes them. They count there like other endpoints and are in its journal, but
    their items come from the pool's iteration. If no code iterates, the last 10,000 events are kept, and as many messages as
    `buffer` allows."""

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
        """`start_method` is for a supervisor of its own. Raises `UsageError` if `size` or `min_up` is impossible,
        `WrongType`."""
        check_kind("Pool", endpoint, Endpoint)
        check_kind("Pool: size", size, int)
        least = size if min_up is None else min_up
        if size < 1:
            raise UsageError(f"invalid pool: size={size} must be at least 1")
        if not 1 <= least <= size:
            raise UsageError(f"invalid pool: min_up={min_up} must be between 1 and size={size}")
        self.name = endpoint.name
        self.size = size
        self.min_up = least
        self.supervisor = supervisor or Supervisor(start_method=start_method)
        self._owns_supervisor = supervisor is None
        self._endpoint = endpoint
        runtime = self.supervisor.runtime
        self._members = PoolMembers(runtime, self.name, size, least)
        self.aio = AsyncPool(self, self._members)
        """The same for coroutines."""
        self._reactor = runtime.reactor
        inbox, over = self._members.inbox, self._members.is_over
        self._stream = Stream(Consumption(runtime.reactor, inbox, begin=self._begin_if_new, over=over))

    def __repr__(self) -> str:
        return f"<Pool {self.name!r}: {self.state}, {self._members.up} of {self.size} up>"

    # -- life ------------------------------------------------------------------------------------------------------------

    def start(self) -> Self:
        """Start the members; returns at once. Idempotent. Raises `ConfigError`, `DuplicateEndpoint`, `SupervisorStopped`."""
        dialects, endpoint = Dialects(), self._endpoint
        if self._members.phase == "new":
            endpoint = checked(endpoint, dialects)
        if self._owns_supervisor:
            self.supervisor.start()
        self._reactor.call(lambda: self._members.begin(endpoint, dialects))
        return self

    def _begin_if_new(self) -> None:
        if self._members.phase == "new":
            self.start()

    def stop(self, timeout: float | None = None) -> None:
        """Close the members' connections and end their processes. Requests in flight end as `OutcomeUnknown`.

        Idempotent. Raises `TimeoutError` if that takes longer than `timeout` seconds; call it again to continue waiting.
        """
        if self._owns_supervisor:
            self._members.phase = "stopped"
            self.supervisor.stop(timeout)
        elif self.supervisor.state != "stopped":
            self._reactor.call(self._members.leave)
            if not self._reactor.run_until(self._members.have_ended, timeout):
                raise TimeoutError(f"pool {self.name}: owners are still closing; call stop() again to continue waiting")

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

        If the request is provably not on the wire (`NotSent`), the next member gets it, until there is none left or `timeout`
        seconds, for all attempts together, are over. With `idempotent` the next member also gets a request that was lost with
        its member; the request may then reach the peer several times. `OutcomeUnknown` means that at least one member may have
        sent it. Raises `NotSent` at once if no member is up."""
        request = PoolRequest(self._members, payload, timeout, idempotent=idempotent)
        try:  # `begin` is inside, because an interrupt may strike after it has sent the request
            self._reactor.call(request.begin)
            return self._reactor.wait(request)
        finally:
            request.give_up()

    def begin_request(self, payload: Payload, timeout: float | None = None, *, idempotent: bool = False) -> PoolRequest:
        """As `request`, without waiting; the future raises what `request` raises. Its `give_up()` ends the waiting early."""
        request = PoolRequest(self._members, payload, timeout, idempotent=idempotent)
        self._reactor.call(request.begin)
        return request

    # -- state -----------------------------------------------------------------------------------------------------------

    @property
    def state(self) -> PoolState:
        """ "operational", "degraded" or "down"."""
        return self._members.state

    @property
    def members(self) -> tuple[str, ...]:
        """The names of their endpoints."""
        return self._members.names

    def wait_operational(self, timeout: float | None = None) -> None:
        """Wait until it is operational. Raises `TimeoutError` after `timeout` seconds."""
        if not self._reactor.run_until(lambda: self.state == "operational", timeout):
            raise TimeoutError(f"pool {self.name} is {self.state} after {timeout} s: {self._members.up} of {self.size} up")

    def status(self) -> PoolStatus:
        """The state of the pool as plain JSON values; `failures` are those of the last 30 seconds, `rtt` is in seconds."""
        if self.supervisor.state == "stopped":
            return self._members.status()
        return self._reactor.call(self._members.status)

    # -- events ----------------------------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Item]:
        """Events, late answers, and messages that belong to no request. Ends after `stop()`."""
        return iter(self._stream)

    def __aiter__(self) -> AsyncIterator[Item]:
        return self._stream.__aiter__()


class AsyncPool(Public):
    """`Pool.aio`."""

    PUBLIC = frozenset({"request", "wait_operational", "stop"})

    def __init__(self, pool: Pool, members: PoolMembers) -> None:
        self._pool = pool
        self._members = members

    def __repr__(self) -> str:
        return f"<AsyncPool of {self._pool!r}>"

    async def request(
        self,
        payload: Payload,
        timeout: float | None = None,  # noqa: ASYNC109 - of the answer
        *,
        idempotent: bool = False,
    ) -> Answer:
        """As `Pool.request`. If it is cancelled, a request that was not begun is not sent."""
        request = PoolRequest(self._members, payload, timeout, idempotent=idempotent)
        try:
            self._members.runtime.reactor.call(request.begin)
            await self._run_until(request.done)
            return request.result()
        finally:
            request.give_up()

    async def wait_operational(self) -> None:
        """As `Pool.wait_operational`; for a timeout use `asyncio.timeout`."""
        await self._run_until(lambda: self._pool.state == "operational")

    async def stop(self) -> None:
        """As `Pool.stop`."""
        await asyncio.to_thread(self._pool.stop)

    async def _run_until(self, done: Callable[[], bool]) -> None:
        await AsyncBridge.of(self._members.runtime.reactor).run_until(done)
