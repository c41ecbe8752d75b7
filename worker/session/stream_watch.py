"""The streams of one connection: which stream a message belongs to, which numbers are missing, which stream is silent. Pure;
the clock is passed in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from wsadapter.contract.dialect.streams import Stream, Streams
from wsadapter.contract.dialect.templates import stream_name
from wsadapter.contract.dialect.text import UNKNOWN, Text
from wsadapter.contract.endpoint import Subscription
from wsadapter.contract.ipc.commands import Assignment
from wsadapter.contract.ipc.reports import GapFound, PacesLearned, StreamNamed, StreamStalled
from wsadapter.worker.session.stalls import Paces

if TYPE_CHECKING:
    from wsadapter.worker.session.sequence import Gaps


class StreamWatch:
    """Times are monotonic seconds. Not thread-safe. If the dialect can't tell streams, no message has a stream."""

    def __init__(self, assignment: Assignment, channels: Mapping[str, Subscription]) -> None:
        """`channels`: what stands for a subscription on this connection; the mapping changes as the peer says more."""
        self._streams = _streams(assignment, channels)
        self.tells = self._streams is not None
        """The dialect can tell streams."""
        stalled = assignment.endpoint.watchdog.stalled
        self._paces = Paces(stalled, assignment.paces) if stalled and self.tells else None
        self._gaps = _gaps(assignment)

    def of(self, text: Text) -> Stream | None:
        """The stream that a message belongs to. It is searched for once."""
        if text.stream is UNKNOWN:
            text.stream = self._streams.find(text.value, text.payload) if self._streams is not None else None
        stream: Stream | None = text.stream
        return stream

    def named(self, stream: Stream) -> StreamNamed | None:
        """What to report in front of the first message of a stream."""
        return self._streams.announce(stream) if self._streams is not None else None

    def may_count(self, data: bytes) -> bool:
        """A cheap test on all that was read at once: whether `gap` has to look at its messages."""
        return self._gaps is not None and self._gaps.may_count(data)

    def gap(self, text: Text) -> GapFound | None:
        """What to report in front of a message whose number does not follow."""
        found = None if self._gaps is None else self._gaps.check(text, self._name_of)
        if found is None:
            return None
        stream = self.of(text)
        if not found.whole and stream is not None and not stream.wanted:
            return None
        return GapFound("sequence", None if found.whole else self._name_of(text), found.expected, found.got)

    def _name_of(self, text: Text) -> str | None:
        stream = self.of(text)
        return None if stream is None else stream.name

    def want(self, streams: list[Subscription]) -> None:
        """More streams are wanted."""
        if self._streams is not None:
            self._streams.know(streams)
        if self._paces is not None:
            self._paces.want(map(stream_name, streams))

    def unwant(self, streams: list[Subscription]) -> None:
        """Fewer streams are wanted."""
        if self._paces is not None:
            self._paces.unwant(map(stream_name, streams))

    def expect(self, names: Iterable[str], now: float) -> None:
        """These streams are confirmed: those whose pace is known must keep it."""
        if self._paces is not None and self._streams is not None:
            found = [self._streams.named(name) for name in names]
            self._paces.expect([stream for stream in found if stream is not None], now)

    def heard(self, streams: Iterable[Stream], now: float) -> None:
        """Messages of these streams came."""
        if self._paces is not None:
            self._paces.heard(streams, now)

    def pause(self) -> None:
        """Nothing is read: no stream can be silent."""
        if self._paces is not None:
            self._paces.pause()

    def resume(self, now: float) -> None:
        """Reading goes on."""
        if self._paces is not None:
            self._paces.resume(now)

    def deadline(self) -> float | None:
        """When to call `tick`; None: not before something happens."""
        return None if self._paces is None else self._paces.deadline()

    def is_due(self, now: float) -> bool:
        """Whether `stalled` and `learned` have something to look at."""
        return self._paces is not None and self._paces.is_due(now)

    def stalled(self, now: float) -> tuple[list[StreamStalled], list[Subscription]]:
        """Which streams are silent, and which of them are to be subscribed anew. If that was no help, the supervisor makes a
        new connection."""
        reports: list[StreamStalled] = []
        again: list[Subscription] = []
        for stall in self._paces.tick(now) if self._paces is not None else ():
            reports.append(StreamStalled(stall.stream.name, stall.silence, stall.hopeless))
            if not stall.hopeless and self._streams is not None:
                again.append(self._streams.subscription(stall.stream))
        return reports, again

    def learned(self) -> PacesLearned | None:
        """The paces that are known now and were not before."""
        learned = {} if self._paces is None else self._paces.learned()
        return PacesLearned(learned) if learned else None


def _streams(assignment: Assignment, channels: Mapping[str, Subscription]) -> Streams | None:
    """None if the dialect can't tell streams: then messages are not looked into."""
    rules = (assignment.dialect or {}).get("stream")
    if rules is None:
        return None
    streams = Streams(rules, assignment.endpoint.filter, channels)
    streams.know(assignment.wanted)
    return streams


def _gaps(assignment: Assignment) -> Gaps | None:
    """None if the exchange's messages have no numbers that follow each other, or nobody wants them checked."""
    rules = (assignment.dialect or {}).get("gap")
    if not rules or not assignment.endpoint.gap_check:
        return None
    from wsadapter.worker.session.sequence import Gaps  # most owners never need it

    return Gaps(rules)
