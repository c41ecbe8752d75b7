"""What a client's frame asks for: all templates of a dialect, applied backwards. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from enum import Enum, auto
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import orjson

from wsadapter.contract.dialect.templates import needs_login, only_stream
from wsadapter.contract.endpoint import Heartbeat, Subscription
from wsadapter.testing.dialect.overrides import name_of
from wsadapter.testing.dialect.parse_request import Asked, Template


class Meaning(Enum):
    """What a client's frame is for."""

    HEARTBEAT = auto()
    ON_UP = auto()
    CHALLENGE = auto()
    LOGIN = auto()
    SUBSCRIBE = auto()
    UNSUBSCRIBE = auto()
    UNKNOWN = auto()


class Understood(NamedTuple):
    """A client's frame."""

    meaning: Meaning
    asked: Asked = Asked()
    signed: bool = False
    """The frame contains a field that only a client with a login can send."""
    lists: bool = False
    """It has a list of streams, not one."""
    most: int = 0
    """The most streams that a frame of this kind may name; 0: any number."""
    template: str = ""
    """The template that the frame fits."""

    @property
    def streams(self) -> Sequence[Subscription]:
        """Those that it names."""
        return self.asked.streams or []

    @property
    def echo(self) -> Any:
        """The streams as they stand in it."""
        return list(self.streams) if self.lists or not self.streams else self.streams[0]


class _Asking(NamedTuple):
    template: Template
    meaning: Meaning
    signed: bool
    most: int
    only: str | None
    """The stream that it is about, if it need not name one."""


class Understanding:
    """The frames that a dialect's clients send. Immutable."""

    def __init__(self, dialect: Mapping[str, Any], heartbeat: Heartbeat) -> None:
        self._heartbeat = heartbeat
        self._on_up = [Template(rule["frame"]) for rule in dialect.get("on_up", [])]
        login = dialect.get("login", {})
        secrets = login.get("needs", ())
        self._logins = [
            (Template(login[key], secrets), meaning)
            for key, meaning in (("challenge", Meaning.CHALLENGE), ("frame", Meaning.LOGIN))
            if login.get(key)
        ]
        settings = dialect["subscribe"]
        self._kinds: list[Mapping[str, Any]] = [{**settings, **kind} for kind in settings.get("kind", [])]
        self._rest: Mapping[str, Any] = {"streams": ["*"], **settings}
        keys = [key for rule in stream_rules(dialect) for key in rule.get("fields", {})]
        self._asking: list[_Asking] = []
        for signature in [login["subscribe"], ""] if login.get("subscribe") else [""]:
            for kind in [*self._kinds, self._rest]:
                for key, meaning in (("unsubscribe", Meaning.UNSUBSCRIBE), ("frame", Meaning.SUBSCRIBE)):
                    if text := kind.get(key):
                        template = Template(text, secrets, signature=signature, fields=keys)
                        most = 0 if settings.get("replaces") else kind.get("per_frame", 1)
                        signed = bool(signature) or needs_login(text, dialect)
                        self._asking.append(_Asking(template, meaning, signed, most, only_stream(kind)))

    def read(self, text: str, value: Any) -> Understood:
        """A client's text frame; `value`: the parsed frame, None if it is not JSON."""
        payload = self._heartbeat.payload
        if payload and (text == payload or (self._heartbeat.kind == "json" and value == orjson.loads(payload))):
            return Understood(Meaning.HEARTBEAT)
        if any(template.read(value) for template in self._on_up):
            return Understood(Meaning.ON_UP)
        for template, meaning in self._logins:
            if asked := template.read(value):
                return Understood(meaning, asked)
        return next(self._asked(value), Understood(Meaning.UNKNOWN))

    def _asked(self, value: Any) -> Iterator[Understood]:
        for template, meaning, signed, most, only in self._asking:
            asked = template.read(value)
            if asked and only and asked.streams is None and asked.channel is None:
                asked.streams = [only]
            key = "frame" if meaning is Meaning.SUBSCRIBE else "unsubscribe"
            if asked and all(self._kind(stream).get(key) == template.text for stream in asked.streams or ()):
                yield Understood(meaning, asked, signed, template.lists, most, template.text)

    def _kind(self, stream: Subscription) -> Mapping[str, Any]:
        """The settings for a stream: [[subscribe.kind]], the first whose `streams` it fits, else [subscribe]."""
        name = name_of(stream)
        kinds = (kind for kind in self._kinds if any(fnmatchcase(name, glob) for glob in kind["streams"]))
        return next(kinds, self._rest)


def stream_rules(dialect: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """[stream], or each of [[stream]]."""
    rules = dialect.get("stream", [])
    return [rules] if isinstance(rules, Mapping) else rules


def channel_path(dialect: Mapping[str, Any]) -> str:
    """The path of the field that names a message's stream; "" if [stream] has another rule."""
    return next((str(rule["path"]) for rule in stream_rules(dialect) if "path" in rule), "")
