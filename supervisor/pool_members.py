"""What a `Pool` works with: its members, and the requests on their way through them.

request ──> pool_health.choose ──> a member ──┬── answer, rejection ────────────────────────────> the caller
                     ^                        ├── NotSent: provably not on the wire ──┐
                     └── the next member <────┴── OutcomeUnknown and `idempotent` ────┘ ... otherwise ──> the caller
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Future
from time import monotonic
from typing import Final, Literal

from wsadapter.config import Dialects
from wsadapter.contract.endpoint import Endpoint
from wsadapter.contract.errors import DuplicateEndpoint, NotSent, OutcomeUnknown, RequestRejected, WsAdapterError
from wsadapter.contract.items import Answer, Down, Up
from wsadapter.delivery.inbox import RecentInbox
from wsadapter.endpoint.endpoint import EndpointRuntime
from wsadapter.endpoint.request_id import Payload
from wsadapter.endpoint.requests import Pending
from wsadapter.pool_health import MemberHealth, PoolState, choose, state_of
from wsadapter.runtime import Runtime
from wsadapter.status import PoolMemberStatus, PoolStatus

logger = logging.getLogger("wsadapter.pool")

_MOST_EVENTS: Final = 10_000
"""Events that are kept if nobody iterates the pool."""


class Member:
    """One endpoint of a pool, and its health. All methods under the reactor's lock."""

    def __init__(self, endpoint: EndpointRuntime, changed: Callable[[], None]) -> None:
        """`changed` is called when the endpoint went up or down."""
        self.endpoint = endpoint
        self.health = MemberHealth(endpoint.name)
        self._changed = changed
        endpoint.enter(self)

    def notify(self, event: Up | Down) -> None:
        """For the endpoint, which went up or down."""
        if isinstance(event, Up):
            self.health.up = True
        else:
            self.health.went_down(monotonic())
        self._changed()

    @property
    def connection(self) -> tuple[str, int]:
        """The name and the epoch. With a new owner the member is worth another attempt."""
        return self.endpoint.name, self.endpoint.epoch

    def measure(self) -> None:
        """Before the first answer, use the round trip time that the heartbeat has measured."""
        owner = self.endpoint.link.owner
        if self.health.rtt is None and owner is not None:
            self.health.rtt = owner.epoch.rtt

    def request(self, attempt: Pending, payload: Payload, timeout: float) -> None:
        """Send a request. Raises what `EndpointRuntime.request` raises."""
        self.endpoint.request(attempt, payload, timeout)
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
        """For the status of the pool."""
        self.measure()
        health, endpoint, owner = self.health, self.endpoint, self.endpoint.link.owner
        return {
            "state": endpoint.state,
            "pid": None if owner is None else owner.process.pid,
            "epoch": endpoint.epoch,
            "pending": health.pending,
            "rtt": health.rtt,
            "failures": health.recent_failures(now),
            "requests": health.given,
        }


class PoolMembers:
    """The members of one pool, from the start of the pool to its stop. All methods under the reactor's lock, unless a
    docstring names a thread."""

    def __init__(self, runtime: Runtime, name: str, size: int, min_up: int) -> None:
        self.runtime = runtime
        self.name = name
        self.size = size
        self.min_up = min_up
        self.phase: Literal["new", "running", "stopped"] = "new"
        journaling = runtime.journaling
        self.inbox: RecentInbox = (
            RecentInbox(_MOST_EVENTS) if journaling is None else journaling.thread.recent_inbox(_MOST_EVENTS)
        )
        """For items that are not answers: events, late answers, messages that belong to no request."""
        self._members: list[Member] = []
        self._logged: PoolState = "down"

    @property
    def names(self) -> tuple[str, ...]:
        """The names of their endpoints."""
        return tuple(f"{self.name}#{number}" for number in range(1, self.size + 1))

    def begin(self, endpoint: Endpoint, dialects: Dialects) -> None:
        """Add the members, each with the settings of `endpoint`. Does nothing after the first time.

        Raises `DuplicateEndpoint`, `SupervisorStopped`.
        """
        if self.phase != "new":
            return
        self.runtime.check_running()
        registry = self.runtime.registry
        if taken := [name for name in self.names if name in registry.endpoints]:
            raise DuplicateEndpoint(taken[0])
        self.phase = "running"
        for number in range(1, self.size + 1):
            self._members.append(Member(registry.add_member(endpoint, number, self.inbox, dialects), self._changed))

    def leave(self) -> None:
        """Remove the members from the supervisor."""
        self.phase = "stopped"
        registry = self.runtime.registry
        for endpoint in (member.endpoint for member in self._members):
            if registry.endpoints.get(endpoint.name) is endpoint:  # the user may have removed or replaced the endpoint
                registry.remove(endpoint.name)

    def have_ended(self) -> bool:
        """Whether no member has a process any more, or will get one."""
        return all(member.endpoint.has_ended for member in self._members)

    def is_over(self) -> bool:
        """Whether the pool's iteration has ended. From any thread."""
        over = self.runtime.state == "stopped" or (self.phase == "stopped" and self.have_ended())
        return over and not self.inbox

    @property
    def state(self) -> PoolState:
        """ "operational", "degraded" or "down". From any thread."""
        return state_of([member.health for member in self._members], self.min_up)

    @property
    def up(self) -> int:
        """The number of members that are up. From any thread."""
        return sum(member.health.up for member in self._members)

    def status(self) -> PoolStatus:
        """For `Pool.status`."""
        now = monotonic()
        return {
            "name": self.name,
            "state": self.state,
            "size": self.size,
            "min_up": self.min_up,
            "up": self.up,
            "pending": sum(member.health.pending for member in self._members),
            "members": {member.endpoint.name: member.status(now) for member in self._members},
        }

    def pick(self, tried: set[tuple[str, int]]) -> Member | None:
        """The healthiest member whose connection isn't among `tried`; None: there is none that is up."""
        left = [member for member in self._members if member.connection not in tried]
        for member in left:
            member.measure()
        found = choose([member.health for member in left], monotonic())
        return next((member for member in left if member.health is found), None)

    @property
    def patience(self) -> float:
        """Seconds that an answer may take, unless the request has a timeout."""
        return self._members[0].endpoint.endpoint.request.timeout if self._members else 0.0

    def _changed(self) -> None:
        """A member went up or down."""
        state = self.state
        if state != self._logged and self.phase == "running":
            self._logged = state
            level = logging.INFO if state == "operational" else logging.WARNING
            logger.log(level, "pool %s is %s: %d of %d up", self.name, state, self.up, self.size)


class PoolRequest(Pending):
    """A request on its way through the members. Its result is the `Answer`; it raises what `Pool.request` raises."""

    def __init__(self, members: PoolMembers, payload: Payload, timeout: float | None, *, idempotent: bool) -> None:
        super().__init__(members.runtime.reactor, members.name)
        self._members = members
        self._payload = payload
        self._timeout = timeout
        self._idempotent = idempotent
        self._until = 0.0
        self._tried: set[tuple[str, int]] = set()
        """The connections that it was sent on."""
        self._attempt: Pending | None = None
        self._unknown: OutcomeUnknown | None = None
        """An attempt that may have been sent."""
        self._given_up = False

    def begin(self) -> None:
        """Try the first member. Under the reactor's lock. Raises what that raises, except `NotSent`: then the next is tried."""
        members = self._members
        self._until = monotonic() + (members.patience if self._timeout is None else self._timeout)
        self._go_on(NotSent(f"pool {members.name} is down: none of its {members.size} members is up; nothing was sent"))

    def _go_on(self, error: NotSent | OutcomeUnknown) -> None:
        """Try the next member; if there is none, end with `error`."""
        while (member := self._next()) is not None:
            attempt = Pending(self._reactor, member.endpoint.name)
            try:
                member.request(attempt, self._payload, self._until - monotonic())
            except NotSent as failure:
                error = failure
                continue
            self.id, self._attempt = attempt.id, attempt
            attempt.add_done_callback(self._ended)
            return
        self.set_exception(self._unknown or error)

    def _next(self) -> Member | None:
        if self._given_up or (self._tried and monotonic() >= self._until):
            return None
        member = self._members.pick(self._tried)
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
        except WsAdapterError as failure:  # the user's own request id waits at the next member already
            self.set_exception(self._unknown or failure)

    def _let_go(self) -> None:
        self._given_up = True
        if self._attempt is not None:
            self._attempt.give_up()
