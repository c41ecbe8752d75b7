"""How a connection ends. Pure; no clock."""

from __future__ import annotations

from wsadapter.contract.reasons import Reason
from wsadapter.worker.session.actions import Action, Disconnect, Send, StopReading
from wsadapter.worker.session.ending import Ending
from wsadapter.worker.websocket.frames import CLOSE, encode_close
from wsadapter.worker.websocket.reader import ControlFrame, Violation

STOPPED = Reason(kind="stopped", code=1000)
BROKEN = Violation(1007, "not UTF-8")
LATER = 1000.0


def reasons(actions: list[Action]) -> list[str]:
    return [action.reason.kind for action in actions if isinstance(action, Disconnect)]


def closed_with(code: int) -> ControlFrame:
    return ControlFrame(CLOSE, code.to_bytes(2, "big"))


def stopped(within: float = 5.0) -> Ending:
    ending = Ending()
    assert [type(action) for action in ending.stop(1000, STOPPED, LATER, within=within, urgent=False)] == [Send]
    return ending


def violated() -> Ending:
    ending = Ending()
    ending.last_message = LATER
    assert ending.violated(BROKEN, LATER + 0.1) == [StopReading()]
    return ending


def test_a_stop_waits_for_the_peers_close_until_its_deadline() -> None:
    ending = stopped()
    assert (ending.open, ending.answerable, ending.ended) == (False, False, False)
    assert ending.deadline() == LATER + 5.0
    assert ending.tick(LATER + 4.9) == []
    assert ending.tick(LATER + 5.0) == [Disconnect(STOPPED)]
    assert ending.deadline() is None


def test_a_second_stop_only_shortens_the_first() -> None:
    ending = stopped()
    assert ending.stop(1000, STOPPED, LATER, within=9.0, urgent=False) == []
    assert ending.deadline() == LATER + 5.0
    assert ending.stop(1000, STOPPED, LATER, within=1.0, urgent=False) == []
    assert ending.deadline() == LATER + 1.0


def test_the_peers_close_after_a_stop_ends_it_and_blames_nothing() -> None:
    assert stopped().peer_closed(closed_with(1000)) == ([Disconnect(STOPPED)], False)


def test_the_peers_close_is_answered() -> None:
    actions, blames = Ending().peer_closed(closed_with(1008))
    assert len(actions) == 2
    assert isinstance(actions[0], Send)
    assert actions[0].urgent
    assert actions[1] == Disconnect(Reason(kind="closed_by_peer", code=1008), flush=True)
    assert blames


def test_a_peer_that_goes_away_blames_nothing() -> None:
    assert [Ending().peer_closed(closed_with(code))[1] for code in (1001, 1012, 1013, 1000)] == [False, False, False, True]


def test_a_malformed_close_fails_the_connection() -> None:
    actions, blames = Ending().peer_closed(ControlFrame(CLOSE, b"x"))
    assert reasons(actions) == ["protocol_error"]
    assert not blames


def test_a_violation_soon_after_a_message_leaves_time_to_answer_it() -> None:
    ending = violated()
    assert (ending.open, ending.answerable, ending.ended) == (False, True, False)
    assert ending.deadline() == LATER + 0.2
    assert ending.tick(LATER + 0.19) == []
    close, leave = ending.tick(LATER + 0.2)
    assert isinstance(close, Send)
    assert len(close.frame) == len(encode_close(1007, "not UTF-8"))
    assert leave == Disconnect(Reason(kind="protocol_error", code=1007, text="not UTF-8"), flush=True, linger=True)


def test_a_violation_long_after_the_last_message_fails_the_connection_at_once() -> None:
    ending = Ending()
    ending.last_message = LATER
    assert reasons(ending.violated(BROKEN, LATER + 0.2)) == ["protocol_error"]


def test_a_violation_after_a_stop_sends_no_second_close_frame() -> None:
    ending = stopped()
    assert [type(action) for action in ending.violated(BROKEN, LATER)] == [Disconnect]


def test_however_a_violated_connection_ends_the_violation_is_the_reason() -> None:
    for end in (
        lambda ending: ending.lost("reset")[0],
        lambda ending: ending.overdue("not sent"),
        lambda ending: ending.stop(1000, STOPPED, LATER, within=1.0, urgent=False),
    ):
        assert reasons(end(violated())) == ["protocol_error"]


def test_a_lost_connection_blames_what_was_sent_only_if_it_was_open() -> None:
    lost = Disconnect(Reason(kind="closed_by_peer", code=1006, text="reset"))
    assert Ending().lost("reset") == ([lost], True)
    assert stopped().lost("reset") == ([Disconnect(STOPPED)], False)
    assert violated().lost("reset")[1] is False


def test_a_connection_ends_once() -> None:
    ending = Ending()
    assert reasons(ending.disconnect(STOPPED)) == ["stopped"]
    assert ending.ended
    assert ending.disconnect(STOPPED) == []
    assert ending.lost("reset") == ([], False)
    assert ending.overdue("not sent") == []
    assert ending.tick(LATER) == []
    assert ending.deadline() is None


def test_a_peer_that_refuses_the_connection_gets_a_close_frame() -> None:
    close, leave = Ending().refused(Reason(kind="login_failed", text="no"))
    assert isinstance(close, Send)
    assert leave == Disconnect(Reason(kind="login_failed", text="no"), flush=True, linger=True)
