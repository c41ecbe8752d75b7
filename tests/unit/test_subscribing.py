"""What is demanded of the peer from the handshake on: readiness, login, subscriptions, in this order."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import orjson
import pytest

from tests.support.fakes import RESUME
from wsadapter.contract.dialect.text import Text
from wsadapter.contract.endpoint import Endpoint
from wsadapter.contract.ipc.assignment import Assignment
from wsadapter.contract.ipc.reports import (
    ClosedOverSubscriptions,
    ConnectionOpening,
    LoginDone,
    LogLine,
    PeerError,
    PeerNotice,
    SubscriptionRejected,
    SubscriptionsSent,
)
from wsadapter.contract.reasons import Reason
from wsadapter.worker.session.actions import Action, Disconnect, Notify, Renew, Send, Sign
from wsadapter.worker.session.ending import Ending
from wsadapter.worker.session.heartbeat import Heartbeat
from wsadapter.worker.session.subscribing import Subscribing
from wsadapter.worker.websocket.frames import CLOSE, apply_mask

ACKS: dict[str, Any] = {
    "stream": {"path": "s"},
    "subscribe": {"frame": '{"sub":"$streams","id":"$id"}', "unsubscribe": '{"un":"$streams","id":"$id"}', "per_frame": 10},
    "ack": [{"match": {"ok": "*"}, "id": "ok"}],
    "error": [{"match": {"no": "*"}, "id": "no", "text": "why"}],
}
LOGIN: dict[str, Any] = {
    **ACKS,
    "login": {
        "frame": '{"login":"$key"}', "needs": ["key"], "ack": [{"match": {"in": True}}],
        "error": [{"match": {"in": False}, "text": "why"}], "renew_after": 60.0, "timeout": 5.0,
    },
}  # fmt: skip
SIGNED: dict[str, Any] = {**LOGIN, "login": {**LOGIN["login"], "frame": '{"login":"$sign"}'}}
KEY = {"login": {"key": "SECRET"}}
WAITS = {**ACKS, "ready": [{"match": {"hello": True}}], "connection": {"settle": 1.0}}
ASSIGNED = (
    "epoch", "wanted", "custody", "resume", "confirmed", "live", "rejected", "blamed", "retry_at", "opening", "login_at",
    "paces", "challenge", "channels",
)  # fmt: skip


class Peer:
    """What is tested, with what it needs."""

    def __init__(self, dialect: dict[str, Any] | None = ACKS, **settings: Any) -> None:
        assigned = {"epoch": 1, **{key: settings.pop(key) for key in ASSIGNED if key in settings}}
        endpoint = Endpoint("x", url="ws://x/", **settings)
        self.ending = Ending()
        self.heartbeat = Heartbeat(endpoint.heartbeat, salt=1)
        assignment = Assignment(endpoint=endpoint, url="ws://x/", dialect=dialect, **assigned)
        self.asks = Subscribing(assignment, self.ending, self.heartbeat)

    def answers(self, payload: bytes, now: float = 1.0) -> list[Any]:
        found = self.asks.subscriptions.recognise(Text(payload), now)
        assert found is not None
        return shown(self.asks.steps(found[0], now))

    def logs_in(self, payload: bytes, now: float = 1.0) -> list[Any]:
        steps = self.asks.login.recognise(Text(payload), now)
        assert steps is not None
        return shown(self.asks.login_steps(steps, now))


def shown(actions: Iterable[Action]) -> list[Any]:
    """Frames by their payloads, reports as they are, ends by their reasons, and what a hook is to do."""
    found: list[Any] = []
    for action in actions:
        match action:
            case Send():
                payload = apply_mask(action.frame[6:], action.frame[2:6])
                found.append("close" if action.frame[0] & 0x0F == CLOSE else orjson.loads(payload))
            case Notify(report):
                found.append(report)
            case Disconnect(reason):
                found.append(reason)
            case Sign(frame):
                found.append(("sign", frame))
            case Renew():
                found.append("renew")
    return found


def events(found: list[Any]) -> list[Any]:
    return [item.event if hasattr(item, "event") else item for item in found]


# -- readiness


def test_frames_of_the_dialect_and_of_the_user_are_first_and_subscriptions_follow() -> None:
    peer = Peer({**ACKS, "on_up": [{"frame": '{"hi":"$id"}'}]}, send_on_up=['"there"'], wanted=("a",))
    begun = peer.asks.begin(0.0)
    assert shown(begun) == [{"hi": 1}, "there", {"sub": ["a"], "id": 2}]
    assert [action.once for action in begun if isinstance(action, Send)] == [True, True, False]
    assert [action.urgent for action in begun if isinstance(action, Send)] == [False, False, False]


def test_first_frames_are_urgent_while_only_urgent_ones_may_be_sent() -> None:
    peer = Peer(LOGIN, **KEY, send_on_up=['"there"'])
    assert [action.urgent for action in peer.asks.begin(0.0) if isinstance(action, Send)] == [True, True]


def test_the_heartbeat_begins_when_frames_may_be_sent() -> None:
    peer = Peer(WAITS, heartbeat={"kind": "ping", "interval": 20.0})
    peer.asks.wait_for_peer(0.0)
    assert peer.heartbeat.deadline() is None
    peer.asks.readiness.is_ready_message(Text(b'{"hello":true}'))
    peer.asks.begin_if_due(1.0)
    assert peer.heartbeat.deadline() == 21.0


def test_how_far_the_readiness_is_is_reported_only_if_the_connection_may_outlive_its_owner() -> None:
    assert shown(Peer(WAITS, custody=True).asks.wait_for_peer(5.0)) == [ConnectionOpening(5.0, listens=True, over=False)]
    assert shown(Peer(WAITS).asks.wait_for_peer(5.0)) == []


def test_after_the_ready_the_time_to_settle_is_awaited() -> None:
    peer = Peer(WAITS, custody=True, wanted=("a",))
    peer.asks.wait_for_peer(0.0)
    assert (peer.asks.not_ready, peer.asks.begin_if_due(2.0)) == (True, [])
    peer.asks.readiness.is_ready_message(Text(b'{"hello":true}'))
    assert shown(peer.asks.peer_is_ready(0.5)) == [ConnectionOpening(0.0, listens=False, over=False)]
    assert shown(peer.asks.begin_if_due(1.0)) == [
        ConnectionOpening(0.0, listens=False, over=True), {"sub": ["a"], "id": 1},
    ]  # fmt: skip
    assert not peer.asks.not_ready


def test_a_ready_after_the_time_to_settle_begins_at_once_unless_the_connection_is_being_closed() -> None:
    for closing in (False, True):
        peer = Peer(WAITS, wanted=("a",), send_on_up=['"hi"'])
        peer.asks.wait_for_peer(0.0)
        peer.asks.readiness.is_ready_message(Text(b'{"hello":true}'))
        if closing:
            peer.ending.stop(1000, Reason(kind="stopped"), 1.0, within=5.0, urgent=True)
        assert shown(peer.asks.peer_is_ready(3.0)) == ([] if closing else ["hi", {"sub": ["a"], "id": 1}])


def test_the_next_owner_waits_for_what_the_last_one_waited_for() -> None:
    peer = Peer(WAITS, custody=True, resume=RESUME, opening=(7.0, False))
    assert peer.asks.wait_for_peer(9.0) == []
    assert (peer.asks.readiness.since, peer.asks.readiness.awaits_ready) == (7.0, False)


# -- what the next owner of a connection knows


def test_what_was_confirmed_on_a_connection_is_not_requested_again() -> None:
    peer = Peer(resume=RESUME, wanted=("a", "b"), confirmed=("a",), live=("a",), epoch=3)
    assert shown(peer.asks.inherit(0.0)) == [{"sub": ["b"], "id": 2 * 65536 + 1}]
    assert not peer.asks.not_ready


def test_an_owner_that_inherits_everything_requests_nothing() -> None:
    peer = Peer(resume=RESUME, wanted=("a",), confirmed=("a",))
    assert shown(peer.asks.inherit(0.0)) == []


def test_a_login_on_the_connection_is_still_one() -> None:
    peer = Peer(LOGIN, **KEY, resume=RESUME, login_at=-30.0)
    assert shown(peer.asks.inherit(0.0)) == [LoginDone(-30.0, None)]
    assert peer.asks.login.deadline() == 30.0


def test_paces_are_kept_from_the_confirmation_on() -> None:
    peer = Peer(resume=RESUME, wanted=("a",), confirmed=("a",), paces={"a": 1.0})
    list(peer.asks.inherit(0.0))
    assert peer.asks.streams.deadline() is not None


def test_only_frames_that_nobody_else_knows_of_prevent_a_handoff() -> None:
    assert Peer(WAITS).asks.can_hand_off
    assert not Peer(WAITS, send_on_up=["x"]).asks.can_hand_off
    assert not Peer({**WAITS, "on_up": [{"frame": "{}"}]}).asks.can_hand_off
    assert not Peer(LOGIN, **KEY).asks.can_hand_off
    assert Peer(send_on_up=["x"]).asks.can_hand_off


# -- the login


def test_subscriptions_wait_for_the_login() -> None:
    peer = Peer(LOGIN, **KEY, wanted=("a",))
    assert shown(peer.asks.begin(0.0)) == [{"login": "SECRET"}]
    assert peer.asks.not_ready
    assert shown(peer.asks.subscribe(["b"], 0.5)) == []
    assert shown(peer.asks.unsubscribe(["a"], 0.5)) == []
    assert shown(peer.asks.resubscribe(["b"], 0.5)) == []
    assert peer.logs_in(b'{"in":true}') == [LoginDone(1.0, None), {"sub": ["b"], "id": 2}]


def test_a_stream_that_is_subscribed_again_before_the_login_is_requested_once_and_without_suspicion() -> None:
    peer = Peer(LOGIN, **KEY, wanted=("a", "b"), blamed={"a": "closed"})
    peer.asks.begin(0.0)
    peer.asks.subscribe(["a"], 0.5)
    assert peer.logs_in(b'{"in":true}')[1:] == [{"sub": ["b", "a"], "id": 2}]


def test_a_refused_login_closes_the_connection_without_a_second_attempt() -> None:
    peer = Peer(LOGIN, **KEY)
    peer.asks.begin(0.0)
    assert peer.logs_in(b'{"in":false,"why":"wrong SECRET"}') == ["close", Reason(kind="login_failed", text="wrong ***")]
    assert peer.logs_in(b'{"in":true}') == []  # it is being closed


def test_a_frame_of_the_login_is_signed_by_the_hook() -> None:
    peer = Peer(SIGNED, **KEY)
    assert shown(peer.asks.begin(0.0)) == [("sign", {"login": "$sign"})]
    assert peer.asks.awaits_signature
    assert shown(peer.asks.signed({"login": "SIGNATURE"}, 1.0)) == [{"login": "SIGNATURE"}]
    assert not peer.asks.awaits_signature
    assert peer.logs_in(b'{"in":false,"why":"bad SIGNATURE"}')[-1] == Reason(kind="login_failed", text="bad ***")


def test_a_login_that_can_not_be_signed_closes_the_connection() -> None:
    for passing in (False, True):
        peer = Peer(SIGNED, **KEY)
        peer.asks.begin(0.0)
        assert shown(peer.asks.not_signed("no key", 1.0, passing=passing)) == [
            "close",
            Reason(kind="login_failed", text="no key"),
        ]


def test_a_login_is_renewed_by_the_hook_or_demands_another_connection_once() -> None:
    peer = Peer({**LOGIN, "login": {**LOGIN["login"], "frame": ""}}, **KEY, hooks={"renew": "m:f"})
    peer.asks.begin(0.0)
    assert shown(peer.asks.login_steps(peer.asks.login.tick(60.0), 60.0)) == ["renew"]
    assert shown(peer.asks.renewed("", 61.0)) == [LoginDone(61.0, None)]
    assert shown(peer.asks.login_steps(peer.asks.login.tick(121.0), 121.0)) == ["renew"]
    assert shown(peer.asks.renewed("expired", 122.0)) == [PeerNotice("the login could not be renewed: expired")]
    assert shown(peer.asks.demand_reconnect("again")) == []


# -- frames that subscribe


FIELDS: dict[str, Any] = {**LOGIN, "login": {**LOGIN["login"], "subscribe": '{"by":"$sign"}'}}


def signing() -> Peer:
    """A peer that is logged in, and whose frame that subscribes is at the hook."""
    peer = Peer(FIELDS, **KEY, wanted=("a",), custody=True)
    peer.asks.begin(0.0)
    assert peer.logs_in(b'{"in":true}')[1:] == [("sign", {"sub": ["a"], "id": 2, "by": "$sign"})]
    return peer


def test_a_frame_that_subscribes_is_signed_and_sent() -> None:
    peer = signing()
    (sent,) = peer.asks.signed({"sub": ["a"], "id": 2, "by": "S"}, 2.0)
    assert shown([sent]) == [{"sub": ["a"], "id": 2, "by": "S"}]
    assert isinstance(sent, Send)
    assert sent.then is None  # the exchange confirms


def test_a_signed_frame_that_nothing_confirms_is_reported_when_it_is_out() -> None:
    dialect = {key: value for key, value in FIELDS.items() if key not in ("ack", "error")}
    peer = Peer(dialect, **KEY, wanted=("a",), custody=True)
    peer.asks.begin(0.0)
    peer.logs_in(b'{"in":true}')
    (sent,) = peer.asks.signed({"sub": ["a"], "by": "S"}, 2.0)
    assert isinstance(sent, Send)
    assert sent.then == SubscriptionsSent(("a",), gone=False)


def test_a_frame_that_nothing_confirms_is_reported_when_it_is_out() -> None:
    peer = Peer({"subscribe": ACKS["subscribe"]}, wanted=("a",), custody=True)
    (sent,) = [action for action in peer.asks.begin(0.0) if isinstance(action, Send)]
    assert sent.then == SubscriptionsSent(("a",), gone=False)


def test_a_signature_for_a_connection_that_is_being_closed_is_not_sent() -> None:
    peer = signing()
    peer.ending.stop(1000, Reason(kind="stopped"), 2.0, within=5.0, urgent=False)
    assert peer.asks.signed({"sub": ["a"], "by": "S"}, 2.0) == []
    peer = signing()
    peer.ending.stop(1000, Reason(kind="stopped"), 2.0, within=5.0, urgent=False)
    assert peer.asks.not_signed("busy", 2.0, passing=True) == []


def test_a_frame_that_can_not_be_signed_for_the_moment_is_made_again() -> None:
    peer = signing()
    assert shown(peer.asks.not_signed("busy", 2.0, passing=True)) == []
    assert peer.asks.subscriptions.deadline() == 3.0
    assert shown(peer.asks.steps(peer.asks.subscriptions.tick(3.0), 3.0)) == [("sign", {"sub": ["a"], "id": 3, "by": "$sign"})]


def test_keys_that_are_refused_for_a_frame_end_the_connection() -> None:
    assert shown(signing().asks.not_signed("wrong key", 2.0))[-1] == Reason(kind="login_failed", text="wrong key")


def test_secrets_that_the_peer_repeats_are_masked_in_reports() -> None:
    asks = Peer(LOGIN, **KEY).asks
    assert asks.without_secrets(SubscriptionRejected("a", "SECRET")) == SubscriptionRejected("a", "***")
    assert asks.without_secrets(PeerError("SECRET")) == PeerError("***")
    assert asks.without_secrets(LogLine("warning", "SECRET")) == LogLine("warning", "***")
    assert asks.without_secrets(PeerNotice("SECRET")) == PeerNotice("SECRET")


def test_a_confirmed_stream_must_keep_its_pace() -> None:
    peer = Peer(wanted=("a",), paces={"a": 1.0})
    peer.asks.begin(0.0)
    assert peer.asks.streams.deadline() is None
    assert events(peer.answers(b'{"ok":1}')) == ["subscribed", "restored"]
    assert peer.asks.streams.deadline() is not None


def test_streams_are_subscribed_unsubscribed_and_subscribed_again_while_the_connection_is_open() -> None:
    peer = Peer()
    peer.asks.begin(0.0)
    assert shown(peer.asks.subscribe(["a"], 1.0)) == [{"sub": ["a"], "id": 1}]
    peer.answers(b'{"ok":1}')
    assert events(shown(peer.asks.resubscribe(["a"], 2.0))) == ["requested", {"un": ["a"], "id": 2}]
    assert peer.answers(b'{"ok":2}') == [{"sub": ["a"], "id": 3}]
    peer.answers(b'{"ok":3}')
    assert shown(peer.asks.unsubscribe(["a"], 3.0)) == [{"un": ["a"], "id": 4}]


@pytest.mark.parametrize("change", ["subscribe", "unsubscribe", "resubscribe"])
def test_a_connection_that_is_being_closed_takes_no_changes(change: str) -> None:
    peer = Peer(wanted=("a",))
    peer.asks.begin(0.0)
    peer.ending.stop(1000, Reason(kind="stopped"), 1.0, within=5.0, urgent=False)
    assert getattr(peer.asks, change)(["a"], 1.0) == []


def test_a_silent_stream_is_reported_and_subscribed_again_and_its_pace_is_learned() -> None:
    peer = Peer(wanted=("a",))
    peer.asks.begin(0.0)
    peer.answers(b'{"ok":1}')
    list(peer.asks.subscriptions.on_data("a", 1.0))
    found = peer.asks.streams.of(Text(b'{"s":"a"}'))
    assert found is not None
    for at in range(1, 701):
        peer.asks.streams.on_messages([found], float(at))
    assert events(shown(peer.asks.check_stalls(700.0))) == ["pace"]
    peer.asks.streams.on_messages([found], 702.0)  # its longest pause has grown
    assert peer.asks.check_stalls(714.9) == []  # it is not time to look at all streams
    assert events(shown(peer.asks.check_stalls(715.0))) == ["pace"]
    assert events(shown(peer.asks.check_stalls(770.0))) == ["stalled", "requested", {"un": ["a"], "id": 2}]


def test_a_close_soon_after_a_request_is_reported_with_the_streams_that_may_be_the_cause() -> None:
    peer = Peer(wanted=("a", "b"))
    peer.asks.begin(0.0)
    assert shown(peer.asks.closed(1.0)) == [ClosedOverSubscriptions(("a", "b"), alone=False, within=5.0)]
    peer.answers(b'{"ok":1}')
    assert peer.asks.closed(1.0) == []
