"""All problems of a dialect, reported together: unknown tables and keys with the nearest known one, wrong values, and keys
that do not go together. The form is documented in worker/dialects/README.md. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

from wsadapter.config import values
from wsadapter.config.dialect import shapes, subscribing
from wsadapter.config.dialect.frames import check_frame
from wsadapter.config.dialect.login import check_challenge, check_login
from wsadapter.config.dialect.shapes import Check
from wsadapter.config.dialect.tables import Found, check_keys, check_list, each_table
from wsadapter.config.schema import ENDPOINT, Mismatch, convert, got, unknown_key

SECTION_OF: Final = {"heartbeat": "heartbeat", "request": "request", "limits": "limits", "connection": "watchdog"}
"""Table of a dialect -> the section of an endpoint for which it gives defaults, with the same keys."""

_REQUIRED: Final = ("dialect", "urls", "subscribe")
_OF_CONNECTION: Final = ("max_age", "rollover_window", "silence", "stalled")
_FITS: Final[Mapping[str, Check]] = {"contains": shapes.string, "match": shapes.match}
_GAP_FORMS: Final = (frozenset({"first", "last"}), frozenset({"value"}), frozenset({"previous", "value"}))
_NUMBERS: Final = frozenset({"first", "last", "value", "previous"})
_UNPACKED: Final = frozenset({"compression", "text"})
_HOOKS: Final = ("before_connect", "sign", "renew", "decode")


def check_dialect(data: Mapping[str, Any], *, stem: str) -> Found:
    """All that is wrong with a dialect, as (path, message). `stem`: of the file."""
    found = [*_check_tables(data), *_check_together(data, stem)]
    yield from found or subscribing.check_example(data)


def _check_tables(data: Mapping[str, Any]) -> Found:
    """What each table can be judged by itself."""
    yield from ((name, unknown_key(name, _CHECKS)) for name in data if name not in _CHECKS)
    for name in _REQUIRED:
        if name not in data:
            yield name, "this table is required"
    for name, check in _CHECKS.items():
        if name in data:
            yield from check(data[name])


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
    hooks, packing = data.get("hooks"), data.get("payload")
    if isinstance(hooks, Mapping) and isinstance(packing, Mapping) and "decode" in hooks:
        for key in sorted(_UNPACKED & packing.keys()):
            yield f"payload.{key}", "has no meaning with hooks.decode, which takes its place"
    yield from check_challenge(data)
    yield from subscribing.check_templates(data)
    yield from subscribing.check_sources(data)


def _check_about(table: Any) -> Found:
    known = dict.fromkeys(("name", "title", "docs"), shapes.string)
    yield from check_keys("dialect", table, known, required=tuple(known))


def _check_urls(table: Any) -> Found:
    yield from check_keys("urls", table, dict.fromkeys(("live", "test", "private", "private_test", "also"), shapes.urls))
    if isinstance(table, Mapping) and not table.keys() & {"live", "test"}:
        yield "urls", "expected at least one of live, test"


def _check_housekeeping(tables: Any) -> Found:
    yield from _check_texts("housekeeping", tables, {"heartbeat": shapes.true})


def _check_answer(tables: Any) -> Found:
    yield from _check_texts("answer", tables, {"frame": shapes.string, "say": shapes.string})
    for where, table in each_table("answer", tables):
        if ("frame" in table) == ("say" in table):
            yield where, "expected either frame, or say for a text that is no JSON"
        yield from _frame(where, table, answers=True)
        if "is" in table and '"$.' in str(table.get("frame")):
            yield f"{where}.frame", '"$.path" has no meaning with `is`: the message that is answered is no JSON'


def _check_texts(name: str, tables: Any, checks: Mapping[str, Check], *, needs: Collection[str] = _FITS) -> Found:
    """Rules that fit a text: by `needs`, or, if the text is not JSON, by the whole text."""
    fits = {key: _FITS[key] for key in needs}
    yield from check_list(name, tables, {**fits, "is": shapes.string, **checks})
    for where, table in each_table(name, tables):
        whole = "is" in table
        wrong = "has no meaning with `is`, which is the whole message" if whole else "this key is required"
        yield from ((f"{where}.{key}", wrong) for key in needs if (key in table) is whole)


def _check_on_up(tables: Any) -> Found:
    yield from check_list("on_up", tables, {"frame": shapes.string}, required=("frame",))
    for where, table in each_table("on_up", tables):
        yield from _frame(where, table)


def _frame(where: str, table: Mapping[str, Any], *, answers: bool = False) -> Found:
    if isinstance(table.get("frame"), str) and table["frame"]:
        yield from ((f"{where}.frame", message) for message in check_frame(table["frame"], answers=answers))


def _check_ready(tables: Any) -> Found:
    yield from _check_texts("ready", tables, {}, needs=("match",))


def _check_notice(tables: Any) -> Found:
    yield from _check_texts("notice", tables, {"text": shapes.text, "reconnect": shapes.false})


def _check_gap(tables: Any) -> Found:
    paths = dict.fromkeys(_NUMBERS, shapes.path)
    checks = {
        **_FITS, "scope": shapes.scope, **paths, "step": shapes.count, "snapshot": shapes.match, "reset": shapes.match,
        "count": shapes.string, "ignore_equal": shapes.true, "opaque": shapes.true,
    }  # fmt: skip
    yield from check_list("gap", tables, checks, required=("scope",))
    for where, table in each_table("gap", tables):
        form = table.keys() & _NUMBERS
        if form not in _GAP_FORMS:
            yield where, "expected either first and last, or value, or previous and value"
        elif "previous" in form and "step" in table:
            yield f"{where}.step", "has no meaning with previous, which names the previous number itself"
        if "opaque" in table and "previous" not in form:
            yield f"{where}.opaque", "needs previous: a value that is not a number has no successor"


def _check_identity(tables: Any) -> Found:
    yield from check_list("identity", tables, {**_FITS, "fields": shapes.paths, "bytes": shapes.true})
    for where, table in each_table("identity", tables):
        if ("fields" in table) == ("bytes" in table):
            yield where, "expected either fields = [...] or bytes = true"


def _check_snapshot(tables: Any) -> Found:
    yield from check_list("snapshot", tables, _FITS)
    yield from ((where, "expected contains or match, or both") for where, table in each_table("snapshot", tables) if not table)


def _check_login(table: Any) -> Found:
    yield from check_login(table)
    if isinstance(table, Mapping) and "heartbeat" in table:
        yield from ((f"login.{where}", message) for where, message in _check_heartbeat(table["heartbeat"]))


def _check_heartbeat(table: Any) -> Found:
    yield from _check_section("heartbeat", table, ("interval", "timeout", "server_missed"))
    if isinstance(table, Mapping):
        yield from _check_own_heartbeat(table)


def _check_own_heartbeat(table: Mapping[str, Any]) -> Found:
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


def _check_payload(table: Any) -> Found:
    checks = {"compression": shapes.one_of("", "gzip", "zlib", "deflate"), "text": shapes.true, "split": shapes.true}
    yield from check_keys("payload", table, checks)
    if isinstance(table, Mapping) and "text" in table and table.get("compression"):
        yield "payload.text", "has no meaning with compression: what is inflated is a text where it is one"


def _check_hooks(table: Any) -> Found:
    yield from check_keys("hooks", table, dict.fromkeys(_HOOKS, shapes.hook))


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


_CHECKS: Final[Mapping[str, Callable[[Any], Found]]] = {
    "dialect": _check_about,
    "urls": _check_urls,
    "hooks": _check_hooks,
    "connection": _check_connection,
    "limits": _check_limits,
    "payload": _check_payload,
    "ready": _check_ready,
    "on_up": _check_on_up,
    "login": _check_login,
    "subscribe": subscribing.check_subscribe,
    "ack": subscribing.check_acks,
    "already": subscribing.check_already,
    "later": subscribing.check_later,
    "error": subscribing.check_errors,
    "stream": subscribing.check_stream,
    "heartbeat": _check_heartbeat,
    "answer": _check_answer,
    "housekeeping": _check_housekeeping,
    "notice": _check_notice,
    "gap": _check_gap,
    "identity": _check_identity,
    "snapshot": _check_snapshot,
    "request": _check_request,
}
