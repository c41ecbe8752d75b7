"""Replicas: several live links of one endpoint, whose connections become one numbered stream.

    link 1 ──records──┐
    link 2 ──records──┼──> FirstArrival ──> one numbering, one backlog, one stream
    link 3 ──records──┘

If a link dies, nothing is missing, because the others receive everything; if the link returns, nothing is doubled. There is a
`Gap` only if no link was left, or no link that was known to have everything. Planned changes are made one link at a time: the
next when the one before is up and has caught up. A link that receives nothing of a stream of which other links receive messages
is replaced: this distinguishes a quiet feed from a stalled one.
"""

from __future__ import annotations

from collections.abc import Iterable
from time import monotonic, time_ns
from typing import TYPE_CHECKING, Any, Final, Protocol

from wsadapter.contract import items
from wsadapter.contract.endpoint import Endpoint
from wsadapter.contract.ipc.record import NO_IDENTITY, Record
from wsadapter.contract.reasons import Reason
from wsadapter.endpoint.announced import Announced
from wsadapter.endpoint.backpressure import Backpressure, Waiting
from wsadapter.endpoint.dedup import Batch, FirstArrival, Part, selected
from wsadapter.endpoint.identities import may_repeat, span_for
from wsadapter.endpoint.link_output import LinkOutput
from wsadapter.endpoint.numbered_stream import NumberedStream
from wsadapter.endpoint.rolling_change import RollingChange
from wsadapter.loop.reactor import Reactor, Timer
from wsadapter.status import EndpointState, EndpointStatus, MemberStatus

if TYPE_CHECKING:
    from wsadapter.endpoint.link import Link

_TURN: Final = 0.5
"""Seconds between two checks of the timers."""
_BEHIND: Final = 5.0
"""Seconds that one connection may be behind another. Messages that wait longer for a link are delivered without it."""
_MOST_HELD: Final = 50_000
"""Messages of one link that may wait to be aligned."""
_NEAREST: Final[tuple[EndpointState, ...]] = (
    "up", "connecting", "starting", "backoff", "cooling_down", "stopping", "fatal", "stopped",
)  # fmt: skip
"""The states, the best first."""


class ReplicaHost(Protocol):
    """What the replicas need of their endpoint."""

    endpoint: Endpoint
    dialect: dict[str, Any] | None
    links: list[Link]
    """In the order of their numbers, from 1."""
    stream: NumberedStream

    @property
    def has_ended(self) -> bool: ...


class ReplicaSet:
    """The links of one endpoint with replicas. All methods under the reactor's lock."""

    is_replicated = True

    def __init__(self, host: ReplicaHost, reactor: Reactor) -> None:
        self.last_exit: Reason | None = None
        """Why the last connection ended."""
        self.announced = Announced()
        """Which events about its streams were put into the stream."""
        self.rolling = RollingChange(self, host.links)
        self._host = host
        self._reactor = reactor
        self._backpressure = Backpressure(host.stream, reactor, lambda: host.links, lambda: self.merge.lags.clear())
        self._turn: Timer | None = None
        self.begin_anew()

    def begin_anew(self) -> None:
        """Begin a new stream: connections by the new settings have nothing in common with those before."""
        settings = self._host.endpoint, self._host.dialect
        self.merge: FirstArrival[Batch] = FirstArrival(span=span_for(*settings), repeats=may_repeat(*settings))

    # -- the links -------------------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        return self._host.endpoint.name

    @property
    def live(self) -> int:
        """How many links have a connection."""
        return len(self.merge.members)

    @property
    def lead(self) -> Link | None:
        """The link whose snapshots and unidentified messages are delivered; None: no link has a connection."""
        return None if self.merge.lead is None else self._host.links[self.merge.lead - 1]

    @property
    def primary(self) -> Link:
        """The link that sends messages and requests: the lead if it is up, otherwise the link that is nearest to being up."""
        lead = self.lead
        if lead is not None and lead.state == "up":
            return lead
        return min(self._host.links, key=lambda link: _NEAREST.index(link.state))

    @property
    def is_at_rest(self) -> bool:
        """Whether nothing waits to be aligned, and no planned change is under way."""
        return not (self.merge.holding or self.rolling.is_under_way)

    def is_aligned(self, link: Link) -> bool:
        """Whether the link is known to be at the same place of the stream as the others."""
        return self.merge.is_aligned(link.output.number)

    def status_of(self, link: Link, status: EndpointStatus) -> MemberStatus:
        """The status of a link as a member. `status`: as of an endpoint."""
        number = link.output.number
        return {
            "member": number,
            "lead": number == self.merge.lead,
            "aligned": self.merge.is_aligned(number),
            "held": self.merge.holds(number),
            "missed": self.merge.lags.missed[number],
            "state": status["state"],
            "pid": status["pid"],
            "epoch": status["epoch"],
            "uptime": status["uptime"],
            "messages": status["messages"],
            "restarts": status["restarts"],
            "silence": status["silence"],
            "rtt": status["rtt"],
            "memory": None,
            "last_exit": status["last_exit"],
            "subscriptions": status["subscriptions"],
        }

    # -- what its links need (link.LinkGroup) ----------------------------------------------------------------------------

    def deliver(self, output: LinkOutput, received: Record, streams: list[str | None] | None) -> None:
        """A link received these messages: deliver those that no other link has delivered."""
        number = output.number
        if number not in self.merge.members or _is_dismissed(output, self._host.links):
            return
        identities = received.identities or [NO_IDENTITY] * received.count
        now = monotonic()
        self._accept(self.merge.take(number, (received, streams), identities, streams, now))
        if self.merge.holds(number) > _MOST_HELD:
            self._accept(self.merge.mark_aligned(number, now))

    def _accept(self, parts: Iterable[Part[Batch]]) -> None:
        for part in parts:
            self._host.links[part.member - 1].output.accept(*selected(part))

    def link_up(self, output: LinkOutput) -> bool:
        """The connection of a link is open. Returns whether the link continues the stream without a loss."""
        if _is_dismissed(output, self._host.links):
            return False
        output.counters.last_lost_at = self._host.stream.numbers.last_received_at  # others delivered meanwhile
        takes_up = self.merge.join(output.number, monotonic())
        self.begin_turns()
        return takes_up

    def link_down(self, link: Link, reason: Reason, *, goes_on: bool) -> None:
        """Its owner is dead."""
        if goes_on:
            self.merge.let_go(link.output.number)  # another link delivers the messages that waited
        else:
            self._leave(link, reason)

    def connection_lost(self, link: Link) -> None:
        """Its connection, which had no owner, is given up."""
        if link.last_exit is not None:
            self._leave(link, link.last_exit)

    def dismiss(self, link: Link) -> None:
        """Fewer links are wanted: ignore what this one receives from now on. Call this while it is among the links."""
        if link.output.number in self.merge.members:
            self._leave(link, Reason(kind="stopped"))

    def _leave(self, link: Link, reason: Reason) -> None:
        if link not in self._host.links:  # it was dismissed, and its number may be another link's now
            return
        self.last_exit = reason
        led = self.merge.lead == link.output.number
        unsure = self.merge.leave(link.output.number)
        lead = self.lead
        if lead is None:
            self.announced.begin()
            return
        # A stream that only the lost link had is rejected now, if all links that stay were refused it.
        for stream, error in lead.connection.subscriptions.connection.rejected.items():
            lead.output.put(items.Rejected(self.name, lead.epoch, time_ns(), stream, error))
        if led:
            lead.connection.sender.resubscribe(link.connection.subscriptions.still_asked(monotonic()))
        if not unsure or lead.state in ("stopping", "stopped"):
            return  # if all are stopping, the stream ends with the messages whose order is known
        lead.output.gap("lead_changed", self._host.stream.numbers.last_received_at, time_ns())
        lead.connection.sender.resubscribe(filter(None, self.merge.begun_by_snapshot))  # its own were left out
        self._accept(self.merge.mark_aligned(lead.output.number, monotonic()))

    def is_news(self, output: LinkOutput, event: items.Event) -> bool:
        """Whether an event of a link is to be put into the stream, because no other link has reported the same."""
        by_all = isinstance(event, items.Rejected) and all(
            event.stream in other.connection.subscriptions.connection.rejected
            for other in self._host.links
            if other.output.number in self.merge.members
        )
        return self.announced.is_news(event, output.number, by_all=by_all)

    def standing(self, output: LinkOutput, *, closing: bool = False) -> tuple[int | None, int | None]:
        """The number of the link, and the number of live links."""
        return output.number, self.live - (closing and output.number in self.merge.members)

    def may_hand_off(self, link: Link) -> bool:
        """Whether its connection may go to its next owner. A link that is not aligned begins again with a new connection."""
        return self.is_aligned(link)

    def is_redundant(self, link: Link) -> bool:
        """Whether the other links deliver everything without it."""
        return any(other.stays and self.is_aligned(other) for other in self._host.links if other is not link)

    def overflowed(self, queue: Waiting | None = None) -> None:
        """More waits for the consumer than may."""
        self._backpressure.overflowed(queue)

    # -- timers ----------------------------------------------------------------------------------------------------------

    def begin_turns(self) -> None:
        """Check the timers at intervals."""
        if self._turn is None:
            self._turn = self._reactor.call_later(_TURN, self._look)

    def end_turns(self) -> None:
        """Check nothing until `begin_turns`."""
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None

    def _look(self) -> None:
        self._turn = None
        now = monotonic()
        self._accept(self.merge.overdue(now - _BEHIND, now))
        for link in self._host.links:
            if link.output.restored_at is not None and link.state == "up":
                self.merge.align_by_time(link.output.number, now - link.output.restored_at, now)
        for number, (stream, silence) in self.merge.lags.lagging(now, _BEHIND).items():
            self._replace_stalled(self._host.links[number - 1], stream, silence)
        self.rolling.go_on()
        if not self._host.has_ended:
            self.begin_turns()

    def _replace_stalled(self, link: Link, stream: str | None, silence: float) -> None:
        """Replace a link that receives nothing of a stream of which others receive messages."""
        if link.stays:
            where = "" if stream is None else f" of {stream}"
            text = f"nothing{where} for {silence:.0f} s, while another replica gets messages"
            link.kill(Reason(kind="silence", text=text), with_connection=True)


def _is_dismissed(output: LinkOutput, links: list[Link]) -> bool:
    """Whether new settings left this link out; its number may be another link's by now."""
    return output.number > len(links) or links[output.number - 1].output is not output
