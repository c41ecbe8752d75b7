"""Requests without a process: answers recognised in the owner, and every end that one can come to in the supervisor."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, cast

import orjson
import pytest

from tests.support.fakes import RESUME, FakeProcess
from tests.support.rawserver import server_frame
from tests.support.snapshots import transferred
from wsadapter.config.dialect import apply_dialect, load_dialect
from wsadapter.contract.dialect.text import Text
from wsadapter.contract.endpoint import Endpoint
from wsadapter.contract.endpoint import Request as Rules
from wsadapter.contract.errors import (
    DuplicateRequest,
    NotConnected,
    NotSent,
    OutcomeUnknown,
    RequestRejected,
    SendFailed,
    UsageError,
)
from wsadapter.contract.ipc import commands
from wsadapter.contract.ipc.assignment import Assignment
from wsadapter.contract.ipc.commands import Command, RequestCommand
from wsadapter.contract.ipc.record import ANSWER, BATCH, Record
from wsadapter.contract.ipc.reports import AnswerFollows, ConnectionUp
from wsadapter.contract.items import Event, LateAnswer
from wsadapter.endpoint.owner_commands import OwnerCommands
from wsadapter.endpoint.requests import Pending
from wsadapter.endpoint.requests import Requests as Book
from wsadapter.handoff.held_connection import Resumption
from wsadapter.loop.reactor import Reactor
from wsadapter.process.owner_process import OwnerProcess
from wsadapter.status import EndpointState
from wsadapter.worker.session.actions import Action, Deliver, Notify
from wsadapter.worker.session.requests import Requests
from wsadapter.worker.session.session import Session
from wsadapter.worker.websocket.byte_stream import PlainByteStream
from wsadapter.worker.websocket.frames import BINARY, TEXT
from wsadapter.worker.websocket.reader import Reader
from wsadapter.worker.websocket.sender import Sender

# -- in the owner: which message is an answer ----------------------------------------------------------------------------


def said(requests: Requests, payload: bytes) -> Any:
    report = requests.recognise(Text(payload))
    return None if report is None else (report.event, report.fields["id"], report.fields["rejected"])


@pytest.mark.parametrize(
    ("payload", "known"),
    [
        (b'{"jsonrpc":"2.0","id":1,"result":{}}', "1"),
        (b'{"id" : "1"}', "1"),
        (b'{"data":[{"id":7},{"id":8}],"id":1}', "1"),
        (b'{"id":"\\u00fc"}', "ü"),
        ('{"id":"ü"}'.encode(), "ü"),
        (b'{"id":18446744073709551615}', "18446744073709551615"),
    ],
)
def test_an_answer_is_known_by_its_id_whatever_its_type(payload: bytes, known: str) -> None:
    requests = Requests(Rules(), ["1", "ü", "18446744073709551615"])
    assert said(requests, payload) == ("answer", known, False)
    assert said(requests, payload) is None, "the second one is none"


@pytest.mark.parametrize(
    "payload",
    [
        b'{"id":2}', b'{"data":{"id":1}}', b'{"method":"x"}', b'"id":1', b'{"id":1.0}', b'{"id":true}', b'["id",1]',
        b'{"text":"\\"id\\":1"}', b'\xff"id":1', b'{"id":"\xff"}', b'{"id":"\\q"}', b"",
    ],
)  # fmt: skip
def test_a_message_that_only_resembles_an_answer_is_no_answer(payload: bytes) -> None:
    assert said(Requests(Rules(), ["1"]), payload) is None


@pytest.mark.parametrize(
    ("rules", "payload", "rejected"),
    [
        (Rules(), b'{"id":1,"error":{"code":1}}', True),
        (Rules(), b'{"id":1,"error":null}', False),
        (Rules(), b'{"id":1,"error":[]}', False),
        (Rules(error=""), b'{"id":1,"error":{"code":1}}', False),
        (Rules(success={"code": "0"}), b'{"id":"1","code":"0"}', False),
        (Rules(success={"code": "0"}), b'{"id":"1","code":"1"}', True),
        (Rules(success={"code": "0"}), b'{"id":"1"}', True),
        (Rules(id="payload.id", answer_id="header.id"), b'{"header":{"id":1}}', False),
    ],
)
def test_a_rejection_is_one_by_the_rules(rules: Rules, payload: bytes, rejected: bool) -> None:
    assert said(Requests(rules, ["1"]), payload) == ("answer", "1", rejected)


@pytest.mark.parametrize(
    ("dialect", "answer", "rejection"),
    [
        (
            "binance",
            b'{"id":"a","status":200,"result":{"orderId":12569099453}}',
            b'{"id":"a","status":400,"error":{"code":-2010,"msg":"Account has insufficient balance"}}',
        ),
        (
            "bybit",
            b'{"reqId":"a","retCode":0,"retMsg":"OK","op":"order.create","data":{"orderId":"x"}}',
            b'{"reqId":"a","retCode":10001,"retMsg":"params error","op":"order.create","data":{}}',
        ),
        (
            "okx",
            b'{"id":"a","op":"order","data":[{"sCode":"0"}],"code":"0","msg":""}',
            b'{"id":"a","op":"order","data":[],"code":"60013","msg":"Invalid args"}',
        ),
        (
            "kraken",
            b'{"method":"add_order","req_id":"a","result":{"order_id":"x"},"success":true}',
            b'{"method":"add_order","req_id":"a","error":"EOrder:Insufficient funds","success":false}',
        ),
    ],
)
def test_what_the_exchanges_answer(dialect: str, answer: bytes, rejection: bytes) -> None:
    rules = apply_dialect(Endpoint("x", dialect=dialect), load_dialect(dialect)).request
    assert said(Requests(rules, ["a"]), answer) == ("answer", "a", False)
    assert said(Requests(rules, ["a"]), rejection) == ("answer", "a", True)


def test_request_settings_of_the_user_override_the_dialect() -> None:
    endpoint = Endpoint("x", dialect="bybit", request={"id_type": "int", "timeout": 3})
    rules = apply_dialect(endpoint, load_dialect("bybit"), given={"request.error"}).request
    assert (rules.id, rules.id_type, rules.error, rules.timeout) == ("reqId", "int", "error", 3)
    assert apply_dialect(Endpoint("x"), load_dialect("bybit")).request.id_type == "text"


# -- in the session: an answer in its place ------------------------------------------------------------------------------


def started(**settings: Any) -> Session:
    endpoint = Endpoint("feed", url="ws://feed.example/", **settings)
    session = Session(Assignment(endpoint=endpoint, epoch=1, url="ws://x/"), salt=1)
    session.start(ConnectionUp({}, None), 0.0)
    return session


def received(session: Session, stream: bytes) -> list[Action]:
    return session.received(Reader(1 << 20).feed(stream), 1.0)


def test_an_answer_stands_in_its_place_marked_and_announced() -> None:
    session = started()
    assert session.inspector.expect("1")
    stream = b"".join(server_frame(TEXT, text) for text in (b"before", b'{"id":1}', b"behind"))
    before, announced, answer = received(session, stream)
    assert isinstance(before, Deliver)
    assert (before.first, before.last) == (0, 1)
    assert isinstance(announced, Notify)
    assert announced.report == AnswerFollows("1", rejected=False)
    assert isinstance(answer, Deliver)
    assert (answer.first, answer.last) == (1, 3)
    assert answer.streams == [0, ANSWER, 0]


def test_a_binary_answer_is_one_too() -> None:
    session = started()
    session.inspector.expect("1")
    announced, answer = received(session, server_frame(BINARY, b'{"id":1}'))
    assert isinstance(announced, Notify)
    assert isinstance(answer, Deliver)


def test_a_read_is_inspected_only_while_an_answer_may_be_in_it() -> None:
    session, reader = started(), Reader(1 << 20)
    assert session.try_fast_path(reader.feed(server_frame(TEXT, b'{"id":1}')), 1.0)
    session.inspector.expect("1")
    assert session.try_fast_path(reader.feed(server_frame(TEXT, b'{"trade":1}')), 1.0)
    assert not session.try_fast_path(reader.feed(server_frame(TEXT, b'{"id":2}')), 1.0)
    session.inspector.forget(["1"])
    assert session.try_fast_path(reader.feed(server_frame(TEXT, b'{"id":1}')), 1.0)


def test_a_request_with_the_number_of_an_unanswered_subscription_is_refused() -> None:
    endpoint = Endpoint("feed", url="ws://feed.example/")
    assignment = Assignment(endpoint=endpoint, epoch=1, url="ws://x/", dialect=load_dialect("binance"), wanted=("a@trade",))
    session = Session(assignment, salt=1)
    session.start(ConnectionUp({}, None), 0.0)
    assert not session.inspector.expect("1")
    received(session, server_frame(TEXT, b'{"result":null,"id":1}'))
    assert session.inspector.expect("1")


# -- in the sender: what is not sent any more ----------------------------------------------------------------------------


class Taking(PlainByteStream):
    """Takes everything, and notes it."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []

    def send(self, sealed: memoryview) -> int:
        self.sent.append(bytes(sealed))
        return len(sealed)


def test_a_queued_request_can_be_withdrawn() -> None:
    channel = Taking()
    sender = Sender(channel, pace=1.0)
    for ref, frame in ((1, b"one"), (2, b"two"), (3, b"three")):
        sender.put(frame, ref=ref)
    assert list(sender.flush(0.0)) == [1]
    assert [sender.withdraw(ref) for ref in (1, 2, 2, 9)] == [False, True, False, False]
    assert list(sender.flush(1.0)) == [3]
    assert channel.sent == [b"one", b"three"]


def test_a_request_past_its_deadline_is_not_begun() -> None:
    channel = Taking()
    sender = Sender(channel, pace=1.0)
    for ref, frame in ((1, b"one"), (2, b"two"), (3, b"three")):
        sender.put(frame, ref=ref, until=1.0 if ref == 2 else 9.0)
    assert list(sender.flush(0.0)) == [1]
    assert list(sender.flush(1.0)) == [3]
    assert (sender.overdue(), sender.overdue()) == ([2], [])
    assert channel.sent == [b"one", b"three"]


# -- in the supervisor: every end ----------------------------------------------------------------------------------------


class Desk:
    """A link and its owner, as far as requests see them."""

    name = "a"
    epoch = 1
    state: EndpointState = "up"

    def __init__(self, reactor: Reactor) -> None:
        self.owner = FakeProcess()
        self.events: list[Event] = []
        self.commands = OwnerCommands()
        self.commands.send_to(cast("OwnerProcess", self.owner))
        self.book = Book(self, self.commands, reactor, self.events.append)
        self._reactor = reactor

    @property
    def posted(self) -> list[RequestCommand]:
        """The requests that the owner was sent."""
        bodies = [body for kind, _, body in self.owner.sent if kind == commands.REQUEST]
        return [RequestCommand.decode(cast("bytes", body)) for body in bodies]

    @property
    def told(self) -> list[tuple[int, int, Any]]:
        """The commands about requests that the owner was sent."""
        return [sent for sent in self.owner.sent if sent[0] in (commands.WITHDRAW, commands.FORGET)]

    def reply(self, kind: int, ref: int, **body: Any) -> None:
        self.commands.on_command(Command(kind, ref, orjson.dumps(body)))

    def begun(self, ref: int) -> None:
        self.reply(commands.BEGUN, ref)

    def taken(self, ref: int) -> None:
        self.reply(commands.TAKEN, ref)

    def nothing(self, ref: int) -> None:
        """It is silent."""

    def refused(self, ref: int, fate: str, text: str) -> None:
        self.reply(commands.REFUSED, ref, fate=fate, text=text)

    def owner_gone(self, resumption: Resumption | None, *, replies_read: bool) -> None:
        self.commands.owner_gone()
        self.book.owner_gone(resumption, replies_read=replies_read)

    def request(self, payload: Any = None, timeout: float | None = 60.0, **rules: Any) -> Pending:
        pending = Pending(self._reactor, "a")
        self.book.request(pending, {} if payload is None else payload, Rules(**rules), timeout)
        return pending

    def answer(self, known: str, data: bytes = b"yes", *, rejected: bool = False) -> None:
        self.book.announce(known, rejected=rejected)
        assert self.book.take_answers(record(data, streams=[ANSWER])) is None

    def run_until(self, pending: Pending) -> None:
        assert self._reactor.run_until(pending.done, 5.0)


def record(*payloads: bytes, streams: list[int]) -> Record:
    return Record(BATCH, 1, 5, 0, 0, 0, len(payloads), payloads, sum(map(len, payloads)), False, streams, b"")


def resumption(*, sent: int = 0, completing: int = 0) -> Resumption:
    return Resumption(None, replace(RESUME, ref=completing), b"", b"", sent, 0)  # type: ignore[arg-type]


@pytest.fixture
def desk() -> Iterator[Desk]:
    reactor = Reactor()
    yield Desk(reactor)
    reactor.abandon()


def failed(pending: Any) -> type[BaseException]:
    assert pending.done()
    return type(pending.exception())


def test_an_answer_and_a_rejection_end_their_requests(desk: Desk) -> None:
    first, second = desk.request({"m": 1}), desk.request({"id": "mine"})
    assert (first.id, second.id) == ("1000000000", "mine")
    assert desk.posted[0].payload == b'{"m":1,"id":1000000000}'
    assert desk.book.waiting == 2
    desk.answer("mine", b"no", rejected=True)
    desk.answer(first.id, b"yes")
    assert first.result().data == b"yes"
    assert (first.result().id, first.result().received_at) == (first.id, 5)
    with pytest.raises(RequestRejected, match="request mine was rejected: no") as rejection:
        second.result()
    assert rejection.value.body == b"no"
    assert desk.book.waiting == 0


def test_our_ids_are_strings_if_the_exchange_requires_strings(desk: Desk) -> None:
    desk.request({"id": 1_000_000_000})
    desk.request(id_type="text")
    assert desk.posted[1].payload == b'{"id":"1000000001"}', "and pass over the user's own"


def test_answers_are_taken_out_of_a_record_and_the_rest_is_left(desk: Desk) -> None:
    pending = desk.request()
    desk.book.announce(pending.id, rejected=False)
    rest = desk.book.take_answers(record(b"1", b"yes", b"2", streams=[3, ANSWER, 0]))
    assert rest is not None
    assert (rest.payloads, list(rest.streams or ())) == ((b"1", b"2"), [3, 0])
    assert pending.result().data == b"yes"
    with pytest.raises(ValueError, match="not announced"):
        desk.book.take_answers(record(b"yes", streams=[ANSWER]))


def test_invalid_requests_are_refused_before_anything_is_sent(desk: Desk) -> None:
    desk.request({"id": 5})
    for again in ({"id": 5}, {"id": "5"}, '{"id":5}'):
        with pytest.raises(DuplicateRequest, match="'5' has no answer yet"):
            desk.request(again)
    for timeout in (0, -1, float("nan")):
        with pytest.raises(UsageError, match="more than 0"):
            desk.request({"id": 6}, timeout)
    desk.state = "backoff"
    with pytest.raises(NotSent, match="a is backoff: nothing was sent; wait for its Up"):
        desk.request({"id": 6})
    assert len(desk.posted) == 1


def test_a_timeout_after_sending_is_unknown_and_its_answer_is_late(desk: Desk) -> None:
    pending = desk.request({"id": 5}, 0.01)
    desk.taken(1)
    desk.run_until(pending)
    with pytest.raises(OutcomeUnknown, match=r"request 5: no answer within 0\.01 s") as unknown:
        pending.result()
    assert unknown.value.timed_out
    with pytest.raises(DuplicateRequest):
        desk.request({"id": 5})
    desk.answer("5", b"late")
    (event,) = desk.events
    assert isinstance(event, LateAnswer)
    assert (event.id, event.data) == ("5", b"late")
    desk.request({"id": 5})


def test_a_timeout_before_sending_withdraws_it(desk: Desk) -> None:
    pending = desk.request({"id": 5}, 0.01)
    assert desk._reactor.run_until(lambda: bool(desk.told), 5.0)
    assert desk.told == [(commands.WITHDRAW, 1, {})]
    assert not pending.done()
    desk.refused(1, "not_sent", "it was withdrawn")
    assert failed(pending) is NotSent
    assert desk.told[1:] == [(commands.FORGET, 0, {"ids": ["5"]})]
    desk.request({"id": 5})


@pytest.mark.parametrize("word", ["begun", "taken", "nothing"])
def test_a_request_that_can_not_be_withdrawn_any_more_has_an_unknown_outcome(desk: Desk, word: str) -> None:
    pending = desk.request({"id": 5}, 0.01)
    assert desk._reactor.run_until(lambda: bool(desk.told), 5.0)
    if word != "nothing":
        getattr(desk, word)(1)
        assert pending.done()
    desk.run_until(pending)
    assert failed(pending) is OutcomeUnknown


def test_an_answer_during_a_withdrawal_counts(desk: Desk) -> None:
    pending = desk.request({"id": 5}, 0.01)
    assert desk._reactor.run_until(lambda: bool(desk.told), 5.0)
    desk.answer("5")
    assert pending.result().data == b"yes"


def test_a_request_that_is_given_up_is_reported_with_its_outcome(desk: Desk) -> None:
    waiting, sent = desk.request({"id": 1}), desk.request({"id": 2})
    desk.begun(2)
    waiting.give_up()
    sent.give_up()
    desk.run_until(sent)
    desk.refused(1, "not_sent", "it was withdrawn")
    assert [failed(pending) for pending in (waiting, sent)] == [NotSent, OutcomeUnknown]
    sent.give_up()
    desk.answer("2", b"late")
    assert [event.kind for event in desk.events] == ["late_answer"]


@pytest.mark.parametrize(
    ("replies_read", "ends"),
    [(True, [NotSent, OutcomeUnknown, OutcomeUnknown]), (False, [OutcomeUnknown, OutcomeUnknown, OutcomeUnknown])],
)
def test_when_the_connection_ends_all_requests_end_at_once(desk: Desk, replies_read: bool, ends: list[type[Exception]]) -> None:
    pending = [desk.request() for _ in range(3)]
    desk.begun(2)
    desk.taken(3)
    desk.owner_gone(None, replies_read=replies_read)
    assert [failed(one) for one in pending] == ends
    assert desk.book.ids == ()


def test_a_request_on_the_wire_survives_its_owner(desk: Desk) -> None:
    answered, out, completed, begun, waiting = (desk.request({"id": n}) for n in range(1, 6))
    desk.taken(1)
    desk.begun(4)
    desk.book.announce("1", rejected=False)  # its bytes did not come: the next owner finds it again
    desk.owner_gone(resumption(sent=2, completing=3), replies_read=True)
    assert [failed(one) for one in (begun, waiting)] == [NotSent, NotSent]
    assert desk.book.ids == ("1", "2", "3")
    desk.commands.send_to(cast("OwnerProcess", FakeProcess()))
    desk.taken(3)  # the next owner has sent the rest
    for known in ("3", "2", "1"):
        desk.answer(known)
    assert [one.result().data for one in (answered, out, completed)] == [b"yes"] * 3


def test_a_late_id_survives_its_owner_too_and_not_its_connection(desk: Desk) -> None:
    pending = desk.request({"id": 5}, 0.01)
    desk.taken(1)
    desk.run_until(pending)
    desk.owner_gone(resumption(), replies_read=True)
    assert desk.book.ids == ("5",)
    desk.book.connection_lost(replies_read=True)
    assert desk.book.ids == ()


def test_the_number_of_late_ids_is_bounded(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wsadapter.endpoint.requests._MOST_LATE", 1)
    for number in (1, 2):
        pending = desk.request({"id": number}, 0.01)
        desk.taken(number)
        desk.run_until(pending)
    assert desk.book.ids == ("2",)
    assert desk.told == [(commands.FORGET, 0, {"ids": ["1"]})]


def test_another_supervisor_uses_no_id_again_on_the_connection(desk: Desk, reactor: Reactor) -> None:
    late = desk.request({}, 0.01)
    desk.taken(1)
    desk.run_until(late)
    answered = desk.request({})
    desk.answer(answered.id)
    desk.book.announce(late.id, rejected=False)  # its answer is the next message
    other = Desk(reactor)
    other.book.restore(transferred(desk.book.snapshot()))
    assert other.book.ids == (late.id,)
    with pytest.raises(DuplicateRequest):
        other.request({"id": int(late.id)})
    fresh = other.request({})
    assert fresh.id == "1000000002"
    assert other.book.take_answers(record(b"of the other supervisor", streams=[ANSWER])) is None
    assert [event.data for event in other.events if isinstance(event, LateAnswer)] == [b"of the other supervisor"]
    other.answer(fresh.id, b"yes")
    assert fresh.result().data == b"yes"


def test_requests_of_a_supervisor_that_died_have_late_answers(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wsadapter.endpoint.requests._MOST_LATE", 2)
    desk.book.rejoined(["7", "1000000000", "8"])
    assert desk.told[-1] == (commands.FORGET, 0, {"ids": ["7"]})
    with pytest.raises(DuplicateRequest):
        desk.request({"id": 8})
    assert desk.request({}).id == str(1_000_000_000 + (1 << 20))
    desk.answer("1000000000")
    assert [type(event) for event in desk.events] == [LateAnswer]


def test_each_outcome_of_a_send_is_reported(desk: Desk) -> None:
    taken, refused, waiting, begun = (desk.book.send(b"x", binary=False) for _ in range(4))
    desk.taken(1)
    desk.refused(2, "unknown", "half of it is out")
    desk.begun(4)
    desk.owner_gone(None, replies_read=True)
    assert taken.result() is None
    assert [failed(one) for one in (refused, waiting, begun)] == [SendFailed, NotConnected, SendFailed]


def test_a_frame_that_a_dead_owner_had_begun_is_taken_when_the_next_owner_has_sent_the_rest(desk: Desk) -> None:
    half = desk.book.send(b"x", binary=False)
    desk.begun(1)
    desk.owner_gone(resumption(completing=1), replies_read=True)
    assert not half.done()
    desk.taken(1)
    assert half.result(0) is None


def test_requests_are_refused_while_no_owner_accepts_commands(desk: Desk) -> None:
    desk.commands.owner_gone()
    with pytest.raises(NotConnected, match="a: there is no owner; nothing was sent"):
        desk.book.send(b"x", binary=False)
