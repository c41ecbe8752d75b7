"""Which shard takes which stream."""

from __future__ import annotations

from concurrent.futures import Future

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsadapter.contract.endpoint import Endpoint
from wsadapter.endpoint.subscriptions import key_of
from wsadapter.registry.shards import capacity, number_of, parts, spread, together


def endpoint(*streams: str) -> Endpoint:
    return Endpoint("x", url="ws://127.0.0.1/", subscribe=streams)


def named(members: list[Endpoint]) -> dict[str, tuple[str, ...]]:
    return {member.name: tuple(map(key_of, member.subscribe)) for member in members}


def test_what_fits_one_connection_is_no_group() -> None:
    for most in (0, 2, 3):
        whole = endpoint("a", "b")
        assert parts(whole, {}, most) == [whole]
    assert capacity(None) == capacity({"subscribe": {}}) == 0
    assert capacity({"subscribe": {"per_connection": 5}}) == 5


def test_what_does_not_is_spread_in_order() -> None:
    assert named(parts(endpoint(*"abcde"), {}, 2)) == {"x#1": ("a", "b"), "x#2": ("c", "d"), "x#3": ("e",)}


def test_what_is_there_stays_and_what_is_new_goes_where_there_is_room() -> None:
    has = {"x#1": {"a": "a", "b": "b"}, "x#2": {"c": "c", "d": "d"}, "x#4": {"e": "e"}}
    expected = {"x#1": ("b", "f"), "x#2": ("c", "d"), "x#4": ("e", "g"), "x#5": ("h",)}
    assert named(parts(endpoint(*"bcdefgh"), has, 2)) == expected


def test_one_that_grows_keeps_its_name() -> None:
    grown = parts(endpoint(*"abc"), {"x": {"a": "a", "b": "b"}}, 2)
    assert named(grown) == {"x": ("a", "b"), "x#2": ("c",)}
    assert spread("x", ["c"], {"x": 2}, 2) == {"x#2": ["c"]}
    assert number_of("x") == 1


def test_a_shard_without_streams_goes_but_for_the_first() -> None:
    has = {"x#1": {"a": "a"}, "x#2": {"b": "b"}, "x#3": {"c": "c"}}
    assert named(parts(endpoint("c"), has, 1)) == {"x#1": (), "x#3": ("c",)}


@given(st.lists(st.lists(st.integers(0, 40), unique=True), min_size=1, max_size=6), st.integers(1, 7))
def test_whatever_is_wanted_each_stream_has_one_place_and_none_moves(wishes: list[list[int]], most: int) -> None:
    has: dict[str, dict[str, str]] = {}
    before: dict[str, str] = {}
    for wish in wishes:
        members = named(parts(endpoint(*map(str, wish)), has, most))  # type: ignore[arg-type]
        placed = {stream: shard for shard, streams in members.items() for stream in streams}
        assert sorted(placed) == sorted(map(str, wish))
        assert all(len(streams) <= most for streams in members.values())
        assert all(placed[stream] == shard for stream, shard in before.items() if stream in placed)
        has = {shard: {stream: stream for stream in streams} for shard, streams in members.items()}
        before = placed


def test_futures_together_end_with_the_last_and_fail_with_the_first_error() -> None:
    for errors in ((None, None), (None, ValueError("b")), (KeyError("a"), ValueError("b"))):
        futures: list[Future[None]] = [Future(), Future()]
        whole = together(futures)
        for future, error in reversed(list(zip(futures, errors, strict=True))):
            assert not whole.done()
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)
        assert whole.done()
        expected = next((error for error in errors if error is not None), None)
        assert whole.exception() is expected
    with pytest.raises(ValueError, match="alone"):
        alone: Future[None] = Future()
        alone.set_exception(ValueError("alone"))
        together([alone]).result()


def test_nothing_to_wait_for_is_done_at_once() -> None:
    assert together([]).done()
