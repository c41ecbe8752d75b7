"""Messages that an owner sends for users, and their outcomes: plain sends, and requests that wait for an answer.

    QUEUED ──its first byte is about to leave──> BEGUN ──the kernel has all of it──> TAKEN ──> answer, rejection
       │                                           │                                   │
       └── provably not on the wire: NotSent       └──── connection lost, timed out ───┴──> OutcomeUnknown

Each send and each request ends exactly once, whatever happens to its owner. An owner replies BEGUN before it sends the first
byte. So if an owner dies and its replies were read, what it had not begun was never on the wire. If the connection outlives the
owner (handoff/held_connection.py), requests on the wire wait on, and the next owner gets the ids of the answers to look for.
Nothing is ever sent again.

When a caller times out, its request id stays reserved on this connection, and a late answer is delivered as a `LateAnswer`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass, field
from enum import IntEnum
from functools import partial
from itertools import islice
from time import monotonic, time_ns
from typing import Any, Final, Protocol

from wsadapter.contract import items
from wsadapter.contract.endpoint import Request as Rules
from wsadapter.contract.errors import (
    DuplicateRequest,
    NotConnected,
    NotSent,
    OutcomeUnknown,
    RequestRejected,
    SendFailed,
    UsageError,
)
from wsadapter.contract.ipc import commands
from wsadapter.contract.ipc.commands import RequestCommand
from wsadapter.contract.ipc.record import ANSWER, Record
from wsadapter.endpoint.futures import uncancellable_future
from wsadapter.endpoint.owner_commands import OwnerCommands, Reply
from wsadapter.endpoint.request_id import Payload, with_id
from wsadapter.handoff.held_connection import Resumption
from wsadapter.loop.reactor import Reactor, Timer
from wsadapter.status import EndpointState

_FIRST_ID: Final = 1_000_000_000
"""Of our own ids, above those that subscriptions use on the same connection; a 32-bit integer holds a billion of them."""
_LEAP: Final = 1 << 20
"""More ids than a supervisor has used since its last snapshot when it died; those that were answered are not known."""
_TO_WITHDRAW: Final = 0.5
"""Seconds that an owner has to reply whether it could withdraw a request that is not known to be begun."""
_MOST_WAITING: Final = 100_000
"""Requests of one endpoint that may wait at the same time."""
_MOST_LATE: Final = 10_000
"""Ids of requests whose callers timed out that stay reserved."""


class Pending(Future[items.Answer]):
    """The answer to come. Its result is the `Answer`; it raises `RequestRejected`, `NotSent` or `OutcomeUnknown`."""

    def __init__(self, reactor: Reactor, endpoint: str) -> None:
        """`Requests.request` makes it one that ends."""
        super().__init__()
        self.endpoint = endpoint
        self.id = ""
        """Of the request, as text."""
        self._reactor = reactor
        self._stop_waiting: Callable[[], None] | None = None
        self.set_running_or_notify_cancel()  # a caller can't cancel it, because an answer to a cancelled future would raise

    def was_sent(self, id: str, stop_waiting: Callable[[], None]) -> None:  # noqa: A002 - the name of the attribute
        """An owner has the request. `stop_waiting` is called if nobody waits for the answer any more."""
        self.id, self._stop_waiting = id, stop_waiting

    def give_up(self) -> None:
        """Wait no more. If the request was not begun, it is not sent; an answer that comes nevertheless is a `LateAnswer`. The
        future ends soon, as `NotSent` or `OutcomeUnknown`. May be called from any thread, and at any time."""
        if not self.done():
            self._reactor.post(self._let_go)

    def __repr__(self) -> str:
        return f"<Pending request {self.id!r} to {self.endpoint!r}: {'done' if self.done() else 'no answer yet'}>"

    def _let_go(self) -> None:
        if self._stop_waiting is not None and not self.done():
            self._stop_waiting()


class Stage(IntEnum):
    """How far a send or a request has come."""

    QUEUED = 0
    """The owner has it, or is about to get it."""
    BEGUN = 1
    """Some of its bytes may be on the wire."""
    TAKEN = 2
    """The kernel has all its bytes."""


@dataclass(slots=True, eq=False)
class _Entry:
    """One send or request that has not ended."""

    future: Future[Any]
    id: str = ""
    """The deadline of a request; a send has none."""
    ref: int = 0
    """Of the command to the owner."""
    stage: Stage = Stage.QUEUED
    timer: Timer | None = None
    given_up: str = ""
    """Why nobody waits any more, while the owner may still withdraw it."""
    since: float = field(default_factory=monotonic)


@dataclass(frozen=True, slots=True)
class RequestsSnapshot:
    """Of a connection on which no request waits for its answer, for another supervisor."""

    next_id: int
    late: list[str]
    """The ids of the requests whose answers may still come although nobody waits for them, oldest first."""
    announced: tuple[str, bool] | None
    """See `Requests`."""


class RequestHost(Protocol):
    """What requests need of their link."""

    @property
    def name(self) -> str: ...
    @property
    def epoch(self) -> int: ...
    @property
    def state(self) -> EndpointState: ...


class Requests:
    """The sends and requests of one endpoint. All methods under the reactor's lock."""

    def __init__(
        self, host: RequestHost, commands: OwnerCommands, reactor: Reactor, put: Callable[[items.Event], None]
    ) -> None:
        """`put` puts an event into the endpoint's stream."""
        self._host = host
        self._commands = commands
        self._reactor = reactor
        self._put = put
        self._entries: dict[int, _Entry] = {}
        self._waiting: dict[str, _Entry] = {}
        self._late: dict[str, None] = {}
        """Oldest first."""
        self._announced: tuple[str, bool] | None = None
        """The answer that is the next message of the stream `record.ANSWER`: its id, and whether it is a rejection."""
        self._next_id = _FIRST_ID
        """The next id of our own."""
        self._on_idle: Callable[[], None] | None = None
        """Waits for the last answer."""

    # -- what the user wants ---------------------------------------------------------------------------------------------

    @property
    def waiting(self) -> int:
        """How many requests wait for their answers."""
        return len(self._waiting)

    @property
    def awaits_announced(self) -> bool:
        """Whether an answer was announced whose bytes have not come."""
        return self._announced is not None

    def when_idle(self, patience: float, call: Callable[[], None]) -> None:
        """Call `call` when no request waits for its answer, at the latest in `patience` seconds."""
        if not self._waiting:
            call()
            return
        self._on_idle = call
        self._reactor.call_later(patience, self._be_idle)

    def _be_idle(self) -> None:
        call, self._on_idle = self._on_idle, None
        if call is not None:
            call()

    def send(self, data: bytes, *, binary: bool) -> Future[None]:
        """Send a message. The future is done when the kernel has all bytes of it. Raises `NotConnected`."""
        entry = _Entry(uncancellable_future())
        self._post(entry, commands.SEND_BINARY if binary else commands.SEND_TEXT, data)
        return entry.future

    def request(self, pending: Pending, payload: Payload, rules: Rules, timeout: float | None) -> None:
        """Send a request; `pending` ends with its answer. Raises `NotSent`, `DuplicateRequest`, `UsageError`."""
        name, timeout = self._host.name, rules.timeout if timeout is None else timeout
        if not timeout > 0:
            raise UsageError(f"{name}: a request's timeout is more than 0 seconds, not {timeout!r}")
        known, text = with_id(payload, rules.id, lambda: self._make_id(rules))
        if known in self._waiting or known in self._late:
            raise DuplicateRequest(name, known)
        if len(self._waiting) >= _MOST_WAITING:
            raise NotSent(f"{name}: {len(self._waiting)} requests wait for their answers already; nothing was sent")
        entry = _Entry(pending, known)
        try:
            self._post(entry, commands.REQUEST, RequestCommand(monotonic() + timeout, known, text).encode())
        except NotConnected as error:
            raise NotSent(str(error)) from None
        pending.was_sent(known, lambda: self.time_out(entry, "nobody waits for its answer any more"))
        self._waiting[known] = entry
        why = f"no answer within {round(timeout, 2):g} s"
        entry.timer = self._reactor.call_later(timeout, lambda: self.time_out(entry, why))

    def _post(self, entry: _Entry, kind: int, body: bytes) -> None:
        """Send it to the owner. Raises `NotConnected` if the connection is not up."""
        name, state = self._host.name, self._host.state
        if state != "up":
            remedy = f"wait for its Up (feed.monitor({name!r}).wait_up())"
            raise NotConnected(f"{name} is {state}: nothing was sent; {remedy}")
        try:
            entry.ref = self._commands.send(kind, body, partial(self._on_reply, entry))
        except NotConnected as error:
            raise NotConnected(f"{name}: {error}; nothing was sent") from None
        self._entries[entry.ref] = entry

    def _make_id(self, rules: Rules) -> int | str:
        number = self._next_id
        while str(number) in self._waiting or str(number) in self._late:  # the user chose this id
            number += 1
        self._next_id = number + 1
        return number if rules.id_type == "int" else str(number)

    def time_out(self, entry: _Entry, why: str) -> None:
        """Nobody waits for the answer any more. If the request may not be begun yet, ask the owner to withdraw it first."""
        if entry.ref not in self._entries or entry.given_up:
            return
        if entry.stage is not Stage.QUEUED:
            self._give_up(entry, why)
            return
        entry.given_up = why
        self._commands.notify(commands.WITHDRAW, entry.ref, {})
        if entry.timer is not None:
            entry.timer.cancel()
        entry.timer = self._reactor.call_later(_TO_WITHDRAW, lambda: self._give_up(entry, why))

    def _give_up(self, entry: _Entry, why: str) -> None:
        self._end(entry, OutcomeUnknown(self._host.name, entry.id, why, timed_out=True))
        self._reserve([entry.id])

    def _reserve(self, ids: Iterable[str]) -> None:
        """Nobody waits for the answers to these requests any more."""
        self._late.update(dict.fromkeys(ids))
        if (surplus := len(self._late) - _MOST_LATE) > 0:
            oldest = list(islice(self._late, surplus))
            for known in oldest:
                del self._late[known]
            self._commands.notify(commands.FORGET, 0, {"ids": oldest})

    def rejoined(self, ids: Iterable[str]) -> None:
        """The owner awaits the answers to these requests of another supervisor, which died, and with it their callers."""
        self._reserve(known for known in ids if known not in self._waiting)
        self._next_id += _LEAP

    def snapshot(self) -> RequestsSnapshot:
        """For another supervisor. No request may wait for its answer."""
        return RequestsSnapshot(self._next_id, list(self._late), self._announced)

    def restore(self, snapshot: RequestsSnapshot) -> None:
        """Go on where another supervisor was. An id is not used again on a connection, because an answer to a request of the
        other supervisor may still come."""
        self._next_id, self._late = snapshot.next_id, dict.fromkeys(snapshot.late)
        self._announced = snapshot.announced

    # -- what the owner replies ------------------------------------------------------------------------------------------

    def _on_reply(self, entry: _Entry, reply: Reply, text: str = "") -> None:
        match reply:
            case Reply.BEGUN if entry.stage is Stage.QUEUED:
                entry.stage = Stage.BEGUN
                if entry.given_up:
                    self._give_up(entry, entry.given_up)
            case Reply.TAKEN:
                entry.stage = Stage.TAKEN
                if not entry.id:
                    self._end(entry, None)
                elif entry.given_up:
                    self._give_up(entry, entry.given_up)
            case Reply.NOT_SENT:
                if entry.id:  # the owner must forget the id before a caller can use it again
                    self._commands.notify(commands.FORGET, 0, {"ids": [entry.id]})
                self._not_sent(entry, entry.given_up or text)
            case Reply.UNKNOWN:
                self._unknown(entry, text)

    def announce(self, id: str, *, rejected: bool) -> None:  # noqa: A002 - the usual name
        """The next message of the stream `record.ANSWER` is the answer to this request. Raises `ValueError` if the answer that
        was announced before has not come."""
        if self._announced is not None:
            raise ValueError("an answer that was announced did not come")
        self._announced = (id, rejected)

    def take_answers(self, received: Record) -> Record | None:
        """End the requests whose answers are in a record. Returns the other messages of the record; None: it has no others.

        Raises `ValueError` if an answer was not announced.
        """
        assert received.streams is not None
        rest: list[int] = []
        for place, stream in enumerate(received.streams):
            if stream != ANSWER:
                rest.append(place)
            elif self._announced is not None:
                announced, self._announced = self._announced, None
                self._answered(*announced, received.payloads[place], received.received_at)
            else:
                raise ValueError("an answer that was not announced")
        return received.only(rest) if rest else None

    def _answered(self, known: str, rejected: bool, data: bytes, received_at: int) -> None:
        name, epoch = self._host.name, self._host.epoch
        entry = self._waiting.get(known)
        if entry is None:
            self._late.pop(known, None)
            self._put(items.LateAnswer(name, epoch, time_ns(), known, data))
        elif rejected:
            self._end(entry, RequestRejected(name, known, data))
        else:
            self._end(entry, None, items.Answer(name, known, data, epoch, received_at, monotonic() - entry.since))

    # -- the end of an owner, and of a connection ------------------------------------------------------------------------

    @property
    def ids(self) -> tuple[str, ...]:
        """Of the requests whose answers may still come on this connection."""
        return (*self._waiting, *self._late)

    def owner_gone(self, resumption: Resumption | None, *, replies_read: bool) -> None:
        """The owner is dead. If the connection goes on, so do the requests on the wire, and the frame that the next owner
        completes. `replies_read`: all replies of the owner were read."""
        self._announced = None  # if the bytes of the answer did not follow, the next owner announces it again
        if resumption is None:
            self.connection_lost(replies_read=replies_read)
            return
        for entry in list(self._entries.values()):
            if entry.ref == resumption.sent:
                self._on_reply(entry, Reply.TAKEN)
            elif entry.ref == resumption.resume.ref:
                self._on_reply(entry, Reply.BEGUN)
                if entry.ref in self._entries:  # the next owner sends the rest, and replies TAKEN
                    self._commands.expect(entry.ref, partial(self._on_reply, entry))
            elif entry.stage is not Stage.TAKEN:
                self._not_sent(entry, "its owner died before it was sent")

    def connection_lost(self, *, replies_read: bool) -> None:
        """No answer comes any more. `replies_read`: all replies of the owner were read, so it is known what it had begun."""
        for entry in list(self._entries.values()):
            if replies_read and entry.stage is Stage.QUEUED:
                self._not_sent(entry, "the connection went before it was sent")
            else:
                self._unknown(entry, "the connection went")
        self._late.clear()

    # -- ends ------------------------------------------------------------------------------------------------------------

    def _not_sent(self, entry: _Entry, why: str) -> None:
        kind = NotSent if entry.id else NotConnected
        self._end(entry, kind(f"{self._host.name}: {why}; nothing was sent, and it may be sent again"))

    def _unknown(self, entry: _Entry, why: str) -> None:
        name = self._host.name
        if entry.id:
            self._end(entry, OutcomeUnknown(name, entry.id, why))
        else:
            self._end(entry, SendFailed(f"{name}: {why} before the send was confirmed; its fate is unknown"))

    def _end(self, entry: _Entry, error: Exception | None, result: object = None) -> None:
        del self._entries[entry.ref]
        self._commands.forget(entry.ref)
        if entry.id:
            del self._waiting[entry.id]
            if not self._waiting and self._on_idle is not None:
                self._reactor.call_later(0.0, self._be_idle)  # later, because the caller is in the middle of a step
        if entry.timer is not None:
            entry.timer.cancel()
        if error is not None:
            entry.future.set_exception(error)
        else:
            entry.future.set_result(result)
