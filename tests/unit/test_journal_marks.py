"""Marks: the last one that was stored survives its supervisor, also if that is killed while it stores the next one."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsadapter.contract.items import Down, Gap, Up
from wsadapter.contract.reasons import Reason
from wsadapter.journal.marks import Mark, MarkFile
from wsadapter.journal.rows import event_row, message_row
from wsadapter.journal.state import State

pytestmark = pytest.mark.native


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=6))
def test_the_last_mark_is_loaded_by_the_next_supervisor_which_stores_on(bodies: list[bytes]) -> None:
    file = MarkFile()
    assert file.load() is None
    for body in bodies:
        assert file.store(body)
        after = MarkFile(os.dup(file.fileno()))
        assert after.load() == body
        file.close()
        file = after
    file.close()


@given(st.binary(min_size=1, max_size=200), st.binary(min_size=1, max_size=200), st.data())
def test_a_mark_that_is_half_written_leaves_the_one_before(before: bytes, torn: bytes, data: st.DataObject) -> None:
    file, other = MarkFile(), MarkFile()
    for body in (b"first", before):
        file.store(body)
    for body in (b"first", before, torn):
        other.store(body)
    at = 1 << 32  # the slot of the third
    whole = os.pread(other.fileno(), 24 + len(torn), at)
    os.pwrite(file.fileno(), whole[: data.draw(st.integers(0, len(whole) - 1))], at)
    assert file.load() == before
    file.close()
    other.close()


def test_a_mark_of_an_owner_that_is_gone_is_not_stored_and_releases_nothing() -> None:
    file, released = MarkFile(), list[int]()
    file.close()
    Mark(b"body", file, lambda: released.append(1)).confirm()
    assert not released


def test_the_state_says_how_much_of_the_last_record_is_in_the_journal() -> None:
    state = State()
    at = 1
    gap = Gap("a", 1, at, "resync", None, None)
    rows = [
        (event_row(1, Up("a", 1, at), 1), (1, 1, False)),
        (event_row(2, gap, 1), (1, 2, False)),
        (message_row(3, "a", [b"x"], epoch=1, record=2, number=1, at=at), (2, 0, True)),
        (event_row(4, gap, 3), (3, 1, False)),
        (message_row(5, "a", [b"x", b"y"], epoch=1, record=3, number=2, at=at), (3, 1, True)),
        (event_row(7, Down("a", 1, at, Reason(kind="crashed")), 3), (3, 2, True)),
        (event_row(8, Up("a", 2, at), 3), (3, 1, False)),  # the number of another owner's record
        (event_row(9, replace(gap, epoch=2)), (3, 1, False)),  # of no record
        (event_row(10, gap, 4), (3, 1, False)),  # of an epoch before
    ]
    for row, known in rows:
        state.advance(row)
        progress = state.endpoints["a"]
        assert (progress.record, progress.events, progress.messages) == known, row
