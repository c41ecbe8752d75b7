"""The table of a link's life, and which event of it a decision of the restart policy is."""

from __future__ import annotations

from collections import deque
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsadapter.endpoint.link_state import (
    OF_A_DEATH,
    STATES,
    TABLE,
    WITH_OWNER,
    WITHOUT_OWNER,
    LinkAction,
    LinkEvent,
    LinkState,
    after_death,
    shown,
    step,
)
from wsadapter.endpoint.restart_policy import Decision, RestartAction
from wsadapter.status import EndpointState

E, S, A = LinkEvent, LinkState, LinkAction


def run(*events: LinkEvent, begin: LinkState = S.STOPPED) -> list[tuple[LinkState, LinkAction]]:
    state, path = begin, []
    for event in events:
        state, action = step(state, event)
        path.append((state, action))
    return path


def test_a_link_that_starts_runs_and_stops() -> None:
    assert run(E.START, E.DUE, E.ASSIGN, E.UP, E.STOP, E.END) == [
        (S.WAITING, A.RESERVE_CONNECT),
        (S.STARTING, A.ACQUIRE_OWNER),
        (S.CONNECTING, A.NOTHING),
        (S.UP, A.NOTHING),
        (S.STOPPING, A.ASK_TO_STOP),
        (S.STOPPED, A.REPORT_END),
    ]


def test_a_planned_change_leaves_the_owner_and_connects_anew() -> None:
    assert run(E.REPLACE, E.RETRY, E.DUE, begin=S.UP) == [
        (S.LEAVING, A.ASK_TO_LEAVE),
        (S.WAITING, A.RESERVE_CONNECT),
        (S.STARTING, A.ACQUIRE_OWNER),
    ]


def test_an_owner_whose_connection_outlives_it_is_killed_and_followed_at_once() -> None:
    assert run(E.HAND_OVER, E.RESUME, E.ASSIGN, begin=S.UP) == [
        (S.LEAVING, A.KILL),
        (S.STARTING, A.ACQUIRE_OWNER),
        (S.CONNECTING, A.NOTHING),
    ]


def test_a_warm_owner_without_a_connection_waits_for_the_budget_and_can_be_stopped_meanwhile() -> None:
    assert run(E.POSTPONE, E.ASSIGN, begin=S.STARTING)[-1] == (S.CONNECTING, A.NOTHING)
    assert run(E.POSTPONE, E.STOP, begin=S.STARTING)[-1] == (S.STOPPING, A.ASK_TO_STOP)


def test_a_successor_that_is_connected_follows_without_a_new_connect() -> None:
    assert run(E.REPLACE, E.FOLLOW, E.ASSIGN, E.UP, begin=S.UP)[1:] == [
        (S.STARTING, A.ADOPT_SUCCESSOR),
        (S.CONNECTING, A.NOTHING),
        (S.UP, A.NOTHING),
    ]


def test_a_report_of_an_open_connection_does_not_bring_a_leaving_owner_back() -> None:
    for state in (S.LEAVING, S.STOPPING, S.UP):
        assert step(state, E.UP) == (state, A.NOTHING)


@pytest.mark.parametrize("event", OF_A_DEATH)
def test_after_a_stop_no_owner_follows_whatever_the_policy_says(event: LinkEvent) -> None:
    assert step(S.STOPPING, event) == (S.STOPPED, A.REPORT_END)


def test_a_restart_overrules_a_stop_that_is_under_way() -> None:
    assert run(E.STOP, E.REPLACE, E.RETRY, begin=S.UP)[-1] == (S.WAITING, A.RESERVE_CONNECT)


@pytest.mark.parametrize("state", WITHOUT_OWNER)
def test_without_an_owner_a_start_asks_for_a_connect_and_a_stop_is_done_at_once(state: LinkState) -> None:
    assert step(state, E.START) == (S.WAITING, A.RESERVE_CONNECT)
    assert step(state, E.STOP) == (S.STOPPED, A.REPORT_END)


@pytest.mark.parametrize("state", WITH_OWNER)
def test_with_an_owner_each_kind_of_death_has_an_action(state: LinkState) -> None:
    assert {event: step(state, event) for event in OF_A_DEATH} == {
        E.RESUME: (S.STARTING, A.ACQUIRE_OWNER),
        E.RESUME_LATER: (S.WAITING, A.AWAIT_RESUMPTION),
        E.FOLLOW: (S.STARTING, A.ADOPT_SUCCESSOR),
        E.RETRY: (S.WAITING, A.RESERVE_CONNECT),
        E.BACK_OFF: (S.WAITING, A.AWAIT_RETRY),
        E.COOL_DOWN: (S.COOLING_DOWN, A.AWAIT_RETRY),
        E.END: (S.STOPPED, A.REPORT_END),
        E.GIVE_UP: (S.FATAL, A.REPORT_FATAL),
    }


def test_a_link_from_another_supervisor_is_up_or_fatal_at_once() -> None:
    assert run(E.RECEIVE) == [(S.UP, A.NOTHING)]
    assert run(E.RECEIVE_FATAL) == [(S.FATAL, A.NOTHING)]
    for event in (E.RECEIVE, E.RECEIVE_FATAL):
        assert {step(state, event) for state in S if state is not S.STOPPED} == {
            (state, A.NOTHING) for state in S if state is not S.STOPPED
        }


@pytest.mark.parametrize("state", list(S))
def test_a_link_that_another_supervisor_received_stops_without_a_report(state: LinkState) -> None:
    assert step(state, E.DISOWN) == (S.STOPPED, A.DISOWN)


def test_a_timer_that_fires_after_a_stop_starts_nothing() -> None:
    for event in (E.DUE, E.ASSIGN, E.POSTPONE):
        assert step(S.STOPPED, event) == (S.STOPPED, A.NOTHING)
        assert step(S.STOPPING, event) == (S.STOPPING, A.NOTHING)


def test_every_state_event_and_action_is_in_the_table() -> None:
    assert {state for state, _ in TABLE} == set(S)
    assert {event for _, event in TABLE} == set(E)
    assert {action for _, action in TABLE.values()} == set(A)


def test_from_every_state_there_is_a_way_up_and_a_way_to_the_end() -> None:
    for origin in S:
        seen, todo = {origin}, deque([origin])
        while todo:
            state = todo.popleft()
            for event in E:
                after, _ = step(state, event)
                if after not in seen:
                    seen.add(after)
                    todo.append(after)
        assert {S.UP, S.STOPPED} <= seen, origin


@given(st.lists(st.sampled_from(list(E)), max_size=40))
def test_an_owner_is_acquired_only_if_there_is_none_and_asked_to_leave_only_if_there_is_one(events: list[LinkEvent]) -> None:
    state, owner = S.STOPPED, False
    for event in events:
        if event in OF_A_DEATH:
            if not owner:
                continue  # nobody can die
            owner = False
        owner = owner or (event is E.RECEIVE and state is S.STOPPED)
        state, action = step(state, event)
        match action:
            case A.ACQUIRE_OWNER | A.ADOPT_SUCCESSOR:
                assert not owner
                owner = True
            case A.ASK_TO_LEAVE | A.ASK_TO_STOP | A.KILL:
                assert owner
            case A.REPORT_END | A.REPORT_FATAL | A.RESERVE_CONNECT | A.AWAIT_RETRY | A.AWAIT_RESUMPTION:
                assert not owner
            case A.DISOWN:
                owner = False
            case A.NOTHING:
                pass
        assert owner is (state not in WITHOUT_OWNER)


@pytest.mark.parametrize(
    ("decision", "about", "event"),
    [
        (Decision(RestartAction.RESTART), {}, E.RETRY),
        (Decision(RestartAction.RESTART, 1.5, 2), {}, E.BACK_OFF),
        (Decision(RestartAction.RESTART, 1.5, 2), {"follows": True}, E.FOLLOW),
        (Decision(RestartAction.RESTART, 1.5, 2), {"alive": True}, E.RESUME),
        (Decision(RestartAction.RESTART, 1.5, 2), {"alive": True, "waits": True}, E.RESUME_LATER),
        (Decision(RestartAction.COOL_DOWN, 60.0, 5), {}, E.COOL_DOWN),
        (Decision(RestartAction.FATAL), {}, E.GIVE_UP),
        (Decision(RestartAction.END), {}, E.END),
        (Decision(RestartAction.STOP_SUPERVISOR), {}, E.END),
    ],
)
def test_a_decision_is_one_event(decision: Decision, about: dict[str, bool], event: LinkEvent) -> None:
    assert after_death(decision, **{"alive": False, "follows": False, "waits": False, **about}) is event


def test_users_see_every_state_that_the_status_promises() -> None:
    seen = {shown(state, assigned=False, was_up=False) for state in S}
    assert seen == set(get_args(EndpointState)) == set(STATES)


def test_the_state_of_an_owner_that_is_to_be_replaced_is_shown_unchanged() -> None:
    assert shown(S.LEAVING, assigned=False, was_up=False) == "starting"
    assert shown(S.LEAVING, assigned=True, was_up=False) == "connecting"
    assert shown(S.LEAVING, assigned=True, was_up=True) == "up"
