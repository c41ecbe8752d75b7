"""Checks the tables of a dialect about subscribing, the answers, and the streams of messages.

[subscribe], [[subscribe.kind]], [[ack]], [[already]], [[later]], [[error]] and [stream] of worker/dialects/README.md. Pure.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any, Final

from wsadapter.config.dialect import shapes
from wsadapter.config.dialect.frames import OURS, check_subscribing
from wsadapter.config.dialect.login import known_to_login
from wsadapter.config.dialect.shapes import Check
from wsadapter.config.dialect.tables import Found, check_keys, check_list, checked_elsewhere, each_table
from wsadapter.config.schema import got
from wsadapter.config.toml_text import as_toml
from wsadapter.contract.dialect.templates import BadStream, fill_in, only_stream, stream_name
from wsadapter.contract.endpoint import Subscription

_MEANT: Final[Mapping[str, Check]] = {
    "match": shapes.match, "id": shapes.text, "stream": shapes.text, "fields": shapes.fields, "args": shapes.path,
}  # fmt: skip
_REFUSAL: Final[Mapping[str, Check]] = {**_MEANT, "text": shapes.text, "says": shapes.strings}
_FORMS: Final = ("path", "text", "fields", "key")
_NO_SET: Final = {
    "unsubscribe": "the smaller set is sent",
    "per_frame": "each frame names all streams",
    "max_frame": "each frame names all streams",
    "kind": "each frame names all streams",
}
"""Keys of [subscribe] that have no meaning where each frame replaces the set, and why."""


def check_subscribe(table: Any) -> Found:
    """[subscribe], but for its templates, which need the rest of the dialect: see `check_templates`."""
    checks = {
        "example": shapes.streams, "frame": shapes.string, "unsubscribe": shapes.text, "per_frame": shapes.count,
        "per_connection": shapes.count,
        "max_frame": shapes.count, "ack_timeout": shapes.seconds, "live_timeout": shapes.no_or_seconds, "acks_per": shapes.text,
        "parts": shapes.path, "replaces": shapes.true, "quiet": shapes.strings, "kind": checked_elsewhere,
    }  # fmt: skip
    yield from check_keys("subscribe", table, checks, required=("frame",))
    if not isinstance(table, Mapping):
        return
    if "kind" in table:
        kinds: dict[str, Check] = {
            "streams": shapes.strings, "frame": shapes.string, "unsubscribe": shapes.text, "per_frame": shapes.count,
            "parts": shapes.path,
        }  # fmt: skip
        yield from check_list("subscribe.kind", table["kind"], kinds, required=("streams", "frame"))
    if "replaces" in table:
        for key, why in _NO_SET.items():
            if table.get(key):
                yield f"subscribe.{key}", f"has no meaning with replaces: {why}"


def check_templates(data: Mapping[str, Any]) -> Found:
    """The templates of [subscribe] and of each of its kinds, for which what a kind leaves out is as in [subscribe]."""
    table = data.get("subscribe")
    if not isinstance(table, Mapping):
        return
    bound = any("channel" in ack for _, ack in each_table("ack", data.get("ack")))
    frames = {key: table.get(key) for key in ("frame", "unsubscribe", "per_frame")}
    yield from _check_templates("subscribe", frames, OURS, bound=bound, replaces="replaces" in table)
    known = known_to_login(data.get("login"))
    for where, kind in each_table("subscribe.kind", table.get("kind")):
        yield from _check_templates(where, {**frames, **kind}, known, bound=bound)


def _check_templates(
    where: str, table: Mapping[str, Any], known: Collection[str], *, bound: bool, replaces: bool = False
) -> Found:
    single, alone = not replaces and table.get("per_frame") in (None, 1), only_stream(table) is not None
    for key in ("frame", "unsubscribe"):
        template = table.get(key)
        if isinstance(template, str) and template:
            channel = bound and key == "unsubscribe"
            found = check_subscribing(template, known=known, single=single, bound=channel, replaces=replaces, alone=alone)
            yield from ((f"{where}.{key}", message) for message in found)


def check_example(data: Mapping[str, Any]) -> Found:
    """`example` of [subscribe] against the frames, which have to be in order."""
    for stream in _examples(data):
        if wrong := _unfit(data, stream):
            yield "subscribe.example", wrong


def wrong_stream(dialect: Mapping[str, Any], stream: Subscription) -> str:
    """Why this dialect, which has been checked, can't subscribe the stream; "" if it can."""
    examples = _examples(dialect)
    if examples and isinstance(stream, str) not in {isinstance(example, str) for example in examples}:
        wrong = f"expected {'a table' if isinstance(stream, str) else 'a string'}, got {got(stream)}"
    else:
        wrong = _unfit(dialect, stream)
    if not wrong:
        return ""
    such = f", such as {' or '.join(map(as_toml, examples))}" if examples else ""
    return f'{wrong}; see the streams of the dialect "{dialect["dialect"]["name"]}"{such}'


def _examples(dialect: Mapping[str, Any]) -> list[Subscription]:
    example = dialect["subscribe"].get("example", [])
    return example if isinstance(example, list) else [example]


def _unfit(dialect: Mapping[str, Any], stream: Subscription) -> str:
    """Why no frame can name the stream."""
    table, name = dialect["subscribe"], stream_name(stream)
    kinds = (kind for kind in table.get("kind", ()) if any(fnmatchcase(name, glob) for glob in kind["streams"]))
    try:
        fill_in(next(kinds, table)["frame"], [stream])
    except BadStream as error:
        return str(error)
    return ""


def check_sources(data: Mapping[str, Any]) -> Found:
    """Keys of [subscribe] that need another table."""
    table = data.get("subscribe")
    if not isinstance(table, Mapping):
        return
    if "stream" not in data:
        for key in ("live_timeout", "quiet"):
            if table.get(key):
                yield f"subscribe.{key}", "needs the table [stream]: without it no message belongs to a stream"
    for where, error in each_table("error", data.get("error")):
        for key in ("acks_per", "parts"):
            if error.get("closes") and table.get(key):
                message = f"has no meaning with subscribe.{key}: the parts of a table can't be asked for any more"
                yield f"{where}.closes", message
    if "ack" not in data and table.get("acks_per"):
        yield "subscribe.acks_per", "needs [[ack]]: without it no answer is waited for"


def check_acks(tables: Any) -> Found:
    """[[ack]]."""
    checks = {
        **_MEANT, "accepted": shapes.path, "whole_set": shapes.path_or_all, "channel": shapes.path, "data": shapes.path,
    }  # fmt: skip
    yield from check_list("ack", tables, checks, required=("match",))
    for where, table in each_table("ack", tables):
        if "accepted" in table and "whole_set" in table:
            yield where, "expected at most one of accepted, whole_set"


def check_errors(tables: Any) -> Found:
    """[[error]]."""
    yield from check_list("error", tables, {**_REFUSAL, "closes": shapes.true}, required=("match",))


def check_already(tables: Any) -> Found:
    """[[already]]."""
    yield from check_list("already", tables, _REFUSAL, required=("match",))


def check_later(tables: Any) -> Found:
    """[[later]]."""
    yield from check_list("later", tables, {**_REFUSAL, "pause": shapes.seconds}, required=("match",))


def check_stream(tables: Any) -> Found:
    """[stream], or each of [[stream]]."""
    if not isinstance(tables, list):
        yield from _check_rule("stream", tables)
        return
    if not tables:
        yield "stream", "expected at least one table"
    for place, table in enumerate(tables):
        yield from _check_rule(f"stream[{place}]", table)


def _check_rule(name: str, table: Any) -> Found:
    checks = {
        "contains": shapes.string, "match": shapes.match, "path": shapes.path, "fields": shapes.fields,
        "text": shapes.texts_of_paths, "key": shapes.texts_of_paths, "of": shapes.texts_of_a_stream, "fold": shapes.true,
        "aliases": shapes.aliases,
    }  # fmt: skip
    yield from check_keys(name, table, checks)
    if isinstance(table, Mapping):
        yield from ((f"{name}{place}", message) for place, message in _check_form(table))


def _check_form(table: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if sum(form in table for form in _FORMS) != 1:
        yield "", "expected exactly one of path, text, fields, key"
    elif "key" in table and "of" not in table:
        yield ".of", "this key is required: what `key` puts together is compared with it"
    if "of" in table and "key" not in table:
        yield ".of", "has no meaning without key"
    if "path" in table:
        for key in ("aliases", "fold"):
            if key in table:
                yield f".{key}", "has no meaning with path: only text, fields and key compare words"
