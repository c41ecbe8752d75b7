"""A client of a dialect's exchange without sockets: the frames that it sends, its waits, and the exchange's reactions."""

from __future__ import annotations

import itertools
import json
import tomllib
from collections.abc import Iterable
from typing import Any

from wsadapter.config.dialect import bundled, load_dialect
from wsadapter.contract.dialect.templates import fill
from wsadapter.testing.dialect.client_view import ClientView
from wsadapter.testing.dialect.conversation import Conversation
from wsadapter.testing.dialect.dialect_rules import DialectRules
from wsadapter.testing.dialect.heartbeats import terms
from wsadapter.testing.dialect.overrides import Overrides
from wsadapter.testing.dialect.recorded_market import Payload, RecordedMarket
from wsadapter.testing.dialect.steps import Data, Disconnect, OpenFeed, SendFrame, Step, Violation

DIALECTS = {name: load_dialect(name) for name in bundled()}


def invented(text: str) -> dict[str, Any]:
    """A dialect's TOML without what every file begins with. Not checked."""
    about = 'dialect = { name = "mine", title = "Mine", docs = "none" }\nurls = { live = "wss://example.com" }\n'
    return tomllib.loads(about + text)


class Client:
    """One end of a conversation."""

    def __init__(
        self, dialect: str | dict[str, Any], overrides: Overrides | None = None, messages: Iterable[Payload] = ()
    ) -> None:
        self.dialect_rules = DialectRules(DIALECTS[dialect] if isinstance(dialect, str) else dialect)
        self.overrides = overrides or Overrides()
        self.market = RecordedMarket(self.dialect_rules, messages)
        self.view = ClientView(self.dialect_rules, self.market, self.overrides)
        questions, beats = bool(self.dialect_rules.answers), bool(self.dialect_rules.beats)
        self.terms = terms(self.dialect_rules.heartbeat, questions=questions, beats=beats, pace=1.0, grace=1.0)
        self.conversation = self.opened()
        self.now = 10.0
        list(self.conversation.tick(self.now))

    def opened(self) -> Conversation:
        return Conversation(self.dialect_rules, self.terms, self.overrides, self.view, channels=itertools.count(1), now=0.0)

    def says(self, value: Any) -> list[Step]:
        text = value if isinstance(value, str) else json.dumps(value)
        self.now += 1.0
        return list(self.conversation.message(text, self.now))

    def subscribes(self, *streams: Any, key: str = "frame") -> list[Step]:
        return self.says(fill(self.dialect_rules.settings[key], streams, 7, 1.0, 1).decode())

    def gets(self, *messages: str) -> list[bytes]:
        """What of these messages of a feed it is sent."""
        return [taken for message in messages if (taken := self.view.take(message.encode(), None)) is not None]

    def waits(self, seconds: float) -> list[Step]:
        steps: list[Step] = []
        until = self.now + seconds
        while (deadline := self.conversation.deadline()) is not None and deadline <= until:
            if steps and isinstance(steps[-1], Disconnect):
                break
            self.now = deadline
            steps += self.conversation.tick(deadline)
        self.now = until
        return steps


def said(steps: Iterable[Step]) -> list[Any]:
    """The frames that it is sent, data of the feeds excepted."""
    return [step.frame for step in steps if isinstance(step, SendFrame)]


def opened(steps: Iterable[Step]) -> list[str]:
    """The feeds that begin."""
    return [step.feed for step in steps if isinstance(step, OpenFeed)]


def noted(steps: Iterable[Step]) -> list[str]:
    """The client's violations."""
    return [step.text for step in steps if isinstance(step, Violation)]


def sent(steps: Iterable[Step]) -> list[Any]:
    """The messages that come besides the feeds."""
    return [json.loads(step.payload) for step in steps if isinstance(step, Data)]
