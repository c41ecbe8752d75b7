"""The welcome/ack script."""

from __future__ import annotations

import json
from typing import Any

import pytest

from wsadapter.testing.script import ScriptedAnswer, compile_script


def answer(rules: list[dict[str, Any]], message: Any) -> list[Any]:
    frames = compile_script(rules)(message if isinstance(message, str | bytes) else json.dumps(message)).frames
    return [json.loads(frame) if isinstance(frame, str) and frame.startswith("{") else frame for frame in frames]


def test_the_first_rule_that_fits_answers() -> None:
    rules = [
        {"match": {"op": "subscribe", "args.0": "a"}, "reply": "first"},
        {"match": {"op": "subscribe"}, "reply": ["second", {"ok": True}]},
        {"match": {"id": "*"}, "reply": "any"},
    ]
    assert answer(rules, {"op": "subscribe", "args": ["a"]}) == ["first"]
    assert answer(rules, {"op": "subscribe"}) == ["second", {"ok": True}]
    assert answer(rules, {"id": None}) == ["any"]
    assert answer(rules, {"op": "else"}) == []
    assert answer(rules, "no json") == []
    assert answer(rules, b"binary") == []


def test_fields_of_the_request_are_filled_in_with_their_type() -> None:
    rules = [
        {
            "match": {},
            "reply": {"id": "$id", "p": "$params", "first": "$params.0", "none": "$missing", "cost": "$$5 ${id}:${x}"},
        }
    ]
    assert answer(rules, {"id": 7, "params": ["a", {"b": 1}]}) == [
        {"id": 7, "p": ["a", {"b": 1}], "first": "a", "none": None, "cost": "$5 7:"}
    ]


def test_for_each_answers_once_per_element() -> None:
    rules = [{"match": {"op": "sub"}, "for_each": "args", "reply": {"arg": "$item", "channel": "$item.c", "op": "$op"}}]
    assert answer(rules, {"op": "sub", "args": [{"c": 1}, {"c": 2}]}) == [
        {"arg": {"c": 1}, "channel": 1, "op": "sub"},
        {"arg": {"c": 2}, "channel": 2, "op": "sub"},
    ]
    assert answer(rules, {"op": "sub"}) == []


def test_whether_a_subscription_was_accepted_is_said() -> None:
    rules = [{"match": "ping", "reply": "pong", "accept": False}, {"match": {}, "reply": "ok"}]
    assert compile_script(rules)("ping") == ScriptedAnswer(["pong"], False)
    assert compile_script(rules)("{}") == ScriptedAnswer(["ok"], True)
    assert compile_script(None)("anything") == ScriptedAnswer([], True)
    assert compile_script(lambda _: None)("x") == ScriptedAnswer([], False)
    assert compile_script(lambda message: [message, b"x"])("x") == ScriptedAnswer(["x", b"x"], True)


def test_an_answer_is_delayed_doubled_or_withheld() -> None:
    rules = [{"match": "late", "reply": "x", "delay": 0.5}, {"match": "twice", "reply": ["a", "b"], "times": 2}]
    rules.append({"match": "never", "reply": "x", "times": 0})
    script = compile_script(rules)
    assert script("late") == ScriptedAnswer(["x"], True, 0.5)
    assert script("twice") == ScriptedAnswer(["a", "b", "a", "b"], True)
    assert script("never") == ScriptedAnswer([], True)


@pytest.mark.parametrize(
    "rule",
    [
        {}, {"match": {}}, {"reply": "x"}, {"match": 5, "reply": "x"}, {"match": {}, "reply": "x", "also": 1},
        {"match": {}, "reply": "x", "delay": -1}, {"match": {}, "reply": "x", "delay": "1s"},
        {"match": {}, "reply": "x", "times": -1}, {"match": {}, "reply": "x", "times": 0.5},
    ],
)  # fmt: skip
def test_a_rule_that_cannot_be_meant_is_refused(rule: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="rule 1"):
        compile_script([{"match": {}, "reply": ""}, rule])
