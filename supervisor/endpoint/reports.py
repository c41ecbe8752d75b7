"""What each report of an owner does to its endpoint. The reports are values by now, see contract/ipc/reports.py."""

from __future__ import annotations

from time import monotonic, time_ns
from typing import Final, Protocol, assert_never

from wsadapter.contract import items
from wsadapter.contract.ipc import reports
from wsadapter.contract.ipc.reports import ConnectionReport, ConnectionUp, MessageReport, OwnerReport, SubscriptionReport
from wsadapter.contract.reasons import Reason
from wsadapter.endpoint.link_output import LinkOutput
from wsadapter.endpoint.requests import Requests
from wsadapter.endpoint.rollover import Rollover
from wsadapter.endpoint.subscriptions import Subscriptions

_LONGEST_NOTICE: Final = 1000
"""Characters of what a peer says that are shown to the consumer."""


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
        """Its connection is open. Raises `ValueError` if the owner did not do what it was asked to do."""
        ...

    def leaves(self, reason: Reason) -> None:
        """It ends for this reason, and sends nothing more."""
        ...


def apply_report(owner: ReportingOwner, report: OwnerReport) -> None:
    """Act on a report. Under the reactor's lock.

    Raises `ValueError` if the report contradicts what its owner was asked to do, or what its owner has reported before: such an
    owner can't be trusted any more.
    """
    if isinstance(report, MessageReport):
        _apply_message_report(owner, report)
    elif isinstance(report, SubscriptionReport):
        _apply_subscription_report(owner, report)
    else:
        _apply_connection_report(owner, report)


def _apply_connection_report(owner: ReportingOwner, report: ConnectionReport) -> None:
    output, connection = owner.output, owner.subscriptions.connection
    match report:
        case reports.StageReached():
            owner.reached(report.stage)
        case reports.ConnectionUp():
            owner.came_up(report)
        case reports.ConnectionOpening():
            connection.opening = None if report.over else (report.since, report.listens)
        case reports.LoginDone():
            if connection.login_at is None:
                output.log.logged_in(output.epoch)
            connection.login_at, connection.challenge = report.at, report.challenge
        case reports.HeartbeatSent():
            connection.heartbeat_at = report.at
        case reports.TokenKept():
            connection.token = report.token
        case reports.PeerNotice():
            _put_notice(owner, report.text)
            text = f"the peer asks for a new connection: {report.text[:_LONGEST_NOTICE]}"
            output.log.said(output.epoch, "warning", text)
            owner.rollover.replace_connection("notice")
        case reports.PeerError():
            _put_notice(owner, report.text)
            output.log.said(output.epoch, "warning", f"the peer says: {report.text[:_LONGEST_NOTICE]}")
        case reports.LogLine():
            output.log.said(output.epoch, report.level, report.text)
        case reports.ConnectionDown():
            owner.leaves(report.reason)
        case _:
            assert_never(report)


def _put_notice(owner: ReportingOwner, text: str) -> None:
    output = owner.output
    output.put(items.Notice(output.name, output.epoch, time_ns(), text[:_LONGEST_NOTICE]))


def _apply_subscription_report(owner: ReportingOwner, report: SubscriptionReport) -> None:
    output, subscriptions, connection = owner.output, owner.subscriptions, owner.subscriptions.connection
    match report:
        case reports.SubscriptionConfirmed():
            _confirmed(owner, report)
        case reports.SubscriptionRejected():
            _rejected(owner, report)
        case reports.SubscriptionRequested():
            connection.confirmed.discard(report.stream)
        case reports.SubscriptionsSent(gone=True):
            connection.asked.difference_update(report.streams)
        case reports.SubscriptionsSent():
            connection.asked.update(subscriptions.wanted.keys() & report.streams)
        case reports.SubscriptionsRestored():
            output.put(items.Restored(output.name, output.epoch, time_ns(), report.ok, report.failed))
            output.log.restored(output.epoch, report.ok, report.failed)
        case reports.SubscriptionsBlamed():
            _blamed(owner, report)
        case reports.ClosedOverSubscriptions():
            _closed_over(owner, report)
        case reports.ChannelAssigned():
            connection.channels[report.channel] = report.stream
        case reports.PacesLearned():
            subscriptions.paces.update(
                (name, longest) for name, longest in report.streams.items() if name in subscriptions.wanted
            )
        case _:
            assert_never(report)


def _confirmed(owner: ReportingOwner, report: reports.SubscriptionConfirmed) -> None:
    output, connection = owner.output, owner.subscriptions.connection
    connection.rejected.pop(report.stream, None)
    owner.subscriptions.blame.clear(report.of or report.stream)
    if report.of:
        connection.parts.pop(report.stream, None)
    else:
        connection.confirmed.add(report.stream)
    output.put(items.Subscribed(output.name, output.epoch, time_ns(), report.stream))


def _rejected(owner: ReportingOwner, report: reports.SubscriptionRejected) -> None:
    output, connection = owner.output, owner.subscriptions.connection
    connection.rejected[report.stream] = report.error
    if report.of:
        connection.parts[report.stream] = report.of
    else:
        connection.confirmed.discard(report.stream)
    output.put(items.Rejected(output.name, output.epoch, time_ns(), report.stream, report.error))
    output.log.rejected(output.epoch, report.stream, report.error)


def _blamed(owner: ReportingOwner, report: reports.SubscriptionsBlamed) -> None:
    for name, error in report.streams.items():
        if error is None:
            owner.subscriptions.blame.clear(name)
        elif name in owner.subscriptions.wanted:
            owner.subscriptions.blame.reported(name, error, monotonic())


def _closed_over(owner: ReportingOwner, report: reports.ClosedOverSubscriptions) -> None:
    output = owner.output
    names = [name for name in report.streams if name in owner.subscriptions.wanted]
    alone = report.alone and len(names) == 1
    suspects = owner.subscriptions.blame.closed(names, alone=alone, within=report.within, now=monotonic())
    if suspects:
        text = "the peer closes connections without answering these, they are asked for after the others"
        output.log.said(output.epoch, "warning", f"{text}: {', '.join(suspects)}")


def _apply_message_report(owner: ReportingOwner, report: MessageReport) -> None:
    output = owner.output
    match report:
        case reports.StreamNamed():
            if report.index != len(owner.streams):
                raise ValueError(f"stream {report.index} announced after {len(owner.streams) - 1}")
            owner.streams.append(report.name)
            owner.subscriptions.connection.live.add(report.name)
        case reports.StreamStalled():
            _stalled(owner, report)
        case reports.GapFound():
            last = output.stream.numbers.last_received_at
            output.gap(report.cause, last, time_ns(), expected=report.expected, got=report.got, stream=report.stream)
        case reports.MessagesDropped():
            output.backlog.dropped += report.count
            dropped = items.Dropped(output.name, output.epoch, time_ns(), None, None, report.count, report.bytes, report.cause)
            output.put(dropped)
            output.log.dropped(output.epoch, report.count, report.cause, report.text)
        case reports.AnswerFollows():
            owner.requests.announce(report.id, rejected=report.rejected)
        case _:
            assert_never(report)


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
