"""Messages, batches and events as values."""

from __future__ import annotations

import pickle
from typing import get_args

import orjson
import pytest

from wsadapter import Answer, AnyEvent, Batch, Down, Dropped, Event, Gap, Item, Message, Reason, Started, Up
from wsadapter.contract.items import DROP_CAUSES, EVENT_NAMES, GAP_CAUSES

pytestmark = pytest.mark.version


def message(data: bytes = b'{"a":9007199254740993}') -> Message:
    return Message("a", data, 2, 7, 123, "btcusdt@trade", False)


def test_a_message_is_immutable_picklable_and_a_tuple() -> None:
    one = message()
    assert pickle.loads(pickle.dumps(one)) == one
    assert hash(one) == hash(message())
    assert isinstance(one, tuple)
    with pytest.raises(AttributeError):
        one.data = b""  # type: ignore[misc]


def test_json_keeps_large_integers_and_text_decodes() -> None:
    assert message().json() == {"a": 9007199254740993}
    assert message("é".encode()).text == "é"
    with pytest.raises(ValueError, match="line 1"):
        message(b"not json").json()
    with pytest.raises(UnicodeDecodeError):
        _ = message(b"\xff").text


def test_the_repr_of_a_large_message_is_short() -> None:
    assert "(5000000 bytes)" in repr(message(b"x" * 5_000_000))
    assert len(repr(message(b"x" * 5_000_000))) < 250


def test_match_takes_messages_and_events_apart() -> None:
    match message():
        case Message(endpoint=name, data=data):
            assert (name, data[:1]) == ("a", b"{")
        case _:
            pytest.fail("no match")


def test_a_batch_is_a_sequence_of_payloads_with_numbers() -> None:
    batch = Batch("a", [b"x", b"y", b"z"], epoch=1, first_number=10, received_at=5)
    assert len(batch) == 3
    assert batch[1] == b"y"
    assert batch[-1] == b"z"
    assert batch[1:] == [b"y", b"z"]
    assert b"y" in batch
    assert [(m.number, m.data, m.stream, m.binary) for m in batch.messages()] == [
        (10, b"x", None, False),
        (11, b"y", None, False),
        (12, b"z", None, False),
    ]


def test_a_batch_may_tell_kind_and_stream_of_each() -> None:
    batch = Batch("a", [b"x", b"y"], epoch=1, first_number=1, received_at=5, binary=[True, False], streams=["s", None])
    assert [(m.binary, m.stream) for m in batch.messages()] == [(True, "s"), (False, None)]


def test_item_is_a_union_of_every_class_that_the_stream_holds_and_none_can_be_derived_from() -> None:
    assert set(get_args(Item)) == {Message, *EVENT_NAMES}
    assert set(get_args(AnyEvent)) == set(EVENT_NAMES)
    for kind in (*get_args(Item), Batch, Answer):
        assert kind.__final__, kind
    assert isinstance(Up("a", 1, 2), Item)
    assert not isinstance("a", Item)


def test_every_event_has_a_name_and_json_that_holds_its_fields() -> None:
    assert {kind.__name__ for kind in EVENT_NAMES} == {kind.__name__ for kind in Event.__subclasses__()}
    assert Gap("a", 3, 9, "reconnected", None, 8).to_json() == {
        "event": "gap", "endpoint": "a", "epoch": 3, "at": 9, "cause": "reconnected", "last_received_at": None,
        "resumed_at": 8, "expected": None, "got": None, "stream": None,
    }  # fmt: skip
    down = Down("a", 1, 9, Reason(kind="closed_by_peer", code=1006)).to_json()
    assert down["reason"] == {"kind": "closed_by_peer", "code": 1006}
    assert orjson.dumps(down)


def test_an_event_of_the_whole_supervisor_names_no_endpoint() -> None:
    assert set(Started("", 0, 1, "run", "name", "1.0").to_json()) == {"event", "at", "run", "name", "version"}


def test_events_are_frozen_values() -> None:
    up = Up("a", 1, 2)
    assert up == Up("a", 1, 2)
    assert pickle.loads(pickle.dumps(up)) == up
    with pytest.raises(AttributeError):
        up.epoch = 3  # type: ignore[misc]


def test_every_cause_has_a_meaning() -> None:
    assert {"reconnected", "supervisor_restarted", "sequence"} <= set(GAP_CAUSES)
    assert {"overflow", "conflated", "decode"} <= set(DROP_CAUSES)
    assert Dropped("a", 1, 2, None, None, 1, 5, "decode").kind == "dropped"
