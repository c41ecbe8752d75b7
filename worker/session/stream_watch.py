"""The streams of one connection: the stream of a message, missing sequence numbers, silent streams. Pure; the clock is passed
in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from wsadapter.contract.dialect.streams import Stream, Streams
from wsadapter.contract.dialect.templates import stream_name
from wsadapter.contract.dialect.text import UNKNOWN, Text
from wsadapter.contract.endpoint import Subscription
from wsadapter.contract.ipc.assignment import Assignment
from wsadapter.contract.ipc.reports import GapFound, PacesLearned, StreamNamed, StreamStalled
from wsadapter.worker.session.stalls import StallDetector

if TYPE_CHECKING:
    from wsadapter.worker.session.sequence import SequenceChecker


class StreamWatch:
    """Times are monotonic seconds. Not thread-safe. If the dialect has no [stream] rules, no message has a stream."""

    def __init__(self, assignment: Assignment, channels: Mapping[str, Subscription]) -> None:
        """`channels`: the subscription by its channel on this connection; the caller adds to the mapping as the peer assigns
        channels."""
        self._streams = _streams(assignment, channels)
        self.has_rules = self._streams is not None
        """The dialect has rules that find the stream of a message."""
        stalled = assignment.endpoint.watchdog.stalled
        self._stalls = StallDetector(stalled, assignment.paces) if stalled and self.has_rules else None
        self._sequences = _sequences(assignment)

    def of(self, text: Text) -> Stream | None:
        """The stream of a message; the text remembers the result."""
        if text.stream is UNKNOWN:
            text.stream = self._streams.find(text.value, text.payload) if self._streams is not None else None
        stream: Stream | None = text.stream
        return stream

    def named(self, stream: Stream) -> StreamNamed | None:
        """The report to write in front of the first message of a stream; None: there are no more indexes."""
        return self._streams.announce(stream) if self._streams is not None else None

    def may_count(self, data: bytes) -> bool:
        """A cheap test on the bytes of a read: false if `gap` would find nothing in its messages."""
        return self._sequences is not None and self._sequences.may_count(data)

    def gap(self, text: Text) -> GapFound | None:
        """The report to write in front of a message whose number does not follow; None: the number follows, or has no rule."""
        found = None if self._sequences is None else self._sequences.check(text, self._name_of)
        if found is None:
            return None
        stream = self.of(text)
        if not found.of_connection and stream is not None and not stream.wanted:
            return None
        return GapFound("sequence", None if found.of_connection else self._name_of(text), found.expected, found.got)

    def _name_of(self, text: Text) -> str | None:
        stream = self.of(text)
        return None if stream is None else stream.name

    def add(self, streams: list[Subscription]) -> None:
        """More streams are wanted."""
        if self._streams is not None:
            self._streams.add(streams)
        if self._stalls is not None:
            self._stalls.add(map(stream_name, streams))

    def remove(self, streams: list[Subscription]) -> None:
        """Fewer streams are wanted."""
        if self._stalls is not None:
            self._stalls.remove(map(stream_name, streams))

    def expect(self, names: Iterable[str], now: float) -> None:
        """The peer confirmed these streams: if the pace of a stream is known, it applies from now on."""
        if self._stalls is not None and self._streams is not None:
            found = [self._streams.named(name) for name in names]
            self._stalls.expect([stream for stream in found if stream is not None], now)

    def on_messages(self, streams: Iterable[Stream], now: float) -> None:
        """Messages of these streams came."""
        if self._stalls is not None:
            self._stalls.on_messages(streams, now)

    def pause(self) -> None:
        """Nothing is read for a while, so no stream counts as silent."""
        if self._stalls is not None:
            self._stalls.pause()

    def resume(self, now: float) -> None:
        """Reading continues."""
        if self._stalls is not None:
            self._stalls.resume(now)

    def deadline(self) -> float | None:
        """When to call `tick`; None: not before something happens."""
        return None if self._stalls is None else self._stalls.deadline()

    def is_due(self, now: float) -> bool:
        """True if it is time to call `stalled` and `learned`."""
        return self._stalls is not None and self._stalls.is_due(now)

    def stalled(self, now: float) -> tuple[list[StreamStalled], list[Subscription]]:
        """The reports on streams that are silent, and the streams to subscribe again. If that does not help, the next report is
        `hopeless`, and the supervisor opens a new connection."""
        reports: list[StreamStalled] = []
        again: list[Subscription] = []
        for stall in self._stalls.tick(now) if self._stalls is not None else ():
            reports.append(StreamStalled(stall.stream.name, stall.silence, stall.hopeless))
            if not stall.hopeless and self._streams is not None:
                again.append(self._streams.subscription(stall.stream))
        return reports, again

    def learned(self) -> PacesLearned | None:
        """The report on paces that have become known, or have grown, since the last call; None: there are none."""
        learned = {} if self._stalls is None else self._stalls.learned()
        return PacesLearned(learned) if learned else None


def _streams(assignment: Assignment, channels: Mapping[str, Subscription]) -> Streams | None:
    """None if the dialect has no [stream] rules: then no message is parsed to find its stream."""
    rules = (assignment.dialect or {}).get("stream")
    if rules is None:
        return None
    streams = Streams(rules, assignment.endpoint.filter, channels)
    streams.add(assignment.wanted)
    return streams


def _sequences(assignment: Assignment) -> SequenceChecker | None:
    """None if the dialect has no [[gap]] rules, or the endpoint has `gap_check = false`."""
    rules = (assignment.dialect or {}).get("gap")
    if not rules or not assignment.endpoint.gap_check:
        return None
    from wsadapter.worker.session.sequence import SequenceChecker  # most owners never need it

    return SequenceChecker(rules)
