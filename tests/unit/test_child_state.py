"""The table of an owner process's life."""

from __future__ import annotations

from collections import deque

from hypothesis import given
from hypothesis import strategies as st

from wsadapter.process.lifecycle import TABLE, Action, Event, State, step
from wsadapter.process.owner_process import _ACTIONS


def run(*events: Event, begin: State = State.SPAWNING) -> list[tuple[State, Action]]:
    state, path = begin, []
    for event in events:
        state, action = step(state, event)
        path.append((state, action))
    return path


def test_a_life_without_trouble() -> None:
    assert run(Event.STARTED, Event.READY, Event.ASSIGN, Event.STOP, Event.DEATH) == [
        (State.STARTING, Action.WATCH),
        (State.WARM, Action.ANNOUNCE),
        (State.SERVING, Action.ASSIGN),
        (State.ASKED, Action.ASK),
        (State.DEAD, Action.BURY),
    ]


def test_the_start_up_deadline_begins_with_the_turn_in_the_launcher_s_queue() -> None:
    assert step(State.QUEUED, Event.DEADLINE) == (State.QUEUED, Action.NOTHING)
    assert step(State.QUEUED, Event.LAUNCHING) == (State.SPAWNING, Action.AWAIT_START)
    assert step(State.SPAWNING, Event.DEADLINE) == (State.DEAD, Action.RENOUNCE)


def test_one_that_is_stopped_while_it_waits_for_its_turn_is_withdrawn() -> None:
    assert step(State.QUEUED, Event.STOP) == (State.UNWANTED, Action.WITHDRAW)
    assert step(State.UNWANTED, Event.FAILED) == (State.DEAD, Action.BURY)
    assert step(State.UNWANTED, Event.LAUNCHING) == (State.UNWANTED, Action.AWAIT_END)  # it was about to be started


def test_the_stop_ladder_has_three_rungs() -> None:
    path = run(Event.STARTED, Event.READY, Event.ASSIGN, Event.STOP, Event.DEADLINE, Event.DEADLINE, Event.DEADLINE)
    assert [action for _, action in path[3:]] == [Action.ASK, Action.TERMINATE, Action.KILL, Action.ABANDON]


def test_a_second_stop_changes_nothing() -> None:
    assert run(Event.STARTED, Event.READY, Event.STOP, Event.STOP)[-1] == (State.ASKED, Action.NOTHING)


def test_the_start_up_deadline_kills() -> None:
    assert run(Event.STARTED, Event.DEADLINE)[-1] == (State.KILLED, Action.KILL)


def test_a_process_that_comes_after_it_is_no_longer_wanted_is_killed() -> None:
    assert run(Event.STOP, Event.STARTED)[-1] == (State.KILLED, Action.KILL)


def test_a_hung_owner_writes_down_where_before_it_is_killed() -> None:
    assert [action for _, action in run(Event.STARTED, Event.READY, Event.ASSIGN, Event.HUNG, Event.DEADLINE)[3:]] == [
        Action.DUMP,
        Action.KILL,
    ]


def test_every_action_has_its_method() -> None:
    assert set(_ACTIONS) == set(Action)


def test_from_every_state_there_is_a_way_to_the_grave_by_deadlines_and_death_alone() -> None:
    for origin in State:
        seen, todo = {origin}, deque([origin])
        while todo:
            state = todo.popleft()
            for event in (Event.LAUNCHING, Event.DEADLINE, Event.STARTED, Event.DEATH):
                after, _ = step(state, event)
                if after not in seen:
                    seen.add(after)
                    todo.append(after)
        assert State.DEAD in seen, origin


@given(st.lists(st.sampled_from(list(Event)), max_size=30), st.sampled_from([State.QUEUED, State.SPAWNING]))
def test_it_is_buried_once(events: list[Event], begin: State) -> None:
    path = run(*events, begin=begin)
    assert sum(action in (Action.BURY, Action.RENOUNCE, Action.ABANDON) for _, action in path) <= 1
    if any(state is State.DEAD for state, _ in path):
        assert path[-1][0] is State.DEAD


def test_the_dead_react_to_nothing() -> None:
    assert not [key for key in TABLE if key[0] is State.DEAD]
