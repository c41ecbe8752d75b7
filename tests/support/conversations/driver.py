"""Drives a session through a conversation, see the package."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.support.conversations.script import Script
from wsadapter.config.dialect import apply_dialect, load_dialect
from wsadapter.contract.dialect.templates import sign, stream_name
from wsadapter.contract.endpoint import Endpoint
from wsadapter.contract.hooks import load_function
from wsadapter.contract.ipc.commands import Assignment
from wsadapter.contract.ipc.record import ANSWER
from wsadapter.contract.ipc.reports import ConnectionUp
from wsadapter.contract.reasons import Reason
from wsadapter.worker.hooks import Signing
from wsadapter.worker.hooks.sign_thread import Decoding
from wsadapter.worker.session.actions import Action, Deliver, Leave, Say, Send, Sign
from wsadapter.worker.session.json_array import split
from wsadapter.worker.session.session import Session
from wsadapter.worker.websocket.frames import TEXT, apply_mask
from wsadapter.worker.websocket.payload_codec import Unpacker, Unpacks
from wsadapter.worker.websocket.reader import Reader

_MOST_TURNS = 10_000
_WALL = 1_700_000_000.0
"""When a case's frames are signed."""


@dataclass
class Outcome:
    """What came out."""

    delivered: list[tuple[str, str]] = field(default_factory=list)
    """Text and stream of each message."""
    sent: list[str] = field(default_factory=list)
    events: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    down: Reason | None = None
    farewells: list[str] = field(default_factory=list)
    """What was sent from the moment on at which streams were not wanted any more."""

    def of(self, event: str, key: str) -> list[Any]:
        """What the reports of this kind say."""
        return [fields[key] for kind, fields in self.events if kind == event]


class Conversation:
    """One connection. `login` fills the dialect's [login]; what it signs is a made-up table or text, or, with `hooks`, what the
    dialect's own hook makes of it."""

    def __init__(self, case: Mapping[str, Any]) -> None:
        self._case = case
        dialect = load_dialect(case["dialect"])
        plain = Endpoint("x", dialect=case["dialect"], login=case.get("login", {}), **case.get("settings", {}))
        self.endpoint = apply_dialect(plain, dialect)
        assignment = Assignment(
            endpoint=self.endpoint, epoch=1, url="wss://x/", dialect=dialect, wanted=tuple(case.get("subscribe", ()))
        )
        self.session = Session(assignment, salt=1)
        self._packing = dialect.get("payload", {})
        self._reader = Reader(
            self.endpoint.max_message, unpacker=_unpacker(dialect), text_in_binary=bool(self._packing.get("text"))
        )
        self._streams: list[str] = [""]
        self._script = Script(case, dialect)
        self._coming: list[tuple[float, str]] = []
        """Answers that come later, with their times."""
        self._due: deque[str] = deque()
        """Answers that come when all that is sent now was sent."""
        self._carrying = False
        self.now = 0.0
        self.out = Outcome()

    def run(self) -> Outcome:
        """The whole of it."""
        self._carry_out(self.session.start(ConnectionUp({}, None), self.now))
        for text in self._case.get("welcome", ()):
            self._say(text)
        self._until_quiet()
        for what in self._case.get("sends", ()):
            if isinstance(what, int | float):
                self._until(self.now + what)
            else:
                self._say(what)
        self._until(self.now + self._case.get("wait", 0.0))
        if gone := self._case.get("unsubscribe"):
            sent = len(self.out.sent)
            self._carry_out(self.session.subscribing.unsubscribe(gone, self.now))
            self._until_quiet()
            self.out.farewells = self.out.sent[sent:]
        return self.out

    def _until_quiet(self) -> None:
        """Until nothing is unanswered, or a minute has gone."""
        self._until(self.now + 1.1)
        end = self.now + 60.0
        subscriptions, ending = self.session.subscribing.subscriptions, self.session.ending
        while (subscriptions.waiting or self._coming) and self.now < end and not ending.ended:
            self._until(self.now + 1.0)

    def _until(self, end: float) -> None:
        for _ in range(_MOST_TURNS):
            due = self.session.deadline()
            comes = min(self._coming, default=None)
            if comes is not None and comes[0] <= min(end, end if due is None else due):
                self._coming.remove(comes)
                self.now = max(self.now, comes[0])
                self._say(comes[1])
                continue
            if due is None or due > end or self.session.ending.ended:
                self.now = max(self.now, end)
                return
            self.now = max(self.now, due)
            self._carry_out(self.session.tick(self.now))
        raise AssertionError("it never comes to rest")

    def _say(self, text: str) -> None:
        if self.session.ending.ended:
            return
        batch = self._reader.feed(self._script.frame(text))
        self._carry_out(self.session.received(split(batch) if self._packing.get("split") else batch, self.now))

    def _carry_out(self, actions: Iterable[Action]) -> None:
        nested, self._carrying = self._carrying, True
        for action in list(actions):
            self._carry_out_one(action)
        if nested:
            return
        while self._due:
            self._say(self._due.popleft())
        self._carrying = False

    def _carry_out_one(self, action: Action) -> None:
        match action:
            case Send(frame):
                self._sent(frame)
            case Sign(frame):
                self._carry_out(self.session.subscribing.signed(self._signature(frame), self.now))
            case Say(report):
                self.out.events.append((report.event, report.fields))
                if report.event == "stream":
                    self._streams.append(str(report.fields["name"]))
            case Deliver():
                self._delivered(action)
            case Leave(reason):
                self.out.down = reason

    def _signature(self, frame: Mapping[str, Any]) -> dict[str, Any]:
        signature = self._case.get("signature", {"sign": "made up"})
        if self._case.get("hooks"):
            hook = load_function(self.endpoint.hooks["sign"], (), "hooks.sign")
            login, url = self.endpoint.login, self.endpoint.urls[0]
            signature = hook(Signing(endpoint="x", url=url, login=login, frame=frame, now=_WALL))
        signed: dict[str, Any] = sign(dict(frame), signature)
        return signed

    def _delivered(self, action: Deliver) -> None:
        for at in range(action.first, action.last):
            index = action.streams[at] if action.streams is not None else 0
            if at not in action.skipped and index != ANSWER:
                self.out.delivered.append((action.batch.payload(at).decode(), self._streams[index]))

    def _sent(self, frame: bytes) -> None:
        if frame[0] & 0x0F != TEXT:
            return
        text = payload_of(frame).decode()
        self.out.sent.append(text)
        for later, answer in self._script.answers(text):
            if later:
                self._coming.append((self.now + later, answer))
            else:
                self._due.append(answer)


def _unpacker(dialect: Mapping[str, Any]) -> Unpacks | None:
    hook = dialect.get("hooks", {}).get("decode")
    if hook:
        return Decoding(load_function(hook, (), "hooks.decode"))
    compression = dialect.get("payload", {}).get("compression")
    return Unpacker(compression) if compression else None


def payload_of(frame: bytes) -> bytes:
    size, at = frame[1] & 0x7F, 2
    if size == 126:
        size, at = int.from_bytes(frame[2:4], "big"), 4
    elif size == 127:
        size, at = int.from_bytes(frame[2:10], "big"), 10
    return apply_mask(frame[at + 4 : at + 4 + size], frame[at : at + 4])


def name_of(stream: Any) -> str:
    """A stream as messages name it."""
    return "" if stream == "" else stream_name(stream)
