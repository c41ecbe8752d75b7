"""The frames of the control socket."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsadapter.contract.endpoint import Endpoint, Restart, Tls
from wsadapter.contract.ipc import commands
from wsadapter.contract.ipc.assignment import Assignment
from wsadapter.contract.ipc.commands import CommandReader, encode_command

some = st.lists(st.tuples(st.integers(1, 255), st.integers(0, 2**64 - 1), st.binary(max_size=50)), max_size=6)


@given(some, st.lists(st.integers(0, 400), max_size=10))
def test_any_split_reads_the_same(sent: list[tuple[int, int, bytes]], places: list[int]) -> None:
    data = b"".join(encode_command(*one) for one in sent)
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    reader = CommandReader()
    read = [tuple(one) for a, b in zip(edges, edges[1:], strict=False) for one in reader.feed(data[a:b])]
    assert read == sent


@pytest.mark.parametrize("length", [0, 8, commands.MAX_COMMAND + 1, 2**32 - 1])
def test_a_length_no_command_has_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match="claims"):
        list(CommandReader().feed(length.to_bytes(4, "little") + bytes(9)))


def test_an_assignment_survives_the_way() -> None:
    endpoint = Endpoint(
        "x",
        url=["ws://a", "ws://b"],
        subscribe=["trades", {"channel": "book", "depth": 2**53 + 1}],
        headers={"X-Key": "ä"},
        tls=Tls(pin_sha256=("00ff",)),
        restart=Restart(intensity=3),
    )
    assignment = Assignment(endpoint=endpoint, epoch=4, url="ws://a", wanted=("trades",), last_number=2**60)
    (command,) = CommandReader().feed(encode_command(commands.ASSIGN, 0, assignment.to_body()))
    arrived = Assignment.from_body(command.json())
    assert arrived.endpoint.tls == endpoint.tls
    assert arrived.endpoint.restart == endpoint.restart
    assert list(arrived.endpoint.subscribe) == list(endpoint.subscribe)
    assert (arrived.epoch, arrived.url, arrived.wanted, arrived.last_number) == (4, "ws://a", ("trades",), 2**60)


@pytest.mark.parametrize(
    ("value", "text"), [(7, "7"), (0, "0"), ("7", "7"), ("", None), (None, None), (True, None), (7.0, None), ([7], None)]
)
def test_a_request_id_is_a_number_or_text(value: object, text: str | None) -> None:
    assert commands.id_text(value) == text
