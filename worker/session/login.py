"""The login of one connection. Pure; the clock is passed in.

    NOT_YET --start--> [CHALLENGED --its answer-->] [SIGNING --signed-->] ASKED --yes--> IN --renew_after--> RENEWING --> IN
                            |                            |                  |             |                     |
                            |                            |                  |             `--> as from the start |
                            `-------------- no, a hook that fails, nothing in time ------------------------------'--> OVER

Subscriptions wait for the first IN. FAILED is reported as `LoginFailed`. CHALLENGED is for exchanges whose challenge must be
signed; if the dialect has no frame after the challenge, the answer to the challenge completes the login. SIGNING is skipped if
the frame has no "$sign", and ASKED is skipped if the dialect has no [[login.ack]]. At `renew_after` the hook `renew` is
called; if there is no such hook, the whole login is repeated. If a renewal fails, the connection is still logged in, and is to
be replaced before the login expires.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Final

from wsadapter.contract.dialect.paths import MISSING, look_up, matches
from wsadapter.contract.dialect.templates import fill_in, needs_signature, number_in
from wsadapter.contract.dialect.text import Text
from wsadapter.contract.endpoint import Endpoint
from wsadapter.worker.masking import Secrets

TIMEOUT: Final = 10.0
"""Seconds for an answer, unless the dialect has a value."""


@dataclass(frozen=True, slots=True)
class ToSign:
    """A frame for the hook `sign`; the completed frame goes to `signed`."""

    frame: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ToSend:
    """A frame to send."""

    frame: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ToRenew:
    """The hook `renew` is to be called; its outcome goes to `renewed` or `failed`."""


@dataclass(frozen=True, slots=True)
class LoggedIn:
    """The peer accepted the login, which counts from `at` on. `first`: the first login of the connection, so subscriptions may
    be requested now."""

    at: float
    first: bool


@dataclass(frozen=True, slots=True)
class LoginFailed:
    """The login failed for the reason `text`. `first`: the connection was never logged in."""

    text: str
    first: bool


LoginStep = ToSign | ToSend | ToRenew | LoggedIn | LoginFailed


class _State(Enum):
    NOT_YET = auto()
    CHALLENGED = auto()
    SIGNING = auto()
    ASKED = auto()
    RENEWING = auto()
    IN = auto()
    FAILED = auto()


class _Rules:
    """The dialect's [login], with the endpoint's credentials; empty if the endpoint has no login."""

    def __init__(self, rules: Mapping[str, Any], endpoint: Endpoint) -> None:
        self.challenge = str(rules.get("challenge", ""))
        """The frame that asks for a challenge; empty: there is no challenge."""
        self.answer: Mapping[str, Any] = rules.get("answer", {})
        """`match`: the message with the challenge; `value`: the path of the challenge."""
        self.frame = str(rules.get("frame", ""))
        """The frame that logs in; empty: the challenge completes the login."""
        self.asks = bool(self.frame or self.challenge)
        self.acks = rules.get("ack", [])
        self.errors = rules.get("error", [])
        self.timeout = float(rules.get("timeout", TIMEOUT))
        self.renew_after = float(rules.get("renew_after", 0.0))
        self.renews_by_hook = bool(endpoint.hooks.get("renew"))
        self.words = {f"${need}": endpoint.login[need] for need in rules.get("needs", [])}
        self.fields = str(rules.get("subscribe", ""))
        """A template of fields that are added to every frame that subscribes."""


class Login:
    """Times are monotonic seconds, except `wall`. Not thread-safe."""

    def __init__(
        self,
        dialect: Mapping[str, Any] | None,
        endpoint: Endpoint,
        *,
        number: Callable[[], int],
        wall: Callable[[], float] = time.time,
        challenge: Any = None,
    ) -> None:
        """`number` returns the next "$id". `challenge`: the challenge that the peer sent to a previous owner on this
        connection; None: none is known."""
        rules: Mapping[str, Any] = (dialect or {}).get("login", {}) if endpoint.login else {}
        self._rules = _Rules(rules, endpoint)
        self.challenge: Any = challenge
        """The peer's last challenge, unchanged; None: there was none. It replaces the placeholder "$challenge"."""
        self.secrets = Secrets(endpoint.login.values())
        self.used = bool(rules)
        self._number, self._wall = number, wall
        self._state = _State.NOT_YET if self._rules.asks else _State.IN
        self._first = True
        self._asked_as = 0
        self._deadline: float | None = None

    @property
    def pending(self) -> bool:
        """True if nothing may be subscribed yet."""
        return self._first and self._state is not _State.IN

    @property
    def awaits_answer(self) -> bool:
        """True if a message may be the answer to the login."""
        return self._state in (_State.ASKED, _State.CHALLENGED)

    def fields(self) -> dict[str, Any]:
        """The fields that are added to every frame that subscribes, with "$sign" not filled in."""
        return self._filled(self._rules.fields) if self._rules.fields else {}

    def placeholders(self) -> dict[str, Any]:
        """The values of the placeholders of [login], except "$sign"; empty if the endpoint has no login."""
        return {**self._rules.words, "$challenge": self.challenge} if self.used else {}

    def _filled(self, template: str, number: int = 0) -> Any:
        return fill_in(template, number=number, wall=self._wall(), words=self.placeholders())

    def start(self, now: float, since: float | None = None) -> Iterator[LoginStep]:
        """Frames may be sent. `since`: a previous owner has been logged in on this connection since then."""
        known = not self._rules.challenge or self.challenge is not None
        if (since is not None and known) or self._state is _State.IN:
            yield self._in(now if since is None else since)
        else:
            yield from self._ask(now)

    def _ask(self, now: float) -> Iterator[LoginStep]:
        """Begins the login; the whole login has one timeout."""
        self._deadline = now + self._rules.timeout
        if not self._rules.challenge:
            yield from self._ask_to_log_in(now)
            return
        self._asked_as = self._number()
        self._state = _State.CHALLENGED
        yield ToSend(self._filled(self._rules.challenge, self._asked_as))

    def _challenged(self, value: Any, now: float) -> Iterator[LoginStep]:
        """The peer sent the challenge in `value`."""
        self.challenge = look_up(value, self._rules.answer["value"])
        if self.challenge is MISSING or self.challenge is None:
            self.challenge = None
            yield self.failed(f"the answer to the challenge has nothing at {self._rules.answer['value']!r}")
        elif self._rules.frame:
            yield from self._ask_to_log_in(now)
        else:
            yield self._in(now)

    def _ask_to_log_in(self, now: float) -> Iterator[LoginStep]:
        self._asked_as = self._number()
        frame = self._filled(self._rules.frame, self._asked_as)
        if needs_signature(frame):
            self._state = _State.SIGNING
            yield ToSign(frame)
        else:
            yield from self._sent(frame, now)

    def signed(self, frame: Mapping[str, Any], now: float) -> Iterator[LoginStep]:
        """The frame of the last `ToSign` is complete."""
        if self._state is _State.SIGNING:  # otherwise the timeout is over, and the login has failed
            yield from self._sent(frame, now)

    def _sent(self, frame: Mapping[str, Any], now: float) -> Iterator[LoginStep]:
        yield ToSend(frame)
        self._state = _State.ASKED
        if not self._rules.acks:
            yield self._in(now)

    def _in(self, since: float) -> LoggedIn:
        self._state = _State.IN
        self._deadline = since + self._rules.renew_after if self._rules.renew_after else None
        first, self._first = self._first, False
        return LoggedIn(since, first)

    def failed(self, text: str) -> LoginFailed:
        """The exchange or a hook refused the login, or did not answer in time. There is no second attempt on this
        connection."""
        self._state = _State.FAILED
        self._deadline = None
        return LoginFailed(text, self._first)

    def renewed(self, now: float) -> Iterator[LoginStep]:
        """The hook `renew` has returned."""
        if self._state is _State.RENEWING:
            yield self._in(now)

    def recognise(self, text: Text, now: float) -> list[LoginStep] | None:
        """What the answer to the login leads to; None: the message is not that answer."""
        if self._state is not _State.CHALLENGED:
            for rule in self._rules.acks:
                if self._is(rule, text.value):
                    return [self._in(now)]
        for rule in self._rules.errors:
            if self._is(rule, text.value):
                said = look_up(text.value, rule.get("text", ""))
                words = said if isinstance(said, str) and said else text.payload.decode()
                return [self.failed(self.secrets.mask(words))]
        if self._state is _State.CHALLENGED and matches(text.value, self._rules.answer["match"]):
            return list(self._challenged(text.value, now))
        return None

    def _is(self, rule: Mapping[str, Any], value: Any) -> bool:
        number = number_in(look_up(value, rule.get("id", "")))
        return matches(value, rule["match"]) and number in (None, self._asked_as)

    def deadline(self) -> float | None:
        """When to call `tick` next; None: not before another method was called."""
        return self._deadline

    def postpone(self, pause: float) -> None:
        """Nothing was read for `pause` seconds, so the answer may be among the unread bytes."""
        if self.awaits_answer and self._deadline is not None:
            self._deadline += pause

    def tick(self, now: float) -> Iterator[LoginStep]:
        """Time has passed."""
        if self._deadline is None or now < self._deadline:
            return
        if self._state is not _State.IN:
            what = "answered" if self.awaits_answer else "signed" if self._state is _State.SIGNING else "renewed"
            yield self.failed(f"not {what} within {self._rules.timeout:g} s")
        elif self._rules.renews_by_hook:
            self._state = _State.RENEWING
            self._deadline = now + self._rules.timeout
            yield ToRenew()
        elif self._rules.asks:
            yield from self._ask(now)
        else:
            self._deadline = None
