"""Recognises answers to frames that subscribe, and their meaning: yes, no, or later. Pure.

The rules are [[already]], [[later]], [[error]] and [[ack]] of dialects/README.md, tried in this order. A message that contains
none of the rules' texts is never parsed for them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import Enum, auto
from typing import Any, Final, NamedTuple

from wsadapter.contract.dialect.fields import Fields
from wsadapter.contract.dialect.paths import MISSING, PRESENT, getter, look_up, matches
from wsadapter.contract.dialect.text import Text
from wsadapter.worker.subscription.names import WholeSet
from wsadapter.worker.subscription.prefilter import Prefilter, data_keys

THE_ANSWER: Final = "{}"
"""`whole_set`: the answer itself is the set."""
_PAUSE: Final = 1.0
_PLAIN: Final = re.compile(r"[A-Za-z0-9_ .:-]+")
_ALREADY: Final = ("already subscribed", "already been subscribed", "duplicate subscription", "duplicated subscription")
_LATER: Final = (
    "too many request", "request too many", "requests too many", "too many message", "too many visit", "too frequent",
    "too fast", "rate limit", "ratelimit", "rate exceeded", "msg rate", "message rate", "frequency limit", "throttled",
    "try again later", "retry later", "system busy", "server busy", "service busy", "temporarily unavailable",
)  # fmt: skip
"""Texts of exchanges that mean "later", in the form of `_plain`. An [[error]] with such a text is no refusal, also if the
dialect has no rule for it."""
_HUMP: Final = re.compile(r"(?<=[a-z])(?=[A-Z])")
_BETWEEN_WORDS: Final = re.compile(r"[\s_.-]+")


class Says(Enum):
    """The meaning of an answer."""

    YES = auto()
    NO = auto()
    LATER = auto()


_TABLES: Final = (("already", Says.YES), ("later", Says.LATER), ("error", Says.NO), ("ack", Says.YES))


class Paths:
    """The paths at which an answer names its subject. An empty path: the answer does not name it."""

    def __init__(self, table: Mapping[str, Any]) -> None:
        self.accepted: str = table.get("accepted", "")
        """The list of the streams that were accepted."""
        self.whole_set: str = table.get("whole_set", "")
        """The set of everything that is subscribed now; `THE_ANSWER`: the answer itself is the set."""
        self.args: str = table.get("args", "")
        """The arguments of the frame, repeated."""
        self.channel: str = table.get("channel", "")
        """The channel that later messages name instead of the stream."""
        self.id: str = table.get("id", "")
        """The number of the frame."""
        self.stream: str = table.get("stream", "")
        """The stream, or a list of streams."""
        self.data: str = table.get("data", "")
        """Data: an answer with a value there is delivered too."""


class Rule:
    """One rule of a dialect. Immutable."""

    def __init__(self, says: Says, table: Mapping[str, Any], *, confirms: bool) -> None:
        """`confirms`: an [[ack]]; the other tables have the form of errors."""
        self.says, self.confirms = says, confirms
        self.match: Mapping[str, Any] = table["match"]
        self._texts = tuple(text.lower() for text in table.get("says", ()))
        self._text = getter(table.get("text", ""))
        self.needle = _needle(self.match)
        self.pause = float(table.get("pause", _PAUSE))
        """Seconds until a frame is sent again after a "later"."""
        self.paths = Paths(table)
        self.fields = Fields(table["fields"]) if "fields" in table else None
        """Where an answer contains the values of a stream's keys; None: it does not."""
        self.closes = bool(table.get("closes"))
        """The peer closes the connection after such an answer."""
        self.template = ""
        """The template whose frames the answer is for, "frame" or "unsubscribe"; empty: either."""

    @property
    def confirms_unsubscribe(self) -> bool:
        """True if `match` shows that the rule is for answers to frames that unsubscribe."""
        return any("unsub" in f"{path} {value}".lower() for path, value in self.match.items())

    @property
    def names_streams(self) -> bool:
        """True if such an answer names its streams. Echoed arguments do not count: they are those of a frame."""
        return bool(self.paths.stream or self.paths.whole_set or self.fields is not None)

    def fits(self, value: Any) -> bool:
        """True if a parsed message matches the rule, apart from `says`."""
        return matches(value, self.match)

    def error(self, text: Text) -> str:
        """The text to report for an error: the text in the message, or the whole message."""
        said = self._text(text.value)
        return said if isinstance(said, str) and said else text.payload.decode(errors="replace")

    def has_expected_text(self, error: str) -> bool:
        """True if `error` contains one of the texts `says`, or the rule has none."""
        folded = error.lower() if self._texts else ""
        return not self._texts or any(one in folded for one in self._texts)

    def whole_set_in(self, value: Any) -> WholeSet:
        """Everything that is subscribed now, as an answer with `whole_set` lists it."""
        path = self.paths.whole_set
        return WholeSet(value if path == THE_ANSWER else look_up(value, path))

    def accepted_streams(self, value: Any) -> list[Any] | None:
        """The streams that an answer with `accepted` lists; None: there is no list, so the answer is about all streams."""
        listed = look_up(value, self.paths.accepted) if self.paths.accepted else None
        return listed if isinstance(listed, list) else None

    def has_data(self, value: Any) -> bool:
        """True if the answer is to be delivered too, because it contains data."""
        return bool(self.paths.data) and look_up(value, self.paths.data) is not MISSING


class Answer(NamedTuple):
    """A message that matches a rule."""

    rule: Rule
    says: Says
    error: str
    """Empty if an [[ack]] matched."""
    value: Any


class Rules:
    """The rules of one dialect. Immutable once made."""

    def __init__(self, dialect: Mapping[str, Any]) -> None:
        self._rules = [Rule(says, table, confirms=name == "ack") for name, says in _TABLES for table in dialect.get(name, [])]
        tells_apart = any(rule.confirms and rule.confirms_unsubscribe for rule in self._rules)
        for rule in self._rules:
            if rule.confirms and tells_apart and not (rule.paths.whole_set or rule.paths.accepted):
                rule.template = "unsubscribe" if rule.confirms_unsubscribe else "frame"
        self._needles = tuple({rule.needle for rule in self._rules})
        self._prefilter = Prefilter([rule.match for rule in self._rules], data_keys(dialect)) if "stream" in dialect else None
        """None: without [stream] messages are not parsed anyway, so the texts of the rules are searched in the bytes."""
        self.confirm = any(rule.confirms for rule in self._rules)
        """The exchange confirms subscriptions."""
        self.closes = any(rule.closes for rule in self._rules)
        """The exchange gives a reason if it closes a connection because of a stream."""
        self.answer_each = any(rule.confirms and rule.names_streams and not rule.paths.whole_set for rule in self._rules)
        """The exchange answers each stream of a frame separately."""

    def may_match(self, data: bytes) -> bool:
        """A cheap test on the bytes of a read: false if `match_rule` would match none of its messages."""
        if self._prefilter is not None:
            return bool(self._rules)
        return any(needle in data for needle in self._needles)

    def match_rule(self, text: Text) -> Answer | None:
        """The answer in a text message; None: the message matches no rule."""
        if self._prefilter is not None and not self._prefilter.may_match(text.value):
            return None
        for rule in self._rules:
            if rule.needle not in text.payload or not rule.fits(text.value):
                continue
            if rule.confirms:
                return Answer(rule, rule.says, "", text.value)
            error = rule.error(text)
            if rule.has_expected_text(error):
                return Answer(rule, _meaning(rule.says, error), error, text.value)
        return None


def _meaning(says: Says, error: str) -> Says:
    if says is not Says.NO:
        return says
    plain = _plain(error)
    if any(text in plain for text in _ALREADY):
        return Says.YES
    return Says.LATER if any(text in plain for text in _LATER) else Says.NO


def _plain(text: str) -> str:
    """The text in lower case with one space between words: exchanges write "Too many requests", TOO_MANY_REQUESTS,
    too-many-requests, too.many.requests and TooManyRequests."""
    return _BETWEEN_WORDS.sub(" ", _HUMP.sub(" ", text)).lower()


def _needle(match: Mapping[str, Any]) -> bytes:
    """A text that every message contains which matches `match`: the longest plain string, otherwise the longest key."""
    texts = [value for value in match.values() if isinstance(value, str) and value != PRESENT and _PLAIN.fullmatch(value)]
    keys = [key for path in match if _PLAIN.fullmatch(key := path.rpartition(".")[2]) and not key.lstrip("-").isdecimal()]
    chosen = max(texts or keys, key=len, default="")
    return f'"{chosen}"'.encode() if chosen else b""
