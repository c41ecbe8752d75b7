"""What is asked of each message, in which order, and what it leads to at its place between the others."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from tests.support.rawserver import server_frame
from wsadapter.contract.endpoint import Endpoint
from wsadapter.contract.ipc.assignment import Assignment
from wsadapter.contract.ipc.record import ANSWER, NO_IDENTITY
from wsadapter.contract.ipc.reports import PeerError, PeerNotice
from wsadapter.contract.reasons import Reason
from wsadapter.worker.session.actions import Action, Deliver, Disconnect, Notify, Send
from wsadapter.worker.session.ending import Ending
from wsadapter.worker.session.heartbeat import Heartbeat
from wsadapter.worker.session.inspector import Inspector, urgent_first
from wsadapter.worker.session.subscribing import Subscribing
from wsadapter.worker.websocket.frames import BINARY, CLOSE, TEXT, apply_mask
from wsadapter.worker.websocket.reader import Reader

STREAMS = {"stream": {"path": "s"}, "subscribe": {"frame": '{"sub":"$streams","id":"$id"}', "per_frame": 10}}
ACKS = {**STREAMS, "ack": [{"match": {"ok": "*"}, "id": "ok"}], "error": [{"match": {"no": "*"}, "id": "no", "text": "why"}]}
DATA = b'{"s":"a","x":1}'


class Inspected:
    """An inspector with all that it needs, on a connection that is up."""

    def __init__(self, dialect: dict[str, Any] | None = None, *, wanted: tuple[Any, ...] = (), **settings: Any) -> None:
        known = {"heartbeat": {"kind": "none"}, **settings}
        assigned = {key: known.pop(key) for key in ("identify", "requests") if key in known}
        endpoint = Endpoint("x", url="ws://x/", **known)
        assignment = Assignment(endpoint=endpoint, epoch=1, url="", dialect=dialect, wanted=wanted, **assigned)
        self.ending = Ending()
        self.heartbeat = Heartbeat(endpoint.heartbeat, salt=1)
        self.subscribing = Subscribing(assignment, self.ending, self.heartbeat)
        self.inspector = Inspector(assignment, self.ending, self.heartbeat, self.subscribing)
        readiness = self.subscribing.readiness
        self.first = self.subscribing.begin(0.0) if readiness.done else self.subscribing.wait_for_peer(0.0)
        self._reader = Reader(1 << 20)

    def reads(self, *messages: bytes, now: float = 1.0, opcode: int = TEXT) -> list[Action]:
        read = self._reader.feed(b"".join(server_frame(opcode, message) for message in messages))
        return list(self.inspector.messages(read, now))


def shown(actions: list[Action]) -> list[Any]:
    """Messages as they are delivered, reports by their events, frames by their payloads, ends by their reasons."""
    found: list[Any] = []
    for action in actions:
        match action:
            case Deliver():
                kept = [at for at in range(action.first, action.last) if at not in action.skipped]
                found += [action.read.payload(at) for at in kept]
            case Notify(report):
                found.append(report.event)
            case Send():
                payload = apply_mask(action.frame[6:], action.frame[2:6])
                found.append("close" if action.frame[0] & 0x0F == CLOSE else orjson.loads(payload))
            case Disconnect(reason):
                found.append(reason.kind)
    return found


def streams_of(actions: list[Action]) -> list[int]:
    (deliver,) = [action for action in actions if isinstance(action, Deliver)]
    return list(deliver.streams or ())


def test_without_rules_messages_are_delivered_as_they_are() -> None:
    inspected = Inspected()
    assert not inspected.inspector.needs_inspection(DATA)
    (deliver,) = inspected.reads(DATA, b"x")
    assert isinstance(deliver, Deliver)
    assert (deliver.first, deliver.last, deliver.skipped, deliver.streams, deliver.identities) == (
        0,
        2,
        frozenset(),
        None,
        None,
    )


@pytest.mark.parametrize(
    ("inspected", "data", "needed"),
    [
        (Inspected(identity="bytes", identify=True), b"x", True),
        (Inspected(identity="bytes"), b"x", False),
        (Inspected(heartbeat={"kind": "text", "payload": "p", "reply": "r"}), b"x", False),
        (Inspected(requests=("7",)), b'{"id":8}', True),
        (Inspected(requests=("7",)), b'{"x":7}', False),
        (Inspected(STREAMS), b"x", True),
        (Inspected({"ready": [{"is": "hi"}]}), b"x", True),
        (Inspected({"housekeeping": [{"is": "beat"}]}), b"x beat", True),
        (Inspected({"housekeeping": [{"is": "beat"}]}), b"x", False),
        (Inspected({"gap": [{"contains": "n", "scope": [], "value": "n"}]}), b'{"n":1}', True),
        (Inspected({"gap": [{"contains": "n", "scope": [], "value": "n"}]}), b"{}", False),
        (Inspected({key: value for key, value in ACKS.items() if key != "stream"}), b'{"ok":1}', True),
        (Inspected({key: value for key, value in ACKS.items() if key != "stream"}), b"{}", False),
        (Inspected({"login": {"frame": "{}", "ack": [{"match": {"in": True}}], "needs": []}}, login={"k": "v"}), b"x", True),
    ],
)
def test_a_read_is_inspected_only_if_something_may_be_in_it(inspected: Inspected, data: bytes, needed: bool) -> None:
    assert inspected.inspector.needs_inspection(data) is needed


def test_a_heartbeat_that_waits_for_its_answer_makes_each_read_worth_an_inspection() -> None:
    inspected = Inspected(heartbeat={"kind": "text", "payload": "p", "reply": "r", "interval": 1.0})
    assert inspected.heartbeat.due(1.0) is not None
    assert inspected.inspector.needs_inspection(b"x")
    assert shown(inspected.reads(b"one", b"r", b"two")) == [b"one", b"two"]
    assert not inspected.inspector.needs_inspection(b"x")


def test_an_answer_to_a_heartbeat_is_delivered_if_the_endpoint_wants_it() -> None:
    heartbeat = {"kind": "text", "payload": "p", "reply": "r", "interval": 1.0}
    inspected = Inspected(heartbeat=heartbeat, deliver_heartbeats=True)
    inspected.heartbeat.due(1.0)
    assert shown(inspected.reads(b"one", b"r")) == [b"one", b"r"]
    assert inspected.heartbeat.rtt is not None


def test_a_long_message_is_no_answer_to_a_heartbeat() -> None:
    inspected = Inspected(heartbeat={"kind": "text", "payload": "p", "reply": "r" * 20_000, "interval": 1.0})
    inspected.heartbeat.due(1.0)
    assert shown(inspected.reads(b"r" * 20_000)) == [b"r" * 20_000]


def test_a_gap_stands_in_front_of_the_message_that_shows_it() -> None:
    inspected = Inspected({**STREAMS, "gap": [{"contains": "n", "scope": ["$stream"], "value": "n"}]}, wanted=("a",))
    found = shown(inspected.reads(b'{"s":"a","n":1}', b'{"s":"a","n":3}'))
    assert found == ["subscribed", "restored", "stream", b'{"s":"a","n":1}', "gap", b'{"s":"a","n":3}']


def test_the_answer_to_a_request_is_announced_and_marked_even_if_it_is_binary() -> None:
    for opcode in (TEXT, BINARY):
        inspected = Inspected()
        assert inspected.inspector.expect("7")
        actions = inspected.reads(b'{"x":1}', b'{"id":7}', b'{"id":7}', opcode=opcode)
        assert shown(actions) == [b'{"x":1}', "answer", b'{"id":7}', b'{"id":7}']
        last = actions[-1]
        assert isinstance(last, Deliver)
        assert last.streams is not None
        assert list(last.streams) == [0, ANSWER, 0]


def test_a_request_whose_id_a_frame_that_subscribes_has_is_not_expected() -> None:
    inspected = Inspected(ACKS, wanted=("a",))
    assert not inspected.inspector.expect("1")
    assert inspected.inspector.expect("2")


def test_a_forgotten_request_has_no_answer() -> None:
    inspected = Inspected()
    inspected.inspector.forget(["7"])  # no request was ever sent
    assert inspected.inspector.expect("7")
    assert inspected.inspector.expect("8")
    inspected.inspector.forget(["7"])
    assert shown(inspected.reads(b'{"id":7}', b'{"id":8}')) == [b'{"id":7}', "answer", b'{"id":8}']


def test_requests_of_an_earlier_owner_are_expected_from_the_beginning() -> None:
    assert shown(Inspected(requests=("7",)).reads(b'{"id":7}')) == ["answer", b'{"id":7}']


def test_each_message_has_its_identity_while_that_is_wanted() -> None:
    inspected = Inspected(identity="bytes")
    inspected.inspector.identify(on=True)
    (deliver,) = inspected.reads(b"x", b"y", b"x")
    assert isinstance(deliver, Deliver)
    one, other, again = deliver.identities or ()
    assert NO_IDENTITY not in (one, other)
    assert (one == again, one == other) == (True, False)
    inspected.inspector.identify(on=False)
    (deliver,) = inspected.reads(b"x")
    assert isinstance(deliver, Deliver)
    assert deliver.identities is None


READY = {**STREAMS, "ready": [{"match": {"hello": True}}], "error": [{"match": {"error": "*"}, "text": "error"}]}


def test_the_peers_ready_begins_and_is_not_delivered() -> None:
    inspected = Inspected(READY, wanted=("a",))
    assert shown(inspected.first) == []
    assert shown(inspected.reads(b'{"hello":true}')) == [{"sub": ["a"], "id": 1}]
    assert inspected.subscribing.readiness.done
    assert shown(inspected.reads(b'{"hello":true}')) == [b'{"hello":true}']


def test_a_refusal_instead_of_the_ready_ends_the_connection() -> None:
    inspected = Inspected(READY)
    actions = inspected.reads(b'{"x":1}', b'{"error":"too many connections"}')
    assert [action.reason for action in actions if isinstance(action, Disconnect)] == [
        Reason(kind="not_ready", text="too many connections")
    ]
    assert b'{"x":1}' in shown(actions)


def test_a_message_before_the_ready_that_is_neither_is_data() -> None:
    assert b'{"x":1}' in shown(Inspected(READY).reads(b'{"x":1}'))


HOUSE = {
    "answer": [{"contains": "ask", "match": {"ask": "*"}, "frame": '{"pong":"$.ask"}'}],
    "notice": [
        {"contains": "warn", "match": {"warn": "*"}, "text": "warn", "reconnect": False},
        {"contains": "bye", "match": {"bye": "*"}, "text": "bye"},
    ],
    "housekeeping": [{"is": "quiet"}, {"contains": "beat", "match": {"beat": "*"}, "heartbeat": True}],
}


def test_housekeeping_is_answered_first_reported_and_not_delivered() -> None:
    inspected = Inspected(HOUSE)
    actions = inspected.reads(b"one", b'{"ask":5}', b"quiet", b'{"warn":"slow"}', b'{"bye":"now"}', b"two")
    assert shown(actions) == [{"pong": 5}, "peer_error", "notice", b"one", b"two"]
    assert Notify(PeerError("slow")) in actions
    assert Notify(PeerNotice("now")) in actions


def test_housekeeping_is_delivered_if_the_endpoint_wants_it() -> None:
    assert b"quiet" in shown(Inspected(HOUSE, deliver_heartbeats=True).reads(b"quiet"))


def test_a_closing_connection_answers_nothing() -> None:
    inspected = Inspected(HOUSE)
    inspected.ending.stop(1000, Reason(kind="stopped"), 0.5, within=5.0, urgent=False)
    assert shown(inspected.reads(b'{"ask":5}')) == []


def test_a_heartbeat_of_the_peer_counts_and_makes_its_stream_live() -> None:
    dialect = {**ACKS, "housekeeping": HOUSE["housekeeping"]}
    inspected = Inspected(dialect, wanted=("a",), heartbeat={"kind": "none", "server_interval": 10.0})
    inspected.reads(b'{"ok":1}')
    assert inspected.subscribing.subscriptions.awaiting_data
    inspected.reads(b'{"s":"a","beat":1}', now=5.0)
    assert not inspected.subscribing.subscriptions.awaiting_data
    assert inspected.heartbeat.deadline() == 35.0


LOGIN = {
    **ACKS,
    "login": {"frame": '{"login":"$key"}', "needs": ["key"], "ack": [{"match": {"in": True}}],
              "error": [{"match": {"in": False}, "text": "why"}]},
}  # fmt: skip


def test_the_answer_to_the_login_leads_to_the_subscriptions_and_is_not_delivered() -> None:
    inspected = Inspected(LOGIN, wanted=("a",), login={"key": "K"})
    assert shown(inspected.first) == [{"login": "K"}]
    assert shown(inspected.reads(b"one", b'{"in":true}', b"two")) == [b"one", "login", {"sub": ["a"], "id": 2}, b"two"]
    assert shown(inspected.reads(b'{"in":true}')) == [b'{"in":true}']  # nobody waits for it


def test_a_refused_login_ends_the_connection_behind_the_messages() -> None:
    inspected = Inspected(LOGIN, login={"key": "K"})
    found = shown(inspected.reads(b"one", b'{"in":false,"why":"no"}', b"two"))
    assert found == ["close", b"one", b"two", "login_failed"]


def test_an_answer_to_a_subscription_is_reported_at_its_place_and_not_delivered() -> None:
    inspected = Inspected(ACKS, wanted=("a",))
    assert shown(inspected.reads(b"one", b'{"ok":1}', b"two")) == [b"one", "subscribed", "restored", b"two"]


def test_an_answer_with_data_is_delivered_behind_its_report() -> None:
    dialect = {**ACKS, "ack": [{"match": {"ok": "*"}, "id": "ok", "data": "book"}]}
    inspected = Inspected(dialect, wanted=("a",))
    assert shown(inspected.reads(b'{"ok":1,"book":[]}')) == ["subscribed", "restored", b'{"ok":1,"book":[]}']


def test_a_message_of_a_stream_has_its_index_and_makes_an_unanswered_stream_live() -> None:
    inspected = Inspected(ACKS, wanted=("a",))
    assert shown(inspected.reads(b"one", DATA, DATA)) == [b"one", "subscribed", "stream", DATA, DATA]
    assert streams_of(inspected.reads(DATA, b"x")) == [1, 0]


def test_messages_that_the_filter_removes_are_counted() -> None:
    inspected = Inspected(STREAMS, wanted=("a", "b"), filter={"include": ["b"]})
    inspected.reads(DATA)
    (deliver,) = inspected.reads(DATA, b'{"s":"c"}', DATA)
    assert isinstance(deliver, Deliver)
    assert (deliver.skipped, deliver.filtered) == (frozenset({0, 2}), 2)


def test_a_binary_message_belongs_to_no_stream() -> None:
    inspected = Inspected(STREAMS, wanted=("a",))
    (deliver,) = inspected.reads(DATA, opcode=BINARY)
    assert isinstance(deliver, Deliver)
    assert list(deliver.streams or ()) == [0]


def test_what_the_peer_waits_for_goes_first_and_the_end_goes_last() -> None:
    plain, urgent = Send(b"plain"), Send(b"urgent", urgent=True)
    end, report = Disconnect(Reason(kind="stopped")), Notify(PeerNotice("x"))
    assert urgent_first([end, plain, report, urgent]) == [urgent, plain, report, end]
    assert urgent_first([end]) == [end]
    assert urgent_first([]) == []
