"""What one client has subscribed, and what its frames that subscribe and unsubscribe lead to. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from wsadapter.contract.endpoint import Subscription
from wsadapter.testing.dialect.client_view import ClientView
from wsadapter.testing.dialect.dialect_rules import DialectRules
from wsadapter.testing.dialect.overrides import Overrides, StreamRefusal, name_of
from wsadapter.testing.dialect.recorded_market import NO_DATA
from wsadapter.testing.dialect.steps import CloseFeed, Data, Disconnect, OpenFeed, SendFrame, Step, Violation
from wsadapter.testing.dialect.understanding import Meaning, Understood
from wsadapter.testing.dialect.verdict import FrameVerdict, RefusedUnit, Unit, judge, refusals, units_of

_NORMAL = 1000
Sent = dict[str, list[bytes]]
"""Feed = messages of it that were sent before it began."""
Begun = list[tuple[str, set[str], str]]
"""Each unit that is new: its name, the names of its parts, its feed."""


class ClientSubscriptions:
    """The subscriptions of one connection. Not thread-safe."""

    def __init__(self, dialect_rules: DialectRules, overrides: Overrides, view: ClientView, numbers: Iterator[int]) -> None:
        """`numbers` yields channels that no other stream of the exchange has."""
        self._dialect_rules, self._replies = dialect_rules, dialect_rules.replies
        self._overrides = overrides
        self._view = view
        self._numbers = numbers
        self.channels: dict[str, int] = {}
        """What a unit is called on this connection."""
        self._units: dict[str, Subscription] = {}
        """The units that have a channel, by name."""

    def frame(self, frame: Understood, size: int, wrong: str) -> Iterator[Step]:
        """A client's frame of `size` bytes. `wrong`: why this client may not subscribe; empty: it may."""
        answering = self._overrides.answering
        if frame.meaning is Meaning.UNSUBSCRIBE:
            yield from self._unsubscribe(frame)
        elif wrong := self._wrong(frame, size) or wrong:
            yield Violation(wrong)
            refused = [RefusedUnit(unit, unit, StreamRefusal(wrong)) for _, unit in units_of(frame, self._replies)]
            verdict = FrameVerdict(refused=refused, whole=not self._replies.each_refused)
            yield from self._say(frame, refusals(frame, verdict, self._replies))
        elif answering.later:
            answering.later -= 1
            units = [unit for _, unit in units_of(frame, self._replies)]
            yield from self._say(frame, self._replies.put_off(frame, units))
        else:
            yield from self._subscribe(frame)

    def revoke(self, stream: Subscription, text: str) -> Iterator[Step]:
        """End a stream that was confirmed, with an error; nothing if the client does not have the stream."""
        parts = [part for part in self._dialect_rules.parts(stream) if name_of(part) in self._view.current]
        if parts:
            yield SendFrame(self._view.numbered(self._replies.revoke(stream, text), composed=True))
            yield from self._shut(parts)
            self._forget(parts)

    def _say(self, frame: Understood, answers: Iterable[Any]) -> Iterator[SendFrame]:
        """Answers, as long as they are wanted."""
        sample = next(iter(frame.streams), None)
        stray = self._replies.stray(frame)
        for answer in answers:
            for _ in range(self._overrides.answering.strays if stray is not None else 0):
                yield SendFrame(self._view.numbered(stray, composed=True), answer=True)
            padded = self._replies.padded(answer, self._overrides.answering.padding, sample)
            yield SendFrame(self._view.numbered(padded, composed=True), answer=True)

    # what subscribes

    def _wrong(self, frame: Understood, size: int) -> str:
        """What a frame does that the dialect forbids."""
        settings = self._dialect_rules.settings
        longest, most = settings.get("max_frame", 0), settings.get("per_connection", 0)
        if frame.most and len(frame.streams) > frame.most:
            return f"{len(frame.streams)} streams in one frame, {frame.most} are allowed"
        if longest and size > longest:
            return f"a frame of {size} bytes, {longest} are allowed"
        fresh = {name_of(stream) for stream in frame.streams if not self._names(stream) <= self._view.current.keys()}
        kept = 0 if settings.get("replaces") else len(self._view.feeds)
        if most and kept + len(fresh) > most:
            return f"more than {most} streams on one connection"
        return ""

    def _names(self, stream: Subscription) -> set[str]:
        """Of its parts."""
        return set(map(name_of, self._dialect_rules.parts(stream)))

    def _subscribe(self, frame: Understood) -> Iterator[Step]:
        if any(not self._overrides.fatal.isdisjoint(self._names(stream)) for stream in frame.streams):
            yield Disconnect(_NORMAL, "")
            return
        verdict = judge(frame, self._dialect_rules, self._overrides, self._view.current)
        if verdict.unanswered:
            return
        yield from self._say(frame, refusals(frame, verdict, self._replies))
        if verdict.refused and self._replies.closes:
            yield Disconnect(_NORMAL, "")
            return
        replaces = bool(self._dialect_rules.settings.get("replaces")) and not verdict.refused
        if replaces:
            wanted = set().union(*(self._names(unit.unit) for unit in verdict.taken))
            yield from self._shut([part for name, part in self._view.current.items() if name not in wanted])
        if verdict.taken or replaces:
            yield from self._take(frame, verdict.taken)

    def _take(self, frame: Understood, taken: Sequence[Unit]) -> Iterator[Step]:
        for _, unit in taken:
            self._call(unit)
        begun = self._open(taken)
        sent: Sent = {feed: [] for _, _, feed in begun}
        yield from self._data_first(begun, sent)
        yield from self._say(frame, list(self._confirmations(frame, taken, begun, sent)))
        yield from (OpenFeed(feed, tuple(payloads)) for feed, payloads in sent.items())

    def _call(self, unit: Subscription) -> None:
        """The channel of a unit, if the dialect has channels."""
        name = name_of(unit)
        if self._replies.gives_channels and name not in self.channels:
            self.channels[name] = next(self._numbers)
            self._units[name] = unit

    def _open(self, taken: Sequence[Unit]) -> Begun:
        streams: dict[str, list[Subscription]] = {}
        for stream, unit in taken:
            streams.setdefault(name_of(stream), []).append(unit)
        named = {name_of(stream): stream for stream, _ in taken}
        feeds = {name: self._view.open(named[name], units, self.channels) for name, units in streams.items()}
        return [(name_of(unit), self._names(unit), feeds[name_of(stream)]) for stream, unit in taken if feeds[name_of(stream)]]

    def _data_first(self, begun: Begun, sent: Sent) -> Iterator[Data]:
        for _, parts, feed in begun:
            for payload in self._view.first_of(parts, self._overrides.answering.data_first):
                sent[feed].append(payload)
                if (data := self._view.take(payload, feed)) is not None:
                    yield Data(data)

    def _confirmations(self, frame: Understood, taken: Sequence[Unit], begun: Begun, sent: Sent) -> Iterator[Any]:
        answering = self._overrides.answering
        carry = {name: (parts, feed) for name, parts, feed in begun} if answering.with_data and not answering.data_first else {}
        units, current = [unit for _, unit in taken], list(self._view.current.values())
        for unit, answer in self._replies.confirm(frame, units, current, self.channels):
            about = units[0] if unit is None and len(units) == 1 else unit
            if about is None or name_of(about) not in carry:
                yield answer
                continue
            parts, feed = carry[name_of(about)]
            carried = self._view.carried(parts)
            sent[feed] += carried.messages
            yield answer if carried.value is NO_DATA else self._replies.with_data(frame, answer, carried.value)

    # what unsubscribes

    def _unsubscribe(self, frame: Understood) -> Iterator[Step]:
        units = self._ended(frame)
        if not units:
            what = frame.asked.parts or f"the channel {frame.asked.channel!r}"
            yield Violation(f"unsubscribes {what}, which it does not have")
            return
        yield from self._shut([part for unit in units for part in self._dialect_rules.parts(unit)])
        current = list(self._view.current.values())
        yield from self._say(frame, self._replies.confirm_ended(frame, units, current, self.channels))
        self._forget(units)

    def _ended(self, frame: Understood) -> list[Subscription]:
        if frame.asked.parts:  # they may not be all that the stream has
            return [part for part in self._view.current.values() if frame.asked.is_of(part)]
        if frame.asked.streams is not None:
            return [unit for _, unit in units_of(frame, self._replies)]
        return [self._units[name] for name, channel in self.channels.items() if channel == frame.asked.channel]

    def _forget(self, units: Iterable[Subscription]) -> None:
        """Their channels belong to no stream any more."""
        for name in map(name_of, units):
            self.channels.pop(name, None)
            self._units.pop(name, None)

    def _shut(self, parts: Iterable[Subscription]) -> Iterator[CloseFeed]:
        return map(CloseFeed, self._view.shut(parts))
