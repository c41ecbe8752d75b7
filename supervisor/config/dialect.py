"""Dialects: TOML files that say how to speak to an exchange. Loaded and checked here, used in the owner.

The form is documented in worker/dialects/README.md. The owner gets the parsed file as it is, so whatever it relies on
is checked here, all problems at once.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import fields, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from wsadapter.config import values
from wsadapter.config.schema import ENDPOINT, Mismatch, convert, got, nearest, unknown_key
from wsadapter.contract.endpoint import Endpoint, Heartbeat
from wsadapter.contract.errors import ConfigError, Problem

Dialect = dict[str, Any]
Found = Iterator[tuple[str, str]]
"""(path, message) of what is wrong."""

_TABLES: Final = (
    "dialect", "urls", "subscribe", "ack", "error", "stream", "housekeeping", "heartbeat", "identity", "snapshot", "request",
)  # fmt: skip
_REQUIRED: Final = ("dialect", "urls", "subscribe")
_PLACEHOLDER: Final = re.compile(r"\$[A-Za-z_]+")
_STREAMS: Final = '"$streams"'
_STREAM: Final = '"$stream"'
_FIELDS: Final = '"$stream": "*"'


def bundled() -> dict[str, Path]:
    """The dialects that come with wsadapter: name -> file. Found without importing the owner's modules."""
    spec = find_spec("wsadapter.worker")  # imports only `wsadapter`
    folders = spec.submodule_search_locations if spec and spec.submodule_search_locations else []
    return {file.stem: file for folder in folders for file in sorted((Path(folder) / "dialects").glob("*.toml"))}


def is_path(dialect: str) -> bool:
    """Whether it names a file rather than a bundled dialect."""
    return "/" in dialect or "\\" in dialect or dialect.endswith(".toml")


def load_dialect(dialect: str, *, base_dir: str | Path = "") -> Dialect:
    """The parsed TOML of a bundled dialect, or of a file; a relative path starts at `base_dir`.

    Raises `ConfigError` with everything that is wrong with it.
    """
    path = Path(base_dir) / dialect if is_path(dialect) else bundled().get(dialect)
    if path is None:
        near = nearest(dialect, bundled())
        hint = f'did you mean "{near}"?' if near else f"there are {', '.join(bundled())}; a file of your own ends in .toml"
        raise ConfigError([Problem("", f'no dialect is called "{dialect}"; {hint}')])
    data = _parse(path)
    problems = [Problem(where, message) for where, message in check_dialect(data, stem=path.stem)]
    if problems:
        raise ConfigError(problems, source=str(path))
    return data


def _parse(path: Path) -> Dialect:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        problem = f"the file can't be read: {error.strerror}"
    except UnicodeDecodeError:
        problem = "the file is not UTF-8 text"
    except tomllib.TOMLDecodeError as error:
        problem = f"not valid TOML: {error}"
    raise ConfigError([Problem("", problem)], source=str(path))


def dialect_urls(dialect: Mapping[str, Any], environment: str) -> tuple[str, ...]:
    """The URLs of "live" or "test", in the order to try them; empty where the dialect has none."""
    found = dialect["urls"].get(environment, ())
    return (found,) if isinstance(found, str) else tuple(found)


def apply_dialect(endpoint: Endpoint, dialect: Mapping[str, Any] | None, *, given: Collection[str] = ()) -> Endpoint:
    """`endpoint` with what the dialect says where the user said nothing: `url` and the keys of `heartbeat` and `request`.

    The user said something where a value differs from its default, and where its key is in `given`
    ("heartbeat.kind"): that tells a default that was written down from one that was not. A `kind` of the user's own
    makes the dialect's payload and reply moot.
    """
    if dialect is None:
        return endpoint
    url = endpoint.url or dialect_urls(dialect, endpoint.environment)
    heartbeat, own, theirs = endpoint.heartbeat, _own(endpoint, "heartbeat", given), _theirs(dialect, "heartbeat")
    if "kind" in own and heartbeat.kind != theirs.get("kind", Heartbeat().kind):
        own |= {"payload", "reply"}
    heartbeat = replace(heartbeat, **{k: v for k, v in theirs.items() if k not in own})
    own, theirs = _own(endpoint, "request", given), _theirs(dialect, "request")
    request = replace(endpoint.request, **{k: v for k, v in theirs.items() if k not in own})
    return replace(endpoint, url=url, heartbeat=heartbeat, request=request)


def _own(endpoint: Endpoint, section: str, given: Collection[str]) -> set[str]:
    """The keys of a section that the user said something about."""
    said = getattr(endpoint, section)
    keys = [f.name for f in fields(said)]
    return {k for k in keys if getattr(said, k) != ENDPOINT[f"{section}.{k}"].default or f"{section}.{k}" in given}


def _theirs(dialect: Mapping[str, Any], section: str) -> dict[str, Any]:
    """What the dialect says of a section of an endpoint."""
    return {key: convert(ENDPOINT[f"{section}.{key}"], value) for key, value in dialect.get(section, {}).items()}


def check_dialect(data: Mapping[str, Any], *, stem: str) -> Found:
    """All that is wrong with a dialect, as (path, message)."""
    yield from ((name, unknown_key(name, _TABLES)) for name in data if name not in _TABLES)
    for name in _REQUIRED:
        if name not in data:
            yield name, "this table is required"
    for name in _TABLES:
        if name in data:
            yield from _CHECKS[name](data[name], stem)


def _check_about(table: Any, stem: str) -> Found:
    known = dict.fromkeys(("name", "title", "docs"), _string)
    yield from _check_keys("dialect", table, known, required=tuple(known))
    if isinstance(table, Mapping) and isinstance(table.get("name"), str) and table["name"] != stem:
        yield "dialect.name", f'expected the file\'s stem, "{stem}", got {got(table["name"])}'


def _check_urls(table: Any, _stem: str) -> Found:
    yield from _check_keys("urls", table, {"live": _urls, "test": _urls})
    if table == {}:
        yield "urls", "expected at least one of live, test"


def _check_subscribe(table: Any, _stem: str) -> Found:
    checks = {"frame": _string, "unsubscribe": _text, "per_frame": _count, "ack_timeout": _seconds, "acks_per": _text}
    yield from _check_keys("subscribe", table, checks, required=("frame",))
    if not isinstance(table, Mapping):
        return
    per_frame = table.get("per_frame", 1)
    for key in ("frame", "unsubscribe"):
        template = table.get(key)
        if isinstance(template, str) and template:
            for message in _check_template(template, single=per_frame == 1):
                yield f"subscribe.{key}", message


def _check_template(template: str, *, single: bool) -> Iterator[str]:
    try:
        frame = json.loads(template)
    except ValueError as error:
        yield f"expected JSON text: {error}"
        return
    forms: set[str] = set()
    for form, message in _placeholders(frame):
        if message:
            yield message
        forms.add(form)
    forms.discard("")
    if len(forms) != 1:
        found = " and ".join(sorted(forms)) or "none of them"
        yield f"expected exactly one of {_STREAMS}, {_STREAM} and {_FIELDS}, got {found}"
    elif forms != {_STREAMS} and not single:
        yield f"{forms.pop()} needs per_frame = 1"


def _placeholders(value: Any) -> Iterator[tuple[str, str]]:
    """(form, message) of each placeholder in a template; form "" is none that stands for streams."""
    if isinstance(value, str):
        yield _placeholder(value)
    elif isinstance(value, list):
        for item in value:
            yield from _placeholders(item)
    elif isinstance(value, dict):
        for key, item in value.items():
            if key == "$stream":
                yield _FIELDS, "" if item == "*" else 'the value of the key "$stream" must be "*"'
            else:
                yield "", f"unknown placeholder {key} as a key" if _PLACEHOLDER.search(key) else ""
                yield from _placeholders(item)


def _placeholder(text: str) -> tuple[str, str]:
    if text in ("$streams", "$stream"):
        return json.dumps(text), ""
    unknown = [found for found in _PLACEHOLDER.findall(text) if found != "$id"]
    return "", f"unknown placeholder {unknown[0]} in {got(text)}" if unknown else ""


def _check_ack(tables: Any, _stem: str) -> Found:
    yield from _check_list("ack", tables, {"match": _match, "id": _text, "stream": _text}, required=("match",))


def _check_error(tables: Any, _stem: str) -> Found:
    checks = {"match": _match, "text": _text, "id": _text, "stream": _text}
    yield from _check_list("error", tables, checks, required=("match",))


def _check_stream(table: Any, _stem: str) -> Found:
    yield from _check_keys("stream", table, {"path": _string}, required=("path",))


def _check_housekeeping(tables: Any, _stem: str) -> Found:
    yield from _check_list(
        "housekeeping", tables, {"contains": _string, "match": _match}, required=("contains", "match")
    )


def _check_identity(tables: Any, _stem: str) -> Found:
    yield from _check_list("identity", tables, {"contains": _string, "match": _match, "fields": _paths, "bytes": _true})
    for place, table in enumerate(tables if isinstance(tables, list) else ()):
        if isinstance(table, Mapping) and ("fields" in table) == ("bytes" in table):
            yield f"identity[{place}]", "expected either fields = [...] or bytes = true"


def _check_snapshot(tables: Any, _stem: str) -> Found:
    yield from _check_list("snapshot", tables, {"contains": _string, "match": _match})
    for place, table in enumerate(tables if isinstance(tables, list) else ()):
        if table == {}:
            yield f"snapshot[{place}]", "expected contains or match, or both"


def _check_heartbeat(table: Any, _stem: str) -> Found:
    yield from _check_section("heartbeat", table, ("interval", "timeout"))
    if isinstance(table, Mapping):
        yield from _check_payload(table)


def _check_request(table: Any, _stem: str) -> Found:
    yield from _check_section("request", table, ("timeout",))
    if not isinstance(table, Mapping):
        return
    for key, check in (("id", values.field_path), ("answer_id", values.json_path), ("error", values.json_path)):
        path = table.get(key)
        if isinstance(path, str) and (wrong := check(path)):
            yield f"request.{key}", wrong


def _check_section(section: str, table: Any, positive: Collection[str]) -> Found:
    """A table with the keys of a section of an endpoint, for which it gives other defaults."""
    known = [key.removeprefix(f"{section}.") for key in ENDPOINT if key.startswith(f"{section}.")]
    if not isinstance(table, Mapping):
        yield section, f"expected a table, got {got(table)}"
        return
    for key, value in table.items():
        if key not in known:
            yield f"{section}.{key}", unknown_key(key, known)
            continue
        try:
            converted = convert(ENDPOINT[f"{section}.{key}"], value)
        except Mismatch as mismatch:
            yield from ((f"{section}.{key}{place}", message) for place, message in mismatch.found)
            continue
        if key in positive and converted == 0:
            yield f"{section}.{key}", "expected more than 0, got 0"


def _check_payload(table: Mapping[str, Any]) -> Found:
    kind, payload, reply = table.get("kind", "ping"), table.get("payload", ""), table.get("reply", "")
    if kind in ("text", "json") and payload == "":
        yield "heartbeat.payload", f'expected what to send: heartbeat.kind is "{kind}"'
    if kind == "json" and isinstance(payload, str) and payload and (wrong := values.json_text(payload)):
        yield "heartbeat.payload", wrong
    if kind == "json" and isinstance(reply, str) and reply and (wrong := values.json_object(reply)):
        yield "heartbeat.reply", wrong


def _check_list(
    name: str, tables: Any, checks: Mapping[str, Callable[[Any], str]], *, required: Collection[str] = ()
) -> Found:
    if not isinstance(tables, list):
        yield name, f"expected [[{name}]] tables, got {got(tables)}"
        return
    for place, table in enumerate(tables):
        yield from _check_keys(f"{name}[{place}]", table, checks, required=required)


def _check_keys(
    name: str, table: Any, checks: Mapping[str, Callable[[Any], str]], *, required: Collection[str] = ()
) -> Found:
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


def _text(value: Any) -> str:
    return "" if isinstance(value, str) else f"expected a string, got {got(value)}"


def _string(value: Any) -> str:
    return _text(value) or ("" if value else "expected a string that is not empty")


def _urls(value: Any) -> str:
    urls = value if isinstance(value, list) else [value]
    if not urls or not all(isinstance(url, str) for url in urls):
        return f"expected a URL or a list of URLs, got {got(value)}"
    return next(filter(None, map(values.websocket_url, urls)), "")


def _paths(value: Any) -> str:
    good = isinstance(value, list) and value and all(isinstance(path, str) and path for path in value)
    return "" if good else f"expected a list of dotted paths, got {got(value)}"


def _true(value: Any) -> str:
    return "" if value is True else f"expected true, or leave it out, got {got(value)}"


def _count(value: Any) -> str:
    good = isinstance(value, int) and not isinstance(value, bool) and value >= 1
    return "" if good else f"expected a whole number from 1 on, got {got(value)}"


def _seconds(value: Any) -> str:
    good = isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < float("inf")
    return "" if good else f"expected seconds, more than 0, got {got(value)}"


def _match(value: Any) -> str:
    return "" if isinstance(value, Mapping) and value else f"expected a table of path = value, got {got(value)}"


_CHECKS: Final[Mapping[str, Callable[[Any, str], Found]]] = {
    "dialect": _check_about,
    "urls": _check_urls,
    "subscribe": _check_subscribe,
    "ack": _check_ack,
    "error": _check_error,
    "stream": _check_stream,
    "housekeeping": _check_housekeeping,
    "heartbeat": _check_heartbeat,
    "identity": _check_identity,
    "snapshot": _check_snapshot,
    "request": _check_request,
}
