"""All that is wrong with a dialect, told at once: unknown tables and keys with the nearest known one, wrong values, and keys
that do not go together. The form is documented in worker/dialects/README.md. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, Final

from wsadapter.config import values
from wsadapter.config.dialect import shapes
from wsadapter.config.dialect.frames import OURS, check_frame, check_subscribing
from wsadapter.config.dialect.shapes import Check
from wsadapter.config.schema import ENDPOINT, Mismatch, convert, got, unknown_key

Found = Iterator[tuple[str, str]]
"""(path, message) of what is wrong."""

SECTION_OF: Final = {"heartbeat": "heartbeat", "request": "request", "limits": "limits", "connection": "watchdog"}
"""Table of a dialect -> the section of an endpoint for which it gives defaults, with the same keys."""

_REQUIRED: Final = ("dialect", "urls", "subscribe")
_OF_CONNECTION: Final = ("max_age", "rollover_window", "silence", "stalled")
_FITS: Final[Mapping[str, Check]] = {"contains": shapes.string, "match": shapes.match}
_GAP_FORMS: Final = (frozenset({"first", "last"}), frozenset({"value"}), frozenset({"previous", "value"}))
_NUMBERS: Final = frozenset({"first", "last", "value", "previous"})
_MEANT: Final[Mapping[str, Check]] = {"match": shapes.match, "id": shapes.text, "stream": shapes.text, "fields": shapes.fields}
_HOOKS: Final = ("before_connect", "sign", "renew", "decode")


def check_dialect(data: Mapping[str, Any], *, stem: str) -> Found:
    """All that is wrong with a dialect, as (path, message). `stem`: of the file."""
    yield from ((name, unknown_key(name, _CHECKS)) for name in data if name not in _CHECKS)
    for name in _REQUIRED:
        if name not in data:
            yield name, "this table is required"
    for name, check in _CHECKS.items():
        if name in data:
            yield from check(data[name])
    yield from _check_together(data, stem)


def _check_together(data: Mapping[str, Any], stem: str) -> Found:
    """What only several tables together can be judged by."""
    about = data.get("dialect")
    if isinstance(about, Mapping) and isinstance(about.get("name"), str) and about["name"] != stem:
        yield "dialect.name", f'expected the file\'s stem, "{stem}", got {got(about["name"])}'
    rules = data.get("gap")
    for place, rule in enumerate(rules if isinstance(rules, list) else ()):
        scope = rule.get("scope") if isinstance(rule, Mapping) else None
        if isinstance(scope, list) and "$stream" in scope and "stream" not in data:
            yield f"gap[{place}].scope", '"$stream" needs the table [stream]: without it no message has one'
    acks = data.get("ack")
    bound = any(isinstance(ack, Mapping) and "channel" in ack for ack in (acks if isinstance(acks, list) else ()))
    yield from _check_frames(data.get("subscribe"), bound=bound)


def _check_frames(table: Any, *, bound: bool) -> Found:
    if not isinstance(table, Mapping):
        return
    per_frame = table.get("per_frame", 1)
    for key in ("frame", "unsubscribe"):
        template = table.get(key)
        if isinstance(template, str) and template:
            for message in check_subscribing(template, single=per_frame == 1, bound=bound and key == "unsubscribe"):
                yield f"subscribe.{key}", message


def _check_about(table: Any) -> Found:
    known = dict.fromkeys(("name", "title", "docs"), shapes.string)
    yield from _check_keys("dialect", table, known, required=tuple(known))


def _check_urls(table: Any) -> Found:
    yield from _check_keys("urls", table, dict.fromkeys(("live", "test", "private", "private_test"), shapes.urls))
    if isinstance(table, Mapping) and not table.keys() & {"live", "test"}:
        yield "urls", "expected at least one of live, test"


def _check_subscribe(table: Any) -> Found:
    checks = {
        "frame": shapes.string, "unsubscribe": shapes.text, "per_frame": shapes.count, "per_connection": shapes.count,
        "max_frame": shapes.count, "ack_timeout": shapes.seconds, "live_timeout": shapes.seconds, "acks_per": shapes.text,
    }  # fmt: skip
    yield from _check_keys("subscribe", table, checks, required=("frame",))


def _check_acks(name: str, tables: Any) -> Found:
    checks = {**_MEANT, "accepted": shapes.path, "whole_set": shapes.path, "channel": shapes.path}
    yield from _check_list(name, tables, checks, required=("match",))
    for where, table in _tables(name, tables):
        if "accepted" in table and "whole_set" in table:
            yield where, "expected at most one of accepted, whole_set"


def _check_errors(name: str, tables: Any) -> Found:
    yield from _check_list(name, tables, {**_MEANT, "text": shapes.text}, required=("match",))


def _check_stream(table: Any) -> Found:
    checks = {"path": shapes.path, "fields": shapes.fields, "text": shapes.path_or_paths, "aliases": shapes.aliases}
    yield from _check_keys("stream", table, checks)
    if isinstance(table, Mapping) and len(table.keys() & {"path", "fields", "text"}) != 1:
        yield "stream", "expected exactly one of path, fields, text"


def _check_housekeeping(tables: Any) -> Found:
    yield from _check_list("housekeeping", tables, {**_FITS, "heartbeat": shapes.true}, required=_FITS)


def _check_answer(tables: Any) -> Found:
    yield from _check_list("answer", tables, {**_FITS, "frame": shapes.string}, required=(*_FITS, "frame"))
    yield from _frames("answer", tables, answers=True)


def _check_on_up(tables: Any) -> Found:
    yield from _check_list("on_up", tables, {"frame": shapes.string}, required=("frame",))
    yield from _frames("on_up", tables)


def _frames(name: str, tables: Any, *, answers: bool = False) -> Found:
    for where, table in _tables(name, tables):
        if isinstance(table.get("frame"), str) and table["frame"]:
            yield from ((f"{where}.frame", message) for message in check_frame(table["frame"], answers=answers))


def _check_ready(tables: Any) -> Found:
    yield from _check_list("ready", tables, {"match": shapes.match}, required=("match",))


def _check_notice(tables: Any) -> Found:
    yield from _check_list("notice", tables, {**_FITS, "text": shapes.text}, required=_FITS)


def _check_gap(tables: Any) -> Found:
    paths = dict.fromkeys(_NUMBERS, shapes.path)
    checks = {
        **_FITS, "scope": shapes.scope, **paths, "step": shapes.count, "snapshot": shapes.match, "reset": shapes.match,
        "ignore_equal": shapes.true,
    }  # fmt: skip
    yield from _check_list("gap", tables, checks, required=("scope",))
    for where, table in _tables("gap", tables):
        form = table.keys() & _NUMBERS
        if form not in _GAP_FORMS:
            yield where, "expected either first and last, or value, or previous and value"
        elif "previous" in form and "step" in table:
            yield f"{where}.step", "has no meaning with previous, which says itself what came before"


def _check_identity(tables: Any) -> Found:
    yield from _check_list("identity", tables, {**_FITS, "fields": shapes.paths, "bytes": shapes.true})
    for where, table in _tables("identity", tables):
        if ("fields" in table) == ("bytes" in table):
            yield where, "expected either fields = [...] or bytes = true"


def _check_snapshot(tables: Any) -> Found:
    yield from _check_list("snapshot", tables, _FITS)
    yield from ((where, "expected contains or match, or both") for where, table in _tables("snapshot", tables) if not table)


def _check_heartbeat(table: Any) -> Found:
    yield from _check_section("heartbeat", table, ("interval", "timeout", "server_missed"))
    if isinstance(table, Mapping):
        yield from _check_payload(table)


def _check_payload(table: Mapping[str, Any]) -> Found:
    kind, payload, reply = table.get("kind", "ping"), table.get("payload", ""), table.get("reply", "")
    if kind in ("text", "json") and payload == "":
        yield "heartbeat.payload", f'expected what to send: heartbeat.kind is "{kind}"'
    if kind == "json" and isinstance(payload, str) and payload and (wrong := values.json_text(payload)):
        yield "heartbeat.payload", wrong
    if kind == "json" and isinstance(reply, str) and reply and (wrong := values.json_reply(reply)):
        yield "heartbeat.reply", wrong


def _check_request(table: Any) -> Found:
    yield from _check_section("request", table, ("timeout",))
    if not isinstance(table, Mapping):
        return
    for key, check in (("id", values.field_path), ("answer_id", values.json_path), ("error", values.json_path)):
        path = table.get(key)
        if isinstance(path, str) and (wrong := check(path)):
            yield f"request.{key}", wrong


def _check_limits(table: Any) -> Found:
    yield from _check_section("limits", table, ("connects_period", "sends_period"))


def _check_connection(table: Any) -> Found:
    if isinstance(table, Mapping):
        settle = table.get("settle")
        if settle is not None and (wrong := shapes.seconds(settle)):
            yield "connection.settle", wrong
        table = {key: value for key, value in table.items() if key != "settle"}
    yield from _check_section("connection", table, (), only=_OF_CONNECTION, besides=("settle",))


def _check_payload_table(table: Any) -> Found:
    yield from _check_keys("payload", table, {"compression": shapes.one_of("", "gzip", "zlib", "deflate")})


def _check_hooks(table: Any) -> Found:
    yield from _check_keys("hooks", table, dict.fromkeys(_HOOKS, shapes.hook))


def _check_login(table: Any) -> Found:
    checks = {
        "frame": shapes.string, "subscribe": shapes.string, "needs": shapes.strings, "timeout": shapes.seconds,
        "renew_after": shapes.seconds, "ack": _nothing, "error": _nothing,
    }  # fmt: skip
    yield from _check_keys("login", table, checks)
    if not isinstance(table, Mapping):
        return
    if "ack" in table:
        yield from _check_acks("login.ack", table["ack"])
    if "error" in table:
        yield from _check_errors("login.error", table["error"])
    needs = table.get("needs")
    secrets = [f"${need}" for need in needs] if isinstance(needs, list) else []
    for key in ("frame", "subscribe"):
        template = table.get(key)
        if isinstance(template, str) and template:
            found = check_frame(template, known=(*OURS, "$sign", *secrets))
            yield from ((f"login.{key}", message) for message in found)
    subscribe = table.get("subscribe")
    if isinstance(subscribe, str) and subscribe and not values.json_text(subscribe) and values.json_object(subscribe):
        yield "login.subscribe", "expected a JSON object, whose fields are put into the frames that subscribe"


def _nothing(_value: Any) -> str:
    return ""


def _check_section(
    name: str, table: Any, positive: Collection[str], *, only: Collection[str] = (), besides: Collection[str] = ()
) -> Found:
    """A table with the keys of a section of an endpoint, for which it gives other defaults."""
    section = SECTION_OF[name]
    known = [key.removeprefix(f"{section}.") for key in ENDPOINT if key.startswith(f"{section}.")]
    known = [key for key in known if not only or key in only]
    if not isinstance(table, Mapping):
        yield name, f"expected a table, got {got(table)}"
        return
    for key, value in table.items():
        if key not in known:
            yield f"{name}.{key}", unknown_key(key, [*known, *besides])
            continue
        try:
            converted = convert(ENDPOINT[f"{section}.{key}"], value)
        except Mismatch as mismatch:
            yield from ((f"{name}.{key}{place}", message) for place, message in mismatch.found)
            continue
        if key in positive and converted == 0:
            yield f"{name}.{key}", "expected more than 0, got 0"


def _check_list(name: str, tables: Any, checks: Mapping[str, Check], *, required: Collection[str] = ()) -> Found:
    if not isinstance(tables, list):
        yield name, f"expected [[{name}]] tables, got {got(tables)}"
        return
    for place, table in enumerate(tables):
        yield from _check_keys(f"{name}[{place}]", table, checks, required=required)


def _tables(name: str, tables: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Path and table of each of [[name]] that is one."""
    for place, table in enumerate(tables if isinstance(tables, list) else ()):
        if isinstance(table, Mapping):
            yield f"{name}[{place}]", table


def _check_keys(name: str, table: Any, checks: Mapping[str, Check], *, required: Collection[str] = ()) -> Found:
    if not isinstance(table, Mapping):
        yield name, f"expected a table, got {got(table)}"
        return
    for key, value in table.items():
        message = checks[key](value) if key in checks else unknown_key(key, checks)
        if message:
            yield f"{name}.{key}", message
    for key in required:
        if key not in table:
            yield f"{name}.{key}", "this key is required"


_CHECKS: Final[Mapping[str, Callable[[Any], Found]]] = {
    "dialect": _check_about,
    "urls": _check_urls,
    "hooks": _check_hooks,
    "connection": _check_connection,
    "limits": _check_limits,
    "payload": _check_payload_table,
    "ready": _check_ready,
    "on_up": _check_on_up,
    "login": _check_login,
    "subscribe": _check_subscribe,
    "ack": lambda tables: _check_acks("ack", tables),
    "error": lambda tables: _check_errors("error", tables),
    "stream": _check_stream,
    "heartbeat": _check_heartbeat,
    "answer": _check_answer,
    "housekeeping": _check_housekeeping,
    "notice": _check_notice,
    "gap": _check_gap,
    "identity": _check_identity,
    "snapshot": _check_snapshot,
    "request": _check_request,
}
