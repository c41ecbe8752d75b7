"""Templates of frames: JSON text with placeholders, which the owner fills in. Judged here, see worker/dialects/README.md."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator
from typing import Any, Final

from wsadapter.config import values
from wsadapter.config.files import parse_json
from wsadapter.config.schema import got, nearest
from wsadapter.contract.dialect.templates import paths_of

_PLACEHOLDER: Final = re.compile(r"\$[A-Za-z_]+")
_PATH: Final = re.compile(r"\$\.[^\s]+")
_STREAMS: Final = '"$streams"'
_SPLICED: Final = '"$streams..."'
_STREAM: Final = '"$stream"'
_FIELDS: Final = '"$stream": "*"'
_COMPOSED: Final = '"{path}"'
OURS: Final = ("$id", "$id_text", "$time", "$time_ms")
"""What the owner can always fill in."""


def check_subscribing(
    template: str, *, known: Collection[str] = OURS, single: bool = True, bound: bool = False, replaces: bool = False,
    alone: bool = False,
) -> Iterator[str]:  # fmt: skip
    """A frame that names streams: `single`, one of them; `replaces`: all of the connection; `bound`: "$channel" stands for
    what an ack gave it; `alone`: there is only one stream that it can be for, so that it may name none."""
    known = (*known, "$streams", "$stream", *(["$channel"] if bound else []))
    forms: set[str] = set()
    frame = _parsed(template)
    if isinstance(frame, _NotJson):
        yield frame.message
        return
    for form, message in _placeholders(frame, known):
        if message:
            yield message
        forms.add(form)
    forms.discard("")
    if bound and "$channel" in template and not forms:
        return
    if not forms and (paths := paths_of(template)):
        forms.add(_COMPOSED)
        yield from (wrong for path in paths if path and (wrong := values.field_path(path)))
    if not forms and alone:
        return
    if len(forms) != 1:
        found = " and ".join(sorted(forms)) or "none of them"
        yield f"expected exactly one of {_STREAMS}, {_SPLICED}, {_STREAM}, {_FIELDS} and {_COMPOSED}, got {found}"
    elif not single and forms.isdisjoint((_STREAMS, _SPLICED)):
        why = f"can't name all streams, as replaces wants it: expected {_STREAMS} or {_SPLICED}"
        yield f"{forms.pop()} {why if replaces else 'needs per_frame = 1'}"


def check_frame(template: str, *, known: Collection[str] = OURS, answers: bool = False) -> Iterator[str]:
    """A frame that names no stream. `answers`: "$.path" stands for what is there in the frame that it answers."""
    frame = _parsed(template)
    if isinstance(frame, _NotJson):
        yield frame.message
        return
    for form, message in _placeholders(frame, known, answers=answers):
        if message:
            yield message
        elif form:
            yield f"{form} has no meaning here: this frame names no stream"


class _NotJson:
    def __init__(self, message: str) -> None:
        self.message = message


def _parsed(template: str) -> Any:
    try:
        return parse_json(template)
    except ValueError as error:
        return _NotJson(f"expected JSON text: {error}")


def _placeholders(value: Any, known: Collection[str], *, answers: bool = False) -> Iterator[tuple[str, str]]:
    """(form, message) of each placeholder in a template; form "" is none that stands for streams."""
    if isinstance(value, str):
        yield _placeholder(value, known, answers=answers)
    elif isinstance(value, list):
        for item in value:
            if item == "$streams...":
                yield _SPLICED, ""
            else:
                yield from _placeholders(item, known, answers=answers)
    elif isinstance(value, dict):
        for key, item in value.items():
            if key == "$stream" or (key == "$sign" and key in known):
                form = _FIELDS if key == "$stream" else ""
                yield form, "" if item == "*" else f'the value of the key "{key}" must be "*"'
            else:
                yield "", f"unknown placeholder {key} as a key" if _PLACEHOLDER.search(key) else ""
                yield from _placeholders(item, known, answers=answers)


def _placeholder(text: str, known: Collection[str], *, answers: bool) -> tuple[str, str]:
    if text in ("$streams", "$stream"):
        return json.dumps(text), ""
    if text == "$streams...":
        return _SPLICED, f"{_SPLICED} stands for the items of an array: expected it as an item of one"
    if answers and _PATH.fullmatch(text):
        return "", ""
    for found in _PLACEHOLDER.findall(text):
        if found not in known:
            near = f"$.{found[1:]}" if answers else nearest(found, known)
            return "", f"unknown placeholder {found} in {got(text)}{f'; did you mean {json.dumps(near)}?' if near else ''}"
        if found not in OURS and found != text:
            return "", f"{found} can't be a part of a text: expected it as the whole of {got(text)}"
    return "", ""
