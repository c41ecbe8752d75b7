"""What a user gets: messages, batches of them, and events, all in one ordered stream.

A `Message` is a tuple with names: cheap to make, immutable, picklable. An `Event` stands in the same stream at the place
where it belongs. Only `Gap` and `Dropped` mean that data are missing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from itertools import count, repeat
from operator import index
from typing import Any, NamedTuple, SupportsIndex, cast, final, overload

import orjson

from wsadapter.contract.public import Public
from wsadapter.contract.reasons import Reason, shortened


@final
class Message(NamedTuple):
    """One message of an endpoint."""

    endpoint: str
    data: bytes
    """The payload, after decompression, exactly as received (or as the decode hook returned it)."""
    epoch: int
    """Number of the owner that received it: 1, 2, 3 ..."""
    number: int
    """1, 2, 3 ... for the life of the run; never reused, never out of order."""
    received_at: int
    """Wall-clock nanoseconds; one stamp per read from the socket, so ties are normal."""
    stream: str | None = None
    """The subscription it belongs to, as the user wrote it; None if that is not known."""
    binary: bool = False
    """Whether it came as a binary message (RFC 6455 §5.6)."""

    def json(self) -> Any:
        """The payload parsed by orjson. Raises `orjson.JSONDecodeError` (a `ValueError`) if it is not JSON."""
        return orjson.loads(self.data)

    @property
    def text(self) -> str:
        """The payload as text. Raises `UnicodeDecodeError` if a binary message is not UTF-8."""
        return self.data.decode()

    def __repr__(self) -> str:
        stream = f", stream={self.stream!r}" if self.stream is not None else ""
        return f"Message({self.endpoint!r} #{self.number}, epoch {self.epoch}{stream}, {shortened(self.data)})"


@final
class Answer(NamedTuple):
    """The answer to a request, which is not delivered in the stream."""

    endpoint: str
    id: str
    """Id of the request, as text."""
    data: bytes
    """The whole message, as received."""
    epoch: int
    """Epoch of the owner that received it."""
    received_at: int
    """Wall-clock nanoseconds."""
    rtt: float
    """Seconds from the call to the answer."""

    def json(self) -> Any:
        """The answer parsed by orjson."""
        return orjson.loads(self.data)

    @property
    def text(self) -> str:
        """The answer as text."""
        return self.data.decode()

    def __repr__(self) -> str:
        return f"Answer({self.endpoint!r} {self.id!r}, epoch {self.epoch}, {self.rtt:.3f} s, {shortened(self.data)})"


@final
class Batch(Sequence[bytes], Public):
    """The messages of one read of one connection, as a sequence of payloads: the fast path of `Supervisor.batches()`.

    Number `first_number + i` belongs to item `i`. Immutable.
    """

    PUBLIC = frozenset(
        {"binary", "count", "endpoint", "epoch", "first_number", "index", "messages", "received_at", "streams"}
    )  # fmt: skip
    __slots__ = ("_payloads", "binary", "endpoint", "epoch", "first_number", "received_at", "streams")

    def __init__(
        self,
        endpoint: str,
        payloads: Sequence[bytes],
        *,
        epoch: int,
        first_number: int,
        received_at: int,
        binary: bool | Sequence[bool] = False,
        streams: Sequence[str | None] | None = None,
    ) -> None:
        self.endpoint = endpoint
        self.epoch = epoch
        self.first_number = first_number
        self.received_at = received_at
        self.binary = binary
        """Whether they came as binary messages: one answer for all, or one for each."""
        self.streams = streams
        """The subscription of each, or None where none is known."""
        self._payloads = payloads

    def __len__(self) -> int:
        return len(self._payloads)

    @overload
    def __getitem__(self, position: SupportsIndex) -> bytes: ...
    @overload
    def __getitem__(self, position: slice) -> list[bytes]: ...
    def __getitem__(self, position: SupportsIndex | slice) -> bytes | list[bytes]:
        return list(self._payloads[position]) if isinstance(position, slice) else self._payloads[index(position)]

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._payloads)

    def messages(self) -> list[Message]:
        """The same as `Message`s."""
        if len(self._payloads) == 1 and isinstance(self.binary, bool):  # as most batches of a quiet feed
            stream = None if self.streams is None else self.streams[0]
            return [
                Message(self.endpoint, self._payloads[0], self.epoch, self.first_number, self.received_at, stream, self.binary)
            ]
        return list(self.around(iter(self._payloads)))

    def around(self, payloads: Iterator[bytes]) -> Iterator[Message]:
        """Its messages, made of `payloads`, an iterator over all of its items. Each message is made when it is requested, by C
        code only: an interrupt can't take an item of `payloads` without returning its message."""
        streams = repeat(None) if self.streams is None else iter(self.streams)
        binaries = repeat(self.binary) if isinstance(self.binary, bool) else iter(self.binary)
        # `payloads` is asked before every other finite iterator: at its end nothing was taken from the others.
        values = zip(
            repeat(self.endpoint), payloads, repeat(self.epoch), count(self.first_number), repeat(self.received_at), streams,
            binaries, strict=False,
        )  # fmt: skip
        return cast("Iterator[Message]", map(tuple.__new__, repeat(Message), values))

    def part(self, begin: int, end: int | None = None) -> Batch:
        """The items from `begin` to `end` (exclusive; None: to the last one), with the numbers that they have here."""
        return Batch(
            self.endpoint,
            self._payloads[begin:end],
            epoch=self.epoch,
            first_number=self.first_number + begin,
            received_at=self.received_at,
            binary=self.binary if isinstance(self.binary, bool) else self.binary[begin:end],
            streams=self.streams and self.streams[begin:end],
        )

    def __repr__(self) -> str:
        first = f", {shortened(self._payloads[0])}" if self._payloads else ""
        more = ", ..." if len(self) > 1 else ""
        return f"Batch({self.endpoint!r}, {len(self)} messages from #{self.first_number}, epoch {self.epoch}{first}{more})"


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened, at its place between the messages."""

    endpoint: str
    """Empty if the event concerns the whole supervisor."""
    epoch: int
    at: int
    """Wall-clock nanoseconds."""

    @property
    def kind(self) -> str:
        """The name of the event in JSON: "up", "late_answer"."""
        return EVENT_NAMES[type(self)]

    def to_json(self) -> dict[str, Any]:
        """The event as a JSON object, as the output writes it."""
        said: dict[str, Any] = {"event": self.kind}
        for f in fields(self):
            value = getattr(self, f.name)
            if f.name in ("endpoint", "epoch") and not self.endpoint:
                continue
            if f.name in ("member", "live") and value is None:
                continue
            said[f.name] = value.to_json() if isinstance(value, Reason) else value
        return said


@final
@dataclass(frozen=True, slots=True)
class Started(Event):
    """The run began. The first item of a stream of the whole supervisor."""

    run: str
    """Unique in the world; (run, endpoint, number) names one message."""
    name: str
    """Name of the supervisor; empty if it has none."""
    version: str
    """Version of wsadapter."""


@final
@dataclass(frozen=True, slots=True)
class Up(Event):
    """A connection is open: the handshake is done, subscriptions follow."""

    subprotocol: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    """Headers of the handshake's response, names in lower case."""
    resumed: bool = False
    """True: the stream continues without loss. False, after an earlier `Up`: a `Gap` follows at once."""
    member: int | None = None
    """Which of the endpoint's replicas, from 1; None if there is only one connection."""
    live: int | None = None
    """How many replicas have a connection now, this one included; None if there is only one connection."""


@final
@dataclass(frozen=True, slots=True)
class Down(Event):
    """An epoch ended. There is exactly one per epoch, failed attempts included; nothing of the epoch follows it."""

    reason: Reason
    member: int | None = None
    """As in `Up`."""
    live: int | None = None
    """How many replicas still have a connection. If it is more than 0, nothing is missing."""


@final
@dataclass(frozen=True, slots=True)
class Gap(Event):
    """Messages were lost, or may have been lost: rebuild what you derive from this endpoint."""

    cause: str
    """One of `GAP_CAUSES`."""
    last_received_at: int | None
    """When the last message before it was received (wall-clock ns); None if there was none."""
    resumed_at: int | None
    """When messages are received again (wall-clock ns)."""
    expected: int | None = None
    """For a gap in the exchange's own numbers: the number that should have come; None if the numbers have no order."""
    got: int | None = None
    """... and the number that came: more than `expected` if messages are missing, less if one came twice or late."""
    stream: str | None = None
    """The subscription that is concerned, as in `Message`; None: it may be any of the connection."""


GAP_CAUSES: dict[str, str] = {
    "reconnected": "the connection was lost and a new one opened: what the peer sent in between is lost",
    "replaced": "the connection was changed as planned, and nothing shows that the new one continues the old one (in `stream`, "
    "if it is named): messages may be missing, or come twice",
    "lead_changed": "a replica was lost before another one was known to have all its messages: some may be missing or repeated",
    "host_lost": "another host of the cluster continues with the endpoint: messages that the peer sent in between are lost",
    "supervisor_restarted": "a new run continues the output of an older one",
    "journal": "a part of the journal cannot be read, or events were not written to it: what it held is not known",
    "sequence": "the exchange's own numbers do not follow each other (`stream`, `expected`, `got`)",
}
"""Every value of `Gap.cause`, with its meaning."""


@final
@dataclass(frozen=True, slots=True)
class Dropped(Event):
    """These messages were received and numbered, but will not be delivered."""

    first: int | None
    """Number of the first; None if they have no number (a decode hook failed)."""
    last: int | None
    count: int
    bytes: int
    """Payload bytes."""
    cause: str
    """One of `DROP_CAUSES`."""


DROP_CAUSES: dict[str, str] = {
    "overflow": "the consumer was too slow for `buffer.max_bytes`",
    "conflated": 'a newer message of the same key replaced them (`buffer.overflow = "conflate"`)',
    "decode": "the decode hook raised, or returned something other than bytes; the messages are in the quarantine",
    "poison": "owner after owner died while it parsed the message; its frames are in the quarantine, the connection continues",
    "removed": "the endpoint was removed while they waited",
    "memory": "there was not enough memory to write them to the output",
    "journal": "the journal could not keep them: its disk was full or too slow for `buffer`, or a part of it is damaged",
    "retention": "they were removed from the journal (`journal.retain`, `journal.retain_bytes`) before the consumer read them",
}
"""Every value of `Dropped.cause`, with its meaning."""


@final
@dataclass(frozen=True, slots=True)
class Subscribed(Event):
    """The peer confirmed a subscription."""

    stream: str


@final
@dataclass(frozen=True, slots=True)
class Rejected(Event):
    """The peer refused a subscription; with replicas, on every connection."""

    stream: str
    error: str


@final
@dataclass(frozen=True, slots=True)
class Restored(Event):
    """After an `Up`, every wanted subscription was requested and has been answered, or was not answered in time. With replicas:
    on one connection, if there was none before."""

    ok: int
    failed: tuple[str, ...] = ()
    """The streams that were refused or not answered."""


@final
@dataclass(frozen=True, slots=True)
class Stalled(Event):
    """A stream is silent for much longer than its own pace (`watchdog.stalled`), or was confirmed and has delivered nothing
    (`watchdog.live_timeout`). It is subscribed again. It does not mean that data are missing: only `Gap` and `Dropped` do."""

    stream: str | None
    silence: float
    """Seconds."""


@final
@dataclass(frozen=True, slots=True)
class Notice(Event):
    """The peer sent something that is no data and concerns no subscription or request of ours: an error, a request to
    reconnect, the beginning of a maintenance."""

    text: str
    """The peer's text; at most 1,000 characters."""


@final
@dataclass(frozen=True, slots=True)
class LateAnswer(Event):
    """The answer to a request that had timed out, or for which nobody waited any more."""

    id: str
    data: bytes

    def __repr__(self) -> str:
        return f"LateAnswer({self.endpoint!r} {self.id!r}, epoch {self.epoch}, {shortened(self.data)})"


@final
@dataclass(frozen=True, slots=True)
class ClockStep(Event):
    """The wall clock jumped; times before and after it cannot be compared."""

    delta: float
    """Seconds, positive for forward."""


@final
@dataclass(frozen=True, slots=True)
class Fatal(Event):
    """The endpoint gave up: retries can't fix the cause, or the settings ask for it. `restart()` starts it again."""

    reason: Reason


EVENT_NAMES: dict[type[Event], str] = {
    Started: "started",
    Up: "up",
    Down: "down",
    Gap: "gap",
    Dropped: "dropped",
    Subscribed: "subscribed",
    Rejected: "rejected",
    Restored: "restored",
    Stalled: "stalled",
    Notice: "notice",
    LateAnswer: "late_answer",
    ClockStep: "clock_step",
    Fatal: "fatal",
}
"""Every event class with its name in JSON."""

AnyEvent = (
    Started | Up | Down | Gap | Dropped | Subscribed | Rejected | Restored | Stalled | Notice | LateAnswer | ClockStep | Fatal
)
"""Each event class by name, so that a type checker knows when a `match` has a case for all of them (`typing.assert_never`)."""
Item = Message | AnyEvent
"""What iterating a supervisor yields."""
