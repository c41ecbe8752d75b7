"""Frames of a dialect, filled in."""

from __future__ import annotations

import orjson
import pytest

from wsadapter.contract.dialect.templates import BadStream, fill


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ('{"a":"$streams","id":"$id"}', {"a": ["x"], "id": 7}),
        ('{"a":"$stream","id":"$id_text"}', {"a": "x", "id": "7"}),
        ('{"a":["$stream"],"id":"sub-$id","t":"$time","n":"$time_ms"}', {"a": ["x"], "id": "sub-7", "t": 12, "n": 12345}),
        ('{"id":"$id_text/$time/$time_ms/$id","more":[{"id":"$id"}]}', {"id": "7/12/12345/7", "more": [{"id": 7}]}),
        ('{"price":"5$","x":null,"n":1.5,"b":true}', {"price": "5$", "x": None, "n": 1.5, "b": True}),
    ],
)
def test_placeholders_keep_their_types(template: str, expected: object) -> None:
    assert orjson.loads(fill(template, ["x"], 7, 12.345)) == expected


def test_the_fields_of_a_stream_stand_where_its_key_stood() -> None:
    assert fill('{"id":"$id_text","$stream":"*","z":1}', [{"sub": "x", "type": "$id"}], 7) == (
        b'{"id":"7","sub":"x","type":"$id","z":1}'
    )
    with pytest.raises(BadStream, match="must be a table for this dialect, not the string 'x'"):
        fill('{"$stream":"*"}', ["x"], 7)


def test_streams_are_spliced_into_an_array_as_its_items() -> None:
    template = '[{"ticket":"x"},"$streams...",{"format":["$streams...",1,"$streams..."]}]'
    assert orjson.loads(fill(template, ["a", {"type": "$id"}], 7)) == [
        {"ticket": "x"}, "a", {"type": "$id"}, {"format": ["a", {"type": "$id"}, 1, "a", {"type": "$id"}]},
    ]  # fmt: skip
    assert orjson.loads(fill('["$streams..."]', [], 7)) == []
