"""A request's id: found, put in, refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsadapter.contract.errors import UsageError
from wsadapter.endpoint.request_id import with_id


def placed(payload: Any, path: str = "id", fresh: int | str = 7) -> tuple[str, str]:
    known, text = with_id(payload, path, lambda: fresh)
    return known, text.decode()


@pytest.mark.parametrize(
    ("payload", "path", "expected"),
    [
        ({"method": "a"}, "id", ("7", '{"method":"a","id":7}')),
        ({}, "id", ("7", '{"id":7}')),
        ({"id": None}, "id", ("7", '{"id":7}')),
        ({"id": "x"}, "id", ("x", '{"id":"x"}')),
        ({"id": 0}, "id", ("0", '{"id":0}')),
        ('{"a":1.10}', "id", ("7", '{"id":7,"a":1.10}')),
        (" { } ", "id", ("7", '{"id":7} ')),
        (b'{"id" : 5}', "id", ("5", '{"id" : 5}')),
        ('{"a":123456789012345678901234567890}', "id", ("7", '{"id":7,"a":123456789012345678901234567890}')),
        ('{"p":{"n":12345678901234567890123}}', "p.id", ("7", '{"p":{"n":12345678901234567890123,"id":7}}')),
        ({"p": {"n": 1}}, "p.id", ("7", '{"p":{"n":1,"id":7}}')),
        ({}, "p.id", ("7", '{"p":{"id":7}}')),
        ('{"id":null,"a":"ü"}', "id", ("7", '{"id":7,"a":"ü"}')),
    ],
)
def test_the_id_is_found_or_put_in(payload: Any, path: str, expected: tuple[str, str]) -> None:
    assert placed(payload, path) == expected


def test_the_payload_itself_is_left_alone() -> None:
    payload = {"p": {"n": 1}}
    placed(payload, "p.id")
    assert payload == {"p": {"n": 1}}


@pytest.mark.parametrize(
    "payload",
    ["", "no JSON", "[1]", "1", b"\xff", '{"id":1.5}', {"id": True}, {"id": ""}, {"id": ["a"]}, {"id": {}}, {"a": object()}],
)
def test_what_has_no_id_and_can_have_none_is_refused(payload: Any) -> None:
    with pytest.raises(UsageError):
        placed(payload)


def test_a_path_through_something_without_fields_is_refused() -> None:
    with pytest.raises(UsageError, match="has no fields"):
        placed({"p": 1}, "p.id")


@given(st.dictionaries(st.text(), st.none() | st.booleans() | st.integers() | st.text()))
def test_an_id_put_into_a_text_changes_nothing_else(fields: dict[str, Any]) -> None:
    fields.pop("id", None)
    _, text = placed(json.dumps(fields))
    assert json.loads(text) == {**fields, "id": 7}
