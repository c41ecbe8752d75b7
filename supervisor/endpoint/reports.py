"""What an owner reports between its messages: checked like anything that comes through a pipe, and put into the stream.

A report that makes no sense raises `ValueError`, `KeyError` or `TypeError`; its owner can't be believed any more then.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic, time_ns
from typing import TYPE_CHECKING, Any, Final

from wsadapter.contract import items
from wsadapter.contract.ipc.commands import Report
from wsadapter.endpoint.subscriptions import key_of

if TYPE_CHECKING:
    from wsadapter.endpoint.link import ManagedEndpoint

_MOST: Final = 1 << 48
"""Beyond any count that an owner can come to: it is added up, and must stay what JSON can carry."""

_LONGEST_NOTICE: Final = 1000


def hear(managed: ManagedEndpoint, report: Report) -> None:
    """Act on it. Under the reactor's lock."""
    REPORTS[report.event](managed, report.fields)


def _on_stage(managed: ManagedEndpoint, fields: dict[str, Any]) -> None:
    managed.at_stage(str(fields["stage"]))


def _on_up(managed: ManagedEndpoint, fields: dict[str, Any]) -> None:
    headers = {str(name): str(value) for name, value in dict(fields["headers"]).items()}
    subprotocol = None if fields["subprotocol"] is None else str(fields["subprotocol"])
    managed.came_up(headers, subprotocol, str(fields.get("peer") or ""), resumed=bool(fields.get("resumed")))


def _on_answer(managed: ManagedEndpoint, fields: dict[str, Any]) -> None:
    managed.requests.announce(str(fields["id"]), rejected=bool(fields["rejected"]))


def _on_gap(managed: ManagedEndpoint, fields: dict[str, Any]) -> None:
    last = managed.ledger.numbers.last_received_at
    expected, got = _integer(fields.get("expected")), _integer(fields.get("got"))
    stream = None if fields.get("stream") is None else str(fields["stream"])
    managed.gap(str(fields["cause"]), last, time_ns(), expected=expected, got=got, stream=stream)


def _on_subscribed(managed: ManagedEndpoint, fields: dict[str, Any]) -> None:
    stream, whole = key_of(fields["stream"]), str(fields.get("of", ""))
    managed.ledger.rejected.pop(stream, None)
    managed.ledger.blame.clear(whole or stream)
    if whole:
        managed.ledger.parts.pop(stream, None)
    else:
        managed.ledger.confirmed.add(stream)
    managed.put(items.Subscribed(managed.name, managed.epoch, time_ns(), stream))


def _on_blamed(managed: ManagedEndpoint, fields: dict[str, Any]) -> None:
    for name, error in dict(fields["streams"]).items():
        if error is None:
            managed.ledger.blame.clear(str(name))
        elif name in managed.ledger.wanted:
            managed.ledger.blame.told(str(name), str(error), monotonic())


def _on_closed_over(managed: ManagedEndpoint, fields: dict[str, Any]) -> None:
    names = [name for name in map(str, list(fields["streams"])) if name in managed.ledger.wanted]
    alone, within = bool(fields["alone"]) and len(names) == 1, float(fields["within"])
    suspects = managed.ledger.blame.closed(names, alone=alone, within=within, now=monotonic())
    if suspects:
        text = "the peer closes connections without answering these, they are asked for after the others"
        managed.narrate.said(managed.epoch, "warning", f"{text}: {', '.join(suspects)}")


def _on_requested(managed: ManagedEndpoint, fields: dict[str, Any]) -> None:
    managed.ledger.confirmed.discard(key_of(fields["stream"]))


def _on_asked(managed: ManagedEndpoint, fields: dict[str, Any]) -> None:
    names = set(map(str, fields["streams"]))
    if fields["gone"]:
        managed.ledger.asked -= names
    else:
        managed.ledger.asked |= names & managed.ledger.wanted.keys()


def _on_pace(managed: ManagedEndpoint, fields: dict[str, Any]) -> None:
    known = {str(name): float(longest) for name, longest in dict(fields["streams"]).items()}
    managed.ledger.paces.update((name, longest) for name, longest in known.items() if name in managed.ledger.wanted)


def _noticed(managed: ManagedEndpoint, fields: dict[str, Any]) -> str:
    text = str(fields["text"])[:_LONGEST_NOTICE]
    managed.put(items.Notice(managed.name, managed.epoch, time_ns(), text))
    return text


def _on_peer_error(managed: ManagedEndpoint, fields: dict[str, Any]) -> None:
    text = _noticed(managed, fields)
    managed.narrate.said(managed.epoch, "warning", f"the peer says: {text}")


def _on_channel(managed: ManagedEndpoint, fields: dict[str, Any]) -> None:
    stream = fields["stream"]
    if not isinstance(stream, str | dict):
        raise ValueError(f"not a subscription: {stream!r:.100}")  # noqa: TRY004
    managed.ledger.channels[str(fields["channel"])] = stream


def _on_token(managed: ManagedEndpoint, fields: dict[str, Any]) -> None:
    managed.ledger.token = fields["token"]


def _on_login(managed: ManagedEndpoint, fields: dict[str, Any]) -> None:
    if managed.ledger.login_at is None:
        managed.narrate.logged_in(managed.epoch)
    managed.ledger.login_at, managed.ledger.challenge = float(fields["at"]), fields.get("challenge")


def _on_heartbeat(managed: ManagedEndpoint, fields: dict[str, Any]) -> None:
    managed.ledger.heartbeat_at = float(fields["at"])


def _on_rejected(managed: ManagedEndpoint, fields: dict[str, Any]) -> None:
    stream, error, whole = key_of(fields["stream"]), str(fields["error"]), str(fields.get("of", ""))
    managed.ledger.rejected[stream] = error
    if whole:
        managed.ledger.parts[stream] = whole
    else:
        managed.ledger.confirmed.discard(stream)
    managed.put(items.Rejected(managed.name, managed.epoch, time_ns(), stream, error))
    managed.narrate.rejected(managed.epoch, stream, error)


def _on_stream(managed: ManagedEndpoint, fields: dict[str, Any]) -> None:
    if fields["index"] != len(managed.streams):
        raise ValueError(f"stream {fields['index']} announced after {len(managed.streams) - 1}")
    managed.streams.append(str(fields["name"]))
    managed.ledger.live.add(str(fields["name"]))


def _on_restored(managed: ManagedEndpoint, fields: dict[str, Any]) -> None:
    failed = tuple(key_of(stream) for stream in fields["failed"])
    ok = _count(fields["ok"])
    managed.put(items.Restored(managed.name, managed.epoch, time_ns(), ok, failed))
    managed.narrate.restored(managed.epoch, ok, failed)


def _on_dropped(managed: ManagedEndpoint, fields: dict[str, Any]) -> None:
    number, size, cause = _count(fields["count"]), _count(fields["bytes"]), str(fields["cause"])
    managed.account.dropped += number
    managed.put(items.Dropped(managed.name, managed.epoch, time_ns(), None, None, number, size, cause))
    managed.narrate.dropped(managed.epoch, number, cause, str(fields.get("text", "")))


def _on_stalled(managed: ManagedEndpoint, fields: dict[str, Any]) -> None:
    stream = fields.get("stream")
    name = None if stream is None else key_of(stream)
    silence = float(fields["silence"])
    if fields.get("hopeless"):
        managed.ledger.paces.pop(name or "", None)  # else each new connection would be given up for the same stream
        managed.gave_up(name, silence)
        return
    managed.put(items.Stalled(managed.name, managed.epoch, time_ns(), name, silence))
    managed.narrate.stalled(managed.epoch, name, silence)


def _on_notice(managed: ManagedEndpoint, fields: dict[str, Any]) -> None:
    managed.asked_to_reconnect(_noticed(managed, fields))


def _on_said(managed: ManagedEndpoint, fields: dict[str, Any]) -> None:
    managed.narrate.said(managed.epoch, str(fields["level"]), str(fields["text"]))


def _on_down(managed: ManagedEndpoint, fields: dict[str, Any]) -> None:
    managed.leaves(fields["reason"])


REPORTS: Final[dict[str, Callable[[ManagedEndpoint, dict[str, Any]], None]]] = {
    "stage": _on_stage,
    "up": _on_up,
    "subscribed": _on_subscribed,
    "blamed": _on_blamed,
    "closed_over": _on_closed_over,
    "requested": _on_requested,
    "asked": _on_asked,
    "pace": _on_pace,
    "peer_error": _on_peer_error,
    "channel": _on_channel,
    "rejected": _on_rejected,
    "token": _on_token,
    "login": _on_login,
    "heartbeat": _on_heartbeat,
    "restored": _on_restored,
    "stream": _on_stream,
    "dropped": _on_dropped,
    "gap": _on_gap,
    "answer": _on_answer,
    "stalled": _on_stalled,
    "notice": _on_notice,
    "log": _on_said,
    "down": _on_down,
}
"""By the name of the event."""


def _count(value: object) -> int:
    if not isinstance(value, int) or not 0 <= value < _MOST:
        raise ValueError(f"not a count: {value!r:.100}")
    return value


def _integer(value: object) -> int | None:
    if value is not None and not isinstance(value, int):
        raise ValueError(f"not a number: {value!r:.100}")
    return value
