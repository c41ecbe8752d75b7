"""Templates backwards: which streams a client's frame names, and by which id. Inverts `contract.dialect.templates`. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from wsadapter.contract.dialect.paths import IN_BRACES, look_up
from wsadapter.contract.dialect.templates import merge, paths_of
from wsadapter.contract.endpoint import Subscription
from wsadapter.testing.dialect.compose import put

_OURS: Final = re.compile(r"\$(?:id_text|id|time_ms|time)")
_ID: Final = re.compile(r"\$id")
_ASKED: Final = "$."
_STREAMS: Final = '"$streams'
_SPLICED: Final = "$streams..."


@dataclass(slots=True)
class Asked:
    """The values of a frame at the places of its template."""

    streams: list[Subscription] | None = None
    """Those that it names; None: the template names none."""
    id: int | str | None = None
    """The whole value that its "$id" stands in, as it was sent."""
    channel: int | str | None = None
    """The channel by which it names a stream, if an ack gave the stream a channel."""
    challenge: str | None = None
    """The exchange's challenge that it repeats."""
    parts: dict[str, Any] = field(default_factory=dict)
    """The parts of a stream that the frame is composed of, by path."""

    def is_of(self, stream: Subscription) -> bool:
        """Whether these are parts of a stream; each entry of a list is one part."""
        return all(_has(stream, path, part) for path, part in self.parts.items())


class Template:
    """One template of a dialect. Immutable."""

    def __init__(self, text: str, secrets: Collection[str] = (), *, signature: str = "", fields: Collection[str] = ()) -> None:
        """`text`: JSON with placeholders, checked. `secrets`: the words of `[login] needs`, which are placeholders too.
        `signature`: more fields, another template. `fields`: keys that streams have, where a signature has any others."""
        self.text = text
        self.lists = _STREAMS in text
        """Whether a frame lists its streams; otherwise it names one."""
        self.composed = bool(paths_of(text))
        """Whether a frame is composed of parts of a stream: it may lack some fields of the stream."""
        frame = orjson.loads(text)
        self._frame = merge(frame, orjson.loads(signature)) if signature else frame
        self._fields = fields
        self._anything = frozenset(["$sign", *(f"${secret}" for secret in secrets)])

    def read(self, value: Any, answered: Any = None) -> Asked | None:
        """The request in a parsed frame; None: the frame is not of this template. `answered`: the frame that it answers; its
        values are at the places where the template has "$.path"."""
        asked = Asked()
        if not self._fits(self._frame, value, asked, answered):
            return None
        if self.composed:
            asked.streams = [_put_together(asked.parts)]
        return asked

    def _fits(self, template: Any, value: Any, asked: Asked, answered: Any) -> bool:
        match template:
            case str():
                return self._fits_text(template, value, asked, answered)
            case list():
                return isinstance(value, list) and self._fits_list(template, value, asked, answered)
            case dict():
                return isinstance(value, dict) and self._fits_table(template, value, asked, answered)
            case _:
                return type(template) is type(value) and bool(template == value)

    def _fits_list(self, template: Sequence[Any], value: Sequence[Any], asked: Asked, answered: Any) -> bool:
        if _SPLICED in template:
            at = template.index(_SPLICED)
            behind = len(template) - at - 1
            streams = value[at : len(value) - behind]
            if len(value) < at + behind or not all(map(_is_stream, streams)) or not _is_said(asked, list(streams)):
                return False
            template, value = [*template[:at], *template[at + 1 :]], [*value[:at], *value[len(value) - behind :]]
        pairs = zip(template, value, strict=False)
        return len(value) == len(template) and all(self._fits(one, other, asked, answered) for one, other in pairs)

    def _fits_table(self, template: Mapping[str, Any], value: Mapping[str, Any], asked: Asked, answered: Any) -> bool:
        composed = [key for key in template if self.composed and IN_BRACES.search(key)]
        named = {key: item for key, item in template.items() if key not in ("$stream", "$sign", *composed)}
        if not all(key in value and self._fits(item, value[key], asked, answered) for key, item in named.items()):
            return False
        rest = {key: item for key, item in value.items() if key not in named}
        for text in composed:
            key = next((key for key in rest if _takes_apart(text, key, asked)), None)
            if key is None or not self._fits(template[text], rest.pop(key), asked, answered):
                return False
        if "$stream" not in template:
            return not rest or "$sign" in template
        stream = {key: item for key, item in rest.items() if "$sign" not in template or key in self._fields}
        return bool(stream) and ("$sign" not in template or len(stream) < len(rest)) and _is_said(asked, [stream])

    def _fits_text(self, template: str, value: Any, asked: Asked, answered: Any) -> bool:
        if template in self._anything:
            return True
        if template.startswith(_ASKED):
            return bool(look_up(answered, template.removeprefix(_ASKED)) == value)
        if self.composed and IN_BRACES.search(template):
            return _takes_apart(template, value, asked)
        match template:
            case "$streams":
                return isinstance(value, list) and all(map(_is_stream, value)) and _is_said(asked, value)
            case "$stream":
                return _is_stream(value) and _is_said(asked, [value])
            case "$channel":
                asked.channel = value
                return isinstance(value, int | str)
            case "$challenge":
                asked.challenge = value
                return isinstance(value, str)
            case "$id":
                asked.id = value
                return _is_number(value)
            case "$time" | "$time_ms":
                return _is_number(value)
        if not isinstance(value, str) or not _pattern(template).fullmatch(value):
            return False
        if _ID.search(template):
            asked.id = value
        return True


def _pattern(template: str) -> re.Pattern[str]:
    """Of a text with our numbers in it."""
    return re.compile("[0-9]+".join(map(re.escape, _OURS.split(template))))


def _takes_apart(template: str, value: Any, asked: Asked) -> bool:
    """Whether a value is such a text with parts of a stream in it; they are kept."""
    if whole := IN_BRACES.fullmatch(template):
        return _is_part(asked, {whole[1]: value})
    texts = IN_BRACES.split(template)
    pattern = "(.+)".join(_pattern(text).pattern for text in texts[::2])
    found = re.fullmatch(pattern, value) if isinstance(value, str) else None
    if found is not None and _ID.search(template):
        asked.id = value
    return found is not None and _is_part(asked, dict(zip(texts[1::2], found.groups(), strict=True)))


def _has(stream: Subscription, path: str, part: Any) -> bool:
    own = look_up(stream, path) if path else stream
    if isinstance(own, list) and isinstance(part, list):
        return all(item in part for item in own)
    return bool(own == part)


def _is_part(asked: Asked, parts: Mapping[str, Any]) -> bool:
    """Takes parts of a stream; one that stands several times must be the same each time."""
    asked.parts = {**parts, **asked.parts}
    return all(asked.parts[path] == part for path, part in parts.items())


def _put_together(parts: Mapping[str, Any]) -> Subscription:
    """A stream of these parts."""
    stream: Any = parts.get("")
    for path, part in parts.items():
        stream = put(stream, path, part) if path else stream
    return stream  # type: ignore[no-any-return]


def _is_said(asked: Asked, streams: list[Subscription]) -> bool:
    """Takes the streams; a template may name them several times, and they must be the same each time."""
    if asked.streams is None:
        asked.streams = streams
    return asked.streams == streams


def _is_stream(value: Any) -> bool:
    return isinstance(value, str | dict)


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
