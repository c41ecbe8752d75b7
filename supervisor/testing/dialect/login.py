"""Who has logged in: the exchange's side of a login. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from wsadapter.contract.dialect.templates import needs_login
from wsadapter.testing.dialect.overrides import Orders
from wsadapter.testing.dialect.parse_request import Asked
from wsadapter.testing.dialect.rules import Speech
from wsadapter.testing.dialect.steps import Note, Say, Step
from wsadapter.testing.dialect.understanding import Understood

_NO_LOGIN = "log in first"


class Login:
    """That of one connection. Not thread-safe."""

    def __init__(self, speech: Speech, orders: Orders, challenge: str) -> None:
        """`challenge`: what a client has to sign, where the dialect wants that."""
        self._speech = speech
        self._orders = orders
        self._rules = speech.dialect.get("login", {})
        self._challenge = challenge
        self._by_kind = any(needs_login(kind["frame"], speech.dialect) for kind in speech.settings.get("kind", []))
        """Whether only some streams need a login: their frames can't be said without one."""
        self._done = False

    def challenge(self, asked: Asked) -> Iterator[Step]:
        """A client asks for the challenge. Where there is no other frame, that is all of the login."""
        if not self._rules.get("frame"):
            yield from self._decided(asked, self._orders.login_refusal, self._speech.challenged(self._challenge))
            self._done = self._done and not self._rules.get("subscribe")  # which has to be in each frame
        else:
            yield Say(self._speech.challenged(self._challenge), answer=True)

    def log_in(self, asked: Asked) -> Iterator[Step]:
        """A client logs in."""
        wrong = self.wrong_challenge(asked)
        if wrong:
            yield Note(wrong)
        yield from self._decided(asked, self._orders.login_refusal or wrong, self._speech.logged_in(asked, ""))

    def _decided(self, asked: Asked, refusal: str, yes: object) -> Iterator[Step]:
        self._done = not refusal
        answer = self._speech.logged_in(asked, refusal) if refusal else yes
        if answer is not None:
            yield Say(answer, answer=True)

    def wrong_challenge(self, asked: Asked) -> str:
        """What is wrong with the challenge that a frame repeats; empty: nothing."""
        if asked.challenge in (None, self._challenge):
            return ""
        return f"the challenge is {self._challenge}, not {asked.challenge}"

    def refuses(self, frame: Understood) -> str:
        """Why a client may not subscribe by this frame; empty: it may."""
        wrong = self.wrong_challenge(frame.asked)
        free = not self._orders.login_required or self._by_kind or frame.signed or self._done
        return wrong or ("" if free else _NO_LOGIN)
