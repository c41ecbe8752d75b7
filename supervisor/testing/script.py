"""What a test exchange answers to what its clients send: the welcome/ack script.

A script is a list of rules; the first whose `match` fits answers, a frame that fits none gets no answer.

    [
        {"match": {"method": "SUBSCRIBE"}, "reply": {"result": None, "id": "$id"}},
        {"match": {"op": "subscribe"}, "for_each": "args", "reply": {"event": "subscribe", "arg": "$item"}},
        {"match": {"op": "ping"}, "reply": {"op": "pong"}, "accept": False},
        {"match": "ping", "reply": "pong", "accept": False},
    ]

`match`     a table of JSON fields (dotted paths, "params.0" is a list's first) that must have these values, "*" for any;
            or a string: the whole text of the frame. {} fits every JSON object.
`reply`     a frame or a list of frames. A str is sent as it is, anything else as JSON.
`for_each`  a field holding a list: the reply is sent once for each element, which is then "$item".
`delay`     seconds until the reply is sent; meanwhile other frames are answered.
`times`     how often it is sent, by default once: 0 withholds it, 2 doubles it.
`accept`    whether this counts as an accepted subscription (`after_subscribe`); by default true.

In a reply, "$id" or "$params.0" as a whole string value stands for that field of the request, with its type; "${id}" within
a longer string for its text. A field the request has not is null ("" within a string). "$$" is a dollar sign.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson

Frame = str | bytes
"""A text or a binary message."""
Answerer = Callable[[Frame], Iterable[Frame] | None]
"""Gets a client's message, gives the frames to answer. Runs in the exchange's thread."""
Script = Answerer | Sequence[Mapping[str, Any]]

_WHOLE = re.compile(r"\$([\w.]+)")
_WITHIN = re.compile(r"\$\$|\$\{([\w.]+)\}")
_KEYS = {"match", "reply", "for_each", "accept", "delay", "times"}
_MISSING = object()


class ScriptedAnswer(NamedTuple):
    """The answer of a script to one message."""

    frames: list[Frame]
    accepted: bool
    """Whether a subscription was accepted by it."""
    delay: float = 0.0
    """Seconds until they are sent."""


@dataclass(frozen=True, slots=True)
class _Rule:
    match: str | Mapping[str, Any]
    reply: Any
    for_each: str
    accept: bool
    delay: float
    times: int

    def fits(self, text: str, fields: Any) -> bool:
        if isinstance(self.match, str):
            return text == self.match
        return isinstance(fields, dict) and all(
            (found := _field(fields, path)) is not _MISSING and wanted in ("*", found) for path, wanted in self.match.items()
        )

    def answer(self, fields: Any) -> ScriptedAnswer:
        scopes = [fields]
        if self.for_each:
            items = _field(fields, self.for_each)
            scopes = [{**fields, "item": item} for item in items] if isinstance(items, list) else []
        replies = self.reply if isinstance(self.reply, list) else [self.reply]
        frames = [_frame(_fill(reply, scope)) for scope in scopes for reply in replies]
        return ScriptedAnswer(frames * self.times, self.accept, self.delay)


def compile_script(script: Script | None) -> Callable[[Frame], ScriptedAnswer]:
    """A function from a client's message to the answer. Raises `ValueError` for an impossible rule.

    Without a script nothing is answered, and any text message counts as an accepted subscription. With a callable, a
    message that it answers does.
    """
    if script is None:
        return lambda message: ScriptedAnswer([], isinstance(message, str))
    if callable(script):
        return lambda message: (lambda frames: ScriptedAnswer(frames, bool(frames)))(list(script(message) or ()))
    rules = [_rule(number, fields) for number, fields in enumerate(script)]
    return lambda message: _first_fitting(rules, message)


def _rule(number: int, fields: Mapping[str, Any]) -> _Rule:
    if unknown := set(fields) - _KEYS:
        raise ValueError(
            f"rule {number} of the script: unknown {', '.join(sorted(unknown))}; known: {', '.join(sorted(_KEYS))}"
        )
    match = fields.get("match")
    if not isinstance(match, str | Mapping) or "reply" not in fields:
        raise ValueError(f'rule {number} of the script needs "match" (a table or a string) and "reply"')
    delay, times = fields.get("delay", 0.0), fields.get("times", 1)
    if not isinstance(delay, int | float) or not isinstance(times, int) or delay < 0 or times < 0:
        raise ValueError(f'rule {number} of the script: "delay" is seconds and "times" a whole number, neither less than 0')
    for_each, accept = str(fields.get("for_each", "")), bool(fields.get("accept", True))
    return _Rule(match, fields["reply"], for_each, accept, float(delay), times)


def _first_fitting(rules: list[_Rule], message: Frame) -> ScriptedAnswer:
    if isinstance(message, bytes):
        return ScriptedAnswer([], False)
    try:
        fields = orjson.loads(message)
    except orjson.JSONDecodeError:
        fields = None
    for rule in rules:
        if rule.fits(message, fields):
            return rule.answer(fields)
    return ScriptedAnswer([], False)


def _field(value: Any, path: str) -> Any:
    for key in path.split("."):
        if isinstance(value, dict) and key in value:
            value = value[key]
        elif isinstance(value, list) and key.isdecimal() and int(key) < len(value):
            value = value[int(key)]
        else:
            return _MISSING
    return value


def _fill(template: Any, fields: Any) -> Any:
    if isinstance(template, dict):
        return {key: _fill(value, fields) for key, value in template.items()}
    if isinstance(template, list):
        return [_fill(value, fields) for value in template]
    if not isinstance(template, str):
        return template
    if whole := _WHOLE.fullmatch(template):
        found = _field(fields, whole[1])
        return None if found is _MISSING else found
    return _WITHIN.sub(lambda part: _as_text(_field(fields, part[1])) if part[1] else "$", template)


def _as_text(value: Any) -> str:
    if value is _MISSING or value is None:
        return ""
    return value if isinstance(value, str) else orjson.dumps(value).decode()


def _frame(reply: Any) -> Frame:
    return reply if isinstance(reply, str | bytes) else orjson.dumps(reply).decode()
