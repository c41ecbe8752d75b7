"""An invented exchange, from its own rules and not from anybody's dialect of it:

It greets; then the client sets options. Feeds are opened by tables, up to three in one frame, and the answer lists those that
exist; where none does it refuses. What it sends is zlib in binary messages. Numbers are per pair: `before` is the `now` of the
message before; on opening the whole book comes, as of `now`. Every 200 ms it asks whether one is there, and complains of who
does not answer within 500 ms, or does not knock for a second. All of it runs in the exchange's own loop.
"""

from __future__ import annotations

import json
import time
import zlib
from collections.abc import Iterator
from typing import Any

from wsadapter.testing import Exchange

_RATE = 400
_ASKS_EVERY = _RATE // 5
"""Messages."""
_PATIENCE = 0.5
_KNOCKS = 1.0
_PAIRS = ("BTC~EUR", "ETH~EUR")


def text(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def packed(value: Any) -> bytes:
    return zlib.compress(text(value).encode())


class Zorblax:
    """What is wrong with its clients is in `complaints`."""

    def __init__(self) -> None:
        self.exchange = Exchange(
            messages=self._market, rate=_RATE, resume="continue", welcome=['{"hello":"zorblax"}'], ack=self._answer, tls=True
        )
        self.complaints: list[str] = []
        self.heard: list[str] = []
        """What clients wanted, in order; answers and knocks are not counted."""
        self.answers = self.knocks = 0
        self.deaf_to = ""
        """A pair whose opening is never answered."""
        self.left_out = 0
        """So many changes are left out."""
        self._sent = 100
        self._asked: tuple[int, float] | None = None
        self._knocked_at: float | None = None

    def _answer(self, frame: str | bytes) -> list[str | bytes] | None:
        said = json.loads(frame)
        match said["do"]:
            case "knock":
                self.knocks += 1
                self._knocked_at = time.monotonic()
                return ['{"did":"knock"}']
            case "yes":
                if self._asked is not None and said["token"] == self._asked[0] and isinstance(said["at"], int):
                    self.answers += 1
                    self._asked = None
                return None
        self.heard.append(said["do"])
        match said["do"]:
            case "open":
                return self._opened(said)
            case "order":
                bad = {} if said["size"] > 0 else {"because": ["no size"]}
                return [packed({"did": "order", "ref": said["ref"], **bad})]
            case _:
                return [text({"did": said["do"], "ref": said["ref"]})]

    def _opened(self, said: dict[str, Any]) -> list[str | bytes] | None:
        if any(feed["pair"] == self.deaf_to for feed in said["feeds"]):
            return None
        if len(said["feeds"]) > 3:
            self.complaints.append(f"{len(said['feeds'])} feeds in one frame")
        good = [feed for feed in said["feeds"] if feed["pair"] in _PAIRS]
        if not good:
            return [text({"did": "nothing", "ref": said["ref"], "because": ["no such pair"]})]
        book = packed({"k": "d", "about": {"pair": _PAIRS[0]}, "whole": True, "now": self._sent})
        books = [book] if any(feed["feed"] == "depth" for feed in good) else []
        return [text({"did": "open", "ref": said["ref"], "opened": good}), *books]

    def _market(self) -> Iterator[str | bytes]:
        """A generator is asked for the next message before that is due: what was sent is known when it is asked again."""
        for turn in range(1 << 30):
            if turn % _ASKS_EVERY == 0:
                yield self._question(turn)
            number = self._sent + 1
            if self.left_out:
                self.left_out -= 1
            else:
                yield packed({"k": "d", "about": {"pair": _PAIRS[0]}, "before": self._sent, "now": number})
            self._sent = number
            yield packed({"k": "t", "about": {"pair": _PAIRS[1]}, "trade": number})

    def _question(self, token: int) -> str:
        now = time.monotonic()
        if not self.exchange.connections:
            self.forget()
        elif self._asked is None:
            self._asked = token, now
        elif now - self._asked[1] > _PATIENCE:
            self.complaints.append("a question was not answered")
        if self._knocked_at is not None and now - self._knocked_at > _KNOCKS:
            self.complaints.append("nobody knocked")
        return text({"ask": "are_you_there", "token": token})

    def forget(self) -> None:
        """Another connection follows: what was asked on this one is nobody's to answer."""
        self._asked = self._knocked_at = None
