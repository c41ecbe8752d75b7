"""Two more invented exchanges, from their own rules and not from anybody's dialect of them.

Quibble greets with a text that is no JSON. All it sends is binary and holds plain text; what is JSON is an array of messages,
also if it is only one. Every 200 ms it sends "Ping" and complains if no "Pong" comes within 500 ms; if nothing happens it
sends ".". Who wants to see orders solves a riddle first. One table is asked for in a frame, with all its coins; an unknown
coin refuses the table. The first frame of a client is put off. The answer repeats the table and holds the book of its first
coin. Coins are named by other words than clients use, in lower case. Each coin has a chain of names: `after` is the `id` of
the message before.

Throng answers nothing. A frame names all that a client wants, and replaces what it wanted before; an unknown code refuses the
frame and leaves what was wanted before.

All of it runs in the exchanges' own loops.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from collections.abc import Iterator
from typing import Any

from wsadapter.testing import Exchange

_RATE = 100
_ASKS_EVERY = _RATE // 5
"""Messages."""
_PATIENCE = 0.5
_SECRET = "tell-nobody"
_WORDS = {"BTC/EUR": "xbt/eur", "ETH/EUR": "eth/eur", "DOGE/EUR": "doge/eur"}
"""What clients call a coin = what Quibble calls it."""
_MUTE = "DOGE/EUR"
"""There are no changes of it."""


def array(*values: Any) -> bytes:
    return json.dumps(values, separators=(",", ":")).encode()


class Quibble:
    """For one client. What is wrong with it is in `complaints`."""

    def __init__(self) -> None:
        self.exchange = Exchange(
            messages=self._market, rate=_RATE, resume="continue", welcome=[b"at your service"], ack=self._answer,
            after_subscribe=True, tls=True,
        )  # fmt: skip
        self.complaints: list[str] = []
        self.heard: list[dict[str, Any]] = []
        """What clients sent, but for their answers to "Ping"."""
        self.pongs = 0
        self.left_out = 0
        """So many changes of each book are left out."""
        self._changes = 0
        self._asked_at: float | None = None
        self._put_off = False
        self._given: list[Any] = []
        self._accounts: set[str] = set()
        self._riddle = ""

    def _answer(self, frame: str | bytes) -> list[str | bytes] | None:
        if frame == "Pong":
            self.pongs += 1
            self._asked_at = None
            return None
        said = json.loads(frame)
        self.heard.append(said)
        match said["verb"]:
            case "knock":
                self._riddle = f"riddle of {said['key']}"
                return [array({"re": "riddle", "riddle": self._riddle})]
            case "enter":
                proof = hmac.new(_SECRET.encode(), self._riddle.encode(), hashlib.sha256).hexdigest()
                good = (said["riddle"], said["proof"]) == (self._riddle, proof)
                return [array({"re": "enter"} if good else {"re": "no", "why": "that is not the answer"})]
            case "mine":
                self._accounts.add(said["account"])
                return [array({"re": "mine", "tag": said["tag"]})]
            case "enough":
                self._given.remove(said["what"])
                return [array({"re": "enough", "tag": said["tag"]})]
        return [array(self._wanted(said["what"]))]

    def _wanted(self, what: dict[str, Any]) -> dict[str, Any]:
        unknown = [coin for coin in what["coins"] if coin not in _WORDS]
        if not self._put_off:
            self._put_off = True
            return {"re": "no", "what": what, "why": "One Moment, please"}
        if unknown:
            return {"re": "no", "what": what, "why": f"there is no {unknown[0]} here"}
        if what in self._given:
            return {"re": "no", "what": what, "why": "you have that"}
        self._given.append(what)
        book = {"on": "depth", "coin": _WORDS[what["coins"][0]], "id": self._name(self._changes), "book": [[1, 2]]}
        return {"re": "want", "what": what, **(book if what["coins"] != [_MUTE] else {})}

    def _name(self, number: int) -> str:
        return hashlib.sha256(b"%d" % number).hexdigest()[:12]

    def _market(self) -> Iterator[str | bytes]:
        for turn in range(1 << 30):
            if turn % _ASKS_EVERY == 0:
                yield self._ping()
            before, self._changes = self._changes, self._changes + 1
            if self.left_out:
                self.left_out -= 1
                continue
            change = {"id": self._name(self._changes), "after": self._name(before)}
            orders = [{"order": turn, "account": account} for account in self._accounts if turn % 10 == 0]
            coins = [_WORDS[coin] for what in self._given for coin in what["coins"] if coin != _MUTE]
            messages = [*({"on": "DEPTH", "coin": coin, **change} for coin in coins), *orders]
            yield array(*messages) if messages else b"."

    def _ping(self) -> bytes:
        now = time.monotonic()
        if not self._put_off:  # nobody listens yet
            return b"Ping"
        if self._asked_at is not None and now - self._asked_at > _PATIENCE:
            self.complaints.append("a Ping was not answered")
        self._asked_at = self._asked_at or now
        return b"Ping"


class Throng:
    """For one client."""

    CODES = frozenset({"A", "B", "C"})

    def __init__(self) -> None:
        self.exchange = Exchange(messages=self._market, rate=_RATE, resume="continue", ack=self._answer)
        self.sets: list[list[str]] = []
        """The sets that were asked for, in order."""
        self._set: list[str] = []

    def _answer(self, frame: str | bytes) -> list[str | bytes] | None:
        ticket, *codes = json.loads(frame)
        assert ticket["ticket"].startswith("t-")
        names = [code["code"] for code in codes]
        self.sets.append(names)
        unknown = [name for name in names if name not in self.CODES]
        if unknown:
            return [json.dumps({"error": {"name": "NO_CODES", "message": f"Code not found: {unknown[0]}"}})]
        self._set = names
        return None

    def _market(self) -> Iterator[str | bytes]:
        for turn in range(1 << 30):
            code = sorted(self._set)[turn % len(self._set)] if self._set else ""
            yield json.dumps({"code": code, "number": turn})
