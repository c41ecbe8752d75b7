"""The subscriptions of one link: what is wanted, what its owner was sent, and what is to be sent when there is an owner again.

No change gets lost with an owner. What an owner had not confirmed to have sent when it died, and what was changed while nobody
owned the connection, is sent by the next owner of the same connection. Of new subscriptions the next owner is sent only those
that the peer had refused before: it asks by itself for what is wanted and was not asked for on its connection. A new connection
asks for all that is wanted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from time import monotonic
from typing import Any, Protocol

from wsadapter.contract.endpoint import Subscription
from wsadapter.contract.ipc import commands
from wsadapter.endpoint.owner_commands import OwnerCommands, Reply
from wsadapter.endpoint.subscriptions import ConnectionLedger, Lasting, Ledger, key_of
from wsadapter.handoff.custody import Custody
from wsadapter.status import EndpointState

TellSuccessor = Callable[[int, list[Subscription]], None]
"""Sends SUBSCRIBE or UNSUBSCRIBE with these streams to the successor of a rollover, if there is one."""


class SubscribingLink(Protocol):
    """What the subscriptions need of their link."""

    @property
    def is_handed_on(self) -> bool:
        """Whether its connection is on its way from a dead owner to the next one."""
        ...

    @property
    def state(self) -> EndpointState:
        """For users. If the state is "connecting" or "up", the owner has its assignment, and acts on changes."""
        ...


Change = tuple[int, list[Subscription]]
"""SUBSCRIBE, UNSUBSCRIBE or RESUBSCRIBE, and the streams."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriptionsSnapshot:
    """The subscriptions of a link that has an owner, besides what is wanted."""

    connection: ConnectionLedger
    lasting: Lasting
    sent: dict[int, Change]
    """Changes that the owner has not confirmed to have sent, by their refs."""
    deferred: list[Change]
    was_confirmed: list[Subscription]
    """What the connection before had confirmed."""


class LinkSubscriptions:
    """Those of one link. All methods under the reactor's lock."""

    def __init__(self, link: SubscribingLink, custody: Custody, commands: OwnerCommands, tell_successor: TellSuccessor) -> None:
        self.ledger = Ledger()
        self._link = link
        self._custody = custody
        self._commands = commands
        self._tell_successor = tell_successor
        self._was_confirmed: list[Subscription] = []
        """What the connection before had confirmed."""
        self._sent: dict[int, Change] = {}
        """Changes that the owner has not confirmed to have sent, by their refs."""
        self._deferred: list[Change] = []
        """Changes that are to be sent to the next owner of the connection."""

    # -- what is wanted --------------------------------------------------------------------------------------------------

    def replace(self, streams: Iterable[Subscription], *, alike: bool) -> None:
        """Want these and no others, from the next owner on. `alike`: the peer is the same, so what is known of it holds."""
        ledger = self.ledger
        paces = dict(ledger.paces) if alike else {}
        ledger.unwant(list(ledger.wanted.values()))
        ledger.want(streams)
        ledger.paces.update((name, longest) for name, longest in paces.items() if name in ledger.wanted)

    def subscribe(self, streams: Iterable[Subscription]) -> list[Subscription]:
        """Want these too; they are requested at once if there is an owner that can, else at the next `Up`. What was rejected is
        requested again. Returns those that are new or requested again."""
        streams = list(streams)
        again = self.ledger.refused(streams)
        self.ledger.forgive(again)
        new = self.ledger.want(streams) + again
        self._change(commands.SUBSCRIBE, new, deferred=self._custody.resumption is not None)
        self._tell_successor(commands.SUBSCRIBE, new)
        return new

    def unsubscribe(self, streams: Iterable[Subscription]) -> list[Subscription]:
        """Want these no more; returns those that were wanted."""
        gone = self.ledger.unwant(streams)
        # An owner that goes on with a connection and is not up would only forget what it was to ask for.
        self._change(commands.UNSUBSCRIBE, gone, deferred=self._link.is_handed_on)
        self._tell_successor(commands.UNSUBSCRIBE, gone)
        return gone

    def resubscribe(self, streams: Iterable[Subscription]) -> None:
        """Ask anew for those of them that are wanted; a new connection does so by itself."""
        anew = self.ledger.ask_anew(streams, monotonic())
        self._change(commands.RESUBSCRIBE, anew, deferred=self._link.is_handed_on)

    def _change(self, kind: int, streams: list[Subscription], *, deferred: bool) -> None:
        if streams and deferred:
            self._deferred.append((kind, streams))
        elif streams and self._link.state in ("connecting", "up"):
            self._send(kind, streams)

    # -- owners and connections ------------------------------------------------------------------------------------------

    def _send(self, kind: int, streams: list[Subscription]) -> None:
        ref = self._commands.try_send(kind, {"streams": streams}, lambda reply, text: self._on_reply(ref, reply, text))
        self._sent[ref] = (kind, streams)

    def _on_reply(self, ref: int, reply: Reply, _text: str) -> None:
        if reply is Reply.TAKEN:
            del self._sent[ref]

    def owner_gone(self, *, goes_on: bool) -> None:
        """`goes_on`: its connection is there, and has not seen what was not confirmed."""
        if goes_on:
            self._deferred += self._sent.values()
        self._sent.clear()

    def connection_gone(self) -> None:
        """Nothing is subscribed any more; the next connection asks for all that is wanted."""
        self._was_confirmed = self.ledger.connection_lost()
        self._deferred.clear()

    def catch_up(self) -> None:
        """The next owner has the connection: send it the deferred changes that still hold."""
        deferred, self._deferred = self._deferred, []
        for kind, streams in deferred:
            if kind == commands.SUBSCRIBE:
                held = self.ledger.refused(streams)
            else:
                is_wanted = kind != commands.UNSUBSCRIBE
                held = [stream for stream in streams if (key_of(stream) in self.ledger.wanted) is is_wanted]
            if held:
                self._send(kind, held)

    def for_owner(self) -> dict[str, Any]:
        """The fields of an `Assignment` that are about subscriptions. What belongs to a connection is included only if the
        owner continues with that connection."""
        ledger, now = self.ledger, monotonic()
        fields: dict[str, Any] = {
            "wanted": tuple(ledger.wanted.values()),
            "confirmed": tuple(self._was_confirmed),
            "blamed": ledger.blame.for_owner(now),
            "retry_at": ledger.blame.retries(now),
            "paces": dict(ledger.paces),
        }
        if self._custody.resumption is not None:
            connection = ledger.connection
            fields |= {
                "confirmed": tuple(self.still_subscribed()),
                "channels": dict(connection.channels),
                "live": tuple(sorted(connection.live)),
                "rejected": dict(connection.rejected),
                "opening": connection.opening,
                "login_at": connection.login_at,
                "challenge": connection.challenge,
                "heartbeat_at": connection.heartbeat_at,
                "token": connection.token,
            }
        return fields

    def still_subscribed(self) -> list[Subscription]:
        """What the next owner need not ask for on a connection that goes on: what the peer has answered, and, where nothing
        confirms, what was sent."""
        ledger, asked = self.ledger, self.ledger.connection.asked
        return [stream for key, stream in ledger.wanted.items() if ledger.is_answered(key) or key in asked]

    # -- on the way to another supervisor --------------------------------------------------------------------------------

    def snapshot(self) -> SubscriptionsSnapshot:
        """For another supervisor, while an owner has the connection."""
        ledger = self.ledger
        return SubscriptionsSnapshot(
            connection=ledger.connection,
            lasting=ledger.lasting,
            sent=dict(self._sent),
            deferred=list(self._deferred),
            was_confirmed=list(self._was_confirmed),
        )

    def restore(self, snapshot: SubscriptionsSnapshot) -> None:
        """Go on where another supervisor was; what is wanted is known already."""
        self.ledger.connection, self.ledger.lasting = snapshot.connection, snapshot.lasting
        self._deferred, self._was_confirmed = list(snapshot.deferred), list(snapshot.was_confirmed)
        self._sent = dict(snapshot.sent)
        for ref in self._sent:
            self._commands.expect(ref, partial(self._on_reply, ref))
