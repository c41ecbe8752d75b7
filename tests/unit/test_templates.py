"""Frames of a dialect, filled in."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from wsadapter.contract.dialect.templates import BadStream, as_number, fill, fill_in, number_in


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


STREAM = {"channel": "book", "params": ["X", True], "at": {"n": 5}}


@pytest.mark.parametrize(
    ("template", "stream", "expected"),
    [
        ('{"id":"$id","m":"{channel}.sub","p":"{params}"}', STREAM, {"id": 7, "m": "book.sub", "p": ["X", True]}),
        ('{"{channel}":"{params}","n":"{at.n}","t":"n{at.n}-$id"}', STREAM, {"book": ["X", True], "n": 5, "t": "n5-7"}),
        ('["{}",["to.{}"],{"{}":1,"n":2.5}]', "x", ["x", ["to.x"], {"x": 1, "n": 2.5}]),
        ('{"a":"$stream","b":"{channel}","c":{}}', "x", {"a": "x", "b": "{channel}", "c": {}}),
        ('{"a":"$streams","{b}":"{"}', "x", {"a": ["x"], "{b}": "{"}),
        ('{"a":"{}","b":"$time"}', "$time{}", {"a": "$time{}", "b": 12}),
    ],
)
def test_a_frame_is_put_together_from_parts_of_a_stream(template: str, stream: Any, expected: object) -> None:
    assert orjson.loads(fill(template, [stream], 7, 12.345)) == expected


@pytest.mark.parametrize(
    ("template", "stream", "message"),
    [
        ('{"a":"{channel}"}', "x", "must be a table for this dialect, not the string 'x'"),
        ('{"a":"{}"}', STREAM, "must be a string for this dialect, not a table"),
        ('{"a":"{type}"}', STREAM, "must have 'type' for this dialect"),
        ('{"{params}":1}', STREAM, r"""must have one word at 'params' for this dialect, not \["X",true\]"""),
    ],
)
def test_a_stream_without_these_parts_is_refused(template: str, stream: Any, message: str) -> None:
    with pytest.raises(BadStream, match=message):
        fill(template, [stream], 7)


def test_what_names_no_stream_is_left_as_it_is() -> None:
    assert fill_in('{"a":"{channel}"}') == {"a": "{channel}"}


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


@pytest.mark.parametrize(
    ("value", "number"),
    [(7, 7), ("7", 7), ("req-7", 7), (True, None), ("x", None), ("9" * 18, int("9" * 18)), ("9" * 19, None), ("9" * 5000, None),
     ("id" + "9" * 5000, None), ("\u0667", None)],
)  # fmt: skip
def test_the_number_in_an_answer_has_digits_that_can_be_converted(value: Any, number: int | None) -> None:
    assert number_in(value) == number


@pytest.mark.parametrize(
    ("text", "number"),
    [("0", 0), ("17361", 17361), ("18446744073709551615", (1 << 64) - 1), ("007", None), ("-1", None), ("", None),
     ("1" * 21, None), ("9" * 5000, None), ("\u0667", None)],
)  # fmt: skip
def test_a_text_is_a_number_where_the_number_would_be_written_so(text: str, number: int | None) -> None:
    assert as_number(text) == number
