"""The reports that an owner writes between its messages: one class per report, the body of a REPORT record (record.py).

    owner:       StreamNamed(1, "trades").encode()  ──pipe──>  supervisor: parse_report(body) == StreamNamed(1, "trades")

On the pipe a report is `{"event": ..., "fields": {...}}`. Both ends use these classes, so a type checker sees both. The
supervisor does not trust an owner: `parse_report` checks every field, and what parses has exactly the declared types. What a
report does to an endpoint is decided in endpoint/reports.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields
from math import isfinite
from typing import Any, ClassVar, Final, TypeAlias, get_args

import orjson

from wsadapter.contract.endpoint import Subscription
from wsadapter.contract.reasons import Reason

Count: TypeAlias = int
"""A number of messages or bytes: 0 or more."""

Change: TypeAlias = tuple[int, int, tuple[Subscription, ...]]
"""The ref and the kind of a SUBSCRIBE, UNSUBSCRIBE or RESUBSCRIBE, and its streams."""

_MOST: Final = 1 << 48
"""No owner can reach such a count. Counts are added, and a sum must stay an integer that JSON can carry."""


class ReportError(ValueError):
    """The bytes are no valid report; the text names the report and the field."""


@dataclass(frozen=True, slots=True)
class Report:
    """What all reports have in common."""

    event: ClassVar[str]
    """The name of the report on the pipe."""

    @property
    def fields(self) -> dict[str, Any]:
        """The fields as they are written to the pipe: without those that have their default value, which `parse_report` fills
        in."""
        return {f.name: value for f in fields(self) if (value := getattr(self, f.name)) != f.default}

    def encode(self) -> bytes:
        """The report as JSON."""
        return orjson.dumps({"event": self.event, "fields": self.fields})


# -- the connection ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StageReached(Report):
    """The owner begins this step of the connect."""

    event = "stage"
    stage: str
    """preparing, resolving, connecting, tls or handshake."""


@dataclass(frozen=True, slots=True)
class ConnectionUp(Report):
    """The connection is open."""

    event = "up"
    headers: dict[str, str]
    subprotocol: str | None
    peer: str = ""
    """The address that was connected to."""
    resumed: bool = False
    """The connection of a dead owner continues."""


@dataclass(frozen=True, slots=True)
class LoginDone(Report):
    """The peer accepted a login; only if the endpoint's dialect has one."""

    event = "login"
    at: float
    """Monotonic seconds."""
    challenge: Any
    """The peer's challenge for the login, as JSON; None: it sent none."""


@dataclass(frozen=True, slots=True)
class ConnectionOpening(Report):
    """How far the readiness of a connection is that may outlive its owner: the peer's [[ready]], and `settle`."""

    event = "opening"
    since: float
    """When the handshake was done, in monotonic seconds."""
    listens: bool
    """The peer's [[ready]] is awaited."""
    over: bool
    """Frames are sent from now on."""


@dataclass(frozen=True, slots=True)
class HeartbeatSent(Report):
    """A heartbeat was sent on a connection that may outlive its owner."""

    event = "heartbeat"
    at: float
    """Monotonic seconds."""


@dataclass(frozen=True, slots=True)
class TokenKept(Report):
    """The token that the hook `before_connect` keeps for this connection. A secret, which is never logged."""

    event = "token"
    token: Any
    """As JSON."""


@dataclass(frozen=True, slots=True)
class PeerNotice(Report):
    """The peer asks for a new connection."""

    event = "notice"
    text: str


@dataclass(frozen=True, slots=True)
class PeerError(Report):
    """The peer sent an error that is about no subscription."""

    event = "peer_error"
    text: str


@dataclass(frozen=True, slots=True)
class LogLine(Report):
    """A line for the supervisor's log."""

    event = "log"
    level: str
    """As in `logging`, in lower case; an unknown level counts as "info"."""
    text: str


@dataclass(frozen=True, slots=True)
class ConnectionDown(Report):
    """The connection is over, and the owner ends; always its last report."""

    event = "down"
    reason: Reason

    @property
    def fields(self) -> dict[str, Any]:
        return {"reason": self.reason.to_json()}


@dataclass(frozen=True, slots=True)
class Rejoined(Report):
    """The owner has the control socket of another supervisor (rejoin.py). What that supervisor can't know from the reports and
    messages before: what came to the owner, or was to come from it, through the control socket before."""

    event = "rejoined"
    number: Count
    """That of the call."""
    stage: str
    """As in PROBED: "idle", a step of the connect, "up" or "leaving"."""
    last_ref: Count
    """The highest ref of the commands so far."""
    wanted: tuple[Subscription, ...]
    """The subscriptions that the owner was assigned, with all changes."""
    changes: tuple[Change, ...]
    """The changes of subscriptions that are still to be answered with TAKEN."""
    requests: tuple[str, ...]
    """The ids of the requests whose answers may still come."""


# -- subscriptions -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SubscriptionConfirmed(Report):
    """A subscription is confirmed by the peer, or by its first message."""

    event = "subscribed"
    stream: str
    of: str = ""
    """The subscription that `stream` is a part of; empty if `stream` is a whole subscription."""


@dataclass(frozen=True, slots=True)
class SubscriptionRejected(Report):
    """The peer refused a subscription, or has revoked it."""

    event = "rejected"
    stream: str
    error: str
    of: str = ""
    """As of `SubscriptionConfirmed`."""


@dataclass(frozen=True, slots=True)
class SubscriptionRequested(Report):
    """A subscription that was confirmed is requested again."""

    event = "requested"
    stream: str


@dataclass(frozen=True, slots=True)
class SubscriptionsSent(Report):
    """The kernel has a frame that subscribes or unsubscribes; only if the peer confirms nothing, and the connection may
    outlive its owner."""

    event = "asked"
    streams: tuple[str, ...]
    gone: bool
    """The frame unsubscribes."""


@dataclass(frozen=True, slots=True)
class SubscriptionsRestored(Report):
    """Every subscription that was requested at the beginning of the connection is answered."""

    event = "restored"
    ok: Count
    """How many are confirmed."""
    failed: tuple[str, ...]
    """The names of the others."""


@dataclass(frozen=True, slots=True)
class SubscriptionsBlamed(Report):
    """The peer closes the connection because of a subscription."""

    event = "blamed"
    streams: dict[str, str | None]
    """Name = the peer's error; "": this one or another is the cause; None: this one is no longer suspected."""


@dataclass(frozen=True, slots=True)
class ClosedOverSubscriptions(Report):
    """The peer closed the connection without a reason, soon after subscriptions were requested that it had not answered."""

    event = "closed_over"
    streams: tuple[str, ...]
    """Their names."""
    alone: bool
    """There is one such subscription, and others had been confirmed on this connection."""
    within: float
    """Seconds that count as soon."""


@dataclass(frozen=True, slots=True)
class ChannelAssigned(Report):
    """From now on the peer names a subscription by a channel, on this connection."""

    event = "channel"
    stream: Subscription
    """As the user wrote it."""
    channel: str


@dataclass(frozen=True, slots=True)
class PacesLearned(Report):
    """The pauses that are usual between the messages of a stream."""

    event = "pace"
    streams: dict[str, float]
    """Name = its longest pause in seconds."""


# -- messages ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StreamNamed(Report):
    """The name of the stream with this index in the stream tables of the records, from here on in this epoch."""

    event = "stream"
    index: int
    """1, 2, 3 ..."""
    name: str


@dataclass(frozen=True, slots=True)
class StreamStalled(Report):
    """A stream is silent for longer than its own pace explains."""

    event = "stalled"
    stream: str | None
    silence: float
    """Seconds."""
    hopeless: bool
    """It was reported before, and subscribing the stream again did not help."""


@dataclass(frozen=True, slots=True)
class GapFound(Report):
    """The exchange's own numbers do not follow each other at this place."""

    event = "gap"
    cause: str
    """A cause of `contract.items.Gap`."""
    stream: str | None
    expected: int | None
    got: int | None


@dataclass(frozen=True, slots=True)
class MessagesDropped(Report):
    """Messages that a decode hook failed on."""

    event = "dropped"
    count: Count
    bytes: Count
    cause: str
    """A cause of `contract.items.Dropped`."""
    text: str
    """The exception of the hook, and the file of the message in the quarantine."""


@dataclass(frozen=True, slots=True)
class AnswerFollows(Report):
    """The next message with the stream index `record.ANSWER` is the answer to a request. The report is valid only once that
    message has come: an owner that dies between the two has reported no answer."""

    event = "answer"
    id: str
    """The id of the request, as text."""
    rejected: bool


ConnectionReport: TypeAlias = (
    StageReached | ConnectionUp | ConnectionOpening | LoginDone | HeartbeatSent | TokenKept | PeerNotice | PeerError | LogLine
    | ConnectionDown | Rejoined
)  # fmt: skip
SubscriptionReport: TypeAlias = (
    SubscriptionConfirmed | SubscriptionRejected | SubscriptionRequested | SubscriptionsSent | SubscriptionsRestored
    | SubscriptionsBlamed | ClosedOverSubscriptions | ChannelAssigned | PacesLearned
)  # fmt: skip
MessageReport: TypeAlias = StreamNamed | StreamStalled | GapFound | MessagesDropped | AnswerFollows
OwnerReport: TypeAlias = ConnectionReport | SubscriptionReport | MessageReport
"""Every report there is."""


def parse_report(body: bytes) -> OwnerReport:
    """The reverse of `Report.encode`. Raises `ReportError` if `body` is no report, or if a field is missing or of another type.
    Fields that are not known are ignored."""
    try:
        data = orjson.loads(body)
    except ValueError as error:
        raise ReportError(f"a report is no JSON: {error}") from None
    event, given = (data.get("event"), data.get("fields")) if isinstance(data, dict) else (None, None)
    kind = REPORTS.get(event) if isinstance(event, str) else None
    if kind is None or not isinstance(given, dict):
        raise ReportError(f"not a report: {body!r:.200}")
    values: dict[str, Any] = {}
    for name, check, required in _FIELDS[kind]:
        if name not in given:
            if required:
                raise ReportError(f"report {event!r}: the field {name!r} is missing")
            continue
        try:
            values[name] = check(given[name])
        except ValueError as error:
            raise ReportError(f"report {event!r}, field {name!r}: {error}") from None
    return kind(**values)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"not a text: {value!r:.100}")  # noqa: TRY004 - as of every other value that does not parse
    return value


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"not a truth value: {value!r:.100}")  # noqa: TRY004
    return value


def _integer(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"not an integer: {value!r:.100}")  # noqa: TRY004
    return value


def _count(value: object) -> int:
    if not 0 <= (count := _integer(value)) < _MOST:
        raise ValueError(f"not a count: {value!r:.100}")
    return count


def _number(value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not isfinite(value):
        raise ValueError(f"not a number: {value!r:.100}")
    return float(value)


def _subscription(value: object) -> Subscription:
    if not isinstance(value, str | dict):
        raise ValueError(f"not a subscription: {value!r:.100}")  # noqa: TRY004
    return value


def _optional(check: Callable[[object], Any]) -> Callable[[object], Any]:
    return lambda value: None if value is None else check(value)


def _object_of(check: Callable[[object], Any]) -> Callable[[object], dict[str, Any]]:
    def check_object(value: object) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise ValueError(f"not an object: {value!r:.100}")  # noqa: TRY004
        return {name: check(each) for name, each in value.items()}

    return check_object


def _tuple_of(check: Callable[[object], Any]) -> Callable[[object], tuple[Any, ...]]:
    def check_list(value: object) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise ValueError(f"not a list: {value!r:.100}")  # noqa: TRY004
        return tuple(map(check, value))

    return check_list


def _change(value: object) -> Change:
    if not isinstance(value, list) or len(value) != 3:
        raise ValueError(f"not a change of subscriptions: {value!r:.100}")
    ref, kind, streams = value
    return _count(ref), _count(kind), _tuple_of(_subscription)(streams)


_CHECKS: Final[dict[str, Callable[[object], Any]]] = {
    "str": _text,
    "str | None": _optional(_text),
    "bool": _flag,
    "int": _integer,
    "int | None": _optional(_integer),
    "Count": _count,
    "float": _number,
    "Any": lambda value: value,
    "Subscription": _subscription,
    "Reason": Reason.from_json,
    "tuple[str, ...]": _tuple_of(_text),
    "tuple[Subscription, ...]": _tuple_of(_subscription),
    "tuple[Change, ...]": _tuple_of(_change),
    "dict[str, str]": _object_of(_text),
    "dict[str, str | None]": _object_of(_optional(_text)),
    "dict[str, float]": _object_of(_number),
}
"""How a value that came through the pipe becomes a field, by the field's annotation. Each raises `ValueError`."""

REPORTS: Final[dict[str, type[OwnerReport]]] = {kind.event: kind for kind in get_args(OwnerReport)}
"""Every report, by its name on the pipe."""

_FIELDS: Final = {
    kind: tuple((f.name, _CHECKS[str(f.type)], f.default is MISSING) for f in fields(kind)) for kind in REPORTS.values()
}
"""For each report: the name of a field, its check, and whether it is required."""
