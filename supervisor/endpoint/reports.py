"""What each report of an owner does to its endpoint. The reports are values by now, see contract/ipc/reports.py."""

from __future__ import annotations

from time import monotonic, time_ns
from typing import TYPE_CHECKING, Final, assert_never

from wsadapter.contract import items
from wsadapter.contract.ipc import reports
from wsadapter.contract.ipc.reports import ConnectionReport, MessageReport, OwnerReport, SubscriptionReport

if TYPE_CHECKING:
    from wsadapter.endpoint.link import Link

_LONGEST_NOTICE: Final = 1000
"""Characters of what a peer says that are shown to the consumer."""


def apply_report(link: Link, report: OwnerReport) -> None:
    """Act on a report. Under the reactor's lock.

    Raises `ValueError` if the report contradicts what its owner was asked to do, or what its owner has reported before: such an
    owner can't be trusted any more.
    """
    if isinstance(report, MessageReport):
        _apply_message_report(link, report)
    elif isinstance(report, SubscriptionReport):
        _apply_subscription_report(link, report)
    else:
        _apply_connection_report(link, report)


def _apply_connection_report(link: Link, report: ConnectionReport) -> None:
    connection = link.ledger.connection
    match report:
        case reports.StageReached():
            link.at_stage(report.stage)
        case reports.ConnectionUp():
            link.came_up(report.headers, report.subprotocol, report.peer, resumed=report.resumed)
        case reports.ConnectionOpening():
            connection.opening = None if report.over else (report.since, report.listens)
        case reports.LoginDone():
            if connection.login_at is None:
                link.narrate.logged_in(link.epoch)
            connection.login_at, connection.challenge = report.at, report.challenge
        case reports.HeartbeatSent():
            connection.heartbeat_at = report.at
        case reports.TokenKept():
            connection.token = report.token
        case reports.PeerNotice():
            _put_notice(link, report.text)
            text = f"the peer asks for a new connection: {report.text[:_LONGEST_NOTICE]}"
            link.narrate.said(link.epoch, "warning", text)
            link.replace_connection("notice")
        case reports.PeerError():
            _put_notice(link, report.text)
            link.narrate.said(link.epoch, "warning", f"the peer says: {report.text[:_LONGEST_NOTICE]}")
        case reports.LogLine():
            link.narrate.said(link.epoch, report.level, report.text)
        case reports.ConnectionDown():
            link.leaves(report.reason)
        case _:
            assert_never(report)


def _put_notice(link: Link, text: str) -> None:
    link.put(items.Notice(link.name, link.epoch, time_ns(), text[:_LONGEST_NOTICE]))


def _apply_subscription_report(link: Link, report: SubscriptionReport) -> None:
    ledger, connection = link.ledger, link.ledger.connection
    match report:
        case reports.SubscriptionConfirmed():
            _confirmed(link, report)
        case reports.SubscriptionRejected():
            _rejected(link, report)
        case reports.SubscriptionRequested():
            connection.confirmed.discard(report.stream)
        case reports.SubscriptionsSent(gone=True):
            connection.asked.difference_update(report.streams)
        case reports.SubscriptionsSent():
            connection.asked.update(ledger.wanted.keys() & report.streams)
        case reports.SubscriptionsRestored():
            link.put(items.Restored(link.name, link.epoch, time_ns(), report.ok, report.failed))
            link.narrate.restored(link.epoch, report.ok, report.failed)
        case reports.SubscriptionsBlamed():
            _blamed(link, report)
        case reports.ClosedOverSubscriptions():
            _closed_over(link, report)
        case reports.ChannelAssigned():
            connection.channels[report.channel] = report.stream
        case reports.PacesLearned():
            ledger.paces.update((name, longest) for name, longest in report.streams.items() if name in ledger.wanted)
        case _:
            assert_never(report)


def _confirmed(link: Link, report: reports.SubscriptionConfirmed) -> None:
    connection = link.ledger.connection
    connection.rejected.pop(report.stream, None)
    link.ledger.blame.clear(report.of or report.stream)
    if report.of:
        connection.parts.pop(report.stream, None)
    else:
        connection.confirmed.add(report.stream)
    link.put(items.Subscribed(link.name, link.epoch, time_ns(), report.stream))


def _rejected(link: Link, report: reports.SubscriptionRejected) -> None:
    connection = link.ledger.connection
    connection.rejected[report.stream] = report.error
    if report.of:
        connection.parts[report.stream] = report.of
    else:
        connection.confirmed.discard(report.stream)
    link.put(items.Rejected(link.name, link.epoch, time_ns(), report.stream, report.error))
    link.narrate.rejected(link.epoch, report.stream, report.error)


def _blamed(link: Link, report: reports.SubscriptionsBlamed) -> None:
    for name, error in report.streams.items():
        if error is None:
            link.ledger.blame.clear(name)
        elif name in link.ledger.wanted:
            link.ledger.blame.told(name, error, monotonic())


def _closed_over(link: Link, report: reports.ClosedOverSubscriptions) -> None:
    names = [name for name in report.streams if name in link.ledger.wanted]
    alone = report.alone and len(names) == 1
    suspects = link.ledger.blame.closed(names, alone=alone, within=report.within, now=monotonic())
    if suspects:
        text = "the peer closes connections without answering these, they are asked for after the others"
        link.narrate.said(link.epoch, "warning", f"{text}: {', '.join(suspects)}")


def _apply_message_report(link: Link, report: MessageReport) -> None:
    match report:
        case reports.StreamNamed():
            if report.index != len(link.streams):
                raise ValueError(f"stream {report.index} announced after {len(link.streams) - 1}")
            link.streams.append(report.name)
            link.ledger.connection.live.add(report.name)
        case reports.StreamStalled():
            _stalled(link, report)
        case reports.GapFound():
            last = link.stream.numbers.last_received_at
            link.gap(report.cause, last, time_ns(), expected=report.expected, got=report.got, stream=report.stream)
        case reports.MessagesDropped():
            link.account.dropped += report.count
            dropped = items.Dropped(link.name, link.epoch, time_ns(), None, None, report.count, report.bytes, report.cause)
            link.put(dropped)
            link.narrate.dropped(link.epoch, report.count, report.cause, report.text)
        case reports.AnswerFollows():
            link.requests.announce(report.id, rejected=report.rejected)
        case _:
            assert_never(report)


def _stalled(link: Link, report: reports.StreamStalled) -> None:
    if report.hopeless:
        # A pace that is known at the next connection too would end each one of them for the same stream.
        link.ledger.paces.pop(report.stream or "", None)
        link.narrate.stalled(link.epoch, report.stream, report.silence, "it needs a new connection")
        link.replace_connection("silence")
        return
    link.put(items.Stalled(link.name, link.epoch, time_ns(), report.stream, report.silence))
    link.narrate.stalled(link.epoch, report.stream, report.silence)
