"""The answers to frames that subscribe and unsubscribe, by a dialect's [[ack]], [[already]], [[later]], [[error]]. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import orjson

from wsadapter.contract.dialect.fields import as_text
from wsadapter.contract.dialect.paths import MISSING, look_up
from wsadapter.contract.endpoint import Subscription
from wsadapter.testing.dialect.compose import compose, entries, put, says
from wsadapter.testing.dialect.overrides import name_of
from wsadapter.testing.dialect.understanding import Understood

ALREADY: Final = "already subscribed"
LATER: Final = "too many requests"
Rule = Mapping[str, Any]
Channels = Mapping[str, int]
"""What this connection calls a stream, or an entry of one that is answered by itself: name = number."""
_PLACEHOLDER: Final = re.compile(r"\$[a-z_]+|\{[^{}\"]*\}")
_NO_ID: Final = -1
_FAR: Final = 10**9
_DIGITS: Final = re.compile(r"[0-9]+$")
_WORDS: Final = re.compile(r"[a-z]+")


class Answers:
    """The answers of one dialect. Immutable.

    A unit is a part of a subscription with an answer of its own: a stream, or one entry of the stream if [subscribe] has
    `acks_per`.
    """

    def __init__(self, dialect: Mapping[str, Any]) -> None:
        """`dialect` as in dialects/README.md, checked."""
        settings = dialect["subscribe"]
        self._per = str(settings.get("acks_per", ""))
        acks = dialect.get("ack", [])
        ending = _words_of_ending(settings)
        of_ending = [rule for rule in acks if _speaks_of(rule, ending)]
        of_subscribing = [rule for rule in acks if rule not in of_ending]
        self.ack: Rule | None = next(iter(of_subscribing), None)
        """The first rule that can confirm a subscription; None: nothing is confirmed."""
        self._acks = of_subscribing
        self._kinds = _words_by_kind(settings)
        self._ended: Rule | None = next(iter([*of_ending, *of_subscribing]), None)
        self._errors: Sequence[Rule] = dialect.get("error", [])
        self._already: Sequence[Rule] = dialect.get("already", [])
        self._later: Sequence[Rule] = dialect.get("later", [])
        self._parts = str(settings.get("parts", self._per))

    @property
    def gives_channels(self) -> bool:
        """Whether answers assign channels to streams, so that later messages name the channel instead of the stream."""
        return self.ack is not None and "channel" in self.ack

    @property
    def each_confirmed(self) -> bool:
        """Whether each unit of a frame is confirmed by itself, or nothing is confirmed: otherwise the frame is as a whole."""
        return self.ack is None or bool(self._per) or _names_streams(self.ack)

    @property
    def lists_accepted(self) -> bool:
        """Whether the answer to a frame lists the streams that were accepted."""
        return self.ack is not None and "accepted" in self.ack

    @property
    def each_refused(self) -> bool:
        """Whether one unit of a frame can be refused: otherwise the frame is as a whole."""
        return any(bool(self._per) or _is_of_one(rule) for rule in self._errors[:1])

    @property
    def has_already(self) -> bool:
        """Whether the dialect has a separate frame for a stream that is subscribed already."""
        return bool(self._already)

    @property
    def each_repeated(self) -> bool:
        """Whether that frame can be about one unit; otherwise it is about the whole frame of the client."""
        return any(bool(self._per) or _names_streams(rule) for rule in [*self._already, *self._errors][:1])

    def units(self, stream: Subscription) -> list[Subscription]:
        """A stream as its entries that are answered one by one."""
        return entries(stream, self._per)

    def confirm(
        self, frame: Understood, taken: Sequence[Subscription], current: Sequence[Subscription], channels: Channels
    ) -> Iterator[tuple[Subscription | None, Any]]:
        """Yes to units of a frame, each answer with the unit that it is about. None: it is about the frame. `current`: all that
        is subscribed now."""
        rule = self._ack_of(frame)
        if rule is not None:
            yield from self._confirmations(rule, frame, taken, current, channels)

    def _ack_of(self, frame: Understood) -> Rule | None:
        """The first rule for this kind of frame, otherwise the first rule that is for no other kind."""
        own = self._kinds.get(frame.template, set())
        others: set[str] = set().union(*(words for template, words in self._kinds.items() if template != frame.template))
        speaking = (rule for rule in self._acks if _speaks_of(rule, own))
        silent = (rule for rule in self._acks if not _speaks_of(rule, others))
        return next(speaking, None) or next(silent, None) or self.ack

    def confirm_ended(
        self, frame: Understood, ended: Sequence[Subscription], current: Sequence[Subscription], channels: Channels
    ) -> Iterator[Any]:
        """The same to a frame that unsubscribes."""
        if self._ended is not None:
            yield from (answer for _, answer in self._confirmations(self._ended, frame, ended, current, channels))

    def _confirmations(
        self,
        rule: Rule,
        frame: Understood,
        units: Sequence[Subscription],
        current: Sequence[Subscription],
        channels: Channels,
    ) -> Iterator[tuple[Subscription | None, Any]]:
        each = bool(self._per) or _names_streams(rule)
        for unit in units if each and "accepted" not in rule else [None]:
            said = _about(rule, frame, unit)
            if "whole_set" in rule:
                said |= _said_of_all(rule["whole_set"], _gathered(current, self._parts))
            if "accepted" in rule:
                said[rule["accepted"]] = list(units)
            if "channel" in rule and unit is not None and name_of(unit) in channels:
                said[rule["channel"]] = channels[name_of(unit)]
            first = unit if unit is not None else next(iter(units), None)
            yield unit, compose(rule, said, 1 if first is None else name_of(first))

    def stray(self, frame: Understood) -> Any | None:
        """A confirmation of a frame like this one that no client sent; None: nothing in such an answer would show that."""
        rule, asked = self._ack_of(frame), frame.asked
        if rule is None or "channel" in rule or not (_names_streams(rule) or rule.keys() & {"id", "args", "accepted"}):
            return None
        streams = [_made_up(stream, 0) for stream in frame.streams]
        other = frame._replace(asked=replace(asked, id=_another(asked.id), streams=streams))
        units = [unit for stream in streams for unit in self.units(stream)]
        return next((answer for _, answer in self._confirmations(rule, other, units, (), {})), None)

    def with_data(self, frame: Understood, answer: Any, data: Any) -> Any:
        """A confirmation that carries a message too, if its [[ack]] has `data`."""
        path = (self._ack_of(frame) or {}).get("data", "")
        if not path:
            return answer
        return _merged(data if look_up(data, path) is not MISSING else put(None, path, data), answer)

    def refuse(self, frame: Understood, unit: Subscription | None, text: str, culprit: Subscription | None) -> Iterator[Any]:
        """No to a unit. `unit` None: to the frame, and no stream is named. `culprit`: named by the text, besides."""
        text = text if culprit is None else f"{text}: {_words(culprit)}"
        yield from self._told(self._errors, frame, unit, text)

    @property
    def closes(self) -> bool:
        """Whether the exchange closes the connection after a refusal."""
        return any(rule.get("closes") for rule in self._errors[:1])

    def must_name(self, *, alone: bool) -> bool:
        """Whether the text of a refusal has to name the stream, because nothing else does. `alone`: other streams of the frame
        are not refused."""
        rule = next(iter(self._errors), {})
        return not _names_streams(rule) and (alone or not rule.keys() & {"id", "args"})

    def repeated(self, frame: Understood, unit: Subscription | None, culprit: Subscription) -> Iterator[Any]:
        """A unit is subscribed already; `unit` None: so is one of the frame, the `culprit`."""
        rules = self._already or self._errors
        named = unit is not None and bool(rules) and _names_streams(rules[0])
        yield from self._told(rules, frame, unit, ALREADY if named else f"{ALREADY}: {_words(culprit)}")

    def put_off(self, frame: Understood, units: Sequence[Subscription]) -> Iterator[Any]:
        """A frame is to be sent again later."""
        rules = self._later or self._errors
        for unit in units if rules and _names_streams(rules[0]) else [None]:
            yield from self._told(rules, frame, unit, LATER)

    def revoke(self, unit: Subscription, text: str) -> Any:
        """An error about a stream that was confirmed before. Raises `LookupError` if there is no [[error]]."""
        rule, words = _telling(self._errors, text)
        said = _about(rule, None, unit)
        if "args" in rule:
            said[rule["args"]] = [unit]
        return _worded(rule, {**_nobodys(rule), **said}, words if said else f"{words}: {_words(unit)}")

    def complain(self, text: str) -> Any:
        """An error that is about no stream and no frame. Raises `LookupError` if there is no [[error]]."""
        rule, words = _telling(self._errors, text)
        return _worded(rule, _nobodys(rule), words)

    def _told(self, rules: Sequence[Rule], frame: Understood, unit: Subscription | None, text: str) -> Iterator[Any]:
        if rules:
            rule, words = _telling(rules, text)
            yield _worded(rule, _about(rule, frame, unit), words)

    def padded(self, answer: Any, size: int, sample: Subscription | None) -> Any:
        """An answer of at least `size` bytes: with more streams like `sample` if it lists streams."""
        missing = size - len(orjson.dumps(answer))
        if missing <= 0 or isinstance(answer, str):
            return answer
        rule = self.ack or {}
        path = rule.get("accepted") or rule.get("whole_set") or ""
        listed = look_up(answer, path)
        if isinstance(listed, list) and sample is not None:
            more = missing // len(orjson.dumps(sample)) + 1
            return put(answer, path, [*listed, *(_made_up(sample, number) for number in range(more))])
        return {**answer, "padding": "x" * missing} if isinstance(answer, dict) else answer


def _names_streams(rule: Rule) -> bool:
    return bool(rule.get("stream")) or not rule.keys().isdisjoint({"fields", "channel"})


def _is_of_one(rule: Rule) -> bool:
    """Whether an error is about the one stream that it names, by whatever: an id names a frame, and so do arguments alone."""
    return not rule.get("id") and (_names_streams(rule) or "args" not in rule)


def _about(rule: Rule, frame: Understood | None, unit: Subscription | None) -> dict[str, Any]:
    """The fields by which an answer names its stream, by path."""
    said: dict[str, Any] = {}
    if frame is not None and rule.get("id") and frame.asked.id is not None:
        said[rule["id"]] = frame.asked.id
    if frame is not None and "args" in rule:
        said[rule["args"]] = frame.echo
    if rule.get("stream") and unit is not None:
        said[rule["stream"]] = unit
    for key, paths in rule.get("fields", {}).items():
        if isinstance(unit, Mapping) and key in unit:
            said[paths if isinstance(paths, str) else paths[0]] = unit[key]
    return said


def _nobodys(rule: Rule) -> dict[str, Any]:
    """An id that no frame has, for an answer that must have an id."""
    return {rule["id"]: _NO_ID} if rule.get("id") in rule["match"] else {}


def _telling(rules: Sequence[Rule], text: str) -> tuple[Rule, str]:
    """The rule that sends a text to a client, and the text as that rule requires it."""
    if not rules:
        raise LookupError("the dialect has no [[error]]")
    rule = next((rule for rule in rules if says(rule, text)), rules[0])
    return rule, text if says(rule, text) else f"{rule['says'][0]}: {text}"


def _worded(rule: Rule, said: dict[str, Any], text: str) -> Any:
    if rule.get("text"):
        return compose(rule, {**said, rule["text"]: text})
    frame = compose(rule, said)
    return {**frame, "message": text} if isinstance(frame, dict) and "message" not in frame else frame


def _words_of_ending(settings: Mapping[str, Any]) -> set[str]:
    """Words that frames which unsubscribe have, and those which subscribe have not: "unsubscribe", "close"."""
    texts = (_PLACEHOLDER.sub("", settings.get(key, "")) for key in ("frame", "unsubscribe"))
    asking, ending = (set(_WORDS.findall(text.casefold())) for text in texts)
    return {word for word in ending - asking if len(word) > 1} | {"unsub"}


def _words_by_kind(settings: Mapping[str, Any]) -> dict[str, set[str]]:
    """Each template that subscribes = the words that no other template has; empty if there is only one template."""
    texts = {table["frame"] for table in (settings, *settings.get("kind", ()))}
    words = {text: set(_WORDS.findall(_PLACEHOLDER.sub("", text).casefold())) for text in texts}
    others = {text: set().union(*(words[other] for other in texts if other != text)) for text in texts}
    return {text: words[text] - others[text] for text in texts} if len(texts) > 1 else {}


def _speaks_of(rule: Rule, words: set[str]) -> bool:
    names = {rule.get(key) for key in ("id", "stream", "channel")}
    said = (f"{path} {value}".casefold() for path, value in rule["match"].items() if path not in names)
    return any(word in text for text in said for word in words)


def _gathered(current: Sequence[Subscription], path: str) -> list[Subscription]:
    """All subscribed streams; parts of one table are together, as an exchange reports them."""
    found: dict[str, Subscription] = {}
    for stream in current:
        items = look_up(stream, path)
        if not isinstance(items, list):
            found[name_of(stream)] = stream
            continue
        key = name_of(put(stream, path, []))
        before = look_up(found[key], path) if key in found else []
        found[key] = put(stream, path, [*before, *items])
    return list(found.values())


def _said_of_all(path: str, streams: Sequence[Subscription]) -> dict[str, Any]:
    """All subscribed streams, at a path; if the answer itself is the set, each stream is a key."""
    return {f"entry{place}": stream for place, stream in enumerate(streams)} if path == "{}" else {path: list(streams)}


def _merged(base: Any, answer: Any) -> Any:
    """The fields of both; if both have a field, that of the answer."""
    if isinstance(base, Mapping) and isinstance(answer, Mapping):
        return {**base, **{key: _merged(base[key], value) if key in base else value for key, value in answer.items()}}
    return answer


def _made_up(stream: Any, number: int) -> Any:
    """Another stream of the same form."""
    if isinstance(stream, Mapping):
        return {key: _made_up(value, number) for key, value in stream.items()}
    if isinstance(stream, list | tuple):
        return [_made_up(item, number) for item in stream]
    return f"{stream}~{number}" if isinstance(stream, str) else stream


def _another(number: int | str | None) -> int | str | None:
    """An id that no frame has."""
    if isinstance(number, str):
        return _DIGITS.sub(lambda found: str(int(found[0]) + _FAR), number)
    return None if number is None else number + _FAR


def _words(value: Any) -> str:
    """All values of a stream, for a text that names the stream."""
    if isinstance(value, Mapping):
        return " ".join(map(_words, value.values()))
    if isinstance(value, list | tuple):
        return " ".join(map(_words, value))
    return as_text(value)
