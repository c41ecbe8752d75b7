"""An asyncio loop in a thread, and its tasks."""

from __future__ import annotations

import asyncio
import threading

import pytest

from wsadapter.sinks.loop_thread import LoopThread, Tasks


def test_a_coroutine_runs_in_the_thread_of_the_loop_and_its_result_is_returned() -> None:
    async def name() -> str:
        return threading.current_thread().name

    loop = LoopThread("a thread")
    loop.start()
    try:
        assert loop.wait(name()) == "a thread"
    finally:
        loop.close()


def test_an_error_of_the_coroutine_is_raised_by_wait() -> None:
    async def fail() -> None:
        raise ValueError("no")

    loop = LoopThread("a thread")
    loop.start()
    try:
        with pytest.raises(ValueError, match="no"):
            loop.wait(fail())
    finally:
        loop.close()


@pytest.mark.parametrize("was_started", [False, True])
def test_a_loop_that_does_not_run_refuses_a_coroutine(was_started: bool) -> None:
    async def nothing() -> None: ...

    loop = LoopThread("a thread")
    if was_started:
        loop.start()
    loop.close()
    assert not loop.is_running
    with pytest.raises(RuntimeError, match="isn't running"):
        loop.wait(nothing())


def test_close_cancels_the_tasks_and_waits_until_they_have_ended() -> None:
    ended = threading.Event()

    async def run() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async def spawn() -> None:
        loop.tasks.spawn(run())
        await asyncio.sleep(0)  # the task runs up to its first wait

    loop = LoopThread("a thread")
    loop.start()
    loop.wait(spawn())
    loop.close()
    assert ended.is_set()


def test_wait_returns_when_all_tasks_have_ended_or_the_time_is_over() -> None:
    async def run() -> None:
        tasks, release = Tasks(), asyncio.Event()

        async def work() -> None:
            await release.wait()

        task = tasks.spawn(work())
        await tasks.wait(0.01)
        assert not task.done()
        release.set()
        await tasks.wait(10)
        assert task.done()
        await tasks.wait(10)  # nothing to wait for
        await tasks.cancel()

    asyncio.run(run())


def test_a_task_that_loses_its_cancellation_is_cancelled_again() -> None:
    async def run() -> None:
        for lost in range(2):
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                if lost:
                    raise

    async def work() -> None:
        tasks = Tasks()
        task = tasks.spawn(run())
        await asyncio.sleep(0)
        await tasks.cancel()
        assert task.cancelled()

    asyncio.run(asyncio.wait_for(work(), 10.0))
