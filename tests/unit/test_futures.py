"""Futures that their callers can't cancel, and those that end together."""

from __future__ import annotations

import pytest

from wsadapter.contract.errors import NotConnected
from wsadapter.endpoint.futures import Waiters, uncancellable_future


def test_a_caller_cannot_cancel_a_future_that_the_loop_resolves() -> None:
    future = uncancellable_future()
    assert not future.cancel()
    future.set_result(None)


def test_waiters_end_together_and_once() -> None:
    waiters = Waiters()
    one, other = waiters.add(), waiters.add()
    assert waiters
    waiters.resolve()
    assert (one.done(), other.done(), bool(waiters)) == (True, True, False)
    waiters.fail(lambda: NotConnected("gone"))
    assert one.result(0) is None


def test_each_waiter_gets_a_separate_error_object() -> None:
    waiters = Waiters()
    one, other = waiters.add(), waiters.add()
    waiters.fail(lambda: NotConnected("gone"))
    assert one.exception(0) is not other.exception(0)
    with pytest.raises(NotConnected, match="gone"):
        one.result(0)


def test_a_waiter_that_is_added_while_the_others_end_waits_for_the_next_end() -> None:
    waiters = Waiters()
    late = []
    waiters.add().add_done_callback(lambda _: late.append(waiters.add()))
    waiters.resolve()
    assert not late[0].done()
    assert waiters
