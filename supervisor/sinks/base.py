"""What a sink is: the interface, for the sinks of this package and for classes of the user's own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, NamedTuple, Protocol, Self

from wsadapter.contract.errors import WsAdapterError
from wsadapter.contract.items import AnyEvent, Batch
from wsadapter.journal.state import Progress, State

KINDS: Final[Mapping[str, str]] = {
    "unavailable": "the target could not be reached, or did not answer in time",
    "full": "the target has no space for more",
    "refused": "the target refused what it was given: rights, limits, a version that is too old",
    "other_writer": "another writer has written to the target: this one was refused by the target, and begins again behind it",
    "config": "the settings are wrong, or the library that the sink needs is not installed",
    "journal": "the journal cannot be read from the position of the sink on",
    "in_use": "another process of this sink did not end",
    "failed": "the class of the sink raised an error",
    "hung": "the sink reported nothing for a minute, and was killed",
    "crashed": "the process was ended by a signal (`signal`) or with an exit code other than 0 (`exit_code`)",
    "exited": "the process ended with exit code 0 without a report",
    "stopped": "stopped as asked",
}
"""Every kind of reason for which a sink process ends, with its meaning."""


class SinkError(WsAdapterError):
    """A sink cannot continue. Its process ends with this reason; the next process starts behind the position of the target."""

    kind = "failed"
    retry_after = 0.0
    """Seconds that the next process waits at least."""


class TargetUnavailable(SinkError):
    """The target could not be reached, or did not answer in time."""

    kind = "unavailable"


class TargetFull(SinkError):
    """The target has no space for more."""

    kind = "full"
    retry_after = 1.0


class TargetRefused(SinkError):
    """The target refused what it was given."""

    kind = "refused"
    retry_after = 10.0


class OtherWriter(SinkError):
    """Another writer has written to the target, so that the target refused this one."""

    kind = "other_writer"
    retry_after = 1.0


class SinkMisconfigured(SinkError):
    """The settings are wrong, or a library is not installed."""

    kind = "config"


class SinkInUse(SinkError):
    """Another process of this sink did not end."""

    kind = "in_use"
    retry_after = 1.0


class EndpointPosition(NamedTuple):
    """How far a sink has come with one endpoint."""

    seq: int
    """Place in the journal behind its last item in the target."""
    number: int
    """Of its last message; 0: none yet."""
    epoch: int
    at: int | None
    """When that message was received (wall-clock ns); None: there was none."""
    run: str
    """In which its last item was received."""


@dataclass(frozen=True, slots=True)
class Position:
    """How far a sink has come. To be stored with the data, in one transaction with the data if the target has transactions."""

    journal: str
    """Id of the journal."""
    run: str
    seq: int
    """Place in the journal: all items before it are in the target."""
    bytes: int
    """Payload bytes before it."""
    endpoints: Mapping[str, EndpointPosition] = field(default_factory=dict)
    """Of each endpoint its own place, which may be behind `seq`: then the items between are in the target too."""

    def to_json(self) -> dict[str, Any]:
        """The position as a JSON object."""
        endpoints = {name: list(each) for name, each in self.endpoints.items()}
        return {"journal": self.journal, "run": self.run, "seq": self.seq, "bytes": self.bytes, "endpoints": endpoints}

    @classmethod
    def from_json(cls, said: Any) -> Self:
        """The reverse of `to_json`. Raises `ValueError`."""
        try:
            endpoints = {str(name): EndpointPosition(*each) for name, each in said["endpoints"].items()}
            return cls(str(said["journal"]), str(said["run"]), int(said["seq"]), int(said["bytes"]), endpoints)
        except (TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"this is no position of a sink: {error!r}") from error

    def state(self) -> State:
        """Where a reader of the journal begins."""
        known = {name: Progress(each.number, each.epoch, each.at, up=False) for name, each in self.endpoints.items()}
        return State(self.run, self.seq, self.bytes, known)

    def with_endpoints(self, found: Mapping[str, EndpointPosition]) -> Position:
        """The position of a target that keeps one for each endpoint: `found`, for each endpoint of which it is further."""
        further = {name: each for name, each in found.items() if each.seq > self.seq}
        return replace(self, endpoints={**self.endpoints, **further})

    def ahead(self) -> dict[str, int]:
        """The places of the endpoints that are behind `seq`."""
        return {name: each.seq for name, each in self.endpoints.items() if each.seq > self.seq}


def position_of(journal: str, state: State) -> Position:
    """The position of a reader: all items before its place are in the target."""
    endpoints = {
        name: EndpointPosition(state.seq, progress.number, progress.epoch, progress.at, state.run)
        for name, progress in state.endpoints.items()
    }
    return Position(journal, state.run, state.seq, state.bytes, endpoints)


class SinkRecord(NamedTuple):
    """The messages of one read, or an event, as the journal has them."""

    item: Batch | AnyEvent
    begin: int
    """Place in the journal of its first item. An event that reports a loss of the journal takes no place."""
    end: int
    """Place behind its last item."""
    number: int
    """Of the last message of the endpoint up to its end."""
    run: str
    at: int
    """Wall-clock ns: when it was received, or happened."""

    @property
    def endpoint(self) -> str:
        """Empty: it concerns the whole supervisor."""
        return self.item.endpoint

    def part(self, begin: int, end: int) -> SinkRecord:
        """Some of its messages."""
        batch = self.item
        assert isinstance(batch, Batch)
        number = batch.first_number + end - 1
        return self._replace(item=batch.part(begin, end), begin=self.begin + begin, end=self.begin + end, number=number)


@dataclass(frozen=True, slots=True)
class SinkBatch:
    """What a sink writes at once: some records of the journal, in its order."""

    records: Sequence[SinkRecord]
    after: Position
    """The position when all records are durable."""
    segment: int
    """First place of the segment of the journal that has them. No batch has records of two segments."""

    def by_endpoint(self) -> dict[str, list[SinkRecord]]:
        """The records of each endpoint, in order."""
        found: dict[str, list[SinkRecord]] = {}
        for record in self.records:
            found.setdefault(record.endpoint, []).append(record)
        return found


class Sink(Protocol):
    """What the process of a sink writes to. One thread at a time calls it.

    A class of the user's own (`kind = "package.module:Class"`) is called with the name of the sink and its `options`:
    `Class(name: str, options: Mapping[str, str])`. It raises `SinkError`, or one of its subclasses, if it cannot continue: the
    process then ends, and another one begins with `open`. Any other exception counts as `failed`.
    """

    def open(self, position: Position) -> Position:
        """Connect to the target, and return the exact position that is durable there. The records behind that position are
        written next, so no record is lost and none is written twice.

        `position` is the last one of which the process knew, or the place to begin at. A target that cannot keep a position
        returns it unchanged: then the records since `position` was stored are written twice after a kill.
        """
        ...

    def write(self, batch: SinkBatch) -> None:
        """Write a batch. It may become durable later, in order."""
        ...

    def flush(self) -> None:
        """Make the written records durable. Called at the end of the journal, and at least every 200 ms."""
        ...

    @property
    def position(self) -> Position:
        """The position that is durable now."""
        ...

    def close(self) -> None:
        """Release the target; records that are not durable may be lost. Also called after an error."""
        ...


def halves(record: SinkRecord) -> Iterator[SinkRecord]:
    """A record of several messages in two."""
    assert isinstance(record.item, Batch)
    middle = len(record.item) // 2
    yield record.part(0, middle)
    yield record.part(middle, len(record.item))
