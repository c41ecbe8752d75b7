"""The rules of a dialect, read from the exchange's side: what a client's frame asks for, and the frames to send. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from wsadapter.config.dialect import apply_dialect
from wsadapter.contract.dialect.paths import MISSING, look_up, matches
from wsadapter.contract.dialect.templates import number_in
from wsadapter.contract.endpoint import Endpoint, Subscription
from wsadapter.testing.dialect.answers import Answers
from wsadapter.testing.dialect.compose import compose, entries, fits, question
from wsadapter.testing.dialect.parse_request import Asked, Template
from wsadapter.testing.dialect.understanding import Understanding, channel_path

NOTICE: Final = "please reconnect"


class Expected:
    """How a client's answer to one [[answer]] rule looks. Immutable."""

    def __init__(self, rule: Mapping[str, Any]) -> None:
        self._text = rule.get("say")
        self._template = None if self._text is not None else Template(rule["frame"])

    def fits(self, text: str, value: Any, asked: Any) -> bool:
        """Whether a client's message answers the question `asked`. `value`: the message parsed."""
        if self._template is None:
            return text == self._text
        return self._template.read(value, asked) is not None


class DialectRules:
    """One dialect. Immutable."""

    def __init__(self, dialect: Mapping[str, Any]) -> None:
        """`dialect` as in dialects/README.md, checked."""
        self.dialect = dialect
        settled = apply_dialect(Endpoint("dialect"), dialect)
        self.heartbeat, self.limits = settled.heartbeat, settled.limits
        self.settings: Mapping[str, Any] = dialect["subscribe"]
        self.settle = float(dialect.get("connection", {}).get("settle", 0.0))
        self.understanding = Understanding(dialect, self.heartbeat)
        self.replies = Answers(dialect)
        """The answers to frames that subscribe and unsubscribe."""
        self.channel_path = channel_path(dialect)
        self.answers = [(rule, Expected(rule)) for rule in dialect.get("answer", [])]
        """Each [[answer]] rule, and how a client's answer looks."""
        self.beats = [rule for rule in dialect.get("housekeeping", []) if rule.get("heartbeat")]

    def welcome(self) -> Any | None:
        """A frame for the first [[ready]]; None: there is none."""
        rules = self.dialect.get("ready", [])
        return compose(rules[0], {}) if rules else None

    def notice(self) -> Any:
        """A frame for the first [[notice]] that asks for a new connection. Raises `LookupError` if there is none."""
        rules = [rule for rule in self.dialect.get("notice", []) if rule.get("reconnect", True)]
        if not rules:
            raise LookupError(f"the dialect {self.dialect['dialect']['name']} has no [[notice]]")
        return compose(rules[0], {rules[0]["text"]: NOTICE} if rules[0].get("text") else {})

    def question(self, rule: Mapping[str, Any], number: int) -> Any:
        """A frame that must be answered."""
        return question(rule, number)

    def challenged(self, challenge: str) -> Any:
        """The answer to a client that asks for a challenge."""
        rule = self.dialect["login"]["answer"]
        return compose(rule, {rule["value"]: challenge})

    def logged_in(self, asked: Asked, refusal: str) -> Any | None:
        """The answer to a login; `refusal` empty: yes. None: the dialect has none."""
        rules = self.dialect["login"].get("error" if refusal else "ack", [])
        if not rules:
            return None
        rule = rules[0]
        said: dict[str, Any] = {rule["id"]: asked.id} if rule.get("id") and asked.id is not None else {}
        if refusal:
            said[rule.get("text") or "error"] = refusal
        return compose(rule, said)

    def heartbeats(self) -> Iterator[Any]:
        """The exchange's own heartbeats, one of each kind."""
        return (compose(rule, {}) for rule in self.beats)

    def parts(self, stream: Subscription) -> list[Subscription]:
        """The parts of a stream that can be asked for by themselves. What an answer gives one channel is one part."""
        if self.replies.gives_channels:
            return self.replies.units(stream)
        return entries(stream, self.settings.get("parts", self.settings.get("acks_per", "")))

    # messages of a recording

    def is_data(self, text: bytes, value: Any) -> bool:
        """Whether a recorded message is data, not something for that client alone, nor a heartbeat."""
        dialect = self.dialect
        told = [rule for table in ("notice", "answer", "housekeeping", "ready") for rule in dialect.get(table, [])]
        if any(fits(rule, text, value) for rule in told):
            return False
        login = dialect.get("login", {})
        answers = [rule for table in ("already", "later", "error", "ack") for rule in dialect.get(table, [])]
        answers += [*login.get("error", []), *login.get("ack", []), *([login["answer"]] if "answer" in login else [])]
        return not any(fits(rule, text, value) and _is_answer(rule, value) for rule in answers)

    def carries_data(self, value: Any) -> bool:
        """Whether a recorded message is an answer that is data too."""
        rules = [rule for rule in self.dialect.get("ack", []) if "data" in rule and matches(value, rule["match"])]
        return any(look_up(value, rule["data"]) is not MISSING for rule in rules)

    def bound(self, value: Any) -> int | str | None:
        """The channel that a recorded answer gave a stream; None: it is no such answer."""
        rule = self.replies.ack
        if rule is None or "channel" not in rule or not matches(value, rule["match"]):
            return None
        channel = look_up(value, rule["channel"])
        return channel if isinstance(channel, int | str) else None


def _is_answer(rule: Mapping[str, Any], value: Any) -> bool:
    """Whether it may be an answer: a number below 0 belongs to no request, and some data differ from answers in that only."""
    found = look_up(value, rule.get("id", ""))
    number = None if found is MISSING else number_in(found)
    return number is None or number >= 0
