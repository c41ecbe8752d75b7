"""The table of an owner process's life."""

from __future__ import annotations

import signal
from collections import deque

from hypothesis import given
from hypothesis import strategies as st

from wsadapter.contract.endpoint import Timeouts, Watchdog
from wsadapter.process.lifecycle import SIGNALS, TABLE, Action, Event, State, step, time_limit


def run(*events: Event, begin: State = State.SPAWNING) -> list[tuple[State, Action]]:
    state, path = begin, []
    for event in events:
        state, action = step(state, event)
        path.append((state, action))
    return path


def test_a_life_without_trouble() -> None:
    assert run(Event.STARTED, Event.READY, Event.ASSIGN, Event.STOP, Event.DEATH) == [
        (State.STARTING, Action.AWAIT_READY),
        (State.WARM, Action.REPORT_READY),
        (State.SERVING, Action.ASSIGN),
        (State.ASKED, Action.ASK),
        (State.DEAD, Action.FINISH),
    ]


def test_the_start_up_deadline_begins_with_the_turn_in_the_launcher_s_queue() -> None:
    assert step(State.QUEUED, Event.DEADLINE) == (State.QUEUED, Action.NOTHING)
    assert step(State.QUEUED, Event.LAUNCHING) == (State.SPAWNING, Action.AWAIT_START)
    assert step(State.SPAWNING, Event.DEADLINE) == (State.DEAD, Action.GIVE_UP_START)


def test_one_that_is_stopped_while_it_waits_for_its_turn_is_withdrawn() -> None:
    assert step(State.QUEUED, Event.STOP) == (State.UNWANTED, Action.WITHDRAW)
    assert step(State.UNWANTED, Event.FAILED) == (State.DEAD, Action.FINISH)
    assert step(State.UNWANTED, Event.LAUNCHING) == (State.UNWANTED, Action.AWAIT_END)  # it was about to be started


def test_the_stop_ladder_has_three_rungs() -> None:
    path = run(Event.STARTED, Event.READY, Event.ASSIGN, Event.STOP, Event.DEADLINE, Event.DEADLINE, Event.DEADLINE)
    assert [action for _, action in path[3:]] == [Action.ASK, Action.TERMINATE, Action.KILL, Action.GIVE_UP_ON_STUCK]


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


def test_every_action_but_those_that_end_or_begin_a_life_has_a_time_limit() -> None:
    """A process that is not warm, serving or dead is on its way, and must not be so for ever."""
    timeouts, watchdog = Timeouts(close=1.0), Watchdog(startup=2.0)
    limits = {action: time_limit(action, timeouts, watchdog) for action in Action}
    for (before, event), (after, action) in TABLE.items():
        waits_its_turn = before is State.QUEUED and event in (Event.STOP, Event.ABORT)
        resting = waits_its_turn or after in (State.WARM, State.SERVING, State.DEAD)
        assert (limits[action] == 0) is resting, (before, event)


def test_the_steps_of_the_stop_have_the_time_to_close_and_their_signals() -> None:
    timeouts, watchdog = Timeouts(close=1.0), Watchdog(startup=2.0)
    for action in (Action.ASK, Action.AWAIT_END, Action.TERMINATE, Action.KILL):
        assert time_limit(action, timeouts, watchdog) == 1.0
    for action in (Action.AWAIT_START, Action.AWAIT_READY):
        assert time_limit(action, timeouts, watchdog) == 2.0
    assert SIGNALS == {Action.DUMP: signal.SIGUSR2, Action.TERMINATE: signal.SIGTERM, Action.KILL: signal.SIGKILL}


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
    assert sum(action in (Action.FINISH, Action.GIVE_UP_START, Action.GIVE_UP_ON_STUCK) for _, action in path) <= 1
    if any(state is State.DEAD for state, _ in path):
        assert path[-1][0] is State.DEAD


def test_the_dead_react_to_nothing() -> None:
    assert not [key for key in TABLE if key[0] is State.DEAD]
