"""What a dialect says, read from the exchange's side: what a client's frame asks for, and the frames to answer with. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from enum import Enum, auto
from typing import Any, Final, NamedTuple

import orjson

from wsadapter.config.dialect import apply_dialect
from wsadapter.contract.dialect.fields import as_text
from wsadapter.contract.dialect.paths import MISSING, look_up, matches
from wsadapter.contract.dialect.templates import number_in, stream_name
from wsadapter.contract.endpoint import Endpoint, Subscription
from wsadapter.testing.dialect.compose import compose, entries, question
from wsadapter.testing.dialect.inverse import Asked, Template

NOTICE: Final = "please reconnect"
Channels = Mapping[str, int]
"""What this connection calls a stream, or an entry of one that is answered by itself: name = number."""


class Meaning(Enum):
    """What a client's frame is for."""

    HEARTBEAT = auto()
    ON_UP = auto()
    LOGIN = auto()
    SUBSCRIBE = auto()
    UNSUBSCRIBE = auto()
    UNKNOWN = auto()


class Understood(NamedTuple):
    """A client's frame."""

    meaning: Meaning
    asked: Asked = Asked()
    signed: bool = False
    """It carries what `[login] subscribe` puts into each frame."""


class Speech:
    """One dialect. Immutable."""

    def __init__(self, dialect: Mapping[str, Any]) -> None:
        """`dialect` as in dialects/README.md, checked."""
        self.dialect = dialect
        settled = apply_dialect(Endpoint("dialect"), dialect)
        self.heartbeat, self.limits = settled.heartbeat, settled.limits
        self.settings: Mapping[str, Any] = dialect["subscribe"]
        self.settle = float(dialect.get("connection", {}).get("settle", 0.0))
        login = dialect.get("login", {})
        secrets = login.get("needs", ())
        self._login = Template(login["frame"], secrets) if login.get("frame") else None
        fields = dialect.get("stream", {}).get("fields", {}).keys()
        self._asking: list[tuple[Template, Meaning, bool]] = []
        """What a frame that names streams may look like, what it means, and whether it is signed."""
        for signature in [login["subscribe"], ""] if login.get("subscribe") else [""]:
            for key, meaning in (("unsubscribe", Meaning.UNSUBSCRIBE), ("frame", Meaning.SUBSCRIBE)):
                if text := self.settings.get(key):
                    template = Template(text, secrets, signature=signature, fields=fields)
                    self._asking.append((template, meaning, bool(signature)))
        self._on_up = [Template(rule["frame"]) for rule in dialect.get("on_up", [])]
        self.answers = [(rule, Template(rule["frame"])) for rule in dialect.get("answer", [])]
        """Each [[answer]] rule, and how a client's answer looks."""
        self.beats = [rule for rule in dialect.get("housekeeping", []) if rule.get("heartbeat")]
        acks = dialect.get("ack", [])
        of_unsubscribing = [rule for rule in acks if _is_of_unsubscribing(rule)]
        of_subscribing = [rule for rule in acks if not _is_of_unsubscribing(rule)]
        self.ack: Mapping[str, Any] | None = next(iter(of_subscribing), None)
        """The first that can speak of a subscription; None: nothing is answered."""
        self._unack: Mapping[str, Any] | None = next(iter([*of_unsubscribing, *of_subscribing]), None)
        self.error: Mapping[str, Any] | None = next(iter(dialect.get("error", [])), None)

    # what a client says

    def understand(self, text: str, value: Any) -> Understood:
        """A client's text frame; `value` is it parsed, None where it is no JSON."""
        payload = self.heartbeat.payload
        if payload and (text == payload or (self.heartbeat.kind == "json" and value == orjson.loads(payload))):
            return Understood(Meaning.HEARTBEAT)
        if any(template.read(value) for template in self._on_up):
            return Understood(Meaning.ON_UP)
        if self._login and (asked := self._login.read(value)):
            return Understood(Meaning.LOGIN, asked)
        for template, meaning, signed in self._asking:
            if asked := template.read(value):
                return Understood(meaning, asked, signed)
        return Understood(Meaning.UNKNOWN)

    # what an exchange says

    def welcome(self) -> Any | None:
        """A frame for the first [[ready]]; None where there is none."""
        rules = self.dialect.get("ready", [])
        return compose(rules[0], {}) if rules else None

    def notice(self) -> Any:
        """A frame for the first [[notice]]. Raises `LookupError` where there is none."""
        rules = self.dialect.get("notice", [])
        if not rules:
            raise LookupError(f"the dialect {self.dialect['dialect']['name']} has no [[notice]]")
        return compose(rules[0], {rules[0]["text"]: NOTICE} if rules[0].get("text") else {})

    def question(self, rule: Mapping[str, Any], number: int) -> Any:
        """A frame that must be answered."""
        return question(rule, number)

    def logged_in(self, asked: Asked, refusal: str) -> Any | None:
        """The answer to a login; `refusal` empty: yes. None: the dialect has none."""
        rules = self.dialect["login"].get("error" if refusal else "ack", [])
        if not rules:
            return None
        said = _named(rules[0], asked)
        if refusal:
            said[rules[0].get("text") or "error"] = refusal
        return compose(rules[0], said)

    def heartbeats(self) -> Iterator[Any]:
        """The exchange's own heartbeats, one of each kind."""
        return (compose(rule, {}) for rule in self.beats)

    @property
    def gives_channels(self) -> bool:
        """Whether answers say what stands for a stream from then on."""
        return self.ack is not None and "channel" in self.ack

    @property
    def answers_each(self) -> bool:
        """Whether each stream of a frame gets an answer of its own: otherwise the frame as a whole does."""
        return self.ack is not None and ("stream" in self.ack or "fields" in self.ack)

    @property
    def lists_accepted(self) -> bool:
        """Whether the answer to a frame lists what was taken of it."""
        return self.ack is not None and "accepted" in self.ack

    @property
    def refuses_each(self) -> bool:
        """Whether one stream of a frame can be refused: otherwise the frame as a whole is."""
        return self.error is not None and "id" not in self.error

    def entries(self, stream: Subscription) -> list[Subscription]:
        """A stream as its parts that are answered one by one."""
        return entries(stream, self.settings.get("acks_per", ""))

    def acknowledgements(
        self, asked: Asked, taken: Sequence[Subscription], current: Sequence[Subscription], channels: Channels
    ) -> Iterator[Any]:
        """The frames that say yes to `taken`; `current` is all that is subscribed now."""
        if self.ack is not None:
            yield from self._answers(self.ack, asked, taken, current, channels)

    def farewells(
        self, asked: Asked, left: Sequence[Subscription], current: Sequence[Subscription], channels: Channels
    ) -> Iterator[Any]:
        """The frames that confirm that streams are unsubscribed."""
        if self._unack is not None:
            yield from self._answers(self._unack, asked, left, current, channels)

    def _answers(
        self,
        rule: Mapping[str, Any],
        asked: Asked,
        streams: Sequence[Subscription],
        current: Sequence[Subscription],
        channels: Channels,
    ) -> Iterator[Any]:
        each = "stream" in rule or "fields" in rule or "channel" in rule
        for some in [[stream] for stream in streams] if each else [list(streams)]:
            parts = self.entries(some[0]) if some else [None]
            for part in parts:
                said = _named(rule, asked, part)
                if "accepted" in rule:
                    said[rule["accepted"]] = some
                if "whole_set" in rule:
                    said[rule["whole_set"]] = list(current)
                if "channel" in rule and part is not None and stream_name(part) in channels:
                    said[rule["channel"]] = channels[stream_name(part)]
                yield compose(rule, said, stream_name(some[0]) if some else 1)

    def refusals(self, asked: Asked, refused: Mapping[str, tuple[Subscription, str]]) -> Iterator[Any]:
        """The frames that say no: name = stream and what to say."""
        if self.error is None:
            return
        for stream, text in refused.values():
            for part in self.entries(stream):
                said = _named(self.error, asked, part)
                named = "id" in said or self.error.keys() & {"stream", "fields"}
                where = self.error.get("text")
                if where:
                    said[where] = text if named else f"{text}: {_words(stream)}"
                yield compose(self.error, said)
            if not self.refuses_each:
                return

    # what an exchange said in a recording

    def is_data(self, text: bytes, value: Any) -> bool:
        """Whether a recorded message is data, not something said to that client alone, nor a heartbeat."""
        dialect = self.dialect
        told = [rule for table in ("notice", "answer", "housekeeping", "ready") for rule in dialect.get(table, [])]
        if any(rule.get("contains", "").encode() in text and matches(value, rule["match"]) for rule in told):
            return False
        login = dialect.get("login", {})
        answers = [*dialect.get("error", []), *dialect.get("ack", []), *login.get("error", []), *login.get("ack", [])]
        return not any(matches(value, rule["match"]) and _is_answer(rule, value) for rule in answers)

    def bound(self, value: Any) -> int | str | None:
        """The channel that a recorded answer gave a stream; None where it is no such answer."""
        rule = self.ack
        if rule is None or "channel" not in rule or not matches(value, rule["match"]):
            return None
        channel = look_up(value, rule["channel"])
        return channel if isinstance(channel, int | str) else None


def _is_of_unsubscribing(rule: Mapping[str, Any]) -> bool:
    return any("unsub" in f"{path} {value}" for path, value in rule["match"].items())


def _named(rule: Mapping[str, Any], asked: Asked, stream: Subscription | None = None) -> dict[str, Any]:
    """How an answer says what it is about, by path."""
    said: dict[str, Any] = {}
    if rule.get("id") and asked.id is not None:
        said[rule["id"]] = asked.id
    if rule.get("stream") and stream is not None:
        said[rule["stream"]] = stream
    for key, paths in rule.get("fields", {}).items():
        if isinstance(stream, Mapping) and key in stream:
            said[paths if isinstance(paths, str) else paths[0]] = stream[key]
    return said


def _words(value: Any) -> str:
    """All that a stream says, for an error that names it in no other way."""
    if isinstance(value, Mapping):
        return " ".join(map(_words, value.values()))
    if isinstance(value, list | tuple):
        return " ".join(map(_words, value))
    return as_text(value)


def _is_answer(rule: Mapping[str, Any], value: Any) -> bool:
    """A number below 0 is nobody's: data may look like answers but for that."""
    found = look_up(value, rule.get("id", ""))
    number = None if found is MISSING else number_in(found)
    return number is None or number >= 0
