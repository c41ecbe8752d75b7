"""What each report of an owner does to its endpoint: one function for each class of contract/ipc/reports.py.

LinkOwner.on_record ──> apply_report ──APPLIED_BY[class of the report]──> the function below
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic, time_ns
from typing import Any, Final, Protocol, TypeVar

from wsadapter.contract import items
from wsadapter.contract.ipc import reports
from wsadapter.contract.ipc.reports import ConnectionUp, OwnerReport, Rejoined, Report
from wsadapter.contract.reasons import Reason
from wsadapter.endpoint.link_output import LinkOutput
from wsadapter.endpoint.requests import Requests
from wsadapter.endpoint.rollover import Rollover
from wsadapter.endpoint.subscriptions import Subscriptions

_LONGEST_NOTICE: Final = 1000
"""Characters of a text of the peer that are shown to the consumer."""


class ReportingOwner(Protocol):
    """The owner that sent the report, and what of its link a report may change."""

    output: LinkOutput
    rollover: Rollover

    @property
    def subscriptions(self) -> Subscriptions: ...
    @property
    def requests(self) -> Requests: ...
    @property
    def streams(self) -> list[str | None]:
        """The names of its streams, by the index that the owner gave them."""
        ...

    def reached(self, stage: str) -> None:
        """It is at this step of the way to a connection."""
        ...

    def came_up(self, report: ConnectionUp) -> None:
        """The owner's connection is open. Raises `ValueError` if the owner did not follow its assignment."""
        ...

    def leaves(self, reason: Reason) -> None:
        """It ends for this reason, and sends nothing more."""
        ...

    def rejoined(self, report: Rejoined) -> None:
        """It has another supervisor, which may be this one. Raises `ValueError` if no supervisor can have called it."""
        ...


R = TypeVar("R", bound=Report)

APPLIED_BY: Final[dict[type[Report], Callable[[ReportingOwner, Any], None]]] = {}
"""The function that applies reports of a class. A unit test compares the classes with `OwnerReport`."""


def apply_report(owner: ReportingOwner, report: OwnerReport) -> None:
    """Act on a report. Under the reactor's lock.

    Raises `ValueError` if the report contradicts what its owner was asked to do, or what its owner has reported before: such an
    owner can't be trusted any more.
    """
    APPLIED_BY[type(report)](owner, report)


def _applies(kind: type[R]) -> Callable[[Callable[[ReportingOwner, R], None]], Callable[[ReportingOwner, R], None]]:
    def enter(apply: Callable[[ReportingOwner, R], None]) -> Callable[[ReportingOwner, R], None]:
        APPLIED_BY[kind] = apply
        return apply

    return enter


# -- the connection ------------------------------------------------------------------------------------------------------


@_applies(reports.StageReached)
def _stage_reached(owner: ReportingOwner, report: reports.StageReached) -> None:
    owner.reached(report.stage)


@_applies(reports.ConnectionUp)
def _connection_up(owner: ReportingOwner, report: reports.ConnectionUp) -> None:
    owner.came_up(report)


@_applies(reports.ConnectionOpening)
def _connection_opening(owner: ReportingOwner, report: reports.ConnectionOpening) -> None:
    owner.subscriptions.connection.opening = None if report.over else (report.since, report.listens)


@_applies(reports.LoginDone)
def _login_done(owner: ReportingOwner, report: reports.LoginDone) -> None:
    output, connection = owner.output, owner.subscriptions.connection
    if connection.login_at is None:
        output.log.logged_in(output.epoch)
    connection.login_at, connection.challenge = report.at, report.challenge


@_applies(reports.HeartbeatSent)
def _heartbeat_sent(owner: ReportingOwner, report: reports.HeartbeatSent) -> None:
    owner.subscriptions.connection.heartbeat_at = report.at


@_applies(reports.TokenKept)
def _token_kept(owner: ReportingOwner, report: reports.TokenKept) -> None:
    owner.subscriptions.connection.token = report.token


@_applies(reports.PeerNotice)
def _peer_notice(owner: ReportingOwner, report: reports.PeerNotice) -> None:
    _put_notice(owner, report.text, "the peer asks for a new connection")
    owner.rollover.replace_connection("notice")


@_applies(reports.PeerError)
def _peer_error(owner: ReportingOwner, report: reports.PeerError) -> None:
    _put_notice(owner, report.text, "the peer says")


def _put_notice(owner: ReportingOwner, text: str, what: str) -> None:
    output = owner.output
    shown = text[:_LONGEST_NOTICE]
    output.put(items.Notice(output.name, output.epoch, time_ns(), shown))
    output.log.said(output.epoch, "warning", f"{what}: {shown}")


@_applies(reports.LogLine)
def _log_line(owner: ReportingOwner, report: reports.LogLine) -> None:
    owner.output.log.said(owner.output.epoch, report.level, report.text)


@_applies(reports.ConnectionDown)
def _connection_down(owner: ReportingOwner, report: reports.ConnectionDown) -> None:
    owner.leaves(report.reason)


@_applies(reports.Rejoined)
def _rejoined(owner: ReportingOwner, report: reports.Rejoined) -> None:
    owner.rejoined(report)


# -- subscriptions -------------------------------------------------------------------------------------------------------


@_applies(reports.SubscriptionConfirmed)
def _confirmed(owner: ReportingOwner, report: reports.SubscriptionConfirmed) -> None:
    output, connection = owner.output, owner.subscriptions.connection
    connection.rejected.pop(report.stream, None)
    owner.subscriptions.blame.clear(report.of or report.stream)
    if report.of:
        connection.parts.pop(report.stream, None)
    else:
        connection.confirmed.add(report.stream)
    output.put(items.Subscribed(output.name, output.epoch, time_ns(), report.stream))


@_applies(reports.SubscriptionRejected)
def _rejected(owner: ReportingOwner, report: reports.SubscriptionRejected) -> None:
    output, connection = owner.output, owner.subscriptions.connection
    connection.rejected[report.stream] = report.error
    if report.of:
        connection.parts[report.stream] = report.of
    else:
        connection.confirmed.discard(report.stream)
    output.put(items.Rejected(output.name, output.epoch, time_ns(), report.stream, report.error))
    output.log.rejected(output.epoch, report.stream, report.error)


@_applies(reports.SubscriptionRequested)
def _requested(owner: ReportingOwner, report: reports.SubscriptionRequested) -> None:
    owner.subscriptions.connection.confirmed.discard(report.stream)


@_applies(reports.SubscriptionsSent)
def _sent(owner: ReportingOwner, report: reports.SubscriptionsSent) -> None:
    subscriptions = owner.subscriptions
    if report.gone:
        subscriptions.connection.asked.difference_update(report.streams)
    else:
        subscriptions.connection.asked.update(subscriptions.wanted.keys() & report.streams)


@_applies(reports.SubscriptionsRestored)
def _restored(owner: ReportingOwner, report: reports.SubscriptionsRestored) -> None:
    output = owner.output
    output.put(items.Restored(output.name, output.epoch, time_ns(), report.ok, report.failed))
    output.log.restored(output.epoch, report.ok, report.failed)


@_applies(reports.SubscriptionsBlamed)
def _blamed(owner: ReportingOwner, report: reports.SubscriptionsBlamed) -> None:
    for name, error in report.streams.items():
        if error is None:
            owner.subscriptions.blame.clear(name)
        elif name in owner.subscriptions.wanted:
            owner.subscriptions.blame.reported(name, error, monotonic())


@_applies(reports.ClosedOverSubscriptions)
def _closed_over(owner: ReportingOwner, report: reports.ClosedOverSubscriptions) -> None:
    output = owner.output
    names = [name for name in report.streams if name in owner.subscriptions.wanted]
    alone = report.alone and len(names) == 1
    suspects = owner.subscriptions.blame.closed(names, alone=alone, within=report.within, now=monotonic())
    if suspects:
        text = "the peer closes connections without answering these, they are asked for after the others"
        output.log.said(output.epoch, "warning", f"{text}: {', '.join(suspects)}")


@_applies(reports.ChannelAssigned)
def _channel_assigned(owner: ReportingOwner, report: reports.ChannelAssigned) -> None:
    owner.subscriptions.connection.channels[report.channel] = report.stream


@_applies(reports.PacesLearned)
def _paces_learned(owner: ReportingOwner, report: reports.PacesLearned) -> None:
    subscriptions = owner.subscriptions
    subscriptions.paces.update((name, longest) for name, longest in report.streams.items() if name in subscriptions.wanted)


# -- messages ------------------------------------------------------------------------------------------------------------


@_applies(reports.StreamNamed)
def _stream_named(owner: ReportingOwner, report: reports.StreamNamed) -> None:
    if report.index != len(owner.streams):
        raise ValueError(f"stream {report.index} announced after {len(owner.streams) - 1}")
    owner.streams.append(report.name)
    owner.subscriptions.connection.live.add(report.name)


@_applies(reports.StreamStalled)
def _stalled(owner: ReportingOwner, report: reports.StreamStalled) -> None:
    output = owner.output
    if report.hopeless:
        # A pace that is known at the next connection too would end each one of them for the same stream.
        owner.subscriptions.paces.pop(report.stream or "", None)
        output.log.stalled(output.epoch, report.stream, report.silence, "it needs a new connection")
        owner.rollover.replace_connection("silence")
        return
    output.put(items.Stalled(output.name, output.epoch, time_ns(), report.stream, report.silence))
    output.log.stalled(output.epoch, report.stream, report.silence)


@_applies(reports.GapFound)
def _gap_found(owner: ReportingOwner, report: reports.GapFound) -> None:
    output = owner.output
    last = output.stream.numbers.last_received_at
    output.gap(report.cause, last, time_ns(), expected=report.expected, got=report.got, stream=report.stream)


@_applies(reports.MessagesDropped)
def _messages_dropped(owner: ReportingOwner, report: reports.MessagesDropped) -> None:
    output = owner.output
    output.backlog.dropped += report.count
    output.put(items.Dropped(output.name, output.epoch, time_ns(), None, None, report.count, report.bytes, report.cause))
    output.log.dropped(output.epoch, report.count, report.cause, report.text)


@_applies(reports.AnswerFollows)
def _answer_follows(owner: ReportingOwner, report: reports.AnswerFollows) -> None:
    owner.requests.announce(report.id, rejected=report.rejected)
