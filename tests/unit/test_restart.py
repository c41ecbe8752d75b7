"""The restart policy and the connect budget: pure, so the clock is a number."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsadapter.contract.endpoint import Restart
from wsadapter.contract.reasons import Reason, from_exit_code
from wsadapter.endpoint.restart_policy import FATAL_AFTER, ConnectBudget, Decision, RestartAction, RestartPolicy

LOST = Reason(kind="closed_by_peer", code=1006)


def policy(**settings: object) -> RestartPolicy:
    return RestartPolicy(Restart(**settings), rng=lambda: 1.0)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("restart_type", "exit_code", "action"),
    [
        ("permanent", 0, RestartAction.RESTART),
        ("transient", 0, RestartAction.END),
        ("temporary", 0, RestartAction.END),
        ("permanent", 1, RestartAction.RESTART),
        ("transient", 1, RestartAction.RESTART),
        ("temporary", 1, RestartAction.END),
        ("transient", -9, RestartAction.RESTART),
    ],
)
def test_the_restart_type_decides_after_an_exit(restart_type: str, exit_code: int, action: RestartAction) -> None:
    assert policy(type=restart_type).decide(0.0, from_exit_code(exit_code), 1.0).action is action


@pytest.mark.parametrize(
    ("code", "action"), [(1000, RestartAction.END), (1001, RestartAction.RESTART), (1006, RestartAction.RESTART)]
)
def test_a_transient_endpoint_ends_with_a_normal_close_only(code: int, action: RestartAction) -> None:
    assert policy(type="transient").decide(0.0, Reason(kind="closed_by_peer", code=code), 1.0).action is action


def test_at_the_intensity_it_restarts_and_one_more_is_too_many() -> None:
    patient = policy(intensity=3, period=60)
    assert [patient.decide(t, LOST, 1.0).action for t in (0.0, 10.0, 59.9)] == [RestartAction.RESTART] * 3
    assert patient.decide(59.95, LOST, 1.0) == Decision(RestartAction.COOL_DOWN, 60.0, 4)


def test_just_under_the_intensity_never_escalates() -> None:
    patient = policy(intensity=3, period=60)
    assert {patient.decide(21.0 * n, LOST, 1.0).action for n in range(1000)} == {RestartAction.RESTART}


def test_restarts_older_than_the_period_do_not_count() -> None:
    patient = policy(intensity=1, period=10)
    assert patient.decide(0.0, LOST, 1.0).restarts == 1
    assert patient.decide(10.0, LOST, 1.0) == Decision(RestartAction.RESTART, 1.0, 1)


def test_after_cooling_down_it_counts_from_zero() -> None:
    patient = policy(intensity=1, period=60, cool_down=5)
    assert [patient.decide(t, LOST, None).action for t in (0.0, 1.0)] == [RestartAction.RESTART, RestartAction.COOL_DOWN]
    assert patient.decide(6.0, LOST, None) == Decision(RestartAction.RESTART, 0.5, 1)


@pytest.mark.parametrize("on_exceeded", ["fatal", "stop_supervisor"])
def test_above_the_intensity_the_other_choices_end_it(on_exceeded: str) -> None:
    strict = policy(intensity=1, on_exceeded=on_exceeded)
    strict.decide(0.0, LOST, 1.0)
    assert strict.decide(0.1, LOST, 1.0).action is RestartAction(on_exceeded)


def test_the_backoff_doubles_up_to_its_maximum_and_resets_only_after_min_uptime() -> None:
    patient = policy(intensity=1000, backoff_initial=0.5, backoff_max=3, min_uptime=30)
    assert [patient.decide(0.0, LOST, 29.9).delay for _ in range(5)] == [0.5, 1.0, 2.0, 3.0, 3.0]
    assert patient.decide(0.0, LOST, 30.0).delay == 0.5


@given(st.floats(0, 0.999999), st.integers(0, 30))
def test_the_jitter_is_full(drawn: float, failures: int) -> None:
    jittered = RestartPolicy(Restart(intensity=1000), rng=lambda: drawn)
    for _ in range(failures):
        jittered.decide(0.0, LOST, None)
    longest = min(30.0, 0.5 * 2.0**failures)
    assert jittered.decide(0.0, LOST, None).delay == pytest.approx(longest * drawn)


def test_retry_after_is_obeyed_and_a_refusal_is_retried_slowly() -> None:
    refused = Reason(kind="handshake_rejected", status=401)
    assert policy().decide(0.0, refused, None).delay == 30.0
    asked = Reason(kind="handshake_rejected", status=503, retry_after=120.0)
    assert policy().decide(0.0, asked, None).delay == 120.0


def test_the_same_configuration_error_five_times_in_a_row_is_fatal() -> None:
    broken = Reason(kind="config", text="no module named nonsense")
    hopeless = policy()
    actions = [hopeless.decide(float(n), broken, None).action for n in range(FATAL_AFTER)]
    assert actions == [RestartAction.RESTART] * (FATAL_AFTER - 1) + [RestartAction.FATAL]


def test_other_failures_in_between_reset_the_count_of_configuration_errors() -> None:
    broken = Reason(kind="config", text="no module named nonsense")
    patient = policy(intensity=100)
    actions = {patient.decide(float(n), broken if n % 4 else LOST, None).action for n in range(20)}
    assert actions == {RestartAction.RESTART}


def test_a_planned_restart_does_not_count() -> None:
    planned = Reason(kind="recycled")
    strict = policy(intensity=1, on_exceeded="fatal")
    assert {strict.decide(0.0, planned, 1.0) for _ in range(10)} == {Decision(RestartAction.RESTART)}


def test_a_manual_start_clears_the_counters() -> None:
    strict = policy(intensity=1, on_exceeded="fatal")
    strict.decide(0.0, LOST, None)
    strict.reset()
    assert strict.decide(0.1, LOST, None) == Decision(RestartAction.RESTART, 0.5, 1)


@given(st.integers(1, 20), st.floats(0.1, 100), st.lists(st.floats(0, 10), min_size=1, max_size=100))
def test_no_window_of_a_period_holds_more_connects_than_the_budget(connects: int, period: float, pauses: list[float]) -> None:
    budget, now, slots = ConnectBudget(), 0.0, []
    for pause in pauses:
        now += pause
        slots.append(budget.reserve("host", now, connects, period))
    slots.sort()
    for first, later in zip(slots, slots[connects:], strict=False):
        assert later - first >= period * (1 - 1e-9)


def test_hosts_do_not_share_a_budget() -> None:
    budget = ConnectBudget()
    assert [budget.reserve(host, 0.0, 1, 60) for host in ("a", "b", "a")] == [0.0, 0.0, 60.0]


def test_a_booking_that_is_given_back_is_free_again() -> None:
    budget = ConnectBudget()
    budget.reserve("a", 0.0, 1, 60)
    booked = budget.reserve("a", 0.0, 1, 60)
    budget.cancel("a", booked)
    assert budget.reserve("a", 0.0, 1, 60) == booked == 60.0


def test_a_pause_that_a_host_asks_for_applies_to_all_its_endpoints_and_is_added_to_the_limit() -> None:
    budget = ConnectBudget()
    budget.reserve("a", 0.0, 2, 60)
    budget.reserve("a", 1.0, 2, 60)
    booked = budget.reserve("a", 1.0, 2, 60)
    budget.hold("a", 100.0)
    budget.hold("a", 50.0)  # the longer wish counts
    assert booked == 60.0
    assert budget.due("a", booked, 60.0, 2, 60) == 100.0
    assert [budget.reserve("a", 70.0, 2, 60) for _ in range(3)] == [100.0, 160.0, 160.0]
    assert budget.reserve("b", 2.0, 2, 60) == 2.0
    assert budget.due("a", 100.0, 100.0, 2, 60) == 100.0


def test_a_connect_that_came_late_makes_those_behind_it_wait() -> None:
    budget = ConnectBudget()
    first, second = budget.reserve("a", 0.0, 1, 10), budget.reserve("a", 0.0, 1, 10)
    budget.came("a", first, 3.0)
    assert (second, budget.due("a", second, 10.0, 1, 10)) == (10.0, 13.0)
    assert budget.due("a", 13.0, 13.0, 1, 10) == 13.0


def test_bookings_that_are_due_together_go_in_their_order_and_none_waits_for_those_behind_it() -> None:
    budget = ConnectBudget()
    slots = [budget.reserve("a", 0.0, 2, 10) for _ in range(6)]
    assert slots == [0.0, 0.0, 10.0, 10.0, 20.0, 20.0]
    for _ in range(2):
        budget.came("a", 0.0, 5.0)
    assert [budget.due("a", 10.0, 10.0, 2, 10) for _ in range(2)] == [15.0, 15.0]
    assert [budget.due("a", 15.0, 15.0, 2, 10) for _ in range(2)] == [15.0, 15.0]
    assert [budget.due("a", 20.0, 20.0, 2, 10) for _ in range(2)] == [25.0, 25.0]


def test_a_peer_that_asks_for_more_than_the_cool_down_gets_it() -> None:
    asked = Reason(kind="handshake_rejected", status=429, retry_after=500.0)
    assert policy(intensity=0, cool_down=60.0).decide(0.0, asked, None) == Decision(RestartAction.COOL_DOWN, 500.0, 1)


@pytest.mark.parametrize("reason", [Reason(kind="login_failed"), Reason(kind="handshake_rejected", status=403)])
def test_a_refusal_is_asked_again_at_the_slowest_pace_from_the_first_on(reason: Reason) -> None:
    assert policy(backoff_initial=0.1, backoff_max=30.0).decide(0.0, reason, None).delay == 30.0


def test_without_a_limit_there_is_no_wait() -> None:
    budget = ConnectBudget()
    assert {budget.reserve("a", 0.0, 0, 60) for _ in range(1000)} == {0.0}


def test_the_budget_that_is_left_is_the_limit_less_what_was_made_and_booked() -> None:
    budget = ConnectBudget()
    assert budget.left(0.0) == {}
    for _ in range(3):
        budget.reserve("h", 10.0, 2, 60.0)  # two are made, one is booked for later
    budget.reserve("unlimited", 10.0, 0, 60.0)
    assert budget.left(10.0) == {"h": 0}
    budget.cancel("h", 70.0)
    assert budget.left(10.0) == {"h": 0}
    assert budget.left(71.0) == {"h": 2}


def test_a_host_that_asked_for_a_pause_allows_no_connect_until_then() -> None:
    budget = ConnectBudget()
    budget.reserve("h", 0.0, 5, 60.0)
    budget.hold("h", 30.0)
    assert budget.left(29.0) == {"h": 0}
    assert budget.left(30.0) == {"h": 4}


def test_connects_of_an_hour_ago_are_forgotten() -> None:
    budget = ConnectBudget()
    budget.reserve("a", 0.0, 1, 10)
    assert budget.reserve("a", 3600.0, 1, 10) == 3600.0
    assert budget.left(3600.0) == {"a": 0}


def test_a_connect_that_was_never_booked_is_made_and_cancels_nothing() -> None:
    budget = ConnectBudget()
    assert budget.reserve("a", 0.0, 2, 60) == 0.0
    budget.came("a", 5.0, 6.0)
    budget.cancel("a", 7.0)
    assert budget.left(6.0) == {"a": 0}
