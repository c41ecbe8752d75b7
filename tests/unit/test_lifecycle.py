"""The table of an owner process's life."""

from __future__ import annotations

import signal
from collections import deque

from hypothesis import given
from hypothesis import strategies as st

from wsadapter.contract.endpoint import Timeouts, Watchdog
from wsadapter.process.lifecycle import SIGNALS, TABLE, ProcessAction, ProcessEvent, ProcessState, step, time_limit


def run(*events: ProcessEvent, begin: ProcessState = ProcessState.SPAWNING) -> list[tuple[ProcessState, ProcessAction]]:
    state, path = begin, []
    for event in events:
        state, action = step(state, event)
        path.append((state, action))
    return path


def test_a_link_that_starts_runs_and_stops() -> None:
    assert run(ProcessEvent.STARTED, ProcessEvent.READY, ProcessEvent.ASSIGN, ProcessEvent.STOP, ProcessEvent.DEATH) == [
        (ProcessState.STARTING, ProcessAction.AWAIT_READY),
        (ProcessState.WARM, ProcessAction.REPORT_READY),
        (ProcessState.SERVING, ProcessAction.ASSIGN),
        (ProcessState.ASKED, ProcessAction.ASK),
        (ProcessState.DEAD, ProcessAction.FINISH),
    ]


def test_the_start_up_deadline_begins_with_the_turn_in_the_launcher_s_queue() -> None:
    assert step(ProcessState.QUEUED, ProcessEvent.DEADLINE) == (ProcessState.QUEUED, ProcessAction.NOTHING)
    assert step(ProcessState.QUEUED, ProcessEvent.LAUNCHING) == (ProcessState.SPAWNING, ProcessAction.AWAIT_START)
    assert step(ProcessState.SPAWNING, ProcessEvent.DEADLINE) == (ProcessState.DEAD, ProcessAction.GIVE_UP_START)


def test_one_that_is_stopped_while_it_waits_for_its_turn_is_withdrawn() -> None:
    assert step(ProcessState.QUEUED, ProcessEvent.STOP) == (ProcessState.UNWANTED, ProcessAction.WITHDRAW)
    assert step(ProcessState.UNWANTED, ProcessEvent.FAILED) == (ProcessState.DEAD, ProcessAction.FINISH)
    assert step(ProcessState.UNWANTED, ProcessEvent.LAUNCHING) == (
        ProcessState.UNWANTED,
        ProcessAction.AWAIT_END,
    )  # it was about to be started


def test_the_stop_ladder_has_three_rungs() -> None:
    path = run(
        ProcessEvent.STARTED,
        ProcessEvent.READY,
        ProcessEvent.ASSIGN,
        ProcessEvent.STOP,
        ProcessEvent.DEADLINE,
        ProcessEvent.DEADLINE,
        ProcessEvent.DEADLINE,
    )
    assert [action for _, action in path[3:]] == [
        ProcessAction.ASK,
        ProcessAction.TERMINATE,
        ProcessAction.KILL,
        ProcessAction.GIVE_UP_ON_STUCK,
    ]


def test_a_second_stop_changes_nothing() -> None:
    assert run(ProcessEvent.STARTED, ProcessEvent.READY, ProcessEvent.STOP, ProcessEvent.STOP)[-1] == (
        ProcessState.ASKED,
        ProcessAction.NOTHING,
    )


def test_the_start_up_deadline_kills() -> None:
    assert run(ProcessEvent.STARTED, ProcessEvent.DEADLINE)[-1] == (ProcessState.KILLED, ProcessAction.KILL)


def test_a_process_that_comes_after_it_is_no_longer_wanted_is_killed() -> None:
    assert run(ProcessEvent.STOP, ProcessEvent.STARTED)[-1] == (ProcessState.KILLED, ProcessAction.KILL)


def test_a_hung_owner_writes_its_stack_before_it_is_killed() -> None:
    assert [
        action
        for _, action in run(
            ProcessEvent.STARTED, ProcessEvent.READY, ProcessEvent.ASSIGN, ProcessEvent.HUNG, ProcessEvent.DEADLINE
        )[3:]
    ] == [
        ProcessAction.DUMP,
        ProcessAction.KILL,
    ]


def test_every_action_but_those_that_end_or_begin_a_life_has_a_time_limit() -> None:
    """A process that is not warm, serving or dead is on its way, and must not be so for ever."""
    timeouts, watchdog = Timeouts(close=1.0), Watchdog(startup=2.0)
    limits = {action: time_limit(action, timeouts, watchdog) for action in ProcessAction}
    for (before, event), (after, action) in TABLE.items():
        waits_its_turn = before is ProcessState.QUEUED and event in (ProcessEvent.STOP, ProcessEvent.ABORT)
        resting = waits_its_turn or after in (ProcessState.WARM, ProcessState.SERVING, ProcessState.DEAD)
        assert (limits[action] == 0) is resting, (before, event)


def test_the_steps_of_the_stop_have_the_time_to_close_and_their_signals() -> None:
    timeouts, watchdog = Timeouts(close=1.0), Watchdog(startup=2.0)
    for action in (ProcessAction.ASK, ProcessAction.AWAIT_END, ProcessAction.TERMINATE, ProcessAction.KILL):
        assert time_limit(action, timeouts, watchdog) == 1.0
    for action in (ProcessAction.AWAIT_START, ProcessAction.AWAIT_READY):
        assert time_limit(action, timeouts, watchdog) == 2.0
    assert SIGNALS == {
        ProcessAction.DUMP: signal.SIGUSR2,
        ProcessAction.TERMINATE: signal.SIGTERM,
        ProcessAction.KILL: signal.SIGKILL,
    }


def test_from_every_state_there_is_a_way_to_the_grave_by_deadlines_and_death_alone() -> None:
    for origin in ProcessState:
        seen, todo = {origin}, deque([origin])
        while todo:
            state = todo.popleft()
            for event in (ProcessEvent.LAUNCHING, ProcessEvent.DEADLINE, ProcessEvent.STARTED, ProcessEvent.DEATH):
                after, _ = step(state, event)
                if after not in seen:
                    seen.add(after)
                    todo.append(after)
        assert ProcessState.DEAD in seen, origin


@given(
    st.lists(st.sampled_from(list(ProcessEvent)), max_size=30), st.sampled_from([ProcessState.QUEUED, ProcessState.SPAWNING])
)
def test_it_is_buried_once(events: list[ProcessEvent], begin: ProcessState) -> None:
    path = run(*events, begin=begin)
    assert (
        sum(action in (ProcessAction.FINISH, ProcessAction.GIVE_UP_START, ProcessAction.GIVE_UP_ON_STUCK) for _, action in path)
        <= 1
    )
    if any(state is ProcessState.DEAD for state, _ in path):
        assert path[-1][0] is ProcessState.DEAD


def test_the_dead_react_to_nothing() -> None:
    assert not [key for key in TABLE if key[0] is ProcessState.DEAD]
