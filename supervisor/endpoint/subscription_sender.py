"""Sends the changes of a link's subscriptions to its owner, and keeps those that the next owner has to send.

No change is lost with an owner. Changes that an owner had not confirmed to have sent when it died, and changes that were made
while the connection had no owner, are sent by the next owner of the same connection. The next owner requests by itself what is
wanted and was not requested on its connection; so of new subscriptions it is sent only those that the peer had refused before.
A new connection requests everything that is wanted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from time import monotonic
from typing import Any, Protocol

from wsadapter.contract.endpoint import Subscription
from wsadapter.contract.errors import NotConnected
from wsadapter.contract.ipc import commands
from wsadapter.contract.ipc.reports import Change as OwnerChange
from wsadapter.endpoint.owner_commands import OwnerCommands, Reply
from wsadapter.endpoint.subscriptions import ConnectionState, Lasting, Subscriptions, key_of
from wsadapter.handoff.custody import Custody
from wsadapter.status import EndpointState

NotifySuccessor = Callable[[int, list[Subscription]], None]
"""Sends SUBSCRIBE or UNSUBSCRIBE with these streams to the successor of a rollover, if there is one."""


class SubscribingLink(Protocol):
    """What the sender needs of its link."""

    @property
    def is_between_owners(self) -> bool:
        """Whether its connection is on its way from a dead owner to the next one."""
        ...

    @property
    def state(self) -> EndpointState:
        """For users. If the state is "connecting" or "up", the owner has its assignment, and acts on changes."""
        ...


Change = tuple[int, list[Subscription]]
"""SUBSCRIBE, UNSUBSCRIBE or RESUBSCRIBE, and the streams."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SenderSnapshot:
    """The subscriptions of a link that has an owner, in addition to the wanted ones."""

    connection: ConnectionState
    lasting: Lasting
    sent: dict[int, Change]
    """Changes that the owner has not confirmed to have sent, by their refs."""
    deferred: list[Change]
    was_confirmed: list[Subscription]
    """What the connection before had confirmed."""


class SubscriptionSender:
    """The subscription sender of one link. All methods under the reactor's lock."""

    def __init__(
        self, link: SubscribingLink, custody: Custody, commands: OwnerCommands, notify_successor: NotifySuccessor
    ) -> None:
        self.subscriptions = Subscriptions()
        self._link = link
        self._custody = custody
        self._commands = commands
        self._notify_successor = notify_successor
        self._was_confirmed: list[Subscription] = []
        """What the connection before had confirmed."""
        self._sent: dict[int, Change] = {}
        """Changes that the owner has not confirmed to have sent, by their refs."""
        self._deferred: list[Change] = []
        """Changes that are to be sent to the next owner of the connection."""

    # -- wanted streams --------------------------------------------------------------------------------------------------

    def replace(self, streams: Iterable[Subscription], *, same_messages: bool) -> None:
        """Want these streams and no others, from the next owner on. `same_messages`: the new connection gets the messages that
        the old one gets, so the paces of the streams that remain stay known."""
        subscriptions = self.subscriptions
        paces = dict(subscriptions.paces) if same_messages else {}
        subscriptions.remove(list(subscriptions.wanted.values()))
        subscriptions.add(streams)
        subscriptions.paces.update((name, longest) for name, longest in paces.items() if name in subscriptions.wanted)

    def subscribe(self, streams: Iterable[Subscription]) -> list[Subscription]:
        """Want these streams too. They are requested at once if there is an owner that can, otherwise at the next `Up`. Streams
        that were rejected are requested again. Returns the streams that are new or requested again."""
        streams = list(streams)
        again = self.subscriptions.refused(streams)
        self.subscriptions.forgive(again)
        new = self.subscriptions.add(streams) + again
        if self._is_due(commands.SUBSCRIBE, new, deferred=self._custody.resumption is not None):
            self._send(commands.SUBSCRIBE, new)
        self._notify_successor(commands.SUBSCRIBE, new)
        return new

    def unsubscribe(self, streams: Iterable[Subscription]) -> list[Subscription]:
        """Want these streams no more. Returns those that were wanted."""
        gone = self.subscriptions.remove(streams)
        # An owner that continues with a connection and is not up would only remove the stream from what it is to request.
        if self._is_due(commands.UNSUBSCRIBE, gone, deferred=self._link.is_between_owners):
            self._send(commands.UNSUBSCRIBE, gone)
        self._notify_successor(commands.UNSUBSCRIBE, gone)
        return gone

    def resubscribe(self, streams: Iterable[Subscription]) -> None:
        """Request the streams again that are wanted; a new connection does so by itself."""
        anew = self.subscriptions.ask_anew(streams, monotonic())
        if self._is_due(commands.RESUBSCRIBE, anew, deferred=self._link.is_between_owners):
            self._send(commands.RESUBSCRIBE, anew)

    def _is_due(self, kind: int, streams: list[Subscription], *, deferred: bool) -> bool:
        """Whether to send the change to the current owner. A deferred change is kept for the next owner. Without an owner that
        has its assignment, a new connection follows, and requests everything that is wanted."""
        if streams and deferred:
            self._deferred.append((kind, streams))
            return False
        return bool(streams) and self._link.state in ("connecting", "up")

    # -- owners and connections ------------------------------------------------------------------------------------------

    def _send(self, kind: int, streams: list[Subscription]) -> None:
        try:
            ref = self._commands.send(kind, {"streams": streams}, lambda reply, text: self._on_reply(ref, reply, text))
        except NotConnected:  # the owner is leaving: a command that was not sent counts as one that the owner did not confirm
            ref = self._commands.next_ref()
        self._sent[ref] = (kind, streams)

    def _on_reply(self, ref: int, reply: Reply, _text: str) -> None:
        if reply is Reply.TAKEN:
            del self._sent[ref]

    def owner_gone(self, *, goes_on: bool) -> None:
        """The owner is dead. `goes_on`: its connection is not; changes that were not confirmed were not sent on it."""
        if goes_on:
            self._deferred += self._sent.values()
        self._sent.clear()

    def connection_gone(self) -> None:
        """Nothing is subscribed any more; the next connection requests everything that is wanted."""
        self._was_confirmed = self.subscriptions.connection_lost()
        self._deferred.clear()

    def catch_up(self) -> None:
        """The next owner has the connection: send it the deferred changes that still hold."""
        deferred, self._deferred = self._deferred, []
        for kind, streams in deferred:
            if kind == commands.SUBSCRIBE:
                held = self.subscriptions.refused(streams)
            else:
                is_wanted = kind != commands.UNSUBSCRIBE
                held = [stream for stream in streams if (key_of(stream) in self.subscriptions.wanted) is is_wanted]
            if held:
                self._send(kind, held)

    def for_owner(self) -> dict[str, Any]:
        """The fields of an `Assignment` that are about subscriptions. What belongs to a connection is included only if the
        owner continues with that connection."""
        subscriptions, now = self.subscriptions, monotonic()
        fields: dict[str, Any] = {
            "wanted": tuple(subscriptions.wanted.values()),
            "confirmed": tuple(self._was_confirmed),
            "blamed": subscriptions.blame.for_owner(now),
            "retry_at": subscriptions.blame.retries(now),
            "paces": dict(subscriptions.paces),
        }
        if self._custody.resumption is not None:
            connection = subscriptions.connection
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
        """The subscriptions that the next owner need not request on a connection that continues: those that the peer has
        answered, and, if the peer confirms nothing, those that were sent."""
        subscriptions, asked = self.subscriptions, self.subscriptions.connection.asked
        return [stream for key, stream in subscriptions.wanted.items() if subscriptions.is_answered(key) or key in asked]

    # -- on the way to another supervisor --------------------------------------------------------------------------------

    def snapshot(self) -> SenderSnapshot:
        """For another supervisor, while an owner has the connection."""
        subscriptions = self.subscriptions
        return SenderSnapshot(
            connection=subscriptions.connection,
            lasting=subscriptions.lasting,
            sent=dict(self._sent),
            deferred=list(self._deferred),
            was_confirmed=list(self._was_confirmed),
        )

    def restore(self, snapshot: SenderSnapshot) -> None:
        """Continue from the state of another supervisor; the wanted streams are set already."""
        self.subscriptions.connection, self.subscriptions.lasting = snapshot.connection, snapshot.lasting
        self._deferred, self._was_confirmed = list(snapshot.deferred), list(snapshot.was_confirmed)
        self._sent = dict(snapshot.sent)
        self._expect_replies()

    def rejoined(self, wanted: Sequence[Subscription], changes: Iterable[OwnerChange]) -> None:
        """Another supervisor, which died, had sent the owner changes that are not known here. `wanted`: what the owner has been
        asked for, with these changes. `changes`: those that the owner still has to confirm."""
        known, meanwhile = set(map(key_of, wanted)), list(self._sent.values())
        self.subscriptions.remove([stream for key, stream in self.subscriptions.wanted.items() if key not in known])
        self.subscriptions.add(wanted)
        for ref in self._sent:
            self._commands.forget(ref)
        self._sent = {ref: (kind, list(streams)) for ref, kind, streams in changes}
        self._expect_replies()
        change = {commands.SUBSCRIBE: self.subscribe, commands.UNSUBSCRIBE: self.unsubscribe}
        for kind, streams in meanwhile:  # users asked this supervisor for it, and nothing could be sent yet
            change.get(kind, self.resubscribe)(streams)

    def _expect_replies(self) -> None:
        for ref in self._sent:
            self._commands.expect(ref, partial(self._on_reply, ref))
