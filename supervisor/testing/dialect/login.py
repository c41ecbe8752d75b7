"""The exchange's side of a login. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from wsadapter.contract.dialect.templates import needs_login
from wsadapter.testing.dialect.dialect_rules import DialectRules
from wsadapter.testing.dialect.overrides import Overrides
from wsadapter.testing.dialect.parse_request import Asked
from wsadapter.testing.dialect.steps import SendFrame, Step, Violation
from wsadapter.testing.dialect.understanding import Understood

_NO_LOGIN = "log in first"


class LoginCheck:
    """The login of one connection. Not thread-safe."""

    def __init__(self, dialect_rules: DialectRules, overrides: Overrides, challenge: str) -> None:
        """`challenge`: what a client has to sign, if the dialect has a challenge."""
        self._dialect_rules = dialect_rules
        self._overrides = overrides
        self._rules = dialect_rules.dialect.get("login", {})
        self._challenge = challenge
        self._by_kind = any(
            needs_login(kind["frame"], dialect_rules.dialect) for kind in dialect_rules.settings.get("kind", [])
        )
        """Whether only some streams need a login: their frames can't be made without one."""
        self._done = False

    def challenge(self, asked: Asked) -> Iterator[Step]:
        """A client asks for the challenge. If the dialect has no other login frame, that is the whole login."""
        if not self._rules.get("frame"):
            yield from self._decided(asked, self._overrides.login_refusal, self._dialect_rules.challenged(self._challenge))
            self._done = self._done and not self._rules.get("subscribe")  # which has to be in each frame
        else:
            yield SendFrame(self._dialect_rules.challenged(self._challenge), answer=True)

    def log_in(self, asked: Asked) -> Iterator[Step]:
        """A client logs in."""
        wrong = self.wrong_challenge(asked)
        if wrong:
            yield Violation(wrong)
        yield from self._decided(asked, self._overrides.login_refusal or wrong, self._dialect_rules.logged_in(asked, ""))

    def _decided(self, asked: Asked, refusal: str, yes: object) -> Iterator[Step]:
        self._done = not refusal
        answer = self._dialect_rules.logged_in(asked, refusal) if refusal else yes
        if answer is not None:
            yield SendFrame(answer, answer=True)

    def wrong_challenge(self, asked: Asked) -> str:
        """What is wrong with the challenge that a frame repeats; empty: nothing."""
        if asked.challenge in (None, self._challenge):
            return ""
        return f"the challenge is {self._challenge}, not {asked.challenge}"

    def refuses(self, frame: Understood) -> str:
        """Why a client may not subscribe by this frame; empty: it may."""
        wrong = self.wrong_challenge(frame.asked)
        free = not self._overrides.login_required or self._by_kind or frame.signed or self._done
        return wrong or ("" if free else _NO_LOGIN)
