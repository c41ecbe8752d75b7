"""Frames made from the rules that recognise them: what an exchange would have to say for a rule to fit. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import orjson

from wsadapter.contract.dialect.paths import PRESENT, look_up

_INDEX: Final = re.compile("-?[0-9]+")
_ASKED: Final = re.compile(r'"\$\.([^\s"]+)"')


def put(whole: Any, path: str, value: Any) -> Any:
    """`whole` with `value` at `path`, as a new value. What is not there is made: an array where the path has a number, a table
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


def compose(rule: Mapping[str, Any], said: Mapping[str, Any], default: Any = 1) -> Any:
    """The value of a frame that fits a rule's `match`. `said`: what to put where, by path; it goes before what the rule wants
    there to be present. `default`: what stands where any value will do."""
    frame: Any = None
    for path, wanted in rule["match"].items():
        frame = put(frame, path, _invented(path, rule, default) if wanted == PRESENT else wanted)
    for path, value in said.items():
        frame = put(frame, path, value)
    return frame


def question(rule: Mapping[str, Any], number: int) -> Any:
    """A frame that an [[answer]] rule answers. `number` stands wherever any value will do, and where the answer looks."""
    looked_at = {path: number for path in _ASKED.findall(rule["frame"]) if path not in rule["match"]}
    return compose(rule, looked_at, number)


def holds(rule: Mapping[str, Any], frame: Any) -> bool:
    """Whether a frame has the text that a rule looks for before anything is parsed."""
    return rule.get("contains", "") in orjson.dumps(frame).decode()


def _invented(path: str, rule: Mapping[str, Any], default: Any) -> Any:
    """What the rule's text says of it, where it does: '"info":"Welcome' tells how `info` begins."""
    begins = f'"{path.rpartition(".")[2]}":"'
    contains: str = rule.get("contains", "")
    return contains.removeprefix(begins).removesuffix('"') if contains.startswith(begins) else default


def entries(stream: Any, path: str) -> list[Any]:
    """A stream as those parts of it that are answered one by one: `acks_per` is the path of their list. Otherwise itself."""
    items = look_up(stream, path)
    if not isinstance(items, list) or not items:
        return [stream]
    return [put(stream, path, [item]) for item in items]
