"""A client of a dialect's exchange without sockets: what it says and how it waits, and what the exchange does about it."""

from __future__ import annotations

import itertools
import json
import tomllib
from collections.abc import Iterable
from typing import Any

from wsadapter.config.dialect import bundled, load_dialect
from wsadapter.contract.dialect.templates import fill
from wsadapter.testing.dialect.client_view import Outlet
from wsadapter.testing.dialect.conversation import Talk
from wsadapter.testing.dialect.heartbeats import terms
from wsadapter.testing.dialect.overrides import Orders
from wsadapter.testing.dialect.recorded_market import Market, Payload
from wsadapter.testing.dialect.rules import Speech
from wsadapter.testing.dialect.steps import Data, Leave, Note, Open, Say, Step

DIALECTS = {name: load_dialect(name) for name in bundled()}


def invented(text: str) -> dict[str, Any]:
    """A dialect's TOML without what every file begins with. Not checked."""
    about = 'dialect = { name = "mine", title = "Mine", docs = "none" }\nurls = { live = "wss://example.com" }\n'
    return tomllib.loads(about + text)


class Client:
    """One end of a conversation."""

    def __init__(self, dialect: str | dict[str, Any], orders: Orders | None = None, messages: Iterable[Payload] = ()) -> None:
        self.speech = Speech(DIALECTS[dialect] if isinstance(dialect, str) else dialect)
        self.orders = orders or Orders()
        self.market = Market(self.speech, messages)
        self.outlet = Outlet(self.speech, self.market, self.orders)
        questions, beats = bool(self.speech.answers), bool(self.speech.beats)
        self.terms = terms(self.speech.heartbeat, questions=questions, beats=beats, pace=1.0, grace=1.0)
        self.talk = self.opened()
        self.now = 10.0
        list(self.talk.tick(self.now))

    def opened(self) -> Talk:
        return Talk(self.speech, self.terms, self.orders, self.outlet, channels=itertools.count(1), now=0.0)

    def says(self, value: Any) -> list[Step]:
        text = value if isinstance(value, str) else json.dumps(value)
        self.now += 1.0
        return list(self.talk.message(text, self.now))

    def subscribes(self, *streams: Any, key: str = "frame") -> list[Step]:
        return self.says(fill(self.speech.settings[key], streams, 7, 1.0, 1).decode())

    def gets(self, *messages: str) -> list[bytes]:
        """What of these messages of a feed it is sent."""
        return [taken for message in messages if (taken := self.outlet.take(message.encode(), None)) is not None]

    def waits(self, seconds: float) -> list[Step]:
        steps: list[Step] = []
        until = self.now + seconds
        while (deadline := self.talk.deadline()) is not None and deadline <= until:
            if steps and isinstance(steps[-1], Leave):
                break
            self.now = deadline
            steps += self.talk.tick(deadline)
        self.now = until
        return steps


def said(steps: Iterable[Step]) -> list[Any]:
    """The frames that it is sent, data of the feeds excepted."""
    return [step.frame for step in steps if isinstance(step, Say)]


def opened(steps: Iterable[Step]) -> list[str]:
    """The feeds that begin."""
    return [step.feed for step in steps if isinstance(step, Open)]


def noted(steps: Iterable[Step]) -> list[str]:
    """What it did wrong."""
    return [step.text for step in steps if isinstance(step, Note)]


def sent(steps: Iterable[Step]) -> list[Any]:
    """The messages that come besides the feeds."""
    return [json.loads(step.payload) for step in steps if isinstance(step, Data)]
