"""Every bundled dialect: the owner's subscriptions and the test exchange's, without sockets, whatever the exchange does.

Both sides read the same file. The clock is simulated; what a feed begins with is delivered at once.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from itertools import count, pairwise
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.support.conversation import DIALECTS, Client
from tests.support.markets import MARKETS, Market, Stream
from wsadapter.config.dialect import load_dialect
from wsadapter.contract.dialect.streams import Streams
from wsadapter.contract.dialect.text import Text
from wsadapter.contract.endpoint import Filter, Subscription
from wsadapter.contract.ipc.reports import Report
from wsadapter.testing.dialect.dialect_rules import DialectRules
from wsadapter.testing.dialect.overrides import Answering, Overrides, StreamRefusal, name_of
from wsadapter.testing.dialect.steps import Data, Disconnect, OpenFeed, Ping, SendFrame, Step, Violation
from wsadapter.testing.frames import PONG
from wsadapter.worker.session.housekeeping import Housekeeping
from wsadapter.worker.subscription.subscriptions import Subscriptions

ACK_TIMEOUT = 10.0
LIVE_TIMEOUT = 100.0
END = 400.0
"""Seconds: after the last retry of what is never answered, and before what was rejected is tried again."""
FEW = 3
"""Messages of each feed; the last one comes later than an answer ever does."""
LAST_AFTER = 30.0
REFUSAL = "unknown stream"


def depth(coin: str, number: int) -> dict[str, Any]:
    return {"on": "DEPTH", "coin": coin, "id": f"n{number}", "after": f"n{number - 1}"}


INVENTED: dict[str, Market] = {
    "quibble": Market(
        [
            Stream({"want": "depth", "coins": ["BTC/EUR", "ETH/EUR"]}, bool, lambda number: depth("xbt/eur", number)),
            Stream({"want": "orders", "account": "A1"}, bool, lambda number: {"order": number, "account": "A1"}),
        ],
        {"want": "depth", "coins": ["NOPE/EUR"]}, {"want": "depth", "coins": ["DOGE/EUR"]},
    ),
    "throng": Market(
        [Stream({"code": code}, bool, lambda number, code=code: {"code": code, "n": number}) for code in "AB"],
        {"code": "NOPE"}, {"code": "MUTE"},
    ),
}  # fmt: skip
"""Exchanges whose dialects use what those of the bundled ones do not."""
ALL = {**MARKETS, **INVENTED}
FILES = Path(__file__).parents[1] / "support" / "dialects"


@cache
def dialect_of(name: str) -> dict[str, Any]:
    return load_dialect(str(FILES / f"{name}.toml")) if name in INVENTED else DIALECTS[name]


class Meeting:
    """An owner's subscriptions and an exchange, from the handshake to `END`."""

    def __init__(
        self, name: str, market: Market, wanted: list[Subscription], overrides: Overrides, *, dies_after: float | None = None,
        end: float = END,
    ) -> None:  # fmt: skip
        """`dies_after`: after so many seconds another owner goes on with the connection; nothing is answered yet."""
        dialect = {key: table for key, table in dialect_of(name).items() if key not in ("limits", "answer", "ready")}
        dialect["error"] = [{**rule, "closes": False} for rule in dialect.get("error", ())]  # there is but one connection
        dialect |= {"heartbeat": {"kind": "none"}, "subscribe": {**dialect["subscribe"], "ack_timeout": ACK_TIMEOUT}}
        self.exchange = Client(dialect, overrides, market.messages())
        self._dialect = dialect
        self._upkeep = Housekeeping(dialect, lambda: 1)
        self._wanted = wanted
        self.owner, self.streams = self._owner()
        self.now = 10.0
        self.reports: list[Report] = []
        self.delivered: Counter[str] = Counter()
        self.undelivered: list[bytes] = []
        """Messages that belong to no stream, or were taken for answers."""
        self.unknown: list[bytes] = []
        """What is no data, and was not known for an answer."""
        self.notes: list[str] = []
        self.frames = 0
        self._coming: list[tuple[float, int, bytes, bool]] = []
        self._order = count()
        self._owner_does(self.owner.restore(wanted, self.now))
        if dies_after is not None:
            self.run(self.now + dies_after)
            self.owner, self.streams = self._owner(number=1 << 16)
            self.owner.inherit([], now=self.now)
            self._owner_does(self.owner.restore(wanted, self.now))
        self.run(end)

    def _owner(self, number: int = 0) -> tuple[Subscriptions, Streams]:
        owner = Subscriptions(self._dialect, number=number, live_timeout=LIVE_TIMEOUT, wall=lambda: 1_700_000_000.0)
        streams = Streams(self._dialect["stream"], Filter(), owner.channels)
        streams.add(self._wanted)
        return owner, streams

    def run(self, until: float) -> None:
        """Till then."""
        for _ in range(10_000):
            arrives = self._coming[0][0] if self._coming else until
            times = [
                arrives,
                *(time for time in (self.owner.deadline(), self.exchange.conversation.deadline()) if time is not None),
            ]
            self.now = max(self.now, min(times))
            if self.now >= until:
                return
            if arrives <= self.now:
                _, _, payload, data = heapq.heappop(self._coming)
                self._owner_gets(payload, data=data)
            self.exchange_does(self.exchange.conversation.tick(self.now))
            self._owner_does(self.owner.tick(self.now))
        raise AssertionError("it never comes to rest")

    def _owner_does(self, steps: Iterable[Any]) -> None:
        for step in steps:
            if isinstance(step, Report):
                self.reports.append(step)
            else:
                assert isinstance(step, bytes)
                self.frames += 1
                self.exchange_does(self.exchange.conversation.message(step.decode(), self.now))

    def exchange_does(self, steps: Iterable[Step]) -> None:
        for step in steps:
            match step:
                case SendFrame(frame):
                    self._send(orjson.dumps(frame), data=False)
                case Data(payload):
                    self._send(payload, data=True)
                case OpenFeed(feed, sent):
                    for place, payload in enumerate(self._feed(feed, sent)):
                        self._send(payload, data=True, after=LAST_AFTER if place == FEW - 1 else 0.0)
                case Violation(text):
                    self.notes.append(text)
                case Ping(payload):
                    self.exchange_does(self.exchange.conversation.control(PONG, payload, self.now))
                case Disconnect(_, reason):
                    raise AssertionError(reason)

    def _feed(self, feed: str, sent: Iterable[bytes]) -> list[bytes]:
        view = self.exchange.view
        own = [payload for payload in self.exchange.market.listed if view.feed_of(payload) == feed and payload not in sent]
        return [taken for payload in own[:FEW] if (taken := view.take(payload, feed)) is not None]

    def _send(self, payload: bytes, *, data: bool, after: float = 0.0) -> None:
        heapq.heappush(self._coming, (self.now + after, next(self._order), payload, data))

    def _owner_gets(self, payload: bytes, *, data: bool) -> None:
        text = Text(self.exchange.market.text(payload))
        if not data and self._upkeep.match_rule(text) is not None:
            return
        recognised = self.owner.recognise(text, self.now)
        if recognised is not None:
            self._owner_does(recognised[0])
            if data and not recognised[1]:
                self.undelivered.append(payload)
        if recognised is None or recognised[1]:
            stream = self.streams.find(text.value, text.payload)
            if stream is None:
                (self.undelivered if data else self.unknown).append(payload)
                return
            self.delivered[stream.name] += 1
            self._owner_does(self.owner.on_data(stream.name, self.now))

    def told(self, stream: Subscription) -> list[tuple[str, str]]:
        """What was reported of a stream, in order."""
        name = name_of(stream)
        return [(each.event, each.fields.get("error", "")) for each in self.reports if each.fields.get("stream") == name]


NAMED = StreamRefusal(REFUSAL, named=True)
SCENARIOS: dict[str, tuple[Answering, StreamRefusal]] = {
    "as the dialect suggests": (Answering(), StreamRefusal(REFUSAL)),
    "named": (Answering(), NAMED),
    "the whole frame, named": (Answering(), StreamRefusal(REFUSAL, whole=True, named=True)),
    "the whole frame, not named": (Answering(), StreamRefusal(REFUSAL, whole=True, named=False)),
    "late": (Answering(after=2.0), NAMED),
    "after the retry": (Answering(after=12.0), NAMED),
    "after the retry, repeats are refused": (Answering(repeats=True, after=12.0), NAMED),
    "twice": (Answering(times=2), NAMED),
    "in reverse order": (Answering(reverse=2), NAMED),
    "with answers to nobody": (Answering(strays=2), NAMED),
    "200 kB": (Answering(padding=200_000), NAMED),
    "later": (Answering(later=2), NAMED),
    "behind the data": (Answering(data_first=2), NAMED),
    "behind the data and after the retry": (Answering(data_first=2, after=12.0), NAMED),
}
"""How subscriptions are answered, and how one of them is refused."""


def meet(
    name: str, answering: Answering, refusal: StreamRefusal, *, dies_after: float | None = None, end: float = END
) -> tuple[Meeting, Market]:
    market, dialect_rules = ALL[name], DialectRules(dialect_of(name))
    one, other = (stream.subscribe for stream in market.streams)
    overrides = Overrides(
        rejected={name_of(part): refusal for part in dialect_rules.parts(market.bad)},
        silent={name_of(part) for part in dialect_rules.parts(market.mute)},
        answering=replace(answering),
    )
    return Meeting(name, market, [one, market.bad, other, market.mute], overrides, dies_after=dies_after, end=end), market


_SAY_WHOSE = {"id", "args", "stream", "fields", "whole_set"}


def is_told_in_time(name: str, scenario: str) -> bool:
    """Where nothing confirms, what is not refused within the time for an answer is taken for granted; where nothing is refused
    either, there is no answer at all. Where an answer does not say what it is about, one that is repeated, or comes after the
    retry, can't be told from that to the next frame."""
    (answering, _), dialect = SCENARIOS[scenario], dialect_of(name)
    if answering.later and not dialect.keys() & {"later", "error"}:
        return False
    acks = dialect.get("ack", [])
    if acks and all(_SAY_WHOSE.isdisjoint(rule) for rule in acks):
        return answering.after <= ACK_TIMEOUT and answering.times == 1
    return bool(acks) or not (answering.after > ACK_TIMEOUT or answering.reverse)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "scenario"),
    [(name, scenario) for name in sorted(ALL) for scenario in SCENARIOS if is_told_in_time(name, scenario)],
)
def test_every_stream_ends_as_the_exchange_says(name: str, scenario: str) -> None:
    confirms, refuses = "ack" in dialect_of(name), "error" in dialect_of(name)
    meeting, market = meet(name, *SCENARIOS[scenario])
    assert meeting.notes == []
    assert meeting.frames <= 30
    for stream in market.streams:
        assert [event for event, _ in meeting.told(stream.subscribe)] == ["subscribed"], meeting.reports
        assert meeting.delivered[name_of(stream.subscribe)] >= 1
    told = meeting.told(market.bad)
    assert {event for event, _ in told} == {"rejected" if refuses else "stalled"}, meeting.reports
    assert not refuses or REFUSAL in told[-1][1]
    assert all(one != other for one, other in pairwise(told))
    told_of_mute = [event for event, _ in meeting.told(market.mute)]
    restored = [report.fields for report in meeting.reports if report.event == "restored"]
    wanted = {"ok": 3, "failed": (name_of(market.bad),)} if refuses else {"ok": 4, "failed": ()}
    if confirms or "already" not in dialect_of(name):
        assert told_of_mute == ["subscribed"] * confirms + ["stalled"]
        assert restored == [wanted]
    else:  # what is asked for twice may be confirmed, and what is not refused in time is taken for granted
        assert told_of_mute in (["stalled"], ["subscribed", "stalled"])
        assert restored in ([wanted], [{"ok": 4, "failed": ()}])
    early = SCENARIOS[scenario][0].data_first + FEW - 1 if meeting.exchange.dialect_rules.replies.gives_channels else 0
    assert len(meeting.undelivered) <= 2 * early  # what a channel stands for is in the answer


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(ALL))
def test_the_answers_to_the_frames_of_a_dead_owner_are_no_data(name: str) -> None:
    meeting, market = meet(name, Answering(after=2.0), NAMED, dies_after=1.0)
    assert meeting.unknown == []
    assert meeting.undelivered == []
    for stream in market.streams:
        assert [event for event, _ in meeting.told(stream.subscribe)] == ["subscribed"], meeting.reports
    refuses = "error" in dialect_of(name)
    assert {event for event, _ in meeting.told(market.bad)} == {"rejected" if refuses else "stalled"}, meeting.reports


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in sorted(ALL) if {"ack", "error"} <= dialect_of(name).keys()])
def test_what_is_answered_after_it_was_given_up_ends_as_the_exchange_says_before_the_next_retry(name: str) -> None:
    """The exchange answers each frame after 25 s; what was given up at 20 s is asked for again at 80 s."""
    meeting, market = meet(name, Answering(after=25.0), StreamRefusal(REFUSAL), end=10.0 + 79.9)
    for stream in market.streams:
        assert [event for event, _ in meeting.told(stream.subscribe)] == ["rejected", "subscribed"], meeting.reports
    (_, error), (_, reason) = meeting.told(market.bad)
    assert "not answered" in error
    assert "not answered" not in reason
    assert meeting.frames <= 14


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in sorted(ALL) if "ack" in dialect_of(name)])
def test_what_delivers_without_an_answer_is_live_and_what_does_not_is_given_up(name: str) -> None:
    meeting, market = meet(name, Answering(times=0), NAMED)
    for stream in market.streams:
        told = [event for event, _ in meeting.told(stream.subscribe)]
        if meeting.exchange.dialect_rules.replies.gives_channels:  # which channel is its own would be in the answer
            assert told == ["rejected"]
        else:  # a frame that is refused as a whole, because of one stream, is not taken
            assert told in (["subscribed"], ["rejected", "subscribed"])
    for stream in (market.bad, market.mute):
        ((event, error),) = meeting.told(stream)
        assert event == "rejected"
        assert "not answered" in error


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in sorted(ALL) if "error" in dialect_of(name)])
def test_a_stream_that_is_revoked_is_rejected_if_the_error_names_it_by_a_field_and_told_otherwise(name: str) -> None:
    meeting, market = meet(name, Answering(), NAMED)
    before = len(meeting.reports)
    meeting.exchange_does(meeting.exchange.conversation.revoke(market.streams[0].subscribe, "delisted"))
    meeting.run(END + 1.0)
    (report,) = meeting.reports[before:]
    names = meeting.exchange.dialect_rules.dialect["error"][0].keys() & {"stream", "fields", "args"}
    assert report.event == ("rejected" if names else "peer_error")
    assert "delisted" in report.fields["error" if names else "text"]
