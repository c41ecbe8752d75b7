"""Drives a session by hand, and through a conversation, see the package."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

from tests.support.conversations.script import Script
from wsadapter.config.dialect import apply_dialect, load_dialect
from wsadapter.contract.dialect.templates import sign, stream_name
from wsadapter.contract.endpoint import Endpoint
from wsadapter.contract.hooks import load_function
from wsadapter.contract.ipc.assignment import Assignment
from wsadapter.contract.ipc.record import ANSWER
from wsadapter.contract.ipc.reports import ConnectionUp, Report
from wsadapter.contract.reasons import Reason
from wsadapter.worker.hooks import Signing
from wsadapter.worker.hooks.sign_thread import Decoding
from wsadapter.worker.session.actions import Action, Deliver, Disconnect, Notify, Send, Sign
from wsadapter.worker.session.json_array import split
from wsadapter.worker.session.session import Session
from wsadapter.worker.websocket.frames import TEXT, apply_mask
from wsadapter.worker.websocket.payload_codec import Unpacker, Unpacks
from wsadapter.worker.websocket.reader import Reader

_MOST_TURNS = 10_000
_WALL = 1_700_000_000.0
"""When a case's frames are signed."""


class SessionDriver:
    """A session with a clock that the caller sets: its actions are performed, and the peer's messages come from `answers`."""

    def __init__(self, assignment: Assignment, reader: Reader, *, splits: bool = False) -> None:
        """`splits`: a message of the peer is an array of several."""
        self.session = Session(assignment, salt=1)
        self.now = 0.0
        self.delivered: list[tuple[bytes, str]] = []
        """Each message with the name of its stream."""
        self.sent: list[str] = []
        self.reports: list[Report] = []
        self.down: Reason | None = None
        self._reader = reader
        self._splits = splits
        self._streams: list[str] = [""]
        self._coming: list[tuple[float, bytes]] = []
        """Answers that come later, with their times."""
        self._due: deque[bytes] = deque()
        """Answers that come when all that is sent now was sent."""
        self._carrying = False

    def answers(self, text: str) -> Iterable[tuple[float, bytes]]:
        """The peer's frames in answer to a frame of the session, each with the seconds after which it comes."""
        raise NotImplementedError

    def signature(self, frame: Mapping[str, Any]) -> Any:
        """The values that are filled into a login's frame."""
        raise NotImplementedError

    def start(self) -> None:
        self.carry_out(self.session.start(ConnectionUp({}, None), self.now))

    def receive(self, frame: bytes) -> None:
        if self.session.ending.ended:
            return
        batch = self._reader.feed(frame)
        self.carry_out(self.session.received(split(batch) if self._splits else batch, self.now))

    def until(self, end: float) -> None:
        """Everything that is due up to then."""
        for _ in range(_MOST_TURNS):
            due = self.session.deadline()
            comes = min(self._coming, default=None, key=itemgetter(0))
            if comes is not None and comes[0] <= min(end, end if due is None else due):
                self._coming.remove(comes)
                self.now = max(self.now, comes[0])
                self.receive(comes[1])
                continue
            if due is None or due > end or self.session.ending.ended:
                self.now = max(self.now, end)
                return
            self.now = max(self.now, due)
            self.carry_out(self.session.tick(self.now))
        raise AssertionError("the session never becomes idle")

    @property
    def awaits_answers(self) -> bool:
        """Whether the peer still has messages to send."""
        return bool(self._coming)

    def carry_out(self, actions: Iterable[Action]) -> None:
        nested, self._carrying = self._carrying, True
        for action in list(actions):
            self.carry_out_one(action)
        if nested:
            return
        while self._due:
            self.receive(self._due.popleft())
        self._carrying = False

    def carry_out_one(self, action: Action) -> None:
        match action:
            case Send(frame):
                self._send(frame)
            case Sign(frame):
                signed: dict[str, Any] = sign(dict(frame), self.signature(frame))
                self.carry_out(self.session.subscribing.signed(signed, self.now))
            case Notify(report):
                self.reports.append(report)
                if report.event == "stream":
                    self._streams.append(str(report.fields["name"]))
            case Deliver():
                self._deliver(action)
            case Disconnect(reason):
                self.down = reason

    def _deliver(self, action: Deliver) -> None:
        for at in range(action.first, action.last):
            index = action.streams[at] if action.streams is not None else 0
            if at not in action.skipped and index != ANSWER:
                self.delivered.append((action.read.payload(at), self._streams[index]))

    def _send(self, frame: bytes) -> None:
        if frame[0] & 0x0F != TEXT:
            return
        text = payload_of(frame).decode()
        self.sent.append(text)
        for later, answer in self.answers(text):
            if later:
                self._coming.append((self.now + later, answer))
            else:
                self._due.append(answer)


@dataclass
class Outcome:
    """The result of the conversation."""

    delivered: list[tuple[str, str]]
    """Text and stream of each message."""
    sent: list[str]
    reports: list[Report]
    down: Reason | None
    farewells: list[str]
    """The frames that were sent after streams were unsubscribed."""

    def of(self, event: str, key: str) -> list[Any]:
        """The fields of the reports of this kind."""
        return [report.fields[key] for report in self.reports if report.event == event]


class Conversation(SessionDriver):
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
        packing = dialect.get("payload", {})
        reader = Reader(self.endpoint.max_message, unpacker=_unpacker(dialect), text_in_binary=bool(packing.get("text")))
        super().__init__(assignment, reader, splits=bool(packing.get("split")))
        self._script = Script(case, dialect)

    def run(self) -> Outcome:
        """The whole conversation."""
        self.start()
        for text in self._case.get("welcome", ()):
            self.receive(self._script.frame(text))
        self._until_quiet()
        for what in self._case.get("sends", ()):
            if isinstance(what, int | float):
                self.until(self.now + what)
            else:
                self.receive(self._script.frame(what))
        self.until(self.now + self._case.get("wait", 0.0))
        sent = len(self.sent)
        if gone := self._case.get("unsubscribe"):
            self.carry_out(self.session.subscribing.unsubscribe(gone, self.now))
            self._until_quiet()
        delivered = [(data.decode(), stream) for data, stream in self.delivered]
        return Outcome(delivered, self.sent, self.reports, self.down, self.sent[sent:])

    def answers(self, text: str) -> Iterable[tuple[float, bytes]]:
        return ((later, self._script.frame(answer)) for later, answer in self._script.answers(text))

    def signature(self, frame: Mapping[str, Any]) -> Any:
        if not self._case.get("hooks"):
            return self._case.get("signature", {"sign": "made up"})
        hook = load_function(self.endpoint.hooks["sign"], (), "hooks.sign")
        login, url = self.endpoint.login, self.endpoint.urls[0]
        return hook(Signing(endpoint="x", url=url, login=login, frame=frame, now=_WALL))

    def _until_quiet(self) -> None:
        """Until no request is unanswered, or a minute has passed."""
        self.until(self.now + 1.1)
        end = self.now + 60.0
        subscriptions, ending = self.session.subscribing.subscriptions, self.session.ending
        while (subscriptions.waiting or self.awaits_answers) and self.now < end and not ending.ended:
            self.until(self.now + 1.0)


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
