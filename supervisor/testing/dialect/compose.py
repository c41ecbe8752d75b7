"""Frames made from the rules that recognise them: the frame that an exchange must send for a rule to match. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import orjson

from wsadapter.contract.dialect.paths import MISSING, PRESENT, look_up, matches

_INDEX: Final = re.compile("-?[0-9]+")
_ASKED: Final = re.compile(r'"\$\.([^\s"]+)"')


def put(whole: Any, path: str, value: Any) -> Any:
    """`whole` with `value` at `path`, as a new value. Missing levels are created: an array if the path has a number, a table
    elsewhere. The last of an empty array is its first."""
    step, _, rest = path.partition(".")
    if not _INDEX.fullmatch(step):
        table = dict(whole) if isinstance(whole, Mapping) else {}
        table[step] = put(table.get(step), rest, value) if rest else value
        return table
    items = list(whole) if isinstance(whole, list) else []
    at = max(0, int(step) + len(items)) if step.startswith("-") else int(step)
    items += [None] * (at + 1 - len(items))
    items[at] = put(items[at], rest, value) if rest else value
    return items


def compose(rule: Mapping[str, Any], said: Mapping[str, Any], default: Any = 1, base: Any = None) -> Any:
    """The value of a frame that fits a rule's `match`, or the text that the rule requires (`is`). `said`: values by path, which
    come before values that the rule only requires to be present. `default`: the value if any value fits. `base`: the other
    fields of the frame."""
    if "is" in rule:
        return rule["is"]
    frame = base
    for path, wanted in rule["match"].items():
        if wanted != PRESENT:
            frame = put(frame, path, wanted)
        elif look_up(frame, path) is MISSING:
            frame = put(frame, path, _invented(path, rule, default))
    for path, value in said.items():
        frame = put(frame, path, value)
    return frame


def question(rule: Mapping[str, Any], number: int) -> Any:
    """A frame that an [[answer]] rule answers. `number` is the value if any value fits, and at the path that the answer
    reads."""
    looked_at = {path: number for path in _ASKED.findall(rule.get("frame", "")) if path not in rule.get("match", {})}
    return compose(rule, looked_at, number)


def fits(rule: Mapping[str, Any], text: bytes, value: Any) -> bool:
    """Whether a message fits a rule: `contains` and `match`, or `is`; and `says`. `value` is the message parsed."""
    if "is" in rule:
        return bool(text == rule["is"].encode())
    if rule.get("contains", "").encode() not in text or not matches(value, rule.get("match", {})):
        return False
    words = look_up(value, rule.get("text", ""))
    return says(rule, words if isinstance(words, str) else text.decode(errors="replace"))


def says(rule: Mapping[str, Any], text: str) -> bool:
    """Whether a text contains one of a rule's `says`, ignoring case; true if the rule has none."""
    wanted = rule.get("says", ())
    return not wanted or any(word.casefold() in text.casefold() for word in wanted)


def written(frame: Any) -> bytes:
    """A frame as it is sent: a text as it is, anything else as JSON."""
    return frame.encode() if isinstance(frame, str) else orjson.dumps(frame)


def _invented(path: str, rule: Mapping[str, Any], default: Any) -> Any:
    """The value in the rule's text, if it has one: '"info":"Welcome' contains the beginning of `info`."""
    begins = f'"{path.rpartition(".")[2]}":"'
    contains: str = rule.get("contains", "")
    return contains.removeprefix(begins).removesuffix('"') if contains.startswith(begins) else default


def entries(stream: Any, path: str) -> list[Any]:
    """The parts of a stream that are answered one by one: `acks_per` is the path of their list. Otherwise the stream itself."""
    items = look_up(stream, path)
    if not isinstance(items, list) or not items:
        return [stream]
    return [put(stream, path, [item]) for item in items]
